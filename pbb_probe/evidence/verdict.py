"""What a run says in words, generated from its tables.

Not found where behaviour or controls fail; undetermined where the evidence does not say how programs are evaluated; too
few programs where there are fewer than `ENOUGH`.
"""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.onsets import UNDETERMINED
from pbb_probe.programs.program import GROUPS

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
ENOUGH = 20
"""Programs of a group, below which nothing is said of it."""
LEAVES = ("program", "input")
"""Variables that are located where they leave their own place; others where they come to be."""
KINDS = {
    "step by step": "evaluated step by step: a state is carried from one step to the next",
    "one step": "a single step, which leaves no state to look for; whether it is evaluated or looked up is "
    "undetermined (the probe had not seen the names, but may have seen their functions)",
    UNDETERMINED: "undetermined, as absence of a state in single components at the answer position does not show that "
    "there is none, nor does what a probe reads off a name show how its program is evaluated",
    "not found": "not found: neither the program nor the output is carried by any one place",
}


def describe(
    behaviour: "pd.DataFrame",
    onsets: "pd.DataFrame",
    evaluation: "pd.DataFrame",
    onset_differences: "pd.DataFrame",
    differences: "Mapping[str, pd.DataFrame]",
) -> list[str]:
    """A paragraph on behaviour, one on each group, and one on the difference between each two.

    Args:
        behaviour: from `accuracy_table`, with the model `finetuned`.
        onsets: `onsets` of `located_tables`; what is said is of the calls answered correctly, and of kinds that have
            `ENOUGH` programs.
        evaluation: of the same.
        onset_differences: of the same.
        differences: tables of `compare_groups` with the column `subset`, by what was compared.
    """
    words, meaningful = _behaviour(behaviour)
    if not any(meaningful.values()):
        return [words, "No direct answers are above chance: where they are evaluated was not found."]
    onsets, evaluation = (best_subset(table, ["group", "steps"]) for table in (onsets, evaluation))
    onset_differences = best_subset(onset_differences, ["steps"])
    there = [group for group in GROUPS if any(group == this for this, _ in meaningful)]
    return [
        words,
        *(_group(onsets, evaluation, group, meaningful) for group in there),
        *(_difference(onset_differences, differences, pair, meaningful) for pair in itertools.combinations(there, 2)),
    ]


def best_subset(table: "pd.DataFrame", kind: list[str]) -> "pd.DataFrame":
    """Of each kind the rows of matched pairs, or of those answered right where there are no matched ones.

    Args:
        table: with the column `subset`.
        kind: the columns that name a kind.
    """
    if table.empty:
        return table
    best = table[table["subset"] != "all"].groupby(kind)["subset"].transform("max")  # correct comes before matched
    return table[table["subset"] == best.reindex(table.index)]


def kind_of(evaluation: "pd.DataFrame") -> str:
    """One of `KINDS`, of the first row; runs of earlier versions say compiled and looked up, which is undetermined."""
    said = str(evaluation["evaluation"].iloc[0])
    return said if said in KINDS else UNDETERMINED


def programs_of(onsets: "pd.DataFrame") -> int:
    """How many programs a kind's onsets rest on: those of its pairs or of its prompts, whichever are fewer.

    Args:
        onsets: rows of one kind and subset of `onsets`. Where programs were not counted, pairs and prompts are.
    """
    counts = []
    for way in ("used", "read", "lens"):
        columns = (f"{way}_n", f"{way}_clusters")
        n, clusters = (onsets[column].max() if column in onsets else 0 for column in columns)
        if n > 0:
            counts.append(clusters if clusters > 0 else n)
    return int(min(counts, default=0))


def with_pairs(differences: "pd.DataFrame") -> "pd.DataFrame":
    """A table of differences with its columns `first` and `second`, which earlier releases left to be understood."""
    return differences if "first" in differences else differences.assign(first="with_io", second="without_io")


def programs_in(differences: "pd.DataFrame") -> "pd.DataFrame":
    """How many programs the pair of groups of each row of `compare_groups` has: the columns `first` and `second`."""
    import pandas as pd

    pairs = with_pairs(differences)
    counts = {
        side: [row[f"clusters_{row[side]}"] for row in pairs.to_dict(orient="records")] for side in ("first", "second")
    }
    return pd.DataFrame(counts, index=differences.index, dtype=float)


def enough_programs(differences: "pd.DataFrame") -> "pd.Series":
    """Of each row of `compare_groups`: do both groups of its pair have `ENOUGH` programs?"""
    return programs_in(differences).min(axis=1) >= ENOUGH


def too_few(*n: int) -> str:
    """What is said of so many programs, in one group or in each of both."""
    return f"too few programs (n = {' and '.join(map(str, n))})"


def _behaviour(table: "pd.DataFrame") -> tuple[str, dict[tuple[str, int], bool]]:
    """What was answered, and for each group and number of steps whether direct answers are above chance."""
    finetuned = table[(table["model"] == "finetuned") & ~((table["group"] == "with_io") & table["seen"])]
    parts, meaningful = [], {}
    for cell in finetuned.sort_values(["mode", "group", "steps"]).to_dict(orient="records"):
        parts.append(
            f"{cell['group']}, {cell['mode']}, {_steps(cell['steps'])}: {cell['mean']:.0%} [{cell['lower']:.0%}, "
            f"{cell['upper']:.0%}] of {cell['n']} calls (chance {cell['chance']:.0%})"
        )
        if cell["mode"] == "direct":
            meaningful[cell["group"], cell["steps"]] = bool(cell["lower"] > cell["chance"])
    return "Behaviour on inputs whose answers were never shown. " + "; ".join(parts) + ".", meaningful


def _group(
    onsets: "pd.DataFrame", evaluation: "pd.DataFrame", group: str, meaningful: dict[tuple[str, int], bool]
) -> str:
    parts = []
    for steps in sorted({steps for this, steps in meaningful if this == group}):
        if not meaningful[group, steps]:
            parts.append(f"{_steps(steps)}: not found, as direct answers are not above chance.")
            continue
        here = onsets[(onsets["group"] == group) & (onsets["steps"] == steps)] if len(onsets) else onsets
        if here.empty:
            parts.append(f"{_steps(steps)}: not found, as no pair of runs is answered right on both sides.")
            continue
        if (n := programs_of(here)) < ENOUGH:
            parts.append(f"{_steps(steps)}: {too_few(n)}.")
            continue
        rows = here.to_dict(orient="records")
        said = "; ".join(map(_variable, rows))
        of_kind = evaluation[(evaluation["group"] == group) & (evaluation["steps"] == steps)]
        if of_kind.empty:
            parts.append(f"{_steps(steps)}: {said}. By use not found: there is no transfer map of them.")
            continue
        matched = " whose four calls are answered right" if rows[0]["subset"] == "matched" else ""
        pairs, prompts = (here[f"{way}_n"].max() for way in ("used", "read"))
        counts = f"{pairs:.0f} pairs{matched}" + (f", {prompts:.0f} prompts" if prompts == prompts else "")
        parts.append(f"{_steps(steps)} ({counts}): {said}. So: {KINDS[kind_of(of_kind)]}.")
    return f"{group}, only calls answered correctly. " + " ".join(parts)


def _variable(row: dict[str, Any]) -> str:
    """One variable by use, by probes and by the lens, as far as it was asked."""
    variable, most = row["variable"], f"at most {row['used_peak']:.0%} above random vectors"
    if variable in LEAVES:
        place = "its name" if variable == "program" else "its place"
        used = f"the {variable} leaves {place} in block {_layer(row, 'used')}"
        none = f"no one place carries the {variable} ({most})"
    else:
        used = f"{variable} is written in block {_layer(row, 'used')}"
        none = f"no one component carries {variable} ({most})"
    read = [
        f"{words} read{'s' if way == 'lens' else ''} it after block {_layer(row, way)}"
        if _there(row, way)
        else f"{words} do{'es' if way == 'lens' else ''} not (gain at most {row[f'{way}_peak']:.0%})"
        for way, words in (("read", "at the answer position probes"), ("lens", "the logit lens"))
        if _asked(row, way)
    ]
    flag = " (use and probes disagree)" if row["agreement"] == "disagree" else ""
    by_use = [used if _there(row, "used") else none] if _asked(row, "used") else [f"the {variable}"]
    return ", ".join([*by_use, *read]) + flag


def _difference(
    onsets: "pd.DataFrame",
    differences: "Mapping[str, pd.DataFrame]",
    pair: tuple[str, str],
    meaningful: dict[tuple[str, int], bool],
) -> str:
    parts = []
    for row in _of_pair(onsets, pair).to_dict(orient="records"):
        if row["difference"] != row["difference"] or not all(meaningful.get((each, row["steps"])) for each in pair):
            continue
        computed = row["variable"] == "output" or row["variable"].startswith("state_")
        if row["measure"] == "probes" and not computed:
            continue  # what stands in the tokens has no onset
        name = f"{row['variable']} ({_steps(row['steps'])}, {row['measure']})"
        n = [int(row[f"clusters_{group}"]) for group in pair]
        if min(n) < ENOUGH:
            parts.append(f"{name}: {too_few(*n)}")
            continue
        verb = "leaves its place" if row["variable"] in LEAVES else "comes"
        when = f"{row['difference']:+.0f} blocks later in {pair[0]}" if row["difference"] else "in the same block"
        parts.append(f"{name} {verb} {when} [{row['lower']:.0f}, {row['upper']:.0f}] (p {row['p']:.2f})")
    said = ["Onsets: " + "; ".join(parts) + "." if parts else "No onset is there in both groups."]
    said += [_places(_of_pair(table, pair), pair, what) for what, table in differences.items()]
    return f"Difference between {pair[0]} and {pair[1]}, only calls answered correctly. " + " ".join(said)


def _of_pair(differences: "pd.DataFrame", pair: tuple[str, str]) -> "pd.DataFrame":
    if differences.empty:
        return differences
    paired = with_pairs(differences)
    return paired[(paired["first"] == pair[0]) & (paired["second"] == pair[1])]


def _places(table: "pd.DataFrame", pair: tuple[str, str], what: str) -> str:
    subset = "matched" if "matched" in set(table["subset"]) else "correct"
    chosen = table[table["subset"] == subset]
    chosen = chosen[chosen["p_adjusted"].notna()]
    if chosen.empty:
        return f"In {what} they could not be compared: a group has none."
    enough = enough_programs(chosen)
    if not enough.any():
        n = [int(chosen[f"clusters_{group}"].max()) for group in pair]
        return f"In {what} they were not compared: {too_few(*n)}."
    few = f"; {(~enough).sum()} more have fewer than {ENOUGH} programs in a group" if not enough.all() else ""
    chosen = chosen[enough]
    differing = chosen[chosen["p_adjusted"] < ALPHA]
    matched = ", where both swapped calls are answered right too," if subset == "matched" else ""
    head = f"They differ in {what}{matched} at {len(differing)} of {len(chosen)} places (adjusted p < {ALPHA}){few}"
    if differing.empty:
        return f"{head}."
    top = differing.loc[differing["difference"].abs().idxmax()]
    named = ("site", "layer", "role", "swap", "target", "hypothesis", "steps")
    place = ", ".join(f"{name} {top[name]}" for name in named if name in top and top[name] == top[name])
    means = ", ".join(f"{group} {top[f'mean_{group}']:.2f}" for group in pair)
    return (
        f"{head}; most at {place}: {means}, difference {top['difference']:.2f} [{top['lower']:.2f}, "
        f"{top['upper']:.2f}]."
    )


def _asked(row: dict[str, Any], way: str) -> bool:
    """Were there rows to locate it in?"""
    return bool(row.get(f"{way}_n", 0) > 0)


def _there(row: dict[str, Any], way: str) -> bool:
    return bool(row[f"{way}_layer"] == row[f"{way}_layer"])


def _layer(row: dict[str, Any], way: str) -> str:
    layer, lower, upper = (row[f"{way}_{name}"] for name in ("layer", "lower", "upper"))
    return f"{layer:.0f}" + (f" [{lower:.0f}, {upper:.0f}]" if lower == lower else "")


def _steps(steps: int) -> str:
    return f"{steps} step{'s' * (steps != 1)}"
