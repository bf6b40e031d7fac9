"""Pairs of prompts for patching: the same call with another input, or of another program."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts, fill, prompts_of_calls
from pbb_probe.programs.corpus import Corpus, Group

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge

Swap = Literal["input", "program"]
SWAPS: tuple[Swap, ...] = get_args(Swap)


@dataclass(frozen=True)
class Pairs:
    """Prompts whose tokens line up position by position, with different answers."""

    clean: Prompts
    corrupted: Prompts

    def __len__(self) -> int:
        return len(self.clean)


def make_pairs(
    corpus: Corpus,
    model: "TransformerBridge",
    swap: Swap,
    group: Group,
    n: int = 300,
    seed: int = 0,
    unseen: bool = False,
) -> Pairs:
    """Calls of one group, each beside a call that differs in one thing and has another answer.

    Args:
        corpus: whose programs are called.
        model: whose tokenizer is used.
        swap: `input` keeps the program and changes the input (where does the input go?); `program` keeps the input and
            takes another program of the same group and number of steps (where does the program go?).
        group: of both programs.
        n: calls drawn. Fewer pairs come back where a call has no partner, or where the tokens of the two do not line up
            (names of different token lengths).
        seed: of the draw.
        unseen: only inputs whose answers were never shown, on both sides.

    Raises:
        PbbError: unknown swap, an empty group, or no pair at all.
    """
    import pandas as pd

    if swap not in SWAPS:
        raise PbbError(f"Unknown swap {swap!r}: choose one of {', '.join(SWAPS)}.")
    calls = corpus.calls("direct", group, n, seed, unseen)
    every = corpus.calls("direct", group, unseen=unseen)
    same, other = ("program", "input") if swap == "input" else ("input", "program")
    candidates = dict(iter(every.groupby([same, "steps"])))
    rng = random.Random(f"pairs {swap} {group} {seed}")
    kept, partners = [], []
    for i, call in enumerate(calls.to_dict(orient="records")):
        rows = candidates[call[same], call["steps"]]
        rows = rows[(rows[other] != call[other]) & (rows["output"] != call["output"])]
        if len(rows):
            kept.append(i)
            partners.append(rows.iloc[rng.randrange(len(rows))])
    if not kept:
        raise PbbError(f"No {group} call has a partner with another {other} and another answer: add programs.")
    clean = calls.iloc[kept]
    corrupted = pd.DataFrame(partners).assign(template=list(clean["template"]))
    corrupted["prompt"] = [
        fill(row["template"], name=row["program"], input=row["input"])[0] for row in corrupted.to_dict(orient="records")
    ]
    both = prompts_of_calls(model, pd.concat([clean, corrupted], ignore_index=True))
    half = len(kept)
    aligned = [i for i in range(half) if all(bool((span[i] == span[half + i]).all()) for span in both.spans.values())]
    if not aligned:
        raise PbbError("No pair lines up token by token: use names that are equally many tokens.")
    return Pairs(both.select(aligned), both.select([half + i for i in aligned]))
