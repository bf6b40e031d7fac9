"""What a right answer means: three finetunings, asked on new and known functions, on decisive calls and on all.

    python experiments/meaning.py

Every seed draws its own programs, documents and order: 850 with_io, 150 without_io and 100 io_only programs, taught by
the proactive curriculum. The base, stage 1 and the finetuned model answer every program on every input, directly and in
worked steps, by name and with the code in the prompt. About ten minutes a seed on one core; a seed whose tables lie in
`results/meaning` is not done again, and a killed one goes on from its last checkpoint. `summary.md` there is made of
these tables. One composition of two steps in ten was held out of nano's pretraining; programs of these are counted
apart, too.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pretrain_nano import held_out_composition
from scipy import stats
from workers import run_all

import pbb_probe as pbb
from pbb_probe.evidence.behaviour import behaviour_table
from pbb_probe.evidence.subsets import label_rows
from pbb_probe.labels import label
from pbb_probe.programs.corpus import Corpus
from pbb_probe.views.markdown import markdown_table

SEEDS = (0, 1, 2)
DRAWS = 10_000
HEADLINE = "decisive"
UNSEEN = "new compositions"


def corpus_of(seed: int) -> Corpus:
    return pbb.make_corpus(with_io=850, without_io=150, io_only=100, seed=seed)


def one_seed(seed: int, runs: Path, results: Path) -> None:
    """Train and ask one seed, and write its tables."""
    corpus, folder = corpus_of(seed), runs / f"seed{seed}"
    final = pbb.finetune("nano", corpus, "proactive", out=folder, seed=seed)
    models = {"base": "nano", "stage 1": str(folder / "stage1"), "finetuned": str(final)}
    accuracy, functions = [], []
    for name, path in models.items():
        for in_context in (False, True):
            behaviour = pbb.evaluate(path, corpus, in_context=in_context, seed=seed)
            table = behaviour_table(behaviour, draws=DRAWS, seed=seed)
            accuracy.append(table.assign(model=name, in_context=in_context))
            if name == "finetuned" and not in_context:
                functions.append(explained(behaviour))
                unseen = label(behaviour, "program").isin(unseen_compositions(corpus)).to_numpy()
                apart = behaviour_table(behaviour.isel(call=unseen), draws=DRAWS, seed=seed)
                apart = apart[apart["programs"] == "new functions"].assign(programs=UNSEEN)
                accuracy.append(apart.assign(model=name, in_context=in_context))
    effective = pbb.effective_programs(final, corpus, seed=seed)
    recited = pbb.evaluate(final, corpus, modes=("recite",), seed=seed)
    settings: dict[str, Any] = {"by": ("group", "steps", "novelty"), "draws": DRAWS, "seed": seed}
    tables = {
        "accuracy": pd.concat(accuracy),
        "answers": pd.concat(functions),
        "recited": pbb.tables.effective(effective, recited, **settings),
        "effective": pbb.tables.effective(effective, **settings),  # the last one: with it the seed is done
    }
    for name, table in tables.items():
        table.to_csv(results / f"{name}_seed{seed}.csv", index=False, float_format="%.4g")


def unseen_compositions(corpus: Corpus) -> list[str]:
    """The programs of two steps that no program of nano's pretraining was made of."""
    steps = {}
    for entry in corpus.entries:
        facts = entry.program.facts
        numbers = range(1, int(facts["steps"]) + 1)
        steps[entry.program.name] = tuple((facts[f"op_{k}"], facts[f"constant_{k}"]) for k in numbers)
    return [name for name in steps if held_out_composition(steps[name])]


def explained(behaviour: xr.Dataset) -> pd.DataFrame:
    """Of direct answers never shown: how often right, by what simpler program gives the right answer."""
    direct = behaviour.isel(call=(label(behaviour, "mode") == "direct").to_numpy() & ~behaviour["seen"].values)
    rows = label_rows(direct, ["group", "steps", "explained_by"]).assign(correct=direct["correct"].values)
    rows["explained_by"] = rows["explained_by"].fillna("nothing: decisive")  # an empty label comes back as missing
    table = rows.groupby(["group", "steps", "explained_by"])["correct"].agg(["mean", "size"]).reset_index()
    return table.rename(columns={"size": "n"})


def gathered(results: Path, name: str) -> pd.DataFrame:
    """One table of all seeds, with the column `seed`."""
    files = {int(path.stem.rsplit("seed", 1)[1]): path for path in sorted(results.glob(f"{name}_seed*.csv"))}
    return pd.concat({seed: pd.read_csv(path) for seed, path in files.items()}, names=["seed"]).reset_index("seed")


def over_seeds(values: pd.Series) -> str:
    """The mean of one number a seed, with the 95 % t interval over seeds: `19 % [14, 24]`."""
    mean = values.mean()
    if len(values) < 2:
        return f"{mean:.0%} (one seed)"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{100 * mean:.0f} % [{100 * (mean - half):.0f}, {100 * min(mean + half, 1):.0f}]"


def cell(accuracy: pd.DataFrame, **where: object) -> pd.Series:
    """The accuracy of each seed in one cell of the finetuned model, asked directly by name unless said otherwise."""
    where = {"model": "finetuned", "in_context": False, "mode": "direct", "seen": False} | where
    rows = accuracy[np.logical_and.reduce([accuracy[name] == value for name, value in where.items()])]
    return rows.set_index("seed")["mean"]


def sentences(accuracy: pd.DataFrame) -> list[str]:
    """What the tables say, with a figure over seeds wherever one is asked for."""

    def figure(steps: int, group: str = "without_io", **where: object) -> str:
        where = {"programs": "all", "calls": HEADLINE} | where
        return over_seeds(cell(accuracy, steps=steps, group=group, **where))

    new, known = {"programs": "new functions"}, {"programs": "known functions"}
    chances = accuracy.assign(mean=accuracy["chance"])
    chance = over_seeds(cell(chances, steps=2, group="without_io", calls=HEADLINE, **new))
    in_context = {model: figure(2, model=model, in_context=True) for model in ("base", "stage 1", "finetuned")}
    return [
        f"One step, learned from code alone, is right in {figure(1, **new)} of the decisive calls of new functions, "
        f"and in {figure(1, **known)} of those of functions that a program with examples computes as well.",
        f"Two steps, learned from code alone, are right in {figure(2, **new)} of the decisive calls of new functions "
        f"(the commonest answer in {chance}). On all calls of all of them the figure is {figure(2, calls='all')}.",
        f"Where nano's pretraining never held the composition of the two steps it is {figure(2, programs=UNSEEN)}.",
        f"In worked steps the same calls of two steps are right in {figure(2, mode='trace', **new)}.",
        f"With examples and two steps, decisive calls that were never shown are right in {figure(2, 'with_io')}; with "
        f"the same examples and no code in {figure(2, 'io_only')}. What the code adds is {code_adds(accuracy, 2)}; "
        f"with one step it is {code_adds(accuracy, 1)}.",
        "With the code of a without_io program of two steps in the prompt, decisive calls are right in "
        + ", ".join(f"{value} ({model})" for model, value in in_context.items())
        + ".",
    ]


def summary(results: Path) -> str:
    """The page of plain sentences, and the tables that they are made of."""
    accuracy, answers = gathered(results, "accuracy"), gathered(results, "answers")
    seeds = sorted(accuracy["seed"].unique())
    lines = "\n".join(f"- {sentence}" for sentence in sentences(accuracy))
    return f"""# What a right answer means

Finetunings of nano: {len(seeds)} (seed {", ".join(map(str, seeds))}), by `python experiments/meaning.py`.
Intervals are 95 % t intervals over seeds, around the mean of one figure a seed. A call is decisive if no simpler
program gives its answer: a step left out, another order, the input itself, the best guess from it. A function is new if
no program with examples computes it.

{lines}

## Right answers by what else explains them (direct, never shown, all seeds)

{markdown_table(by_explanation(answers))}

## Which program the model computes (share of programs, mean over seeds)

{markdown_table(shares(gathered(results, "effective"), "difference"))}

## Which programs are recalled, and what becomes of them (share of programs, mean over seeds)

{markdown_table(shares(gathered(results, "recited"), "outcome"))}
"""


def code_adds(accuracy: pd.DataFrame, steps: int) -> str:
    """with_io minus io_only over seeds."""
    with_io, io_only = (
        cell(accuracy, group=group, steps=steps, calls=HEADLINE, programs="all") for group in ("with_io", "io_only")
    )
    return over_seeds(with_io - io_only)


def shares(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The mean share over seeds, a column a kind."""
    wide = table.groupby(["group", "steps", "novelty", what], dropna=False)["share"].mean().unstack(what)
    return wide.fillna(0).map("{:.0%}".format).reset_index()


def by_explanation(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of all seeds together, weighted by their calls."""
    right = answers.assign(right=answers["mean"] * answers["n"])
    table = right.groupby(["group", "steps", "explained_by"])[["right", "n"]].sum().reset_index()
    return table.assign(right=(table["right"] / table["n"]).map("{:.0%}".format))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/meaning"))
    parser.add_argument("--results", type=Path, default=Path("results/meaning"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--workers", type=int, default=2, help="seeds side by side, a core each")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    left = [seed for seed in options.seeds if not (options.results / f"effective_seed{seed}.csv").exists()]
    jobs = [(f"seed{seed}", one_seed, (seed, options.runs, options.results)) for seed in left]
    run_all(jobs, options.runs / "logs", options.workers)
    (options.results / "summary.md").write_text(summary(options.results))


if __name__ == "__main__":
    main()
