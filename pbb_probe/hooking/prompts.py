"""Prompts: token ids, the positions of named places in them, and a row of labels for each.

A role is a named place such as `name`, `input` or `answer`. It is found by the characters it covers, through the
tokenizer's offset mapping, so that it may be part of a token or span several. An answer is the tokens with which it
follows a prompt, one or several; rows of several are padded with -1.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.tokens import as_answered, as_asked, following_ids, refuse_unknown
from pbb_probe.programs.corpus import Corpus, Group
from pbb_probe.programs.documents import Document, with_code
from pbb_probe.programs.templates import Mode

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
    """What was tokenized; answers that `with_answers` puts behind it are not in it."""
    gap: str = " "
    """What stands between a text and its answer; nothing where the answer begins a turn of a chat."""
    special_tokens: bool = True
    """Did the tokenizer add those it begins texts with?"""

    @property
    def roles(self) -> dict[str, "torch.Tensor"]:
        """The last position of each role [prompt]."""
        return {role: span[:, 1] for role, span in self.spans.items()}

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int]) -> "Prompts":
        """Some of the prompts, in the order given; the padding stays."""
        index = list(rows)
        return replace(
            self,
            tokens=self.tokens[index],
            attention_mask=self.attention_mask[index],
            spans={role: span[index] for role, span in self.spans.items()},
            labels=self.labels.iloc[index].reset_index(drop=True),
            texts=tuple(self.texts[i] for i in index),
        )

    @classmethod
    def from_texts(
        cls,
        model: "TransformerBridge",
        texts: Sequence[str],
        roles: Mapping[str, Sequence[Span]] | None = None,
        labels: "pd.DataFrame | None" = None,
        padding_side: Literal["left", "right"] = "right",
        gap: str = " ",
        special_tokens: bool = True,
    ) -> "Prompts":
        """Tokenize texts and find the tokens of each role.

        Args:
            model: whose tokenizer is used.
            texts: the prompts.
            roles: for each role, the characters (start, end) it covers in each text. The role `answer`, the last
                token, from which the next one is predicted, is added unless given.
            labels: a row a text.
            padding_side: where short prompts are padded.
            gap: what stands between a text and its answer.
            special_tokens: let the tokenizer add those it begins texts with; not where the texts bring them.

        Raises:
            PbbError: no texts or an empty one, no tokenizer, a role that is not in its text, labels of another length.
        """
        import pandas as pd
        import torch

        tokenizer = _tokenizer(model)
        if not texts:
            raise PbbError("There are no prompts: give at least one text.")
        labels = pd.DataFrame(index=range(len(texts))) if labels is None else labels.reset_index(drop=True)
        if len(labels) != len(texts):
            raise PbbError(f"There are {len(texts)} texts and {len(labels)} rows of labels: give a row a text.")
        batch = tokenizer(
            list(texts),
            padding=True,
            padding_side=padding_side,
            add_special_tokens=special_tokens,
            return_offsets_mapping=True,
            return_tensors="pt",
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
        return cls(batch["input_ids"], mask, spans, labels, tuple(texts), gap, special_tokens)


def make_prompts(
    corpus: Corpus,
    model: "TransformerBridge",
    group: Group | None = None,
    mode: Mode = "direct",
    n: int | None = None,
    seed: int = 0,
    unseen: bool = False,
    answered: bool = False,
) -> Prompts:
    """Calls of the corpus's programs as prompts with the roles `name`, `input` and `answer`.

    In mode `direct` the prompt is the call. In mode `trace` the worked steps are in the prompt up to the output, so
    that in either mode `answer` is the token from which the output is predicted, its first one where it has several.
    With `answered` the output stands behind the prompt, with the role `output` on its tokens. The other arguments are
    those of `Corpus.calls`, and so are the columns of the labels.
    """
    return prompts_of_calls(model, corpus.calls(mode, group, n, seed, unseen), answered)


def prompts_of_calls(
    model: "TransformerBridge", calls: "pd.DataFrame", answered: bool = False, code: Sequence[Document] = ()
) -> Prompts:
    """Prompts for rows of `Corpus.calls`, token by token as trained; see `make_prompts`.

    Given a document of `code` for each row, that stands before the call, and the role `code` covers its completion.

    Raises:
        PbbError: a chat model and calls of both modes: their answers follow in different ways.
    """
    import torch

    tokenizer = _tokenizer(model)
    asked, begun, gaps = [], [], set()
    roles: dict[str, list[Span]] = {role: [] for role in (("code",) if code else ()) + ("name", "input")}
    for i, row in enumerate(calls.to_dict(orient="records")):
        prompt, spans = fill(row["template"], name=row["program"], input=row["call"])
        if code:
            prompt, spans = _behind_code(code[i], prompt, spans)
        asked.append(as_asked(tokenizer, prompt))
        start = asked[-1].index(prompt)
        for role, found in roles.items():
            found.append((start + spans[role][0], start + spans[role][1]))
        before = as_answered(tokenizer, row["completion"]).removesuffix(str(row["output"]))
        begun.append(before.rstrip(" "))
        gaps.add(before[len(begun[-1]) :])
    if len(gaps) > 1:
        raise PbbError(
            "In a chat, direct answers and worked steps follow a prompt differently: ask for one mode at once."
        )
    prompts = Prompts.from_texts(
        model, asked, roles, calls, gap="".join(gaps), special_tokens=not tokenizer.chat_template
    )
    if any(begun):  # `answer` moves on to the last token of the worked steps
        prompts, last = _grown(prompts, _padded(following_ids(tokenizer, prompts.texts, begun, prompts.special_tokens)))
        moved = prompts.spans | {"answer": torch.stack([last, last], dim=1)}
        prompts = replace(prompts, spans=moved, texts=tuple(map("".join, zip(asked, begun, strict=True))))
    return with_answers(model, prompts, list(calls["output"])) if answered else prompts


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


def _behind_code(code: Document, prompt: str, spans: dict[str, Span]) -> tuple[str, dict[str, Span]]:
    """A call with code before it, and its spans moved accordingly."""
    whole = with_code(code, prompt)
    by = len(whole) - len(prompt)
    moved = {role: (start + by, end + by) for role, (start, end) in spans.items()}
    return whole, moved | {"code": (len(code.prompt) + 1, len(code.text))}


def answer_tokens(model: "TransformerBridge", answers: Sequence[Any]) -> "torch.Tensor":
    """The token [answer] of each one-token answer as it follows a prompt and a space.

    Raises:
        PbbError: the tokenizer splits an answer into several tokens, or does not know it.
    """
    import torch

    tokenizer = _tokenizer(model)
    tokens = {}
    for answer in dict.fromkeys(map(str, answers)):
        ids = tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise PbbError(
                f"The tokenizer splits the answer {answer!r} into {len(ids)} tokens: use answer_ids, which takes "
                "answers of any length, or answers of one token each."
            )
        if ids[0] == tokenizer.unk_token_id:
            raise PbbError(f"The tokenizer does not know the answer {answer!r}: use answers in its vocabulary.")
        tokens[answer] = ids[0]
    return torch.tensor([tokens[str(answer)] for answer in answers])


def answer_ids(model: "TransformerBridge", prompts: Prompts, answers: Sequence[Any]) -> "torch.Tensor":
    """The token ids [prompt, k] with which each answer follows its prompt, padded with -1 at the end.

    They are those of `finetuning.tokens.following_ids`, as in training.

    Raises:
        PbbError: another number of answers than prompts, an answer without tokens or with one the tokenizer lacks.
    """
    tokenizer = _tokenizer(model)
    if len(answers) != len(prompts):
        raise PbbError(f"There are {len(prompts)} prompts and {len(answers)} answers: give an answer a prompt.")
    answers = list(map(str, answers))
    behind = [prompts.gap + answer for answer in answers]
    rows = following_ids(tokenizer, prompts.texts, behind, prompts.special_tokens)
    for answer, ids in zip(answers, rows, strict=True):
        if not ids:
            raise PbbError(f"The answer {answer!r} has no tokens: every answer needs at least one.")
        refuse_unknown(tokenizer, ids, answer)
    return _padded(rows)


def with_answers(model: "TransformerBridge", prompts: Prompts, answers: Sequence[Any]) -> Prompts:
    """The prompts with an answer behind each: the role `output` is the answer's tokens, `answer` stays before them.

    Raises:
        PbbError: answers that `answer_ids` refuses.
    """
    import torch

    prompts, last = _grown(prompts, answer_ids(model, prompts, answers))
    return replace(prompts, spans=prompts.spans | {"output": torch.stack([prompts.roles["answer"] + 1, last], dim=1)})


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


def _grown(prompts: Prompts, ids: "torch.Tensor") -> "tuple[Prompts, torch.Tensor]":
    """The prompts with ids [prompt, k] behind `answer`, and the position [prompt] of the last of these."""
    before = prompts.roles["answer"]
    last = before + (ids >= 0).sum(1)
    tokens, mask = put_behind(prompts.tokens, prompts.attention_mask, before, ids)
    width = int(last.max()) + 1
    return replace(prompts, tokens=tokens[:, :width], attention_mask=mask[:, :width]), last


def _padded(rows: Sequence[list[int]]) -> "torch.Tensor":
    """[row, k], padded with -1 at the end."""
    import torch

    k = max(map(len, rows))
    return torch.tensor([row + [-1] * (k - len(row)) for row in rows], dtype=torch.long)


def _tokenizer(model: "TransformerBridge") -> Any:
    if model.tokenizer is None:
        raise PbbError("The model has no tokenizer: give load_model one.")
    return model.tokenizer


def _token_span(role: str, text: str, span: Span, offsets: list[list[int]]) -> Span:
    start, end = span
    touching = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and a < b]
    if not 0 <= start < end <= len(text) or not touching:
        raise PbbError(f"Role {role!r} covers characters {start} to {end}, which are not in the text {text!r}.")
    return touching[0], touching[-1]
