"""Pairs for the transfer map: another program on another input, and a different answer under every hypothesis."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.patching.cutting import cuts
from pbb_probe.patching.hypotheses import STEPS, WHOLE, hypotheses, told_apart
from pbb_probe.patching.pairs import Pairs, aligned_pairs, token_counter
from pbb_probe.programs.corpus import GROUPS, Corpus, Group
from pbb_probe.programs.program import Program, call_arguments
from pbb_probe.schema import PairCount, Seed, checks_arguments, refuse_unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from transformer_lens import TransformerBridge

CANDIDATES = 4  # drawn for each pair wanted, twice as many each round: of two steps on digits one in twelve qualifies
ROUNDS = 5
SPARE = 3  # times as many pairs as wanted are looked for, to choose from


@checks_arguments
def make_transfer_pairs(
    corpus: Corpus,
    model: "TransformerBridge",
    group: Group,
    n: PairCount = 500,
    seed: Seed = 0,
    unseen: bool = False,
    donor_group: Group | None = None,
) -> Pairs:
    """Donor prompts (`clean`) and base prompts (`corrupted`) for `transfer_map`.

    The two prompts of a pair call different programs with equally many steps on different inputs, in the same surface
    template and aligned token by token. Every hypothesis of `patching.hypotheses` that such programs allow applies, and
    no two predict the same answer.

    Args:
        corpus: whose programs are called.
        model: whose tokenizer is used.
        group: of the base programs.
        n: pairs wanted, as many of each number of steps. Fewer come back where too few of those drawn qualify.
        seed: of the draw.
        unseen: only inputs whose answers were never shown, on both sides.
        donor_group: of the donor programs; the same when None.

    Returns:
        The pairs by number of steps, in each of which the base programs take turns.

    Raises:
        PbbError: an unknown or empty group, or no pair that qualifies.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=60, without_io=20), pbb.load_model("nano")
        >>> pairs = pbb.make_transfer_pairs(corpus, model, group="with_io", n=10)
        >>> (pairs.labels["program"] != pairs.labels["corrupted_program"]).all().item()
        True
    """
    import numpy as np
    import pandas as pd

    refuse_unknown("group", [group, donor_group or group], GROUPS)
    rng = np.random.default_rng(seed)
    base, donor = (
        _with_kinds(corpus.calls("direct", name, seed=seed, unseen=unseen), model)
        for name in (group, donor_group or group)
    )
    library = [entry.program for entry in corpus.entries]
    steps = sorted(base["steps"].unique())
    wanted = {step: n // len(steps) + (place < n % len(steps)) for place, step in enumerate(steps)}
    base_rows, donor_rows = [], []
    for step, n_wanted in wanted.items():
        calls = base[base["steps"] == step]
        of_base, of_donor = _qualifying(calls, donor, n_wanted, library, rng)
        base_rows.append(calls.iloc[of_base])
        donor_rows.append(donor.iloc[of_donor])
    if not any(map(len, base_rows)):
        raise PbbError(
            f"No pair of {group} calls predicts different answers under all hypotheses: add programs, or use programs "
            "with fewer steps or more values."
        )
    clean, corrupted = (pd.concat(rows).drop(columns="kind") for rows in (donor_rows, base_rows))
    pairs = aligned_pairs(model, clean, corrupted, corpus.outputs)
    labels = pairs.corrupted.labels
    turns = labels.assign(turn=labels.groupby("program").cumcount()).sort_values(["steps", "turn"], kind="stable")
    chosen = [row for step, rows in turns.groupby("steps") for row in rows.index[: wanted[step]]]
    return pairs.select(chosen)


def _with_kinds(calls: "pd.DataFrame", model: "TransformerBridge") -> "pd.DataFrame":
    """The calls with the column `kind`: two calls of a kind line up and have the same hypotheses."""
    n_tokens = token_counter(model)
    kinds = []
    for row in calls.to_dict(orient="records"):
        types = [type(argument).__name__ for argument in call_arguments(row["program"], row["call"])]
        lengths = n_tokens(row["program"]), n_tokens(row["call"])
        kinds.append(repr((row["family"], row["steps"], cuts(row["source"]), types, lengths)))
    return calls.assign(kind=kinds)


def _qualifying(
    base: "pd.DataFrame", donor: "pd.DataFrame", n: int, library: Sequence[Program], rng: "np.random.Generator"
) -> tuple[list[int], list[int]]:
    """Rows of base calls, each with the row of a donor call of its kind that tells all hypotheses apart."""
    import numpy as np

    pools = donor.groupby("kind").indices
    turns = itertools.cycle(range(len(base)))
    kinds, n_cuts = base["kind"].to_numpy(), base["source"].map(lambda text: len(cuts(text))).to_numpy()
    qualifying: dict[tuple[int, int], None] = {}  # as an ordered set
    for k in range(ROUNDS):
        of_base = np.fromiter(itertools.islice(turns, n * CANDIDATES * 2**k), int)
        of_base = of_base[np.isin(kinds[of_base], list(pools))]
        of_donor = np.zeros_like(of_base)
        for kind in set(kinds[of_base]):
            here = kinds[of_base] == kind
            of_donor[here] = rng.choice(pools[kind], here.sum())
        predicted = hypotheses(base.iloc[of_base], donor.iloc[of_donor], library)
        whole = predicted.notna().sum(axis=1).to_numpy() == len(WHOLE) + len(STEPS) * n_cuts[of_base]
        good = whole & told_apart(predicted)
        qualifying |= dict.fromkeys(zip(of_base[good].tolist(), of_donor[good].tolist(), strict=True))
        if len(qualifying) >= SPARE * n:
            break
    return [row for row, _ in qualifying], [row for _, row in qualifying]
