"""The reference study: where nano evaluates programs, over five finetunings, beside base, stage 1 alone and joint.

    python experiments/reference_study.py

Every seed draws its own programs, documents and order, and is taught by the proactive curriculum and by the joint one:
a run of `pbb-probe run` each, in `runs/reference`, two side by side on a core each. Then the layer map of the base
model and of stage 1 alone, back-patching, and the multiverse. At most two hours on two cores; a killed study goes on
where it stopped, and no seed waits for another. Tables, figures and the summary go to `results/reference`; what is said
of them in `reading.md` there is written by hand.
"""

import argparse
import itertools
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import multiverse
import numpy as np
import pandas as pd
import xarray as xr
from workers import run_all

from pbb_probe.evidence.verdict import ENOUGH, programs_of
from pbb_probe.labels import join
from pbb_probe.programs.corpus import Corpus
from pbb_probe.runs.config import CorpusConfig, StudyConfig
from pbb_probe.store.disk import write_array
from pbb_probe.store.writable import WritableRun
from pbb_probe.study.run import Study
from pbb_probe.views.markdown import markdown_table

CURRICULA = ("proactive", "joint")
SEEDS = (0, 1, 2, 3, 4)
AS_PUBLISHED = CorpusConfig(io_only=0, new_functions=None)
"""The programs of what is published, drawn as they come: no function is kept from those with examples."""
EQUIVALENT = 0.1
OF_ONE_SEED = ("recovery_correct", "probes_all", "lens_correct")
WORDS = {"all": "all pairs", "correct": "pairs answered correctly"}
VERSION = 1  # of what the further steps mean
WRONG = 300  # calls that are back-patched, a group


def run_path(runs: Path, curriculum: str, seed: int) -> Path:
    return runs / f"{curriculum}-seed{seed}"


# What is done, in processes of its own


def study(curriculum: str, seed: int, runs: Path) -> None:
    """One run, and of a proactive one what else this study asks."""
    from pbb_probe.study import steps

    out = str(run_path(runs, curriculum, seed))
    config = replace(StudyConfig(), corpus=AS_PUBLISHED, curriculum=curriculum, seed=seed, out=out)
    alone, own = (run_path(runs, name, seed) / "stage2_alone" for name in ("proactive", curriculum))
    if (alone / "step.json").exists() and not own.exists():
        shutil.copytree(alone, own)  # stage 2 alone is the same in both; its key and its hashes say so
    run = Study(config).run()
    if curriculum != "proactive":
        return
    corpus, writable = run.corpus, WritableRun(run.path)
    inputs = {"version": VERSION, "after": {"stage2": run.content("stage2")}, "seed": seed}
    models = {"base": config.base, "stage1": str(run.path / "stage1" / "model")}
    brief = replace(config.transfer, controls=("random",))
    for name, model in models.items():
        asked = inputs | {"transfer": asdict(brief)}
        writable.step(f"transfer_{name}", asked, partial(steps.transfer, brief, corpus, model, seed))
    final = str(run.path / "stage2" / "model")
    writable.step("back_patching", inputs | {"calls": WRONG}, lambda out: back_patching(corpus, final, seed, out))

    def universes(out: Path) -> None:
        multiverse.sweeps(corpus, final, out)
        multiverse.probes(run.array("probing/activations"), out)
        multiverse.universes(out).to_csv(out / "universes.csv", index=False, float_format="%.4g")

    writable.step("multiverse", inputs, universes)


def back_patching(corpus: Corpus, model_path: str, seed: int, out: Path) -> None:
    """Later layers into earlier ones of calls answered wrong: is the right answer given, or that of another call?"""
    from pbb_probe.hooking.answering import with_answered
    from pbb_probe.hooking.answers import answer_ids
    from pbb_probe.hooking.calls import make_prompts
    from pbb_probe.hooking.load import load_model
    from pbb_probe.patching.backward import back_patch
    from pbb_probe.probing.controls import shuffled_values
    from pbb_probe.study.steps import groups_there

    model = load_model(model_path)
    for group in groups_there(corpus):
        prompts = with_answered(model, make_prompts(corpus, model, group, n=3 * WRONG, seed=seed, unseen=True))
        wrong = prompts.select(np.flatnonzero(~prompts.labels["answered"])[:WRONG].tolist())
        outputs = wrong.labels[["output"]]
        answers = {"right": outputs, "another's": shuffled_values(outputs, seed)}
        effects = []
        for values in answers.values():
            tokens = answer_ids(model, wrong, list(values["output"]))[:, 0]
            metric = lambda logits, tokens=tokens: (logits.argmax(-1) == tokens).float()  # noqa: E731
            effects.append(back_patch(model, wrong, metric=metric, roles=("name", "answer")))
        write_array(xr.concat(effects, "answer").assign_coords(answer=list(answers)), out / f"{group}.nc")


# What it says


def behaviour_table(runs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Accuracy of every model in every cell, models resampled and programs within them."""
    from pbb_probe.evidence import tables

    cell, rows = list(tables.CELL), []
    for curriculum, of_seeds in runs.items():
        files = sorted(path.stem for path in next(iter(of_seeds.values())).path.glob("behaviour/*.nc"))
        for file in files:
            if curriculum != "proactive" and file != "finetuned":
                continue  # the same base and stage 2 alone
            calls = of_models({seed: run.array(f"behaviour/{file}") for seed, run in of_seeds.items()}, "call")
            accuracy = tables.accuracy(calls, models="model").drop(columns="forced")
            by_seed = calls["correct"].to_dataframe().groupby([*cell, "model"])["correct"].mean().unstack("model")
            accuracy = accuracy.merge(by_seed.add_prefix("seed").reset_index(), on=cell)
            accuracy.insert(0, "model", f"{curriculum}, {file.replace('_', ' ')}")
            rows.append(accuracy)
    return pd.concat(rows, ignore_index=True)


def of_models(arrays: dict[str, xr.Dataset], unit: str) -> xr.Dataset:
    """What was measured of several finetunings as one array, with the coordinate `model`."""
    return join([array.assign_coords(model=(unit, [name] * array.sizes[unit])) for name, array in arrays.items()], unit)


def differences(runs: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """`compare_groups` of every measure over all seeds: all rows, those answered right, and of these as many alike."""
    from pbb_probe.evidence.differences import flat_places
    from pbb_probe.evidence.runs import MEASURES, gather
    from pbb_probe.statistics.groups import compare_groups
    from pbb_probe.statistics.matching import matched_rows

    made: dict[str, pd.DataFrame] = {}
    for measure in MEASURES:
        values = gather(runs, measure)
        right = np.flatnonzero(values["correct"])
        alike = right[matched_rows(values.isel(row=right), ["steps", "op_1", "op_2"])]
        subsets = {"all": np.arange(values.sizes["row"]), "correct": right, "alike": alike}
        if "matched" in values.coords:
            subsets["matched"] = np.flatnonzero(values["matched"])
        tables = []
        for (subset, rows), steps in itertools.product(subsets.items(), (1, 2)):
            of_steps = rows[values["steps"].values[rows] == steps]
            places = flat_places(values.isel(row=of_steps), "row")
            table = compare_groups(places, weights="weight", models="run", margin=EQUIVALENT)
            where = pd.DataFrame({name: places[name].values for name in values.dims if name != "row"})
            tables.append(pd.concat([where, table.drop(columns="place")], axis=1).assign(subset=subset, steps=steps))
        made[measure] = pd.concat(tables, ignore_index=True)
    return made


def repaired(runs: dict[str, Any]) -> pd.DataFrame:
    """Of the calls answered wrong, how many the best pair of layers repairs, beside the answers of other calls."""
    from pbb_probe.programs.corpus import GROUPS
    from pbb_probe.statistics.groups import interval_table

    rows = []
    there = [group for group in GROUPS if all(run.holds(f"back_patching/{group}.nc") for run in runs.values())]
    for group, steps in itertools.product(there, (1, 2)):
        effects = of_models({seed: run.array(f"back_patching/{group}") for seed, run in runs.items()}, "prompt")
        wrong = effects["resid_pre"].isel(prompt=effects["steps"].values == steps)
        if not wrong.sizes["prompt"]:
            continue
        cells = wrong.stack(cell=["source_layer", "target_layer", "role"]).dropna("cell", how="all")
        for answer in cells["answer"].values:
            of_answer = cells.sel(answer=answer)
            best = of_answer.isel(cell=int(of_answer.mean("prompt").argmax("cell")))
            place = dict(zip(("source_layer", "target_layer", "role"), best["cell"].item(), strict=True))
            (share,) = interval_table(best, models="model")[["mean", "lower", "upper"]].to_dict(orient="records")
            kind = {"group": group, "steps": steps, "answer": str(answer)}
            rows.append({**kind, **place, **share, "wrong": wrong.sizes["prompt"]})
    return pd.DataFrame(rows)


def report(runs_folder: Path, seeds: list[int], results: Path) -> None:
    from pbb_probe.evidence import tables as measured
    from pbb_probe.evidence.gate import gate_of
    from pbb_probe.evidence.located import TABLES, located_tables, transfer_maps
    from pbb_probe.evidence.onsets import located_use
    from pbb_probe.evidence.runs import compare_runs
    from pbb_probe.evidence.subsets import SUBSETS
    from pbb_probe.evidence.verdict import describe
    from pbb_probe.runs.opened import open_run
    from pbb_probe.views import figures
    from pbb_probe.views.images import save_pngs

    results.mkdir(parents=True, exist_ok=True)
    runs = {
        curriculum: {
            str(seed): open_run(path)
            for seed in seeds
            if (path := run_path(runs_folder, curriculum, seed)).joinpath("report").exists()
        }
        for curriculum in CURRICULA
    }
    main_runs = runs["proactive"]
    runs = {curriculum: of_seeds for curriculum, of_seeds in runs.items() if of_seeds}
    tables: dict[str, pd.DataFrame] = {"behaviour": behaviour_table(runs), "back_patching": repaired(main_runs)}
    located = {name: located_tables(of_seeds) for name, of_seeds in runs.items()}
    for name in TABLES:
        tables[name] = pd.concat(
            [of_one[name].assign(curriculum=c) for c, of_one in located.items()], ignore_index=True
        )
    compared = differences(main_runs)
    tables |= {f"difference_{measure}": table for measure, table in compared.items()}
    if "joint" in runs:
        tables["joint_transfer"] = compare_runs(
            main_runs, runs["joint"], "transfer", ("proactive", "joint"), margin=EQUIVALENT
        )
    carried, used = {}, []
    for step, name in (("transfer", "finetuned"), ("transfer_stage1", "stage 1 alone"), ("transfer_base", "base")):
        whole = transfer_maps(main_runs, step)
        if whole is None:
            continue
        if name != "finetuned":
            used.append(located_use(whole, models="model").assign(of=name))
        programs = zip(whole["model"].values, whole["corrupted_program"].values, strict=True)
        whole = whole.assign_coords(of_model=("pair", [f"{model} {program}" for model, program in programs]))
        for subset in WORDS:
            if (rows := SUBSETS[subset](whole)).any():
                table = measured.transfer(whole.isel(pair=rows), ("group", "steps"), "of_model", draws=2000)
                carried[name, subset] = table.assign(of=name, subset=subset)
    tables["use_in_base_and_stage1"] = pd.concat(used, ignore_index=True)
    every = pd.concat(carried.values(), ignore_index=True)
    tables["transfer"] = every[every["proportion"] > 0]
    universes = pd.concat(
        [r.table("multiverse/universes").assign(seed=s) for s, r in main_runs.items()], ignore_index=True
    )
    tables["multiverse"], tables["multiverse_summary"] = universes, multiverse.summary(universes)
    for name, table in tables.items():
        table.to_csv(results / f"{name}.csv", index=False, float_format="%.4g")

    behaviour = tables["behaviour"]
    finetuned = behaviour[behaviour["model"] == "proactive, finetuned"].assign(model="finetuned")
    words = describe(
        finetuned,
        located["proactive"]["onsets"],
        located["proactive"]["evaluation"],
        located["proactive"]["onset_differences"],
        {
            "recovery with the program swapped": compared["recovery_program"],
            "probe accuracy": compared["probes"],
            "what the lens says": compared["lens"],
            "what places carry": compared["transfer"],
        },
        gate_of(main_runs),
    )
    drawn = {
        "behaviour": figures.behaviour(
            behaviour[behaviour["model"].str.startswith("proactive")].assign(
                model=lambda t: t["model"].str.removeprefix("proactive, ")
            )
        ),
    }
    for steps in (1, 2):
        for (name, subset), table in carried.items():
            of_steps = table[table["steps"] == steps]
            if len(of_steps) and (subset == "correct") == (name == "finetuned"):
                what = f"{steps} step{'s' * (steps > 1)}, {len(main_runs)} finetunings, {WORDS[subset]}"
                drawn[f"transfer_{name.replace(' ', '_')}_{steps}"] = figures.transfer_map(
                    of_steps, title=f"What each place carries, {name}: {what}"
                )
    onsets = located["proactive"]["onsets"]
    drawn["onsets"] = figures.onsets(
        onsets[onsets["subset"] == "matched"],
        title=f"Where each variable is used and read: {len(main_runs)} finetunings, calls answered right",
    )
    save_pngs(drawn, results)
    first, of_first = next(iter(main_runs.items()))
    for name in OF_ONE_SEED:
        shutil.copy(of_first.path / "report" / f"{name}.png", results / f"seed{first}_{name}.png")
    (results / "summary.md").write_text(summary(words, behaviour, tables, len(main_runs), len(runs.get("joint", {}))))
    print("\n\n".join(words))


def summary(words: list[str], behaviour: pd.DataFrame, tables: dict[str, pd.DataFrame], n: int, n_joint: int) -> str:
    unseen = behaviour[(behaviour["mode"] == "direct") & ~((behaviour["group"] == "with_io") & behaviour["seen"])]
    seeds = [name for name in behaviour if name.startswith("seed")]
    onsets = tables["onsets"]
    shown = [name for name in onsets if name.endswith(("layer", "lower", "upper", "used_peak", "read_peak"))]
    onsets = onsets[onsets["subset"] == "matched"]
    onsets = onsets.groupby(["curriculum", "group", "steps"]).filter(lambda of_kind: programs_of(of_kind) >= ENOUGH)
    onsets = onsets[["curriculum", "group", "steps", "variable", *shown, "agreement"]]
    paragraphs = "\n\n".join(words)
    return f"""# The reference study

Made by `python experiments/reference_study.py`: nano, {n} proactive and {n_joint} joint finetunings, each with
programs of its own. Intervals resample finetunings and, within them, programs. What these figures show, what they do
not, and what has been withdrawn is said in [reading.md](reading.md).

{paragraphs}

## Direct answers, inputs never shown

{markdown_table(unseen[["model", "group", "steps", "mean", "lower", "upper", *seeds, "n", "chance"]])}

## Onsets, prompts answered right, and pairs of which all four calls are

Kinds of fewer than {ENOUGH} programs are left out.

{markdown_table(onsets)}

## Back-patching: calls answered wrong that the best pair of layers repairs

{markdown_table(tables["back_patching"])}

## The multiverse

How many universes (choices that could have been made otherwise, each in {n} models) give which block. Those in which a
group has fewer than {ENOUGH} programs say nothing of it.

{markdown_table(tables["multiverse_summary"])}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--runs", type=Path, default=Path("runs/reference"))
    parser.add_argument("--results", type=Path, default=Path("results/reference"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report-only", action="store_true", help="write the results of the runs that are finished")
    options = parser.parse_args()
    if not options.report_only:
        jobs = [(f"{c}-seed{s}", study, (c, s, options.runs)) for c in CURRICULA for s in options.seeds]
        run_all(jobs, options.runs / "logs", options.workers)
    report(options.runs, options.seeds, options.results)


if __name__ == "__main__":
    main()
