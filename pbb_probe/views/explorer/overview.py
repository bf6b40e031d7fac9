"""Overview: the verdict, the behaviour behind it, and the picture it rests on."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.views.evaluated import closed, read_gate
from pbb_probe.views.explorer.cards import Asked, card, guarded, notice, paragraphs, select, table_of, values_of
from pbb_probe.views.explorer.controls import choice
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.recorded import pbb, value_of
from pbb_probe.views.headline import tells_apart
from pbb_probe.views.study_report import study_verdict
from pbb_probe.views.study_sections import EFFECTIVE, RECITED
from pbb_probe.views.study_tables import settings, summary
from pbb_probe.views.words import explorer as words
from pbb_probe.views.words import titles
from pbb_probe.views.words.phrases import SHORT_SUBSETS, steps_words
from pbb_probe.views.words.report import HOW_EFFECTIVE, HOW_RECITED

if TYPE_CHECKING:
    from dash.development.base_component import Component

PATH, TITLE = "/", "Overview"


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """Which programs and which calls the main picture is of."""
    if not explored.run.key("comparison"):
        return []
    transfer = explored.run.table("comparison/transfer")
    steps, subsets = (values_of(transfer, name) for name in ("steps", "subset"))
    return [
        choice(query, "steps", "programs of", {n: steps_words(n) for n in steps}, steps[-1] if steps else None),
        choice(
            query,
            "subset",
            "calls",
            {n: calls for n, calls in SHORT_SUBSETS.items() if n in subsets},
            "decisive" if "decisive" in subsets else "correct",
        ),
    ]


def content(asked: Asked) -> "list[Component]":
    """All parts, each with what its step has left."""
    explored, run, subset = asked.explored, asked.explored.recorded(), asked["subset"]
    calls = SHORT_SUBSETS.get(subset, "")

    def verdict() -> "list[Component]":
        if not explored.run.key("behaviour") or not explored.run.key("comparison"):
            return []  # `in_short` has said so
        return [paragraphs(study_verdict(explored.run), "The verdict", "verdict")]

    def carried() -> "Component":
        transfer = run.table("comparison/transfer")
        value_of(transfer)
        if not asked["steps"]:
            raise PbbError("This run has no transfer map: no pairs told all hypotheses apart.")
        steps = int(asked["steps"])
        title, kept = titles.TRANSFER.format(steps=steps_words(steps), calls=calls), {}
        if (gate := explored.gate()) is not None:
            kept["gate"] = select(gate, steps=steps)
        try:
            table = select(transfer, subset=subset, steps=steps)
        except PbbError as error:
            raise PbbError(_said(explored, steps) or str(error)) from error
        return card(asked, "transfer", pbb.figures.transfer_map(table, title, **kept), table, words.TRANSFER)

    def onsets() -> "Component":
        kept = {} if (gate := explored.gate()) is None else {"gate": gate}
        table = select(run.table("comparison/onsets"), subset=subset)
        return card(asked, "onsets", pbb.figures.onsets(table, title=titles.ONSETS.format(calls=calls), **kept), table)

    def behaviour() -> "list[Component]":
        table = run.table("behaviour/behaviour")
        known = value_of(table)
        numbers = table_of(
            known if tells_apart(known) else known.drop(columns="programs"), "Behaviour as numbers", True
        )
        return [card(asked, "behaviour", pbb.figures.behaviour(table), table, words.BEHAVIOUR), numbers]

    def effective() -> "list[Component]":
        made = []
        for name, said in ((EFFECTIVE, HOW_EFFECTIVE), (RECITED, HOW_RECITED)):
            if explored.run.holds(f"{name}.csv") and len(value_of(table := run.table(name))):
                made.append(card(asked, name.split("/")[1], pbb.figures.effective(table), table, said))
        return made

    return guarded(
        lambda: _unfinished(explored),
        lambda: in_short(explored, "The verdict in short"),
        carried,
        verdict,
        onsets,
        behaviour,
        effective,
        lambda: _settings(explored),
    )


def _said(explored: Explored, steps: int) -> str:
    """Of each group whose programs of so many steps are not evaluated, its sentence."""
    silent = closed(read_gate(explored.run), steps=steps).itertuples()
    said = [words.NOT_EVALUATED.format(group=r.group, steps=steps_words(steps), sentence=r.sentence) for r in silent]
    return " ".join(said)


def in_short(explored: Explored, title: str) -> "Component":
    """The verdict as a table.

    Raises:
        PbbError: a step that it is of is not done, or its table is empty.
    """
    explored.run.table("behaviour/behaviour")
    explored.run.need("comparison")
    return table_of(summary(explored.run), title)


def _unfinished(explored: Explored) -> "list[Component]":
    missing = [name for name, done in explored.run.steps.items() if not done]
    if not missing:
        return []
    folder, verb = explored.run.path, "is" if len(missing) == 1 else "are"
    said = words.UNFINISHED.format(steps=", ".join(missing), verb=verb, config=folder / "config.json", out=folder)
    return [notice(said)]


def _settings(explored: Explored) -> "list[Component]":
    import pandas as pd

    run = explored.run
    steps = [
        {
            "step": name,
            "done": "yes" if done else "no",
            "seconds": run.manifest["steps"].get(name, {}).get("seconds", ""),
        }
        for name, done in run.steps.items()
    ]
    versions = pd.DataFrame(list(run.manifest["versions"].items()), columns=["package", "version"])
    return [
        table_of(pd.DataFrame(steps), "Steps of the run", True),
        table_of(settings(asdict(run.config)), "Settings", True),
        table_of(versions, "Versions", True),
    ]
