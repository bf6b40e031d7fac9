"""What one call of a program does, line by line. A file for `_executor.py`, with no imports from the package.

A trace holds the lines that the outermost call runs, what each of them changes, and the output, in values that JSON
can hold. A variable whose value has no counterpart there is left out; a program whose output has none is refused.
"""

import ast
import contextlib
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

LINES = 5_000  # a call
LARGEST = 10**18
DEEPEST = 50  # lists in lists


class Refusal(Exception):  # noqa: N818
    """What a program did, as a sentence of its own."""


class NotAValueError(Exception):
    """A value that has no counterpart among whole numbers, text, truth values, None and lists."""


def traced_call(function: Callable[..., Any], table: "Lines", arguments: list[Any]) -> list[Any]:
    """One call of the function, as lines, changes and output."""
    tracer = Tracer(function, table)
    sys.settrace(tracer)
    try:
        output = function(*arguments)
    finally:
        sys.settrace(None)
    return [tracer.lines, tracer.changes, plain_output(output)]


def output_of(function: Callable[..., Any], arguments: list[Any]) -> Any:
    """What one call of the function returns, within the same limits, but far faster than its trace."""
    lines = 0

    def local(frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal lines
        lines += 1
        if lines > LINES:
            raise Refusal(f"it ran more than {LINES} lines")
        for value in frame.f_locals.values():
            kind = type(value)
            if kind is int and not -LARGEST <= value <= LARGEST:
                raise Refusal("its numbers grow beyond 10**18")
            if (kind is list or kind is str) and len(value) > LINES:
                raise Refusal(f"its values grow beyond {LINES} items")
        return local

    sys.settrace(lambda *_: local)
    try:
        output = function(*arguments)
    finally:
        sys.settrace(None)
    return plain_output(output)


def plain_output(output: Any) -> Any:
    """What a call returned, as `plain` has it."""
    if output is None:
        raise Refusal("it returned nothing")
    try:
        if isinstance(output, (set, dict)):
            raise NotAValueError
        return plain(output)
    except NotAValueError:
        kind = type(output).__name__
        raise Refusal(f"it returned {kind}, not whole numbers, text, truth values or lists of them") from None


def plain(value: Any, depth: int = 0) -> Any:
    """A deep copy of a value in whole numbers, text, truth values, None and lists."""
    if depth > DEEPEST:
        raise RecursionError(f"its lists are nested more than {DEEPEST} deep")
    kind = type(value)
    if kind is int:
        if not -LARGEST <= value <= LARGEST:
            raise Refusal("its numbers grow beyond 10**18")
        return value
    if kind is str or kind is bool or value is None:
        return value
    if kind is list or kind is tuple:
        return [plain(item, depth + 1) for item in value]
    if kind is set:
        items = [plain(item, depth + 1) for item in value]
        try:
            return sorted(items)
        except TypeError:  # numbers and text
            return sorted(items, key=repr)
    if kind is dict:
        return [[plain(key, depth + 2), plain(item, depth + 2)] for key, item in value.items()]
    raise NotAValueError


def plain_locals(frame: FrameType) -> dict[str, Any]:
    """The local variables of a call that have such values."""
    values = {}
    for name, value in frame.f_locals.items():
        if type(value) is dict:  # documents hold no such value: the variable keeps its name in them
            continue
        with contextlib.suppress(NotAValueError):
            values[name] = plain(value)
    return values


class Line:
    """What the statements that begin on one line store; `targets` only when `body` runs next, in a turn of the loop."""

    def __init__(self) -> None:
        self.stores: list[str] = []
        self.targets: list[str] = []
        self.body = range(0)
        self.repeats = False  # a loop whose body is on the same line
        self.returns = False  # a return and nothing else


Lines = dict[int, tuple[int, Line]]
"""For each line, the first line of its statement and what is stored there."""


def read_lines(function: ast.FunctionDef) -> Lines:
    """For each line of the function's statements, the first line of its statement and what is stored there."""
    table: Lines = {}
    pending: list[tuple[ast.stmt, bool]] = [(statement, True) for statement in function.body]
    while pending:
        statement, certain = pending.pop(0)
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        line = table[first][1] if first in table else Line()
        line.returns = isinstance(statement, ast.Return) and first not in table
        if isinstance(statement, (ast.For, ast.While, ast.If)):
            # whether a body on the same line ran is seen in the values only, except for the turns of a `for`
            joined = statement.body[0].lineno == first
            pending += [(part, not joined) for part in statement.body] + [(part, True) for part in statement.orelse]
            line.repeats |= joined and not isinstance(statement, ast.If)
            if isinstance(statement, ast.For):
                line.targets = stored_names(statement.target)
                line.targets += [name for part in statement.body if joined for name in stores(part)]
                line.body = range(statement.body[0].lineno, (statement.body[-1].end_lineno or last) + 1)
        elif certain:
            line.stores += stores(statement)
        if isinstance(statement, (ast.For, ast.While, ast.If, ast.FunctionDef)):
            last = max(first, statement.body[0].lineno - 1)
        for number in range(first, last + 1):
            table.setdefault(number, (first, line))
    return table


def stores(statement: ast.stmt) -> list[str]:
    """The names that a simple statement binds."""
    if isinstance(statement, ast.Assign):
        return [name for target in statement.targets for name in stored_names(target)]
    return stored_names(statement.target) if isinstance(statement, ast.AugAssign) else []


def stored_names(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, (ast.Tuple, ast.List)):
        return [name for part in target.elts for name in stored_names(part)]
    return []  # a subscript: the change of its list is seen in the values


class Tracer:
    """Records the lines that the outermost call of `function` runs, and what each of them changes."""

    def __init__(self, function: Callable[..., Any], table: Lines) -> None:
        self.code = function.__code__
        self.table = table
        self.entered = False
        self.lines: list[int] = []
        self.changes: list[dict[str, Any]] = []
        self.known: dict[str, Any] = {}

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        """The trace function of every new frame."""
        if self.entered or frame.f_code is not self.code:
            return None
        self.entered = True
        self.known = plain_locals(frame)
        return self.local

    def local(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        """The trace function of the outermost frame."""
        if event == "line":
            number = frame.f_lineno
            first, line = self.table[number]
            if self.lines:
                if self.lines[-1] == first and not line.repeats:
                    return self.local  # further into the same statement
                self.settle(frame, first)
            if len(self.lines) == LINES:
                raise Refusal(f"it ran more than {LINES} lines")
            self.lines.append(first)
        elif event == "return" and self.lines:
            self.settle(frame, None)
        return self.local

    def settle(self, frame: FrameType, following: int | None) -> None:
        """Record what the last line changed, now that `following` is about to run."""
        line = self.table[self.lines[-1]][1]
        before, now = self.known, plain_locals(frame)
        self.known = now
        changed = {}
        if following is not None or not line.returns:
            for name in line.stores + (line.targets if following in line.body else []):
                if name in now:
                    changed[name] = now[name]
            for name, value in now.items():
                if name not in changed and (name not in before or differ(before[name], value)):
                    changed[name] = value
        self.changes.append(changed)


def differ(before: object, after: object) -> bool:
    """Do two values differ? 1 and True do, which are equal."""
    return before is not after and (before != after or repr(before) != repr(after))
