"""Straight-line programs cut between their steps: where that can be done, and the parts as programs of their own."""

import ast
import functools
from collections.abc import Sequence
from typing import TypeAlias

from pbb_probe.programs.syntax import function_of, parsed

Definition: TypeAlias = tuple[str, str]
"""A program's name and its source."""


@functools.cache
def cuts(source: str) -> tuple[int, ...]:
    """The steps of a straight-line program after which nothing is used but the value they assigned.

    A program is straight-line if each of its statements assigns to one name, on a line of its own, and the last one
    returns. Other programs have no cuts.

    Raises:
        PbbError: the source is not that of one function.
    """
    function = function_of(source)
    if len(parsed(source).body) > 1:
        return ()
    *steps, last = function.body
    names = [assigned(step) for step in steps]
    if None in names or not isinstance(last, ast.Return) or len({step.lineno for step in function.body}) <= len(steps):
        return ()
    arguments = [argument.arg for argument in function.args.args]
    return tuple(
        k
        for k in range(1, len(steps) + 1)
        if not _used(function.body[k:]) & {*arguments, *names[: k - 1]} - {names[k - 1]}
    )


def shared_cuts(first: Definition, second: Definition) -> tuple[int, ...]:
    """The cuts that two programs of equally many statements share; none where they have different numbers."""
    (_, a), (_, b) = first, second
    if len(function_of(a).body) != len(function_of(b).body):
        return ()
    return tuple(k for k in cuts(a) if k in cuts(b))


@functools.cache
def rest_of(program: Definition, k: int) -> Definition:
    """The program that takes what step k assigned and does the rest."""
    name, source = program
    body = function_of(source).body
    lines = [f"def {name}_after_{k}({assigned(body[k - 1])}):", *(f"    {ast.unparse(step)}" for step in body[k:])]
    return f"{name}_after_{k}", "\n".join(lines)


@functools.cache
def step_of(program: Definition, k: int) -> Definition | None:
    """The program that does step k alone; None if there is but one, or step k uses more than the value before it."""
    name, source = program
    function, places = function_of(source), cuts(source)
    if not places or k > len(function.body) or not (k == 1 or k - 1 in places):
        return None
    step, arguments = function.body[k - 1], [ast.unparse(function.args)]
    if k > 1:
        arguments = [str(assigned(function.body[k - 2]))]
    lines = [f"def {name}_step_{k}({', '.join(arguments)}):", f"    {ast.unparse(step)}"]
    lines += [] if isinstance(step, ast.Return) else [f"    return {assigned(step)}"]
    return f"{name}_step_{k}", "\n".join(lines)


def assigned(statement: ast.stmt) -> str | None:
    """The one name that a statement assigns to."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AugAssign(target=ast.Name(id=name)):
            return name
    return None


def _used(statements: Sequence[ast.stmt]) -> set[str]:
    """The names whose values from before these statements are read in them."""
    bound: set[str | None] = set()
    used: set[str] = set()
    for statement in statements:
        names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
        used |= {name.id for name in names if isinstance(name.ctx, ast.Load)} - bound
        if isinstance(statement, ast.AugAssign):  # reads what it assigns to
            used |= {name.id for name in names} - bound
        bound.add(assigned(statement))
    return used
