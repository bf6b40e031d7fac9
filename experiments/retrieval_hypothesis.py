"""A hypothesis stated before these runs: programs learned from code alone leave their name about one block later.

    python experiments/retrieval_hypothesis.py

Two models of the planning stage suggested it (one seed each, no intervals): the names of without_io programs seemed to
be read a block later than those of with_io programs. Here every seed of the reference study (`reference_study.py`,
which is run first) is taken from the end of its stage 1 through several second stages, and each pair of runs says for
how many blocks the name carries the program:

    retrieval depth = number of blocks at whose input the name, taken from another program's run, makes the answer that
                      program's; 1 if it is gone after block 0, and so on

Pairs are calls of two programs on inputs whose answers were never shown, both answered right, and so is the base
program's input by the source program where the name is put in before any block: what remains is when, not whether.

Prediction: depth without_io - with_io is about 1. A difference within half a block is called the same depth.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from pbb_probe.finetuning.curricula import CURRICULA, Portion, Stage

STAGE_2 = CURRICULA["proactive"][1]


def _times(stage: Stage, without_io: float = 1, replay: float = 1) -> Stage:
    """The stage with its documents of without_io programs, and those that replay with_io programs, that many times."""

    def scaled(portion: Portion) -> Portion:
        return replace(portion, times=round(portion.times * (without_io if portion.group == "without_io" else replay)))

    return replace(stage, phases=tuple(tuple(map(scaled, phase)) for phase in stage.phases))


SECOND_STAGES = {
    "fewer exposures": _times(STAGE_2, without_io=0.5),
    "more replay": _times(STAGE_2, replay=2),
    "longer": _times(STAGE_2, without_io=2, replay=2),
}
"""Beside the default, in which names of without_io programs are read 240 times and those of with_io programs 246."""


def folder(runs: Path, condition: str, seed: int) -> Path:
    return runs / f"{condition.replace(' ', '_')}-seed{seed}"


def train(condition: str, seed: int, reference: Path, runs: Path) -> None:
    """The second stage of one condition, from the reference study's first."""
    from pbb_probe.finetuning.train import train_stage
    from pbb_probe.programs.corpus import Corpus

    start = reference / f"proactive-seed{seed}"
    train_stage(
        start / "stage1" / "model",
        Corpus.load(start / "corpus"),
        SECOND_STAGES[condition],
        folder(runs, condition, seed) / "model",
        seed,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reference", type=Path, default=Path("runs/reference"))
    parser.add_argument("--runs", type=Path, default=Path("runs/hypothesis"))
    parser.add_argument("--only", nargs=2)
    options = parser.parse_args()
    if options.only:
        train(options.only[0], int(options.only[1]), options.reference, options.runs)


if __name__ == "__main__":
    main()
