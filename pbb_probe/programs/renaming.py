"""Names of functions replaced throughout a text: where they are defined and called, in comments and in docstrings.

Everything else stays as it was, to the line and the space. Names are told by scope: a variable or an argument of the
same name stays. So does other text in quotes, which is a value: the function would return something else.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TypeAlias

from pbb_probe.programs.given import docstring, without_docstrings
from pbb_probe.programs.syntax import line_starts, parsed
from pbb_probe.programs.whitelist import bound_names

Spot: TypeAlias = tuple[int, int]
"""A line, the first being 1, and a character in it, the first being 0."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def renamed_text(text: str, names: Mapping[str, str]) -> str:
    """The text with functions of its module, and others that it calls, under other names.

    Args:
        text: Python.
        names: by the names before.

    Example:
        >>> print(renamed_text("def f(n):  # f calls itself\\n    return n and f(n - 1) + len('f')", {"f": "dolvik"}))
        def dolvik(n):  # dolvik calls itself
            return n and dolvik(n - 1) + len('f')
    """
    names = {old: new for old, new in names.items() if old != new}
    tree = parsed(text)
    if not names:
        return text
    meant = ast.parse(text)
    for node in _references(meant, names.keys()):
        match node:
            case ast.Name(id=name):
                node.id = names[name]
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                node.name = names[name]
            case ast.Global():
                node.names = [names.get(name, name) for name in node.names]
    wanted = ast.dump(without_docstrings(meant))
    written = _written(text, tree, names)
    same = ast.dump(without_docstrings(ast.parse(written))) == wanted
    return written if same else ast.unparse(meant)  # such as a key of the name within the braces of an f-string


def free_names(text: str) -> list[str]:
    """The names that a text uses and does not bind, in the order of their first use.

    Example:
        >>> free_names("def f(xs, k):\\n    return [g(x) for x in f(xs, h)]")
        ['g', 'h']
    """
    tree = parsed(text)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - _bound(tree, tree.body)
    found = [node for node in _references(tree, used) if isinstance(node, ast.Name)]
    return list(dict.fromkeys(node.id for node in sorted(found, key=lambda node: (node.lineno, node.col_offset))))


def defined_names(text: str) -> list[str]:
    """The functions and classes that a text defines outside of others."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in parsed(text).body if isinstance(node, kinds)]


def _references(tree: ast.Module, names: Set[str]) -> Iterator[ast.AST]:
    """The nodes that mean one of these names of the module: its uses, definitions and `global`."""
    pending: list[tuple[ast.AST, Set[str], bool]] = [(node, names, True) for node in tree.body]
    while pending:
        node, open_names, outermost = pending.pop()
        match node:
            case ast.Name(id=name) if name in open_names:
                yield node
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if outermost and name in names:
                    yield node
            case ast.Global(names=listed) if names & set(listed):
                yield node
        within = _within(node)
        hidden = _bound(node, within) if within else frozenset()
        for child in ast.iter_child_nodes(node):
            if isinstance(node, _COMPREHENSIONS) and child is node.generators[0]:
                pending += [(child.iter, open_names, False), (child.target, open_names - hidden, False)]
                pending += [(test, open_names - hidden, False) for test in child.ifs]
            elif isinstance(child, ast.arguments):
                outside = [*child.defaults, *filter(None, child.kw_defaults)]
                pending += [(part, open_names, False) for part in (*outside, *_annotations(child))]
            else:
                pending.append((child, open_names - hidden if child in within else open_names, False))


def _annotations(arguments: ast.arguments) -> Iterator[ast.expr]:
    for node in ast.walk(arguments):
        if isinstance(node, ast.arg) and node.annotation:
            yield node.annotation


def _within(node: ast.AST) -> list[ast.AST]:
    """The children of a function, lambda or comprehension that its own scope holds."""
    match node:
        case ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body):
            return list(body)
        case ast.Lambda(body=body):
            return [body]
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return list(ast.iter_child_nodes(node))
    return []


def _bound(scope: ast.AST, within: Iterable[ast.AST]) -> Set[str]:
    """The names that a scope binds: its arguments, and what its statements store."""
    bound: set[str] = set()
    if isinstance(scope, _SCOPES):
        bound |= {node.arg for node in ast.walk(scope.args) if isinstance(node, ast.arg)}
    global_names: set[str] = set()
    pending = list(within)
    while pending:
        node = pending.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                bound |= set(bound_names([node]))
            case ast.alias():
                bound.add(node.asname or node.name.partition(".")[0])
            case ast.Global(names=listed):
                global_names |= set(listed)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
        if isinstance(node, _COMPREHENSIONS):  # only := reaches out of it
            stores = [each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
            bound |= {target.id for target in stores}
        elif not isinstance(node, (*_SCOPES, ast.ClassDef)):
            pending += ast.iter_child_nodes(node)
    return bound - global_names


def _written(text: str, tree: ast.Module, names: Mapping[str, str]) -> str:
    """The text with its tokens replaced."""
    lines = text.split("\n")
    starts = line_starts(text)
    word = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)")
    uses = {_spot(lines, node) for node in _references(tree, names.keys()) if isinstance(node, ast.Name)}
    global_lines = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global)}
    docstrings = [node for each in ast.walk(tree) if (node := docstring(each))]
    spans = [(_spot(lines, node), (node.end_lineno or 0, node.end_col_offset or 0)) for node in docstrings]
    pieces, done, before = [], 0, ""
    for kind, string, start, end, line in tokenize.generate_tokens(io.StringIO(text).readline):
        new = string
        if kind == tokenize.NAME and string in names:
            defines = before in ("def", "class") and not line[:1].isspace()
            if start in uses or defines or start[0] in global_lines:
                new = names[string]
        elif kind == tokenize.COMMENT or any(first <= start < last for first, last in spans):
            new = word.sub(lambda found: names[found[0]], string)
        elif kind == tokenize.STRING and "f" in string[: re.search("['\"]", string).start()].lower():  # type: ignore[union-attr]
            new = _within_braces(string, names)
        if new != string:
            pieces += [text[done : starts[start[0] - 1] + start[1]], new]
            done = starts[end[0] - 1] + end[1]
        before = string
    return "".join([*pieces, text[done:]])


def _within_braces(string: str, names: Mapping[str, str]) -> str:
    """An f-string, which is one token before Python 3.12, with names replaced where it is evaluated."""
    depth = 0

    def replaced(found: re.Match[str]) -> str:
        nonlocal depth
        piece = found[0]
        if piece[0] in "{}":
            if depth or len(piece) == 1:  # two at the top stand for one that is written
                depth += len(piece) if piece[0] == "{" else -len(piece)
            return piece
        return names.get(piece, piece) if depth else piece

    return re.sub(r"\{+|\}+|\w+", replaced, string)


def _spot(lines: list[str], node: ast.expr) -> Spot:
    """Where a node begins; syntax trees count the bytes of a line."""
    return node.lineno, len(lines[node.lineno - 1].encode()[: node.col_offset].decode())
