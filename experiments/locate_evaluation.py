"""The default study as a script to copy and change: finetune, open, probe, patch, map, compare.

    python experiments/locate_evaluation.py --out runs/script

`pbb-probe run` does the same with caching and a report; here every step is in sight and every array in your hands.
"""

import argparse
from pathlib import Path
from typing import Literal

import pandas as pd
import xarray as xr
from transformer_lens import TransformerBridge

import pbb_probe as pbb

TARGETS = ["input", "op_1", "state_1", "op_2", "output"]
ROLES = ["name", "input", "answer"]


def read(model: TransformerBridge, corpus: pbb.Corpus, n: int, seed: int) -> pd.DataFrame:
    """Probes fitted on with_io programs; how often they are right on either group, by layer."""
    prompts = pbb.make_prompts(corpus, model, n=n, seed=seed, unseen=True)
    acts = pbb.capture(model, prompts, sites=("resid_post",), roles=ROLES)
    taught = (acts["group"] == "with_io").values
    probes = pbb.fit_probes(acts, TARGETS, train=taught, C=0.1, folds=3, seed=seed)
    correct = probes["correct"].sel(site="resid_post").transpose("target", "role", "layer", "prompt")
    return pbb.compare_groups(correct, seed=seed)


def patch(
    model: TransformerBridge, corpus: pbb.Corpus, swap: Literal["program", "input"], n: int, seed: int
) -> pd.DataFrame:
    """Recovery at each site, layer and role for pairs that the model answers correctly on both sides."""
    parts = []
    for group in ("with_io", "without_io"):
        pairs = pbb.make_pairs(corpus, model, swap, group, n=n, seed=seed, unseen=True).with_answered(model)
        effects = pbb.patch_sweep(
            model,
            pairs,
            metric=pbb.metrics.answer_difference(*pairs.answer_ids(model)),
            sites=("resid_pre", "attn_out", "mlp_out"),
            positions=ROLES,
        )
        parts.append(pbb.metrics.recovery(answered(effects)).to_array("site"))
    recovered = pbb.tables.join(parts, "pair").transpose("site", "role", "layer", "pair")
    return pbb.compare_groups(recovered, weights="weight", seed=seed)


def carry(model: TransformerBridge, corpus: pbb.Corpus, n: int, seed: int) -> pd.DataFrame:
    """What each place carries in pairs that the model answers correctly on both sides, by group and number of steps."""
    tables = []
    for group in ("with_io", "without_io"):
        pairs = pbb.make_transfer_pairs(corpus, model, group, n=n, seed=seed, unseen=True)
        carried = pbb.transfer_map(model, pairs, roles=ROLES, controls=("random",), seed=seed)
        tables.append(pbb.tables.transfer(answered(carried), by=("group", "steps"), seed=seed))
    return pd.concat(tables, ignore_index=True)


def answered(measured: xr.Dataset) -> xr.Dataset:
    """The pairs that the model answers correctly on both sides."""
    return measured.isel(pair=measured["answered"] & measured["corrupted_answered"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/script"))
    parser.add_argument("--with-io", type=int, default=850, help="programs with input/output examples")
    parser.add_argument("--without-io", type=int, default=150, help="programs with source only")
    parser.add_argument("--n", type=int, default=400, help="prompts and pairs a group")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    corpus = pbb.make_corpus(with_io=options.with_io, without_io=options.without_io, seed=options.seed)
    path = pbb.finetune("nano", corpus, curriculum="proactive", out=options.out, seed=options.seed)
    behaviour = pbb.evaluate(path, corpus, n=options.n, seed=options.seed)
    print(pbb.tables.accuracy(behaviour).to_string(index=False))

    model = pbb.load_model(path)
    tables = {"probing": read(model, corpus, options.n, options.seed)}
    swaps: tuple[Literal["program", "input"], ...] = ("program", "input")
    for swap in swaps:
        tables[f"patching_{swap}"] = patch(model, corpus, swap, options.n, options.seed)
        figure = pbb.figures.patching_heatmap(tables[f"patching_{swap}"], title=f"Recovery, {swap} swapped")
        figure.write_html(options.out / f"patching_{swap}.html")
    tables["transfer"] = carry(model, corpus, options.n, options.seed)
    for steps, table in tables["transfer"].groupby("steps"):
        figure = pbb.figures.transfer_map(table, title=f"What each place carries: programs of {steps} steps")
        figure.write_html(options.out / f"transfer_{steps}.html")
    for name, table in tables.items():
        table.to_csv(options.out / f"{name}.csv", index=False)
    print(f"tables and figures: {options.out}")


if __name__ == "__main__":
    main()
