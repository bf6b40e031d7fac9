"""Recited programs: code that a model wrote for a name, judged by running it."""

import ast
import re
from collections.abc import Collection, Sequence

from pbb_probe.errors import PbbError
from pbb_probe.programs.entry import Entry
from pbb_probe.programs.program import Program, label, try_outputs
from pbb_probe.programs.syntax import read
from pbb_probe.programs.whitelist import LONGEST_SOURCE, bound_names, check_source

_FENCED = re.compile(r"```[a-z]*\n(.*?)(?:```|\Z)", re.DOTALL)


def recited(entries: Sequence[Entry], texts: Sequence[str], library: Sequence[Program] = ()) -> list[bool]:
    """Does the code in each text give the program's outputs on all of its inputs?

    What is written is read by `written_program` and run in the confinement of all programs. How it is written does not
    matter, nor by what name.

    Args:
        entries: the programs that were asked for.
        texts: what was written for each.
        library: programs that may be called.

    Raises:
        PbbError: the outputs of all programs are too long to keep.

    Example:
        >>> import pbb_probe as pbb
        >>> (entry,) = pbb.make_corpus(with_io=1, without_io=0).entries
        >>> recited([entry, entry], [entry.program.source, "no code"])
        [True, False]
    """
    names = {program.name for program in library}
    programs = [written_program(e.program.name, text, names) for e, text in zip(entries, texts, strict=True)]
    there = [(entry, program) for entry, program in zip(entries, programs, strict=True) if program]
    inputs = [[trace.arguments for trace in entry.traces] for entry, _ in there]
    runs = iter(try_outputs([program for _, program in there], inputs, library))
    right = []
    for entry, program in zip(entries, programs, strict=True):
        given = [repr(label(output)) for output in next(runs)] if program else []
        right.append(given == [repr(label(trace.output)) for trace in entry.traces])
    return right


def written_program(name: str, text: str, callable_names: Collection[str] = ()) -> Program | None:
    """The program that a text begins with, under the name that it was asked for by; None where there is none to run.

    A function or a `name = lambda x: ...` is taken, up to the last line with which it is Python, from within the first
    fence of ``` where there is one.
    """
    fenced = _FENCED.search(text)
    lines = (fenced.group(1) if fenced else text)[:LONGEST_SOURCE].strip().split("\n")
    for end in range(len(lines), 0, -1):
        if tree := _one_function("\n".join(lines[:end])):
            break
    else:
        return None
    *_, function = tree.body
    assert isinstance(function, ast.FunctionDef)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == function.name:
            node.id = name
    function.name = name
    read_names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(bound_names(ast.walk(tree)))
    program = Program(name, "", ast.unparse(tree), calls=tuple(sorted(read_names & set(callable_names))))
    try:
        check_source(name, program.source, program.calls)
    except PbbError:
        return None
    return program


def _one_function(text: str) -> ast.Module | None:
    """The tree of a text that defines one function, by a statement or as a lambda, after what it imports."""
    try:
        match read(text).body:
            case [*imports, ast.FunctionDef() as function] if all(map(_imports, imports)):
                return ast.Module([*imports, function], [])
            case [ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda(args=arguments, body=body))]:
                made = ast.FunctionDef(name, arguments, [ast.Return(body)], decorator_list=[])
                return ast.fix_missing_locations(ast.Module([made], []))
    except SyntaxError:
        pass
    return None


def _imports(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)
