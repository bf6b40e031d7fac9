"""Candidates: the programs that a model may compute in place of each program of a corpus, with their outputs.

Of straight-line arithmetic every program of one and two steps is enumerated, with all that is left of the program
itself when steps are left out or taken in another order. Of other programs simpler ones and mutants of the syntax tree
are run. The programs of the other names stand beside them. Programs with equal outputs are one candidate, a class.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pbb_probe.programs.arithmetic import VALUES
from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.entry import Entry
from pbb_probe.programs.enumerated import Steps, near, read_steps, written
from pbb_probe.programs.meaning import nameless
from pbb_probe.programs.mutants import DIFFERENCES, Difference, mutants
from pbb_probe.programs.own import renamed
from pbb_probe.programs.program import Program, Trace, Value, label, try_outputs
from pbb_probe.programs.simpler import simpler_programs
from pbb_probe.programs.syntax import function_of

if TYPE_CHECKING:
    import numpy as np

OTHERS = 20
"""Other programs that are run on the inputs of one whose inputs they do not share."""
FEW = 32
"""Outputs of a corpus up to which each is a possible answer to every call."""
AT_ONCE = 500
"""Candidates run in one child process, whose time is limited."""

Inputs = tuple[tuple[Value, ...], ...]
Outputs = tuple[str | None, ...]
"""On each input, as text; None where the program fails."""
Member = tuple[Difference, Program, Outputs]
"""What differs, the program, under whatever name, and what it gives."""


@dataclass(frozen=True)
class Candidates:
    """What may be computed in place of one program: classes of programs with equal outputs, its own the first."""

    answers: Sequence[Sequence[str]]
    """The possible answers to each of its calls [input][answer]."""
    tables: "np.ndarray"
    """What each class answers, as places in `answers` [class, input]; -1 where it fails."""
    differences: "np.ndarray"
    """What differs in the nearest member of each class, as places in `DIFFERENCES` [class]."""
    text: Callable[[int], str]
    """Gives the source of the nearest member of a class, under the name of the program."""


def candidates(corpus: Corpus, entries: Sequence[Entry]) -> list[Candidates]:
    """The candidates for each of some entries of a corpus.

    Straight-line arithmetic programs have all that `enumerated.near` gives; others their `simpler_programs`, their
    `mutants` and, where they have one argument, the identity. Besides, there are the corpus's other programs: all that
    have the same inputs, or else up to `OTHERS` of the same family that are run on them.

    Raises:
        PbbError: the outputs of all candidates are too long to keep.
    """
    on_inputs: dict[str, list[Entry]] = defaultdict(list)
    alike: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in corpus.entries:
        on_inputs[repr(_inputs(entry))].append(entry)
        alike[entry.program.family, _arity(entry.program)].append(entry)
    known = {inputs: _distinct(sharing) for inputs, sharing in on_inputs.items()}
    steps = [_enumerable(entry) for entry in entries]
    run: list[list[tuple[Difference, Program]]] = []
    for entry, enumerated in zip(entries, steps, strict=True):
        run.append([] if enumerated else _changed(entry.program))
        if not enumerated and len(on_inputs[repr(_inputs(entry))]) == 1:
            rng = random.Random(f"candidates {entry.program.name}")
            family = [other for other in alike[entry.program.family, _arity(entry.program)] if other is not entry]
            run[-1] += [("another program", other.program) for other in rng.sample(family, min(OTHERS, len(family)))]
    library = [entry.program for entry in corpus.entries]
    outputs = iter(
        _outputs([(p, _inputs(e)) for e, programs in zip(entries, run, strict=True) for _, p in programs], library)
    )
    few = corpus.outputs if len(corpus.outputs) <= FEW else []
    made = []
    for entry, enumerated, programs in zip(entries, steps, run, strict=True):
        others = [member for member in known[repr(_inputs(entry))] if member[1].name != entry.program.name]
        if enumerated:
            made.append(_of_enumerated(entry, enumerated, others))
        else:
            members = [*((what, program, next(outputs)) for what, program in programs), *others]
            made.append(_of_members(entry, members, few))
    return made


def _changed(program: Program) -> list[tuple[Difference, Program]]:
    """The simpler programs and the mutants of a program, under its name, and the identity."""
    simpler: list[tuple[Difference, str]] = [
        ("the order" if "order" in words or " before " in words else "a step left out", text)
        for words, text in simpler_programs(program.source).items()
    ]
    arguments = [argument.arg for argument in function_of(program.source).args.args]
    if len(arguments) == 1:
        identity = f"def {program.name}({arguments[0]}):\n    return {arguments[0]}"
        simpler.append(("a step left out", identity))
    return [(what, replace(program, source=text)) for what, text in (*simpler, *mutants(program.source))]


def _of_members(entry: Entry, members: Iterable[Member], few: Sequence[str]) -> Candidates:
    """The classes of programs that were run, and the possible answers: theirs, and all that the program ever gives."""
    import numpy as np

    own = _given(entry.traces)
    nearest: dict[Outputs, tuple[int, Program]] = {own: (0, entry.program)}
    for what, program, outputs in members:
        place = DIFFERENCES.index(what)
        if any(output is not None for output in outputs) and nearest.get(outputs, (place + 1,))[0] > place:
            nearest[outputs] = (place, program)
    answers = [
        list(dict.fromkeys(output for output in (*column, *own, *few) if output is not None))
        for column in zip(*nearest, strict=True)
    ]
    places = [{answer: k for k, answer in enumerate(possible)} for possible in answers]
    tables = [[place.get(output or "", -1) for place, output in zip(places, row, strict=True)] for row in nearest]
    differences = np.array([place for place, _ in nearest.values()])
    programs = [program for _, program in nearest.values()]
    return Candidates(answers, np.array(tables), differences, lambda k: _renamed(programs[k], entry.program.name))


def _of_enumerated(entry: Entry, steps: Steps, others: Iterable[Member]) -> Candidates:
    """The classes of arithmetic programs; the possible answers are the single digits."""
    import numpy as np

    inputs = [int(str(trace.arguments[0])) for trace in entry.traces]
    sequences, tables, differences = near(steps)
    tables = tables[:, inputs]
    tables[0] = [trace.output for trace in entry.traces]
    digits = [str(value) for value in VALUES]
    known = [(program, outputs) for _, program, outputs in others if set(outputs) <= set(digits)]
    if known:
        rows = np.array([[digits.index(output or "") for output in outputs] for _, outputs in known])
        tables = np.concatenate([tables, rows])
        differences = np.append(differences, [DIFFERENCES.index("another program")] * len(known))
    order = np.argsort(differences, kind="stable")
    codes = tables @ len(VALUES) ** np.arange(len(inputs))
    first = order[np.unique(codes[order], return_index=True)[1]]  # the nearest of each class
    first = first[np.lexsort((first, differences[first]))]

    def text(k: int) -> str:
        if first[k] == 0:
            return entry.program.source
        if first[k] < len(sequences):
            return written(entry.program.name, sequences[first[k]])
        return _renamed(known[first[k] - len(sequences)][0], entry.program.name)

    return Candidates([digits] * len(inputs), tables[first], differences[first], text)


def _enumerable(entry: Entry) -> Steps | None:
    """The steps of a straight-line arithmetic program on single digits."""
    values = [value for trace in entry.traces for value in (*trace.arguments, trace.output)]
    digits = all(type(value) is int and value in VALUES for value in values) and _arity(entry.program) == 1
    return read_steps(entry.program.source) if digits and len(entry.traces) <= len(VALUES) else None


def _outputs(calls: Sequence[tuple[Program, Inputs]], library: Sequence[Program]) -> list[Outputs]:
    """What each program gives on its inputs. Those that differ in nothing but their names are run once."""
    jobs: dict[tuple[str, str], tuple[Program, Inputs]] = {}
    keys = []
    for program, inputs in calls:
        keys.append((nameless(program).source, repr(inputs)))
        jobs.setdefault(keys[-1], (program, inputs))
    # many mutants of a `while` never end, which takes longest to find out: these are not run on all inputs
    endless = [key for key in jobs if "while " in key[0]]
    first = _run([(jobs[key][0], jobs[key][1][:1]) for key in endless], library)
    fails = {key for key, outputs in zip(endless, first, strict=True) if outputs == (None,)}
    works = [key for key in jobs if key not in fails]
    given = dict(zip(works, _run([jobs[key] for key in works], library), strict=True))
    return [given.get(key, (None,) * len(jobs[key][1])) for key in keys]


def _run(jobs: Sequence[tuple[Program, Inputs]], library: Sequence[Program]) -> list[Outputs]:
    outputs: list[Outputs] = []
    for start in range(0, len(jobs), AT_ONCE):
        some = jobs[start : start + AT_ONCE]
        runs = try_outputs([program for program, _ in some], [inputs for _, inputs in some], library)
        outputs += [tuple(None if value is None else str(label(value)) for value in run) for run in runs]
    return outputs


def _distinct(sharing: Sequence[Entry]) -> list[Member]:
    """The programs with the same inputs, two of each class, so that each of them has another one if there is one."""
    of_class: dict[Outputs, list[Program]] = defaultdict(list)
    for entry in sharing:
        if len(programs := of_class[_given(entry.traces)]) < 2:
            programs.append(entry.program)
    return [("another program", program, given) for given, programs in of_class.items() for program in programs]


def _given(traces: Iterable[Trace]) -> Outputs:
    return tuple(str(label(trace.output)) for trace in traces)


def _inputs(entry: Entry) -> Inputs:
    return tuple(trace.arguments for trace in entry.traces)


def _arity(program: Program) -> int:
    return len(function_of(program.source).args.args)


def _renamed(program: Program, name: str) -> str:
    if program.name == name:
        return program.source
    return renamed(program, {callee: callee for callee in program.calls} | {program.name: name}).source
