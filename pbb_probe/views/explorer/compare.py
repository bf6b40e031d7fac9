"""Compare runs: this run beside another one, such as another seed or curriculum."""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import GROUPS
from pbb_probe.views import figures
from pbb_probe.views.explorer.cards import Asked, Shown, card, guarded, notice, select, table_of, values_of
from pbb_probe.views.explorer.controls import choice
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.layers import DRAWS
from pbb_probe.views.explorer.overview import PAIRS, SUBSETS, in_short
from pbb_probe.views.figures.style import group_colours
from pbb_probe.views.study_tables import settings
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    import pandas as pd
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
    transfer = explored.table("comparison/transfer")
    steps = values_of(transfer, "steps")
    configured = explored.run.config
    variables = list(configured["probing"]["targets"])
    hypotheses = values_of(transfer, "hypothesis")
    return [
        choice(query, "run", "beside", others, finished[0] if finished else None, few=0),
        choice(query, "group", "programs", GROUPS, "without_io"),
        choice(query, "subset", "calls", SUBSETS, "all"),
        choice(
            query,
            "steps",
            "transfer map of",
            {n: steps_words(n) for n in steps},
            steps[-1] if steps else None,
        ),
        choice(query, "measure", "layer by layer", MEASURES, "probes", few=0),
        choice(query, "variable", "variable read", variables, "output", few=0),
        choice(query, "carried", "carried", hypotheses, "program", few=0),
        choice(query, "role", "at the role", configured["probing"]["roles"], "answer"),
        choice(query, "site", "site patched", configured["patching"]["sites"]),
    ]


@lru_cache(maxsize=4)
def _opened(path: str) -> Explored:
    return Explored(path)


def content(asked: Asked) -> "list[Component]":
    """Verdicts, settings that differ, behaviour, onsets, curves and maps, side by side."""
    own = asked.explored
    if not own.beside:
        folder = own.run.path.resolve().parent
        return [notice(f"There is no other run in {folder}: keep runs in one folder to compare them.", "hint")]
    if asked["run"] not in own.beside:
        raise PbbError("There is no such run beside this one: choose one of the list.")
    other = _opened(str(own.beside[asked["run"]]))
    names = (own.run.path.resolve().name, asked["run"])
    both = dict(zip(names, (own, other), strict=True))
    opened = f"other = pbb.open_run({str(other.run.path)!r})\n"

    def short() -> "list[Component]":
        return [in_short(explored, f"{name} in short, of calls answered right") for name, explored in both.items()]

    def tables(name: str, **where) -> "pd.DataFrame":
        import pandas as pd

        return pd.concat(
            [select(e.table(name), **where).assign(run_name=n) for n, e in both.items()], ignore_index=True
        )

    def behaviour() -> "Component":
        table = tables("behaviour/behaviour", model="finetuned")
        table = table.assign(model=table.pop("run_name"))
        colours = group_colours(names)  # as in the other figures of this view
        code = (
            opened
            + f"""import pandas as pd

table = pd.concat(
    one.table('behaviour/behaviour').query("model == 'finetuned'").assign(model=name)
    for name, one in zip({names}, (run, other))
)
figure = pbb.figures.behaviour(table, {colours})"""
        )
        return card(asked, Shown(figures.behaviour(table, colours), code, table), "behaviour")

    def side_by_side(name: str, draw: str, title: str, **where) -> "Component":
        table = tables(name, **where)
        table = table.assign(group=table.pop("run_name"))
        condition = " and ".join(f"{key} == {value!r}" for key, value in where.items())
        code = (
            opened
            + f"""import pandas as pd

table = pd.concat(
    one.table({name!r}).query({condition!r}).assign(group=name) for name, one in zip({names}, (run, other))
)
figure = pbb.figures.{draw}(table, groups={names}, title={title!r})"""
        )
        figure = getattr(figures, draw)(table, groups=names, title=title)
        return card(asked, Shown(figure, code, table), draw)

    def curves() -> "Component":
        where = {"role": asked["role"]}
        measure = asked["measure"]
        if measure in ("probes", "lens"):
            where |= {"target" if measure == "probes" else "variable": asked["variable"]}
            where |= {"site": own.run.config["probing"]["sites"][0]} if measure == "probes" else {"decode": "logit"}
        else:
            where["site"] = asked["site"]
            where |= {"hypothesis": asked["carried"]} if measure == "transfer" else {}
        table = own.crunched(_compared, str(other.run.path), measure, names, asked["group"], asked["subset"])
        table = select(table, **where)
        what = ", ".join(f"{key} {value}" for key, value in where.items())
        title = f"{MEASURES[measure]} ({what}), {asked['group']}, {SUBSETS[asked['subset']]}"
        condition = " and ".join(f"{key} == {value!r}" for key, value in where.items())
        code = (
            opened
            + f"""table = pbb.compare_runs(
    {{{names[0]!r}: run}}, {{{names[1]!r}: other}}, {measure!r}, names={names}, group={asked["group"]!r},
    correct={asked["subset"] == "correct"}, draws={DRAWS},
).query({condition!r})
figure = pbb.figures.curves_with_difference({{{MEASURES[measure]!r}: table}}, groups={names}, title={title!r})"""
        )
        words = "With one run on each side programs are resampled, and nothing is said of other finetunings."
        figure = figures.curves_with_difference({MEASURES[measure]: table}, groups=names, title=title)
        return card(asked, Shown(figure, code, table, words), "curves")

    subset, group = asked["subset"], asked["group"]
    steps = int(asked["steps"] or 0)
    return guarded(
        lambda: _differing(both),
        short,
        behaviour,
        lambda: side_by_side(
            "comparison/onsets", "onsets", f"Where, {group}, {PAIRS[subset]}", subset=subset, group=group
        ),
        curves,
        lambda: side_by_side(
            "comparison/transfer",
            "transfer_map",
            f"What each place carries, {group}, {steps_words(steps)}, {PAIRS[subset]}",
            subset=subset,
            steps=steps,
            group=group,
        ),
    )


def _compared(
    own: Explored, other: str, measure: str, names: tuple[str, str], group: str, subset: str
) -> "pd.DataFrame":
    from pbb_probe.evidence.runs import compare_runs

    return compare_runs(
        {names[0]: own.run},
        {names[1]: other},
        measure,  # type: ignore[arg-type]  # one of the control's options
        names=names,
        group=group,
        correct=subset == "correct",
        draws=DRAWS,
    )


def _differing(both: Mapping[str, Explored]) -> "Component":
    """The settings in which the runs differ."""
    import pandas as pd

    given = [settings(explored.run.config).set_index("setting")["value"] for explored in both.values()]
    beside = pd.concat(given, axis=1, keys=list(both)).drop(index="out")
    differing = beside[beside.nunique(axis=1, dropna=False) > 1]
    if differing.empty:
        return notice("Both runs have the same settings.", "hint")
    return table_of(differing.reset_index(), "Settings that differ")
