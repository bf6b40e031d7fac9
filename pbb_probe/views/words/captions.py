"""What to see in each figure of a run, said from its tables: nothing is said that they do not hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.evidence.counting import programs_in
from pbb_probe.evidence.onsets import when
from pbb_probe.evidence.verdict import ALPHA, ENOUGH, LEAVES, enough_programs, programs_of, too_few
from pbb_probe.probing.brewing import OUTCOMES
from pbb_probe.programs.passes import STATES
from pbb_probe.views.pairs import by_pair, groups_of, in_order
from pbb_probe.views.run_tables import control_rows, measured_rows, rows
from pbb_probe.views.words.phrases import Kind, and_words, kinds_words, sentences, short, steps_words

if TYPE_CHECKING:
    import pandas as pd

Pair = tuple[str, str]
"""Two groups."""


def see_onsets(onsets: "pd.DataFrame", meaningful: list[Kind], ways: Sequence[str] = ("used", "read")) -> str:
    """Where each variable leaves, is written and is read, and in how many pairs; kinds that agree taken together.

    Args:
        onsets: of one subset.
        meaningful: the kinds whose direct answers are above chance; of the others nothing is said, nor of kinds that
            have too few programs.
        ways: by use, by reading, or both.
    """
    if onsets.empty:
        return "Nothing was found."
    programs = {kind: programs_of(of_kind) for kind, of_kind in onsets.groupby(["group", "steps"], sort=False)}
    few = {kind: n for kind, n in programs.items() if kind in meaningful and n < ENOUGH}
    known = [(row.group, row.steps) in meaningful and (row.group, row.steps) not in few for row in onsets.itertuples()]
    chosen = onsets[known]
    said = []
    for variable in sorted(set(chosen["variable"]), key=when):
        cells = chosen[chosen["variable"] == variable]
        if variable in LEAVES:
            place = "its name" if variable == "program" else "its place"
            used, none = f"the {variable} leaves {place} in block", f"no one place carries the {variable}"
        else:
            used, none = f"one component writes {variable} in block", f"no one component writes {variable}"
        if "used" in ways:
            said += _by_layer(cells, "used", used, none)
        if "read" in ways and variable not in LEAVES:  # what stands in the tokens can be read anywhere
            said += _by_layer(cells, "read", f"probes read {variable} after block", f"probes do not read {variable}")
    pairs = chosen.groupby(["group", "steps"], sort=False)["used_n"].max() if "used_n" in chosen else {}
    counted = [f"{n:.0f} of {kinds_words([kind])}" for kind, n in pairs.items() if n > 0]
    said += [f"pairs: {'; '.join(counted)}"] * bool(counted)
    said += [f"{kinds_words([kind])}: {too_few(n)}" for kind, n in few.items()]
    silent = sorted({(row.group, row.steps) for row in onsets.itertuples()} - set(meaningful))
    said += [f"nothing is said of {kinds_words(silent)}, whose direct answers are not shown to be above chance"] * bool(
        silent
    )
    return sentences(said) or "Nothing was found."


def see_transfer(transfer: "pd.DataFrame") -> str:
    """How often each hypothesis is followed where it is followed most, half evaluations last, beside random vectors.

    Args:
        transfer: of one subset and number of steps.
    """
    there = sorted(set(transfer["hypothesis"]))
    begun = [
        name for start in (*STATES, "only_step_", "program_only_step_") for name in there if name.startswith(start)
    ]
    named = ["program", "input", "everything", *begun]
    chosen = transfer[transfer["hypothesis"].isin(named)]
    said = []
    for group, cells in measured_rows(chosen).groupby("group", sort=False):
        tops = cells.loc[cells.groupby("hypothesis")["proportion"].idxmax()].set_index("hypothesis", drop=False)
        parts = [
            f"{name} {tops.loc[name, 'proportion']:.0%} ({_place(tops.loc[name])})"
            for name in named
            if name in tops.index
        ]
        said.append(f"{group}: {', '.join(parts)}")
    words = f"Share of pairs that follow each hypothesis, at the place where most do. {'; '.join(said)}."
    random = control_rows(chosen, "random")
    if len(random):
        words += f" With random vectors, no place reaches more than {random['proportion'].max():.0%} of any of these."
    return words


def see_interchange(interchange: "pd.DataFrame") -> str:
    """The most answers that the subspace changes, beside random subspaces.

    Args:
        interchange: of one subset, variable and number of steps.
    """
    kept = rows(interchange, hypothesis="nothing")
    said = []
    for group, cells in kept.groupby("group", sort=False):
        patched, random = measured_rows(cells), control_rows(cells, "random")
        top = patched.loc[patched["proportion"].idxmin()]
        beside = f", random ones at most {1 - random['proportion'].min():.0%}" if len(random) else ""
        said.append(f"in {group} the subspaces change at most {1 - top['proportion']:.0%} ({_place(top)}){beside}")
    return f"Of the answers, {'; '.join(said)}." if said else "There are no pairs."


def see_differences(table: "pd.DataFrame") -> str:
    """At how many places of `compare_groups` the groups differ, two by two, and where most."""
    said = [_see_pair(pair, cells) for pair, cells in by_pair(table)]
    return " ".join(said) or "The groups could not be compared."


def _see_pair(pair: Pair, table: "pd.DataFrame") -> str:
    both, known = and_words(pair), table[table["p_adjusted"].notna()]
    if known.empty:
        return f"{both} could not be compared."
    if (enough := known[enough_programs(known)]).empty:
        return f"{both} were not compared: {too_few(*programs_in(known).max().astype(int))}."
    differing = enough[enough["p_adjusted"] < ALPHA]
    words = f"{both} differ at {len(differing)} of {len(enough)} places (adjusted p < {ALPHA})"
    if differing.empty:
        return f"{words}."
    top = differing.loc[differing["difference"].abs().idxmax()]
    means = [f"{group} {top[f'mean_{group}']:.2f}" for group in pair]
    return f"{words}, most at {_place(top)}: {', '.join(means)}."


def see_recovery(patching: "pd.DataFrame") -> str:
    """The most recovery at each role, of one site, subset and swap, or of several swaps."""
    said, groups = [], groups_of(patching)
    for swap, cells in patching.groupby("swap", sort=False):
        tops = []
        for role, at_role in cells.groupby("role", sort=False):
            values = [at_role[f"mean_{group}"].max() for group in groups]
            tops.append(f"{role} {and_words([f'{value:.2f}' for value in values])}")
        said.append(f"with the {swap} swapped {', '.join(tops)}")
    return f"The most recovery in any block ({and_words(groups)}): {'; '.join(said)}."


def see_probes(controls: "pd.DataFrame") -> str:
    """What probes read best of each target at the last place, beside the most common value; of one site and subset."""
    probes, chance = measured_rows(controls), control_rows(controls, "chance")
    role = list(dict.fromkeys(probes["role"]))[-1]
    groups = in_order(probes["group"])
    said = []
    for target, cells in rows(probes, role=role).groupby("target", sort=False):
        best = and_words([f"{rows(cells, group=group)['score'].max():.2f}" for group in groups])
        luck = rows(chance, role=role, target=target)["score"].max()
        said.append(f"{target} {best}" + ("" if luck != luck else f" (most common value at most {luck:.2f})"))
    return f"Read best in any block at the {role} ({and_words(groups)}): {'; '.join(said)}."


def see_gains(controls: "pd.DataFrame") -> str:
    """At how many places the probe is above the control task; of one site and subset."""
    gains = control_rows(controls, "selectivity")
    above = gains[gains["gain_lower"] > 0]
    return f"The interval is above zero at {len(above)} of {len(gains)} places, targets and groups."


def see_across(across: "pd.DataFrame") -> str:
    """The largest loss when a group is read by another's probes; of one site and subset."""
    where = ["group", "target", "layer", "role"]
    same = across[across["fitted_on"] == across["group"]]
    both = same.merge(across[across["fitted_on"] != across["group"]], on=where, suffixes=("", "_other"))
    if both.empty:
        return "Only one group has probes of its own."
    both = both.assign(loss=both["score"] - both["score_other"])
    top = both.loc[both["loss"].idxmax()]
    return (
        f"Read by another group's probes a group loses at most {top['loss']:.2f} (of {top['score']:.2f}: "
        f"{top['group']} by those of {top['fitted_on_other']}, {_place(top)}), and {short(both['loss'].median(), 2)} "
        "at the median place."
    )


def see_cosines(cosines: "pd.DataFrame") -> str:
    """The median of each kind of pair, of one site."""
    medians = cosines.groupby("halves", sort=False)["cosine"].median()
    return "Medians over all places: " + ", ".join(f"{pair} {value:.2f}" for pair, value in medians.items()) + "."


def see_lens(lens: "pd.DataFrame") -> str:
    """The most that each way of decoding gets right of each variable, and behind which block; of one subset."""
    said = []
    for (variable, decode), cells in lens.groupby(["variable", "decode"], sort=False):
        of = []
        for group in groups_of(cells):
            if cells[f"mean_{group}"].notna().any():
                top = cells.loc[cells[f"mean_{group}"].idxmax()]
                of.append(f"{top[f'mean_{group}']:.0%} in {group} (block {top['layer']})")
        luck = cells["shuffled"].max()
        said.append(f"{variable}, {decode}: {', '.join(of)}, by chance at most {luck:.0%}")
    return f"Most often right: {'; '.join(said)}."


def see_outcomes(outcomes: "pd.DataFrame") -> str:
    """How many prompts of each kind are resolved, beside luck; of one variable."""
    resolved = rows(outcomes, measure=OUTCOMES[0])
    said = [
        f"{row.group}, {steps_words(row.steps)}: {row.mean:.0%}"
        + (f" (by chance {row.shuffled:.0%})" if "shuffled" in resolved else "")
        for row in resolved.itertuples()
    ]
    return f"Resolved: {'; '.join(said)}." if said else "There are no prompts."


def see_onset_differences(table: "pd.DataFrame") -> str:
    """Which onsets are apart, two groups at a time; of one subset, those that both have.

    Programs are counted as in the verdict.
    """
    said = []
    for pair, cells in by_pair(table, of="layer"):
        known = cells[enough_programs(cells)]
        apart, few = known[(known["lower"] > 0) | (known["upper"] < 0)], len(cells) - len(known)
        words = (
            f"{len(apart)} of {len(known)} onsets that {and_words(pair)} both have are apart: their intervals leave "
        )
        said.append(f"{words}zero out." + f" {few} more have fewer than {ENOUGH} programs in a group." * bool(few))
    return " ".join(said)


def _by_layer(cells: "pd.DataFrame", way: str, found: str, none: str) -> list[str]:
    """What was asked, by the layer it was found at."""
    if f"{way}_n" not in cells:
        return []
    asked = cells[cells[f"{way}_n"] > 0]
    said = []
    for layer, at_layer in asked.groupby(f"{way}_layer", dropna=False):
        kinds = kinds_words([(row.group, row.steps) for row in at_layer.itertuples()])
        said.append(f"{none} ({kinds})" if layer != layer else f"{found} {layer:.0f} ({kinds})")
    return said


def _place(row: "pd.Series") -> str:
    """Where a row of a table is."""
    given = {name: row[name] for name in ("site", "role", "target", "swap", "hypothesis") if name in row}
    words = [str(value) for name, value in given.items() if name != "hypothesis" or "difference" in row]
    return ", ".join([*words, f"layer {row['layer']}"])
