"""A hypothesis stated before these runs: programs learned from code alone leave their name about one block later.

    python experiments/retrieval_hypothesis.py

Two models of the planning stage suggested it (one seed each, no intervals): the names of without_io programs seemed to
be read a block later than those of with_io programs. Here every seed of the reference study (`reference_study.py`,
which is run first) is taken from the end of its stage 1 through several second stages, and each pair of runs says for
how many blocks the name carries the program:

    retrieval depth = number of blocks at whose input the name, taken from another program's run, makes the answer that
                      program's; 1 if it is gone after block 0, and so on

Pairs are calls of two programs on inputs whose answers were never shown. Both are answered right, and so is the
donor's program on the base's input where the name is put in before any block: what is compared is when, not whether.
The depth counts answers that follow, and so depends on how firm they are, which differs between the groups.

Prediction: depth of without_io minus depth of with_io is about 1. A difference within half a block counts as none, if
that can be told (two one-sided tests). p is from permuting programs within models; intervals resample models and their
programs. Conditions: the reference study's own (proactive and joint; names of without_io programs are read 50 times
and those of with_io programs 78; up to 0.10, which the tables are of, 240 and 246 times), and from the end of the
proactive stage 1 a second stage with half the documents of without_io programs, one with twice the replay, and one
twice as long. Tables go to `results/retrieval`.
"""

import argparse
import itertools
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pandas as pd
import xarray as xr
from workers import run_all

from pbb_probe.evidence.subsets import answered
from pbb_probe.finetuning.curricula import CURRICULA, Portion, Stage
from pbb_probe.statistics.groups import compare_groups
from pbb_probe.store.run import Run
from pbb_probe.store.writable import WritableRun
from pbb_probe.study.feasible import COMPARED
from pbb_probe.views.markdown import markdown_table

STAGE_2 = CURRICULA["proactive"][1]


def _times(stage: Stage, without_io: float = 1, replay: float = 1) -> Stage:
    """The stage with its documents of without_io programs, and those that replay with_io programs, that many times."""

    def scaled(portion: Portion) -> Portion:
        return replace(portion, times=round(portion.times * (without_io if portion.group == "without_io" else replay)))

    return replace(stage, phases=tuple(tuple(map(scaled, phase)) for phase in stage.phases))


SECOND_STAGES = {
    "half the exposures": _times(STAGE_2, without_io=0.5),
    "twice the replay": _times(STAGE_2, replay=2),
    "twice as long": _times(STAGE_2, without_io=2, replay=2),
}
CONDITIONS = ("proactive", "joint", *SECOND_STAGES)
PAIRS = 3000  # a group, of which few are answered right on both sides where programs have two steps
MARGIN = 0.5  # blocks


def folder(runs: Path, condition: str, seed: int) -> Path:
    return runs / f"{condition.replace(' ', '_')}-seed{seed}"


# What is done, in processes of its own


def measure(condition: str, seed: int, reference: Path, runs: Path) -> None:
    """Train the second stage if there is one to train, and put other programs' names into the runs of each group."""
    from pbb_probe.finetuning.train import train_stage
    from pbb_probe.models.bases import base_digest
    from pbb_probe.programs.corpus import Corpus
    from pbb_probe.runs.config import TransferConfig
    from pbb_probe.study import steps

    start, run = folder(reference, "proactive", seed), WritableRun(folder(runs, condition, seed))
    corpus = Corpus.load(Run(start).folder("corpus"))
    if condition in SECOND_STAGES:
        model = run.path / "model"
        train_stage(start / "stage1" / "model", corpus, SECOND_STAGES[condition], model, seed)
    else:
        model = folder(reference, condition, seed) / ("stage2" if condition == "proactive" else "joint") / "model"
    config = TransferConfig(PAIRS, sites=("resid_pre",), roles=("name",), controls=())
    inputs = {"model": base_digest(model), "transfer": asdict(config), "seed": seed}
    WritableRun(run.path).step("transfer", inputs, partial(steps.transfer, config, corpus, str(model), seed))


# What it says


def depths(condition: str, seeds: list[int], runs: Path) -> pd.DataFrame:
    """A row a pair: the number of blocks at whose input the name carries the program."""
    rows = []
    for seed, group in itertools.product(seeds, COMPARED):
        carried = Run(folder(runs, condition, seed)).array(f"transfer/{group}")
        at_name = carried["resid_pre"].sel(role="name", hypothesis="program")
        kept = answered(carried) & (at_name.sel(layer=0) == 1).values
        of_base = {"program": carried["corrupted_program"].values, "steps": carried["corrupted_steps"].values}
        table = pd.DataFrame({**of_base, "depth": at_name.sum("layer").values})
        rows.append(table[kept].assign(group=group, model=seed, condition=condition))
    return pd.concat(rows, ignore_index=True)


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """without_io against with_io by number of steps: over all models, and in each."""
    rows = []
    for steps, of_steps in table.groupby("steps"):
        for seed in ("all", *sorted(of_steps["model"].unique())):
            pairs = of_steps if seed == "all" else of_steps[of_steps["model"] == seed]
            if pairs["group"].nunique() < 2:
                continue
            depth = xr.Dataset.from_dataframe(pairs.reset_index(drop=True).rename_axis("pair"))
            compared = compare_groups(
                depth.set_coords(["group", "program", "model"])["depth"],
                models="model" if seed == "all" and pairs["model"].nunique() > 1 else None,
                margin=MARGIN,
            )
            turned = {"difference": -compared["difference"], "lower": -compared["upper"], "upper": -compared["lower"]}
            rows.append(compared.drop(columns="p_adjusted").assign(steps=steps, seed=str(seed), **turned))
    return pd.concat(rows, ignore_index=True).assign(condition=table["condition"].iloc[0])


def report(seeds: list[int], reference: Path, runs: Path, results: Path) -> None:
    from pbb_probe.views import figures
    from pbb_probe.views.images import save_pngs

    there = {
        condition: [s for s in seeds if (folder(runs, condition, s) / "transfer").exists()] for condition in CONDITIONS
    }
    tables = [compare(depths(condition, done, runs)) for condition, done in there.items() if done]
    table = pd.concat(tables, ignore_index=True)
    first = ["condition", "steps", "seed"]
    table = table[[*first, *table.columns.drop(first)]]
    results.mkdir(parents=True, exist_ok=True)
    table.to_csv(results / "differences.csv", index=False, float_format="%.4g")
    pooled = table[table["seed"] == "all"].assign(steps=lambda t: t["steps"].map("{} step(s)".format))
    figure = figures.differences(
        pooled,
        rows="condition",
        colour="steps",
        margin=MARGIN,
        predicted=1.0,
        title="Do names of programs learned from code alone carry them for longer?",
        x_title="blocks for which the name carries the program: without_io minus with_io",
    )
    save_pngs({"retrieval": figure}, results)
    left_out = ("seed", "equivalent", *(f"{bound}_{group}" for bound in ("lower", "upper") for group in COMPARED))
    shown = [name for name in pooled if name not in left_out]
    lines = pooled[shown].assign(**{name: pooled[name].map("{:.4f}".format) for name in ("p", "p_equivalent")})
    below, above = int((pooled["upper"] < 0).sum()), int((pooled["lower"] > 0).sum())
    (results / "summary.md").write_text(
        SUMMARY.format(
            table=markdown_table(lines), rows=len(pooled), below=below, above=above, most=pooled["upper"].max()
        )
    )
    print(lines.to_string(index=False, float_format="%.3f"))


SUMMARY = """# Are programs learned from code alone retrieved later?

Made by `python experiments/retrieval_hypothesis.py`, whose first lines state the hypothesis and the measure: the number
of blocks at whose input the name carries the program, predicted to be larger by about 1 in without_io programs. Of
{rows} differences the interval lies below zero in {below} and above it in {above}; the largest upper bound is
{most:+.2f} blocks. p is that of no difference, p_equivalent that of half a block or more. Where no number of models
stands it is one; by seed in `differences.csv`.

The measure counts pairs whose answer follows the other program, and a firm answer takes more to flip than a weak one.
Where right answers of one group are weaker, part of a difference is that, or all of it. Recovery of the logit
difference does not depend on it ([results/reference/quoted.md](../reference/quoted.md)).

{table}

![differences](retrieval.png)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--reference", type=Path, default=Path("runs/reference"))
    parser.add_argument("--runs", type=Path, default=Path("runs/retrieval"))
    parser.add_argument("--results", type=Path, default=Path("results/retrieval"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report-only", action="store_true", help="write the results of the models that are finished")
    options = parser.parse_args()
    if not options.report_only:
        jobs = [
            (folder(options.runs, condition, seed).name, measure, (condition, seed, options.reference, options.runs))
            for seed in options.seeds
            for condition in CONDITIONS
        ]
        run_all(jobs, options.runs / "logs", options.workers)
    report(options.seeds, options.reference, options.runs, options.results)


if __name__ == "__main__":
    main()
