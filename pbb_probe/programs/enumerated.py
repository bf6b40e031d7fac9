"""Enumerated programs: the neighbours of a straight-line arithmetic program, and every other of one and two steps.

A table is the outputs on the values 0 to 9. Tables are looked up step by step, and nothing is run.
"""

import ast
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbb_probe.programs.arithmetic import OPERATIONS, VALUES, Step, expression, source, step_sequences
from pbb_probe.programs.mutants import DIFFERENCES, Difference
from pbb_probe.programs.simpler import chain
from pbb_probe.programs.syntax import function_of

if TYPE_CHECKING:
    import numpy as np

Steps = tuple[Step, ...]
STEPS: tuple[Step, ...] = tuple(itertools.product(OPERATIONS, VALUES))
"""Every operation with every single digit, whether or not the family uses it: a changed constant may be any."""
SHORT = 2
"""Programs of so many steps are enumerated whole; of longer ones only the neighbours of the program are."""
FAR = len(DIFFERENCES)
"""In place of a difference: no candidate, being neither near nor one of the family."""


@dataclass(frozen=True)
class Enumerated:
    """Every sequence of at most two steps, the identity among them."""

    steps: tuple[Steps, ...]
    tables: "np.ndarray"
    """[sequence, value]"""
    numbers: "np.ndarray"
    """The places of its steps in `STEPS` [sequence, 2], -1 where it has fewer."""
    asked: "np.ndarray"
    """Is it one of the family's, worth asking about? [sequence]"""


def read_steps(text: str) -> Steps | None:
    """The steps of a straight-line arithmetic program from its source; None of any other."""
    read = [_by_expression().get(ast.unparse(step)) for step in chain(function_of(text))]
    return tuple(step for step in read if step) if read and None not in read else None


def near(steps: Steps) -> "tuple[list[Steps], np.ndarray, np.ndarray]":
    """Every candidate for what is computed in place of a program with these steps.

    Returns:
        The candidates' steps, the program's own first; their tables [candidate, value]; and what differs, as places in
        `DIFFERENCES` [candidate]: steps left out (all of them for the identity), the order, one constant, one operation
        with whatever constant, or, of the family's programs of one and two steps, more than that.
    """
    import numpy as np

    every = enumerated()
    differs = _of_short(steps) if len(steps) <= SHORT else np.where(every.asked, _place("another program"), FAR)
    kept = np.flatnonzero(differs < FAR)
    more = [(_place("none"), steps), *((_place(what), other) for what, other in _changed(steps))]
    if len(steps) <= SHORT:
        more = more[:1]
    sequences = [*(other for _, other in more), *(every.steps[k] for k in kept)]
    tables = np.concatenate([np.array([table(other) for _, other in more]), every.tables[kept]])
    return sequences, tables, np.concatenate([[what for what, _ in more], differs[kept]])


@functools.cache
def enumerated() -> Enumerated:
    """Every sequence of at most two steps with single-digit constants."""
    import numpy as np

    steps = tuple(sequence for n in range(SHORT + 1) for sequence in itertools.product(STEPS, repeat=n))
    place = {step: k for k, step in enumerate(STEPS)}
    numbers = np.array([[*(place[step] for step in each), *[-1] * (SHORT - len(each))] for each in steps])
    family = {sequence for n in range(1, SHORT + 1) for sequence in step_sequences(n)}
    asked = np.array([each in family for each in steps])
    return Enumerated(steps, np.array([table(each) for each in steps]), numbers, asked)


def table(steps: Sequence[Step]) -> "np.ndarray":
    """The outputs on the values 0 to 9 [value]."""
    import numpy as np

    outputs = np.arange(len(VALUES))
    for step in steps:
        outputs = _tables()[step][outputs]
    return outputs


def written(name: str, steps: Steps) -> str:
    """The source of a program; without steps it returns its input."""
    return source(name, steps) if steps else f"def {name}(x):\n    return x"


@functools.cache
def _tables() -> "dict[Step, np.ndarray]":
    import numpy as np

    return {(name, c): np.array([OPERATIONS[name].apply(value, c) for value in VALUES]) for name, c in STEPS}


@functools.cache
def _by_expression() -> dict[str, Step]:
    return {ast.unparse(ast.parse(expression(step, "_"))): step for step in STEPS}


def _of_short(steps: Steps) -> "np.ndarray":
    """What tells each enumerated sequence from one or two steps [sequence], the nearest of what does."""
    import numpy as np

    every, n = enumerated(), len(steps)
    own = np.array([STEPS.index(step) for step in steps])
    lengths = (every.numbers >= 0).sum(axis=1)
    numbers = every.numbers[:, :n]
    same = numbers == own  # [sequence, step]
    alike = (lengths == n) & (same.sum(axis=1) == n - 1)
    same_operation = (numbers // len(VALUES) == own // len(VALUES)).all(axis=1)
    left_out = (lengths < n) & ((lengths == 0) | np.isin(every.numbers[:, 0], own))
    order = (lengths == n) & (numbers == own[::-1]).all(axis=1)
    differs = np.where(every.asked, _place("another program"), FAR)
    nearest_last: tuple[tuple[Difference, np.ndarray], ...] = (
        ("an operation", alike & ~same_operation),
        ("a constant", alike & same_operation),
        ("the order", order),
        ("a step left out", left_out),
        ("none", (lengths == n) & same.all(axis=1)),
    )
    for what, where in nearest_last:
        differs[where] = _place(what)
    return differs


def _changed(steps: Steps) -> Iterator[tuple[Difference, Steps]]:
    """The neighbours of a program of any length."""
    for n in reversed(range(len(steps))):
        for part in itertools.combinations(steps, n):
            yield "a step left out", part
    for order in itertools.permutations(steps):
        yield "the order", order
    for k, step in enumerate(steps):
        for other in STEPS:
            if other != step:
                what: Difference = "a constant" if other[0] == step[0] else "an operation"
                yield what, (*steps[:k], other, *steps[k + 1 :])


def _place(what: Difference) -> int:
    return DIFFERENCES.index(what)
