"""The sections of a study's report: its figures with what to see in them, and its tables."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pbb_probe.store.run import Run
from pbb_probe.views import captions, study_tables
from pbb_probe.views.report import Section, Shown, Table
from pbb_probe.views.study_figures import BEST, SUBSETS, file_name, read_table, rows, title_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COMPARED = {"recovery": "patching", "probe accuracy": "probing", "what places carry": "transfer_differences"}
"""The tables in which the groups are compared place by place, by what they are of."""


def behaviour_section(run: Run, made: "Mapping[str, Figure]") -> Section:
    """How often calls are answered correctly, of every model."""
    table = read_table(run, "behaviour", "behaviour").drop(columns="programs")
    see = captions.see_behaviour(table)
    table["seen"] = table["seen"].map({True: "shown", False: "never shown"})
    table = table.rename(columns={"seen": "answer was", "mean": "right"})
    finetuned = rows(table, model="finetuned").drop(columns=["model", "family", "forced"], errors="ignore")
    how = "A bar is the share of calls answered correctly, with its interval; the dotted line is chance."
    return Section(
        "Behaviour",
        "A map of layers means something only where answers are better than chance and than those of the models that "
        "were not taught the programs.",
        figures=_shown(made, {"behaviour": f"{see} {how}"}),
        tables=[Table("The finetuned model", finetuned), Table("All models", table, folded=True)],
    )


def where_section(run: Run, made: "Mapping[str, Figure]") -> Section:
    """Onsets by use and by reading, and the transfer map."""
    onsets, transfer = read_table(run, "onsets"), read_table(run, "transfer")
    direct = captions.direct_answers(read_table(run, "behaviour", "behaviour"))
    meaningful = [(row.group, row.steps) for row in direct.itertuples() if row.above]
    told = {}
    how_onsets = (
        "Filled marks say in which block a variable is used, open ones after which block it is read, with their "
        "intervals; what is read need not be used."
    )
    for subset in _main_first(made, "onsets"):
        told[f"onsets_{subset}"] = f"{captions.see_onsets(rows(onsets, subset=subset), meaningful)} {how_onsets}"
    how_transfer = (
        "A bar a layer: the answers of pairs of runs after one activation of the other run was put in there, by what "
        "came with it. Layers from top to bottom. Where the colour of the program ends at the name, the program has "
        "left it."
    )
    for subset in _main_first(made, "transfer"):
        for steps in sorted(set(rows(transfer, subset=subset, run="patched")["steps"])):
            of = {"subset": subset, "steps": steps}
            see = captions.see_onsets(rows(onsets, **of), meaningful, ways=["used"])
            told[f"transfer_{steps}_{subset}"] = f"{see} {captions.see_transfer(rows(transfer, **of))} {how_transfer}"
    main = next(iter(_main_first(made, "onsets")), "")
    tables = (
        [
            Table(
                f"Onsets with their intervals, {SUBSETS[main]}",
                study_tables.onsets_in_short(rows(onsets, subset=main)).drop(columns="calls"),
            )
        ]
        if main
        else []
    )
    return Section(
        "Where: by use and by reading",
        "A variable is used in the block in which it leaves its place or is written, by the transfer map or by "
        "recovery. It is read after the block from which on a probe or the logit lens tells it at the answer position. "
        "In the transfer map one activation of a run of another program on another input is put into a run, and the "
        "answer says what came with it: the program, the input, everything, the state after a step, the steps up to it "
        "or after it. Each of these leads to another answer; other: the answer is none of them.",
        figures=_shown(made, told),
        tables=[
            *tables,
            *_filled(Table("Onsets of all subsets of calls", study_tables.onsets_in_short(onsets), folded=True)),
        ],
    )


def used_section(run: Run, made: "Mapping[str, Figure]") -> Section:
    """Recovery, and the transfer map beside its controls."""
    patching, transfer = read_table(run, "patching"), read_table(run, "transfer")
    told = {}
    for subset in _main_first(made, "recovery"):
        cells = rows(patching, subset=subset)
        of_site = cells[cells["site"] == cells["site"].iloc[0]]
        told[f"recovery_{subset}"] = (
            f"{captions.see_recovery(of_site)} {captions.see_differences(of_site)} Where the curve at the name falls "
            "and the one at the answer rises, the program moves. A filled marker: the groups differ there."
        )
        for swap in dict.fromkeys(cells["swap"]):
            see = captions.see_differences(rows(cells, swap=swap))
            how = "On the right the difference of the groups, starred where adjusted p < 0.05."
            told[f"patching_{swap}_{subset}"] = f"{see} {how}"
    return Section(
        "What is used: activation patching and controls of the transfer map",
        "One activation of the clean run is put into the corrupted run. With the input swapped it shows where the "
        "input is carried, with the program swapped where the program is. Recovery 1 restores the clean answer, 0 "
        "changes nothing.",
        figures=_shown(made, told),
        tables=_filled(
            Table(
                "The transfer map beside its controls: the share of all pairs that follow each hypothesis at the place "
                "where most do",
                study_tables.controls_side_by_side(transfer),
            ),
            Table("These places with their intervals", study_tables.controls(transfer), folded=True),
        ),
    )


def read_section(run: Run, made: "Mapping[str, Figure]") -> Section:
    """Probes beside their controls, across the groups, and the cosines of their directions."""
    probing, controls, across, cosines = (
        read_table(run, name) for name in ("probing", "probing_controls", "probing_across", "cosines")
    )
    told = {}
    for subset in _main_first(made, "probes"):
        of = {"subset": subset, "site": controls["site"].iloc[0]}
        see = f"{captions.see_probes(rows(controls, **of))} {captions.see_differences(rows(probing, **of))}"
        told[f"probes_{subset}"] = (
            f"{see} Accuracy by layer for each place (rows) and target (columns); thin lines are controls on with_io "
            "prompts. A filled marker: the groups differ there."
        )
        if f"selectivity_{subset}" in made:
            see = captions.see_gains(rows(controls, **of))
            told[f"selectivity_{subset}"] = f"{see} Accuracy minus that on the control task (Hewitt and Liang 2019)."
        if f"across_{subset}" in made:
            told[f"across_{subset}"] = (
                f"{captions.see_across(rows(across, **of))} If both groups use the same code in the same place, probes "
                "of either read the other as well as its own."
            )
    if "cosines" in made:
        told["cosines"] = (
            f"{captions.see_cosines(rows(cosines, site=cosines['site'].iloc[0]))} Between the groups they can be no "
            "higher than within them."
        )
    return Section(
        "What can be read: linear probes",
        "Probes are fitted on with_io programs and read with_io programs that were held out, and without_io programs. "
        "Controls: a control task (selectivity), values dealt anew among the prompts of a program (permutation) or "
        "among all of them (shuffled), the most common value (chance), states under another meaning of the operators "
        "(relabelled), the untrained and the base model, and the embeddings of the places' tokens alone. That "
        "something can be read does not say that it is used.",
        figures=_shown(made, told),
    )


def subspaces_section(run: Run, made: "Mapping[str, Figure]") -> Section:
    """What the subspaces that probes read carry."""
    table, told = read_table(run, "interchange"), {}
    if len(chosen := rows(table, subset="correct")):
        for (variable, steps), cells in chosen.groupby(["variable", "steps"]):
            see = captions.see_interchange(cells)
            told[f"interchange_{file_name(variable)}_{steps}"] = f"{see} Layers from top to bottom."
    return Section(
        "Is it read because it is used? Probes' subspaces put from one run into another",
        "Only what a probe reads is taken from a run of another program on another input, as in the transfer map. "
        "Where the answer keeps to its own run (nothing), the probe reads what does not decide the answer.",
        figures=_shown(made, told),
    )


def lens_section(run: Run, made: "Mapping[str, Figure]") -> Section:
    """What the model itself could say at the answer position, and what becomes of it."""
    looked, brewed, told = read_table(run, "lens"), read_table(run, "outcomes"), {}
    for subset in _main_first(made, "lens"):
        told[f"lens_{subset}"] = (
            f"{captions.see_lens(rows(looked, subset=subset, role='answer'))} Dotted: values of other prompts, what "
            "comes by luck."
        )
    for variable in dict.fromkeys(brewed.get("variable", ())):
        see = captions.see_outcomes(rows(brewed, variable=variable))
        told[f"outcomes_{file_name(variable)}"] = f"{see} The fainter bars are what comes by luck."
    return Section(
        "What the model itself could say: the lens and the outcomes",
        "logit: the residual stream after a block goes straight to the final norm and unembedding. stripped: the "
        "blocks above run too, behind nothing but the residual's own token (context-stripped decoding, arXiv "
        "2606.17648). Resolved: probe and stripped decoding are both right at some layer, and so is the answer; "
        "overprocessed: the answer is not; misresolved and unresolved: they never are both right, and the last quarter "
        "of the layers is sure of some value or is not; no brewing: no probe is ever right.",
        figures=_shown(made, told),
    )


def differences_section(run: Run, made: "Mapping[str, Figure]") -> Section:
    """Differences of onsets, and the places where the groups differ."""
    onsets = read_table(run, "onset_differences")
    places = study_tables.differing_places({what: read_table(run, name) for what, name in COMPARED.items()})
    told = {}
    if "onset_differences" in made:
        known = onsets[onsets["difference"].notna()]
        subset = next(name for name in BEST if name in set(known["subset"]))
        told["onset_differences"] = (
            f"{captions.see_onset_differences(rows(known, subset=subset))} A mark right of zero: the onset is later in "
            "with_io."
        )
    none = "" if len(places) else " No single place differs after adjustment."
    return Section(
        "Differences between the groups",
        "Onsets by blocks, with p from permuting programs. That the onsets of both groups fall on the same block does "
        "not show that they are equal: a block is coarse. Places of one measure are compared one by one, with p "
        f"adjusted over all of them.{none}",
        figures=_shown(made, told),
        tables=_filled(
            Table(
                "Places where the groups differ (adjusted p < 0.05), calls answered correctly", places, len(places) > 12
            ),
            Table("Differences of onsets", study_tables.onset_differences_in_short(onsets), folded=True),
        ),
    )


def _main_first(made: Iterable[str], family: str) -> list[str]:
    """The subsets that a family of figures was drawn of, that with the fewest wrong answers first."""
    names = [name for name in made if name.startswith(f"{family}_")]
    return [subset for subset in BEST if any(name.endswith(f"_{subset}") for name in names)]


def _shown(made: "Mapping[str, Figure]", told: Mapping[str, str]) -> list[Shown]:
    """The figures that something is said of; of those of several subsets all but the first are folded."""
    subsets = [name.rpartition("_")[2] for name in told]
    main: dict[str, str] = {}
    for name, subset in zip(told, subsets, strict=True):
        if subset in SUBSETS:
            main.setdefault(name.partition("_")[0], subset)
    return [
        Shown(
            name,
            made[name],
            title_of(made[name]),
            caption,
            subset in SUBSETS and main[name.partition("_")[0]] != subset,
        )
        for (name, caption), subset in zip(told.items(), subsets, strict=True)
        if name in made
    ]


def _filled(*tables: Table) -> list[Table]:
    return [table for table in tables if len(table.frame)]


SECTIONS = (
    behaviour_section,
    where_section,
    used_section,
    read_section,
    subspaces_section,
    lens_section,
    differences_section,
)
"""In a paper's order."""
