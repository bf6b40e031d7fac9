"""The sections of a study's report, in a paper's order: figures with what to see in them, and tables."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pbb_probe.store.run import Run
from pbb_probe.views import figures, study_tables
from pbb_probe.views.evaluated import also_closed, closed, read_gate
from pbb_probe.views.figures.style import plain
from pbb_probe.views.headline import tells_apart
from pbb_probe.views.pairs import groups_of, pairs_of
from pbb_probe.views.report import Section, Shown, Table
from pbb_probe.views.run_tables import control_rows, measured_rows, read_table, rows
from pbb_probe.views.words import answers, captions, titles
from pbb_probe.views.words import report as words
from pbb_probe.views.words.phrases import SUBSETS, steps_words

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

COMPARED = {"recovery": "patching", "probe accuracy": "probing", "what places carry": "transfer_differences"}
"""The tables in which the groups are compared place by place, by what they are of."""
EFFECTIVE, RECITED = "effective/effective", "effective/recited"
"""The tables of effective programs, and of what becomes of those that are recalled, where a run has them."""
CODE_ADDS, LEAK = "comparison/code_adds", "comparison/probing_leak"
"""The tables of what the code adds, and of what probes know of functions they have seen, where a run has them."""
BEST = ("decisive", "matched", "correct", "all")
"""The subsets, that which counts first: all but the first say what is answered, and not that it is evaluated."""
_SINGLE = ("decisive", "correct", "all")  # those of single calls or pairs, and not of what they are matched with


def sections(run: Run) -> list[Section]:
    """All of them; what was not measured has no figures in them.

    Where a group's programs of some steps are not evaluated, a sentence stands in place of their map and onsets.

    Figures: `behaviour`, `effective`, `recited`, `onsets_SUBSET`, `transfer_STEPS_SUBSET`, `recovery_SUBSET`,
    `patching_SWAP_SUBSET`, `probes_SUBSET`, `selectivity_SUBSET`, `across_SUBSET`, `cosines`,
    `interchange_VARIABLE_STEPS`, `lens_SUBSET`, `outcomes_VARIABLE`, `onset_differences`.
    """
    return [make(run) for make in (_behaviour, _where, _used, _read, _subspaces, _lens, _differences)]


def _behaviour(run: Run) -> Section:
    """How often calls are answered correctly, of every model, and what program the answers fit."""
    behaviour = read_table(run, "behaviour", "behaviour")
    table = behaviour.assign(seen=behaviour["seen"].map({True: "shown", False: "never shown"}))
    table = table.rename(columns={"seen": "answer was", "mean": "right"})
    if not tells_apart(behaviour):
        table = table.drop(columns="programs")
    finetuned = rows(table, model="finetuned").drop(columns=["model", "family", "forced"], errors="ignore")
    how = words.HOW_DECISIVE_BEHAVIOUR if tells_apart(behaviour) else words.HOW_BEHAVIOUR
    see = answers.see_behaviour(behaviour, read_gate(run))
    shown = [_shown("behaviour", figures.behaviour(behaviour), see, how)]
    if run.holds(f"{EFFECTIVE}.csv") and len(programs := run.table(EFFECTIVE)):
        shown.append(
            _shown("effective", figures.effective(programs), answers.see_effective(programs), words.HOW_EFFECTIVE)
        )
    if run.holds(f"{RECITED}.csv") and len(recited := run.table(RECITED)):
        figure = figures.effective(recited)
        shown.append(_shown("recited", figure, answers.see_recited(recited), words.HOW_RECITED))
    tables = [Table(words.FINETUNED_MODEL, finetuned), Table(words.ALL_MODELS, table, folded=True)]
    if run.holds(f"{CODE_ADDS}.csv") and len(adds := run.table(CODE_ADDS)):
        tables.insert(0, Table(answers.see_code_adds(adds).rstrip("."), adds.rename(columns={"what": "accuracy of"})))
    return Section(*words.BEHAVIOUR, figures=shown, tables=tables)


def _where(run: Run) -> Section:
    """Onsets by use and by reading, and the transfer map."""
    onsets, transfer = read_table(run, "onsets"), read_table(run, "transfer")
    gate = read_gate(run)
    silent = closed(gate)
    direct = answers.direct_answers(read_table(run, "behaviour", "behaviour"), gate)
    meaningful = [(row.group, row.steps) for row in direct.itertuples() if row.above]
    shown, tables = [], []
    for subset, cells in _of_subsets(onsets, BEST):
        here = also_closed(gate, cells) if subset == BEST[0] else gate
        figure = figures.onsets(cells, title=titles.ONSETS.format(calls=SUBSETS[subset]), gate=here)
        shown.append(_shown(f"onsets_{subset}", figure, captions.see_onsets(cells, meaningful), words.HOW_ONSETS))
        title = words.ONSETS_OF.format(calls=SUBSETS[subset])
        tables.append(Table(title, study_tables.onsets_in_short(cells).drop(columns="calls")))
    for subset, cells in _of_subsets(transfer):
        here = also_closed(gate, rows(onsets, subset=subset)) if subset == BEST[0] else gate
        for steps, of_steps in cells.groupby("steps"):
            known = _evaluated(of_steps, here)
            if (carried := measured_rows(known)).empty:
                continue
            see = captions.see_onsets(rows(onsets, subset=subset, steps=steps), meaningful, ways=["used"])
            title = titles.TRANSFER.format(steps=steps_words(steps), calls=SUBSETS[subset])
            figure = figures.transfer_map(carried, title, gate=None if here is None else rows(here, steps=steps))
            see_map = captions.see_transfer(known)
            shown.append(_shown(f"transfer_{steps}_{subset}", figure, see, see_map, words.HOW_TRANSFER))
    every = Table(words.ALL_ONSETS, study_tables.onsets_in_short(onsets), folded=True)
    terms = [
        (words.NOT_EVALUATED.format(group=row.group, steps=steps_words(row.steps)), row.sentence)
        for row in silent.itertuples()
    ]
    return Section(*words.WHERE, terms=terms, figures=_folded(shown, gate), tables=[*tables[:1], *_filled(every)])


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
    return Section(*words.USED, figures=_folded(shown, read_gate(run)), tables=tables)


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
    leak = study_tables.leak(run.table(LEAK)) if run.holds(f"{LEAK}.csv") else cosines.iloc[:0]
    tables = _filled(Table(words.LEAK, leak))
    return Section(*words.READ, figures=_folded(shown, read_gate(run)), tables=tables)


def _subspaces(run: Run) -> Section:
    """What the subspaces that probes read carry."""
    shown, gate, every = [], read_gate(run), read_table(run, "interchange")
    subset = next((name for name in study_tables.COUNTING if len(rows(every, subset=name))), "correct")
    table = _evaluated(rows(every, subset=subset), gate)
    for (variable, steps), cells in table.groupby(["variable", "steps"]) if len(table) else ():
        if len(carried := measured_rows(cells)):
            title = titles.INTERCHANGE.format(variable=plain(variable), steps=steps_words(steps), calls=SUBSETS[subset])
            figure = figures.transfer_map(carried, title, gate=None if gate is None else rows(gate, steps=steps))
            name = f"interchange_{_file_name(variable)}_{steps}"
            shown.append(_shown(name, figure, captions.see_interchange(cells), words.HOW_INTERCHANGE))
    return Section(*words.SUBSPACES, figures=shown)


def _lens(run: Run) -> Section:
    """What the model itself could say at the answer position, and what becomes of it."""
    shown, outcomes = [], read_table(run, "outcomes")
    of_first = run.holds("probing/lens.nc") and "first_token" in run.array("probing/lens").attrs
    how = words.HOW_LENS + words.FIRST_TOKEN * of_first
    for subset, cells in _of_subsets(rows(read_table(run, "lens"), role="answer")):
        figure = figures.layer_curves(
            cells,
            rows="decode",
            columns="variable",
            title=titles.LENS.format(calls=SUBSETS[subset]),
            y_title="share right",
            reference=cells.assign(**{f"mean_{group}": cells["shuffled"] for group in groups_of(cells)}),
        )
        shown.append(_shown(f"lens_{subset}", figure, captions.see_lens(cells), how))
    for variable, cells in outcomes.groupby("variable", sort=False) if len(outcomes) else ():
        figure = figures.outcomes(cells, columns="steps", title=titles.OUTCOMES.format(variable=plain(variable)))
        name = f"outcomes_{_file_name(variable)}"
        shown.append(_shown(name, figure, captions.see_outcomes(cells), words.HOW_OUTCOMES))
    return Section(*words.LENS, figures=_folded(shown, read_gate(run)))


def _differences(run: Run) -> Section:
    """Differences of onsets, and the places where the groups differ, two by two.

    The figure is of the calls that count most, of which an onset is in two groups.
    """
    onsets = read_table(run, "onset_differences")
    places = study_tables.differing_places({what: read_table(run, name) for what, name in COMPARED.items()})
    shown = []
    for subset, cells in list(_of_subsets(onsets[onsets["difference"].notna()] if len(onsets) else onsets, BEST))[:1]:
        pairs = pairs_of(cells, of="layer")
        named = [
            f"{plain(row.variable)} at {plain(row.role)}, {steps_words(row.steps)}"
            + (f"<br>{row.first}, {row.second}" if len(pairs) > 1 else "")
            for row in cells.itertuples()
        ]
        title = titles.PAIRED_ONSET_DIFFERENCES
        if len(pairs) == 1:
            title = titles.ONSET_DIFFERENCES.replace("{first}", pairs[0][0]).replace("{second}", pairs[0][1])
        figure = figures.differences(
            cells.assign(row=named),
            rows="row",
            colour="measure",
            title=title.format(calls=SUBSETS[subset]),
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


def _evaluated(table: "pd.DataFrame", gate: "pd.DataFrame | None") -> "pd.DataFrame":
    """The rows of what is evaluated, or of everything where there is no gate."""
    silent = {(row.group, row.steps) for row in closed(gate).itertuples()}
    if not silent or table.empty:
        return table
    return table[[kind not in silent for kind in zip(table["group"], table["steps"], strict=True)]]


def _of_subsets(table: "pd.DataFrame", subsets: Sequence[str] = _SINGLE) -> "Iterator[tuple[str, pd.DataFrame]]":
    """Each subset that the table has rows of, with these."""
    return ((subset, cells) for subset in subsets if len(cells := rows(table, subset=subset)))


def _shown(name: str, figure: "Figure", *caption: str) -> Shown:
    return Shown(name, figure, html.unescape(figure.layout.title.text or ""), " ".join(caption))


def _folded(shown: Sequence[Shown], gate: "pd.DataFrame | None" = None) -> list[Shown]:
    """The same, those of a family folded but for the first subset that it has figures of.

    Where there is a gate only decisive calls are not folded.
    """
    first: dict[str, str] = {}

    def is_other(name: str) -> bool:
        family, subset = name.partition("_")[0], name.rpartition("_")[2]
        headline = BEST[0] if gate is not None else first.setdefault(family, subset)
        return subset in SUBSETS and headline != subset

    return [replace(figure, folded=is_other(figure.name)) for figure in shown]


def _file_name(variable: str) -> str:
    """A variable's name in a file's."""
    return re.sub(r"\W", "_", variable)


def _filled(*tables: Table) -> list[Table]:
    return [table for table in tables if len(table.frame)]
