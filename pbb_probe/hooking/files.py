"""Prompts from a file: JSON lines with a text, where the roles stand in it, and what is known of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts, Span

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge


def read_prompts(path: str | Path, model: "TransformerBridge", special_tokens: bool = True) -> Prompts:
    """Read the prompts of a JSONL file, an object a line.

    `text` is the prompt. `roles`, which may be left out, names places in it: each is a text that stands exactly once in
    the prompt, or the characters [start, end]. All further fields are labels; one that a line lacks, or null, is
    missing.

    Args:
        path: of the file.
        model: whose tokenizer is used.
        special_tokens: let the tokenizer add those it begins texts with; not where the texts bring them.

    Raises:
        PbbError: no such file, no prompts in it, or a line that is not as said above (the message names it).
    """
    import pandas as pd

    texts: list[str] = []
    roles: list[dict[str, Span]] = []
    labels: list[dict[str, Any]] = []
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
            text = row["text"]
            if not isinstance(text, str):
                raise ValueError("`text` is no text")
            spans = {role: role_span(role, place, text) for role, place in row.get("roles", {}).items()}
            if roles and set(spans) != set(roles[0]):
                raise ValueError(f"its roles are not those of the first line, {', '.join(roles[0]) or 'none'}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise PbbError(
                f"Line {number} of {path} is no prompt ({reason}): give an object with `text`, `roles` and labels."
            ) from error
        texts.append(text)
        roles.append(spans)
        labels.append({name: value for name, value in row.items() if name not in ("text", "roles")})
    if not texts:
        raise PbbError(f"There are no prompts in {path}: give a JSON object a line.")
    places = {role: [spans[role] for spans in roles] for role in roles[0]}
    return Prompts.from_texts(model, texts, places, pd.DataFrame(labels), special_tokens=special_tokens)


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1 on.

    Raises:
        PbbError: it cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PbbError(f"The prompts file {path} cannot be read ({error}): give a JSONL file.") from error
    yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def role_span(role: str, place: Any, text: str) -> Span:
    """The characters of a role in a text: those of a text that stands in it once, or [start, end].

    Raises:
        ValueError: neither, or one that stands there several times or not at all.
    """
    match place:
        case str() if place:
            if (times := text.count(place)) != 1:
                raise ValueError(f"role {role!r}: {place!r} stands {times} times in {text!r}; give [start, end]")
            start = text.index(place)
            return start, start + len(place)
        case [int(start), int(end)]:
            return start, end
    raise ValueError(f"role {role!r} is neither a text nor [start, end]: {place!r}")
