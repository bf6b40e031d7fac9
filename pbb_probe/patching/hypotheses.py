"""What a swap between two executions predicts: the answer under each hypothesis of what was carried over.

Base prompt: program A on x. Donor prompt: program B on x'. An activation of the donor is put into the forward of the
base. If it carries
    nothing         the answer is A(x)
    everything      B(x')
    program         B(x)
    input           A(x')
    state_k         the rest of A after step k, started from B's state k on x'
    steps_to_k      the rest of A after step k, started from B's state k on x
    steps_after_k   the rest of B after step k, started from A's state k on x
Nothing is derived on paper: the programs are run, whole and cut in two.
"""

import ast
import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Trace, Value, call_arguments, label, try_programs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

WHOLE = ("nothing", "everything", "program", "input")
"""The hypotheses that every pair has."""
STEPS = ("state", "steps_to", "steps_after")
"""Those that it has for each step after which both programs can be cut."""

Definition: TypeAlias = tuple[str, str]
"""A program's name and its source."""
Call: TypeAlias = tuple[Definition, str]
"""A program and its arguments as they stand in a call."""


def hypotheses(base: "pd.DataFrame", donor: "pd.DataFrame", library: Sequence[Program] = ()) -> "pd.DataFrame":
    """The answer that each hypothesis predicts for each pair.

    Args:
        base: a row a prompt that is patched, with the columns program, source (the program's text) and call of
            `Corpus.calls`.
        donor: the same for the prompts that activations are taken from, in the same order.
        library: the programs that those in `base` and `donor` call.

    Returns:
        A row a pair and a column a hypothesis, in the order above, with answers as `programs.program.label` makes them.
        None where there is no such hypothesis: A(x') or B(x) cannot be run, or for step k, the two programs do not both
        have k among their `cuts` and as many steps.

    Raises:
        PbbError: rows that do not match, columns that are missing, or a call that cannot be run.

    Example:
        >>> import pandas as pd
        >>> columns = ["program", "source", "call"]
        >>> base = pd.DataFrame([("f", "def f(x): return x + 1", "1")], columns=columns)
        >>> donor = pd.DataFrame([("g", "def g(x): return x * 3", "2")], columns=columns)
        >>> hypotheses(base, donor).iloc[0].to_dict()
        {'nothing': 2, 'everything': 6, 'program': 3, 'input': 3}
    """
    import pandas as pd

    if len(base) != len(donor):
        raise PbbError(f"There are {len(base)} base and {len(donor)} donor prompts: give each base one donor.")
    pairs = list(zip(_calls(base, "base"), _calls(donor, "donor"), strict=True))
    whole = {
        "nothing": [of_base for of_base, _ in pairs],
        "everything": [of_donor for _, of_donor in pairs],
        "program": [(b, x) for (_, x), (b, _) in pairs],
        "input": [(a, y) for (a, _), (_, y) in pairs],
    }
    traces = _traced([call for calls in whole.values() for call in calls], library)
    for call in (*whole["nothing"], *whole["everything"]):
        if call not in traces:
            (name, _), arguments = call
            raise PbbError(f"{name}({arguments}) cannot be run: give the programs that it calls as `library`.")
    parts: dict[str, list[Call | None]] = {}
    last = max((k for (a, _), (b, _) in pairs for k in _shared_cuts(a, b)), default=0)
    for k in range(1, last + 1):
        spliced = [_spliced(of_base, of_donor, k, traces) for of_base, of_donor in pairs]
        parts |= {f"{name}_{k}": [calls[i] for calls in spliced] for i, name in enumerate(STEPS)}
    traces |= _traced([call for calls in parts.values() for call in calls if call is not None], library)
    answers = {call: label(trace.output) for call, trace in traces.items()}
    columns: dict[str, Sequence[Call | None]] = {**whole, **parts}
    predicted = {name: [call and answers.get(call) for call in calls] for name, calls in columns.items()}
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


def _shared_cuts(first: Definition, second: Definition) -> tuple[int, ...]:
    """The cuts that two programs of equally many statements share; none where they have different numbers."""
    (_, a), (_, b) = first, second
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


def _spliced(base: Call, donor: Call, k: int, traces: dict[Call, Trace]) -> list[Call | None]:
    """The calls that stand for `STEPS` at step k: the rest of one program, started from a state of the other."""
    (a, x), (b, _) = base, donor
    if k not in _shared_cuts(a, b):
        return [None] * len(STEPS)
    starts = ((a, _state(donor, k, traces)), (a, _state((b, x), k, traces)), (b, _state(base, k, traces)))
    return [None if state is None else (_rest(program, k), state) for program, state in starts]


def _state(call: Call, k: int, traces: dict[Call, Trace]) -> str | None:
    """What step k assigned, as text; None where the call failed or documents have no words for the value."""
    if call not in traces:
        return None
    (_, source), _ = call
    changes, name = traces[call].changes[k - 1], _assigned(_function(source).body[k - 1])
    return repr(changes[name]) if name in changes else None


@functools.cache
def _rest(program: Definition, k: int) -> Definition:
    """The program that takes what step k assigned and does the rest."""
    name, source = program
    body = _function(source).body
    lines = [f"def {name}_after_{k}({_assigned(body[k - 1])}):", *(f"    {ast.unparse(step)}" for step in body[k:])]
    return f"{name}_after_{k}", "\n".join(lines)


def _calls(labels: "pd.DataFrame", side: str) -> list[Call]:
    if missing := {"program", "source", "call"} - set(labels):
        raise PbbError(f"The labels of the {side} lack {min(missing)!r}: give them the columns of Corpus.calls.")
    return [
        ((name, source), str(call))
        for name, source, call in zip(labels["program"], labels["source"], labels["call"], strict=True)
    ]


def _traced(calls: Iterable[Call], library: Sequence[Program]) -> dict[Call, Trace]:
    """Each call run once; those that fail are left out."""
    inputs: dict[Definition, dict[str, tuple[Value, ...]]] = defaultdict(dict)
    for definition, arguments in calls:
        if arguments not in inputs[definition]:
            inputs[definition][arguments] = call_arguments(definition[0], arguments)
    callable_names = {program.name for program in library}
    programs = {definition: _program(*definition, callable_names) for definition in inputs}
    by_program = try_programs(list(programs.values()), [list(given.values()) for given in inputs.values()], library)
    traces: dict[Call, Trace] = {}
    failed: list[Call] = []
    for (definition, given), traced in zip(inputs.items(), by_program, strict=True):
        if traced is None:
            failed += [(definition, arguments) for arguments in given]
        else:
            traces |= {(definition, arguments): trace for arguments, trace in zip(given, traced, strict=True)}
    # a program that failed on one of its inputs is run on each alone
    inputs_alone = [[inputs[definition][arguments]] for definition, arguments in failed]
    again = try_programs([programs[definition] for definition, _ in failed], inputs_alone, library)
    return traces | {call: traced[0] for call, traced in zip(failed, again, strict=True) if traced is not None}


def _program(name: str, source: str, callable_names: set[str]) -> Program:
    read = {node.id for node in ast.walk(_function(source)) if isinstance(node, ast.Name)}
    return Program(name, "", source, calls=tuple(sorted(read & callable_names - {name})))
