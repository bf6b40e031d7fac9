"""Is the instrument right where the truth is known? 64 planted designs and some 400 null comparisons, in one table.

    python experiments/calibrate.py

The command `pbb-probe calibrate` at its defaults (a killed run goes on where it stopped), with its tables and a summary
in `results/calibration`.
"""

import argparse
import shutil
from pathlib import Path

import pandas as pd

from pbb_probe.calibrate_command import CalibrateConfig, calibrate
from pbb_probe.calibration.circuits import DECOYS

TABLES = ("calibration", "designs", "nulls")


def markdown(table: pd.DataFrame) -> str:
    lines = ["| question | right or seen | share | 95 % | wanted |", "|---|---|---|---|---|"]
    for row in table.itertuples():
        interval = f"{row.lower:.1%} to {row.upper:.1%}"
        lines.append(f"| {row.question} | {row.count} of {row.n} | {row.share:.1%} | {interval} | {row.wanted:.0%} |")
    return "\n".join(lines)


def by_decoy(designs: pd.DataFrame) -> pd.DataFrame:
    """For each decoy, the designs that have it: is every block named by use, and every one that a probe names right?"""
    designs = designs.assign(decoys=designs["decoys"].fillna(""))
    exact = {way: designs["layer"].eq(designs[f"{way}_layer"]) | designs[["layer", f"{way}_layer"]].isna().all(axis=1)
             for way in ("used", "read")}  # fmt: skip
    read = designs["variable"] != "input"
    rows = []
    for decoy in ("none", *DECOYS):
        has = (
            designs["decoys"].eq("") if decoy == "none" else designs["decoys"].str.split(", ").map(lambda d: decoy in d)
        )
        whole = {
            way: right[has & (read | (way == "used"))].groupby(designs["design"]).all() for way, right in exact.items()
        }
        flagged = designs[has].groupby("design")["agreement"].agg(lambda a: (a == "disagree").any())
        rows.append(
            {
                "decoy": decoy,
                "designs": len(flagged),
                "use names all blocks": int(whole["used"].sum()),
                "probes name all blocks": int(whole["read"].sum()),
                "flagged": int(flagged.sum()),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--results", type=Path, default=Path("results/calibration"))
    options = parser.parse_args()
    calibrate(CalibrateConfig(out=str(options.run)))
    options.results.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        shutil.copy(options.run / f"{name}.csv", options.results / f"{name}.csv")
    table, designs = (pd.read_csv(options.results / f"{name}.csv") for name in TABLES[:2])
    decoys = by_decoy(designs)
    decoys.to_csv(options.results / "decoys.csv", index=False)
    lines = [list(decoys.columns), ["---"] * decoys.shape[1], *decoys.astype(str).to_numpy().tolist()]
    (options.results / "summary.md").write_text(
        SUMMARY.format(table=markdown(table), decoys=chr(10).join(map(line, lines)))
    )


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


SUMMARY = """# Calibration

Made by `python experiments/calibrate.py`. Planted: models whose weights are set by hand, with blocks, places and decoys
drawn at random; every block must be named exactly, and a variable that is not there must not be found. Nothing:
programs divided into two groups at random, of planted models that get some of them wrong, of untrained models, and with
labels dealt at random.

{table}

By decoy. Use is what the verdict rests on; a design is flagged where use and a probe disagree.

{decoys}

No independently compiled model is among them: TransformerLens has a loader for Tracr's models, but no package registry
has Tracr.
"""


if __name__ == "__main__":
    main()
