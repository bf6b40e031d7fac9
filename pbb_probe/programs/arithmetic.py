"""The arithmetic family: functions of one to four steps over the values 0 to 9, with conditions, loops and helpers.

A step is one of six operations with a constant. Its values stay single digits, so that every value is one token.
Straight-line programs are only used if no shorter program computes the same, and the operations (modular, order-based,
reflecting) do not all collapse into one another: there is an intermediate state to be found.
"""

import functools
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pbb_probe.errors import PbbError
from pbb_probe.programs.draws import distinct, endless
from pbb_probe.programs.program import Program
from pbb_probe.schema import shown

VALUES = range(10)
MOST_REPEATED = 4  # of the ten inputs may share an output; with more, the answer could be guessed


@dataclass(frozen=True)
class Operation:
    """One step: its Python text, with `{x}` for the value and `{c}` for the constant, and the possible constants."""

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
    return tuple(steps for steps in itertools.product(every_step(), repeat=length) if worth_asking(steps))


def every_step() -> list[Step]:
    """Every operation with every constant that it is used with."""
    return [(operation.name, c) for operation in OPERATIONS.values() for c in operation.constants]


def worth_asking(steps: tuple[Step, ...]) -> bool:
    """Neither do outputs repeat on more than `MOST_REPEATED` inputs, nor does a shorter sequence compute the same."""
    table = _table(steps)
    return table not in _shorter(len(steps)) and _varied(table)


@functools.cache
def _shorter(length: int) -> set[tuple[int, ...]]:
    """What fewer steps compute (one to three, where `length` is larger still)."""
    return {tuple(VALUES)}.union(*({_table(steps) for steps in step_sequences(k)} for k in range(1, min(length, 4))))


def draw_steps(length: int, rng: random.Random) -> tuple[Step, ...]:
    """One of the sequences of `step_sequences(length)`, for lengths with too many to list."""
    every = every_step()
    while True:
        steps = tuple(rng.choice(every) for _ in range(length))
        if worth_asking(steps):
            return steps


def arithmetic_program(name: str, steps: Iterable[Step]) -> Program:
    """The program with these steps; its facts are steps, op_1, constant_1, ..."""
    steps = tuple(steps)
    return Program(name, "arithmetic", source(name, steps), {"steps": len(steps), **_operands(steps)})


def conditional_program(name: str, threshold: int, steps: tuple[Step, Step, Step]) -> Program:
    """The first step if the value is above the threshold, otherwise the second; then the third."""
    above, below, last = steps
    text = f"""def {name}(x):
    if x > {threshold}:
        y = {expression(above, "x")}
    else:
        y = {expression(below, "x")}
    return {expression(last, "y")}"""
    return Program(name, "arithmetic", text, {"steps": 4, "threshold": threshold, **_operands(steps)})


def loop_program(name: str, turns: int, step: Step) -> Program:
    """One step, taken several times."""
    text = f"""def {name}(x):
    for i in range({turns}):
        x = {expression(step, "x")}
    return x"""
    return Program(name, "arithmetic", text, {"steps": 3, "turns": turns, **_operands((step,))})


def nested_program(name: str, steps: tuple[Step, Step]) -> Program:
    """A helper inside the function, called on the result of another call of it."""
    inner, last = steps
    text = f"""def {name}(x):

    def step(y):
        return {expression(inner, "y")}
    return {expression(last, "step(step(x))")}"""
    return Program(name, "arithmetic", text, {"steps": 3, **_operands(steps)})


SHAPES = ("one_step", "two_steps", "three_steps", "four_steps", "conditional", "loop", "nested")
"""What `arithmetic_programs` can make."""


def arithmetic_programs(
    names: list[str], rng: random.Random, shapes: tuple[str, ...] = ("one_step", "two_steps", "two_steps")
) -> list[Program]:
    """A program for each name; the shapes take turns. Sources repeat only when a shape has too few of them.

    Raises:
        PbbError: an unknown shape.
    """
    draw = arithmetic_draws(rng, shapes)
    return [draw(place)(name) for place, name in enumerate(names)]


def arithmetic_draws(rng: random.Random, shapes: tuple[str, ...]) -> Callable[[int], Callable[[str], Program]]:
    """What draws the program at a place, as a function of its name; the shapes take turns over the places.

    Raises:
        PbbError: an unknown shape.
    """
    check_shapes(shapes)
    drawn = {shape: _drawn(shape, rng) for shape in dict.fromkeys(shapes)}
    return lambda place: next(drawn[shapes[place % len(shapes)]])


def check_shapes(shapes: object) -> None:
    """Refuse anything but shapes of arithmetic programs.

    Raises:
        PbbError: it is no tuple or list of them, it is empty, or one of them is unknown.
    """
    names = tuple(shapes) if isinstance(shapes, tuple | list | str) else (shapes,)
    unknown = [shape for shape in names if not isinstance(shape, str) or shape not in SHAPES]
    if unknown or not names:
        raise PbbError(
            f"Unknown shapes of arithmetic programs {shown(unknown)}: choose one or more of {', '.join(SHAPES)}."
        )


def _drawn(shape: str, rng: random.Random) -> Iterator[Callable[[str], Program]]:
    """An endless sequence of functions from a name to a program of this shape, whose outputs vary."""
    made = functools.partial
    every = [step for (step,) in step_sequences(1)]
    if shape in SHAPES[:3]:
        for steps in endless(step_sequences(1 + SHAPES.index(shape)), rng):
            yield made(arithmetic_program, steps=steps)
    elif shape == "loop":
        loops = [(step, turns) for step in every for turns in range(2, 5) if _table((step,) * turns) != tuple(VALUES)]
        for step, turns in endless([(step, n) for step, n in loops if _varied(_table((step,) * n))], rng):
            yield made(loop_program, turns=turns, step=step)
    elif shape == "nested":
        pairs = [(a, b) for a, b in itertools.permutations(every, 2) if _varied(_table((a, a, b)))]
        for steps in endless(pairs, rng):
            yield made(nested_program, steps=steps)
    elif shape == "conditional":
        for (above, below, last), threshold in distinct(lambda: (tuple(rng.sample(every, 3)), rng.randint(2, 6))):
            if _varied(_table((last,), [_table((above if x > threshold else below,), [x])[0] for x in VALUES])):
                yield made(conditional_program, threshold=threshold, steps=(above, below, last))
    else:
        for steps in distinct(lambda: draw_steps(4, rng)):
            yield made(arithmetic_program, steps=steps)


def _operands(steps: Iterable[Step]) -> dict[str, str | int]:
    facts: dict[str, str | int] = {}
    for k, (operation, constant) in enumerate(steps, start=1):
        facts |= {f"op_{k}": operation, f"constant_{k}": constant}
    return facts


def _varied(table: tuple[int, ...]) -> bool:
    return max(Counter(table).values()) <= MOST_REPEATED


def _table(steps: Iterable[Step], values: Iterable[int] = VALUES) -> tuple[int, ...]:
    for operation, constant in steps:
        values = [OPERATIONS[operation].apply(value, constant) for value in values]
    return tuple(values)
