"""Forms: the same function written in several ways."""

import ast
import copy
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.syntax import DEEPEST, depth_of, function_of, only_argument, parsed, with_names_replaced
from pbb_probe.schema import refuse_unknown, shown

FORMS = ("statements", "nested", "lambda")
VARIABLES = ("xyzuvw", "abcdeg", "nmkjih")
LARGEST_EXPRESSION = 2_000  # syntax nodes
CHANGING_METHODS = frozenset(
    """
    append pop insert extend remove reverse sort add update clear popitem setdefault discard difference_update
    intersection_update symmetric_difference_update appendleft popleft extendleft rotate move_to_end subtract
    """.split()  # noqa: SIM905
)
"""Methods that change an object in place."""
_CHANGING = CHANGING_METHODS | frozenset(
    """
    next heapify heappop heappush heappushpop heapreplace insort insort_left insort_right delitem setitem
    """.split()  # noqa: SIM905
)
"""What changes an object in place, or moves an iterator on."""
_BINDING = (ast.comprehension, ast.Lambda, ast.NamedExpr, ast.Yield, ast.YieldFrom)


def is_straight(source: str) -> bool:
    """Is it a function of one argument, made of assignments to single names and a return?

    No step may change a list in place or bind names of its own, since it could not be folded into later steps, and the
    folded expression must not be too large to read.
    """
    function = function_of(source)
    return (
        len(parsed(source).body) == 1
        and only_argument(function) is not None
        and all(map(_assigns_one_name, function.body[:-1]))
        and isinstance(function.body[-1], ast.Return)
        and function.body[-1].value is not None
        and not any(map(_stands_alone, ast.walk(function)))
        and _folds(function)
    )


def rewrite(source: str, form: str = "statements", variables: str = VARIABLES[0]) -> str:
    """The same function in another form.

    `statements` keeps one statement a line, and a text in another layout, with comments or with more than one function
    as it is; `nested` folds the steps of a straight-line function into one returned
    expression, and `lambda` assigns that expression to the name. If all variables are single letters, they are renamed
    to the letters of `variables` in order; variables with longer names keep them.

    Raises:
        PbbError: an unknown form, text that is no function, or a form other than `statements` for a function that is
            not straight-line.
    """
    refuse_unknown("form", [form], FORMS)
    function: Any = copy.deepcopy(function_of(source))
    if form != "statements" and not is_straight(source):
        raise PbbError(
            f"Only a function of one argument, assignments and one return has the form {form!r}; this is not one: "
            f"{shown(source)}."
        )
    if form == "statements" and ast.unparse(parsed(source)) != source.strip("\n"):
        return source
    if len(parsed(source).body) > 1:
        return source
    _rename(function, variables)
    if form == "statements":
        return ast.unparse(function)
    values: dict[str, ast.expr] = {}
    for statement in function.body:
        expression = with_names_replaced(statement.value, values)
        if not isinstance(statement, ast.Return):
            values[statement.targets[0].id] = expression
    argument = function.args.args[0].arg
    if form == "nested":
        return f"def {function.name}({argument}):\n    return {ast.unparse(expression)}"
    return f"{function.name} = lambda {argument}: {ast.unparse(expression)}"


def _rename(function: Any, variables: str) -> None:
    """In place, by order of appearance: the arguments, then what is assigned."""
    nodes = list(ast.walk(function))
    arguments = [node.arg for node in nodes if isinstance(node, ast.arg)]
    stored = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    stored.sort(key=lambda node: (node.lineno, node.col_offset))
    names = list(dict.fromkeys([*arguments, *(node.id for node in stored)]))
    if len(names) > len(variables) or any(len(name) > 1 for name in names):
        return
    renaming = dict(zip(names, variables, strict=False))
    others = {getattr(node, "id", None) or getattr(node, "name", None) for node in nodes} - set(names)
    if others & set(renaming.values()):  # functions of one letter
        return
    for node in nodes:
        if isinstance(node, ast.Name):
            node.id = renaming.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = renaming[node.arg]


def _assigns_one_name(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)


def _folds(function: ast.FunctionDef) -> bool:
    """Is a straight-line function small as one expression? Each use of a variable repeats its whole expression."""
    folded: dict[str, tuple[int, int]] = {}
    for statement in function.body:
        assert isinstance(statement, ast.Assign | ast.Return)
        assert statement.value is not None
        nodes = list(ast.walk(statement.value))
        names = [folded.get(node.id, (0, 0)) for node in nodes if isinstance(node, ast.Name)]
        size = len(nodes) + sum(size for size, _ in names)
        depth = depth_of(statement.value) + max((depth for _, depth in names), default=0)
        if size > LARGEST_EXPRESSION or depth > DEEPEST - 3:  # a function, its return
            return False
        if isinstance(statement, ast.Assign):
            folded[statement.targets[0].id] = (size, depth)  # type: ignore[attr-defined]
    return True


def _stands_alone(node: ast.AST) -> bool:
    return isinstance(node, _BINDING) or bool({getattr(node, "attr", None), getattr(node, "id", None)} & _CHANGING)
