"""Worked steps: the lines of a program that ran, one after the other, with the values that they made.

They are as short as they can be with every value in reach: single values stand in place of variables, and of elements
such as `numbers[i]`; lists and texts are written when they are made, and then only what is added to them.
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
"""What an index is calculated with."""


def worked_steps(program: Program, trace: Trace) -> str:
    """The lines that ran, with values in place of variables, and their results.

    An assignment reads `y = (4 + 3) % 10 = 7`, a test `if 7 > 5: True`, a turn of a loop `i = 2`, and the last line
    `return 7 * 2 = 14`. What is calculated from a whole list or text is not written out: `ys = [2, 4]`, `if True`,
    `return = [2, 4]`. What is added to one stands alone: `ys.append(4)`, `word += chr(107) = 'k'`.
    """
    function = function_of(program.source, program.name)
    trace = by_statement(function, trace)
    statements = _statements_by_line(function)
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    values: dict[str, Value] = dict(zip(names, trace.arguments, strict=False)) | dict(trace.defaults)
    steps = []
    gone = trace.gone or ((),) * len(trace.lines)
    for i, (line, changed) in enumerate(zip(trace.lines, trace.changes, strict=True)):
        statement = statements.get(line)
        written = None
        match statement:
            case ast.Return():
                steps.append(_returned(statement, values, trace.output))
                continue  # what it changed besides is not seen by anyone
            case ast.If() | ast.While():
                step = "if" if isinstance(statement, ast.If) else "while"
                test = _with_values(statement.test, values)
                step += f" {test}" if test else ""
                if statement.body[0].lineno > line:  # else it is not seen whether the body ran
                    step += f"{':' if test else ''} {trace.lines[i + 1 : i + 2] == (statement.body[0].lineno,)}"
                steps.append(step)
                if i == len(trace.lines) - 1 and isinstance(statement.body[-1], ast.Return):  # on the same line
                    steps.append(_returned(statement.body[-1], values, trace.output))
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name in changed:
                assert statement.value
                steps.append(_assigned(name, _with_values(statement.value, values), changed[name]))
                written = name
            case ast.AugAssign(target=ast.Name(id=name)) if name in changed:
                added = _added(values.get(name), changed[name]) if isinstance(statement.op, ast.Add) else None
                if added is not None:
                    steps.append(_assigned(f"{name} +", _with_values(statement.value, values), added))
                else:
                    updated = ast.BinOp(ast.Name(name, ast.Load()), statement.op, statement.value)
                    steps.append(_assigned(name, _with_values(updated, values), changed[name]))
                written = name
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(id=name), "append"))) if name in changed:
                added = _added(values.get(name), changed[name])
                if isinstance(added, list) and len(added) == 1:
                    steps.append(f"{name}.append({value_text(added[0])})")
                    written = name
        steps += [f"{other} = {value_text(value)}" for other, value in changed.items() if other != written]
        values = {name: value for name, value in (values | changed).items() if name not in gone[i]}
    return "\n".join(steps)


def _assigned(name: str, worked: str | None, value: Value) -> str:
    """`y = (4 + 3) % 10 = 7`, or `y = 7` where there is nothing to work out, or too much."""
    text = value_text(value)
    equals = "=" if name.endswith("+") else " ="
    return f"{name}{equals} {text}" if worked in (None, text) else f"{name}{equals} {worked} = {text}"


def _returned(statement: ast.Return, values: Mapping[str, Value], output: Value) -> str:
    worked = _with_values(statement.value or ast.Constant(None), values)
    return f"return {worked} = {value_text(output)}" if worked else f"return = {value_text(output)}"


def _added(before: Value, after: Value) -> Value:
    """What was put at the end of a list or text; None where that is not what happened."""
    if (isinstance(before, str) and isinstance(after, str)) or (isinstance(before, list) and isinstance(after, list)):
        if len(after) > len(before) > 0 and after[: len(before)] == before:
            return after[len(before) :]
        if not before and after:
            return after
    return None


def _with_values(expression: ast.expr, values: Mapping[str, Value]) -> str | None:
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
        return ast.unparse(with_names_replaced(simple, {name: _written(known[name]) for name in free}))
    except ValueError:  # text with quotes of every kind, within an f-string
        return ast.unparse(expression)


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
            case ast.Subscript(value=ast.Name(id=name)) if isinstance(self.values.get(name), list | tuple | str | dict):
                try:
                    element = self.values[name][self.calculated(node.slice)]  # type: ignore[index]
                except (ValueError, LookupError, TypeError, ArithmeticError):
                    return node
                return _written(element) if _is_single(element) else node
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
                collection = self.values.get(name)
                if isinstance(collection, list | tuple | str | dict | set):
                    return ast.Constant(len(collection))
        return node

    def calculated(self, index: ast.expr) -> Any:
        """The value of an index.

        Raises:
            ValueError, ArithmeticError: it is not calculated from known single values alone.
        """
        match index:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in self.values and _is_single(self.values[name]):
                return self.values[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.calculated(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _CALCULATIONS:
                return _CALCULATIONS[type(op)](self.calculated(left), self.calculated(right))
        raise ValueError("not calculated from single values")


@functools.lru_cache(maxsize=4096)
def _statements_by_line(function: ast.FunctionDef) -> dict[int, ast.stmt]:
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    return {node.lineno: node for node in reversed(nodes)}  # the outermost of several on a line
