"""Compare runs: this run beside another one, such as another seed or curriculum."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.views.evaluated import GATE
from pbb_probe.views.explorer.cards import Asked, card, guarded, notice, select, table_of, values_of
from pbb_probe.views.explorer.controls import choice
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.layers import DRAWS, PAIRED, calls_of, pair_choice
from pbb_probe.views.explorer.overview import in_short
from pbb_probe.views.explorer.recorded import Recorded, named, pbb, pd
from pbb_probe.views.figures.style import group_colours
from pbb_probe.views.pairs import FIRST, SECOND
from pbb_probe.views.study_tables import settings
from pbb_probe.views.words import explorer as words
from pbb_probe.views.words.phrases import SHORT_SUBSETS, steps_words

if TYPE_CHECKING:
    from dash.development.base_component import Component

PATH, TITLE = "/compare", "Compare runs"
MEASURES = {
    "probes": "read: probes",
    "lens": "said: logit lens",
    "recovery_program": "used: recovery, program swapped",
    "recovery_input": "used: recovery, input swapped",
    "transfer": "carried: transfer map",
}


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """The other run, and what of both is compared."""
    others = list(explored.beside)
    if not others:
        return []
    finished = [name for name, path in explored.beside.items() if (path / "comparison" / "step.json").exists()]
    transfer = explored.run.table("comparison/transfer")
    steps = values_of(transfer, "steps")
    configured = explored.run.config
    variables = list(configured.probing.targets)
    hypotheses = values_of(transfer, "hypothesis")
    return [
        choice(query, "run", "beside", others, finished[0] if finished else None, few=0),
        choice(query, "group", "programs", explored.groups, "without_io"),
        *pair_choice(explored, query, every=False),
        choice(query, "subset", "calls", calls_of(explored)),
        choice(query, "steps", "transfer map of", {n: steps_words(n) for n in steps}, steps[-1] if steps else None),
        choice(query, "measure", "layer by layer", MEASURES, "probes", few=0),
        choice(query, "variable", "variable read", variables, "output", few=0),
        choice(query, "carried", "carried", hypotheses, "program", few=0),
        choice(query, "role", "at the role", configured.probing.roles, "answer"),
        choice(query, "site", "site patched", configured.patching.sites),
    ]


@lru_cache(maxsize=4)
def _opened(path: str) -> Explored:
    return Explored(path)


def content(asked: Asked) -> "list[Component]":
    """Verdicts, settings that differ, behaviour, onsets, curves and maps, side by side."""
    here, subset, group = asked.explored, asked["subset"], asked["group"]
    if not here.beside:
        return [notice(words.NO_OTHER_RUN.format(folder=here.run.path.resolve().parent), "hint")]
    if asked["run"] not in here.beside:
        raise PbbError("There is no such run beside this one: choose one of the list.")
    other = _opened(str(here.beside[asked["run"]]))
    names = (here.run.path.resolve().name, asked["run"])
    both = dict(zip(names, (here, other), strict=True))

    def joined(name: str, column: str, called: str = "table", **where: Any) -> Recorded:
        """Rows of a table of both runs, whose names are in a column."""
        runs = zip(names, (here.recorded(), other.recorded("other")), strict=True)
        tables = [select(run.table(name), **where).assign(**{column: of}) for of, run in runs]
        return named(pd.concat(tables, ignore_index=True), called)

    def short() -> "list[Component]":
        return [in_short(explored, words.IN_SHORT.format(run=name)) for name, explored in both.items()]

    def behaviour() -> "Component":
        table = joined("behaviour/behaviour", "model", model="finetuned")
        return card(asked, "behaviour", pbb.figures.behaviour(table, group_colours(names)), table)

    def drawn(name: str, draw: str, title: str, **where: Any) -> "Component":
        kept = {}
        if all(explored.gate() is not None for explored in both.values()):
            kept["gate"] = joined(GATE, "group", "gate", group=group, **where)
        table = joined(f"comparison/{name}", "group", subset=subset, group=group, **where)
        return card(asked, draw, getattr(pbb.figures, draw)(table, groups=names, title=title, **kept), table)

    def onsets() -> "Component":
        return drawn("onsets", "onsets", words.ONSETS.format(group=group, calls=SHORT_SUBSETS[subset]))

    def carried() -> "Component":
        steps = int(asked["steps"] or 0)
        title = words.TRANSFER_OF.format(group=group, steps=steps_words(steps), calls=SHORT_SUBSETS[subset])
        return drawn("transfer", "transfer_map", title, steps=steps)

    def curves() -> "Component":
        measure, where, counted = asked["measure"], {"role": asked["role"]}, "all" if subset == "all" else "correct"
        if measure == "probes":
            where |= {"target": asked["variable"], "site": here.run.config.probing.sites[0]}
        elif measure == "lens":
            where |= {"variable": asked["variable"], "decode": "logit"}
        else:
            where |= {"site": asked["site"]} | ({"hypothesis": asked["carried"]} if measure == "transfer" else {})
        table = select(here.crunched(_compared, other, measure, names, group, subset != "all"), **where)
        at = ", ".join(f"{key} {value}" for key, value in where.items())
        title = words.COMPARED.format(measure=MEASURES[measure], at=at, group=group, calls=SHORT_SUBSETS[counted])
        figure = pbb.figures.curves_with_difference({MEASURES[measure]: table}, groups=names, title=title)
        return card(asked, "curves", figure, table, words.ONE_RUN_EACH)

    def two_groups() -> "Component":
        """Two groups in each of the runs."""
        measure, pair = asked["measure"], asked["pair"].split(PAIRED)
        name, where = _place_in_tables(asked, measure)
        where |= {"subset": subset, FIRST: pair[0], SECOND: pair[1]}
        tables = {
            of: select(run.table(f"comparison/{name}"), **where)
            for of, run in zip(names, (here.recorded(), other.recorded("other")), strict=True)
        }
        at = ", ".join(f"{key} {value}" for key, value in where.items() if key not in ("subset", FIRST, SECOND))
        title = words.TWO_GROUPS.format(
            measure=MEASURES[measure], at=at, first=pair[0], second=pair[1], calls=SHORT_SUBSETS[subset]
        )
        figure = pbb.figures.curves_with_difference(named(tables, "tables"), groups=pair, title=title)
        table = pd.concat([each.assign(run=of) for of, each in tables.items()], ignore_index=True)
        return card(asked, "groups", figure, table, words.GROUPS_BY_LAYER)

    paired = [two_groups] if asked["pair"] else []
    return guarded(lambda: _differing(both), short, behaviour, onsets, curves, *paired, carried)


def _place_in_tables(asked: Asked, measure: str) -> tuple[str, dict[str, Any]]:
    """The table in which groups are compared in what is measured, and which of its rows are chosen."""
    config, at = asked.explored.run.config, {"role": asked["role"]}
    if measure == "probes":
        return "probing", at | {"target": asked["variable"], "site": config.probing.sites[0]}
    if measure == "lens":
        return "lens", at | {"variable": asked["variable"], "decode": "logit"}
    at |= {"site": asked["site"]}
    if measure == "transfer":
        return "transfer_differences", at | {"hypothesis": asked["carried"], "steps": int(asked["steps"] or 0)}
    return "patching", at | {"swap": measure.removeprefix("recovery_")}


def _compared(
    here: Explored, other: Explored, measure: str, names: tuple[str, str], group: str, correct: bool
) -> Recorded:
    runs = {names[0]: here.recorded()}, {names[1]: other.recorded("other")}
    return named(
        pbb.tables.compare_runs(*runs, measure, names=names, group=group, correct=correct, draws=DRAWS), "table"
    )


def _differing(both: Mapping[str, Explored]) -> "Component":
    """The settings in which the runs differ."""
    import pandas as pd

    given = [settings(asdict(explored.run.config)).set_index("setting")["value"] for explored in both.values()]
    beside = pd.concat(given, axis=1, keys=list(both)).drop(index="out")
    differing = beside[beside.nunique(axis=1, dropna=False) > 1]
    if differing.empty:
        return notice(words.SAME_SETTINGS, "hint")
    return table_of(differing.reset_index(), "Settings that differ")
