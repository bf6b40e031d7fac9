"""From text to token ids: a document as a base model reads it, plain or as a turn of a chat.

The tokenizer decides whether a model is addressed as a chat: where it has a chat template, prompts are the user's turns
and completions the assistant's. Training, evaluation and hooking all go through here, so that what is asked later is,
token by token, what was trained. End tokens that a tokenizer appends to a text are left out: the text goes on.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Literal

from pbb_probe.errors import PbbError
from pbb_probe.programs.documents import Document

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

LossOn = Literal["all", "completion"]


def text_ids(tokenizer: Any, texts: Sequence[str], special_tokens: bool = True) -> list[list[int]]:
    """The token ids of each text, with the special tokens that the tokenizer puts before it but not those after it."""
    return encoded(tokenizer, texts, special_tokens)["input_ids"]


def encoded(
    tokenizer: Any, texts: Sequence[str], special_tokens: bool = True, offsets: bool = False
) -> dict[str, list[Any]]:
    """`text_ids` as `input_ids` and, on request, the characters that each token covers as `offset_mapping`.

    Raises:
        PbbError: offsets are asked of a tokenizer that has none.
    """
    if offsets and not tokenizer.is_fast:
        raise PbbError(
            "This tokenizer cannot tell which characters a token covers, which roles need: load its fast version "
            "(use_fast=True, a tokenizer.json), or give no roles."
        )
    if not texts:
        return {"input_ids": [], "offset_mapping": []}
    batch = tokenizer(
        list(texts),
        add_special_tokens=special_tokens,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        **({"return_offsets_mapping": True} if offsets else {}),
    )
    # the mask marks only what the tokenizer added itself, not a special token in the text
    ends = [
        len(mask) - next((i for i, m in enumerate(reversed(mask)) if not m), 0) for mask in batch["special_tokens_mask"]
    ]
    return {
        name: [list(row[:end]) for row, end in zip(batch[name], ends, strict=True)]
        for name in ("input_ids", *(["offset_mapping"] if offsets else []))
    }


def as_asked(tokenizer: Any, prompt: str) -> str:
    """The prompt as the model reads it: unchanged, or as the user's turn with the assistant's turn begun."""
    if not tokenizer.chat_template:
        return prompt
    turn = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return str(asked)


def as_answered(tokenizer: Any, completion: str) -> str:
    """The completion as the model is to write it: in a chat a turn begins without a space."""
    return completion.lstrip() if tokenizer.chat_template else completion


def _as_given(tokenizer: Any, prompts: Sequence[str], completions: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """Both as texts, and whether special tokens belong before them: a chat template brings its own."""
    asked = [as_asked(tokenizer, prompt) for prompt in prompts]
    return asked, [as_answered(tokenizer, completion) for completion in completions], not tokenizer.chat_template


def prompt_ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """The token ids of each prompt as it is asked."""
    asked, _, special_tokens = _as_given(tokenizer, prompts, ())
    return text_ids(tokenizer, asked, special_tokens)


def completion_ids(tokenizer: Any, prompts: Sequence[str], completions: Sequence[str]) -> list[list[int]]:
    """The token ids with which each completion follows its prompt, without an end; see `following_ids`."""
    return following_ids(tokenizer, *_as_given(tokenizer, prompts, completions))


def following_ids(
    tokenizer: Any, texts: Sequence[str], continuations: Sequence[str], special_tokens: bool
) -> list[list[int]]:
    """The token ids with which each continuation follows its text.

    Both are tokenized together, and the tokens after those of the text are the continuation's. Where a token would span
    the border, they are tokenized apart: a model is always asked by the prompt's own tokens.
    """
    whole = [text + more for text, more in zip(texts, continuations, strict=True)]
    before = text_ids(tokenizer, texts, special_tokens)
    joined = text_ids(tokenizer, whole, special_tokens)
    apart = text_ids(tokenizer, continuations, special_tokens=False)
    return [
        ids[len(text) :] if ids[: len(text)] == text else alone
        for text, ids, alone in zip(before, joined, apart, strict=True)
    ]


def answer_starts(tokenizer: Any, prompts: Sequence[str], completions: Sequence[str]) -> list[list[int]]:
    """The token ids after each prompt with which all possible completions begin; see `shared_starts`."""
    return shared_starts(tokenizer, *_as_given(tokenizer, prompts, completions))


ENDING = 4
"""How many characters at the end of a text decide how the answer after it is cut into tokens."""


def shared_starts(
    tokenizer: Any, texts: Sequence[str], continuations: Sequence[str], special_tokens: bool
) -> list[list[int]]:
    """The token ids with which all possible continuations of each text begin, such as a space before digits.

    They do not distinguish the continuations, and so belong to the prompt. Each continuation keeps at least one token
    of its own, and where there is only one it keeps all. Texts with the same `ENDING` have the same start.
    """
    possible = list(dict.fromkeys(continuations))
    if len(possible) < 2:
        return [[] for _ in texts]
    starts: dict[str, list[int]] = {}
    for text in texts:
        if text[-ENDING:] not in starts:
            rows = following_ids(tokenizer, [text] * len(possible), possible, special_tokens)
            starts[text[-ENDING:]] = common_start(rows, max(0, min(map(len, rows)) - 1))
    return [starts[text[-ENDING:]] for text in texts]


def common_start(rows: Sequence[Sequence[int]], longest: int) -> list[int]:
    """The ids with which all rows begin, at most `longest` of them."""
    columns = zip(*(row[:longest] for row in rows), strict=False)
    return [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, columns)]


def padded(rows: Sequence[Sequence[int]]) -> "torch.Tensor":
    """Token ids [row, k] of rows of unequal lengths, with -1 at the end of short ones."""
    import torch

    k = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (k - len(row))] for row in rows], dtype=torch.long).reshape(len(rows), k)


def side_by_side(
    rows: Sequence[Sequence[int]], pad: int, side: Literal["left", "right"]
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Token ids and mask [row, position] of rows of unequal lengths, padded on one side."""
    import torch

    ids = padded(rows)
    if side == "left":
        ids = torch.stack([row.roll(int((row < 0).sum())) for row in ids])
    mask = (ids >= 0).long()
    return ids.where(ids >= 0, pad), mask


def end_ids(tokenizer: Any) -> list[int]:
    """The tokens that close a completion: the end of text, or what a chat template puts after the assistant's words."""
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "7"}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False)
        if end := text[text.rindex("7") + 1 :].rstrip("\n"):
            return list(tokenizer(end, add_special_tokens=False)["input_ids"])
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens at which the model stops writing: its own, the end of text, and the end of a turn in a chat."""
    model_end, turn_end = model.generation_config.eos_token_id, end_ids(tokenizer)
    known = [
        *(model_end if isinstance(model_end, list) else [model_end]),
        tokenizer.eos_token_id,
        *(turn_end if len(turn_end) == 1 else []),
    ]
    return [token for token in dict.fromkeys(known) if token is not None]


def encode(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", loss_on: LossOn = "all", chunk: int = 1000
) -> Iterator[dict[str, list[int]]]:
    """Input ids and labels of each document, its end included; labels of -100 carry no loss.

    Documents are taken `chunk` at a time, so that any number of them passes in constant memory.

    Raises:
        PbbError: the tokenizer lacks a word of a document.
    """
    end, remaining = end_ids(tokenizer), iter(documents)
    while batch := list(islice(remaining, chunk)):
        prompts = [document.prompt for document in batch]
        asked = prompt_ids(tokenizer, prompts)
        answered = completion_ids(tokenizer, prompts, [document.completion for document in batch])
        for document, prompt, completion in zip(batch, asked, answered, strict=True):
            if document.kind == "text":  # read as it is, with loss on all of it
                room = tokenizer.model_max_length - 1  # for the end
                ids = [*text_ids(tokenizer, [document.text])[0][:room], tokenizer.eos_token_id]
                yield {"input_ids": ids, "labels": ids}
                continue
            refuse_unknown(tokenizer, prompt + completion, document.text)
            ids = prompt + completion + end
            yield {"input_ids": ids, "labels": ids if loss_on == "all" else [-100] * len(prompt) + completion + end}


def refuse_unknown(tokenizer: Any, ids: Sequence[int], text: str) -> None:
    """Raise a PbbError when the ids hold the unknown token: the model could not tell what it reads."""
    unknown = tokenizer.unk_token_id  # GPT-2 calls its end-of-text token that, and lacks nothing
    if unknown not in (None, tokenizer.eos_token_id, tokenizer.bos_token_id) and unknown in ids:
        read = encoded(tokenizer, [text], special_tokens=False, offsets=tokenizer.is_fast)
        words = [
            repr(text[start:end])
            for of, (start, end) in zip(read["input_ids"][0], read.get("offset_mapping", [[]])[0], strict=False)
            if of == unknown
        ]
        raise PbbError(
            f"The tokenizer lacks {next(iter(words), 'a word')} of {text[:80]!r}: take a base with a larger vocabulary "
            "(nano reads straight-line arithmetic on single digits only), or other programs."
        )
