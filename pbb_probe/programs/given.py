"""A program as its user gave it, and how messages call it: by its id, by its name, or by its line."""

import ast
from dataclasses import dataclass
from typing import Any

from pbb_probe.programs.program import Group, Program, Value
from pbb_probe.programs.values import not_run, value_text


@dataclass(frozen=True)
class Own:
    """A program with its inputs, and the outputs and the group that it was given, if any."""

    program: Program
    inputs: tuple[tuple[Value, ...], ...]
    label: str
    """What messages call it."""
    outputs: tuple[str | None, ...]
    """For each input the output that the file gives, as `told` writes it."""
    group: Group | None = None
    id: str | None = None
    alone: bool = False
    """Is its text complete? Otherwise it may call other programs of its file by names that are Python's, too."""


@dataclass(frozen=True)
class Refused:
    """What holds no program, or one that does not run."""

    label: str
    reason: str
    """In words; what stands before its first colon, but for the number of a line, others have in common with it."""
    where: str = ""
    """The line and file, where a row cannot be read."""
    id: str | None = None

    @property
    def sentence(self) -> str:
        """The error about it."""
        if not self.where:
            return str(not_run(self.label, self.reason))
        return (
            f"{self.where} is no program ({self.reason}): give an object with `code` and `input`, Python text, or with "
            "`source` and `inputs`, a list of argument lists."
        )


def given_program(name: str, text: str, comments: bool, id: str | None = None) -> Program:
    """The program of the function `name` of a text: the text itself, or with neither comments nor docstrings.

    Raises:
        SyntaxError: the text is not Python.
    """
    tree = without_docstrings(ast.parse(text))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    facts: dict[str, Any] = {"steps": sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1}
    return Program(name, "own", text if comments else ast.unparse(tree), facts | ({} if id is None else {"id": id}))


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree, changed: no module, class or function in it has a docstring any more."""
    for node in ast.walk(tree):
        if docstring(node):
            node.body = node.body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.fix_missing_locations(tree)


def docstring(node: ast.AST) -> ast.Constant | None:
    """The docstring of a module, class or function."""
    match node:
        case (
            ast.Module(body=[first, *_])
            | ast.ClassDef(body=[first, *_])
            | ast.FunctionDef(body=[first, *_])
            | ast.AsyncFunctionDef(body=[first, *_])
        ):
            match first:
                case ast.Expr(value=ast.Constant(value=str()) as text):
                    return text
    return None


def call_text(arguments: tuple[Value, ...]) -> str:
    """The arguments as written in a call."""
    return ", ".join(map(value_text, arguments))


def told(output: Value) -> str:
    """An output as text that is equal for equal outputs, of equal types and in whatever order their dicts are."""
    return value_text(_in_order(output))


def _in_order(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_in_order, value))
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value, key=value_text)}
    return value
