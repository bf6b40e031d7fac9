"""A program, and the trace of one execution of it: its source is really run, in a confined child process."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pbb_probe.errors import PbbError

_EXECUTOR = Path(__file__).with_name("_executor.py")


@dataclass(frozen=True)
class Program:
    """One named function: the source is Python text that defines a function called `name` of one argument."""

    name: str
    family: str
    source: str
    facts: Mapping[str, str | int] = field(default_factory=dict)
    """What holds on every input and can be probed for, such as `steps`, `op_1`, `constant_1`."""


@dataclass(frozen=True)
class Trace:
    """One execution: `states` are the values assigned on the way, in order, without the output itself."""

    input: int
    states: tuple[int, ...]
    lines: tuple[int, ...]
    """Line numbers in the order they ran, the first line of the source being 1."""
    output: int

    def variables(self) -> dict[str, int]:
        """The trace as named variables: input, state_1, state_2, ..., output."""
        states = {f"state_{k}": state for k, state in enumerate(self.states, start=1)}
        return {"input": self.input, **states, "output": self.output}


def trace_programs(
    programs: Sequence[Program], inputs: Sequence[Sequence[int]], seconds: int = 60
) -> list[list[Trace]]:
    """Run every program on each of its own inputs.

    Args:
        programs: what to run.
        inputs: for each program, the inputs to run it on.
        seconds: CPU time all of them may take together.

    Returns:
        A list per program with a `Trace` per input.

    Raises:
        PbbError: a program failed, ran out of time or memory, or used something that is not there for it, such as a
            file or an import. The message names the program.
    """
    job = [
        {"name": program.name, "source": program.source, "inputs": list(values)}
        for program, values in zip(programs, inputs, strict=True)
    ]
    child = subprocess.run(
        [sys.executable, "-I", str(_EXECUTOR), str(seconds)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env={},
    )
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines()[-1:] or [f"the child process ended with {child.returncode}"]
        raise PbbError(f"A program could not be run: {reason[0]}")
    return [
        [
            Trace(input=value, states=tuple(run["states"]), lines=tuple(run["lines"]), output=run["output"])
            for value, run in zip(values, runs, strict=True)
        ]
        for values, runs in zip(inputs, json.loads(child.stdout), strict=True)
    ]
