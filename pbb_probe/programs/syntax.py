"""Syntax trees of sources: read and checked, and the node and statement that each character belongs to."""

import ast
import copy
import functools
import re
import warnings
from collections.abc import Mapping, Sequence

from pbb_probe.errors import PbbError
from pbb_probe.schema import shown

DEEPEST = 100
"""Nesting depth of syntax nodes, which recursion over a tree can still walk."""
LONGEST_NUMBER = 4_000
"""Digits of a number in a source; Python itself writes at most 4,300."""
_LARGEST = 10**LONGEST_NUMBER


def line_starts(source: str) -> list[int]:
    """The place of the first character of each line."""
    return [0, *(end.end() for end in re.finditer(r"\r\n?|\n", source))]


@functools.lru_cache(maxsize=4096)
def node_types(source: str) -> Sequence[str]:
    """The type of the innermost syntax node that contains each character [character], such as `Name` or `BinOp`.

    Operators, keywords, brackets and names of functions have no node of their own: they belong to the expression or
    statement that contains them. What is outside every statement belongs to the `Module`.

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
    """The line of each character's statement once every statement has its own line [character].

    That is the layout of `ast.unparse`, in which programs are traced; 0 for what belongs to no statement, such as
    `else`. A statement covers its whole lines, up to its body if it has one; of several on a line, each covers its own
    part.

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
        PbbError: the source is not Python, or `read` refuses it.
    """
    try:
        return read(source)
    except SyntaxError as error:
        raise PbbError(f"This source is no Python ({error}): {shown(source)}.") from error


@functools.lru_cache(maxsize=4096)
def function_of(source: str, name: str | None = None) -> ast.FunctionDef:
    """The tree of the function that a source defines: of this name, or else the last. It is shared: copy to change it.

    Raises:
        PbbError: the source defines none.
    """
    try:
        functions = [node for node in read(source).body if isinstance(node, ast.FunctionDef)]
    except SyntaxError:
        functions = []
    for function in reversed(functions):
        if name in (None, function.name):
            return function
    raise PbbError(f"A program is one function, beside what that needs; this is not one: {shown(source)}.")


@functools.lru_cache(maxsize=4096)
def function_at(source: str, line: int) -> ast.FunctionDef:
    """As `function_of`, of the function whose body has this line, or else the last."""
    for statement in parsed(source).body:
        if isinstance(statement, ast.FunctionDef) and statement.lineno <= line <= (statement.end_lineno or 0):
            return function_of(source, statement.name)
    return function_of(source)


def beside(source: str) -> str:
    """What a source has beside `function_of` it, such as imports and helpers, as text to be put before that function.

    Raises:
        PbbError: the source is no Python.
    """
    tree = parsed(source)
    function = function_of(source)
    return "".join(f"{ast.unparse(node)}\n" for node in tree.body if getattr(node, "name", "") != function.name)


def without_comments(source: str) -> str:
    """The text without comments, blank lines and docstrings, in the layout of `ast.unparse`.

    Raises:
        PbbError: the source is no Python.

    Example:
        >>> print(without_comments("def f(x):\\n    'Twice x.'\\n\\n    return x + x  # a sum"))
        def f(x):
            return x + x
    """
    tree = copy.deepcopy(parsed(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or ([ast.Pass()] if isinstance(node, ast.FunctionDef) else [])
    return ast.unparse(tree)


def only_argument(function: ast.FunctionDef) -> str | None:
    """The name of the argument of a function that takes exactly one, and that by position; None for all others."""
    match function.args:
        case ast.arguments(posonlyargs=[], args=[one], vararg=None, kwonlyargs=[], kwarg=None, defaults=[]):
            return one.arg
    return None


def with_names_replaced(expression: ast.expr, values: Mapping[str, ast.expr]) -> ast.expr:
    """A copy of an expression with names replaced by expressions."""
    replaced: ast.expr = _Replace(values).visit(ast.parse(ast.unparse(expression), mode="eval").body)
    return replaced


def read(source: str) -> ast.Module:
    """The syntax tree of a text; it can be unparsed, copied and walked by recursion.

    Raises:
        SyntaxError: it is not Python, it is nested deeper than `DEEPEST`, or a number is too long. The message gives
            the reason in one line, such as `line 3: invalid syntax`.
    """
    if not isinstance(source, str):
        raise SyntaxError(f"its source is {shown(source)}, not text")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is not reported
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
    """Refuse a parsed tree that cannot be unparsed, copied or walked by recursion.

    Raises:
        SyntaxError: it is nested deeper than `DEEPEST`, or a number is too long. The message says so in one line.
    """
    pending: list[tuple[ast.AST, int, int]] = [(tree, 0, 1)]
    while pending:  # without recursion, which has a limit of depth
        node, depth, line = pending.pop()
        line = getattr(node, "lineno", line)
        if depth > DEEPEST:
            raise SyntaxError(f"line {line}: its source is nested too deeply, as long sums and chains are, too")
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value >= _LARGEST:
            raise SyntaxError(f"line {line}: a number has more than {LONGEST_NUMBER:,} digits")
        pending.extend((part, depth + 1, line) for part in ast.iter_child_nodes(node))


def depth_of(tree: ast.AST) -> int:
    """The depth of a tree: 1 for a node without children."""
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [part for node in level for part in ast.iter_child_nodes(node)]
    return depth


class _Replace(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, ast.expr]):
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node)


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
