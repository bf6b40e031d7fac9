"""Values: what goes in and out of a program, and what is none."""

import reprlib
from typing import Any, TypeAlias

Value: TypeAlias = int | str | bool | list[Any] | None
"""A whole number, text, a truth value, None, or a list of such values."""

LARGEST = 10**18
"""No number is beyond it, on either side."""
DEEPEST = 50
"""Lists in lists: whatever walks a value by recursion gets through that."""
MOST_ITEMS, MOST_CHARACTERS = 1_000_000, 10_000_000
"""Of one value."""


_REPR = reprlib.Repr()
_REPR.maxstring = 200


def fault(value: object) -> str | None:
    """What makes this no `Value`, or one too large, in words that follow `it is` or `an argument is`; None if nothing.

    Example:
        >>> fault([1, "a", [True, None]])
        >>> fault([1, 2.5])
        'float, not a whole number, text, a truth value, None or a list of them'
    """
    if type(value) is int and -LARGEST <= value <= LARGEST:
        return None
    pending: list[tuple[object, int]] = [(value, 0)]
    items = characters = 0
    while pending:  # not recursive, so that no depth is too deep
        item, depth = pending.pop()
        kind = type(item)
        if kind is list:
            if depth == DEEPEST:
                return f"nested more than {DEEPEST} lists deep"
            pending += [(part, depth + 1) for part in item]  # type: ignore[attr-defined]
        elif kind is int:
            if not -LARGEST <= item <= LARGEST:  # type: ignore[operator]
                return "a number beyond 10**18"
        elif kind is str:
            characters += len(item)  # type: ignore[arg-type]
        elif item is not None and kind is not bool:
            return f"{kind.__name__}, not a whole number, text, a truth value, None or a list of them"
        items += 1
        if items + len(pending) > MOST_ITEMS or characters > MOST_CHARACTERS:
            return f"more than {MOST_ITEMS:,} items or {MOST_CHARACTERS:,} characters"
    return None


def is_text(value: object) -> bool:
    """Is it text that can be written to a file: no half of a surrogate pair?"""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def brief(value: object) -> str:
    """Any object in one short line, for a message: however deep, long or unprintable it is."""
    try:
        text = _REPR.repr(value)
    except Exception:  # a number too long to be written in decimal
        text = f"a {type(value).__name__}"
    return " ".join(text.split())[:200]


def path_text(path: object) -> str:
    """A path as it stands in a message: as it is, or quoted where that would break the line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
