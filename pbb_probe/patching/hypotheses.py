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
or, where both programs have a loop that carries something (`programs.passes`),
    pass_k          the rest of A on x after pass k, started from B's state after k passes on x'
    passes_to_k     the rest of A on x after pass k, started from B's state after k passes on x
    passes_after_k  the rest of B on x after pass k, started from A's state after k passes on x
and if the model evaluates a program by halves, one step of it in place of all, it carries
    only_step_k           nothing, where the answer is step k of A alone, on x
    program_only_step_k   the program, where the answer is step k of B alone, on x
Nothing is derived on paper: the programs are run, whole and cut.

With ten values the eleven hypotheses of two steps cannot all differ, and those of several passes even less. So
`told_apart` asks it of the first seven kinds, which are of whole evaluations by statements, and any hypothesis is
evidence only in the pairs in which no other predicts its answer: `telling`.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pbb_probe.errors import PbbError
from pbb_probe.patching.cutting import Definition, assigned, cuts, rest_of, shared_cuts, step_of
from pbb_probe.patching.resuming import resumed, same_ending
from pbb_probe.programs.passes import MOST, Passes, State, as_value, passes
from pbb_probe.programs.program import Program, Trace, Value, call_arguments, label, try_programs
from pbb_probe.programs.syntax import function_of
from pbb_probe.programs.values import fault, value_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

WHOLE = ("nothing", "everything", "program", "input")
"""The hypotheses that every pair has."""
STEPS = ("state", "steps_to", "steps_after")
"""Those that it has for each step after which both programs can be cut."""
PASSES = ("pass", "passes_to", "passes_after")
"""Those that it has for each pass that the loops of both programs complete, up to `passes.MOST`."""
HALVES = ("only_step", "program_only_step")
"""Half evaluations: for each step of A, and of B, that can be cut out of a program of several."""

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
        None where there is no such hypothesis: what it runs fails, or for step k, the two programs do not both have k
        among their `cuts` and as many steps, or step k uses more than the value before it. For pass k: not both calls
        complete k passes, their states are of different kinds (numbers of variables, types), or both loops have come
        to their ends and what follows is the same, so that it is the answer of the one whose state it is.

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
    last = max((k for (a, _), (b, _) in pairs for k in shared_cuts(a, b)), default=0)
    for k in range(1, last + 1):
        spliced = [_spliced(of_base, of_donor, k, traces) for of_base, of_donor in pairs]
        parts |= {f"{name}_{k}": [calls[i] for calls in spliced] for i, name in enumerate(STEPS)}
    resumptions = _resumptions(pairs, traces)
    parts |= {name: [resumption and resumption.call for resumption in row] for name, row in resumptions.items()}
    for name, place in zip(HALVES, ("nothing", "program"), strict=True):
        parts |= _halves(name, whole[place])
    traces |= _traced([call for calls in parts.values() for call in calls if call is not None], library)
    for name, row in resumptions.items():
        parts[name] = [None if each is None or _is_over(each, traces) else each.call for each in row]
    answers = {call: label(trace.output) for call, trace in traces.items()}
    columns: dict[str, Sequence[Call | None]] = {**whole, **parts}
    predicted = {name: [call and answers.get(call) for call in calls] for name, calls in columns.items()}
    return pd.DataFrame(predicted, dtype=object)


def told_apart(predicted: "pd.DataFrame") -> "np.ndarray":
    """Do all hypotheses of whole evaluations that a pair has predict different answers? [pair]

    Example:
        >>> import pandas as pd
        >>> told_apart(pd.DataFrame({"nothing": [2, 2], "program": [3, 2], "only_step_1": [3, 4]})).tolist()
        [True, False]
    """
    import numpy as np

    codes = _codes(predicted[[name for name in predicted if must_differ(str(name))]])
    ordered = np.sort(codes, axis=1)
    same = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    apart: np.ndarray = ~np.any(same, axis=1)
    return apart


def telling(predicted: "pd.DataFrame") -> "pd.DataFrame":
    """Is there an answer that this hypothesis predicts and no other, half evaluations included? [pair, hypothesis]

    Example:
        >>> import pandas as pd
        >>> telling(pd.DataFrame({"nothing": [2, 2], "program": [3, 5], "only_step_1": [3, 4]})).values.tolist()
        [[True, False, False], [True, True, True]]
    """
    import pandas as pd

    codes = _codes(predicted)
    alone = (codes[:, :, None] == codes[:, None, :]).sum(axis=2) == 1
    return pd.DataFrame(alone & (codes >= 0), predicted.index, predicted.columns)


def is_half(hypothesis: str) -> bool:
    """Is it of a half evaluation?

    Example:
        >>> [is_half(name) for name in ("program", "steps_to_1", "only_step_1")]
        [False, False, True]
    """
    return hypothesis.rpartition("_")[0] in HALVES


def must_differ(hypothesis: str) -> bool:
    """Is it among those that all predict different answers in a pair that is used?

    Example:
        >>> [must_differ(name) for name in ("program", "steps_to_1", "passes_to_1", "only_step_1")]
        [True, True, False, False]
    """
    return hypothesis.rpartition("_")[0] not in (*PASSES, *HALVES)


def _codes(predicted: "pd.DataFrame") -> "np.ndarray":
    """The answers [pair, hypothesis] as numbers, equal for equal ones, -1 where there is none."""
    import pandas as pd

    texts = predicted.where(predicted.isna(), predicted.astype(str)).to_numpy(dtype=object)
    codes: np.ndarray = pd.factorize(texts.ravel())[0].reshape(texts.shape)
    return codes


def _spliced(base: Call, donor: Call, k: int, traces: dict[Call, Trace]) -> list[Call | None]:
    """The calls that stand for `STEPS` at step k: the rest of one program, started from a state of the other."""
    (a, x), (b, _) = base, donor
    if k not in shared_cuts(a, b):
        return [None] * len(STEPS)
    starts = ((a, _state(donor, k, traces)), (a, _state((b, x), k, traces)), (b, _state(base, k, traces)))
    return [None if state is None else (rest_of(program, k), state) for program, state in starts]


def _state(call: Call, k: int, traces: dict[Call, Trace]) -> str | None:
    """What step k assigned, as text; None where the call failed or documents have no words for the value."""
    if call not in traces:
        return None
    (_, source), _ = call
    changes, name = traces[call].changes[k - 1], assigned(function_of(source).body[k - 1])
    return value_text(changes[name]) if name in changes else None


class _Resumption(NamedTuple):
    """A program that goes on from a state of another."""

    call: Call
    program: Definition
    giver: Definition
    is_last: bool
    """Was the giver's loop at its end?"""


def _resumptions(
    pairs: Sequence[tuple[Call, Call]], traces: Mapping[Call, Trace]
) -> dict[str, list[_Resumption | None]]:
    """What stands for `PASSES`, by hypothesis [pair]."""
    calls = dict.fromkeys(call for (a, x), (b, y) in pairs for call in ((a, x), (b, y), (b, x)))
    made = {
        call: passes(function_of(source, name), traces[call]) if call in traces else Passes(0, ())
        for call in calls
        for (name, source), _ in [call]
    }
    columns: dict[str, list[_Resumption | None]] = {}
    for k in range(1, MOST + 1):
        rows = []
        for base, donor in pairs:
            swapped = donor[0], base[1]
            rows.append([_resumption(*two, k, made) for two in ((base, donor), (base, swapped), (swapped, base))])
        for i, name in enumerate(PASSES):
            if any(row[i] for row in rows):
                columns[f"{name}_{k}"] = [row[i] for row in rows]
    return columns


def _resumption(run: Call, giver: Call, k: int, made: Mapping[Call, Passes]) -> _Resumption | None:
    """The rest of one call after pass k, from what another has made by then; None where states do not fit."""
    own, given = (made[call].states[k - 1] if k <= len(made[call].states) else None for call in (run, giver))
    if own is None or given is None or _kinds(own) != _kinds(given) or fault([state := as_value(given)]):
        return None
    (program, arguments), rest = run, resumed(run[0], k)
    text = ", ".join(part for part in (value_text(state), arguments) if part)
    return None if rest is None else _Resumption((rest, text), program, giver[0], made[giver].begun == k)


def _kinds(state: State) -> list[type]:
    return [type(value) for value in state]


def _is_over(resumption: _Resumption, traces: Mapping[Call, Trace]) -> bool:
    """Was nothing left to do but what the giver does, too? Then the answer is the giver's own, by another name."""
    (call, program, giver, is_last) = resumption
    if call not in traces or not is_last or not same_ending(program, giver):
        return False
    (name, source), _ = call
    return passes(function_of(source, name), traces[call]).begun == 0


def _halves(name: str, calls: Sequence[Call]) -> dict[str, list[Call | None]]:
    """For each step of programs that can be cut, the calls of that step alone."""
    last = max((len(function_of(source).body) for (_, source), _ in calls if cuts(source)), default=0)
    parts: dict[str, list[Call | None]] = {}
    for k in range(1, last + 1):
        steps = [step_of(program, k) for program, _ in calls]
        parts[f"{name}_{k}"] = [step and (step, x) for step, (_, x) in zip(steps, calls, strict=True)]
    return parts


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
    read = {node.id for node in ast.walk(function_of(source)) if isinstance(node, ast.Name)}
    return Program(name, "", source, calls=tuple(sorted(read & callable_names - {name})))
