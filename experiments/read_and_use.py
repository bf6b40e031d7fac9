"""Is the direction that decodes a state the one that carries it? nano with two-step programs in its prompt.

    python experiments/read_and_use.py --out results/in_context

Probes are fitted after each block at the answer position, on calls of programs of their own, beside their controls.
Then the subspace that a probe reads is put from one run of `experiments/pairs.jsonl` into the other, and nothing else;
beside it a random subspace of the same rank, moved as far. With three strengths of regularisation, since that matters:
`interchange.md` has the outcome at each.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

import pbb_probe as pbb
from pbb_probe.views.images import save_pngs
from pbb_probe.views.markdown import markdown_table

VARIABLES = ("state_1", "output")
STRENGTHS = (0.001, 0.01, 0.1)
FOLLOWED = ("state_1", "everything")  # what is expected of the state's subspace, and of the output's


def by_strength(interchange: pd.DataFrame) -> str:
    """What `interchange.md` says: a row a subspace and strength, a column a block, random subspaces in brackets."""
    rows = []
    for variable, hypothesis in zip(VARIABLES, FOLLOWED, strict=True):
        followed = interchange[(interchange["variable"] == variable) & (interchange["hypothesis"] == hypothesis)]
        for strength, cells in followed.groupby("C"):
            share = cells.pivot(index="layer", columns="control", values="proportion")
            shown = {f"block {k}": f"{row['none']:.0%} ({row['random']:.0%})" for k, row in share.iterrows()}
            rows.append({"subspace of": variable, "C": f"{strength:g}", **shown})
    return MOVED.format(table=markdown_table(pd.DataFrame(rows)), n=interchange["n"].max())


MOVED = """# What the subspaces that probes read carry

Made by `python experiments/read_and_use.py`: nano with programs in its prompt, the answer position after each block,
{n} pairs. The share whose answer follows the state (of the state's subspace) or the whole other run (of the output's);
in brackets random subspaces of the same rank. C is the inverse regularisation strength of the probe that a subspace is
of. No value was fixed beforehand, so that all that the script tries are given.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pairs", type=Path, default=Path(__file__).with_name("pairs.jsonl"))
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--calls", type=int, default=900)
    parser.add_argument("--out", type=Path, default=Path("results/in_context"))
    options = parser.parse_args()

    model = pbb.load_model(options.model)
    shapes = ("two_steps",)
    corpus = pbb.make_corpus(with_io=options.programs, without_io=0, shapes=shapes, seed=5, new_functions=None)
    prompts = pbb.prompts.code_prompts(corpus, model, n=options.calls)
    acts, names = pbb.capture(model, prompts, roles=["answer"]), ["input", "op_1", *VARIABLES]
    probes = pbb.fit_probes(
        acts,
        names,
        C=0.01,
        controls={
            "selectivity": None,
            "permutation": None,
            "chance": None,
            "relabelled": pbb.controls.relabelled_targets(prompts.labels, names),
            "untrained": pbb.capture(pbb.controls.untrained_model(model), prompts, roles=["answer"]),
            "embedding": pbb.controls.embeddings(model, prompts, ["name", "input", "answer"]),
        },
    )
    table = pbb.tables.probes(probes, by=())
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "probes.csv", index=False, float_format="%.4g")

    pairs = pbb.prompts.read_pairs(options.pairs, model)
    carry = partial(pbb.transfer_map, model, pairs, sites=["resid_post"], roles=["answer"])
    moved = []
    for variable in VARIABLES:
        for strength in STRENGTHS:
            fitted = pbb.fit_probes(acts, [variable], C=strength, folds=1, keep=True)
            carried = carry(subspaces=fitted.subspaces(), controls=["random"])
            moved.append(pbb.tables.transfer(carried, by=()).assign(variable=variable, C=strength))
    moved.append(pbb.tables.transfer(carry(), by=()).assign(variable="everything", control="none"))
    interchange = pd.concat(moved, ignore_index=True)
    interchange.to_csv(options.out / "interchange.csv", index=False, float_format="%.4g")
    (options.out / "interchange.md").write_text(by_strength(interchange))
    title = "nano, programs in the prompt: what a linear probe reads"
    save_pngs({"probes": pbb.figures.probe_curves(table, title)}, options.out)
    read = table[table["control"] == "none"].pivot(index="target", columns="layer", values="score")
    shown = interchange[interchange["hypothesis"].isin(FOLLOWED)]
    grid = shown.pivot_table(index=["variable", "C", "control", "hypothesis"], columns="layer", values="proportion")
    print(read.to_string(float_format="%.2f"), grid.to_string(float_format="%.2f"), sep="\n")


if __name__ == "__main__":
    main()
