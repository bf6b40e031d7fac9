"""A program, and the trace of one execution: its source is really run, in a confined child process."""

import ast
import copy
import graphlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.programs.child import TooMuchError, run_job
from pbb_probe.programs.syntax import parsed
from pbb_probe.programs.values import Value as Value
from pbb_probe.programs.values import fault, not_run
from pbb_probe.programs.whitelist import check_source
from pbb_probe.schema import shown

Group = Literal["with_io", "without_io", "io_only"]
"""What a model is shown of a program: source and input/output examples, source alone, or examples alone (a control)."""
GROUPS: tuple[Group, ...] = get_args(Group)

LONGEST_TIME = 86_400  # seconds


@dataclass(frozen=True)
class Program:
    """One named function: Python text that defines a function called `name`, one statement a line.

    It takes any number of positional arguments. What its source may contain is in `programs.whitelist`.
    """

    name: str
    family: str
    source: str
    facts: Mapping[str, str | int] = field(default_factory=dict)
    """What is true on every input and can be probed for, such as `steps`, `op_1`, `constant_1`."""
    calls: tuple[str, ...] = ()
    """The names of the other programs that it calls."""

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("family", self.family), ("source", self.source)):
            if not isinstance(text, str):
                raise PbbError(f"The {what} of a program must be text, not {shown(text)}.")
        if not isinstance(self.facts, Mapping):
            raise PbbError(f"The facts of {self.name:.60} must be a mapping, not {shown(self.facts)}.")
        if not isinstance(self.calls, tuple | list) or not all(map(_is_name, self.calls)):
            raise PbbError(f"What {self.name:.60} calls must be a list of names, not {shown(self.calls)}.")


@dataclass(frozen=True)
class Trace:
    """One execution, as seen in the outermost call of the function: inner calls leave no lines of their own."""

    arguments: tuple[Value, ...]
    lines: tuple[int, ...]
    """Line numbers in the order they ran, the first line of the source being 1."""
    changes: tuple[dict[str, Value], ...]
    """For each of these lines, the local variables that it assigned or changed, with their values afterwards."""
    output: Value

    @property
    def states(self) -> tuple[Value, ...]:
        """The values assigned during the call, in order, without the output."""
        return tuple(value for changed in self.changes for value in changed.values())

    @property
    def input(self) -> int | str:
        """The input as labels and tables have it: a single whole number, or the arguments as written in a call."""
        if len(self.arguments) == 1:
            return label(self.arguments[0])
        return self.call_text

    @property
    def call_text(self) -> str:
        """The arguments as written in a call."""
        return ", ".join(map(repr, self.arguments))

    def variables(self) -> dict[str, int | str]:
        """The trace as named variables: input, state_1, state_2, ..., output."""
        states = {f"state_{k}": label(state) for k, state in enumerate(self.states, start=1)}
        return {"input": self.input, **states, "output": label(self.output)}


def count_steps(source: str) -> int:
    """Statements in the body of the function that a source defines.

    Raises:
        PbbError: the source is no Python.
    """
    return sum(isinstance(node, ast.stmt) for node in ast.walk(parsed(source))) - 1


def label(value: Value) -> int | str:
    """A value as documents and labels have it: a whole number stays one, everything else becomes its Python text."""
    return value if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def call_arguments(name: str, call: str) -> tuple[Value, ...]:
    """The arguments in the text of a call, as in `Trace.call_text`: `3, [1, 2]`, or nothing.

    Raises:
        PbbError: they are not written out as Python values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is not reported
            arguments = ast.literal_eval(f"[{call}]")
        if not isinstance(arguments, list):
            raise ValueError("several lists")
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        text = " ".join(str(call).split())
        raise PbbError(f"The call {name}({text:.200}) cannot be read: its arguments must be Python values.") from error
    return checked_arguments(name, tuple(arguments))


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
        seconds: CPU time for all of them together; a single program has 5 s at most. By the clock they may take ten
            times as long and ten seconds more.
        library: further programs that can be called.

    Returns:
        A list per program with a `Trace` per input.

    Raises:
        PbbError: a program contains something that is not allowed, calls a program that is not there, fails, or runs
            out of time or memory, or the traces of all are too long to keep. The message names the program.
    """
    _check_numbers(programs, inputs)
    runs = _run(programs, inputs, seconds, library, skip=False)
    return [[trace for trace in traces if trace is not None] for traces in runs]


def try_programs(
    programs: Sequence[Program],
    inputs: Sequence[Sequence[Value | tuple[Value, ...]]],
    library: Sequence[Program] = (),
) -> list[list[Trace] | None]:
    """As `trace_programs`, with None for a program that cannot be run on its inputs.

    Raises:
        PbbError: the traces of all programs are too long to keep, or there are not as many inputs as programs.
    """
    return [
        None if None in traces else [trace for trace in traces if trace is not None]
        for traces in try_calls(programs, inputs, library)
    ]


def try_calls(
    programs: Sequence[Program],
    inputs: Sequence[Sequence[Value | tuple[Value, ...]]],
    library: Sequence[Program] = (),
) -> list[list[Trace | None]]:
    """As `trace_programs`, with None for each call that fails.

    Raises:
        PbbError: the traces of all programs are too long to keep, or there are not as many inputs as programs.
    """
    return _tried(programs, inputs, library, traces=True)


def try_outputs(
    programs: Sequence[Program],
    inputs: Sequence[Sequence[Value | tuple[Value, ...]]],
    library: Sequence[Program] = (),
) -> list[list[Value | None]]:
    """As `try_calls`, with the output alone of each call, which is far faster.

    Raises:
        PbbError: the outputs of all programs are too long to keep, or there are not as many inputs as programs.
    """
    return _tried(programs, inputs, library, traces=False)


def _tried(
    programs: Sequence[Program],
    inputs: Sequence[Sequence[Value | tuple[Value, ...]]],
    library: Sequence[Program],
    traces: bool,
) -> list[list[Any]]:
    """What the calls give, halving the programs until one that ends the child process stands alone."""
    _check_numbers(programs, inputs)
    if not programs:
        return []
    try:
        return _run(programs, inputs, 60, library, skip=True, traces=traces)
    except TooMuchError:
        raise
    except PbbError:
        if len(programs) == 1:
            return [[None] * len(_listed(programs[0], inputs[0]))]
    half = len(programs) // 2
    return [
        *_tried(programs[:half], inputs[:half], library, traces),
        *_tried(programs[half:], inputs[half:], library, traces),
    ]


def _check_numbers(programs: Sequence[Program], inputs: Sequence[object]) -> None:
    if len(programs) != len(inputs):
        raise PbbError(f"There are {len(programs)} programs and inputs for {len(inputs)}: give each program its own.")


def _run(
    programs: Sequence[Program],
    inputs: Sequence[Sequence[Value | tuple[Value, ...]]],
    seconds: int,
    library: Sequence[Program],
    skip: bool,
    traces: bool = True,
) -> list[list[Any]]:
    """Run all programs in one child process; with `skip`, None for the calls that raise an error in it."""
    if type(seconds) is not int or not 1 <= seconds <= LONGEST_TIME:
        raise PbbError(
            f"The seconds of CPU time must be a whole number from 1 to {LONGEST_TIME}, not {shown(seconds)}."
        )
    arguments = [
        [checked_arguments(program.name, value) for value in _listed(program, values)]
        for program, values in zip(programs, inputs, strict=True)
    ]
    sources = _with_callees(programs, library)
    for program, _ in sources:
        check_source(program.name, program.source, program.calls)
    job = {
        "sources": [{"name": program.name, "source": program.source, "calls": calls} for program, calls in sources],
        "inputs": arguments,
        "skip": skip,
        "outputs": not traces,
    }
    answers = run_job(job, [program.name for program in programs], seconds)
    if len(answers) != len(programs):
        raise PbbError(f"{len(programs)} programs could not be run: their child process gave {len(answers)} answers.")
    read = _traces if traces else _outputs
    return [read(*answer, skip) for answer in zip(programs, arguments, answers, strict=True)]


def _traces(
    program: Program, arguments: list[tuple[Value, ...]], answer: bytes | bytearray, skip: bool
) -> list[Trace | None]:
    """The traces in the child process's answer about a program, once they have been checked."""
    try:
        runs = json.loads(answer)
        if runs is None and skip:
            runs = [None] * len(arguments)
        traces = [
            None if run is None and skip else _trace(called_with, *run)
            for called_with, run in zip(arguments, runs, strict=True)
        ]
        if reason := next(filter(None, (trace_fault(trace) for trace in traces if trace)), None):
            raise ValueError(reason)
    except (ValueError, TypeError, RecursionError) as error:
        raise not_run(program.name, "its child process gave an answer that is no trace") from error
    return traces


def _outputs(
    program: Program, arguments: list[tuple[Value, ...]], answer: bytes | bytearray, skip: bool
) -> list[Value | None]:
    """The outputs in the child process's answer about a program, once they have been checked."""
    try:
        outputs = json.loads(answer)
        if outputs is None and skip:
            return [None] * len(arguments)
        if len(outputs) != len(arguments):
            raise ValueError(f"{len(outputs)} outputs of {len(arguments)} calls")
        if reason := next(filter(None, (fault(value) for value in outputs if value is not None)), None):
            raise ValueError(reason)
    except (ValueError, TypeError, RecursionError) as error:
        raise not_run(program.name, "its child process gave an answer that holds no outputs") from error
    return list(outputs)


def _trace(arguments: tuple[Value, ...], lines: Any, changes: Any, output: Any) -> Trace:
    return Trace(arguments, tuple(lines), tuple(changes), output)


def trace_fault(trace: Trace) -> str | None:
    """What is wrong with the fields of a trace, in words; None if nothing is."""
    if any(type(line) is not int or line < 1 for line in trace.lines):
        return f"lines that are no numbers of lines: {shown(trace.lines)}"
    if len(trace.changes) != len(trace.lines):
        return f"{len(trace.lines)} lines, and changes of {len(trace.changes)}"
    if odd := [changed for changed in trace.changes if not isinstance(changed, dict)]:
        return f"changes that are no variables with their values: {shown(odd[0])}"
    if names := [name for changed in trace.changes for name in changed if not _is_name(name)]:
        return f"a variable called {shown(names[0])}"
    for value in (*trace.arguments, trace.output, *trace.states):
        if reason := fault(value):
            return f"a value that is {reason}"
    return None


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier()


def _listed(program: Program, values: Any) -> list[Any]:
    """The inputs of a program as a list; they may be any iterable except text and mappings."""
    try:
        if not isinstance(values, str | Mapping):
            return list(values)
    except TypeError:
        pass
    raise not_run(program.name, f"its inputs are {shown(values)}, not a list of inputs")


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


def _with_callees(programs: Sequence[Program], library: Sequence[Program]) -> list[tuple[Program, dict[str, int]]]:
    """The programs, then all that they call, each with the places of its callees in this list."""
    known = {program.name: program for program in (*reversed(library), *reversed(programs))}
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
