"""Texts of calls: the arguments as they would stand between the brackets, such as `[1, 2], k='a'`.

Plain values are read. Others, such as `'a b'.split(), k=2 + 3`, are computed in the confinement of every program.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Value, attempt_calls
from pbb_probe.programs.syntax import read
from pbb_probe.programs.values import not_run, read_value
from pbb_probe.schema import shown

_NAME = "input"


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call."""

    positional: tuple[Value, ...]
    named: dict[str, Value] = field(default_factory=dict)

    def of(self, function: ast.FunctionDef) -> tuple[Value, ...]:
        """All of them in the order of the function's parameters.

        Raises:
            ValueError: it has no such parameter, one is given twice, or one before it is not given. The message is in
                words.
        """
        values = list(self.positional)
        left = dict(self.named)
        parameters = [*function.args.posonlyargs, *function.args.args]
        defaults = dict(
            zip([each.arg for each in reversed(parameters)], reversed(function.args.defaults), strict=False)
        )
        for parameter in parameters[len(values) :]:
            if not left:
                break
            if parameter.arg in left and parameter not in function.args.posonlyargs:
                values.append(left.pop(parameter.arg))
            elif parameter.arg in defaults:
                values.append(read_value(ast.unparse(defaults[parameter.arg])))
            else:
                raise ValueError(f"it lacks the argument {parameter.arg:.60}")
        if left:
            name = next(iter(left))
            if name in [each.arg for each in function.args.kwonlyargs] or function.args.kwarg:
                raise ValueError(f"the argument {name:.60} can be given by name only, and calls here are by place")
            raise ValueError(f"the argument {name:.60} has no place in the call, or is there twice")
        return tuple(values)


def read_calls(texts: Sequence[str]) -> list[Arguments | str]:
    """The arguments that each text writes; in place of what cannot be read or computed, the reason in words."""
    read = [_plain(text) for text in texts]
    unread = [(place, each) for place, each in enumerate(read) if isinstance(each, ast.Call)]
    runs = attempt_calls([_program(call) for _, call in unread], [[()] for _ in unread])
    computed: dict[int, Arguments | str] = {}
    for (place, call), (run,) in zip(unread, runs, strict=True):
        if isinstance(run, PbbError):
            reason = str(run).removeprefix(str(not_run(_NAME, "")))
            computed[place] = re.sub(r"^line \d+: ", "", reason)  # a line of that program
        else:
            computed[place] = _arguments(call, run.output)
    return [computed[place] if isinstance(each, ast.Call) else each for place, each in enumerate(read)]


def _plain(text: str) -> Arguments | ast.Call | str:
    """The arguments of a text, the call whose arguments are still to be computed, or why there is none."""
    try:
        body = read(f"{_NAME}({text}\n)").body
    except SyntaxError as error:
        return f"{shown(text)} cannot stand between the brackets of a call ({error})"
    match body:
        case [ast.Expr(value=ast.Call(func=ast.Name(id=name), args=positional, keywords=named) as call)] if (
            name == _NAME
        ):
            pass
        case _:
            return f"{shown(text)} cannot stand between the brackets of one call"
    if any(isinstance(each, ast.Starred) for each in positional) or any(each.arg is None for each in named):
        return f"{shown(text)} has a star: write the arguments out"
    try:
        return _arguments(call, [read_value(ast.unparse(each)) for each in _expressions(call)])
    except ValueError:
        return call


def _expressions(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]


def _arguments(call: ast.Call, values: Any) -> Arguments:
    n = len(call.args)
    return Arguments(
        tuple(values[:n]), {str(each.arg): value for each, value in zip(call.keywords, values[n:], strict=True)}
    )


def _program(call: ast.Call) -> Program:
    """A program that computes the arguments."""
    function = ast.parse(f"def {_NAME}():\n    return []").body[0]
    function.body[0].value.elts = _expressions(call)  # type: ignore[attr-defined]
    return Program(_NAME, "own", ast.unparse(function))
