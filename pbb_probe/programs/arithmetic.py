"""The arithmetic family: functions of one and two steps over the values 0 to 9.

A step is one of six operations with a constant. Its values stay single digits, so that every value is one token.
Two-step programs are only taken where they are no one-step program in disguise, and the operations (modular,
order-based, reflecting) do not all collapse into one another: there is an intermediate state to be found.
"""

import functools
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pbb_probe.programs.program import Program

VALUES = range(10)
MOST_REPEATED = 4  # of the ten inputs may share an output: beyond it the answer can be guessed


@dataclass(frozen=True)
class Operation:
    """One step: its Python text, `{x}` being the value and `{c}` the constant, and the constants it is used with."""

    name: str
    template: str
    apply: Callable[[int, int], int]
    constants: range


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("add", "({x} + {c}) % 10", lambda x, c: (x + c) % 10, range(1, 10)),
        Operation("multiply", "{x} * {c} % 10", lambda x, c: x * c % 10, range(2, 10)),
        Operation("max", "max({x}, {c})", max, range(1, 4)),
        Operation("min", "min({x}, {c})", min, range(6, 9)),
        Operation("distance", "abs({x} - {c})", lambda x, c: abs(x - c), range(1, 10)),
        Operation("subtract_from", "({c} - {x}) % 10", lambda x, c: (c - x) % 10, range(10)),
    )
}

Step = tuple[str, int]
"""An operation's name and its constant."""


def expression(step: Step, argument: str) -> str:
    """The Python expression of one step applied to `argument`."""
    operation, constant = step
    return OPERATIONS[operation].template.format(x=argument, c=constant)


def source(name: str, steps: Iterable[Step]) -> str:
    """The canonical source: one assignment a step, the last one returned."""
    *first, last = steps
    variables = "xyzuvw"
    lines = [f"def {name}(x):"]
    for k, step in enumerate(first):
        lines.append(f"    {variables[k + 1]} = {expression(step, variables[k])}")
    lines.append(f"    return {expression(last, variables[len(first)])}")
    return "\n".join(lines)


@functools.cache
def step_sequences(length: int) -> tuple[tuple[Step, ...], ...]:
    """Every sequence of `length` steps that is worth asking about, in a fixed order.

    Left out: outputs that repeat on more than `MOST_REPEATED` inputs, and functions that some shorter sequence
    (or none at all: the identity) computes as well.
    """
    shorter = {tuple(VALUES)}.union(*({_table(steps) for steps in step_sequences(k)} for k in range(1, length)))
    every = [(op.name, c) for op in OPERATIONS.values() for c in op.constants]
    return tuple(
        steps
        for steps in itertools.product(every, repeat=length)
        if (table := _table(steps)) not in shorter and max(Counter(table).values()) <= MOST_REPEATED
    )


def arithmetic_program(name: str, steps: Iterable[Step]) -> Program:
    """The program that takes these steps, with steps, op_1, constant_1, ... as its facts."""
    steps = tuple(steps)
    facts: dict[str, str | int] = {"steps": len(steps)}
    for k, (operation, constant) in enumerate(steps, start=1):
        facts |= {f"op_{k}": operation, f"constant_{k}": constant}
    return Program(name, "arithmetic", source(name, steps), facts)


def arithmetic_programs(names: list[str], rng: random.Random, lengths: tuple[int, ...] = (1, 2, 2)) -> list[Program]:
    """A program a name, the lengths in turn. Sequences repeat only when a length has too few of them."""
    pools = {length: _endless(step_sequences(length), rng) for length in lengths}
    return [arithmetic_program(name, next(pools[length])) for name, length in zip(names, itertools.cycle(lengths))]


def _endless(sequences, rng: random.Random):
    while True:
        yield from rng.sample(sequences, len(sequences))


def _table(steps: Iterable[Step]) -> tuple[int, ...]:
    values = list(VALUES)
    for operation, constant in steps:
        values = [OPERATIONS[operation].apply(value, constant) for value in values]
    return tuple(values)
