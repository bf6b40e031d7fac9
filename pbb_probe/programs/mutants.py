"""Mutants: programs that differ from one in a single constant or a single operation, from its syntax tree."""

import ast
import copy
import functools
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar, get_args

from pbb_probe.programs.syntax import function_of, parsed

Difference = Literal["none", "a step left out", "the order", "a constant", "an operation", "another program", "unclear"]
"""What tells the program that a model computes from the one that it was taught, the nearest first."""
DIFFERENCES: tuple[Difference, ...] = get_args(Difference)

SMALL = range(10)
NEIGHBOURS = (-2, -1, 1, 2)
"""A whole number is replaced by its neighbours and, unless it is above twice these, by each of the small ones."""
CALCULATIONS: tuple[type[ast.operator], ...] = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)
COMPARISONS: tuple[type[ast.cmpop], ...] = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
JUNCTIONS: tuple[type[ast.boolop], ...] = (ast.And, ast.Or)
EXTREMES = ("min", "max")

T = TypeVar("T")
Mutant = tuple[Difference, str]
"""What differs, and the source."""
Place = tuple[ast.AST, str, int | None, ast.AST]
"""A node's parent, its field there, its place in it where that is a list, and the node."""


@functools.lru_cache(maxsize=16384)
def mutants(source: str) -> tuple[Mutant, ...]:
    """Every program that has another small whole number in one place, or another operation of the same sort.

    Operations are swapped among `+ - * // %`, `< <= > >= == !=`, `and or`, and `min max`. Numbers that index or count,
    such as the bound of a `range`, are changed like all others. Nothing is run: mutants may fail or return the same.

    Args:
        source: of one function.

    Returns:
        What differs and the source of each, without those equal to another one or to `source` itself.

    Raises:
        PbbError: the source is not one function.

    Example:
        >>> [text for what, text in mutants("def f(x):\\n    return min(x, 4)") if what == "an operation"]
        ['def f(x):\\n    return max(x, 4)']
    """
    function_of(source)  # refuses what is no function
    tree = copy.deepcopy(parsed(source))
    made = {ast.unparse(tree)}
    found: list[Mutant] = []
    for parent, name, place, node in list(_places(tree)):
        for what, changed in _changes(node):
            _put(parent, name, place, changed)
            if (text := ast.unparse(tree)) not in made:
                made.add(text)
                found.append((what, text))
        _put(parent, name, place, node)
    return tuple(found)


def _places(function: ast.AST) -> Iterator[Place]:
    """Every node below the function, and where it stands."""
    for parent in ast.walk(function):
        for name, value in ast.iter_fields(parent):
            if isinstance(value, ast.AST):
                yield parent, name, None, value
            elif isinstance(value, list):
                yield from ((parent, name, k, each) for k, each in enumerate(value) if isinstance(each, ast.AST))


def _put(parent: ast.AST, name: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[place] = node


def _changes(node: ast.AST) -> Iterator[tuple[Difference, ast.AST]]:
    """Nodes that may stand in place of one."""
    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            small = SMALL if number <= 2 * len(SMALL) else ()
            for other in _others([*small, *(number + by for by in NEIGHBOURS if number + by > 0)], number):
                yield "a constant", ast.Constant(other)
        case ast.BinOp(left=left, op=op, right=right):
            for kind in _swapped(op, CALCULATIONS):
                yield "an operation", ast.BinOp(left, kind(), right)
        case ast.AugAssign(target=target, op=op, value=value):
            for kind in _swapped(op, CALCULATIONS):
                yield "an operation", ast.AugAssign(target, kind(), value)
        case ast.BoolOp(op=junction, values=values):
            for joined in _swapped(junction, JUNCTIONS):
                yield "an operation", ast.BoolOp(joined(), values)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for k, comparison in enumerate(ops):
                for compared in _swapped(comparison, COMPARISONS):
                    yield "an operation", ast.Compare(left, [*ops[:k], compared(), *ops[k + 1 :]], comparators)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in EXTREMES:
            (other_name,) = _others(EXTREMES, name)
            yield "an operation", ast.Call(ast.Name(other_name, ast.Load()), args, keywords)


def _others(values: Iterable[T], value: T) -> list[T]:
    return [other for other in dict.fromkeys(values) if other != value]


def _swapped(operation: object, kinds: tuple[type[T], ...]) -> list[type[T]]:
    """The other operations of its sort; none if it is of another sort."""
    return [kind for kind in kinds if not isinstance(operation, kind)] if isinstance(operation, kinds) else []
