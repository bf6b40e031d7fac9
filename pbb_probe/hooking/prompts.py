"""Prompts: token ids, the positions of named spans in them, and one row of labels for each.

A role is a named span such as `name`, `input` or `answer`. It is given by the characters it covers, which the
tokenizer's offset mapping turns into tokens: it may be part of one token or span several. An answer is one or more
token ids that follow a prompt; rows of unequal lengths are padded with -1. Tokens with which all possible answers
begin, such as the space before a digit, do not distinguish them and belong to the prompt: the role `answer` is the
position from which the first distinguishing token is predicted.
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

from pbb_probe.errors import PbbError
from pbb_probe.labels import label_name
from pbb_probe.models.tokens import encoded, padded, shared_starts, side_by_side
from pbb_probe.schema import Name, Text, checked, checks_arguments, is_printable, shown

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformer_lens import TransformerBridge

Span = tuple[int, int]


@dataclass(frozen=True)
class Prompts:
    """Tokenized prompts of one batch, padded to the same length on either side.

    `from_texts` makes them of any texts, `make_prompts` of a corpus and `prompts.read_prompts` of a file.

    Example:
        >>> import pbb_probe as pbb
        >>> model, texts = pbb.load_model("nano"), ["fuxguk(3) =", "call fuxguk(4) ="]
        >>> prompts = pbb.Prompts.from_texts(model, texts, roles={"name": [(0, 6), (5, 11)]})
        >>> prompts.tokens.shape
        torch.Size([2, 7])
        >>> prompts.roles["name"].tolist()  # <bos> is token 0
        [1, 2]
    """

    tokens: "torch.Tensor"
    """Token ids [prompt, position]."""
    attention_mask: "torch.Tensor"
    """1 at tokens, 0 at padding [prompt, position]."""
    spans: dict[str, "torch.Tensor"]
    """First and last position of each role [prompt, 2]; -1 where a prompt lacks it, as `with_items` makes them."""
    labels: "pd.DataFrame"
    """What is known of the prompts, one row each."""
    texts: tuple[str, ...]
    """What was tokenized, without the start that all answers share and without the answers of `with_answers`."""
    gap: str = " "
    """What stands between a text and its answer; empty where the answer begins a turn of a chat."""
    special_tokens: bool = True
    """Did the tokenizer add its special tokens at the start?"""
    answer_start: "torch.Tensor | None" = None
    """The token ids [prompt, k] that end each prompt and begin all possible answers, padded with -1."""

    @property
    def unit(self) -> str:
        """The dimension of arrays that holds prompts."""
        return "prompt"

    @property
    def roles(self) -> dict[str, "torch.Tensor"]:
        """The last position of each role [prompt]; -1 where a prompt lacks it."""
        return {role: span[:, 1] for role, span in self.spans.items()}

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int]) -> "Prompts":
        """Some of the prompts, in the given order; the padding stays.

        Raises:
            PbbError: a row that is not there.
        """
        index = _listed("rows", rows)
        if odd := [row for row in index if not _is_place(row, len(self))]:
            raise PbbError(f"There is no prompt {shown(odd[0])}: there are {len(self)}, counted from 0.")
        return replace(
            self,
            tokens=self.tokens[index],
            attention_mask=self.attention_mask[index],
            spans={role: span[index] for role, span in self.spans.items()},
            labels=self.labels.iloc[index].reset_index(drop=True),
            texts=tuple(self.texts[i] for i in index),
            answer_start=None if self.answer_start is None else self.answer_start[index],
        )

    def right_padded(self) -> "Prompts":
        """The same prompts, no wider than the longest needs, with their padding behind the tokens.

        A causal model does not see padding there, so that neither a mask nor position ids are needed.
        """
        order, first = padding_behind(self.attention_mask)
        width = order.shape[1]
        moved = {
            role: ((span - first[:, None]) % self.tokens.shape[1]).where(span >= 0, span)
            for role, span in self.spans.items()
        }
        tokens, mask = (x.gather(1, order) for x in (self.tokens, self.attention_mask))
        return replace(self, tokens=tokens[:, :width], attention_mask=mask[:, :width], spans=moved)

    @classmethod
    @checks_arguments
    def from_texts(
        cls,
        model: "TransformerBridge",
        texts: Sequence[str],
        roles: Mapping[str, Sequence[Span]] | None = None,
        labels: "pd.DataFrame | None" = None,
        padding_side: Literal["left", "right"] = "right",
        gap: Text = " ",
        special_tokens: bool = True,
        answers: Sequence[Any] | None = None,
    ) -> "Prompts":
        """Tokenize texts and find the tokens of each role.

        Args:
            model: whose tokenizer is used.
            texts: the prompts.
            roles: for each role, the characters (start, end) it covers in each text. The role `answer`, the last
                token, from which the next one is predicted, is added unless given.
            labels: one row per text, of texts, numbers or booleans.
            padding_side: where short prompts are padded.
            gap: what stands between a text and its answer.
            special_tokens: let the tokenizer add its special tokens at the start; False where the texts contain them.
                Those it would add at the end are left out, since the answer follows.
            answers: the possible answers to all texts. Tokens with which all of them begin are appended to each text,
                so that `answer` is where the answers diverge; without them it is the last token of the text.

        Raises:
            PbbError: no texts or an empty one, no tokenizer or one that roles cannot be found with, a token that the
                model does not have, a role that is not in its text, labels of another length or of lists or mappings.

        Example:
            >>> import pbb_probe as pbb
            >>> model = pbb.load_model("nano")
            >>> prompts = pbb.Prompts.from_texts(model, ["dolvik(3) ="], roles={"input": [(7, 8)]})
            >>> prompts.roles["input"].tolist()  # behind <bos>, the name and the bracket
            [3]
        """
        import pandas as pd
        import torch

        tokenizer = tokenizer_of(model)
        texts = _listed("texts", texts)
        if not all(isinstance(text, str) for text in texts):
            raise PbbError("texts must be a list of texts, one a prompt.")
        for text in texts:
            if not text.isascii() and re.search(r"[\ud800-\udfff]", text):
                raise PbbError(
                    f"The text {shown(text)} holds half a character, which no tokenizer reads: leave it out."
                )
        if not texts:
            raise PbbError("There are no prompts: give at least one text.")
        if padding_side not in ("left", "right"):
            raise PbbError(f"padding_side is left or right, not {padding_side!r}.")
        if not isinstance(labels, (pd.DataFrame, dict, NoneType)):
            raise PbbError(f"labels must be a DataFrame with a row a text, not {shown(labels)}.")
        try:
            labels = pd.DataFrame(labels, index=range(len(texts)) if labels is None else None).reset_index(drop=True)
        except ValueError as error:  # columns of no or of different lengths
            raise PbbError(f"labels must have a row a text ({error}).") from error
        if len(labels) != len(texts):
            raise PbbError(f"There are {len(texts)} texts and {len(labels)} rows of labels: give a row a text.")
        _refuse_unfit(labels)
        if not isinstance(roles or {}, Mapping):
            raise PbbError("roles must be a mapping of names to the characters (start, end) in each text.")
        roles = {checked("a role", role, Name): _listed(f"role {role!r}", at) for role, at in (roles or {}).items()}
        if answers is not None and "answer" in roles:
            raise PbbError("Give either the role 'answer' or answers, which say where it is.")
        batch = encoded(tokenizer, texts, special_tokens, offsets=bool(roles))
        rows = batch["input_ids"]
        for text, ids in zip(texts, rows, strict=True):
            refuse_tokens(model, ids, text)
        if not all(rows):
            raise PbbError("A prompt is empty: every text needs at least one token.")
        tokens, mask = side_by_side(rows, tokenizer.pad_token_id or 0, padding_side)
        first = mask.argmax(1)
        last = first + mask.sum(1) - 1
        spans = {}
        for role, characters in roles.items():
            if len(characters) != len(texts):
                raise PbbError(f"Role {role!r} has {len(characters)} spans for {len(texts)} texts: give one a text.")
            found = [
                _token_span(role, text, span, offsets)
                for text, span, offsets in zip(texts, characters, batch["offset_mapping"], strict=True)
            ]
            spans[role] = torch.tensor(found) + first[:, None]
        spans.setdefault("answer", torch.stack([last, last], dim=1))
        prompts = cls(tokens, mask, spans, labels, tuple(texts), gap, special_tokens)
        return prompts if answers is None else up_to_answers(tokenizer, prompts, answers)


def _is_place(row: Any, n: int) -> bool:
    return isinstance(row, Integral) and not isinstance(row, bool) and int(row) in range(-n, n)


def _listed(name: str, values: Any) -> list[Any]:
    """What is given one a prompt, in a list, tuple, column or array."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise PbbError(f"{name} must be a list, with an entry a prompt, not {shown(values)}.")
    return list(values)


def up_to_answers(tokenizer: Any, prompts: Prompts, answers: Sequence[Any]) -> Prompts:
    """The prompts with the tokens behind them that all possible answers begin with."""
    import torch

    answers = _listed("answers", answers)
    if not answers:
        raise PbbError("There are no possible answers: give at least one, or none at all (answers=None).")
    for answer in answers:
        several = hasattr(answer, "__len__") and not isinstance(answer, str)
        if several or not is_printable(str(answer)):
            raise PbbError(f"A possible answer is {shown(answer)}: give texts or numbers that can be written.")
        if answer is None or answer != answer:
            raise PbbError("A possible answer is missing: leave it out.")
    behind = [prompts.gap + answer for answer in dict.fromkeys(map(str, answers))]
    ids = padded(shared_starts(tokenizer, prompts.texts, behind, prompts.special_tokens))
    longer, last = grown(prompts, ids)
    spans = prompts.spans | {"answer": torch.stack([last, last], dim=1)}
    return replace(longer, spans=spans, answer_start=ids)


def put_behind(
    tokens: "torch.Tensor", mask: "torch.Tensor", last: "torch.Tensor", ids: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Tokens and mask [row, position + k] with ids [row, k] from the position after `last` [row] on.

    What stood there is overwritten and the rest is masked. Ids of -1 are padding; rows may be padded on either side.
    """
    import torch
    from torch.nn.functional import pad

    k = ids.shape[1]
    places = last[:, None] + 1 + torch.arange(k, device=last.device)
    kept = mask * (torch.arange(mask.shape[1], device=mask.device) <= last[:, None])
    return (
        pad(tokens, (0, k)).scatter(1, places, ids.clamp(min=0)),
        pad(kept, (0, k)).scatter(1, places, (ids >= 0).to(mask.dtype)),
    )


def grown(prompts: Prompts, ids: "torch.Tensor") -> "tuple[Prompts, torch.Tensor]":
    """The prompts with ids [prompt, k] behind `answer`, and the position [prompt] of the last of these."""
    before = prompts.roles["answer"]
    last = before + (ids >= 0).sum(1)
    tokens, mask = put_behind(prompts.tokens, prompts.attention_mask, before, ids)
    width = int(last.max()) + 1
    return replace(prompts, tokens=tokens[:, :width], attention_mask=mask[:, :width]), last


def padding_behind(mask: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """The order [row, position] that puts padding behind the tokens, and the place [row] of each first token.

    It is as wide as the longest row.

    Args:
        mask: 1 at tokens, 0 at padding [row, position].

    Raises:
        PbbError: a row without tokens, or with padding between them.
    """
    import torch

    width = mask.shape[1]
    first, lengths = mask.argmax(1), (mask != 0).sum(1)
    last = width - 1 - mask.flip(1).argmax(1)
    if not bool((lengths > 0).all()) or not bool((last - first + 1 == lengths).all()):
        raise PbbError("attention_mask must mark one unbroken stretch of tokens in each row: pad at its ends only.")
    longest = int(lengths.max())
    return (torch.arange(longest, device=mask.device) + first[:, None]) % width, first


def refuse_tokens(model: "TransformerBridge", ids: Sequence[int], text: str) -> None:
    """Refuse token ids that the model has no embedding for."""
    n = getattr(getattr(model, "cfg", None), "d_vocab", None)  # to tokenize, a tokenizer is enough of a model
    if ids and n is not None and max(ids) >= n:
        raise PbbError(
            f"The tokenizer makes the token {max(ids)} of {text[:80]!r}, and the model has {n}: resize "
            "its embeddings to the tokenizer, or give load_model the tokenizer of this model."
        )


def _refuse_unfit(labels: "pd.DataFrame") -> None:
    """Refuse labels that cannot be stored, by their names or by what they hold."""
    for name, column in labels.items():
        label_name(name, "prompt", ())
        odd = [v for v in column if isinstance(v, (list, tuple, set, dict)) or not isinstance(v, Hashable)]
        if odd:
            raise PbbError(f"The label {name!r} holds {odd[0]!r}: labels are texts, numbers or booleans; write a text.")


def tokenizer_of(model: "TransformerBridge") -> Any:
    """The model's tokenizer.

    Raises:
        PbbError: it has none.
    """
    if model.tokenizer is None:
        raise PbbError("The model has no tokenizer: give load_model one.")
    return model.tokenizer


def _token_span(role: str, text: str, span: Span, offsets: list[list[int]]) -> Span:
    match span:
        case [int(start), int(end)] if not isinstance(start, bool) and not isinstance(end, bool):
            pass
        case _:
            raise PbbError(f"Role {role!r} has the span {span!r} in {text!r}: give its characters (start, end).")
    touching = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and a < b]
    if not 0 <= start < end <= len(text) or not touching:
        raise PbbError(f"Role {role!r} covers characters {start} to {end}, which are not in the text {text!r}.")
    return touching[0], touching[-1]
