"""Targets from traces: what a program did on one input, for the whole call and line by line.

REval (Chen et al. 2024, "Reasoning Runtime Behavior of a Program with LLM: How Far Are We?", arXiv 2403.16437) asks
four questions about an execution. Three are about a line: is it executed, what value and type does a variable have
after it, and which line runs next? The fourth is the output. Where a line runs more than once, the question is about
its first execution, which exists whenever any does and needs the least of the program to be followed.

There are no targets for what leaves no line in a trace: the inside of a helper function, and conditions within an
expression.
"""

import ast
import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pbb_probe.programs._tracing import BLOCKS
from pbb_probe.programs.program import Trace, label
from pbb_probe.programs.steps import by_statement
from pbb_probe.programs.syntax import function_at, function_of

if TYPE_CHECKING:
    import pandas as pd

LINE_TARGETS = ("executed", "next_line", "variable", "value", "type", "times")
"""The columns of `line_targets` about a line."""


def call_targets(source: str, trace: Trace) -> dict[str, bool | int]:
    """Which branches a call took, and how many iterations its loops had.

    Args:
        source: of the function that was called.
        trace: of the call.

    Returns:
        `branch_k`: was the test of the k-th `if` or `elif` of the source true when it first ran? Left out if it never
        ran. `iterations_k`: the iterations of the k-th `for` or `while`, over all its executions, 0 if it never ran.
        Both are left out where the body is on the line of its header: the trace does not tell whether it ran.
    """
    function, trace = _run(source, trace)
    branches, loops = _headers(function)
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
        source: of the function that was called.
        trace: of the call.

    Returns:
        A row for each `line` (the first is 1) on which a statement begins that the call itself can run, so not for the
        `def` line, the docstring or lines within helper functions. `executed`: did it run? `next_line`: the line that
        ran after its first execution, 0 if that was the last. `variable`: the first that it assigned or changed in its
        first execution, with the `value` it had then, as labels have values, and its `type`. `times`: how often it ran
        (the header of a loop runs once more than its body). A statement over several lines is asked about once, at its
        first. Values are missing where there are none: a line that did not run has only `executed` and `times`.

    Example:
        >>> import pbb_probe as pbb
        >>> entry = pbb.make_corpus("arithmetic", with_io=1, without_io=0, shapes=("loop",)).entries[0]
        >>> targets = pbb.prompts.line_targets(entry.program.source, entry.traces[3])
        >>> targets[["line", "next_line", "times"]].values.tolist()
        [[2, 3, 4], [3, 2, 3], [4, 0, 1]]
    """
    return line_table([{"line": line, **row} for line, row in line_rows(source, trace).items()])


def line_table(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    """Rows with the line targets among their columns, in types that allow missing values."""
    import pandas as pd

    table = pd.DataFrame(rows).astype({"executed": "boolean", "next_line": "Int64", "times": "Int64"})
    table["value"] = pd.Series([row["value"] for row in rows], dtype=object)  # whole numbers stay whole numbers
    return table


def line_rows(source: str, trace: Trace) -> dict[int, dict[str, Any]]:
    """The rows of `line_targets` by line."""
    function, trace = _run(source, trace)
    times = Counter(trace.lines)
    rows: dict[int, dict[str, Any]] = {}
    for line in _lines(function):
        row: dict[str, Any] = dict.fromkeys(LINE_TARGETS) | {"executed": line in times, "times": times[line]}
        if line in times:
            first = trace.lines.index(line)
            row["next_line"] = (*trace.lines, 0)[first + 1]
            for variable, value in list(trace.changes[first].items())[:1]:
                row |= {"variable": variable, "value": label(value), "type": type(value).__name__}
        rows[line] = row
    return rows


def _run(source: str, trace: Trace) -> tuple[ast.FunctionDef, Trace]:
    """The function that ran, and its trace by statements."""
    function = function_at(source, *trace.lines[:1]) if trace.lines else function_of(source)
    return function, by_statement(function, trace)


def _followed(trace: Trace, header: int, body: range) -> Iterator[bool]:
    """For each time that a header ran, whether its body followed."""
    return (after in body for line, after in zip(trace.lines, (*trace.lines[1:], 0), strict=True) if line == header)


@functools.lru_cache(maxsize=4096)
def _headers(function: ast.FunctionDef) -> tuple[dict[int, range], dict[int, range]]:
    """The lines of tests and of loops, each with the lines of its body: none where that shares the header's line."""
    branches: dict[int, range] = {}
    loops: dict[int, range] = {}
    for statement in _statements(function):
        if isinstance(statement, ast.If | ast.For | ast.While):
            first, last = statement.body[0].lineno, statement.body[-1].end_lineno or 0
            headers = branches if isinstance(statement, ast.If) else loops
            headers[statement.lineno] = range(first, last + 1) if first > statement.lineno else range(0)
    return branches, loops


@functools.lru_cache(maxsize=4096)
def _lines(function: ast.FunctionDef) -> tuple[int, ...]:
    """The lines on which statements begin that a call runs itself."""
    return tuple(dict.fromkeys(statement.lineno for statement in _statements(function)))


def _statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements that a call runs itself, in the order of the source."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return sorted(_reached(body), key=lambda statement: (statement.lineno, statement.col_offset))


def _reached(nodes: Iterable[ast.AST]) -> Iterator[ast.stmt]:
    for node in nodes:
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, ast.FunctionDef):
            for block in BLOCKS:
                yield from _reached(getattr(node, block, ()))
