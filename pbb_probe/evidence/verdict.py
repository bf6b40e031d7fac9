"""What a run says in words, generated from its tables.

Not evaluated where the gate says so, and not found where controls fail; undetermined where the evidence does not say
how programs are evaluated; too few programs where there are fewer than `ENOUGH`.
"""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.counting import best_subset as best_subset
from pbb_probe.evidence.counting import enough_programs as enough_programs
from pbb_probe.evidence.counting import programs_behind, programs_in
from pbb_probe.evidence.counting import programs_of as programs_of
from pbb_probe.evidence.counting import too_few as too_few
from pbb_probe.evidence.counting import with_pairs as with_pairs
from pbb_probe.evidence.gate import ENOUGH as ENOUGH
from pbb_probe.evidence.gate import headline
from pbb_probe.evidence.onsets import UNDETERMINED
from pbb_probe.evidence.subsets import DECISIVE
from pbb_probe.programs.passes import STATES
from pbb_probe.programs.program import GROUPS

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
LEAVES = ("program", "input")
"""Variables that are located where they leave their own place; others where they come to be."""
ENDS = ("lower", "upper")
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
    gate: "pd.DataFrame | None" = None,
) -> list[str]:
    """Paragraphs: the gate, what examples alone explain, behaviour, each group, and the difference between each two.

    Args:
        behaviour: from `accuracy_table`, with the model `finetuned`.
        onsets: `onsets` of `located_tables`; what is said is of the calls that `best_subset` chooses, and of kinds that
            have `ENOUGH` programs.
        evaluation: of the same.
        onset_differences: of the same.
        differences: tables of `compare_groups` with the column `subset`, by what was compared.
        gate: of the same run; what it does not find evaluated is not described. Without one, as of an earlier release,
            there is no word of it, and behaviour alone says what is above chance.
    """
    words, closed = _behaviour(behaviour)
    first = [] if gate is None else [_gate(gate)]
    if gate is not None:
        closed = {(row.group, row.steps): "" if row.evaluated else str(row.sentence) for row in gate.itertuples()}
    there = [group for group in GROUPS if any(group == this for this, _ in closed)]
    if all(closed.values()):
        return [*first, words, "No direct answers are above chance: where they are evaluated was not found."]
    onsets, evaluation = (best_subset(table, ["group", "steps"]) for table in (onsets, evaluation))
    onset_differences = best_subset(onset_differences, ["steps"])
    if gate is not None:
        first.append(_common(onsets, closed))
    return [
        *first,
        words,
        *(_group(onsets, evaluation, group, closed) for group in there),
        *(_difference(onset_differences, differences, pair, closed) for pair in itertools.combinations(there, 2)),
    ]


def kind_of(evaluation: "pd.DataFrame") -> str:
    """One of `KINDS`, of the first row; runs of earlier versions say compiled and looked up, which is undetermined."""
    said = str(evaluation["evaluation"].iloc[0])
    return said if said in KINDS else UNDETERMINED


def _gate(gate: "pd.DataFrame") -> str:
    """What is evaluated directly, and what is not."""
    said = [
        f"{group}, {_steps(row.steps)}: {row.sentence}"
        for group in GROUPS
        for row in gate[gate["group"] == group].sort_values("steps").itertuples()
    ]
    return (
        "Whether calls are evaluated directly, asked of decisive calls whose answers were never shown, of programs "
        f"without examples those of new functions. {'; '.join(said)}. What is not evaluated is not located."
    )


def _common(onsets: "pd.DataFrame", closed: dict[tuple[str, int], str]) -> str:
    """What maps of programs with examples have in common with those of programs whose code was never seen."""
    both = ("with_io", "io_only")
    if not any(group == both[1] for group, _ in closed):
        return (
            "There are no io_only programs: with_io ones may be answered by induction from their examples, and their "
            "maps need not be evaluation of code."
        )
    if onsets.empty or not {both} <= {(first, second) for first in onsets["group"] for second in onsets["group"]}:
        return (
            "What with_io maps share with those of io_only programs, and so is not evaluation of code, cannot be said."
        )
    shared = []
    for (steps, variable), rows in onsets.groupby(["steps", "variable"], sort=False):
        of = {row["group"]: row for row in rows.to_dict(orient="records")}
        if set(both) <= set(of) and not any(closed.get((group, steps), "no") for group in both):
            ways = [way for way in ("used", "read", "lens") if _overlap(of[both[0]], of[both[1]], way)]
            if ways:
                shared.append(f"{variable} ({_steps(steps)}: {', '.join(ways)})")
    what = f"the onsets of {'; '.join(shared)}" if shared else "no onset"
    return (
        f"The maps of with_io and io_only share {what}. io_only programs were never seen as code: what both share is "
        "not evaluation of code."
    )


def _overlap(first: dict[str, Any], second: dict[str, Any], way: str) -> bool:
    """Is an onset there in both, and do their intervals meet?"""
    if not all(_asked(row, way) and _there(row, way) for row in (first, second)):
        return False
    (low, high), (others, top) = (
        [row[f"{way}_{end}"] if row[f"{way}_{end}"] == row[f"{way}_{end}"] else row[f"{way}_layer"] for end in ENDS]
        for row in (first, second)
    )
    return bool(low <= top and others <= high)


def _behaviour(table: "pd.DataFrame") -> tuple[str, dict[tuple[str, int], str]]:
    """What was answered, and for each group and number of steps why nothing is located: empty where something is."""
    finetuned = table[(table["model"] == "finetuned") & ~((table["group"] != "without_io") & table["seen"])]
    counted = headline(finetuned)
    parts, closed = [_cells(counted)], {}
    for cell in counted[counted["mode"] == "direct"].to_dict(orient="records"):
        above = cell["lower"] > cell["chance"]
        closed[cell["group"], cell["steps"]] = "" if above else "not found, as direct answers are not above chance"
    head = "Behaviour on inputs whose answers were never shown"
    if "calls" in finetuned:
        head += ", decisive calls, without examples of new functions"
        parts.append(
            f"All calls: {_cells(finetuned[(finetuned['calls'] == 'all') & (finetuned['programs'] == 'all')])}"
        )
    return f"{head}. " + " ".join(f"{part}." for part in parts), closed


def _cells(table: "pd.DataFrame") -> str:
    """The accuracy of each mode, group and number of steps."""
    return "; ".join(
        f"{cell['group']}, {cell['mode']}, {_steps(cell['steps'])}: {cell['mean']:.0%} [{cell['lower']:.0%}, "
        f"{cell['upper']:.0%}] of {cell['n']} calls (chance {cell['chance']:.0%})"
        for cell in table.sort_values(["mode", "group", "steps"]).to_dict(orient="records")
    )


def _group(onsets: "pd.DataFrame", evaluation: "pd.DataFrame", group: str, closed: dict[tuple[str, int], str]) -> str:
    parts, decisive = [], len(onsets) and (onsets["subset"] == DECISIVE).any()
    for steps in sorted({steps for this, steps in closed if this == group}):
        if closed[group, steps]:
            parts.append(f"{_steps(steps)}: {closed[group, steps]}.")
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
    return f"{group}, {_calls(bool(decisive), group == 'without_io')}. " + " ".join(parts)


def _calls(decisive: bool, new: bool) -> str:
    if not decisive:
        return "only calls answered correctly"
    return "only decisive calls answered correctly" + ", of new functions" * new


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
    closed: dict[tuple[str, int], str],
) -> str:
    for group in pair:
        if all(why for (this, _), why in closed.items() if this == group):
            return f"Difference between {pair[0]} and {pair[1]}: not compared, as {group} is not evaluated."
    parts = []
    for row in _of_pair(onsets, pair).to_dict(orient="records"):
        if row["difference"] != row["difference"] or any(closed.get((each, row["steps"]), "no") for each in pair):
            continue
        computed = row["variable"] == "output" or row["variable"].startswith(STATES)
        if row["measure"] == "probes" and not computed:
            continue  # what stands in the tokens has no onset
        name = f"{row['variable']} ({_steps(row['steps'])}, {row['measure']})"
        n = [int(programs_behind(row, group)) for group in pair]
        if min(n) < ENOUGH:
            parts.append(f"{name}: {too_few(*n)}")
            continue
        verb = "leaves its place" if row["variable"] in LEAVES else "comes"
        when = f"{row['difference']:+.0f} blocks later in {pair[0]}" if row["difference"] else "in the same block"
        parts.append(f"{name} {verb} {when} [{row['lower']:.0f}, {row['upper']:.0f}] (p {row['p']:.2f})")
    said = ["Onsets: " + "; ".join(parts) + "." if parts else "No onset is there in both groups."]
    decisive = any(len(table) and (table["subset"] == DECISIVE).any() for table in (onsets, *differences.values()))
    said += [_places(table, pair, what, decisive) for what, table in differences.items()]
    calls = _calls(decisive, "without_io" in pair)
    return f"Difference between {pair[0]} and {pair[1]}, {calls}. " + " ".join(said)


def _of_pair(differences: "pd.DataFrame", pair: tuple[str, str]) -> "pd.DataFrame":
    if differences.empty:
        return differences
    paired = with_pairs(differences)
    return paired[(paired["first"] == pair[0]) & (paired["second"] == pair[1])]


def _places(table: "pd.DataFrame", pair: tuple[str, str], what: str, decisive: bool) -> str:
    subset = DECISIVE if decisive else "matched" if "matched" in set(table["subset"]) else "correct"
    chosen = _of_pair(table[table["subset"] == subset], pair)
    chosen = chosen[chosen["p_adjusted"].notna()]
    if chosen.empty:
        return f"In {what} they could not be compared: a group has none."
    enough = enough_programs(chosen)
    if not enough.any():
        n = [int(count) for count in programs_in(chosen).max()]
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
