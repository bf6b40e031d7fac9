"""The figures of a study's run by file name, drawn from its tables."""

import html
import re
from typing import TYPE_CHECKING, Any

from pbb_probe.programs.corpus import GROUPS
from pbb_probe.store.run import Run
from pbb_probe.views import figures
from pbb_probe.views.figures.style import plain, steps_words

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

SUBSETS = {
    "all": "all calls",
    "correct": "only calls answered correctly",
    "matched": "pairs of which all four calls are answered correctly",
}
BEST = ("matched", "correct", "all")
"""The subsets, that with the fewest wrong answers first."""
_SINGLE = ("all", "correct")  # those of single calls or pairs, and not of what they are matched with


def read_table(run: Run, name: str, step: str = "comparison") -> "pd.DataFrame":
    """A table of a finished step."""
    return run.table(f"{step}/{name}")


def rows(table: "pd.DataFrame", **values: Any) -> "pd.DataFrame":
    """The rows with these values; none where the table lacks such a column."""
    for name, value in values.items():
        table = table[table[name] == value] if name in table else table.iloc[:0]
    return table


def study_figures(run: Run) -> "dict[str, Figure]":
    """The figures of a finished run; what was not measured has none.

    Names: `behaviour`, `onsets_SUBSET`, `transfer_STEPS_SUBSET`, `recovery_SUBSET`, `patching_SWAP_SUBSET`,
    `probes_SUBSET`, `selectivity_SUBSET`, `across_SUBSET`, `cosines`, `interchange_VARIABLE_STEPS`, `lens_SUBSET`,
    `outcomes_VARIABLE`, `onset_differences`.
    """
    return {
        "behaviour": figures.behaviour(read_table(run, "behaviour", "behaviour")),
        **_onset_figures(run),
        **_transfer_figures(run),
        **_patching_figures(run),
        **_probe_figures(run),
        **_interchange_figures(run),
        **_lens_figures(run),
        **_difference_figures(run),
    }


def title_of(figure: "Figure") -> str:
    """The title of a figure as text, which it holds as markup."""
    return html.unescape(figure.layout.title.text or "")


def file_name(variable: str) -> str:
    """A variable's name in a file's."""
    return re.sub(r"\W", "_", variable)


def _onset_figures(run: Run) -> "dict[str, Figure]":
    table, made = read_table(run, "onsets"), {}
    for subset, words in SUBSETS.items():
        if len(chosen := rows(table, subset=subset)):
            made[f"onsets_{subset}"] = figures.onsets(chosen, title=f"Where each variable is used and read, {words}")
    return made


def _transfer_figures(run: Run) -> "dict[str, Figure]":
    table, made = read_table(run, "transfer"), {}
    for subset in _SINGLE:
        if len(chosen := rows(table, subset=subset, run="patched")):
            for steps, cells in chosen.groupby("steps"):
                made[f"transfer_{steps}_{subset}"] = figures.transfer_map(
                    cells, title=f"What each place carries: programs of {steps_words(steps)}, {SUBSETS[subset]}"
                )
    return made


def _patching_figures(run: Run) -> "dict[str, Figure]":
    table, made = read_table(run, "patching"), {}
    for subset in _SINGLE:
        chosen = rows(table, subset=subset)
        if chosen.empty:
            continue
        site = chosen["site"].iloc[0]
        made[f"recovery_{subset}"] = figures.layer_curves(
            chosen[chosen["site"] == site].assign(swap=chosen["swap"] + " swapped"),
            rows="swap",
            columns="role",
            title=f"Recovery when {site} is patched, {SUBSETS[subset]}",
            y_title="recovery",
        )
        for swap, cells in chosen.groupby("swap", sort=False):
            made[f"patching_{swap}_{subset}"] = figures.patching_heatmap(
                cells, title=f"Recovery by site, layer and role: {swap} swapped, {SUBSETS[subset]}"
            )
    return made


def _probe_figures(run: Run) -> "dict[str, Figure]":
    """Of the first site that was probed."""
    names = ("probing", "probing_controls", "probing_across", "cosines")
    probing, controls, across, cosines = (read_table(run, name) for name in names)
    if controls.empty:
        return {}
    site, made = controls["site"].iloc[0], {}
    for subset in _SINGLE:
        chosen, words = rows(controls, subset=subset, site=site), SUBSETS[subset]
        if chosen.empty:
            continue
        made[f"probes_{subset}"] = figures.probe_curves(
            chosen,
            f"What a linear probe reads after each block ({site}), {words}",
            differences=rows(probing, subset=subset),
        )
        if "selectivity" in set(chosen["run"]):
            made[f"selectivity_{subset}"] = figures.probe_gains(chosen, title=f"Selectivity ({site}), {words}")
        if len(cells := rows(across, subset=subset, site=site)):
            made[f"across_{subset}"] = figures.across_heatmap(
                cells, f"Probes fitted on one group that read one (behind the arrow; {site}), {words}"
            )
    if len(cells := rows(cosines, site=site)):
        title = f"Cosines of probe directions, of halves of the programs ({site})"
        made["cosines"] = figures.cosine_curves(cells, title)
    return made


def _interchange_figures(run: Run) -> "dict[str, Figure]":
    made = {}
    if len(chosen := rows(read_table(run, "interchange"), subset="correct", run="patched")):
        for (variable, steps), cells in chosen.groupby(["variable", "steps"]):
            made[f"interchange_{file_name(variable)}_{steps}"] = figures.transfer_map(
                cells,
                title=f"What the subspace that a probe of {plain(variable)} reads carries: programs of "
                f"{steps_words(steps)}, {SUBSETS['correct']}",
            )
    return made


def _lens_figures(run: Run) -> "dict[str, Figure]":
    looked, brewed, made = read_table(run, "lens"), read_table(run, "outcomes"), {}
    for subset in _SINGLE:
        if len(chosen := rows(looked, subset=subset, role="answer")):
            made[f"lens_{subset}"] = figures.layer_curves(
                chosen,
                rows="decode",
                columns="variable",
                title=f"What the model itself could say after each block at the answer position, {SUBSETS[subset]}",
                y_title="share right",
                reference=chosen.assign(**{f"mean_{group}": chosen["shuffled"] for group in GROUPS}),
            )
    if len(brewed):
        for variable, cells in brewed.groupby("variable", sort=False):
            made[f"outcomes_{file_name(variable)}"] = figures.outcomes(
                cells, columns="steps", title=f"What becomes of {plain(variable)} at the answer position"
            )
    return made


def _difference_figures(run: Run) -> "dict[str, Figure]":
    """Of the calls answered correctly, or of all where no onset is in both groups among those."""
    table = read_table(run, "onset_differences")
    known = table[table["difference"].notna()] if len(table) else table
    for subset in BEST:
        if len(chosen := rows(known, subset=subset)):
            named = [
                f"{plain(row.variable)} at {plain(row.role)}, {steps_words(row.steps)}" for row in chosen.itertuples()
            ]
            return {
                "onset_differences": figures.differences(
                    chosen.assign(row=named),
                    rows="row",
                    colour="measure",
                    title=f"How many blocks later in {GROUPS[0]} than in {GROUPS[1]}, {SUBSETS[subset]}",
                    x_title="blocks",
                )
            }
    return {}
