"""A program, and the trace of one execution: its source is really run, in a confined child process."""

from collections.abc import Sequence

from pbb_probe.errors import PbbError
from pbb_probe.programs._tracing import LINES as LINES
from pbb_probe.programs.calls import Inputs, attempt_all, run_all
from pbb_probe.programs.calls import checked_arguments as checked_arguments
from pbb_probe.programs.definition import GROUPS as GROUPS
from pbb_probe.programs.definition import Group as Group
from pbb_probe.programs.definition import Program as Program
from pbb_probe.programs.definition import count_steps as count_steps
from pbb_probe.programs.trace import Trace as Trace
from pbb_probe.programs.trace import label as label
from pbb_probe.programs.trace import trace_fault as trace_fault
from pbb_probe.programs.values import Value as Value
from pbb_probe.programs.values import read_value
from pbb_probe.schema import shown

LONGEST_TIME = 86_400  # seconds
SECONDS = 60
MOST_LINES = 1_000_000


def call_arguments(name: str, call: str) -> tuple[Value, ...]:
    """The arguments in the text of a call, as in `Trace.call_text`: `3, [1, 2]`, or nothing.

    Raises:
        PbbError: they are not written out as Python values.
    """
    try:
        if not isinstance(call, str):
            raise ValueError("no text")
        arguments = read_value(f"[{call}]")
        if not isinstance(arguments, list):
            raise ValueError("several lists")
    except ValueError as error:
        text = " ".join(str(call).split())
        raise PbbError(f"The call {name}({text:.200}) cannot be read: its arguments must be Python values.") from error
    return checked_arguments(name, tuple(arguments))


def trace_programs(
    programs: Sequence[Program],
    inputs: Inputs,
    seconds: int = SECONDS,
    library: Sequence[Program] = (),
    lines: int = LINES,
) -> list[list[Trace]]:
    """Run every program on each of its own inputs.

    Args:
        programs: what to run.
        inputs: for each program, the inputs to run it on: a tuple of arguments each, or the one argument itself.
        seconds: CPU time for all of them together; a single program has 5 s at most. By the clock they may take ten
            times as long and ten seconds more.
        library: further programs that can be called.
        lines: that a call may run at most.

    Returns:
        A list per program with a `Trace` per input.

    Raises:
        PbbError: a program contains something that is not allowed, calls a program that is not there, fails, or runs
            out of time or memory, or the traces of all are too long to keep. The message names the program.
    """
    _check(programs, inputs, seconds, lines)
    return run_all(programs, inputs, library, seconds, lines)


def try_programs(
    programs: Sequence[Program], inputs: Inputs, library: Sequence[Program] = (), lines: int = LINES
) -> list[list[Trace] | None]:
    """As `trace_programs`, with None for a program that cannot be run on its inputs.

    Raises:
        PbbError: the traces of all programs are too long to keep, or there are not as many inputs as programs.
    """
    return [
        None if None in traces else [trace for trace in traces if trace is not None]
        for traces in try_calls(programs, inputs, library, lines)
    ]


def try_calls(
    programs: Sequence[Program], inputs: Inputs, library: Sequence[Program] = (), lines: int = LINES
) -> list[list[Trace | None]]:
    """As `trace_programs`, with None for each call that fails.

    Raises:
        PbbError: the traces of all programs are too long to keep, or there are not as many inputs as programs.
    """
    attempted = attempt_calls(programs, inputs, library, lines)
    return [[None if isinstance(trace, PbbError) else trace for trace in traces] for traces in attempted]


def attempt_calls(
    programs: Sequence[Program], inputs: Inputs, library: Sequence[Program] = (), lines: int = LINES
) -> list[list[Trace | PbbError]]:
    """As `trace_programs`, with the error, which says why, for each call that fails.

    Raises:
        PbbError: the traces of all programs are too long to keep, or there are not as many inputs as programs.

    Example:
        >>> half = Program("half", "own", "def half(x):\\n    return 1 / x")
        >>> ((trace, error),) = attempt_calls([half], [[4, 0]])
        >>> trace.output, str(error)
        (0.25, 'A program could not be run: half: ZeroDivisionError: division by zero')
    """
    _check(programs, inputs, SECONDS, lines)
    return attempt_all(programs, inputs, library, SECONDS, lines)


def try_outputs(
    programs: Sequence[Program], inputs: Inputs, library: Sequence[Program] = (), lines: int = LINES
) -> list[list[Value | None]]:
    """As `try_calls`, with the output alone of each call, which is far faster; None, too, for one that is None.

    Raises:
        PbbError: the outputs of all programs are too long to keep, or there are not as many inputs as programs.
    """
    _check(programs, inputs, SECONDS, lines)
    attempted = attempt_all(programs, inputs, library, SECONDS, lines, outputs=True)
    return [[None if isinstance(value, PbbError) else value for value in values] for values in attempted]


def _check(programs: Sequence[Program], inputs: Sequence[object], seconds: int, lines: int) -> None:
    if len(programs) != len(inputs):
        raise PbbError(f"There are {len(programs)} programs and inputs for {len(inputs)}: give each program its own.")
    for what, given, most in (
        ("The seconds of CPU time", seconds, LONGEST_TIME),
        ("The lines that a call may run", lines, MOST_LINES),
    ):
        if type(given) is not int or not 1 <= given <= most:
            raise PbbError(f"{what} must be a whole number from 1 to {most}, not {shown(given)}.")
