"""A program, and the trace of one execution of it: its source is really run, in a confined child process."""

import ast
import graphlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pbb_probe.errors import PbbError
from pbb_probe.programs.whitelist import check_source

_EXECUTOR = Path(__file__).with_name("_executor.py")

Value: TypeAlias = int | str | bool | list[Any] | None
"""What goes in and out of a program: a whole number, text, a truth value, None, or a list of such values."""


@dataclass(frozen=True)
class Program:
    """One named function: Python text that defines a function called `name`, one statement a line.

    It takes any number of positional arguments. What its source may contain is in `programs.whitelist`.
    """

    name: str
    family: str
    source: str
    facts: Mapping[str, str | int] = field(default_factory=dict)
    """What holds on every input and can be probed for, such as `steps`, `op_1`, `constant_1`."""
    calls: tuple[str, ...] = ()
    """The names of the other programs that it calls."""


@dataclass(frozen=True)
class Trace:
    """One execution, as it is seen in the outermost call of the function: inner calls leave no lines of their own."""

    arguments: tuple[Value, ...]
    lines: tuple[int, ...]
    """Line numbers in the order they ran, the first line of the source being 1."""
    changes: tuple[dict[str, Value], ...]
    """For each of these lines, the local variables that it assigned or changed, with their values afterwards."""
    output: Value

    @property
    def states(self) -> tuple[Value, ...]:
        """The values assigned on the way, in order, without the output itself."""
        return tuple(value for changed in self.changes for value in changed.values())

    @property
    def input(self) -> int | str:
        """What labels and tables call the input: the one whole number, or the arguments as a call has them."""
        if len(self.arguments) == 1:
            return label(self.arguments[0])
        return self.call_text

    @property
    def call_text(self) -> str:
        """The arguments as they stand in a call."""
        return ", ".join(map(repr, self.arguments))

    def variables(self) -> dict[str, int | str]:
        """The trace as named variables: input, state_1, state_2, ..., output."""
        states = {f"state_{k}": label(state) for k, state in enumerate(self.states, start=1)}
        return {"input": self.input, **states, "output": label(self.output)}


def count_steps(source: str) -> int:
    """Statements in the body of the function that a source defines."""
    return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(source))) - 1


def label(value: Value) -> int | str:
    """A value as a document has it: a whole number stays one, everything else becomes its Python text."""
    return value if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def call_arguments(name: str, call: str) -> tuple[Value, ...]:
    """The arguments in a call's text, as `Trace.call_text` has it: `3, [1, 2]`, or nothing.

    Raises:
        PbbError: they are not written out as Python values.
    """
    try:
        return tuple(ast.literal_eval(f"[{call}]"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise PbbError(
            f"The call {name}({call!s:.200}) cannot be read: its arguments must be Python values."
        ) from error


def trace_programs(
    programs: Sequence[Program],
    inputs: Sequence[Sequence[Value | tuple[Value, ...]]],
    seconds: int = 60,
    library: Sequence[Program] = (),
) -> list[list[Trace]]:
    """Run every program on each of its own inputs.

    Args:
        programs: what to run.
        inputs: for each program, the inputs to run it on: a tuple of arguments each, or the one argument itself.
        seconds: CPU time all of them may take together. A single program has 5 s at most.
        library: further programs that can be called.

    Returns:
        A list per program with a `Trace` per input.

    Raises:
        PbbError: a program holds something that is not allowed, calls a program that is not there, failed, or ran
            out of time or memory. The message is one sentence that names the program.
    """
    runs = _run(programs, inputs, seconds, library, skip=False)
    return [traces for traces in runs if traces is not None]


def try_programs(
    programs: Sequence[Program],
    inputs: Sequence[Sequence[Value | tuple[Value, ...]]],
    library: Sequence[Program] = (),
) -> list[list[Trace] | None]:
    """As `trace_programs`, with None for a program that cannot be run on its inputs."""
    if not programs:
        return []
    try:
        return _run(programs, inputs, 60, library, skip=True)
    except PbbError:
        if len(programs) == 1:
            return [None]
    half = len(programs) // 2
    return [
        *try_programs(programs[:half], inputs[:half], library),
        *try_programs(programs[half:], inputs[half:], library),
    ]


def _run(
    programs: Sequence[Program],
    inputs: Sequence[Sequence[Value | tuple[Value, ...]]],
    seconds: int,
    library: Sequence[Program],
    skip: bool,
) -> list[list[Trace] | None]:
    """All programs in one child process; with `skip`, None for those that raised an error in it."""
    arguments = [
        [_arguments(program, value) for value in values] for program, values in zip(programs, inputs, strict=True)
    ]
    sources = _with_callees(programs, library)
    for program, _ in sources:
        check_source(program.name, program.source, program.calls)
    job = {
        "sources": [{"name": program.name, "source": program.source, "calls": calls} for program, calls in sources],
        "inputs": arguments,
        "skip": skip,
    }
    child = subprocess.run(
        # isolated as by -I, but for the environment, which is empty and fixes the order of sets
        [sys.executable, "-P", "-s", "-W", "ignore", str(_EXECUTOR), str(seconds)],
        input=json.dumps(job),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={"PYTHONHASHSEED": "0"},
    )
    if child.returncode != 0:
        running = programs[min(child.stdout.count("\n"), len(programs) - 1)].name if programs else "none"
        raise PbbError(f"A program could not be run: {_reason(child, running, seconds)}")
    found = map(json.loads, child.stdout.splitlines())
    return [
        traces
        and [
            Trace(given, tuple(lines), tuple(changes), output)
            for given, (lines, changes, output) in zip(runs, traces, strict=True)
        ]
        for runs, traces in zip(arguments, found, strict=True)
    ]


def _arguments(program: Program, value: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    given = value if isinstance(value, tuple) else (value,)
    return tuple(argument if type(argument) is int else _copied(program, argument) for argument in given)


def _copied(program: Program, value: Value) -> Value:
    if isinstance(value, list):
        return [_copied(program, item) for item in value]
    if type(value) in (int, str, bool, type(None)):
        return value
    raise PbbError(
        f"A program could not be run: {program.name}: an argument is {type(value).__name__}, "
        "not a whole number, text, a truth value, None or a list of them"
    )


def _with_callees(programs: Sequence[Program], library: Sequence[Program]) -> list[tuple[Program, dict[str, int]]]:
    """The programs and after them all that they call, each with the places of its own callees in this list."""
    known = {program.name: program for program in (*reversed(library), *reversed(programs))}
    needed = list(programs)
    places = {program.name: place for place, program in reversed(list(enumerate(programs)))}
    calls: list[dict[str, int]] = []
    for program in needed:  # grows on the way
        for callee in program.calls:
            if callee not in known:
                raise PbbError(
                    f"A program could not be run: {program.name}: it calls {callee}, and there is no such program"
                )
            if callee not in places:
                places[callee] = len(needed)
                needed.append(known[callee])
        calls.append({callee: places[callee] for callee in program.calls})
    try:
        graphlib.TopologicalSorter({place: called.values() for place, called in enumerate(calls)}).prepare()
    except graphlib.CycleError as error:
        circle = [needed[place].name for place in reversed(error.args[1])]
        raise PbbError(
            f"A program could not be run: {circle[0]}: its calls go round in a circle ({' -> '.join(circle)})"
        ) from None
    return list(zip(needed, calls, strict=True))


def _reason(child: subprocess.CompletedProcess[str], running: str, seconds: int) -> str:
    """Why the child process ended, in one sentence that names the program that was running."""
    said = child.stderr.strip().splitlines()
    if child.returncode > 0:
        return f"{running}: {said[-1] if said else f'the child process ended with {child.returncode}'}"
    killer = -child.returncode
    if killer == signal.SIGPROF:
        return f"{running}: it ran longer than {min(seconds, 5)} s"
    if killer in (signal.SIGKILL, signal.SIGXCPU):
        return f"{running}: it was stopped by the system, for its time ({seconds} s in all) or its memory"
    return f"{running}: it brought the child process down with {signal.Signals(killer).name}"
