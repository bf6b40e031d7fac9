"""Values as JSON and back, with their types. A file for `_executor.py`, too, with no imports from the package.

Whole numbers, finite floats, text, truth values, None and lists are themselves; what JSON has no word for is an object
with one key, the name of its type: `{"tuple": [1, 2]}`, `{"dict": [["a", 1]]}`, `{"float": "inf"}`.
"""

import math
from typing import Any

LARGEST = 10**1000
"""Of a whole number's absolute value: Python writes four thousand digits at most."""
DEEPEST = 50
"""How deep a value's lists, tuples, sets and dicts may be nested: recursion can still walk it."""
CONTAINERS: dict[str, type] = {kind.__name__: kind for kind in (tuple, set, frozenset)}


class NotAValueError(Exception):
    """An object that is no value; the message is the name of its type."""


class TooLargeError(Exception):
    """A whole number beyond `LARGEST`."""


def to_json(value: Any, depth: int = 0) -> Any:
    """A deep copy of a value that `json` can write.

    Raises:
        NotAValueError: it is no value, or holds something that is none.
        TooLargeError: a number is too large.
        RecursionError: it is nested more than `DEEPEST` deep.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if not -LARGEST <= value <= LARGEST:
            raise TooLargeError("its numbers grow beyond 10**1000")
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is not list and kind is not dict and CONTAINERS.get(kind.__name__) is not kind:
        raise NotAValueError(kind.__name__)
    if depth == DEEPEST:
        raise RecursionError(f"its values are nested more than {DEEPEST} deep")
    if kind is dict:
        return {"dict": [[to_json(key, depth + 1), to_json(item, depth + 1)] for key, item in value.items()]}
    items = [to_json(item, depth + 1) for item in (value if kind in (list, tuple) else in_order(value))]
    return items if kind is list else {kind.__name__: items}


def from_json(written: Any) -> Any:
    """The value that `to_json` wrote.

    Raises:
        ValueError, TypeError: it wrote no such thing.
    """
    if isinstance(written, list):
        return [from_json(item) for item in written]
    if isinstance(written, float) and not math.isfinite(written):
        raise ValueError(f"{written} is no JSON")
    if not isinstance(written, dict):
        return written
    ((kind, items),) = written.items()
    if kind == "float" and items in ("inf", "-inf", "nan"):
        return float(items)
    if not isinstance(items, list):
        raise ValueError(f"{kind} of something that is no list")
    if kind == "dict":
        return {from_json(key): from_json(item) for key, item in items}
    if kind not in CONTAINERS:
        raise ValueError(f"there is no value of the type {kind}")
    return CONTAINERS[kind](map(from_json, items))


def in_order(items: Any) -> list[Any]:
    """The items of a set, always in one order: numbers, then text, tuples and the rest."""
    return sorted(items, key=_rank)


def _rank(item: Any) -> tuple[Any, ...]:
    kind = type(item)
    if kind in (int, bool, float):
        return (0, item) if item == item else (1,)  # nan has no place among the numbers
    if kind is str:
        return 2, item
    if kind is tuple:
        return 3, tuple(map(_rank, item))
    if kind is frozenset:
        return 4, tuple(map(_rank, in_order(item)))
    return (5,)
