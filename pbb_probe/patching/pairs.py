"""Pairs of prompts for patching: the same call with another input, or of another program."""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.effective_corpus import effective_corpus
from pbb_probe.hooking.answering import gives_answers
from pbb_probe.hooking.answers import answer_ids
from pbb_probe.hooking.calls import fill, prompts_of_calls
from pbb_probe.hooking.items import with_items
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.labels import CORRUPTED
from pbb_probe.patching.pair_calls import chosen, drawn_calls, on_inputs_of_others
from pbb_probe.programs.corpus import GROUPS, Corpus, Group
from pbb_probe.programs.elements import MOST
from pbb_probe.schema import Count, NameList, Seed, checks_arguments, refuse_unknown, shown

if TYPE_CHECKING:
    import pandas as pd
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge

Swap = Literal["input", "program"]
SWAPS: tuple[Swap, ...] = get_args(Swap)


@dataclass(frozen=True)
class Pairs:
    """Prompts in pairs: a clean one, and a corrupted one that differs in one respect and has another answer.

    To be patched, the two prompts of a pair must have equally many tokens, and their roles must stand at the same ones.

    Raises:
        PbbError: a side that is no `Prompts`, or sides of different lengths.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> clean, corrupted = (pbb.Prompts.from_texts(model, [f"dolvik({x}) ="]) for x in (3, 5))
        >>> pairs = Pairs(clean, corrupted)
        >>> len(pairs)
        1
    """

    clean: Prompts
    corrupted: Prompts
    answers: "tuple[torch.Tensor, torch.Tensor] | None" = None
    """Token ids [pair, k] of the clean and of the corrupted answers, where they are no texts; else the label `output`
    of the prompts says them."""
    unit = "pair"
    """The dimension of arrays on which they stand."""

    def __post_init__(self) -> None:
        for name, side in (("clean", self.clean), ("corrupted", self.corrupted)):
            if not isinstance(side, Prompts):
                raise PbbError(f"The {name} prompts of pairs must be Prompts, not {shown(side)}.")
        if len(self.clean) != len(self.corrupted):
            raise PbbError(
                f"There are {len(self.clean)} clean and {len(self.corrupted)} corrupted prompts: give each clean "
                "prompt one corrupted prompt."
            )

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def labels(self) -> "pd.DataFrame":
        """What is known of each pair, a row a pair: the clean prompt's labels, and the corrupted one's as `corrupted_`.

        `program` is the label of the clean prompt, `corrupted_program` that of the corrupted one.
        """
        import pandas as pd

        clean, corrupted = (side.labels.reset_index(drop=True) for side in (self.clean, self.corrupted))
        return pd.concat([clean, corrupted.add_prefix(CORRUPTED)], axis=1)

    def select(self, rows: Sequence[int]) -> "Pairs":
        """Some of the pairs, in the order given; the padding stays.

        Raises:
            PbbError: a row that is not there.
        """
        clean, corrupted = self.clean.select(rows), self.corrupted.select(rows)
        if self.answers is None:
            return replace(self, clean=clean, corrupted=corrupted)
        index = list(rows)
        return replace(self, clean=clean, corrupted=corrupted, answers=(self.answers[0][index], self.answers[1][index]))

    def with_answered(self, model: "TransformerBridge") -> "Pairs":
        """The pairs with the label `answered` on both sides: does the model give the prompt's own answer?

        It does when every token of the answer is the likeliest one, given the prompt and the tokens before it.

        Args:
            model: an opened model.

        Raises:
            PbbError: answers that `hooking.answers.answer_ids` refuses, or prompts that the model cannot read.

        Example:
            >>> import pbb_probe as pbb
            >>> model = pbb.load_model("nano")
            >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", model).with_answered(model)
            >>> both = pairs.labels["answered"] & pairs.labels["corrupted_answered"]
        """
        clean, corrupted = (
            replace(side, labels=side.labels.assign(answered=gives_answers(model, side, ids).numpy()))
            for side, ids in zip((self.clean, self.corrupted), self.answer_ids(model), strict=True)
        )
        return replace(self, clean=clean, corrupted=corrupted)

    def with_items(self, model: "TransformerBridge", most: int = MOST) -> "Pairs":
        """The pairs with the roles `item_1`, `item_2`, ... of `prompts.with_items`; those only in which they line up.

        Two lists of equally many tokens need not: `[3, 10]` and `[10, 3]` do not.

        Args:
            model: whose tokenizer made the prompts.
            most: roles that are made.

        Raises:
            PbbError: what `prompts.with_items` refuses, or no pair that lines up.

        Example:
            >>> import pbb_probe as pbb
            >>> model, roles = pbb.load_model("nano"), {"input": [(2, 8)]}
            >>> clean, corrupted = (
            ...     pbb.Prompts.from_texts(model, [f"f({x}) ="], roles, {"call": [x]}) for x in ("[3, 1]", "[2, 7]"))
            >>> list(Pairs(clean, corrupted).with_items(model).clean.roles)
            ['input', 'answer', 'item_1', 'item_2']
        """
        clean, corrupted = (with_items(model, side, most) for side in (self.clean, self.corrupted))
        pairs = replace(self, clean=clean, corrupted=corrupted).select(aligned_rows(clean, corrupted))
        return replace(pairs, clean=_with_roles_left(pairs.clean), corrupted=_with_roles_left(pairs.corrupted))

    def answer_ids(self, model: "TransformerBridge") -> "tuple[torch.Tensor, torch.Tensor]":
        """Token ids [pair, k] of the clean and of the corrupted answers, padded with -1 at the end.

        Raises:
            PbbError: answers that `hooking.answers.answer_ids` refuses.
        """
        if self.answers is not None:
            return self.answers
        if not all("output" in side.labels for side in (self.clean, self.corrupted)):
            raise PbbError("These pairs do not say their answers: give both sides the label `output`, or answers=.")
        clean, corrupted = (answer_ids(model, side, side.labels["output"]) for side in (self.clean, self.corrupted))
        return clean, corrupted


@checks_arguments
def make_pairs(
    corpus: Corpus,
    model: "TransformerBridge",
    swap: Swap,
    group: Group,
    n: Count = 300,
    seed: Seed = 0,
    unseen: bool = False,
    decisive: bool = True,
    novelty: NameList | None = None,
    effective: "xr.Dataset | None" = None,
) -> Pairs:
    """Calls of one group, each beside a call that differs in one thing and has another answer.

    Args:
        corpus: whose programs are called.
        model: whose tokenizer is used.
        swap: `input` keeps the program and changes the input (where does the input go?); `program` keeps the input and
            takes another program of the same group and number of steps (where does the program go?). Where no other
            program has that input, one of the same kind is run on it.
        group: of both programs.
        n: calls drawn. Fewer pairs come back where a call has no partner of as many tokens.
        seed: of the draw.
        unseen: only inputs whose answers were never shown, on both sides.
        decisive: only calls whose answers no simpler program gives, on both sides: in others a right answer does not
            show that the program was evaluated.
        novelty: only programs without examples of these novelties, such as `new_function` and `new_step`, on both
            sides.
        effective: from `effective_programs`: pairs are made of the programs that the model computes, in place of those
            that it was taught, as `pbb.prompts.effective_corpus` has them. Names whose program is unclear are left out.

    Raises:
        PbbError: unknown swap, an empty group, no decisive call or none of these novelties, or no pair at all.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=60, without_io=20), pbb.load_model("nano")
        >>> pairs = pbb.make_pairs(corpus, model, swap="input", group="with_io", n=10)
        >>> (pairs.labels["program"] == pairs.labels["corrupted_program"]).all().item()
        True
    """
    import pandas as pd

    if swap not in SWAPS:
        raise PbbError(f"Unknown swap {swap!r}: choose one of {', '.join(SWAPS)}.")
    refuse_unknown("group", [group], GROUPS)
    corpus = corpus if effective is None else effective_corpus(corpus, effective)
    n_tokens = token_counter(model)
    calls, every = _drawn(corpus, group, n, seed, unseen, decisive, novelty)
    rng = random.Random(f"pairs {swap} {group} {seed}")
    same, other = _roles(swap)
    if swap == "program":
        every = _with_inputs_of_others(corpus, calls, every, seed, decisive, novelty)
    every["tokens"] = every[other].map(lambda value: n_tokens(str(value)))
    candidates = dict(iter(every.groupby([same, "steps"])))
    kept, partners = [], []
    for i, call in enumerate(calls.to_dict(orient="records")):
        rows = _partners(call, candidates[call[same], call["steps"]], other)
        rows = rows[rows["tokens"] == n_tokens(str(call[other]))]  # so that the two prompts can line up
        if len(rows):
            kept.append(i)
            partners.append(rows.iloc[rng.randrange(len(rows))])
    if not kept:
        raise PbbError(f"No {group} call has a partner with another {other} and another answer: add programs.")
    return aligned_pairs(model, calls.iloc[kept], pd.DataFrame(partners).drop(columns="tokens"), corpus.outputs)


def has_pair(
    corpus: Corpus,
    swap: Swap,
    group: Group,
    n: int,
    seed: int = 0,
    unseen: bool = False,
    decisive: bool = True,
    novelty: Sequence[str] | None = None,
) -> bool:
    """Has one of the calls that `make_pairs` draws a partner, however many tokens either has?

    Raises:
        PbbError: an empty group, one without unseen inputs, no decisive call or none of these novelties.
    """
    calls, every = _drawn(corpus, group, n, seed, unseen, decisive, novelty)
    same, other = _roles(swap)

    def any_partner(table: "pd.DataFrame") -> bool:
        candidates = dict(iter(table.groupby([same, "steps"])))
        records = calls.to_dict(orient="records")
        return any(len(_partners(call, candidates[call[same], call["steps"]], other)) for call in records)

    if any_partner(every):
        return True
    return swap == "program" and any_partner(_with_inputs_of_others(corpus, calls, every, seed, decisive, novelty))


def _drawn(
    corpus: Corpus,
    group: Group,
    n: int,
    seed: int,
    unseen: bool,
    decisive: bool,
    novelty: Sequence[str] | None,
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The calls that want a partner, and all calls of their group that may be one."""
    calls = drawn_calls(corpus, group, n, seed, unseen, decisive, novelty)
    return calls, drawn_calls(corpus, group, None, 0, unseen, decisive, novelty)


def _roles(swap: Swap) -> tuple[str, str]:
    """What the two calls of a pair share, and what they differ in."""
    return ("program", "input") if swap == "input" else ("input", "program")


def _partners(call: dict[str, Any], rows: "pd.DataFrame", other: str) -> "pd.DataFrame":
    """The rows that differ from a call as a partner does."""
    return rows[(rows[other] != call[other]) & (rows["output"] != call["output"])]


def _with_inputs_of_others(
    corpus: Corpus,
    calls: "pd.DataFrame",
    every: "pd.DataFrame",
    seed: int,
    decisive: bool,
    novelty: Sequence[str] | None,
) -> "pd.DataFrame":
    """All calls of a group that may be partners, and others on those inputs of `calls` that only one program has."""
    import pandas as pd

    alone = every.groupby(["input", "steps"])["program"].transform("nunique") == 1
    lonely = calls.merge(every.loc[alone, ["program", "place"]])
    others = on_inputs_of_others(corpus, lonely, seed)
    return pd.concat([every, others if others.empty else chosen(others, decisive, novelty)], ignore_index=True)


def token_counter(model: "TransformerBridge") -> Callable[[str], int]:
    """How many tokens a text has on its own."""
    return functools.cache(lambda text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"]))


def aligned_pairs(
    model: "TransformerBridge", clean: "pd.DataFrame", corrupted: "pd.DataFrame", answers: Sequence[Any] = ()
) -> Pairs:
    """Rows of `Corpus.calls` side by side, each corrupted one in the surface template of its clean one.

    Pairs whose roles do not stand at the same tokens are left out.

    Args:
        model: whose tokenizer is used.
        clean: rows of `Corpus.calls`.
        corrupted: as many rows; the k-th is the corrupted side of the k-th clean one.
        answers: possible answers besides the outputs of these calls, such as `Corpus.outputs`.

    Raises:
        PbbError: none is left.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=20, without_io=0), pbb.load_model("nano")
        >>> calls = corpus.calls("direct", n=40)
        >>> pairs = pbb.prompts.aligned_pairs(model, calls[:20], calls[20:])
        >>> pairs.labels["template"].equals(pairs.labels["corrupted_template"])
        True
    """
    import pandas as pd

    corrupted = corrupted.assign(template=list(clean["template"]))
    corrupted["prompt"] = [
        fill(row["template"], name=row["program"], input=row["call"])[0] for row in corrupted.to_dict(orient="records")
    ]
    both = prompts_of_calls(model, pd.concat([clean, corrupted], ignore_index=True), answers=answers)
    half = range(len(clean))
    pairs = Pairs(both.select(half), both.select([len(half) + i for i in half]))
    return pairs.select(aligned_rows(pairs.clean, pairs.corrupted))


def aligned_rows(clean: Prompts, corrupted: Prompts) -> list[int]:
    """The pairs whose roles stand at the same tokens.

    Raises:
        PbbError: there are none.
    """
    import torch

    nowhere = torch.full((len(clean), 2), -1)
    of_role = [
        (clean.spans.get(role, nowhere) == corrupted.spans.get(role, nowhere)).all(1)
        for role in {**clean.spans, **corrupted.spans}
    ]
    rows: list[int] = torch.stack(of_role).all(0).nonzero()[:, 0].tolist()
    if not rows:
        raise PbbError("No pair lines up token by token: use names that are equally many tokens.")
    return rows


def _with_roles_left(prompts: Prompts) -> Prompts:
    """The prompts without roles that all of them lack."""
    return replace(prompts, spans={role: span for role, span in prompts.spans.items() if bool((span >= 0).any())})
