"""Simpler programs: what is left of a program when a step is left out, or its steps are taken in another order.

A right answer shows that a program was evaluated only where none of them gives it as well. They are made from the
syntax tree and run like every program; one that fails gives no answers.
"""

import ast
import copy
import functools
import itertools
from collections.abc import Callable, Iterator

from pbb_probe.programs.syntax import beside, function_of, only_argument, with_names_replaced

MOST_PERMUTED = 4
"""Steps of a chain of which all orders and all parts are taken; of longer ones single steps and neighbours."""

Edit = Callable[[ast.FunctionDef, ast.stmt], None]
"""Changes the statement, which is one of the function, in place."""


@functools.lru_cache(maxsize=16384)
def simpler_programs(source: str) -> dict[str, str]:
    """The simpler programs of a program, by what makes them simpler.

    Of a chain, in which every step reads the value of the one before and nothing else, every part of its steps and
    every order of them: `without step 2`, `order 2 1`. Of other programs, each statement left out, where an assignment
    and a return hand on a variable that they read; a branch that is always or never taken; a loop that leaves out its
    first or last pass; neighbouring statements in the other order. Steps are the statements of the body in the order of
    the source. The passes of a `while` are left out only all together.

    Args:
        source: of one function.

    Returns:
        Sources by their words, without those equal to another one. Where a chain takes the same step twice, another
        order of it is the same text. The input alone is no program here: it is an answer that needs none.

    Raises:
        PbbError: the source is not one function.

    Example:
        >>> simpler_programs("def f(x):\\n    y = x * 3\\n    return y + 7")["without step 2"]
        'def f(x):\\n    y = x * 3\\n    return y'
    """
    function, others = function_of(source), beside(source)
    steps = chain(function)
    every = _of_chain(function, steps) if steps else _of_statements(function)
    simpler: dict[str, str] = {}
    for words, changed in every:
        if (text := others + changed) not in simpler.values():
            simpler.setdefault(words, text)
    return simpler


def chain(function: ast.FunctionDef) -> list[ast.expr]:
    """The expression of each step, with `_` for the one variable that it reads; empty if the function is no chain."""
    reads, steps = only_argument(function), list[ast.expr]()
    if reads is None or not isinstance(function.body[-1], ast.Return):
        return []
    for k, statement in enumerate(function.body):
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=expression) if k < len(function.body) - 1:
                pass
            case ast.Return(value=ast.Name(id=name)) if name == reads and steps:
                continue  # returns what the last step made
            case ast.Return(value=ast.expr() as expression):
                name = ""
            case _:
                return []
        if names_read(expression) != {reads}:
            return []
        steps.append(with_names_replaced(expression, {reads: ast.Name("_", ast.Load())}))
        reads = name
    return steps


def names_read(node: ast.AST) -> set[str]:
    """The variables that an expression or statement reads; the names of what it calls are none."""
    called = {id(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    return {
        name.id
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load) and id(name) not in called
    }


def _of_chain(function: ast.FunctionDef, steps: list[ast.expr]) -> Iterator[tuple[str, str]]:
    n = len(steps)
    kept = range(1, n) if n <= MOST_PERMUTED else [n - 1]
    for k in reversed(kept):
        for places in itertools.combinations(range(n), k):
            left_out = [str(place + 1) for place in range(n) if place not in places]
            words = f"without step{'s' * (len(left_out) > 1)} {' and '.join(left_out)}"
            yield words, _taken(function, steps, places)
    orders = itertools.islice(itertools.permutations(range(n)), 1, None)  # the first is the program's own
    for order in orders if n <= MOST_PERMUTED else _neighbours_swapped(n):
        yield f"order {' '.join(str(place + 1) for place in order)}", _taken(function, steps, order)


def _neighbours_swapped(n: int) -> Iterator[tuple[int, ...]]:
    for k in range(n - 1):
        yield (*range(k), k + 1, k, *range(k + 2, n))


def _taken(function: ast.FunctionDef, steps: list[ast.expr], places: tuple[int, ...]) -> str:
    """The function that takes these steps in this order; a left-out last step returns the value before it."""
    argument = str(only_argument(function))
    variables = [statement.targets[0].id for statement in function.body[:-1]]  # type: ignore[attr-defined]
    made = copy.copy(function)
    made.body, reads = [], argument
    last_is_left_out = len(steps) - 1 not in places
    for k, place in enumerate(places):
        expression = with_names_replaced(steps[place], {"_": ast.Name(reads, ast.Load())})
        if k == len(places) - 1 and not last_is_left_out:
            made.body.append(ast.Return(expression))
        else:
            made.body.append(ast.Assign([ast.Name(variables[k], ast.Store())], expression))
            reads = variables[k]
    if last_is_left_out:
        made.body.append(ast.Return(ast.Name(reads, ast.Load())))
    return ast.unparse(ast.fix_missing_locations(made))


def _of_statements(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for k, statement in enumerate(_statements(function), start=1):
        for words, edit in _edits(k, statement):
            yield words, _edited(function, k, edit)
    for k, (first, second) in enumerate(itertools.pairwise(_statements(function)), start=1):
        simple = ast.Assign | ast.AugAssign | ast.Expr
        if isinstance(first, simple) and isinstance(second, simple) and first.col_offset == second.col_offset:
            yield f"step {k + 1} before step {k}", _edited(function, k, _after_the_next)


def _edits(k: int, statement: ast.stmt) -> Iterator[tuple[str, Edit]]:
    """What makes a program simpler at its k-th statement."""
    match statement:
        case ast.Return(value=ast.expr() as expression) if not isinstance(expression, ast.Name):
            yield from _handed_on(k, names_read(expression))
        case ast.Assign(targets=[ast.Name(id=name)], value=expression) if not isinstance(expression, ast.Name):
            read = names_read(expression)
            if name in read:
                yield f"without step {k}", _left_out
            else:
                yield from _handed_on(k, read)
        case ast.AugAssign() | ast.Expr() | ast.Break() | ast.Continue():
            yield f"without step {k}", _left_out
        case ast.If():
            yield f"step {k} always", functools.partial(_decided, truth=True)
            yield f"step {k} never", functools.partial(_decided, truth=False)
        case ast.For():
            yield f"without step {k}", _left_out
            yield f"without the last pass of step {k}", functools.partial(_passes, last=True)
            yield f"without the first pass of step {k}", functools.partial(_passes, last=False)
        case ast.While():
            yield f"without step {k}", _left_out


def _handed_on(k: int, names: set[str]) -> Iterator[tuple[str, Edit]]:
    for name in sorted(names):
        giving = f", giving {name}" if len(names) > 1 else ""
        yield f"without step {k}{giving}", functools.partial(_valued, value=ast.Name(name, ast.Load()))


def _valued(function: ast.FunctionDef, statement: ast.stmt, value: ast.expr) -> None:
    statement.value = value  # type: ignore[attr-defined]


def _decided(function: ast.FunctionDef, statement: ast.stmt, truth: bool) -> None:
    statement.test = ast.Constant(truth)  # type: ignore[attr-defined]


def _passes(function: ast.FunctionDef, statement: ast.stmt, last: bool) -> None:
    assert isinstance(statement, ast.For)
    listed = ast.Call(ast.Name("list", ast.Load()), [statement.iter], [])
    one = ast.UnaryOp(ast.USub(), ast.Constant(1)) if last else ast.Constant(1)
    statement.iter = ast.Subscript(listed, ast.Slice(*((None, one) if last else (one, None))), ast.Load())


def _left_out(function: ast.FunctionDef, statement: ast.stmt) -> None:
    body = _body_of(function, statement)
    body[body.index(statement)] = ast.Pass()


def _after_the_next(function: ast.FunctionDef, statement: ast.stmt) -> None:
    body = _body_of(function, statement)
    k = body.index(statement)
    body[k : k + 2] = reversed(body[k : k + 2])


def _body_of(function: ast.FunctionDef, statement: ast.stmt) -> list[ast.stmt]:
    """The block that the statement stands in."""
    blocks = (getattr(node, name, None) for node in ast.walk(function) for name in ("body", "orelse", "finalbody"))
    return next(block for block in blocks if isinstance(block, list) and any(each is statement for each in block))


def _edited(function: ast.FunctionDef, k: int, edit: Edit) -> str:
    changed = copy.deepcopy(function)
    edit(changed, _statements(changed)[k - 1])
    return ast.unparse(ast.fix_missing_locations(changed))


def _statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements of the body in the order of the source, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    inner = [node for statement in body for node in ast.walk(statement) if isinstance(node, ast.stmt)]
    return sorted(inner, key=lambda statement: (statement.lineno, statement.col_offset))
