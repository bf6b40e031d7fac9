"""The default study over several seeds, and its tables and figures in one folder to commit.

    python experiments/publish_nano.py --seeds 0 1 2 --out results/nano

Each seed draws its own programs, documents and order. Runs are resumed; finished ones are only read.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pbb_probe.comparison.verdict import describe
from pbb_probe.study import Study, StudyConfig

CELL = ["model", "mode", "group", "steps", "seen"]


def collect(paths: dict[int, Path], table: str) -> pd.DataFrame:
    return pd.concat([pd.read_csv(path / table).assign(seed=seed) for seed, path in paths.items()], ignore_index=True)


def across_seeds(behaviour: pd.DataFrame) -> pd.DataFrame:
    """A row a cell: accuracy of each seed, their mean, and the mean of the forced choice."""
    wide = behaviour.pivot_table(index=CELL, columns="seed", values="mean", sort=False)
    wide.columns = [f"seed {seed}" for seed in wide.columns]
    cells = behaviour.groupby(CELL, sort=False)
    return wide.assign(
        mean=wide.mean(axis=1), forced=cells["forced"].mean(), chance=cells["chance"].mean(), calls=cells["n"].sum()
    ).reset_index()


def markdown(table: pd.DataFrame) -> str:
    def cell(value) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run directories are")
    parser.add_argument("--out", type=Path, default=Path("results/nano"))
    options = parser.parse_args()

    default = StudyConfig()
    paths = {}
    for seed in options.seeds:
        name = "nano" if seed == default.seed else f"nano-seed{seed}"  # the first is what `make demo` makes
        paths[seed] = Study(replace(default, seed=seed, out=str(options.runs / name))).run().path

    options.out.mkdir(parents=True, exist_ok=True)
    behaviour, located = collect(paths, "behaviour/behaviour.csv"), collect(paths, "comparison/located.csv")
    behaviour.to_csv(options.out / "behaviour.csv", index=False)
    located.to_csv(options.out / "located.csv", index=False)
    summary = across_seeds(behaviour)
    summary.to_csv(options.out / "behaviour_across_seeds.csv", index=False)
    transfer = collect(paths, "comparison/transfer.csv")
    followed = transfer[transfer["proportion"] > 0]
    followed.to_csv(options.out / "transfer.csv", index=False, float_format="%.4g")
    for name in ("probing_controls", "probing_across", "cosines", "lens", "outcomes", "interchange"):
        table = collect(paths, f"comparison/{name}.csv")
        if name == "interchange":
            table = table[table["proportion"] > 0]
        table.to_csv(options.out / f"{name}.csv", index=False, float_format="%.4g")
    words = []
    for seed, path in paths.items():
        tables = {name: pd.read_csv(path / "comparison" / f"{name}.csv") for name in ("patching", "probing")}
        for name, table in tables.items():
            table.to_csv(options.out / f"{name}_seed{seed}.csv", index=False)
        found = describe(
            behaviour[behaviour["seed"] == seed],
            located[located["seed"] == seed],
            tables["patching"],
            tables["probing"],
            transfer[transfer["seed"] == seed],
            default.threshold,
        )
        words.append(f"## Seed {seed}\n\n" + "\n\n".join(found))
    figures = paths[options.seeds[0]] / "report"
    for png in sorted(figures.glob("*.png")):
        shutil.copy(png, options.out / png.name)
    (options.out / "summary.md").write_text(
        f"# The default study on nano, {len(paths)} seeds\n\n"
        f"Made by `python experiments/publish_nano.py --seeds {' '.join(map(str, options.seeds))}`. Figures are of "
        f"seed {options.seeds[0]}.\n\nAccuracy by seed; intervals are in `behaviour.csv`. `transfer.csv` and "
        f"`interchange.csv` leave out what no pair follows.\n\n{markdown(summary)}\n\n" + "\n\n".join(words) + "\n"
    )
    print(summary[summary["model"] == "finetuned"].to_string(index=False))


if __name__ == "__main__":
    main()
