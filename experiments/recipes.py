"""Recipes after which code-only programs of two steps are evaluated directly, tried on programs set aside for it.

    python experiments/pretrain_nano.py --readings 0 --out runs/nano_windows
    python experiments/recipes.py

Every recipe teaches the same corpora, whose seeds no other study uses; the one that is best for decisive calls of new
functions is the default. The first command makes nano as it is before it learns to read by gradient steps (40 minutes),
which two of the recipes start from. About five minutes a recipe and seed on one core; what lies in `results/recipes` is
not done again. `summary.md` there is made of these tables.
"""

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from workers import run_all

import pbb_probe as pbb
from pbb_probe.evidence.behaviour import behaviour_table
from pbb_probe.finetuning.curricula import CURRICULA
from pbb_probe.finetuning.train import train_stage
from pbb_probe.views.markdown import markdown_table

SEEDS = (100,)
DRAWS = 2_000


@dataclass(frozen=True)
class Recipe:
    """What is taught to which base, and how."""

    base: str = "nano"
    config: pbb.TrainConfig = field(default_factory=pbb.TrainConfig)


WINDOWS = "windows"
RECIPES = {
    "default": Recipe(),
    "from the base that has not learned to read": Recipe(WINDOWS),
    "names no faster than the rest": Recipe(config=pbb.TrainConfig(name_rate=1.0)),
    "names 30 times as fast and not 100": Recipe(config=pbb.TrainConfig(name_rate=30.0)),
    "all at the rate of before 0.11 (1e-3)": Recipe(config=pbb.TrainConfig(learning_rate=1e-3, name_rate=1.0)),
}
KINDS = {
    "without_io, 1 step": ("without_io", 1, "new functions"),
    "without_io, 2 steps": ("without_io", 2, "new functions"),
    "with_io, 2 steps": ("with_io", 2, "all"),
    "io_only, 2 steps": ("io_only", 2, "all"),
}


def one(name: str, seed: int, windows: Path, runs: Path, results: Path) -> None:
    """Teach one recipe, and write what its model answers."""
    recipe = RECIPES[name]
    corpus = pbb.make_corpus(with_io=850, without_io=150, io_only=100, seed=seed)
    model: str | Path = windows if recipe.base == WINDOWS else recipe.base
    folder = runs / file_name(name, seed)
    for stage in CURRICULA["proactive"]:
        model = train_stage(model, corpus, stage, folder / stage.name, seed, recipe.config)
    asked = {
        False: pbb.evaluate(model, corpus, modes=("direct", "trace"), seed=seed),
        True: pbb.evaluate(model, corpus, modes=("direct",), in_context=True, seed=seed),
    }
    tables = [behaviour_table(said, draws=DRAWS, seed=seed).assign(in_context=c) for c, said in asked.items()]
    table = pd.concat(tables).query("calls == 'decisive' and seen == False")
    table.assign(recipe=name, seed=seed).to_csv(
        results / f"{file_name(name, seed)}.csv", index=False, float_format="%.4g"
    )


def file_name(name: str, seed: int) -> str:
    return re.sub(r"\W+", "_", name).strip("_") + f"_{seed}"


def summary(results: Path) -> str:
    """A row a recipe, with the intervals of its finetunings one after the other."""
    accuracy = pd.concat(map(pd.read_csv, sorted(results.glob("*_*.csv"))))
    rows, chances = [], set[float]()
    for name in RECIPES:
        if name not in set(accuracy["recipe"]):  # not tried yet
            continue
        row = {"recipe": name}
        for context, mode in ((False, "direct"), (False, "trace"), (True, "direct")):
            for words, (group, steps, programs) in KINDS.items():
                if (context or mode == "trace") and words != "without_io, 2 steps":
                    continue
                cells = accuracy[
                    (accuracy["recipe"] == name)
                    & (accuracy["in_context"] == context)
                    & (accuracy["mode"] == mode)
                    & (accuracy["group"] == group)
                    & (accuracy["steps"] == steps)
                    & (accuracy["programs"] == programs)
                ]
                chances |= set(cells["chance"])
                where = "in context" if context else "worked" if mode == "trace" else "direct"
                row[f"{words}, {where}"] = "; ".join(map(_interval, cells.to_dict(orient="records")))
        rows.append(row)
    return f"""# Recipes tried

Finetunings of corpora set aside for this (850 with_io, 150 without_io, 100 io_only programs), by
`python experiments/recipes.py`. Per cent right of decisive calls never shown, of without_io programs those of new
functions, with the 95 % interval over functions. The commonest answer is right in {min(chances):.0%} to
{max(chances):.0%}. In context: with the program's code in the prompt.

{markdown_table(pd.DataFrame(rows))}
"""


def _interval(row: dict[str, float]) -> str:
    return f"{100 * row['mean']:.0f} [{100 * row['lower']:.0f}, {100 * row['upper']:.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=Path, default=Path("runs/nano_windows"))
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--results", type=Path, default=Path("results/recipes"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--workers", type=int, default=2, help="recipes side by side, a core each")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    left = [
        (name, seed)
        for seed in options.seeds
        for name in RECIPES
        if not (options.results / f"{file_name(name, seed)}.csv").exists()
    ]
    jobs = [
        (file_name(name, seed), one, (name, seed, options.windows, options.runs, options.results))
        for name, seed in left
    ]
    run_all(jobs, options.runs / "logs", options.workers)
    (options.results / "summary.md").write_text(summary(options.results))


if __name__ == "__main__":
    main()
