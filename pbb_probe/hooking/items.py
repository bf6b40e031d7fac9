"""Roles for what a call is made of: `item_1`, `item_2`, ... on the elements of lists and the letters of texts."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts, tokenizer_of
from pbb_probe.models.tokens import encoded
from pbb_probe.programs.elements import MOST, element_spans
from pbb_probe.schema import checks_arguments, whole

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge

ITEM = "item_"
Characters = tuple[int, int]


def is_item(role: str) -> bool:
    """Is it the role of an element, such as `item_2`?"""
    return role.removeprefix(ITEM).isdecimal() and role.startswith(ITEM)


@checks_arguments
def with_items(model: "TransformerBridge", prompts: Prompts, most: Annotated[int, whole(1, 1000)] = MOST) -> Prompts:
    """The prompts with the roles `item_1`, `item_2`, ... on the tokens of the elements of their calls.

    Elements are those of `programs.elements`: the items of lists and tuples and the letters of texts, of several
    arguments behind one another. A prompt lacks a role, whose span is then -1, if it has fewer elements, or if one
    token covers this element and another, as of words that are single tokens. `capture` has NaN there, and so has
    whatever is measured of it.

    Args:
        model: whose tokenizer made the prompts.
        prompts: with the role `input` and the label `call`, the arguments as they stand there; from `make_prompts`.
        most: roles that are made; further elements get none.

    Raises:
        PbbError: prompts without that role or label, or other than this tokenizer makes them, or no element that has
            tokens of its own.

    Example:
        >>> import pbb_probe as pbb
        >>> model, texts = pbb.load_model("nano"), ["f([3, 1]) =", "f([2]) ="]
        >>> prompts = pbb.Prompts.from_texts(model, texts, {"input": [(2, 8), (2, 5)]}, {"call": ["[3, 1]", "[2]"]})
        >>> {role: last.tolist() for role, last in with_items(model, prompts).roles.items() if "item" in role}
        {'item_1': [4, 4], 'item_2': [6, -1]}
    """
    import torch

    if "input" not in prompts.spans or "call" not in prompts.labels:
        raise PbbError("Items are found in the role 'input' by the label 'call': take prompts of make_prompts.")
    batch = encoded(tokenizer_of(model), prompts.texts, prompts.special_tokens, offsets=True)
    first = prompts.attention_mask.argmax(1)
    spans = torch.full((most, len(prompts), 2), -1)
    for i, (call, start) in enumerate(zip(prompts.labels["call"], first.tolist(), strict=True)):
        began, ended = (int(position) - start for position in prompts.spans["input"][i])
        read = prompts.tokens[i, start : start + ended + 1].tolist()
        offsets = batch["offset_mapping"][i]
        if batch["input_ids"][i][: ended + 1] != read or (at := prompts.texts[i].find(call, offsets[began][0])) < 0:
            raise PbbError(
                f"The call {call!r} does not stand at the role 'input' of prompt {i}: take its own tokenizer."
            )
        for k, tokens in enumerate(_tokens(call, at, offsets[: ended + 1])[:most]):
            if tokens is not None:
                spans[k, i] = torch.tensor(tokens) + start
    there = [k for k in range(most) if bool((spans[k] >= 0).any())]
    if not there:
        raise PbbError(
            "No element of these calls has tokens of its own: their inputs are no lists, or words of one token."
        )
    return replace(prompts, spans=prompts.spans | {f"{ITEM}{k + 1}": spans[k] for k in there})


def _tokens(call: str, at: int, offsets: list[Characters]) -> list[Characters | None]:
    """First and last token of each element of a call that begins at a character; None where one is shared."""
    try:
        elements = [(start + at, end + at) for start, end in element_spans(call)]
    except (ValueError, SyntaxError) as error:
        raise PbbError(f"The call {call!r} cannot be read: its arguments must be Python values.") from error
    touching = [[i for i, (a, b) in enumerate(offsets) if a < end and b > start] for start, end in elements]
    covered = [i for tokens in touching for i in tokens]
    return [
        (tokens[0], tokens[-1]) if tokens and all(covered.count(i) == 1 for i in tokens) else None
        for tokens in touching
    ]
