"""What one call of a program does, line by line. A file for `_executor.py`, with no imports from the package.

A trace holds the line events of the outermost call, as `sys.settrace` reports them, and the local variables that each
line assigned, changed or removed. Variables are kept as JSON text, which tells apart whatever `repr` tells apart. A
variable whose value has no counterpart among values, such as a function or an iterator, is left out; a program whose
output has none is refused.
"""

import ast
import json
import marshal
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, ModuleType
from typing import Any

LINES = 5_000
"""That a call may run, unless it is told otherwise."""
LONGEST = 20_000_000  # characters of the traces of one program
GROWN = 5_000  # items of a value where only the output is asked for
SCALARS = (int, str, float, bool, type(None))
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


class Refusal(Exception):  # noqa: N818
    """What a program did, as a sentence of its own."""


class Line:
    """What the statements that begin on one line store; `targets` only when `body` runs next, in a turn of the loop."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.stores: list[str] = []
        self.targets: list[str] = []
        self.body = range(0)
        self.repeats = False  # a loop whose body is on the same line


class Tracer:
    """Calls a function, and records the lines that the outermost call runs, and what each of them changes."""

    def __init__(self, code: CodeType, function: ast.FunctionDef, most_lines: int, values: ModuleType) -> None:
        self.code, self.most_lines, self.values = code, most_lines, values
        self.table, self.returns = read_lines(function), set(value_returns(function))

    def traced(self, function: Callable[..., Any], arguments: list[Any]) -> str:
        """One call, as the JSON of its lines, their changes, the output, and where there are any what became of names.

        These are, for each line, the names that have no value after it, and the values of parameters without argument.
        """
        self.entered = self.raised = self.nothing = False
        self.given = [json.dumps(self.values.to_json(value)) for value in arguments]
        self.defaults: dict[str, str] = {}
        self.refusal: BaseException | None = None
        self.size = 0
        self.lines: list[int] = []
        self.changes: list[dict[str, str]] = []
        self.gone: list[list[str]] = []
        self.known: dict[str, str] = {}
        self.marks: dict[str, object] = {}
        output = self._called(function, arguments, self._entering)
        if not self.lines:
            raise Refusal("its decorator returned without calling it")
        parts = [json.dumps(self.lines), f"[{', '.join(map(written, self.changes))}]", json.dumps(output)]
        if any(self.gone) or self.defaults:
            parts += [json.dumps(self.gone), written(self.defaults)]
        return f"[{', '.join(parts)}]"

    def output(self, function: Callable[..., Any], arguments: list[Any]) -> str:
        """What one call returns, as JSON, within the same limits, but far faster than its trace."""
        lines = 0
        self.nothing = False
        self.refusal = None

        def local(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal lines
            lines += 1
            if lines > self.most_lines:
                self._refuse(f"it ran more than {self.most_lines} lines")
            for value in frame.f_locals.values():
                kind = type(value)
                if kind is int and not -self.values.LARGEST <= value <= self.values.LARGEST:
                    self._refuse("its numbers grow beyond 10**1000")
                if (kind is list or kind is str) and len(value) > GROWN:
                    self._refuse(f"its values grow beyond {GROWN} items")
            if event == "return" and frame.f_code is self.code:
                self.nothing = argument is None and not self._returns_a_value(frame)
            return local

        return json.dumps(self._called(function, arguments, lambda *_: local))

    def _called(self, function: Callable[..., Any], arguments: list[Any], trace: Callable[..., Any]) -> Any:
        sys.settrace(trace)
        try:
            output = function(*arguments)
            if sys.gettrace() is None and self.refusal is None:  # there was no room for the trace function
                raise Refusal("it catches errors at a depth of calls at which it cannot be traced")
        finally:
            sys.settrace(None)
            if self.refusal is not None:  # the program may have caught it
                raise self.refusal
        if self.nothing and output is None:  # a decorator may have given another
            raise Refusal("it returned nothing: on some path it ends without `return` and a value")
        try:
            return self.values.to_json(output)
        except self.values.NotAValueError as error:
            what = type(output).__name__ + (f" with {error} in it" if str(error) != type(output).__name__ else "")
            kinds = "a number, text, a truth value, None, or a list, tuple, set or dict of them"
            raise Refusal(f"it returned {what}, not {kinds}") from None

    def _refuse(self, sentence: str) -> None:
        self.refusal = Refusal(sentence)
        raise self.refusal

    def _entering(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        """The trace function of every new frame."""
        if self.entered or frame.f_code is not self.code:
            return None
        self.entered = True
        self.known = self._locals(frame)
        names = self.code.co_varnames[: self.code.co_argcount]
        given = dict(zip(names, self.given, strict=False))  # a decorator may pass on others
        self.defaults = {name: text for name, text in self.known.items() if given.get(name) != text}
        return self._local

    def _local(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        """The trace function of the outermost frame."""
        try:
            if event == "line":
                if self.lines:
                    self._settle(frame, frame.f_lineno)
                if len(self.lines) == self.most_lines:
                    self._refuse(f"it ran more than {self.most_lines} lines")
                self.lines.append(frame.f_lineno)
            elif event == "exception":
                self.raised = True
            elif event == "return":
                if self.lines:
                    self._settle(frame, None)
                self.nothing = argument is None and not self._returns_a_value(frame)
        except BaseException as error:
            self.refusal = error
            raise
        return self._local

    def _settle(self, frame: FrameType, following: int | None) -> None:
        """Record what the last line changed, now that `following` is about to run."""
        line = self._line(self.lines[-1])
        before, now = self.known, self._locals(frame)
        self.known = now
        stored: list[str] = []
        if not self.raised and (following is None or line.repeats or self._line(following).first != line.first):
            stored = line.stores + (line.targets if following in line.body else [])
        self.raised = False
        changed = {name: now[name] for name in stored if name in now}
        changed |= {name: text for name, text in now.items() if name not in changed and before.get(name) != text}
        self.changes.append(changed)
        self.gone.append([name for name in before if name not in now])
        self.size += sum(map(len, changed.values()))
        if self.size > LONGEST:
            self._refuse("its traces are too long to keep")

    def _line(self, number: int) -> Line:
        return self.table.get(number) or Line(number)

    def _locals(self, frame: FrameType) -> dict[str, str]:
        """The local variables of a call that have values, as JSON."""
        texts, marks = {}, {}
        for name, value in frame.f_locals.items():
            mark = mark_of(value)
            if mark is not None and self.marks.get(name) == mark:
                texts[name] = self.known[name]
            else:
                try:
                    texts[name] = json.dumps(self.values.to_json(value))
                except self.values.NotAValueError:
                    continue
            marks[name] = mark
        self.marks = marks
        return texts

    def _returns_a_value(self, frame: FrameType) -> bool:
        """Is this the end of a `return` with a value, and not of the body?"""
        place = list(self.code.co_positions())[frame.f_lasti // 2]
        return place in self.returns


def mark_of(value: Any) -> object:
    """What is equal only for equal values of equal types, far faster than their text; None where there is none.

    Values that are equal may have different ones, such as sets that were filled in another order.
    """
    kind = type(value)
    if kind in SCALARS:
        return kind, value if kind is not float else repr(value)
    try:
        return marshal.dumps(value, 2)  # version 2 has no references: what is written depends on the values alone
    except ValueError:
        return None


def written(texts: dict[str, str]) -> str:
    """An object of JSON whose values are JSON already."""
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"


def read_lines(function: ast.FunctionDef) -> dict[int, Line]:
    """For each line of the function's statements, the first line of its statement and what is stored there."""
    table: dict[int, Line] = {}
    pending: list[tuple[Any, bool]] = [(statement, True) for statement in function.body]
    while pending:
        statement, certain = pending.pop(0)
        first = getattr(statement, "pattern", statement).lineno  # a case has no place of its own
        last = getattr(statement, "end_lineno", first)
        line = table[first] if first in table and table[first].first == first else Line(first)
        if body := getattr(statement, "body", getattr(statement, "cases", None)):
            begins = getattr(body[0], "pattern", body[0]).lineno
            last = max(first, begins - 1)
            # whether a body on the same line ran is seen in the values only, except for the turns of a `for`
            joined = begins == first
            if not isinstance(statement, ast.FunctionDef):
                for block in BLOCKS:
                    pending += [(part, block != "body" or not joined) for part in getattr(statement, block, ())]
            line.repeats |= joined and isinstance(statement, (ast.For, ast.While))
            if isinstance(statement, ast.For):
                line.targets = stored_names(statement.target)
                line.targets += [name for part in statement.body if joined for name in stores(part)]
                line.body = range(begins, (statement.body[-1].end_lineno or last) + 1)
        elif certain:
            line.stores += stores(statement)
        for number in range(first, last + 1):
            table.setdefault(number, line)
    return table


def stores(statement: ast.stmt) -> list[str]:
    """The names that a simple statement binds."""
    if isinstance(statement, ast.Assign):
        return [name for target in statement.targets for name in stored_names(target)]
    if isinstance(statement, ast.AnnAssign):
        return stored_names(statement.target) if statement.value else []
    return stored_names(statement.target) if isinstance(statement, ast.AugAssign) else []


def stored_names(target: ast.expr) -> list[str]:
    """The names in the target of an assignment."""
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, ast.Starred):
        return stored_names(target.value)
    if isinstance(target, (ast.Tuple, ast.List)):
        return [name for part in target.elts for name in stored_names(part)]
    return []  # a subscript: the change of its list is seen in the values


def value_returns(function: ast.FunctionDef) -> Iterator[tuple[int | None, ...]]:
    """Where instructions that return the value of a `return` say that they stand: at it, or at its value."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            for place in (node, node.value):
                yield place.lineno, place.end_lineno, place.col_offset, place.end_col_offset
