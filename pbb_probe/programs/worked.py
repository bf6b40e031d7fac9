"""Worked steps: the lines of a program that ran, one after the other, with the values that they made.

Single values stand in place of variables, and of elements such as `numbers[i]`. Each line takes little to work out:
several calculations are worked out part by part, and what is added to a list or text is told before the whole.
"""

import ast
import copy
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

from pbb_probe.programs.program import Program, Trace, Value
from pbb_probe.programs.steps import by_statement
from pbb_probe.programs.syntax import function_of, with_names_replaced
from pbb_probe.programs.values import value_text
from pbb_probe.programs.whitelist import bound_names

_CALCULATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
"""What an index, or a part of a longer calculation, is calculated with."""
_FUNCTIONS: dict[str, Callable[..., Any]] = {"max": max, "min": min, "abs": abs, "ord": ord}
"""What else a part of a longer calculation may call."""
AT_ONCE = 2, 1
"""Calculations that are worked out together, in straight-line programs and in others: `(x + 3) % 10` is one step."""
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
SHORT = 8
"""Elements of a list or letters of a text that is written again when something was added."""


def worked_steps(program: Program, trace: Trace) -> str:
    """The lines that ran, with values in place of variables, and their results.

    An assignment reads `y = (4 + 3) % 10 = 7`, a test `if 7 > 5: True`, a turn of a loop `i = 2`, and the last line
    `return 7 * 2 = 14`. What is calculated from a whole list or text is not written out: `ys = [2, 4]`, `if True`,
    `return = [2, 4]`. What is added to one stands alone, before the whole if that is short: `ys.append(3 + 1 = 4)`,
    `ys = [2, 4]`. Several calculations are worked out in parts, `y = 2 * 9 + 4 = 18 + 4 = 22` and
    `if 9 % 2 == 1: 1 == 1: True`, of straight-line programs more than two, as `(4 + 3) % 10` is a step of theirs.
    """
    function = function_of(program.source, program.name)
    trace = by_statement(function, trace)
    statements = _statements_by_line(function)
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    values: dict[str, Value] = dict(zip(names, trace.arguments, strict=False)) | dict(trace.defaults)
    own = frozenset(bound_names(ast.walk(function)))
    at_once = AT_ONCE[any(isinstance(node, ast.If | ast.While | ast.For) for node in ast.walk(function))]
    steps = []

    def worked(expression: ast.expr) -> str | None:
        """The expression and its parts, with the values of now; None where it takes a whole collection."""
        first = _with_values(expression, values)
        return None if first is None else " = ".join(map(ast.unparse, in_parts(first, at_once, own)))

    gone = trace.gone or ((),) * len(trace.lines)
    for i, (line, changed) in enumerate(zip(trace.lines, trace.changes, strict=True)):
        statement = statements.get(line)
        written = None
        match statement:
            case ast.Return():
                steps.append(_returned(worked(statement.value or ast.Constant(None)), trace.output))
                continue  # what it changed besides is not seen by anyone
            case ast.If() | ast.While():
                step = "if" if isinstance(statement, ast.If) else "while"
                test = _with_values(statement.test, values)
                step += f" {': '.join(map(ast.unparse, in_parts(test, at_once, own)))}" if test else ""
                if statement.body[0].lineno > line:  # else it is not seen whether the body ran
                    step += f"{':' if test else ''} {trace.lines[i + 1 : i + 2] == (statement.body[0].lineno,)}"
                steps.append(step)
                if i == len(trace.lines) - 1 and isinstance(statement.body[-1], ast.Return):  # on the same line
                    steps.append(_returned(worked(statement.body[-1].value or ast.Constant(None)), trace.output))
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name in changed:
                assert statement.value
                steps.append(_assigned(name, worked(statement.value), changed[name]))
                written = name
            case ast.AugAssign(target=ast.Name(id=name)) if name in changed:
                added = _added(values.get(name), changed[name]) if isinstance(statement.op, ast.Add) else None
                if added is not None:
                    steps.append(f"{name} += {_worked_out(worked(statement.value), added)}")
                    steps += _whole(name, added, changed[name])
                else:
                    updated = ast.BinOp(ast.Name(name, ast.Load()), statement.op, statement.value)
                    steps.append(_assigned(name, worked(updated), changed[name]))
                written = name
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(id=name), "append"), [item])) if name in changed:
                added = _added(values.get(name), changed[name])
                if isinstance(added, list) and len(added) == 1:
                    steps.append(f"{name}.append({_worked_out(worked(item), added[0])})")
                    steps += _whole(name, added, changed[name])
                    written = name
        steps += [f"{other} = {value_text(value)}" for other, value in changed.items() if other != written]
        values = {name: value for name, value in (values | changed).items() if name not in gone[i]}
    return "\n".join(steps)


def _assigned(name: str, worked: str | None, value: Value) -> str:
    return f"{name} = {_worked_out(worked, value)}"


def _worked_out(worked: str | None, value: Value) -> str:
    """`(4 + 3) % 10 = 7`, or `7` where there is nothing to work out, or too much."""
    text = value_text(value)
    return text if worked in (None, text) else f"{worked} = {text}"


def _whole(name: str, added: Value, value: Value) -> list[str]:
    """A list or text to which something was added, if it is short and was not empty before."""
    assert isinstance(value, str | list)
    return [f"{name} = {value_text(value)}"] if added != value and len(value) <= SHORT else []


def _returned(worked: str | None, output: Value) -> str:
    return f"return {worked} = {value_text(output)}" if worked else f"return = {value_text(output)}"


def _added(before: Value, after: Value) -> Value:
    """What was put at the end of a list or text; None where that is not what happened."""
    if (isinstance(before, str) and isinstance(after, str)) or (isinstance(before, list) and isinstance(after, list)):
        if len(after) > len(before) > 0 and after[: len(before)] == before:
            return after[len(before) :]
        if not before and after:
            return after
    return None


def _with_values(expression: ast.expr, values: Mapping[str, Value]) -> ast.expr | None:
    """The expression with values in place of its variables; those that a comprehension binds stay.

    None where it takes a whole list, text or other collection.
    """
    bound = set(bound_names(list(ast.walk(expression))))
    known = {name: value for name, value in values.items() if name not in bound}
    simple = _Elements(known).visit(copy.deepcopy(expression))
    free = {node.id for node in ast.walk(simple) if isinstance(node, ast.Name)} & known.keys()
    if not all(_is_single(known[name]) for name in free):
        return None
    try:
        return with_names_replaced(simple, {name: _written(known[name]) for name in free})
    except ValueError:  # text with quotes of every kind, within an f-string
        return expression


def in_parts(expression: ast.expr, at_once: int = 1, own: frozenset[str] = frozenset()) -> list[ast.expr]:
    """The expression, and it again and again with its longest parts of few calculations worked out.

    Args:
        at_once: how many are few.
        own: names that mean something of the program's own, if they are names of functions of Python's.

    Example:
        >>> print(*map(ast.unparse, in_parts(ast.parse("3 * 4 + 2 * 9 > 10", mode="eval").body)), sep="; ")
        3 * 4 + 2 * 9 > 10; 12 + 18 > 10; 30 > 10
    """
    forms = [expression]
    while _calculations(forms[-1]) > at_once:
        shorter = _Parts(at_once, own).visit(copy.deepcopy(forms[-1]))
        if ast.dump(shorter) == ast.dump(forms[-1]):
            break
        forms.append(shorter)
    return forms


def _calculations(expression: ast.expr) -> int:
    """How many results are worked out in it; `ord(c) - 97` and `chr(n + 97)` only write a letter as a number."""
    found = 0
    for node in ast.walk(expression):
        match node:
            case ast.BinOp(op=ast.Add() | ast.Sub(), right=ast.Constant(value=97)):
                pass
            case ast.BinOp() | ast.Compare() | ast.Call(func=ast.Name(id="max" | "min" | "abs")):
                found += 1
    return found


class _Parts(ast.NodeTransformer):
    """Works out the longest parts of few calculations."""

    def __init__(self, at_once: int, own: frozenset[str]):
        self.at_once, self.own = at_once, own

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.BinOp | ast.Call | ast.Compare) and 0 < _calculations(node) <= self.at_once:
            try:
                return _written(_calculated(node, self.own))
            except (ValueError, ArithmeticError, TypeError):
                pass
        return super().generic_visit(node)


def _calculated(part: ast.expr, own: frozenset[str] = frozenset()) -> Any:
    """The value of a part that is made of numbers and letters alone.

    Raises:
        ValueError, ArithmeticError, TypeError: it is made of something else, or has no value.
    """
    match part:
        case ast.Constant(value=int() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_calculated(operand, own)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _CALCULATIONS:
            return _CALCULATIONS[type(op)](_calculated(left, own), _calculated(right, own))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return _COMPARISONS[type(op)](_calculated(left, own), _calculated(right, own))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and name not in own:
            return _FUNCTIONS[name](*(_calculated(argument, own) for argument in arguments))
    raise ValueError("not made of numbers and letters alone")


def _is_single(value: Value) -> bool:
    """Is it one number, letter or truth value?"""
    return len(value) == 1 if isinstance(value, str) else isinstance(value, int | float | None)


def _written(value: Value) -> ast.expr:
    return ast.parse(value_text(value), mode="eval").body


class _Elements(ast.NodeTransformer):
    """Replaces elements and lengths of known collections by their values, where these are single."""

    def __init__(self, values: Mapping[str, Value]):
        self.values = values

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=index) if not isinstance(index, ast.Slice) and isinstance(
                self.values.get(name), list | tuple | str | dict
            ):
                try:
                    element = self.values[name][_calculated(self.known(index))]  # type: ignore[index]
                except (ValueError, LookupError, TypeError, ArithmeticError):
                    return node
                return _written(element) if _is_single(element) else node
        return node

    def known(self, index: ast.expr) -> ast.expr:
        names = {node.id for node in ast.walk(index) if isinstance(node, ast.Name)} & self.values.keys()
        single = {name: _written(self.values[name]) for name in names if _is_single(self.values[name])}
        return with_names_replaced(index, single)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
                collection = self.values.get(name)
                if isinstance(collection, list | tuple | str | dict | set):
                    return ast.Constant(len(collection))
        return node


@functools.lru_cache(maxsize=4096)
def _statements_by_line(function: ast.FunctionDef) -> dict[int, ast.stmt]:
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    return {node.lineno: node for node in reversed(nodes)}  # the outermost of several on a line
