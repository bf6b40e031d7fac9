"""Composition: programs that call one or two others of the corpus, such as `y = dolvik(x)`, `return zamtor(y)`."""

import random
from collections.abc import Callable, Sequence

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Trace, try_programs

TRIES = 40  # a composed program
Usable = Callable[[Program, list[Trace]], object]
ONE_CALLEE = 0.2  # share of the programs that call the same one twice


def composed_programs(
    names: Sequence[str],
    programs: Sequence[Program],
    traces: Sequence[Sequence[Trace]],
    rng: random.Random,
    usable: Usable = lambda program, traces: True,
) -> list[tuple[Program, list[Trace]]]:
    """A program a name that puts what one program returns into another.

    Args:
        names: of the new programs.
        programs: what they may call, of one argument.
        traces: of those programs; the new ones are run on the inputs of the first that they call.
        rng: draws the callees.
        usable: whether a program with these traces will do; another is drawn for it if not.

    Returns:
        Each new program with its traces. Its facts are steps (2), callee_1 and callee_2.

    Raises:
        PbbError: too few of the programs fit behind one another.
    """
    if not names:
        return []
    inputs = {
        program.name: [trace.arguments for trace in runs]
        for program, runs in zip(programs, traces, strict=True)
        if all(len(trace.arguments) == 1 for trace in runs)
    }
    callable_names = list(inputs)
    kinds = {
        program.name: ({type(trace.arguments[0]) for trace in runs}, {type(trace.output) for trace in runs})
        for program, runs in zip(programs, traces, strict=True)
        if program.name in inputs
    }
    made: list[tuple[Program, list[Trace]]] = []
    for _ in range(TRIES):
        drawn = []
        for name in sorted(set(names) - {program.name for program, _ in made}, key=names.index):
            for _ in range(TRIES if callable_names else 0):
                first = rng.choice(callable_names)
                second = first if rng.random() < ONE_CALLEE else rng.choice(callable_names)
                if kinds[first][1] == kinds[second][0]:
                    drawn.append(_compose(name, first, second))
                    break
        runs = try_programs(drawn, [inputs[program.calls[0]] for program in drawn], library=programs)
        made += [
            (program, run)
            for program, run in zip(drawn, runs, strict=True)
            if run is not None and len({repr(trace.output) for trace in run}) > 1 and usable(program, run)
        ]
        if len(made) == len(names):
            return made
    raise PbbError(f"Only {len(made)} of {len(names)} composed programs could be made: few programs fit one another.")


def _compose(name: str, first: str, second: str) -> Program:
    source = f"def {name}(x):\n    y = {first}(x)\n    return {second}(y)"
    facts: dict[str, str | int] = {"steps": 2, "callee_1": first, "callee_2": second}
    return Program(name, "composed", source, facts, tuple(dict.fromkeys((first, second))))
