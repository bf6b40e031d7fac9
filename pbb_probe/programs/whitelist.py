"""What a program may contain: its syntax tree is checked against a whitelist before any of it runs."""

import ast
from collections.abc import Iterable, Iterator, Set

from pbb_probe.programs.syntax import read
from pbb_probe.programs.values import not_run
from pbb_probe.schema import shown

LONGEST_SOURCE = 20_000  # characters

STATEMENTS = (
    *(ast.FunctionDef, ast.Return, ast.Assign, ast.AugAssign, ast.For, ast.While, ast.If),
    *(ast.Break, ast.Continue, ast.Pass, ast.Expr),
)
EXPRESSIONS = (
    *(ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Compare, ast.Call, ast.Constant, ast.Name),
    *(ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
PARTS = (ast.comprehension, ast.arguments, ast.arg, ast.keyword, ast.Load, ast.Store)
OPERATORS = [
    operator for kind in (ast.operator, ast.unaryop, ast.boolop, ast.cmpop) for operator in kind.__subclasses__()
]
NODES = frozenset((*STATEMENTS, *EXPRESSIONS, *PARTS, *OPERATORS))
CONSTANTS = frozenset((int, str, bool, type(None)))

BUILTINS = frozenset(
    """
    abs all any bool chr dict divmod enumerate int len list max min ord pow range reversed set sorted str sum tuple zip
    """.split()  # noqa: SIM905
)
METHODS = frozenset(
    """
    append pop insert extend remove reverse sort index count join split upper lower isdigit isalpha isupper islower
    startswith endswith replace strip find get items keys values add
    """.split()  # noqa: SIM905
)
KEYWORDS = {
    "sorted": {"key", "reverse"},
    "sort": {"key", "reverse"},
    "max": {"key"},
    "min": {"key"},
    "enumerate": {"start"},
    "sum": {"start"},
}

_IN_WORDS: dict[str, str] = {
    "Import": "import",
    "ImportFrom": "import",
    "ClassDef": "class",
    "AnnAssign": "an annotated assignment",
    "Delete": "del",
    "TryStar": "try",
    "NamedExpr": "an assignment within an expression (:=)",
    "JoinedStr": "an f-string",
    "Starred": "a starred expression",
    "YieldFrom": "yield",
    "AsyncFunctionDef": "async",
    "AsyncFor": "async",
    "AsyncWith": "async",
}


def check_source(name: str, source: str, callable_names: Iterable[str] = ()) -> None:
    """Check a source against the whitelist. Nothing is run.

    Args:
        name: the one function that the source must define.
        source: Python text.
        callable_names: other programs that it may call by name.

    Raises:
        PbbError: names the program, the line and what is not allowed there.
    """
    function = _only_function(name, source)
    callees = BUILTINS | set(callable_names) | set(bound_names(ast.walk(function)))
    pending: list[tuple[ast.AST, int]] = [(function, function.lineno)]
    while pending:  # without recursion, which has a limit of depth
        node, line = pending.pop()
        line = getattr(node, "lineno", line)
        if complaint := _complaint(node, callees):
            raise not_run(name, f"line {line}: {complaint}")
        pending.extend((part, line) for part in reversed(_parts(node)))


def _only_function(name: str, source: str) -> ast.FunctionDef:
    if not isinstance(name, str) or not name.isidentifier():
        raise not_run(shown(name), "a program's name must be a Python name")
    if isinstance(source, str) and len(source) > LONGEST_SOURCE:
        raise not_run(name, f"its source has {len(source)} characters, and {LONGEST_SOURCE} are allowed")
    try:
        statements = read(source).body
    except SyntaxError as error:
        raise not_run(name, str(error)) from None
    match statements:
        case [ast.FunctionDef(name=defined) as function] if defined == name:
            return function
    raise not_run(name, f"its source must define one function called {name:.60} and nothing else")


def bound_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Every name that these nodes bind: a call of such a name calls something of the program's own."""
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                yield name


def _parts(node: ast.AST) -> list[ast.AST]:
    """The child nodes that remain to be checked: a call's method has been, its object has not."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return [node.func.value, *node.args, *node.keywords]
    return list(ast.iter_child_nodes(node))


def _complaint(node: ast.AST, callees: Set[str]) -> str | None:
    """What is wrong with this node, apart from its children."""
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) if name.startswith("_"):
            return f"the name {name:.60} begins with an underscore, which is not allowed"
        case ast.FunctionDef() if node.decorator_list:
            return "a decorator is not allowed"
        case ast.arguments():
            if node.defaults or any(node.kw_defaults):
                return "a default argument is not allowed"
            if node.vararg or node.kwarg or node.kwonlyargs:
                return "an argument that is not positional is not allowed"
        case ast.Constant() if type(node.value) not in CONSTANTS:
            return f"the constant {shown(node.value):.60} is not allowed"
        case ast.comprehension() if node.is_async:
            return "async is not allowed"
        case ast.Expr():
            if not (_is_method_call(node.value) or isinstance(getattr(node.value, "value", None), str)):
                return "an expression as a statement is not allowed unless it calls a method"
        case ast.Call():
            return _complaint_about_call(node, callees)
        case ast.Attribute():
            return f"the attribute {node.attr:.60} is not allowed"
    if type(node) not in NODES:
        kind = type(node).__name__
        return f"{_IN_WORDS.get(kind, kind.lower())} is not allowed"
    return None


def _is_method_call(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute)


def _complaint_about_call(call: ast.Call, callees: Set[str]) -> str | None:
    match call.func:
        case ast.Name(id=name):
            if name not in callees:
                return f"a call of {name:.60} is not allowed"
        case ast.Attribute(attr=name):
            if name not in METHODS:
                return f"the method {name:.60} is not allowed"
        case _:
            return "a call of anything but a name or a method is not allowed"
    for keyword in call.keywords:
        if keyword.arg not in KEYWORDS.get(name, ()):
            return f"the keyword argument {keyword.arg or '**'} of {name:.60} is not allowed"
    return None
