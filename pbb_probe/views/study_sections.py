"""The sections of a study's report, in a paper's order: figures with what to see in them, and tables."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pbb_probe.programs.program import GROUPS
from pbb_probe.store.run import Run
from pbb_probe.views import figures, study_tables
from pbb_probe.views.figures.style import plain
from pbb_probe.views.report import Section, Shown, Table
from pbb_probe.views.run_tables import control_rows, measured_rows, read_table, rows
from pbb_probe.views.words import captions, titles
from pbb_probe.views.words import report as words
from pbb_probe.views.words.phrases import SUBSETS, steps_words

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

COMPARED = {"recovery": "patching", "probe accuracy": "probing", "what places carry": "transfer_differences"}
"""The tables in which the groups are compared place by place, by what they are of."""
BEST = ("matched", "correct", "all")
"""The subsets, that with the fewest wrong answers first."""
_SINGLE = BEST[1:]  # those of single calls or pairs, and not of what they are matched with


def sections(run: Run) -> list[Section]:
    """All of them; what was not measured has no figures in them.

    Figures: `behaviour`, `onsets_SUBSET`, `transfer_STEPS_SUBSET`, `recovery_SUBSET`, `patching_SWAP_SUBSET`,
    `probes_SUBSET`, `selectivity_SUBSET`, `across_SUBSET`, `cosines`, `interchange_VARIABLE_STEPS`, `lens_SUBSET`,
    `outcomes_VARIABLE`, `onset_differences`.
    """
    return [make(run) for make in (_behaviour, _where, _used, _read, _subspaces, _lens, _differences)]


def _behaviour(run: Run) -> Section:
    """How often calls are answered correctly, of every model."""
    behaviour = read_table(run, "behaviour", "behaviour")
    table = behaviour.drop(columns="programs").assign(seen=behaviour["seen"].map({True: "shown", False: "never shown"}))
    table = table.rename(columns={"seen": "answer was", "mean": "right"})
    finetuned = rows(table, model="finetuned").drop(columns=["model", "family", "forced"], errors="ignore")
    return Section(
        *words.BEHAVIOUR,
        figures=[
            _shown("behaviour", figures.behaviour(behaviour), captions.see_behaviour(behaviour), words.HOW_BEHAVIOUR)
        ],
        tables=[Table(words.FINETUNED_MODEL, finetuned), Table(words.ALL_MODELS, table, folded=True)],
    )


def _where(run: Run) -> Section:
    """Onsets by use and by reading, and the transfer map."""
    onsets, transfer = read_table(run, "onsets"), read_table(run, "transfer")
    direct = captions.direct_answers(read_table(run, "behaviour", "behaviour"))
    meaningful = [(row.group, row.steps) for row in direct.itertuples() if row.above]
    shown, tables = [], []
    for subset, cells in _of_subsets(onsets, BEST):
        figure = figures.onsets(cells, title=titles.ONSETS.format(calls=SUBSETS[subset]))
        shown.append(_shown(f"onsets_{subset}", figure, captions.see_onsets(cells, meaningful), words.HOW_ONSETS))
        title = words.ONSETS_OF.format(calls=SUBSETS[subset])
        tables.append(Table(title, study_tables.onsets_in_short(cells).drop(columns="calls")))
    for subset, cells in _of_subsets(transfer):
        for steps, of_steps in cells.groupby("steps"):
            if (carried := measured_rows(of_steps)).empty:
                continue
            see = captions.see_onsets(rows(onsets, subset=subset, steps=steps), meaningful, ways=["used"])
            figure = figures.transfer_map(
                carried, title=titles.TRANSFER.format(steps=steps_words(steps), calls=SUBSETS[subset])
            )
            shown.append(
                _shown(f"transfer_{steps}_{subset}", figure, see, captions.see_transfer(of_steps), words.HOW_TRANSFER)
            )
    every = Table(words.ALL_ONSETS, study_tables.onsets_in_short(onsets), folded=True)
    return Section(*words.WHERE, figures=_folded(shown), tables=[*tables[:1], *_filled(every)])


def _used(run: Run) -> Section:
    """Recovery, and the transfer map beside its controls."""
    patching, transfer = read_table(run, "patching"), read_table(run, "transfer")
    shown = []
    for subset, cells in _of_subsets(patching):
        site = cells["site"].iloc[0]
        of_site = rows(cells, site=site)
        figure = figures.layer_curves(
            of_site.assign(swap=of_site["swap"] + " swapped"),
            rows="swap",
            columns="role",
            title=titles.RECOVERY.format(site=site, calls=SUBSETS[subset]),
            y_title="recovery",
        )
        see = captions.see_recovery(of_site), captions.see_differences(of_site)
        shown.append(_shown(f"recovery_{subset}", figure, *see, words.HOW_RECOVERY))
        for swap, of_swap in cells.groupby("swap", sort=False):
            figure = figures.patching_heatmap(of_swap, title=titles.PATCHING.format(swap=swap, calls=SUBSETS[subset]))
            see_swap = captions.see_differences(of_swap)
            shown.append(_shown(f"patching_{swap}_{subset}", figure, see_swap, words.HOW_PATCHING))
    tables = _filled(
        Table(words.CONTROLS_BESIDE, study_tables.controls_side_by_side(transfer)),
        Table(words.CONTROLS, study_tables.controls(transfer), folded=True),
    )
    return Section(*words.USED, figures=_folded(shown), tables=tables)


def _read(run: Run) -> Section:
    """Probes beside their controls, across the groups, and the cosines of their directions, of the first site."""
    probing, controls, across, cosines = (
        read_table(run, name) for name in ("probing", "probing_controls", "probing_across", "cosines")
    )
    shown = []
    site = "" if controls.empty else controls["site"].iloc[0]
    for subset, cells in _of_subsets(rows(controls, site=site)):
        of, compared = {"site": site, "calls": SUBSETS[subset]}, rows(probing, subset=subset, site=site)
        figure = figures.probe_curves(cells, titles.PROBES.format(**of), differences=compared)
        see = captions.see_probes(cells), captions.see_differences(compared)
        shown.append(_shown(f"probes_{subset}", figure, *see, words.HOW_PROBES))
        if len(control_rows(cells, "selectivity")):
            figure = figures.probe_gains(cells, title=titles.SELECTIVITY.format(**of))
            shown.append(_shown(f"selectivity_{subset}", figure, captions.see_gains(cells), words.HOW_SELECTIVITY))
        if len(matrix := rows(across, subset=subset, site=site)):
            figure = figures.across_heatmap(matrix, titles.ACROSS.format(**of))
            shown.append(_shown(f"across_{subset}", figure, captions.see_across(matrix), words.HOW_ACROSS))
    if len(cells := rows(cosines, site=site)):
        figure = figures.cosine_curves(cells, titles.COSINES.format(site=site))
        shown.append(_shown("cosines", figure, captions.see_cosines(cells), words.HOW_COSINES))
    return Section(*words.READ, figures=_folded(shown))


def _subspaces(run: Run) -> Section:
    """What the subspaces that probes read carry."""
    shown, table = [], rows(read_table(run, "interchange"), subset="correct")
    for (variable, steps), cells in table.groupby(["variable", "steps"]) if len(table) else ():
        if len(carried := measured_rows(cells)):
            title = titles.INTERCHANGE.format(
                variable=plain(variable), steps=steps_words(steps), calls=SUBSETS["correct"]
            )
            figure = figures.transfer_map(carried, title=title)
            name = f"interchange_{_file_name(variable)}_{steps}"
            shown.append(_shown(name, figure, captions.see_interchange(cells), words.HOW_INTERCHANGE))
    return Section(*words.SUBSPACES, figures=shown)


def _lens(run: Run) -> Section:
    """What the model itself could say at the answer position, and what becomes of it."""
    shown, outcomes = [], read_table(run, "outcomes")
    for subset, cells in _of_subsets(rows(read_table(run, "lens"), role="answer")):
        figure = figures.layer_curves(
            cells,
            rows="decode",
            columns="variable",
            title=titles.LENS.format(calls=SUBSETS[subset]),
            y_title="share right",
            reference=cells.assign(**{f"mean_{group}": cells["shuffled"] for group in GROUPS}),
        )
        shown.append(_shown(f"lens_{subset}", figure, captions.see_lens(cells), words.HOW_LENS))
    for variable, cells in outcomes.groupby("variable", sort=False) if len(outcomes) else ():
        figure = figures.outcomes(cells, columns="steps", title=titles.OUTCOMES.format(variable=plain(variable)))
        name = f"outcomes_{_file_name(variable)}"
        shown.append(_shown(name, figure, captions.see_outcomes(cells), words.HOW_OUTCOMES))
    return Section(*words.LENS, figures=_folded(shown))


def _differences(run: Run) -> Section:
    """Differences of onsets, and the places where the groups differ.

    The figure is of the calls answered correctly, or of all where no onset is in both groups among those.
    """
    onsets = read_table(run, "onset_differences")
    places = study_tables.differing_places({what: read_table(run, name) for what, name in COMPARED.items()})
    shown = []
    for subset, cells in list(_of_subsets(onsets[onsets["difference"].notna()] if len(onsets) else onsets, BEST))[:1]:
        named = [f"{plain(row.variable)} at {plain(row.role)}, {steps_words(row.steps)}" for row in cells.itertuples()]
        figure = figures.differences(
            cells.assign(row=named),
            rows="row",
            colour="measure",
            title=titles.ONSET_DIFFERENCES.format(calls=SUBSETS[subset]),
            x_title="blocks",
        )
        see = captions.see_onset_differences(cells)
        shown.append(_shown("onset_differences", figure, see, words.HOW_ONSET_DIFFERENCES))
    title, text = words.DIFFERENCES
    tables = _filled(
        Table(words.DIFFERING_PLACES, places, len(places) > 12),
        Table(words.ONSET_DIFFERENCES, study_tables.onset_differences_in_short(onsets), folded=True),
    )
    return Section(title, text + words.NO_PLACE_DIFFERS * (not len(places)), figures=shown, tables=tables)


def _of_subsets(table: "pd.DataFrame", subsets: Sequence[str] = _SINGLE) -> "Iterator[tuple[str, pd.DataFrame]]":
    """Each subset that the table has rows of, with these."""
    return ((subset, cells) for subset in subsets if len(cells := rows(table, subset=subset)))


def _shown(name: str, figure: "Figure", *caption: str) -> Shown:
    return Shown(name, figure, html.unescape(figure.layout.title.text or ""), " ".join(caption))


def _folded(shown: Sequence[Shown]) -> list[Shown]:
    """The same, those of a family folded but for the first subset that it has figures of."""
    first: dict[str, str] = {}

    def is_other(name: str) -> bool:
        family, subset = name.partition("_")[0], name.rpartition("_")[2]
        return subset in SUBSETS and first.setdefault(family, subset) != subset

    return [replace(figure, folded=is_other(figure.name)) for figure in shown]


def _file_name(variable: str) -> str:
    """A variable's name in a file's."""
    return re.sub(r"\W", "_", variable)


def _filled(*tables: Table) -> list[Table]:
    return [table for table in tables if len(table.frame)]
