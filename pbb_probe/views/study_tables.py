"""The tables of a study's report: the verdict in short, onsets, controls, differences, settings."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.verdict import (
    ALPHA,
    ENOUGH,
    best_subset,
    enough_programs,
    kind_of,
    programs_of,
    too_few,
    with_pairs,
)
from pbb_probe.labels import CONTROL, NONE
from pbb_probe.store.run import Run
from pbb_probe.views.evaluated import closed, read_gate
from pbb_probe.views.figures.onsets import WAYS
from pbb_probe.views.headline import tells_apart
from pbb_probe.views.pairs import FIRST, SECOND
from pbb_probe.views.run_tables import read_table, rows
from pbb_probe.views.words.answers import direct_answers, further_answers
from pbb_probe.views.words.phrases import short

if TYPE_CHECKING:
    import pandas as pd

COUNTING = ("decisive", "matched", "correct")
"""The subsets of calls answered right, that which counts first."""
_OF = ("target", "swap", "hypothesis", "steps")


def summary(run: Run) -> "pd.DataFrame":
    """A row a group and number of steps: what is answered, where, and what kind of evaluation that makes.

    Of kinds that have fewer than `ENOUGH` programs it is only said that these are too few.
    """
    import pandas as pd

    onsets, evaluation = (best_subset(read_table(run, name), ["group", "steps"]) for name in ("onsets", "evaluation"))
    gate = read_gate(run)
    silent = {(row.group, row.steps): row.sentence for row in closed(gate).itertuples()}
    behaviour = read_table(run, "behaviour", "behaviour")
    right = "decisive calls answered right" if tells_apart(behaviour) else "direct answers right"
    others = further_answers(behaviour)
    lines = []
    for cell in direct_answers(behaviour, gate).itertuples():
        of = {"group": cell.group, "steps": cell.steps}
        here, judged = rows(onsets, **of), rows(evaluation, **of)
        program, output = (
            _block(rows(here, variable=variable), way) for variable, way in (("program", "used"), ("output", "read"))
        )
        kind = kind_of(judged) if len(judged) else "not found"
        if not cell.above:
            program = output = kind = "not found"
            if (sentence := silent.get((cell.group, cell.steps))) is not None:
                program, output, kind = "", "", sentence
        elif len(here) and (n := programs_of(here)) < ENOUGH:
            program, output, kind = "", "", too_few(n)
        lines.append(
            {
                **of,
                right: f"{cell.mean:.0%} [{cell.lower:.0%}, {cell.upper:.0%}]",
                "chance": f"{cell.chance:.0%}",
                **{what: _mean(rows(other, **of)) for what, other in others.items()},
                "pairs": _count(here["used_n"].max()) if "used_n" in here and len(here) else "",
                "program leaves its name in block": program,
                "output is read after block": output,
                "evaluation": kind,
            }
        )
    told = {(line["group"], line["steps"]) for line in lines}  # a group may have no calls that count
    lines += [
        {"group": group, "steps": steps, "evaluation": said}
        for (group, steps), said in silent.items()
        if (group, steps) not in told
    ]
    return pd.DataFrame(lines).fillna("")


def onsets_in_short(onsets: "pd.DataFrame") -> "pd.DataFrame":
    """The block of each way with its interval in one cell, and of how many pairs and prompts."""
    import pandas as pd

    ways = {way: words for way, (words, _) in WAYS.items() if f"{way}_layer" in onsets}
    lines = [
        {
            **{name: onset[name] for name in ("group", "steps", "variable")},
            **{words: _found(onset, way) for way, words in ways.items()},
            "agreement": onset.get("agreement", ""),
            "pairs": _count(onset.get("used_n")),
            "prompts": _count(onset.get("read_n")),
            "calls": onset["subset"],
        }
        for onset in onsets.to_dict(orient="records")
    ]
    return pd.DataFrame(lines)


def onset_differences_in_short(table: "pd.DataFrame") -> "pd.DataFrame":
    """The block in each of two groups and the difference with its interval in one cell."""
    import pandas as pd

    lines = [
        {
            **{name: row[name] for name in ("measure", "steps", "variable", "role", FIRST, SECOND)},
            **{f"block in the {side}": row[f"layer_{row[side]}"] for side in (FIRST, SECOND)},
            "later in the first": _interval(row),
            "found in draws": row["found"],
            "p": row["p"],
            **{f"n of the {side}": row[f"n_{row[side]}"] for side in (FIRST, SECOND)},
            "calls": row["subset"],
        }
        for row in with_pairs(table).to_dict(orient="records")
    ]
    return pd.DataFrame(lines)


def controls(transfer: "pd.DataFrame") -> "pd.DataFrame":
    """For each run of the transfer map, the most that one place makes of each hypothesis but `nothing`."""
    changed = rows(transfer, subset="all")
    if changed.empty:
        return changed
    changed = changed[changed["hypothesis"] != "nothing"]
    where = ["group", "steps", CONTROL, "hypothesis"]
    top = changed.sort_values("proportion", ascending=False, kind="stable").drop_duplicates(where)
    return top.sort_values(where).drop(columns="subset").dropna(axis="columns", how="all")


def controls_side_by_side(transfer: "pd.DataFrame") -> "pd.DataFrame":
    """The same shares, a column a run."""
    top = controls(transfer)
    if top.empty:
        return top
    table = top.pivot(index=["group", "steps", "hypothesis"], columns=CONTROL, values="proportion").reset_index()
    first = ["group", "steps", "hypothesis", NONE]
    table = table[[*first, *(name for name in table.columns if name not in first)]]
    return table.rename(columns={NONE: "patched"})


def differing_places(tables: "Mapping[str, pd.DataFrame]") -> "pd.DataFrame":
    """Where two groups of enough programs differ in what was measured (adjusted p < 0.05).

    Of the calls that count: decisive ones answered right, or where there are none, matched pairs or all answered right.
    """
    import pandas as pd

    differing = []
    for what, table in tables.items():
        subset = next((name for name in COUNTING if len(rows(table, subset=name))), None)
        chosen = with_pairs(rows(table, subset=subset))
        if len(chosen):
            differing.append(chosen[(chosen["p_adjusted"] < ALPHA) & enough_programs(chosen)].assign(measure=what))
    if not any(map(len, differing)):
        return pd.DataFrame()
    joined = pd.concat(differing, ignore_index=True)
    joined = joined.loc[joined["difference"].abs().sort_values(ascending=False, kind="stable").index]
    lines = [
        {
            "measure": row["measure"],
            "place": f"{row['site']}, {row['role']}, layer {row['layer']:.0f}",
            "of": ", ".join(
                f"{name} {short(row[name], 0)}" if name == "steps" else str(row[name])
                for name in _OF
                if _given(row, name)
            ),
            **{side: f"{row[side]} {short(row[f'mean_{row[side]}'], 2)}" for side in (FIRST, SECOND)},
            "difference": _interval(row),
            "adjusted p": row["p_adjusted"],
        }
        for row in joined.to_dict(orient="records")
    ]
    return pd.DataFrame(lines)


def leak(table: "pd.DataFrame") -> "pd.DataFrame":
    """Of each group, number of steps and target the place at which probes gain most from functions they have seen."""
    import pandas as pd

    where = ["group", "steps", "target"]
    if table.empty:
        return table
    top = table.sort_values("difference", ascending=False, kind="stable").drop_duplicates(where).sort_index()
    lines = [
        {
            **{name: row[name] for name in where},
            "place": f"{row['site']}, {row['role']}, layer {row['layer']}",
            "read of held-out programs": row["by_program"],
            "of held-out functions": row["by_function"],
            "difference": _interval(row),
            "prompts": row["n"],
            "functions": row["clusters"],
        }
        for row in top.to_dict(orient="records")
    ]
    return pd.DataFrame(lines)


def settings(config: Mapping[str, Any]) -> "pd.DataFrame":
    """A row a field: those of a part of the configuration as `part.field`."""
    import pandas as pd

    return pd.DataFrame(list(_fields(config)), columns=["setting", "value"])


def seconds(manifest: Mapping[str, Any]) -> "pd.DataFrame":
    """How long each step took, the longest first; the report's own is not known while it is written."""
    import pandas as pd

    taken = {name: step["seconds"] for name, step in manifest["steps"].items() if name != "report"}
    return pd.DataFrame(sorted(taken.items(), key=lambda item: -item[1]), columns=["step", "seconds"])


def _fields(config: Mapping[str, Any], part: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{part}{name}.")
        elif isinstance(value, (list, tuple)):
            yield part + name, ", ".join(map(str, value)) or "none"
        else:
            yield part + name, value if isinstance(value, str) else json.dumps(value).replace("null", "none")


def _block(rows: "pd.DataFrame", way: str) -> str:
    return "not found" if rows.empty else _found(rows.iloc[0].to_dict(), way)


def _found(onset: dict[str, Any], way: str) -> str:
    """Block and interval, or how near it came; empty where it was not asked."""
    if not onset.get(f"{way}_n", 0) > 0:
        return ""
    layer, lower, upper = (onset[f"{way}_{name}"] for name in ("layer", "lower", "upper"))
    if layer != layer:
        return f"not found (at most {short(onset[f'{way}_peak'], 2)})"
    return f"{layer:.0f} [{lower:.0f}, {upper:.0f}]" if lower == lower else f"{layer:.0f}"


def _mean(cells: "pd.DataFrame") -> str:
    return f"{cells['mean'].iloc[0]:.0%}" if len(cells) else ""


def _count(number: float | None) -> str:
    return f"{number:.0f}" if number and number == number else ""


def _interval(row: dict[str, Any]) -> str:
    """A difference with its interval; empty where it is not known."""
    if not _given(row, "difference"):
        return ""
    difference, lower, upper = (short(row[name], 2) for name in ("difference", "lower", "upper"))
    return f"{difference} [{lower}, {upper}]"


def _given(row: dict[str, Any], name: str) -> bool:
    return name in row and row[name] == row[name]
