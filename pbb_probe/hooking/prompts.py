"""Prompts: token ids, the positions of named places in them, and a row of labels for each.

A role is a named place such as `name`, `input` or `answer`. It is found by the characters it covers, through the
tokenizer's offset mapping, so that it may be part of a token or span several.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, Group
from pbb_probe.programs.documents import Mode

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformer_lens import TransformerBridge

Span = tuple[int, int]


@dataclass(frozen=True)
class Prompts:
    """Tokenized prompts of one batch, padded to the same length on either side."""

    tokens: "torch.Tensor"
    """Token ids [prompt, position]."""
    attention_mask: "torch.Tensor"
    """1 at tokens, 0 at padding [prompt, position]."""
    spans: dict[str, "torch.Tensor"]
    """First and last position of each role [prompt, 2]."""
    labels: "pd.DataFrame"
    """What is known of each prompt, a row a prompt."""
    texts: tuple[str, ...]

    @property
    def roles(self) -> dict[str, "torch.Tensor"]:
        """The last position of each role [prompt]."""
        return {role: span[:, 1] for role, span in self.spans.items()}

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int]) -> "Prompts":
        """Some of the prompts, in the order given; the padding stays."""
        index = list(rows)
        return Prompts(
            self.tokens[index],
            self.attention_mask[index],
            {role: span[index] for role, span in self.spans.items()},
            self.labels.iloc[index].reset_index(drop=True),
            tuple(self.texts[i] for i in index),
        )

    @classmethod
    def from_texts(
        cls,
        model: "TransformerBridge",
        texts: Sequence[str],
        roles: Mapping[str, Sequence[Span]] | None = None,
        labels: "pd.DataFrame | None" = None,
        padding_side: Literal["left", "right"] = "right",
    ) -> "Prompts":
        """Tokenize texts and find the tokens of each role.

        Args:
            model: whose tokenizer is used.
            texts: the prompts.
            roles: for each role, the characters (start, end) it covers in each text. The role `answer`, the last
                token, from which the next one is predicted, is added unless given.
            labels: a row a text.
            padding_side: where short prompts are padded.

        Raises:
            PbbError: no texts or an empty one, no tokenizer, a role that is not in its text, labels of another length.
        """
        import pandas as pd
        import torch

        tokenizer: Any = model.tokenizer
        if tokenizer is None:
            raise PbbError("The model has no tokenizer: give load_model one.")
        if not texts:
            raise PbbError("There are no prompts: give at least one text.")
        labels = pd.DataFrame(index=range(len(texts))) if labels is None else labels.reset_index(drop=True)
        if len(labels) != len(texts):
            raise PbbError(f"There are {len(texts)} texts and {len(labels)} rows of labels: give a row a text.")
        batch = tokenizer(
            list(texts), padding=True, padding_side=padding_side, return_offsets_mapping=True, return_tensors="pt"
        )
        mask = batch["attention_mask"]
        if not mask.shape[1] or not bool(mask.any(1).all()):
            raise PbbError("A prompt is empty: every text needs at least one token.")
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)  # the last attended position
        spans = {}
        for role, characters in (roles or {}).items():
            if len(characters) != len(texts):
                raise PbbError(f"Role {role!r} has {len(characters)} spans for {len(texts)} texts: give one a text.")
            spans[role] = torch.tensor(
                [
                    _token_span(role, text, span, offsets)
                    for text, span, offsets in zip(texts, characters, batch["offset_mapping"].tolist(), strict=True)
                ]
            )
        spans.setdefault("answer", torch.stack([last, last], dim=1))
        return cls(batch["input_ids"], mask, spans, labels, tuple(texts))


def make_prompts(
    corpus: Corpus,
    model: "TransformerBridge",
    group: Group | None = None,
    mode: Mode = "direct",
    n: int | None = None,
    seed: int = 0,
    unseen: bool = False,
) -> Prompts:
    """Calls of the corpus's programs as prompts with the roles `name`, `input` and `answer`.

    In mode `direct` the prompt is the call. In mode `trace` the worked steps are in the prompt up to the output, so
    that in either mode `answer` is the token from which the output is predicted. The arguments are those of
    `Corpus.calls`, and so are the columns of the labels.
    """
    return prompts_of_calls(model, corpus.calls(mode, group, n, seed, unseen))


def prompts_of_calls(model: "TransformerBridge", calls: "pd.DataFrame") -> Prompts:
    """Prompts for rows of `Corpus.calls`."""
    filled = [fill(row["template"], name=row["program"], input=row["input"]) for row in calls.to_dict(orient="records")]
    texts = [
        text + completion.removesuffix(str(output)).rstrip(" ")
        for (text, _), completion, output in zip(filled, calls["completion"], calls["output"], strict=True)
    ]
    roles = {role: [spans[role] for _, spans in filled] for role in ("name", "input")}
    return Prompts.from_texts(model, texts, roles, calls)


def fill(template: str, **values: Any) -> tuple[str, dict[str, Span]]:
    """A template filled in, and the characters that each field covers."""
    text, spans = "", {}
    for literal, field, _, _ in string.Formatter().parse(template):
        text += literal
        if field is not None:
            start = len(text)
            text += str(values[field])
            spans[field] = (start, len(text))
    return text, spans


def answer_tokens(model: "TransformerBridge", answers: Sequence[Any]) -> "torch.Tensor":
    """The token [answer] of each answer as it follows a prompt.

    Raises:
        PbbError: the tokenizer splits an answer into several tokens, or does not know it.
    """
    import torch

    tokenizer: Any = model.tokenizer
    tokens = {}
    for answer in dict.fromkeys(map(str, answers)):
        ids = tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise PbbError(
                f"The tokenizer splits the answer {answer!r} into {len(ids)} tokens: use answers of one token each."
            )
        if ids[0] == tokenizer.unk_token_id:
            raise PbbError(f"The tokenizer does not know the answer {answer!r}: use answers in its vocabulary.")
        tokens[answer] = ids[0]
    return torch.tensor([tokens[str(answer)] for answer in answers])


def _token_span(role: str, text: str, span: Span, offsets: list[list[int]]) -> Span:
    start, end = span
    touching = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and a < b]
    if not 0 <= start < end <= len(text) or not touching:
        raise PbbError(f"Role {role!r} covers characters {start} to {end}, which are not in the text {text!r}.")
    return touching[0], touching[-1]
