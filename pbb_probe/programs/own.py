"""Users' own programs, from a JSONL file or a Python file of functions.

JSONL: an object on each line with `source` and `inputs` (a list of argument lists), and optionally `group`. Python:
functions, each with a variable `<function>_inputs`, the list of its argument lists, or with an input generator, a
function `<function>_inputs(k)` that returns the arguments of the k-th call. Functions of one file may call one another.
No file is imported: it is parsed, checked, and run in the same confinement as every program.
"""

import ast
import json
import random
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import GROUPS, Group, Program, Value, checked_arguments, count_steps, trace_programs
from pbb_probe.programs.syntax import check_tree, parsed, read
from pbb_probe.programs.values import path_text
from pbb_probe.programs.whitelist import bound_names
from pbb_probe.schema import shown

N_INPUTS = 10  # asked of an input generator
_SUFFIX = "_inputs"


@dataclass(frozen=True)
class Own:
    """A program as the user gave it, with its inputs and, if one was given, its group."""

    program: Program
    inputs: tuple[tuple[Value, ...], ...]
    group: Group | None = None


def load_programs(path: str | Path) -> list[Own]:
    """The programs of a `.jsonl` or `.py` file.

    Raises:
        PbbError: the file cannot be read or holds something else, or a program has no inputs.
    """
    where = path_text(path)
    try:
        path = Path(path).expanduser()
        where = path_text(path)
        if path.suffix not in _READERS and not path.is_dir():
            raise PbbError(f"Programs are read from a .jsonl or a .py file, not from {where}.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError, TypeError, RuntimeError) as error:  # no such home, no such path
        if isinstance(error, PbbError):
            raise
        raise PbbError(
            f"The programs in {where} cannot be read ({' '.join(str(error).split())}): give a .jsonl or .py file."
        ) from error
    programs = _READERS[path.suffix](where, text)
    if not programs:
        raise PbbError(f"{where} holds no program.")
    known = Counter(own.program.name for own in programs)
    if repeated := [name for name, n in known.items() if n > 1]:
        raise PbbError(f"{where} defines {repeated[0]:.60} twice: give each function a name of its own.")
    if bare := [own.program.name for own in programs if not own.inputs]:
        raise PbbError(f"{where}: {bare[0]:.60} has no inputs: its list of argument lists is empty.")
    return [replace(own, program=replace(own.program, calls=_callees(own.program, set(known)))) for own in programs]


def renamed(program: Program, names: Mapping[str, str]) -> Program:
    """The program with its name and those of the programs that it calls replaced."""
    tree = parsed(program.source)
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


def named_and_grouped(
    own: list[Own], names: list[str], counts: Mapping[Group, int], rng: random.Random
) -> tuple[list[tuple[Program, list[tuple[Value, ...]]]], list[Group]]:
    """The user's programs under other names, each with its inputs, and their groups.

    Args:
        own: the programs.
        names: one for each.
        counts: the groups in whose proportion those that name no group are divided.
        rng: divides them.

    Raises:
        PbbError: a program that asks for examples calls one that has none.
    """
    naming = {given.program.name: name for given, name in zip(own, names, strict=True)}
    undivided = [i for i, given in enumerate(own) if given.group is None]
    shuffled = rng.sample(undivided, len(undivided))
    drawn: dict[int, Group] = dict.fromkeys(shuffled, "without_io")
    for group in ("with_io", "io_only"):
        n = round(len(undivided) * counts[group] / sum(counts.values()))
        drawn |= dict.fromkeys(shuffled[:n], group)
        shuffled = shuffled[n:]
    groups: list[Group] = [given.group or drawn[i] for i, given in enumerate(own)]
    _refuse_shown_callees(own, groups)
    return [(renamed(given.program, naming), list(given.inputs)) for given in own], groups


def _refuse_shown_callees(own: list[Own], groups: list[Group]) -> None:
    """Refuse programs with examples that call one without: they would show it. Where the group was drawn, change it."""
    place = {given.program.name: i for i, given in enumerate(own)}
    changed = True
    while changed:
        changed = False
        for i, given in enumerate(own):
            hidden = [callee for callee in given.program.calls if groups[place[callee]] != "with_io"]
            if groups[i] == "without_io" or not hidden:
                continue
            if given.group is not None:
                raise PbbError(
                    f"{given.program.name:.60} is to have examples and calls {hidden[0]:.60}, which is not a with_io "
                    "program: its worked steps would show it; put both into one group."
                )
            groups[i], changed = "without_io", True


def _from_jsonl(where: str, text: str) -> list[Own]:
    programs = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            programs.append(_row(json.loads(line, object_pairs_hook=_once)))
        except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            if isinstance(error, PbbError):
                raise
            raise PbbError(
                f"Line {number} of {where} is no program ({type(error).__name__}: {error}): give an object with "
                "`source`, one function, and `inputs`, a list of argument lists."
            ) from error
    return programs


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no key may stand twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a key stands twice among {shown([key for key, _ in pairs])}")
    return row


def _row(row: Any) -> Own:
    if not isinstance(row, dict):
        raise TypeError(f"{shown(row)} is not an object")
    if not isinstance(row["source"], str):
        raise TypeError(f"its source is {shown(row['source'])}, not text")
    match read(row["source"]).body:
        case [ast.FunctionDef() as function]:
            program = _program(function)
        case _:
            raise ValueError("`source` is not one function")
    group = row.get("group")
    if group is not None and group not in GROUPS:
        raise PbbError(f"{program.name:.60} asks for the group {shown(group)}: there are {', '.join(GROUPS)}.")
    return Own(program, _distinct(program.name, map(_listed, _listed(row["inputs"]))), group)


def _from_python(where: str, text: str) -> list[Own]:
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
    programs = []
    for name, function in functions.items():
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in functions:
            continue
        program = _checked(where, function)
        inputs_name = name + _SUFFIX
        if inputs_name in listed:
            inputs = _literal(where, inputs_name, listed[inputs_name])
        elif inputs_name in functions:
            generator = _checked(where, functions[inputs_name])
            (runs,) = trace_programs([generator], [range(N_INPUTS)])
            inputs = [run.output for run in runs]
        else:
            raise PbbError(
                f"{where}: {name:.60} has no inputs: give {inputs_name:.60} = [[...], ...] or a function "
                f"{inputs_name:.60}(k) that returns the arguments of the k-th call."
            )
        arguments = (values if isinstance(values, list) else [values] for values in inputs)
        programs.append(Own(program, _distinct(name, arguments)))
    return programs


def _checked(where: str, function: ast.FunctionDef) -> Program:
    try:
        check_tree(function)
    except SyntaxError as error:
        raise PbbError(f"{where}: {function.name:.60} is no program ({error}).") from error
    return _program(function)


def _program(function: Any) -> Program:
    """The program of a function whose tree has been checked."""
    source = ast.unparse(function)
    return Program(function.name, "own", source, {"steps": count_steps(source)})


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{shown(value):.60} is not a list")
    return value


def _distinct(name: str, inputs: Iterable[list[Any]]) -> tuple[tuple[Value, ...], ...]:
    """The distinct argument lists: a shown input must not come again as an unseen one."""
    return tuple(
        {
            repr(arguments): arguments for arguments in (checked_arguments(name, tuple(listed)) for listed in inputs)
        }.values()
    )


def _literal(where: str, name: str, node: ast.expr) -> list[Any]:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise PbbError(f"{where}: {name:.60} must be a plain list of argument lists.") from error
    if not isinstance(value, list):
        raise PbbError(f"{where}: {name:.60} must be a plain list of argument lists.")
    return [list(arguments) if isinstance(arguments, tuple) else arguments for arguments in value]


def _callees(program: Program, known: set[str]) -> tuple[str, ...]:
    """The programs of the file that it names, except for names that it binds itself."""
    used = [node.id for node in ast.walk(parsed(program.source)) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(name for name in used if name in known - _bound(program) - {program.name}))


def _bound(program: Program) -> set[str]:
    """The names that the function binds: arguments, variables, inner functions."""
    _, *nodes = ast.walk(parsed(program.source).body[0])
    return set(bound_names(nodes))


_READERS = {".jsonl": _from_jsonl, ".py": _from_python}
