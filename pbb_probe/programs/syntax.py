"""What each character of a source belongs to: a node of its syntax tree, and a statement."""

import ast
import functools
import re
import warnings
from collections.abc import Sequence

from pbb_probe.errors import PbbError
from pbb_probe.programs.values import brief

DEEPEST = 100
"""Syntax nodes within one another: whatever walks a tree by recursion gets through that."""
LONGEST_NUMBER = 4_000
"""Digits of a number in a source: Python itself writes none with more than 4,300 in decimal."""
_LARGEST = 10**LONGEST_NUMBER


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
        PbbError: the source is no Python, or nothing that `read` takes.
    """
    try:
        return read(source)
    except SyntaxError as error:
        raise PbbError(f"This source is no Python ({error}): {brief(source)}.") from error


def read(source: str) -> ast.Module:
    """The syntax tree of a text, which can be unparsed, copied and walked by recursion.

    Raises:
        SyntaxError: it is no Python, it is nested deeper than `DEEPEST`, or a number is too long. The message is the
            reason in one line, such as `line 3: invalid syntax`.
    """
    if not isinstance(source, str):
        raise SyntaxError(f"its source is {brief(source)}, not text")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is the author's affair
            tree = ast.parse(source)
    except (RecursionError, MemoryError):
        raise SyntaxError("its source is nested too deeply") from None
    except SyntaxError as error:
        raise SyntaxError(f"line {error.lineno or 1}: {' '.join(error.msg.split())}") from None
    except ValueError as error:  # a null character, half a surrogate pair
        raise SyntaxError(f"its source is no Python text ({' '.join(str(error).split()):.100})") from None
    check_tree(tree)
    return tree


def check_tree(tree: ast.AST) -> None:
    """Refuse a tree, from a parser, that cannot be unparsed, copied or walked by recursion.

    Raises:
        SyntaxError: it is nested deeper than `DEEPEST`, or a number is too long. The message says so in one line.
    """
    pending: list[tuple[ast.AST, int, int]] = [(tree, 0, 1)]
    while pending:  # not recursive, so that no depth is too deep
        node, depth, line = pending.pop()
        line = getattr(node, "lineno", line)
        if depth > DEEPEST:
            raise SyntaxError(f"line {line}: its source is nested too deeply, as long sums and chains are, too")
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value >= _LARGEST:
            raise SyntaxError(f"line {line}: a number has more than {LONGEST_NUMBER:,} digits")
        pending.extend((part, depth + 1, line) for part in ast.iter_child_nodes(node))


def depth_of(tree: ast.AST) -> int:
    """Syntax nodes within one another, at most: 1 for a node without children."""
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [part for node in level for part in ast.iter_child_nodes(node)]
    return depth


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
