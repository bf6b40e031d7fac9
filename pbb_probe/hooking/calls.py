"""Calls of programs as prompts, with their roles found by the surface template, as trained and as evaluated."""

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answers import with_answers
from pbb_probe.hooking.prompts import Prompts, Span, grown, tokenizer_of, up_to_answers
from pbb_probe.models.tokens import as_answered, as_asked, following_ids, padded
from pbb_probe.programs.corpus import Corpus, Group
from pbb_probe.programs.documents import Document, with_code
from pbb_probe.programs.templates import CALLING, Mode
from pbb_probe.schema import Count, Seed, checks_arguments, refuse_unknown

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import TransformerBridge

ROLES = ("name", "input", "answer")
"""Of a call; and where its output stands behind it:"""
ANSWERED = "output"


@checks_arguments
def make_prompts(
    corpus: Corpus,
    model: "TransformerBridge",
    group: Group | None = None,
    mode: Mode = "direct",
    n: Count | None = None,
    seed: Seed = 0,
    unseen: bool = False,
    answered: bool = False,
) -> Prompts:
    """Calls of the corpus's programs as prompts with the roles `name`, `input` and `answer`.

    In mode `direct` the prompt is the call. In mode `trace` the worked steps are in the prompt up to the output. In
    either mode the prompt goes on up to where the corpus's outputs part, and `answer` is the token from which the first
    token that distinguishes them is predicted. With `answered` the output stands behind the prompt, with the role
    `output` on its tokens. The other arguments are those of `Corpus.calls`, and so are the columns of the labels.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=6), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=8)
        >>> prompts.texts[0]
        'what is zaxgad(2) ?'
        >>> list(prompts.roles)
        ['name', 'input', 'answer']
    """
    refuse_unknown("mode of a call", [mode], CALLING)
    return prompts_of_calls(model, corpus.calls(mode, group, n, seed, unseen), answered, answers=corpus.outputs)


def prompts_of_calls(
    model: "TransformerBridge",
    calls: "pd.DataFrame",
    answered: bool = False,
    code: Sequence[Document] = (),
    answers: Sequence[Any] = (),
) -> Prompts:
    """Prompts for rows of `Corpus.calls`, token by token as trained; see `make_prompts`.

    Args:
        model: whose tokenizer is used.
        calls: rows of `Corpus.calls`.
        answered: let the output stand behind the prompt.
        code: for each row a document that stands before the call; the role `code` covers its completion.
        answers: possible answers besides the outputs of these calls, such as `Corpus.outputs`; what all of them begin
            with belongs to the prompt.

    Raises:
        PbbError: a chat model and calls of both modes: their answers follow in different ways.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=4, without_io=0), pbb.load_model("nano")
        >>> calls = corpus.calls("direct", n=6).query("steps == 2")
        >>> prompts = pbb.prompts.prompts_of_calls(model, calls, answers=corpus.outputs)
        >>> prompts.texts
        ('running fuxguk on 9 gives', 'dugred maps 6 to', 'fuxguk of 4 is')
    """
    import torch

    tokenizer = tokenizer_of(model)
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
        prompts, last = grown(prompts, padded(following_ids(tokenizer, prompts.texts, begun, prompts.special_tokens)))
        moved = prompts.spans | {"answer": torch.stack([last, last], dim=1)}
        prompts = replace(prompts, spans=moved, texts=tuple(map("".join, zip(asked, begun, strict=True))))
    prompts = up_to_answers(tokenizer, prompts, [*answers, *calls["output"]])
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
