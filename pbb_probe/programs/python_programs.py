"""Programs from a Python file: functions, each with a variable `<function>_inputs`, the list of its argument lists.

In place of the list there may be an input generator, a function `<function>_inputs(k)` that returns the arguments of
the k-th call. Imports and variables of the file that a function uses stand before it in its program. The file is not
imported: it is parsed, and what runs is confined like every program.
"""

import ast
import warnings
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.given import Own, Refused, given_program
from pbb_probe.programs.program import Program, checked_arguments, trace_programs
from pbb_probe.programs.renaming import free_names
from pbb_probe.programs.syntax import check_tree
from pbb_probe.programs.whitelist import bound_names

N_INPUTS = 10  # asked of an input generator
_SUFFIX = "_inputs"


def read_functions(text: str, where: str, comments: bool) -> list[Own | Refused]:
    """The program of each function.

    Args:
        text: of the file.
        where: the name of the file.
        comments: keep texts as they are; otherwise without comments, blank lines and docstrings.

    Raises:
        PbbError: the file is not Python, or a function has no inputs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is the author's affair
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PbbError(f"{where} is no Python ({str(error) or 'nested too deeply'}).") from error
    functions: dict[str, ast.FunctionDef] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and functions.setdefault(node.name, node) is not node:
            raise PbbError(f"{where} defines {node.name:.60} twice: give each function a name of its own.")
    listed = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    programs: list[Own | Refused] = []
    for name, function in functions.items():
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in functions:
            continue
        program = _checked(where, tree, function, lines, comments)
        inputs_name = name + _SUFFIX
        if inputs_name in listed:
            inputs = _literal(where, inputs_name, listed[inputs_name])
        elif inputs_name in functions:
            generator = _checked(where, tree, functions[inputs_name], lines, comments)
            (runs,) = trace_programs([generator], [range(N_INPUTS)])
            inputs = [run.output for run in runs]
        else:
            raise PbbError(
                f"{where}: {name:.60} has no inputs: give {inputs_name:.60} = [[...], ...] or a function "
                f"{inputs_name:.60}(k) that returns the arguments of the k-th call."
            )
        if not inputs:
            raise PbbError(f"{where}: {name:.60} has no inputs: its list of argument lists is empty.")
        arguments = (tuple(values) if isinstance(values, list | tuple) else (values,) for values in inputs)
        calls = tuple(checked_arguments(name, each) for each in arguments)
        programs.append(Own(program, calls, name, (None,) * len(calls)))
    return programs


def _checked(where: str, tree: ast.Module, function: ast.FunctionDef, lines: list[str], comments: bool) -> Program:
    try:
        check_tree(function)
    except SyntaxError as error:
        raise PbbError(f"{where}: {function.name:.60} is no program ({error}).") from error
    text = _lines_of(function, lines)
    return given_program(function.name, "\n".join([*_needed(tree, text, lines), text]), comments)


def _needed(tree: ast.Module, text: str, lines: list[str]) -> list[str]:
    """The imports and variables of the file that a function uses, and what these use in turn, in their order."""
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    beside = [node for node in tree.body if isinstance(node, kinds)]
    needed: set[int] = set()
    pending = [text]
    while pending:
        used = set(free_names(pending.pop()))
        for place, node in enumerate(beside):
            if place not in needed and used & set(bound_names(ast.walk(node))):
                needed.add(place)
                pending.append(_lines_of(node, lines))
    return [_lines_of(beside[place], lines) for place in sorted(needed)]


def _lines_of(statement: ast.stmt, lines: list[str]) -> str:
    first = min([statement.lineno, *(each.lineno for each in getattr(statement, "decorator_list", ()))])
    return "\n".join(lines[first - 1 : statement.end_lineno])


def _literal(where: str, name: str, node: ast.expr) -> list[Any]:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise PbbError(f"{where}: {name:.60} must be a plain list of argument lists.") from error
    if not isinstance(value, list):
        raise PbbError(f"{where}: {name:.60} must be a plain list of argument lists.")
    return value
