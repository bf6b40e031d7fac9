"""What each character of a source belongs to: a node of its syntax tree, and a statement."""

import ast
import functools
import re
from collections.abc import Sequence

from pbb_probe.errors import PbbError


def line_starts(source: str) -> list[int]:
    """The place of the first character of each line."""
    return [0, *(end.end() for end in re.finditer(r"\r\n?|\n", source))]


@functools.lru_cache(maxsize=4096)
def node_types(source: str) -> Sequence[str]:
    """The type of the innermost syntax node that contains each character [character], such as `Name` or `BinOp`.

    Operators, keywords, brackets and names of functions have no node of their own: they belong to the expression or
    statement that they are part of. What is outside every statement belongs to the `Module`.

    Raises:
        PbbError: the source is no Python.
    """
    types = ["Module"] * len(source)
    for node in ast.walk(parsed(source)):  # parents before their children
        if hasattr(node, "end_col_offset"):
            start, end = _characters(source, node)
            types[start:end] = [type(node).__name__] * (end - start)
    return types


@functools.lru_cache(maxsize=4096)
def statement_lines(source: str) -> Sequence[int]:
    """The line on which each character's statement stands once it is one statement a line [character].

    That is the layout of `ast.unparse`, in which programs are traced; 0 for what belongs to no statement, such as
    `else`. A statement has its lines from margin to margin, up to its body if it has one; of several on a line, each
    begins where it begins.

    Raises:
        PbbError: the source is no Python.
    """
    starts = [*line_starts(source), len(source)]
    lines = [0] * len(source)
    for statement, one_a_line in same_statements(source):
        start, _ = _characters(source, statement)
        body = getattr(statement, "body", None)
        last = max(statement.lineno, body[0].lineno - 1) if body else statement.end_lineno or 0
        margin = starts[statement.lineno - 1]
        if not source[margin:start].strip():
            start = margin
        lines[start : starts[last]] = [one_a_line.lineno] * (starts[last] - start)
    return lines


def same_statements(source: str) -> list[tuple[ast.stmt, ast.stmt]]:
    """Each statement of a source beside the same one in the layout of `ast.unparse`, in the order of the source.

    Raises:
        PbbError: the source is no Python.
    """
    tree = parsed(source)
    return list(zip(_in_order(tree), _in_order(ast.parse(ast.unparse(tree))), strict=True))


def parsed(source: str) -> ast.Module:
    """The syntax tree.

    Raises:
        PbbError: the source is no Python.
    """
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PbbError(f"This source is no Python ({error}): {source[:200]!r}.") from error


def _in_order(tree: ast.Module) -> list[ast.stmt]:
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return sorted(statements, key=lambda statement: (statement.lineno, statement.col_offset))


def _characters(source: str, node: ast.AST) -> tuple[int, int]:
    """Where a node begins and ends: syntax trees count the bytes of a line."""
    starts = [*line_starts(source), len(source)]

    def place(line: int, column: int) -> int:
        text = source[starts[line - 1] : starts[line]]
        return starts[line - 1] + len(text.encode()[:column].decode())

    return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
