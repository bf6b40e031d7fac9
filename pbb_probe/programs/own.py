"""Users' own programs, from a JSONL file or a Python file of functions.

JSONL: an object a line with `source` and `inputs` (a list of argument lists), and optionally `group`. Python:
functions, each with a variable `<function>_inputs` that lists its argument lists, or an input generator, a function
`<function>_inputs(k)` that returns the arguments of the k-th call. Functions of one file may call one another. Nothing
of a file is imported: it is parsed, checked, and run in the same confinement as every program.
"""

import ast
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Value, count_steps, trace_programs
from pbb_probe.programs.whitelist import bound_names

N_INPUTS = 10  # asked of an input generator
_SUFFIX = "_inputs"


@dataclass(frozen=True)
class Own:
    """A program as the user gave it, with its inputs and, where one was asked for, its group."""

    program: Program
    inputs: tuple[tuple[Value, ...], ...]
    group: str | None = None


def load_programs(path: str | Path) -> list[Own]:
    """The programs of a `.jsonl` or `.py` file.

    Raises:
        PbbError: the file cannot be read or holds something else, or a program has no inputs.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PbbError(f"The programs in {path} cannot be read ({error}): give a .jsonl or .py file.") from error
    if path.suffix == ".jsonl":
        found = _from_jsonl(path, text)
    elif path.suffix == ".py":
        found = _from_python(path, text)
    else:
        raise PbbError(f"Programs are read from a .jsonl or a .py file, not from {path}.")
    if not found:
        raise PbbError(f"{path} holds no program.")
    known = Counter(own.program.name for own in found)
    if repeated := [name for name, n in known.items() if n > 1]:
        raise PbbError(f"{path} defines {repeated[0]} twice: give each function a name of its own.")
    if bare := [own.program.name for own in found if not own.inputs]:
        raise PbbError(f"{path}: {bare[0]} has no inputs: its list of argument lists is empty.")
    return [replace(own, program=replace(own.program, calls=_callees(own.program, set(known)))) for own in found]


def renamed(program: Program, names: Mapping[str, str]) -> Program:
    """The program with its own name and those of the programs it calls replaced."""
    tree = ast.parse(program.source)
    renaming = {name: names[name] for name in (*program.calls, program.name) if name not in _bound(program)}
    tree.body[0].name = names[program.name]  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = renaming.get(node.id, node.id)
    return replace(
        program,
        name=names[program.name],
        source=ast.unparse(tree),
        calls=tuple(names[callee] for callee in program.calls),
    )


def _from_jsonl(path: Path, text: str) -> list[Own]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            match ast.parse(row["source"]).body:
                case [ast.FunctionDef() as function]:
                    own = Own(_program(function), _distinct(map(_listed, _listed(row["inputs"]))), row.get("group"))
                case _:
                    raise ValueError("`source` is not one function")
        except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise PbbError(
                f"Line {number} of {path} is no program ({type(error).__name__}: {error}): give an object with "
                "`source`, one function, and `inputs`, a list of argument lists."
            ) from error
        found.append(own)
    return found


def _from_python(path: Path, text: str) -> list[Own]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PbbError(f"{path} is no Python ({error}).") from error
    functions: dict[str, ast.FunctionDef] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and functions.setdefault(node.name, node) is not node:
            raise PbbError(f"{path} defines {node.name} twice: give each function a name of its own.")
    listed = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for name, function in functions.items():
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in functions:
            continue
        given = name + _SUFFIX
        if given in listed:
            inputs = _literal(path, given, listed[given])
        elif given in functions:
            generator = _program(functions[given])
            (runs,) = trace_programs([generator], [range(N_INPUTS)])
            inputs = [run.output for run in runs]
        else:
            raise PbbError(
                f"{path}: {name} has no inputs: give {given} = [[...], ...] or a function {given}(k) that returns the "
                "arguments of the k-th call."
            )
        arguments = (values if isinstance(values, list) else [values] for values in inputs)
        found.append(Own(_program(function), _distinct(arguments)))
    return found


def _program(function: Any) -> Program:
    source = ast.unparse(function)
    return Program(function.name, "own", source, {"steps": count_steps(source)})


def _listed(value: Any) -> list:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.60} is not a list")
    return value


def _distinct(inputs: Iterable[list]) -> tuple[tuple[Value, ...], ...]:
    """The argument lists, each once: what was shown of a program must not come again as unseen."""
    return tuple({repr(arguments): tuple(arguments) for arguments in inputs}.values())


def _literal(path: Path, name: str, node: ast.expr) -> list:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise PbbError(f"{path}: {name} must be a plain list of argument lists.") from error
    if not isinstance(value, list):
        raise PbbError(f"{path}: {name} must be a plain list of argument lists.")
    return [list(arguments) if isinstance(arguments, tuple) else arguments for arguments in value]


def _callees(program: Program, known: set[str]) -> tuple[str, ...]:
    """The programs of the file that it names, but for names that it binds itself."""
    used = [node.id for node in ast.walk(ast.parse(program.source)) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(name for name in used if name in known - _bound(program) - {program.name}))


def _bound(program: Program) -> set[str]:
    """The names that the function binds: arguments, variables, inner functions."""
    _, *nodes = ast.walk(ast.parse(program.source).body[0])
    return set(bound_names(nodes))
