"""Users' programs tried: the traces of each, or why it does not run. One that does not leaves the others alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pbb_probe.errors import PbbError
from pbb_probe.programs.calls import Inputs
from pbb_probe.programs.child import TooMuchError
from pbb_probe.programs.given import Own, Refused, call_text, told
from pbb_probe.programs.own import load_programs, refuse
from pbb_probe.programs.program import LINES, Program, Trace, attempt_calls
from pbb_probe.programs.values import not_run

AT_ONCE = 100
"""Programs in one child process."""


def run_programs(
    path: str | Path, comments: bool, lines: int, skip_failing: bool
) -> tuple[list[Own], list[list[Trace]]]:
    """The programs of a file, with the traces of each on its inputs.

    Args:
        path: the file.
        comments: see `own.load_programs`, as `skip_failing`.
        lines: that a call may run at most.
        skip_failing: leave out what does not run, with a warning, and what calls it.

    Raises:
        PbbError: the file cannot be read, or something in it does not run. The message names the first such program.
    """
    own = load_programs(path, comments, skip_failing)
    outcomes = tried(own, lines)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    ran = [(each, traces) for each, traces in zip(own, outcomes, strict=True) if not isinstance(traces, Refused)]
    missing: set[str] = {each.program.name for each in own} - {each.program.name for each, _ in ran}
    while lost := [each for each, _ in ran if missing & set(each.program.calls)]:
        refused += [Refused(each.label, "it calls a program that does not run", id=each.id) for each in lost]
        missing |= {each.program.name for each in lost}
        ran = [(each, traces) for each, traces in ran if each not in lost]
    refuse(refused, path, skip_failing and bool(ran))
    return [each for each, _ in ran], [traces for _, traces in ran]


def tried(own: Sequence[Own], lines: int = LINES) -> list[list[Trace] | Refused]:
    """The traces of each program on its inputs, or why there are none.

    Given outputs are compared with those of the runs. On a terminal a bar shows the progress of many programs.

    Args:
        own: the programs.
        lines: that a call may run at most.
    """
    from tqdm import tqdm

    library = {each.program.name: each.program for each in own}
    outcomes: list[list[Trace] | Refused] = []
    with tqdm(total=len(own), desc="programs", unit="program", delay=2) as progress:
        for start in range(0, len(own), AT_ONCE):
            some = own[start : start + AT_ONCE]
            programs, inputs = [each.program for each in some], [each.inputs for each in some]
            runs = _runs(programs, inputs, _callees(programs, library), lines)
            outcomes += map(_outcome, some, runs)
            progress.update(len(some))
    return outcomes


def _runs(
    programs: Sequence[Program], inputs: Inputs, library: Sequence[Program], lines: int
) -> list[list[Trace | PbbError]]:
    """As `attempt_calls`, halving programs whose traces are too long to keep together."""
    try:
        return attempt_calls(programs, inputs, library, lines)
    except TooMuchError as error:
        if len(programs) == 1:
            return [[error] * len(inputs[0])]
    half = len(programs) // 2
    first, second = (programs[:half], inputs[:half]), (programs[half:], inputs[half:])
    return [*_runs(*first, library, lines), *_runs(*second, library, lines)]


def _callees(programs: Sequence[Program], library: Mapping[str, Program]) -> list[Program]:
    """The programs that these call, and those that they call in turn."""
    needed = dict.fromkeys(name for program in programs for name in program.calls)
    pending = list(needed)
    while pending:
        more = [name for name in library[pending.pop()].calls if name not in needed]
        needed |= dict.fromkeys(more)
        pending += more
    return [library[name] for name in needed]


def _outcome(own: Own, runs: Sequence[Trace | PbbError]) -> list[Trace] | Refused:
    """The runs, unless one has failed or its output is another than the one given."""
    traces: list[Trace] = []
    for arguments, given, run in zip(own.inputs, own.outputs, runs, strict=True):
        if isinstance(run, PbbError):
            return Refused(own.label, str(run).removeprefix(str(not_run(own.program.name, ""))), id=own.id)
        if given is not None and told(run.output) != given:
            call = f"{own.program.name}({call_text(arguments)})"
            reason = f"{call:.200} is {told(run.output):.200}, not {given:.200}"
            return Refused(own.label, f"its output is another than the one given: {reason}", id=own.id)
        traces.append(run)
    return traces
