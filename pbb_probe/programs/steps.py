"""A trace as statements: what each did, where a statement over several lines is one step."""

import ast
from dataclasses import replace

from pbb_probe.programs._tracing import Line, read_lines
from pbb_probe.programs.trace import Trace
from pbb_probe.programs.values import Value


def by_statement(function: ast.FunctionDef, trace: Trace) -> Trace:
    """The trace with the first line of its statement in place of each line, and one step for a statement that ran.

    A statement over several lines runs some of them, the first often last. A loop whose body is on its own line leaves
    a step a turn.

    Args:
        function: the tree of the function that was called.
        trace: of the call.
    """
    table = read_lines(function)
    lines: list[int] = []
    changes: list[dict[str, Value]] = []
    gone: list[tuple[str, ...]] = []
    removed = trace.gone or ((),) * len(trace.lines)
    for number, changed, names in zip(trace.lines, trace.changes, removed, strict=True):
        line = table.get(number) or Line(number)
        if lines and lines[-1] == line.first and not line.repeats:
            changes[-1] = {name: value for name, value in changes[-1].items() if name not in names} | changed
            gone[-1] = tuple(name for name in (*gone[-1], *names) if name not in changed)
        else:
            lines.append(line.first)
            changes.append(changed)
            gone.append(names)
    return replace(trace, lines=tuple(lines), changes=tuple(changes), gone=tuple(gone) if any(gone) else ())
