"""What a swap between two executions predicts: the answer under each hypothesis of what was carried over.

Base run: program A on x. Source run: program B on x'. An activation of the source run is put into the base run. If it
carries
    nothing         the answer is A(x)
    everything      B(x')
    program         B(x)
    input           A(x')
    state_k         the rest of A after step k, started from B's state k on x'
    steps_to_k      the rest of A after step k, started from B's state k on x
    steps_after_k   the rest of B after step k, started from A's state k on x
Nothing is derived on paper: programs, and programs cut in two, are run.
"""

import ast
import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Trace, call_arguments, label, try_programs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

WHOLE = ("nothing", "everything", "program", "input")
"""The hypotheses that every pair has."""
STEPS = ("state", "steps_to", "steps_after")
"""Those that it has for each step after which both programs can be cut."""

Text: TypeAlias = tuple[str, str]
"""A program's name and its source."""
Run: TypeAlias = tuple[Text, str]
"""A program and its arguments as they stand in a call."""


def hypotheses(base: "pd.DataFrame", source: "pd.DataFrame", library: Sequence[Program] = ()) -> "pd.DataFrame":
    """The answer that each hypothesis predicts for each pair.

    Args:
        base: a row a run that is patched, with the columns program, source (the program's text) and call of
            `Corpus.calls`.
        source: the same for the runs that activations are taken from, in the same order.
        library: the programs that those in `base` and `source` call.

    Returns:
        A row a pair and a column a hypothesis, in the order above, with answers as `programs.program.label` makes them.
        None where there is no such hypothesis: A(x') or B(x) cannot be run, or for step k, the two programs do not both
        have k among their `cuts` and as many steps.

    Raises:
        PbbError: rows that do not match, columns that are missing, or a call that cannot be run.
    """
    import pandas as pd

    if len(base) != len(source):
        raise PbbError(f"There are {len(base)} base and {len(source)} source runs: give each base run one source run.")
    pairs = list(zip(_runs(base, "base"), _runs(source, "source"), strict=True))
    whole = {
        "nothing": [own for own, _ in pairs],
        "everything": [other for _, other in pairs],
        "program": [(b, x) for (_, x), (b, _) in pairs],
        "input": [(a, y) for (a, _), (_, y) in pairs],
    }
    traces = _traced([run for runs in whole.values() for run in runs], library)
    for run in (*whole["nothing"], *whole["everything"]):
        if run not in traces:
            (name, _), call = run
            raise PbbError(f"{name}({call}) cannot be run: give the programs that it calls as `library`.")
    parts: dict[str, list[Run | None]] = {}
    last = max((k for (a, _), (b, _) in pairs for k in _shared_cuts(a, b)), default=0)
    for k in range(1, last + 1):
        spliced = [_spliced(own, other, k, traces) for own, other in pairs]
        parts |= {f"{name}_{k}": [runs[i] for runs in spliced] for i, name in enumerate(STEPS)}
    traces |= _traced([run for runs in parts.values() for run in runs if run is not None], library)
    answers = {run: label(trace.output) for run, trace in traces.items()}
    columns: dict[str, Sequence[Run | None]] = {**whole, **parts}
    predicted = {name: [run and answers.get(run) for run in runs] for name, runs in columns.items()}
    return pd.DataFrame(predicted, dtype=object)


def told_apart(predicted: "pd.DataFrame") -> "np.ndarray":
    """Do all hypotheses that a pair has predict different answers? [pair]"""
    import numpy as np

    texts = predicted.where(predicted.isna(), predicted.astype(str))
    rows = [[answer for answer in row if isinstance(answer, str)] for row in texts.to_numpy()]
    return np.array([len(set(row)) == len(row) for row in rows], dtype=bool)


@functools.cache
def cuts(source: str) -> tuple[int, ...]:
    """The steps of a straight-line program after which nothing is used but the value they assigned.

    A program is straight-line if each of its statements assigns to one name, on a line of its own, and the last one
    returns. Other programs have no cuts.

    Raises:
        PbbError: the source is not that of one function.
    """
    function = _function(source)
    *steps, last = function.body
    names = [_assigned(step) for step in steps]
    if None in names or not isinstance(last, ast.Return) or len({step.lineno for step in function.body}) <= len(steps):
        return ()
    arguments = [argument.arg for argument in function.args.args]
    return tuple(
        k
        for k in range(1, len(steps) + 1)
        if not _used(function.body[k:]) & {*arguments, *names[: k - 1]} - {names[k - 1]}
    )


@functools.cache
def _function(source: str) -> ast.FunctionDef:
    try:
        (function,) = ast.parse(source).body
    except (SyntaxError, ValueError):
        function = None
    if not isinstance(function, ast.FunctionDef):
        raise PbbError(f"A program's source must be one Python function; this one is not: {source[:60]!r}.")
    return function


def _shared_cuts(one: Text, other: Text) -> tuple[int, ...]:
    """The cuts that two programs of as many statements have both, else none."""
    (_, a), (_, b) = one, other
    if len(_function(a).body) != len(_function(b).body):
        return ()
    return tuple(k for k in cuts(a) if k in cuts(b))


def _assigned(statement: ast.stmt) -> str | None:
    """The one name that a statement assigns to."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AugAssign(target=ast.Name(id=name)):
            return name
    return None


def _used(statements: Sequence[ast.stmt]) -> set[str]:
    """The names whose values from before these statements are read in them."""
    bound: set[str | None] = set()
    used: set[str] = set()
    for statement in statements:
        names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
        used |= {name.id for name in names if isinstance(name.ctx, ast.Load)} - bound
        if isinstance(statement, ast.AugAssign):  # reads what it assigns to
            used |= {name.id for name in names} - bound
        bound.add(_assigned(statement))
    return used


def _spliced(own: Run, other: Run, k: int, traces: dict[Run, Trace]) -> list[Run | None]:
    """The runs that stand for `STEPS` at step k: the rest of one program, started from a state of the other."""
    (a, x), (b, _) = own, other
    if k not in _shared_cuts(a, b):
        return [None] * len(STEPS)
    starts = ((a, _state(other, k, traces)), (a, _state((b, x), k, traces)), (b, _state(own, k, traces)))
    return [None if state is None else (_rest(program, k), state) for program, state in starts]


def _state(run: Run, k: int, traces: dict[Run, Trace]) -> str | None:
    """What step k assigned, as text; None where the run failed or documents have no words for the value."""
    if run not in traces:
        return None
    (_, source), _ = run
    changes, name = traces[run].changes[k - 1], _assigned(_function(source).body[k - 1])
    return repr(changes[name]) if name in changes else None


@functools.cache
def _rest(program: Text, k: int) -> Text:
    """The program that takes what step k assigned and does the rest."""
    name, source = program
    body = _function(source).body
    lines = [f"def {name}_after_{k}({_assigned(body[k - 1])}):", *(f"    {ast.unparse(step)}" for step in body[k:])]
    return f"{name}_after_{k}", "\n".join(lines)


def _runs(labels: "pd.DataFrame", kind: str) -> list[Run]:
    if missing := {"program", "source", "call"} - set(labels):
        raise PbbError(f"The labels of the {kind} runs lack {min(missing)!r}: give them the columns of Corpus.calls.")
    return [
        ((name, source), str(call))
        for name, source, call in zip(labels["program"], labels["source"], labels["call"], strict=True)
    ]


def _traced(runs: Iterable[Run], library: Sequence[Program]) -> dict[Run, Trace]:
    """Each run once; those that fail are left out."""
    calls: dict[Text, dict[str, tuple]] = defaultdict(dict)
    for program, call in runs:
        if call not in calls[program]:
            calls[program][call] = call_arguments(program[0], call)
    callable_names = {program.name for program in library}
    programs = {text: _program(*text, callable_names) for text in calls}
    done = try_programs(list(programs.values()), [list(inputs.values()) for inputs in calls.values()], library)
    traces: dict[Run, Trace] = {}
    failed: list[Run] = []
    for (text, inputs), found in zip(calls.items(), done, strict=True):
        if found is None:
            failed += [(text, call) for call in inputs]
        else:
            traces |= {(text, call): trace for call, trace in zip(inputs, found, strict=True)}
    # a program that failed on one of its inputs is run on each alone
    inputs_alone = [[calls[text][call]] for text, call in failed]
    again = try_programs([programs[text] for text, _ in failed], inputs_alone, library)
    return traces | {run: found[0] for run, found in zip(failed, again, strict=True) if found is not None}


def _program(name: str, source: str, callable_names: set[str]) -> Program:
    read = {node.id for node in ast.walk(_function(source)) if isinstance(node, ast.Name)}
    return Program(name, "", source, calls=tuple(sorted(read & callable_names - {name})))
