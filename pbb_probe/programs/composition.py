"""Composition: programs that call one or two others of the corpus, such as `y = dolvik(x)`, `return zamtor(y)`."""

import functools
import random
from collections.abc import Callable, Mapping, Sequence

from pbb_probe.errors import PbbError
from pbb_probe.programs.entry import Entry
from pbb_probe.programs.program import Program, Trace, try_programs

TRIES = 40  # a composed program
Usable = Callable[[Program, list[Trace]], object]
"""Will a program with these traces do?"""
ONE_CALLEE = 0.2  # share of the programs that call the same program twice


def composed_entries(
    without_io: Sequence[str], with_io: Sequence[str], entries: Sequence[Entry], shown_inputs: int, rng: random.Random
) -> list[Entry]:
    """Entries of programs that call those of other entries.

    The examples of a program show how those that it calls behave: so a program with examples calls only programs with
    examples, and shows no call in which one of them gives a held-out answer.

    Args:
        without_io: names of the programs without examples.
        with_io: names of those with examples.
        entries: what they may call.
        shown_inputs: how many inputs are shown in the examples of a program, if it has as many.
        rng: draws the callees and the shown inputs.

    Raises:
        PbbError: too few of the programs fit one another.
    """
    made = [Entry(program, "without_io", tuple(traces), ()) for program, traces in _compose(without_io, entries, rng)]
    examples = {entry.program.name: entry for entry in entries if entry.group == "with_io"}
    for program, traces in _compose(with_io, list(examples.values()), rng, functools.partial(_showable, examples)):
        places = _showable(examples, program, traces)
        shown = sorted(rng.sample(places, min(shown_inputs, len(places))))
        made.append(Entry(program, "with_io", tuple(traces), tuple(shown)))
    return made


def _showable(callees: Mapping[str, Entry], program: Program, traces: Sequence[Trace]) -> list[int]:
    """The places of those traces of a composed program that show no held-out answer of the two that it calls."""
    first, second = (callees[str(program.facts[fact])] for fact in ("callee_1", "callee_2"))
    held_out = [
        [trace.arguments for place, trace in enumerate(entry.traces) if place not in entry.shown]
        for entry in (first, second)
    ]
    return [
        place
        for place, trace in enumerate(traces)
        if trace.arguments not in held_out[0] and (trace.states[0],) not in held_out[1]
    ]


def _compose(
    names: Sequence[str],
    entries: Sequence[Entry],
    rng: random.Random,
    usable: Usable = lambda program, traces: True,
) -> list[tuple[Program, list[Trace]]]:
    """For each name a program that puts the output of one program into another, with its traces.

    It is run on the inputs of the program that it calls first. Its facts are steps (2), callee_1 and callee_2.
    """
    if not names:
        return []
    inputs = {
        entry.program.name: [trace.arguments for trace in entry.traces]
        for entry in entries
        if all(len(trace.arguments) == 1 for trace in entry.traces)
    }
    callable_names = list(inputs)
    kinds = {
        entry.program.name: (
            {type(trace.arguments[0]) for trace in entry.traces},
            {type(trace.output) for trace in entry.traces},
        )
        for entry in entries
        if entry.program.name in inputs
    }
    made: list[tuple[Program, list[Trace]]] = []
    for _ in range(TRIES):
        drawn = []
        for name in sorted(set(names) - {program.name for program, _ in made}, key=names.index):
            for _ in range(TRIES if callable_names else 0):
                first = rng.choice(callable_names)
                second = first if rng.random() < ONE_CALLEE else rng.choice(callable_names)
                if kinds[first][1] == kinds[second][0]:
                    drawn.append(_composed(name, first, second))
                    break
        runs = try_programs(
            drawn, [inputs[program.calls[0]] for program in drawn], library=[entry.program for entry in entries]
        )
        made += [
            (program, run)
            for program, run in zip(drawn, runs, strict=True)
            if run is not None and len({repr(trace.output) for trace in run}) > 1 and usable(program, run)
        ]
        if len(made) == len(names):
            return made
    raise PbbError(f"Only {len(made)} of {len(names)} composed programs could be made: few programs fit one another.")


def _composed(name: str, first: str, second: str) -> Program:
    source = f"def {name}(x):\n    y = {first}(x)\n    return {second}(y)"
    facts: dict[str, str | int] = {"steps": 2, "callee_1": first, "callee_2": second}
    return Program(name, "composed", source, facts, tuple(dict.fromkeys((first, second))))
