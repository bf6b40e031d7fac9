"""Values: what may go into and come out of a program, and their text."""

import ast
import warnings
from typing import Any, TypeAlias

from pbb_probe.errors import PbbError
from pbb_probe.programs._json_values import CONTAINERS, DEEPEST, LARGEST, in_order
from pbb_probe.programs._json_values import from_json as from_json
from pbb_probe.programs._json_values import to_json as to_json

Value: TypeAlias = (
    int | float | str | bool | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any] | dict[Any, Any] | None
)
"""A number, text, a truth value, None, or a list, tuple, set or dict of such values."""

MOST_ITEMS, MOST_CHARACTERS = 1_000_000, 10_000_000
"""Of one value."""
KINDS = "a number, text, a truth value, None, or a list, tuple, set or dict of them"
MAKERS: dict[str, type] = {"list": list, "dict": dict, **CONTAINERS}
"""The types that hold values, by the names with which a value can be written."""


def fault(value: object) -> str | None:
    """Why this is not a `Value`, or is too large, as words after `it is` or `an argument is`; None if it is one.

    Example:
        >>> fault([1.5, "a", (True, None), {"b": {2}}])
        >>> fault([1, 2j])
        'complex, not a number, text, a truth value, None, or a list, tuple, set or dict of them'
    """
    if type(value) is int and -LARGEST <= value <= LARGEST:
        return None
    pending: list[tuple[object, int]] = [(value, 0)]
    items = characters = 0
    while pending:  # without recursion, which has a limit of depth
        item, depth = pending.pop()
        kind = type(item)
        if kind in MAKERS.values():
            if depth == DEEPEST:
                return f"nested more than {DEEPEST} deep"
            pending += [(part, depth + 1) for part in item]  # type: ignore[attr-defined]
            if kind is dict:
                pending += [(part, depth + 1) for part in item.values()]  # type: ignore[attr-defined]
        elif kind is int:
            if not -LARGEST <= item <= LARGEST:  # type: ignore[operator]
                return "a number beyond 10**1000"
        elif kind is str:
            characters += len(item)  # type: ignore[arg-type]
        elif item is not None and kind is not bool and kind is not float:
            return f"{kind.__name__}, not {KINDS}"
        items += 1
        if items + len(pending) > MOST_ITEMS or characters > MOST_CHARACTERS:
            return f"more than {MOST_ITEMS:,} items or {MOST_CHARACTERS:,} characters"
    return None


def value_text(value: Value) -> str:
    """A value as Python writes it, the items of its sets in one order; `inf` and `nan` are written so.

    Example:
        >>> value_text(({3, 1, 2}, [0.5], {"a": float("inf")}))
        "({1, 2, 3}, [0.5], {'a': inf})"
    """
    if isinstance(value, list):
        return f"[{_texts(value)}]"
    if isinstance(value, tuple):
        return f"({_texts(value)}{',' * (len(value) == 1)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{value_text(key)}: {value_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, frozenset):
        return f"frozenset({{{_texts(in_order(value))}}})" if value else "frozenset()"
    if isinstance(value, set):
        return f"{{{_texts(in_order(value))}}}" if value else "set()"
    return repr(value)


def read_value(text: str) -> Value:
    """The value that a text such as `value_text` writes, or one such as `dict(a=1)` or `float('inf')`. Nothing is run.

    Raises:
        ValueError: the text is something else, or its value is too large. The message is one line.

    Example:
        >>> read_value("({1, 2}, [0.5], {'a': inf})")
        ({1, 2}, [0.5], {'a': inf})
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is not reported
            value: Value = _read(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise ValueError(f"it is no Python value ({' '.join(str(error).split()):.100})") from None
    if reason := fault(value):
        raise ValueError(f"it is {reason}")
    return value


def not_run(name: str, reason: str) -> PbbError:
    """The error about a program that could not be run."""
    return PbbError(f"A program could not be run: {name:.60}: {reason}")


def path_text(path: object) -> str:
    """A path for a message: unchanged, or quoted if it would break the line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _texts(items: list[Any] | tuple[Any, ...]) -> str:
    return ", ".join(map(value_text, items))


def _read(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant() | ast.Name() as operand):
            number = _read(operand)
            if type(number) in (int, float):
                return -number if isinstance(sign, ast.USub) else number
        case ast.List(elts=parts):
            return list(map(_read, parts))
        case ast.Tuple(elts=parts):
            return tuple(map(_read, parts))
        case ast.Set(elts=parts):
            return set(map(_read, parts))
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_read(key): _read(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.Name(id="inf" | "nan" as name):
            return float(name)
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str() as text)], keywords=[]):
            return float(text)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=items):
            if all(item.arg for item in items):
                return {item.arg: _read(item.value) for item in items}
        case ast.Call(func=ast.Name(id=name), args=[], keywords=[]) if name in MAKERS:
            return MAKERS[name]()
        case ast.Call(func=ast.Name(id=name), args=[items], keywords=[]) if name in MAKERS:
            return MAKERS[name](_read(items))
    raise ValueError(f"{type(node).__name__} in it")
