"""Targets from traces: what a program did on one input, of the whole call and line by line.

Of the four questions that REval asks of a run (Chen et al. 2024, "Reasoning Runtime Behavior of a Program with LLM: How
Far Are We?", arXiv 2403.16437) three are about a line: is it executed, what does a variable hold after it and of what
type, which line runs next. The fourth is the output. Where a line runs more than once, its first execution is asked
about: it needs the least of the run to be followed, and it exists wherever any execution does.

Nothing is said of what leaves no line in a trace: the inside of a helper function, and conditions within an expression.
"""

import ast
import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pbb_probe.programs.program import Trace, label
from pbb_probe.programs.syntax import parsed

if TYPE_CHECKING:
    import pandas as pd

LINE_TARGETS = ("executed", "next_line", "variable", "value", "type", "times")
"""What is known of a line."""


def call_targets(source: str, trace: Trace) -> dict[str, bool | int]:
    """Which branches a call took and how often its loops turned.

    Args:
        source: of the function that was called, one statement a line.
        trace: of the call.

    Returns:
        `branch_k`: was the test of the k-th `if` or `elif` of the source true when it first ran? Left out where it
        never ran. `iterations_k`: the turns of the k-th `for` or `while`, all its runs together, 0 where it never ran.
        Both are left out where the body stands on the line of its header: what follows there the trace does not tell.
    """
    branches, loops = _headers(source)
    targets: dict[str, bool | int] = {}
    for k, header in enumerate(branches, start=1):
        if header in trace.lines and branches[header]:
            targets[f"branch_{k}"] = next(_followed(trace, header, branches[header]))
    for k, header in enumerate(loops, start=1):
        if loops[header]:
            targets[f"iterations_{k}"] = sum(_followed(trace, header, loops[header]))
    return targets


def line_targets(source: str, trace: Trace) -> "pd.DataFrame":
    """What each line of a function did in a call.

    Args:
        source: of the function that was called, one statement a line.
        trace: of the call.

    Returns:
        A row for each `line` (the first being 1) on which a statement begins that the call itself runs, so not for its
        `def` line, its docstring or the lines within helper functions: `executed`; `next_line`, which ran after it
        first ran, 0 when that was the last; `variable`, the first that it assigned or changed when it first ran, with
        the `value` it had then, as labels have values, and its `type` (a tuple and a set count as the list they are in
        a trace); and `times`, how often it ran (the header of a loop runs once more than the loop turns). Missing where
        there is none: lines that did not run have only `executed` and `times`, a `return` has no variable.
    """
    return line_table([{"line": line, **row} for line, row in line_rows(source, trace).items()])


def line_table(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    """Rows that have the line targets among others, in types that leave room for missing ones."""
    import pandas as pd

    table = pd.DataFrame(rows).astype({"executed": "boolean", "next_line": "Int64", "times": "Int64"})
    table["value"] = pd.Series([row["value"] for row in rows], dtype=object)  # whole numbers stay such
    return table


def line_rows(source: str, trace: Trace) -> dict[int, dict[str, Any]]:
    """The rows of `line_targets` by line."""
    times = Counter(trace.lines)
    rows: dict[int, dict[str, Any]] = {}
    for line in _lines(source):
        row: dict[str, Any] = dict.fromkeys(LINE_TARGETS) | {"executed": line in times, "times": times[line]}
        if line in times:
            first = trace.lines.index(line)
            row["next_line"] = (*trace.lines, 0)[first + 1]
            for variable, value in list(trace.changes[first].items())[:1]:
                row |= {"variable": variable, "value": label(value), "type": type(value).__name__}
        rows[line] = row
    return rows


def _followed(trace: Trace, header: int, body: range) -> Iterator[bool]:
    """For each time that a header ran, whether its body followed."""
    return (after in body for line, after in zip(trace.lines, (*trace.lines[1:], 0), strict=True) if line == header)


@functools.lru_cache(maxsize=4096)
def _headers(source: str) -> tuple[dict[int, range], dict[int, range]]:
    """The lines of tests and of loops, each with the lines of its body: none where that shares the header's line."""
    branches: dict[int, range] = {}
    loops: dict[int, range] = {}
    for statement in _statements(source):
        if isinstance(statement, ast.If | ast.For | ast.While):
            first, last = statement.body[0].lineno, statement.body[-1].end_lineno or 0
            found = branches if isinstance(statement, ast.If) else loops
            found[statement.lineno] = range(first, last + 1) if first > statement.lineno else range(0)
    return branches, loops


@functools.lru_cache(maxsize=4096)
def _lines(source: str) -> tuple[int, ...]:
    """The lines on which statements begin that a call runs itself."""
    return tuple(dict.fromkeys(statement.lineno for statement in _statements(source)))


def _statements(source: str) -> list[ast.stmt]:
    """The statements that a call runs itself, in the order of the source."""
    (function,) = parsed(source).body
    assert isinstance(function, ast.FunctionDef)  # nothing else is ever traced
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return sorted(_reached(body), key=lambda statement: (statement.lineno, statement.col_offset))


def _reached(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in statements:
        yield statement
        if isinstance(statement, ast.If | ast.For | ast.While):
            yield from _reached(statement.body)
            yield from _reached(statement.orelse)
