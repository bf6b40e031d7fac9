"""Prompts from a file: JSON lines with a text, where the roles stand in it, and what is known of it."""

import json
import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts, Span
from pbb_probe.schema import Name, Place, checked, is_printable, shown

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge

TAKEN = {
    "prompt", "pair", "layer", "role", "site", "target", "fold", "control", "run", "head", "kv_head", "position",
    "score", "measure", "lower", "upper", "n", "clusters",
}  # fmt: skip
"""Names that columns and dimensions have already."""
MOST_LABELS = 1000


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

    Example:
        >>> import pbb_probe as pbb
        >>> prompts = pbb.prompts.read_prompts("experiments/prompts.jsonl", pbb.load_model("nano"))
        >>> list(prompts.roles)
        ['step_1', 'step_2', 'name', 'input', 'answer']
        >>> prompts.labels.loc[0, ["input", "state_1", "output"]].to_dict()
        {'input': 9, 'state_1': 4, 'output': 2}
    """
    import pandas as pd

    texts: list[str] = []
    roles: list[dict[str, Span]] = []
    labels: list[dict[str, Any]] = []
    for number, line in numbered_lines(path):
        try:
            row = read_object(line)
            text = read_text("text", row["text"])
            spans = {role: role_span(role, place, text) for role, place in read_roles(row).items()}
            if roles and set(spans) != set(roles[0]):
                raise ValueError(f"its roles are not those of the first line, {', '.join(roles[0]) or 'none'}")
            given = {name: value for name, value in row.items() if name not in ("text", "roles")}
            check_labels(given)
        except (ValueError, KeyError, RecursionError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise PbbError(
                f"Line {number} of {path} is no prompt ({reason}): give an object with `text`, `roles` and labels."
            ) from error
        texts.append(text)
        roles.append(spans)
        labels.append(given)
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
        lines = Path(checked("The prompts file", path, Place)).expanduser().read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise PbbError(f"The prompts file {path} cannot be read ({error.strerror}): give a JSONL file.") from error
    except UnicodeDecodeError as error:
        raise PbbError(f"The prompts file {path} cannot be read: it is not text in UTF-8.") from error
    yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def read_object(line: str) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        ValueError: it is none, names a field twice, or holds NaN or infinity.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(made := dict(pairs)) < len(pairs):
            raise ValueError("a field stands there twice")
        return made

    def refused(name: str) -> None:
        raise ValueError(f"{name} is no value: write null where nothing is known")

    row = json.loads(line, object_pairs_hook=once, parse_constant=refused)
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    return row


def read_text(name: str, value: Any) -> str:
    """A text to be tokenized.

    Raises:
        ValueError: it is none, blank, or holds halves of characters.
    """
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is no text")
    if not value.strip():
        raise ValueError(f"`{name}` is blank")
    if re.search(r"[\ud800-\udfff]", value):
        raise ValueError(f"`{name}` holds half a character")
    return value


def read_roles(row: Mapping[str, Any]) -> dict[str, Any]:
    """The places of a line by role.

    Raises:
        ValueError: they are no object, or one has no name.
    """
    roles = row.get("roles", {})
    if not isinstance(roles, Mapping):
        raise ValueError("`roles` is no object of names and places")
    return {checked("a role", role, Name): place for role, place in roles.items()}


def check_labels(labels: Mapping[str, Any]) -> None:
    """Refuse labels that tables and arrays cannot hold.

    Raises:
        ValueError: names that stand for something else in tables, or values that are neither texts, numbers nor
            booleans.
    """
    if len(labels) > MOST_LABELS:
        raise ValueError(f"it has {len(labels)} labels, where {MOST_LABELS} are the most")
    for name, value in labels.items():
        checked("a label's name", name, Name)
        if name in TAKEN:
            raise ValueError(f"the label {name!r} has a name that tables use themselves")
        if re.search(r"[\s/]", name):
            raise ValueError(f"the label {name!r} has a space or a slash in its name")
        match value:
            case None | bool():
                continue
            case str():
                fits = is_printable(value)
            case int():
                fits = abs(value) < 2**63
            case float():
                fits = isfinite(value)
            case _:
                fits = False
        if not fits:
            raise ValueError(f"the label {name!r} is {shown(value)}, which is no text, number or boolean to be kept")


def role_span(role: str, place: Any, text: str) -> Span:
    """The characters of a role in a text: those of a text that stands in it once, or [start, end].

    Raises:
        ValueError: neither, or one that stands there several times or not at all.
    """
    match place:
        case str() if place:
            if (times := text.count(place)) != 1:
                said = f"{shown(place)} stands {times} times in {shown(text)}"
                raise ValueError(f"role {role!r}: {said}; give [start, end]")
            start = text.index(place)
            return start, start + len(place)
        case [int(start), int(end)] if not isinstance(start, bool) and not isinstance(end, bool):
            if not 0 <= start < end <= len(text):
                raise ValueError(f"role {role!r} covers characters {start} to {end} of a text of {len(text)}")
            return start, end
    raise ValueError(f"role {role!r} is neither a text nor [start, end]: {shown(place)}")
