"""Pairs for the transfer map: another program on another input, and a different answer under every hypothesis.

Few random pairs of two-step programs on digits tell the hypotheses of whole evaluations apart with four decisive calls,
so base and donor are drawn from decisive calls. That no half evaluation gives the answer of a whole one is not asked
for, nor that the passes of loops differ from it and from one another: hardly a pair would be left. The transfer map
counts a hypothesis in the pairs where it tells instead, and pairs in which more hypotheses tell are chosen first.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.effective_corpus import effective_corpus
from pbb_probe.patching.cutting import cuts
from pbb_probe.patching.hypotheses import STEPS, WHOLE, hypotheses, must_differ, telling, told_apart
from pbb_probe.patching.pair_calls import are_decisive, drawn_calls
from pbb_probe.patching.pairs import Pairs, aligned_pairs, token_counter
from pbb_probe.programs.corpus import GROUPS, Corpus, Group
from pbb_probe.programs.program import call_arguments
from pbb_probe.schema import NameList, PairCount, Seed, checks_arguments, refuse_unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

CANDIDATES = 4  # drawn for each pair wanted, twice as many each round
ROUNDS = 6
SOUGHT = 6  # times as many pairs as wanted are looked for, to choose from
SPARE = 3  # times as many are chosen, since not all line up


@checks_arguments
def make_transfer_pairs(
    corpus: Corpus,
    model: "TransformerBridge",
    group: Group,
    n: PairCount = 500,
    seed: Seed = 0,
    unseen: bool = False,
    donor_group: Group | None = None,
    decisive: bool = True,
    novelty: NameList | None = None,
    effective: "xr.Dataset | None" = None,
) -> Pairs:
    """Donor prompts (`clean`) and base prompts (`corrupted`) for `transfer_map`.

    The two prompts of a pair call different programs with equally many steps on different inputs, in the same surface
    template and aligned token by token. Every hypothesis of whole evaluations in `patching.hypotheses` that such
    programs allow applies, and no two predict the same answer. Of the pairs of a base program those come first in which
    half evaluations and passes of loops, too, predict answers of their own.

    Args:
        corpus: whose programs are called.
        model: whose tokenizer is used.
        group: of the base programs.
        n: pairs wanted, as many of each number of steps. Fewer come back where too few of those drawn qualify.
        seed: of the draw.
        unseen: only inputs whose answers were never shown, on both sides.
        donor_group: of the donor programs; the same when None.
        decisive: only pairs in which no simpler program gives the answer of the base, of the donor, of the donor's
            program on the base's input, or the other way round.
        novelty: only programs without examples of these novelties, such as `new_function` and `new_step`; a side with
            examples has none, and is left as it is.
        effective: from `effective_programs`: pairs are made of the programs that the model computes, in place of those
            that it was taught, as `pbb.prompts.effective_corpus` has them. Names whose program is unclear are left out.

    Returns:
        The pairs by number of steps, in each of which the base programs take turns.

    Raises:
        PbbError: an unknown or empty group, no decisive call or none of these novelties, or no pair that qualifies.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=60, without_io=20), pbb.load_model("nano")
        >>> pairs = pbb.make_transfer_pairs(corpus, model, group="with_io", n=10)
        >>> (pairs.labels["program"] != pairs.labels["corrupted_program"]).all().item()
        True
    """
    import numpy as np
    import pandas as pd

    groups = group, donor_group or group
    refuse_unknown("group", groups, GROUPS)
    corpus = corpus if effective is None else effective_corpus(corpus, effective)
    rng = np.random.default_rng(seed)
    base, donor = (
        _with_kinds(drawn_calls(corpus, name, None, seed, unseen, decisive, asked), model)
        for name, asked in zip(groups, _novelties(groups, novelty), strict=True)
    )
    steps = sorted(base["steps"].unique())
    wanted = {step: n // len(steps) + (place < n % len(steps)) for place, step in enumerate(steps)}
    base_rows, donor_rows = [], []
    for step, n_wanted in wanted.items():
        calls = base[base["steps"] == step]
        of_base, of_donor = _qualifying(calls, donor, n_wanted, corpus, decisive, rng)
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


def _novelties(groups: Sequence[str], novelty: Sequence[str] | None) -> list[Sequence[str] | None]:
    """What is asked of each side: nothing of one with examples, where the other has none."""
    asked = [novelty if name == "without_io" else None for name in groups]
    return asked if any(asked) else [novelty] * len(groups)


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
    base: "pd.DataFrame", donor: "pd.DataFrame", n: int, corpus: Corpus, decisive: bool, rng: "np.random.Generator"
) -> tuple[list[int], list[int]]:
    """Rows of base calls, each with the row of a donor call of its kind that tells the hypotheses apart."""
    import numpy as np
    import pandas as pd

    library = [entry.program for entry in corpus.entries]
    pools = donor.groupby("kind").indices
    turns = itertools.cycle(range(len(base)))
    kinds, n_cuts = base["kind"].to_numpy(), base["source"].map(lambda text: len(cuts(text))).to_numpy()
    decide = decisive and "decisive" in base
    qualifying: dict[tuple[int, int], int] = {}  # how many hypotheses tell something
    for k in range(ROUNDS):
        of_base = np.fromiter(itertools.islice(turns, n * CANDIDATES * 2**k), int)
        of_base = of_base[np.isin(kinds[of_base], list(pools))]
        of_donor = np.zeros_like(of_base)
        for kind in sorted(set(kinds[of_base])):
            here = kinds[of_base] == kind
            of_donor[here] = rng.choice(pools[kind], here.sum())
        if decide:
            good = _swapped_decisive(corpus, base, of_base, donor, of_donor)
            of_base, of_donor = of_base[good], of_donor[good]
        predicted = hypotheses(base.iloc[of_base], donor.iloc[of_donor], library)
        of_wholes = predicted[[name for name in predicted if must_differ(str(name))]]
        whole = of_wholes.notna().sum(axis=1).to_numpy() == len(WHOLE) + len(STEPS) * n_cuts[of_base]
        good = whole & told_apart(predicted)
        tell = telling(predicted).sum(axis=1).to_numpy()[good].tolist()
        qualifying |= dict(zip(zip(of_base[good].tolist(), of_donor[good].tolist(), strict=True), tell, strict=True))
        if len(qualifying) >= SOUGHT * n:
            break
    rows = pd.DataFrame(list(qualifying), columns=["base", "donor"], dtype=int).assign(tell=list(qualifying.values()))
    rows = rows.sort_values("tell", ascending=False, kind="stable")
    turn = rows.groupby(base["program"].to_numpy()[rows["base"]]).cumcount()
    rows = rows.assign(turn=turn).sort_values("turn", kind="stable").head(SPARE * n)
    return rows["base"].tolist(), rows["donor"].tolist()


def _swapped_decisive(
    corpus: Corpus, base: "pd.DataFrame", of_base: "np.ndarray", donor: "pd.DataFrame", of_donor: "np.ndarray"
) -> "np.ndarray":
    """Are both the donor's program on the base's input and the base's on the donor's decisive? [pair]"""
    import numpy as np

    (a, x), (b, y) = (
        (rows["program"].to_numpy()[chosen].tolist(), rows["call"].to_numpy()[chosen].tolist())
        for rows, chosen in ((base, of_base), (donor, of_donor))
    )
    decisive = are_decisive(corpus, [*zip(b, x, strict=True), *zip(a, y, strict=True)])
    both: np.ndarray = np.array(decisive, dtype=bool).reshape(2, -1).min(axis=0)
    return both
