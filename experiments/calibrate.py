"""Is the instrument right where the truth is known? 64 planted designs and some 400 null comparisons, in one table.

    python experiments/calibrate.py

The command `pbb-probe calibrate` at its defaults (a killed run goes on where it stopped), with its tables and a summary
in `results/calibration`.
"""

import argparse
import shutil
from pathlib import Path

import pandas as pd

from pbb_probe.calibration.circuits import DECOYS
from pbb_probe.calibration.summary import same_block
from pbb_probe.commands.calibrate import CalibrateConfig, calibrate
from pbb_probe.views.markdown import markdown_table

TABLES = ("calibration", "designs", "nulls")


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The calibration table as the summary has it."""
    percent = "{:.1%}".format
    return pd.DataFrame(
        {
            "question": table["question"],
            "right or seen": table["count"].astype(str) + " of " + table["n"].astype(str),
            "share": table["share"].map(percent),
            "95 %": table["lower"].map(percent) + " to " + table["upper"].map(percent),
            "wanted": table["wanted"].map("{:.0%}".format),
        }
    )


def by_decoy(designs: pd.DataFrame) -> pd.DataFrame:
    """For each decoy, the designs that have it: is every block named by use, and every one that a probe names right?"""
    of_design = designs["decoys"].fillna("").str.split(", ").map(set)
    exact = {way: same_block(designs["layer"], designs[f"{way}_layer"]) for way in ("used", "read")}
    exact["read"] |= designs["variable"] == "input"  # which no probe was asked for
    asked: dict[str, set[str]] = {"none": {""}, "any early one": {"early_state", "early_output"}}
    asked |= {decoy: {decoy} for decoy in DECOYS}
    rows = []
    for name, decoys in asked.items():
        has = of_design.map(lambda there, decoys=decoys: bool(there & decoys))
        number = designs["design"][has]
        whole = {way: right[has].groupby(number).all().sum() for way, right in exact.items()}
        flagged = designs["agreement"].eq("disagree")[has].groupby(number).any()
        counts = {"use names all blocks": whole["used"], "probes name all blocks": whole["read"]}
        rows.append({"decoy": name, "designs": len(flagged), **counts, "flagged": flagged.sum()})
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
    text = SUMMARY.format(table=markdown_table(in_words(table)), decoys=markdown_table(decoys))
    (options.results / "summary.md").write_text(text)


SUMMARY = """# Calibration

Made by `python experiments/calibrate.py`. Planted: models whose weights are set by hand, with blocks, places and decoys
drawn at random; every block must be named exactly, and a variable that is not there must not be found. Nothing:
programs divided into two groups at random, of planted models that get some of them wrong, of untrained models, and with
labels dealt at random.

What this does not show. The states of these designs stand in one component at the answer position, which is where the
instrument looks: a state that stands elsewhere, in copies, or spread over several components can be missed. That is why
the instrument does not tell compiled from looked up: such programs must be left undetermined, and that a group is left
undetermined is no difference from the other. In null comparisons the two groups are random halves of the same programs,
alike in size and variance: of groups as unequal as with_io and without_io they say nothing.

{table}

By decoy. Use is what the verdict rests on; a design is flagged where use and a probe disagree.

{decoys}

No independently compiled model is among them: Tracr (`tracr-pypi`) compiles such models, and was not tried.
"""


if __name__ == "__main__":
    main()
