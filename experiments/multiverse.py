"""How far the verdict depends on choices that could as well have been made otherwise: all of them, in one table.

Where the program leaves its name is asked with each metric, denoising and noising, with each draw of pairs and each
threshold; where the output is read at the answer position, with each C and each margin. `reference_study.py` asks this
of every finetuned model.
"""

import itertools
from pathlib import Path

import pandas as pd
import xarray as xr

from pbb_probe.evidence.subsets import answered
from pbb_probe.evidence.verdict import ENOUGH
from pbb_probe.labels import labels_of
from pbb_probe.programs.corpus import Corpus
from pbb_probe.store.disk import write_array

METRICS = ("logit difference", "probability", "negative KL")
DIRECTIONS = ("denoising", "noising")
PAIR_SEEDS = (0, 1, 2)
PAIRS = 300
THRESHOLDS = (0.3, 0.5, 0.7)
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
MARGINS = (0.1, 0.2, 0.3)
DRAWS = 500
TOO_FEW = float("inf")  # in place of a block, behind all of them


def sweeps(corpus: Corpus, model_path: str, out: Path) -> None:
    """Recovery with the program swapped, in every universe: a file a pair seed and group."""
    from pbb_probe.hooking.answering import answer_logits
    from pbb_probe.hooking.load import load_model
    from pbb_probe.patching.metrics import logit_difference, negative_kl, probability
    from pbb_probe.patching.pairs import make_pairs
    from pbb_probe.patching.sweep import patch_sweep
    from pbb_probe.study.steps import groups_there

    model = load_model(model_path)
    for pair_seed, group in itertools.product(PAIR_SEEDS, groups_there(corpus)):
        pairs = make_pairs(corpus, model, "program", group, PAIRS, pair_seed, unseen=True).with_answered(model)
        clean, corrupted = (ids[:, 0] for ids in pairs.answer_ids(model))
        measures = (
            logit_difference(clean, corrupted),
            probability(clean),
            negative_kl(answer_logits(model, pairs.clean)),
        )
        metric = dict(zip(METRICS, measures, strict=True))
        effects = [
            patch_sweep(model, pairs, metric=metric, positions=["name"], noising=direction == "noising")
            for direction in DIRECTIONS
        ]
        both = xr.concat(effects, "direction").assign_coords(direction=list(DIRECTIONS))
        write_array(both, out / f"sweep_{pair_seed}_{group}.nc")


def probes(acts: xr.Dataset, out: Path) -> None:
    """The output read at the answer position with every C: probes of the study's own activations."""
    from pbb_probe.probing.controls import relabelled_targets
    from pbb_probe.probing.linear import fit_probes

    relabelled = relabelled_targets(labels_of(acts), ["output"])
    read = [
        fit_probes(
            acts.sel(role=["answer"]),
            ["output"],
            train=(acts["group"] == "with_io").values,
            C=strength,
            folds=3,
            controls={"chance": None, "shuffled": None, "selectivity": None, "relabelled": relabelled},
        )
        for strength in STRENGTHS
    ]
    write_array(xr.concat(read, "C").assign_coords(C=list(STRENGTHS)), out / "probes.nc")


def universes(folder: Path) -> pd.DataFrame:
    """A row a universe, group and number of steps: the block of the program by use or of the output by reading."""
    from pbb_probe.errors import PbbError
    from pbb_probe.evidence.onsets import located_patching, located_reading
    from pbb_probe.patching.metrics import recovery
    from pbb_probe.programs.corpus import GROUPS

    rows = []
    for pair_seed, group in itertools.product(PAIR_SEEDS, GROUPS):
        if not (file := folder / f"sweep_{pair_seed}_{group}.nc").exists():
            continue  # a corpus without such programs
        effects = xr.load_dataset(file)
        effects = effects.isel(pair=answered(effects))
        for direction, metric in itertools.product(DIRECTIONS, METRICS):
            try:
                recovered = recovery(effects.sel(direction=direction, metric=metric, drop=True))
            except PbbError:
                continue  # no pair, or none that is told apart
            values = recovered.to_array("site").assign_coords(weight=recovered["weight"])
            if direction == "noising":
                values = values["weight"] - values  # not what is left of the answer, but what is lost
            for threshold in THRESHOLDS:
                located = located_patching(values, "program", threshold=threshold, draws=DRAWS)
                choices = {"metric": metric, "direction": direction, "pair seed": pair_seed, "threshold": threshold}
                rows.append(located.assign(question="the program leaves its name", **choices))
    read = xr.load_dataset(folder / "probes.nc")
    read = read.isel(prompt=answered(read))
    for strength, margin in itertools.product(STRENGTHS, MARGINS):
        located = located_reading(read.sel(C=strength, drop=True), margin=margin, draws=DRAWS)
        rows.append(located.assign(question="the output is read", C=strength, margin=margin))
    return pd.concat(rows, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """For every choice and question: in how many universes each block is the answer, and how often the groups agree.

    A universe in which a group has too few programs says nothing of it.
    """
    choices = [
        name for name in ("metric", "direction", "pair seed", "threshold", "C", "margin", "seed") if name in table
    ]
    key = [*choices, "steps", "question"]
    told = table.assign(layer=table["layer"].where(table["clusters"] >= ENOUGH, TOO_FEW))
    wide = told.pivot_table(index=key, columns="group", values="layer", dropna=False, aggfunc="first").reset_index()
    wide = wide.merge(table[key].drop_duplicates())
    rows = []
    for question, asked in wide.groupby("question", sort=False):
        for choice in choices:
            for value, cells in asked.groupby(choice):
                groups = ["with_io", "without_io"]
                both = cells[(cells[groups] != TOO_FEW).all(axis=1)].dropna(subset=groups)
                row = {"question": question, "choice": choice, "value": value, "universes": len(cells)}
                for group in groups:
                    counts = cells[group].value_counts(dropna=False).sort_index()
                    row[group] = ", ".join(f"{_block(block)}: {n}" for block, n in counts.items())
                later = (both["without_io"] - both["with_io"]).to_numpy()
                row |= {
                    "same block": int((later == 0).sum()),
                    "without_io later": int((later > 0).sum()),
                    "earlier": int((later < 0).sum()),
                }
                rows.append(row)
    return pd.DataFrame(rows)


def _block(block: float) -> str:
    if block == TOO_FEW:
        return "too few programs"
    return "not found" if block != block else f"block {block:.0f}"
