"""Values: what may go into and come out of a program."""

from typing import Any, TypeAlias

from pbb_probe.errors import PbbError

Value: TypeAlias = int | str | bool | list[Any] | None
"""A whole number, text, a truth value, None, or a list of such values."""

LARGEST = 10**18
"""Of a number's absolute value."""
DEEPEST = 50
"""Nesting depth of lists, which recursion over a value can still walk."""
MOST_ITEMS, MOST_CHARACTERS = 1_000_000, 10_000_000
"""Of one value."""


def fault(value: object) -> str | None:
    """Why this is not a `Value`, or is too large, as words after `it is` or `an argument is`; None if it is one.

    Example:
        >>> fault([1, "a", [True, None]])
        >>> fault([1, 2.5])
        'float, not a whole number, text, a truth value, None or a list of them'
    """
    if type(value) is int and -LARGEST <= value <= LARGEST:
        return None
    pending: list[tuple[object, int]] = [(value, 0)]
    items = characters = 0
    while pending:  # without recursion, which has a limit of depth
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


def not_run(name: str, reason: str) -> PbbError:
    """The error about a program that could not be run."""
    return PbbError(f"A program could not be run: {name:.60}: {reason}")


def path_text(path: object) -> str:
    """A path for a message: unchanged, or quoted if it would break the line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
