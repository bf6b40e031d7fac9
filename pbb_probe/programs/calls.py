"""Calls of programs, run in child processes: what each gives, or why it gives nothing."""

import copy
import graphlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.child import run_job
from pbb_probe.programs.definition import Program
from pbb_probe.programs.trace import Trace, trace_from_json
from pbb_probe.programs.values import Value, fault, from_json, not_run, to_json
from pbb_probe.programs.whitelist import check_source, imported
from pbb_probe.schema import shown

Inputs = Sequence[Sequence[Value | tuple[Value, ...]]]
Arguments = list[tuple[Value, ...]]
"""Of the calls of one program."""


def run_all(
    programs: Sequence[Program], inputs: Inputs, library: Sequence[Program], seconds: int, lines: int
) -> list[list[Trace]]:
    """The traces of all calls, all run in one child process.

    Raises:
        PbbError: the first program or call that fails.
    """
    known = _by_name(programs, library)
    arguments = [
        _arguments(program, _listed(program, values)) for program, values in zip(programs, inputs, strict=True)
    ]
    for program, _ in _with_callees(programs, known):
        check_source(program.name, program.source, program.calls)
    job = _job(programs, arguments, known) | {"skip": False, "lines": lines, "outputs": False}
    ended = run_job(job, [program.name for program in programs], seconds)
    if ended.error:
        raise ended.error
    if len(ended.answers) != len(programs):
        raise PbbError(
            f"{len(programs)} programs could not be run: their child process gave {len(ended.answers)} answers."
        )
    runs: list[list[Trace]] = []
    for program, called_with, answer in zip(programs, arguments, ended.answers, strict=True):
        runs.append([])
        for trace in _read(program, called_with, answer, _trace):
            if isinstance(trace, PbbError):
                raise trace
            runs[-1].append(trace)
    return runs


def attempt_all(
    programs: Sequence[Program],
    inputs: Inputs,
    library: Sequence[Program],
    seconds: int,
    lines: int,
    outputs: bool = False,
) -> list[list[Any]]:
    """The trace or the output of each call, or the `PbbError` that says why it has none.

    All run in one child process. If a program brings that down, the others go on in the next.

    Raises:
        TooMuchError: the answers of all are too long to keep.
    """
    known, listed = _by_name(programs, library), list(map(_listed, programs, inputs))
    gives: list[list[Any]] = [[] for _ in programs]
    arguments: dict[int, Arguments] = {}
    checked: dict[int, PbbError | None] = {}
    for place, program in enumerate(programs):
        try:
            arguments[place] = _arguments(program, listed[place])
            for needed, _ in _with_callees([program], known):
                _check_once(needed, checked)
        except PbbError as error:
            arguments.pop(place, None)
            gives[place] = [error] * len(listed[place])
    waiting = list(arguments)
    read = _output if outputs else _trace
    while waiting:
        chosen = [programs[place] for place in waiting]
        job = _job(chosen, [arguments[place] for place in waiting], known)
        job |= {"skip": True, "lines": lines, "outputs": outputs}
        ended = run_job(job, [program.name for program in chosen], seconds)
        for place, answer in zip(waiting, ended.answers, strict=False):
            try:
                gives[place] = _read(programs[place], arguments[place], answer, read)
            except PbbError as error:
                gives[place] = [error] * len(arguments[place])
        del waiting[: len(ended.answers)]
        if not waiting:
            break
        if not (ended.answers and ended.may_be_innocent):  # it is tried once more at the head of a child
            place = waiting.pop(0)
            silent = not_run(programs[place].name, "its child process gave no answer")
            gives[place] = [ended.error or silent] * len(arguments[place])
    return gives


def checked_arguments(name: str, value: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    """Copies of the arguments of a call, given as a tuple or as the one argument itself.

    Raises:
        PbbError: an argument is not a value, or too large. The message names the program `name`.
    """
    arguments = value if isinstance(value, tuple) else (value,)
    for argument in arguments:
        if reason := fault(argument):
            raise not_run(name, f"an argument is {reason}")
    return copy.deepcopy(arguments)


def _check_once(program: Program, checked: dict[int, PbbError | None]) -> None:
    """Hold a program to the whitelist, once for all that call it."""
    if id(program) not in checked:
        try:
            check_source(program.name, program.source, program.calls)
            checked[id(program)] = None
        except PbbError as error:
            checked[id(program)] = error
    if complaint := checked[id(program)]:
        raise complaint


def _arguments(program: Program, values: list[Any]) -> Arguments:
    return [checked_arguments(program.name, value) for value in values]


def _job(programs: Sequence[Program], arguments: Sequence[Arguments], known: Mapping[str, Program]) -> dict[str, Any]:
    """What the child process is to do, as `_executor.py` has it."""
    sources = _with_callees(programs, known)
    return {
        "sources": [{"name": program.name, "source": program.source, "calls": calls} for program, calls in sources],
        "modules": imported(program.source for program, _ in sources),
        "inputs": [[[to_json(value) for value in call] for call in calls] for calls in arguments],
    }


def _read(program: Program, arguments: Arguments, answer: bytes | bytearray, read: Callable[..., Any]) -> list[Any]:
    """What is in the child process's answer about a program, once it has been checked: an error for a call that failed.

    Raises:
        PbbError: it is no such answer.
    """
    try:
        runs = json.loads(answer, parse_constant=_refused)
        if isinstance(runs, dict):
            return [_failure(program, runs)] * len(arguments)
        return [
            _failure(program, run) if isinstance(run, dict) and "failed" in run else read(call, run)
            for call, run in zip(arguments, runs, strict=True)
        ]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        what = "is no trace" if read is _trace else "holds no outputs"
        raise not_run(program.name, f"its child process gave an answer that {what}") from error


def _trace(arguments: tuple[Value, ...], run: Any) -> Trace:
    lines, changes, output, *rest = run
    return trace_from_json(arguments, lines, changes, output, *rest)


def _output(_arguments: tuple[Value, ...], run: Any) -> Value:
    value: Value = from_json(run)
    if reason := fault(value):
        raise ValueError(reason)
    return value


def _failure(program: Program, run: dict[str, Any]) -> PbbError:
    ((failed, sentence),) = run.items()
    if failed != "failed" or not isinstance(sentence, str):
        raise ValueError("no trace, and no reason")
    printable = "".join(letter if letter.isprintable() else "?" for letter in sentence[:300])
    return not_run(program.name, printable)


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _listed(program: Program, values: Any) -> list[Any]:
    """The inputs of a program as a list; they may be any iterable except text and mappings."""
    try:
        if not isinstance(values, str | Mapping):
            return list(values)
    except TypeError:
        pass
    raise not_run(program.name, f"its inputs are {shown(values)}, not a list of inputs")


def _by_name(programs: Sequence[Program], library: Iterable[Program]) -> dict[str, Program]:
    return {program.name: program for program in (*reversed([*library]), *reversed(programs))}


def _with_callees(programs: Sequence[Program], known: Mapping[str, Program]) -> list[tuple[Program, dict[str, int]]]:
    """The programs, then all that they call, each with the places of its callees in this list."""
    needed = list(programs)
    places = {program.name: place for place, program in reversed(list(enumerate(programs)))}
    calls: list[dict[str, int]] = []
    for program in needed:  # grows on the way
        for callee in program.calls:
            if callee not in known:
                raise not_run(program.name, f"it calls {callee:.60}, and there is no such program")
            if callee not in places:
                places[callee] = len(needed)
                needed.append(known[callee])
        calls.append({callee: places[callee] for callee in program.calls})
    try:
        graphlib.TopologicalSorter({place: called.values() for place, called in enumerate(calls)}).prepare()
    except graphlib.CycleError as error:
        circle = [needed[place].name for place in reversed(error.args[1])]
        raise not_run(circle[0], f"its calls go round in a circle ({' -> '.join(circle)})") from None
    return list(zip(needed, calls, strict=True))
