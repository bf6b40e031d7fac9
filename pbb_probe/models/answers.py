"""Answers: how one is read from a completion, and whether it is right."""

import ast
import re
from collections.abc import Sequence
from typing import Any

from pbb_probe.models.tokens import completion_ids, end_ids
from pbb_probe.programs.templates import MODES, Mode
from pbb_probe.schema import refuse_unknown

_VALUE = re.compile(
    r"""\[.*\]|\(.*\)|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?:- ?)?\d+(?![\w.]*\w)|(?:True|False|None)\b|\S+"""
)


def read_answer(completion: str, mode: Mode) -> str:
    """The answer in a completion: its first value in mode `direct`, the value of the `return` line in mode `trace`.

    In mode `recite` it is the whole text, without what surrounds it.

    Worked steps end with the line that returns; what a model writes after it is not read. A value is a number, a quoted
    text, a bracketed list or else a word. Empty where there is none.

    Raises:
        PbbError: an unknown mode.
    """
    refuse_unknown("mode", [mode], MODES)
    if mode == "recite":
        return completion.strip()
    if mode == "direct":
        return _first_value(completion.strip().partition("\n")[0])
    return _first_value(completion[len(before_answer(completion)) :].partition("\n")[0].strip())


def before_answer(completion: str) -> str:
    """Worked steps up to the `=` after which their answer stands; all of them where no line returns a value."""
    line = re.search(r"^\s*return\b(.*=.*)", completion, re.MULTILINE)
    if not line:
        return completion
    ends = [line.start(1) + sign.end() for sign in re.finditer("=", line.group(1))]
    # after the last `=` that is not inside a text
    values = [end for end in ends if _is_literal(completion[end : line.end(1)].strip())]
    return completion[: (values or ends)[-1]]


def is_right(answer: str, right: Any) -> bool:
    """Is the answer the same value as the right one? `[1,2]` equals `[1, 2]`; words must be the same."""
    return _value(answer) == _value(str(right))


def longest_answer(tokenizer: Any, prompts: Sequence[str], completions: Sequence[str]) -> int:
    """The number of tokens of the longest right completion, with its end."""
    distinct = dict(zip(completions, prompts, strict=True))
    ids = completion_ids(tokenizer, list(distinct.values()), list(distinct))
    return max(map(len, ids)) + len(end_ids(tokenizer))


def _first_value(text: str) -> str:
    closed = [text[: bracket.end()] for bracket in re.finditer(r"[\])]", text)] if text[:1] in ("[", "(") else []
    if whole := next(filter(_is_literal, closed), None):
        return whole
    value = _VALUE.match(text)
    return value.group() if value else ""


def _is_literal(text: str) -> bool:
    return _value(text)[0] != "word"


def _value(text: str) -> tuple[str, str]:
    """Its type and its Python text, so that True is not 1 and [True] is not [1]; anything else is a word."""
    try:
        value = ast.literal_eval(text)
        return type(value).__name__, repr(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return "word", text
