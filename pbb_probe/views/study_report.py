"""The report of a study's run: its tables turned into figures, PNG files and words."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pbb_probe.comparison.located import TABLES
from pbb_probe.comparison.verdict import describe
from pbb_probe.programs.corpus import GROUPS
from pbb_probe.views import figures
from pbb_probe.views.images import save_pngs
from pbb_probe.views.report import Section, write_report

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

_SUBSETS = {"all": "all calls", "correct": "only calls answered correctly"}


def study_verdict(run: Path) -> list[str]:
    """The paragraphs of `describe` for a finished run."""
    compared = {"recovery": "patching", "probe accuracy": "probing", "what places carry": "transfer_differences"}
    onsets, evaluation, onset_differences = (read_table(run, name) for name in TABLES)
    return describe(
        read_table(run, "behaviour", "behaviour"),
        onsets,
        evaluation,
        onset_differences,
        {what: read_table(run, name) for what, name in compared.items()},
    )


def read_table(run: Path, name: str, step: str = "comparison") -> "pd.DataFrame":
    """A table of a finished step; one that was written without columns is empty."""
    import pandas as pd

    try:
        return pd.read_csv(run / step / f"{name}.csv")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def study_figures(run: Path) -> "dict[str, Figure]":
    """The figures of a finished run by file name."""
    import pandas as pd

    behaviour = pd.read_csv(run / "behaviour" / "behaviour.csv")
    probing = pd.read_csv(run / "comparison" / "probing.csv")
    patching = pd.read_csv(run / "comparison" / "patching.csv")
    transfer = pd.read_csv(run / "comparison" / "transfer.csv")
    onsets = read_table(run, "onsets")
    made = {"behaviour": figures.behaviour(behaviour), **_probe_figures(run, probing), **_lens_figures(run)}
    for subset, words in {**_SUBSETS, "matched": "pairs of which all four calls are answered correctly"}.items():
        if len(onsets) and len(chosen := onsets[onsets["subset"] == subset]):
            made[f"onsets_{subset}"] = figures.onsets(chosen, title=f"Where each variable is used and read, {words}")
    for subset, words in _SUBSETS.items():
        chosen = patching[(patching["subset"] == subset) & (patching["site"] == patching["site"].iloc[0])]
        if len(chosen):
            made[f"recovery_{subset}"] = figures.layer_curves(
                chosen.assign(swap=chosen["swap"] + " swapped"),
                rows="swap",
                columns="role",
                title=f"Recovery when {chosen['site'].iloc[0]} is patched, {words}",
                y_title="recovery",
            )
        for swap in dict.fromkeys(patching["swap"]):
            chosen = patching[(patching["subset"] == subset) & (patching["swap"] == swap)]
            if len(chosen):
                made[f"patching_{swap}_{subset}"] = figures.patching_heatmap(
                    chosen, title=f"Recovery by site, layer and role: {swap} swapped, {words}"
                )
        for steps, chosen in transfer[transfer["subset"] == subset].groupby("steps"):
            made[f"transfer_{steps}_{subset}"] = figures.transfer_map(
                chosen, title=f"What each place carries: programs of {steps} step{'s' * (steps != 1)}, {words}"
            )
    interchange = pd.read_csv(run / "comparison" / "interchange.csv")
    some = interchange[interchange["subset"] == "correct"]
    for (variable, steps), chosen in some.groupby(["variable", "steps"]):
        made[f"interchange_{variable}_{steps}"] = figures.transfer_map(
            chosen,
            title=f"What the subspace that a probe of {variable} reads carries: programs of {steps} "
            f"step{'s' * (steps != 1)}, {_SUBSETS['correct']}",
        )
    return made


def _probe_figures(run: Path, probing: "pd.DataFrame") -> "dict[str, Figure]":
    """Of the first site that was probed."""
    import pandas as pd

    controls = pd.read_csv(run / "comparison" / "probing_controls.csv")
    across = pd.read_csv(run / "comparison" / "probing_across.csv")
    cosines = pd.read_csv(run / "comparison" / "cosines.csv")
    site, made = controls["site"].iloc[0], {}
    for subset, words in _SUBSETS.items():
        chosen = controls[(controls["subset"] == subset) & (controls["site"] == site)]
        if chosen.empty:
            continue
        made[f"probes_{subset}"] = figures.probe_curves(
            chosen,
            f"What a linear probe reads after each block ({site}), {words}",
            differences=probing[probing["subset"] == subset],
        )
        if "selectivity" in set(chosen["run"]):
            made[f"selectivity_{subset}"] = figures.probe_gains(chosen, title=f"Selectivity ({site}), {words}")
        made[f"across_{subset}"] = figures.across_heatmap(
            across[(across["subset"] == subset) & (across["site"] == site)],
            f"Probes fitted on one group (before the arrow) that read one (behind it; {site}), {words}",
        )
    made["cosines"] = figures.cosine_curves(
        cosines[cosines["site"] == site], f"Cosines of probe directions, of halves of the programs ({site})"
    )
    return made


def _lens_figures(run: Path) -> "dict[str, Figure]":
    import pandas as pd

    looked, brewed = (pd.read_csv(run / "comparison" / f"{name}.csv") for name in ("lens", "outcomes"))
    made = {}
    for subset, words in _SUBSETS.items():
        chosen = looked[(looked["subset"] == subset) & (looked["role"] == "answer")]
        if len(chosen):
            luck = {f"mean_{group}": chosen["shuffled"] for group in GROUPS}
            made[f"lens_{subset}"] = figures.layer_curves(
                chosen,
                rows="decode",
                columns="variable",
                title=f"What the model itself could say after each block at the answer position, {words}",
                y_title="share right",
                reference=chosen.assign(**luck),
            )
    for variable, chosen in brewed.groupby("variable", sort=False):
        made[f"outcomes_{variable}"] = figures.outcomes(
            chosen, columns="steps", title=f"What becomes of {variable} at the answer position"
        )
    return made


def write_study_report(run: Path, out: Path) -> None:
    """Write `<run>/report.html`, and each figure as a PNG into `out`; where there is no browser, say so and go on."""
    import pandas as pd

    made = study_figures(run)
    behaviour = pd.read_csv(run / "behaviour" / "behaviour.csv")
    transfer = pd.read_csv(run / "comparison" / "transfer.csv")
    config = json.loads((run / "config.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    words = study_verdict(run)
    onsets, onset_differences = (read_table(run, name) for name in ("onsets", "onset_differences"))
    settings = pd.DataFrame(
        [(name, json.dumps(value)) for name, value in config.items()]
        + [(f"{name} (version)", value) for name, value in manifest["versions"].items()],
        columns=["setting", "value"],
    )
    write_report(
        run / "report.html",
        title=f"Where are programs evaluated? {config['base']}, {config['curriculum']}, seed {config['seed']}",
        subtitle="with_io: programs learned from source and input/output examples. without_io: from source only. "
        "Intervals are 95 %, from resampling whole programs; p values are adjusted over all places of one "
        "measure and swap.",
        words=words,
        sections=[
            Section(
                "Behaviour",
                "A layer map means something only where behaviour is above chance and above the baselines.",
                {
                    "Each bar is the share of calls answered correctly, with its interval; the dotted line is the "
                    "share of the most common answer.": made["behaviour"]
                },
                behaviour.drop(columns="programs"),
            ),
            Section(
                "Where: by use and by reading",
                f"Used: the block in which a variable leaves its place or is written, by the transfer map (a share of "
                f"{config['threshold']:.0%} of pairs above that with random vectors) or by recovery. Read: the block "
                f"after which a probe or the logit lens gets right {config['margin']:.0%} of what the strongest of its "
                "controls gets wrong, at the answer position. What is read need not be used.",
                {f"{figure.layout.title.text}.": figure for name, figure in made.items() if name[:6] == "onsets"},
                onsets,
            ),
            Section(
                "How many blocks later in with_io than in without_io",
                "With p from permuting programs, and p_equivalent that the difference is half a block or more.",
                table=onset_differences,
            ),
            Section(
                "What is used: activation patching",
                "One activation of the clean run is put into the corrupted run. With the input swapped it shows where "
                "the input is carried, with the program swapped where the program is. Recovery 1 restores the clean "
                "answer, 0 changes nothing.",
                {caption: made[name] for name, caption in _patching_captions().items() if name in made},
            ),
            Section(
                "What each place carries: the transfer map",
                "One activation of a run of another program on another input is put into a run, and the answer says "
                "what came with it: the program, the input, everything, the state after a step, the steps up to it or "
                "after it. Every pair is such that each of these leads to another answer; other: the answer is none of "
                "these. The table has the controls beside the map, each hypothesis at the place where it is followed "
                "most.",
                {
                    f"{figure.layout.title.text}. Layers from top to bottom.": figure
                    for name, figure in made.items()
                    if name.startswith("transfer_")
                },
                _controls(transfer),
            ),
            Section(
                "What can be read: linear probes",
                "Probes are fitted on with_io programs and read held-out with_io programs and without_io programs; "
                "no program is on both sides. Thin lines are controls on with_io prompts: a control task "
                "(selectivity), values dealt anew among the prompts of a program (permutation) or among all of them "
                "(shuffled), the most common value (chance), states under another meaning of the operators "
                "(relabelled), the untrained and the base model, and the embeddings of the roles' tokens alone. That "
                "something can be read does not say it is used.",
                {caption: made[name] for name, caption in _probe_captions().items() if name in made},
            ),
            Section(
                "Is it read because it is used? Probes' subspaces put from one run into another",
                "Only what a probe reads is taken from a run of another program on another input, as in the transfer "
                "map. Where the answer keeps to its own run (nothing), the probe reads what does not decide the "
                "answer.",
                {
                    f"{figure.layout.title.text}. Layers from top to bottom.": figure
                    for name, figure in made.items()
                    if name.startswith("interchange_")
                },
            ),
            Section(
                "What the model itself could say: the lens",
                "logit: the residual stream after a block goes straight to the final norm and unembedding. stripped: "
                "the blocks above run too, behind nothing but the residual's own token (context-stripped decoding, "
                "arXiv 2606.17648). Resolved: probe and stripped decoding are both right at some layer, and so is the "
                "answer; overprocessed: the answer is not; misresolved and unresolved: they never are both right, and "
                "the last quarter of the layers is sure of some value or is not; no brewing: no probe is ever right. "
                "The paler bars are the same with values of other prompts: what comes by luck.",
                {
                    figure.layout.title.text + ".": figure
                    for name, figure in made.items()
                    if name[:4] in ("lens", "outc")
                },
            ),
            Section("Settings", table=settings),
        ],
    )
    save_pngs(made, out)


def _patching_captions() -> dict[str, str]:
    captions = {}
    for subset, words in _SUBSETS.items():
        captions[f"recovery_{subset}"] = (
            f"By layer, {words}: the residual stream entering each block, patched at one role. Where the curve at the "
            "name falls and the one at the answer rises, the program moves. A filled marker: the groups differ there."
        )
        for swap in ("program", "input"):
            captions[f"patching_{swap}_{subset}"] = (
                f"By site, layer and role with the {swap} swapped, {words}; on the right the difference of the groups, "
                "starred where adjusted p < 0.05."
            )
    return captions


def _controls(transfer: "pd.DataFrame") -> "pd.DataFrame":
    """For each run of the transfer map, the most that one place makes of each hypothesis but `nothing`."""
    changed = transfer[(transfer["hypothesis"] != "nothing") & (transfer["subset"] == "all")]
    where = ["group", "steps", "run", "hypothesis"]
    top = changed.sort_values("proportion", ascending=False, kind="stable").drop_duplicates(where)
    return top.sort_values(where).drop(columns="subset").dropna(axis="columns", how="all")


def _probe_captions() -> dict[str, str]:
    captions = {}
    for subset, words in _SUBSETS.items():
        captions[f"probes_{subset}"] = (
            f"Accuracy of the probes by layer for each place (rows) and target (columns), {words}. A filled marker: "
            "the groups differ there."
        )
        captions[f"selectivity_{subset}"] = f"Accuracy minus that on the control task (Hewitt and Liang 2019), {words}."
        captions[f"across_{subset}"] = (
            f"The transfer matrix by layer, {words}: if both groups use the same code in the same place, probes of "
            "either read the other as well as its own."
        )
    captions["cosines"] = (
        "Cosines between probe directions fitted on halves of a group's programs, and on halves of different groups. "
        "Between the groups they can be no higher than within."
    )
    return captions
