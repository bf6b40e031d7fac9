"""Passes: what a loop has made after each of its turns, such as the total after pass 2.

A pass is one run of the loop's body, completed once the loop's head runs again: one that `break`, `return` or an error
leaves has no state. What a loop carries from pass to pass are the variables that its body assigns, or changes in place,
and whose values are read in the next pass before they are assigned anew, in the test, or after the loop.
"""

import ast
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from pbb_probe.programs._tracing import stored_names
from pbb_probe.programs.forms import CHANGING_METHODS
from pbb_probe.programs.steps import by_statement
from pbb_probe.programs.syntax import function_at
from pbb_probe.programs.trace import Trace, label
from pbb_probe.programs.values import Value
from pbb_probe.programs.whitelist import BUILTINS

MOST = 8
"""Passes that are told apart: of longer loops the first ones, so that labels and hypotheses stay few."""
STATES = ("state_", "pass_")
"""How the names of labels and variables begin that are made on the way: by a statement, or by a pass."""

State: TypeAlias = tuple[Value, ...]
"""The values of the variables that a loop carries."""


class Loop(NamedTuple):
    """The one loop of a function, which stands at the top of its body."""

    before: tuple[ast.stmt, ...]
    statement: ast.For | ast.While
    after: tuple[ast.stmt, ...]
    carried: tuple[str, ...]
    """In the order in which their names first appear in the function."""
    made: frozenset[str]
    """Every variable that a pass may assign or change, carried or not."""
    ending: str | None
    """What is done with what it carried, its variables by number; None where that needs anything else."""


class Passes(NamedTuple):
    """What the loop did in one call."""

    begun: int
    states: tuple[State | None, ...]
    """After each completed pass, up to `MOST`; None where a carried variable had no value."""


@functools.lru_cache(maxsize=4096)
def loop_of(function: ast.FunctionDef) -> Loop | None:
    """The loop whose passes have states, and what it carries.

    None where the function has no loop at the top of its body, has loops elsewhere than within that one, or the loop
    carries nothing. None, too, where it cannot be told by reading: the body stands on the line of the head, the target
    is no plain variable or is read after the loop, an inner function reads what a pass makes, or names are global.

    Example:
        >>> from pbb_probe.programs.syntax import function_of
        >>> source = "def f(xs):\\n    total = 0\\n    for x in xs:\\n        total += x\\n    return total"
        >>> loop_of(function_of(source)).carried
        ('total',)
    """
    tops = [i for i, statement in enumerate(function.body) if isinstance(statement, ast.For | ast.While)]
    if len(tops) != 1:
        return None
    before, loop, after = function.body[: tops[0]], function.body[tops[0]], function.body[tops[0] + 1 :]
    assert isinstance(loop, ast.For | ast.While)
    outside = [node for statement in (*before, *after, *loop.orelse) for node in ast.walk(statement)]
    every = list(ast.walk(function))
    if any(isinstance(node, ast.For | ast.While) for node in outside) or loop.body[0].lineno == loop.lineno:
        return None
    if any(isinstance(node, ast.Global | ast.Nonlocal | ast.Yield | ast.YieldFrom) for node in every):
        return None
    read_later = _exposed(loop.orelse)[0] | _exposed(after)[0]
    if isinstance(loop, ast.For):
        targets, head = set(stored_names(loop.target)), list[ast.AST]()
        if {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)} & read_later or not targets:
            return None
    else:
        targets, head = set(), [loop.test]
    made = _assigned([*loop.body, *head]) | _changed(loop.body) | _changed(head)
    inner = [node for node in every if isinstance(node, ast.FunctionDef | ast.Lambda) and node is not function]
    if made & {name for node in inner for name in _read(node)}:
        return None
    live = _exposed(loop.body, frozenset(targets))[0] | read_later | {name for node in head for name in _read(node)}
    carried = (made & live) - targets
    order = [name for name in _names(function) if name in carried]
    if not order:
        return None
    ending = _numbered([*loop.orelse, *after], order) if read_later - BUILTINS <= carried else None
    return Loop(tuple(before), loop, tuple(after), tuple(order), frozenset(made | targets), ending)


def passes(function: ast.FunctionDef, trace: Trace) -> Passes:
    """What the loop of a function made in a call; no passes where there is no such loop, or none in this call.

    Where a pass changed a variable of which that cannot be read in the source, such as a list under another name, what
    it carries is not known: no states.

    Args:
        function: the tree of the function that was called, by whose lines the trace goes.
        trace: of the call.

    Example:
        >>> from pbb_probe.programs.syntax import function_of
        >>> source = "def f(x):\\n    for i in range(2):\\n        x = x * 3\\n    return x"
        >>> trace = Trace((2,), (2, 3, 2, 3, 2, 4), ({"i": 0}, {"x": 6}, {"i": 1}, {"x": 18}, {}, {}), 18)
        >>> passes(function_of(source), trace)
        Passes(begun=2, states=((6,), (18,)))
    """
    loop = loop_of(function)
    if loop is None:
        return Passes(0, ())
    trace = by_statement(function, trace)
    head, last = loop.statement.lineno, loop.statement.body[-1].end_lineno or 0
    inside = range(head, last + 1)
    heads = [i for i, line in enumerate(trace.lines) if line == head]
    begun = sum(following in inside for i in heads for following in trace.lines[i + 1 : i + 2])
    changed = {name for line, names in zip(trace.lines, trace.changes, strict=True) if line in inside for name in names}
    if changed - loop.made:
        return Passes(begun, ())
    arguments = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    variables = trace.variables_by_line(arguments)
    states = (variables[i - 1] for i in heads[1 : MOST + 1])
    return Passes(begun, tuple(_state(loop.carried, after) for after in states))


def pass_targets(source: str, trace: Trace) -> dict[str, int | str]:
    """The state after each pass of a call, as labels: `pass_1`, `pass_2`, ..., at most `MOST`.

    Args:
        source: of the function that was called.
        trace: of the call.

    Returns:
        The value of the one variable that the loop carries, or of several the text of their tuple. Empty for programs
        without such a loop (`loop_of`) and calls in which it completes no pass.

    Example:
        >>> import pbb_probe as pbb
        >>> entry = pbb.make_corpus("arithmetic", with_io=1, without_io=0, shapes=("loop",)).entries[0]
        >>> pass_targets(entry.program.source, entry.traces[3])
        {'pass_1': 6, 'pass_2': 9, 'pass_3': 2}
    """
    if not trace.lines:
        return {}
    states = passes(function_at(source, trace.lines[0]), trace).states
    return {f"pass_{k}": label(as_value(state)) for k, state in enumerate(states, start=1) if state is not None}


def as_value(state: State) -> Value:
    """The value of a single variable, or the tuple of those of several."""
    return state[0] if len(state) == 1 else state


def _state(carried: Sequence[str], variables: dict[str, Value]) -> State | None:
    return tuple(variables[name] for name in carried) if set(carried) <= set(variables) else None


def _numbered(statements: Sequence[ast.stmt], names: Sequence[str]) -> str:
    """Their text, in which these variables are called by their places."""
    tree = ast.parse("\n".join(map(ast.unparse, statements)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            node.id = f"_{names.index(node.id)}"
    return ast.unparse(tree)


def _exposed(
    statements: Sequence[ast.stmt], bound: frozenset[str] = frozenset()
) -> tuple[set[str], frozenset[str] | None]:
    """The names that may be read before these statements assign them, and those that are bound after them.

    None in place of the latter where nothing runs after them, as after `return`.
    """
    read: set[str] = set()
    for statement in statements:
        match statement:
            case ast.If(test=test, body=body, orelse=otherwise):
                read |= _read(test) - bound
                (first, after), (second, after_other) = (_exposed(part, bound) for part in (body, otherwise))
                read |= first | second
                ends = [end for end in (after, after_other) if end is not None]
                if not ends:
                    return read, None
                bound = frozenset.intersection(*ends)
            case ast.For(target=target, iter=iterable, body=body, orelse=otherwise):
                read |= (_read(iterable) | _read(target)) - bound
                read |= _exposed(body, bound | set(stored_names(target)))[0] | _exposed(otherwise, bound)[0]
            case ast.While(test=test, body=body, orelse=otherwise):
                read |= _read(test) - bound
                read |= _exposed(body, bound)[0] | _exposed(otherwise, bound)[0]
            case ast.Return() | ast.Raise() | ast.Break() | ast.Continue():
                return read | _read(statement) - bound, None
            case ast.Try() | ast.Match() | ast.FunctionDef():  # which of their parts run is not looked at
                read |= _read(statement) - bound
            case _:
                read |= _read(statement) - bound
                bound |= _assigned([statement])
    return read, bound


def _read(node: ast.AST) -> set[str]:
    """The names that are read in a node, but for those that its comprehensions bind."""
    match node:
        case ast.Name(id=name):
            return {name} if isinstance(node.ctx, ast.Load) else set()
        case ast.AugAssign(target=ast.Name(id=name), value=value):
            return {name} | _read(value)
        case ast.ListComp(generators=parts) | ast.SetComp(generators=parts) | ast.GeneratorExp(generators=parts):
            return _read(parts[0].iter) | _read_in(node) - _assigned(part.target for part in parts)
        case ast.DictComp(generators=parts):
            return _read(parts[0].iter) | _read_in(node) - _assigned(part.target for part in parts)
    return _read_in(node)


def _read_in(node: ast.AST) -> set[str]:
    return {name for part in ast.iter_child_nodes(node) for name in _read(part)}


def _assigned(nodes: Iterable[ast.AST]) -> set[str]:
    """The variables that are bound in these nodes, but for those of comprehensions."""
    every = [each for node in nodes for each in ast.walk(node)]
    own = {id(name) for each in every if isinstance(each, ast.comprehension) for name in ast.walk(each.target)}
    return {
        each.id
        for each in every
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load) and id(each) not in own
    }


def _changed(nodes: Iterable[ast.AST]) -> set[str]:
    """The variables that are changed in place in these nodes: by items, methods that change, or `next`."""
    changed = set()
    for each in (each for node in nodes for each in ast.walk(node)):
        match each:
            case ast.Subscript(value=of, ctx=ast.Store() | ast.Del()):
                changed |= _root(of)
            case ast.Call(func=ast.Attribute(value=of, attr=method)) if method in CHANGING_METHODS:
                changed |= _root(of)
            case ast.Call(func=ast.Name(id="next"), args=[of, *_]):
                changed |= _root(of)
    return changed


def _root(node: ast.expr) -> set[str]:
    """The variable in which something is changed: `rows` of `rows[i][j]`."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _names(function: ast.FunctionDef) -> Iterator[str]:
    """The variables of a function in the order in which their names first appear."""
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.arg | ast.Name)]
    nodes.sort(key=lambda node: (node.lineno, node.col_offset))
    yield from dict.fromkeys(node.arg if isinstance(node, ast.arg) else node.id for node in nodes)
