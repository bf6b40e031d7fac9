"""Overview: the verdict, the behaviour behind it, and the picture it rests on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.views import figures
from pbb_probe.views.explorer.cards import (
    Asked,
    Shown,
    card,
    guarded,
    notice,
    paragraphs,
    rows_of,
    select,
    table_of,
    values_of,
)
from pbb_probe.views.explorer.controls import choice
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.study_report import study_verdict
from pbb_probe.views.study_tables import settings, summary
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    from dash.development.base_component import Component

PATH, TITLE = "/", "Overview"
SUBSETS = {"all": "all calls", "correct": "answered right"}
PAIRS = {**SUBSETS, "matched": "swapped calls right too"}


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """Which programs and which calls the main picture is of."""
    if not explored.run.key("comparison"):
        return []
    transfer = explored.table("comparison/transfer")
    steps, subsets = (values_of(transfer, name) for name in ("steps", "subset"))
    return [
        choice(
            query,
            "steps",
            "programs of",
            {n: steps_words(n) for n in steps},
            steps[-1] if steps else None,
        ),
        choice(query, "subset", "calls", {name: words for name, words in PAIRS.items() if name in subsets}, "correct"),
    ]


def content(asked: Asked) -> "list[Component]":
    """All parts, each with what its step has left."""
    explored = asked.explored
    subset = asked["subset"]

    def verdict() -> "list[Component]":
        if not explored.run.key("behaviour") or not explored.run.key("comparison"):
            return []  # `in_short` has said so
        return [paragraphs(study_verdict(explored.run), "The verdict", "verdict")]

    def carried() -> "Component":
        everything = explored.table("comparison/transfer")
        if not asked["steps"]:
            raise PbbError("This run has no transfer map: no pairs told all hypotheses apart.")
        where = {"subset": subset, "steps": int(asked["steps"])}
        table = select(everything, **where)
        title = f"What each place carries: programs of {steps_words(where['steps'])}, {PAIRS[subset]}"
        code = f"figure = pbb.figures.transfer_map({rows_of('comparison/transfer', **where)}, {title!r})"
        words = (
            "One activation of a run of another program on another input is put into a run; the colours say what came "
            "with it: the program, the input, everything, a state, some steps. Layers from top to bottom."
        )
        return card(asked, Shown(figures.transfer_map(table, title), code, table, words), "transfer")

    def onsets() -> "Component":
        table = select(explored.table("comparison/onsets"), subset=subset)
        title = f"Where each variable is used and read, {PAIRS[subset]}"
        code = f"figure = pbb.figures.onsets({rows_of('comparison/onsets', subset=subset)}, title={title!r})"
        return card(asked, Shown(figures.onsets(table, title=title), code, table), "onsets")

    def behaviour() -> "list[Component]":
        table = explored.table("behaviour/behaviour")
        code = f"figure = pbb.figures.behaviour({rows_of('behaviour/behaviour')})"
        shown = Shown(figures.behaviour(table), code, table, "Dotted: the share of the most common answer.")
        return [card(asked, shown, "behaviour"), table_of(table.drop(columns="programs"), "Behaviour as numbers", True)]

    return guarded(
        lambda: _unfinished(explored),
        lambda: in_short(explored, "The verdict in short, of calls answered right"),
        carried,
        verdict,
        onsets,
        behaviour,
        lambda: _settings(explored),
    )


def in_short(explored: Explored, title: str) -> "Component":
    """The verdict as a table.

    Raises:
        PbbError: a step that it is of is not done, or its table is empty.
    """
    explored.table("behaviour/behaviour")
    explored.run.need("comparison")
    return table_of(summary(explored.run), title)


def _unfinished(explored: Explored) -> "list[Component]":
    missing = [name for name, done in explored.run.steps.items() if not done]
    if not missing:
        return []
    folder = explored.run.path
    return [
        notice(
            f"This run is not finished: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. "
            f"pbb-probe run --config {folder / 'config.json'} --out {folder} goes on where it stopped."
        )
    ]


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
        table_of(settings(run.config), "Settings", True),
        table_of(versions, "Versions", True),
    ]
