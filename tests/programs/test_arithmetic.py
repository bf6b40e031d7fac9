"""The arithmetic family is held to a table of the operations written here and to plain execution of its sources."""

import ast
import itertools
import random
from collections import Counter

import numpy as np
import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.arithmetic import SHAPES, arithmetic_program, arithmetic_programs, draw_steps, step_sequences
from pbb_probe.programs.program import Program, trace_programs

MEANING = {
    "add": lambda x, c: divmod(x + c, 10)[1],
    "multiply": lambda x, c: int(str(x * c)[-1]),
    "max": lambda x, c: sorted((x, c))[1],
    "min": lambda x, c: sorted((x, c))[0],
    "distance": lambda x, c: x - c if x > c else c - x,
    "subtract_from": lambda x, c: c - x if x <= c else c - x + 10,
}
NAMES = [f"name{i}" for i in range(120)]


def table_of(program: Program) -> tuple[int, ...]:
    """The outputs on 0 to 9, by executing the program's source."""
    scope: dict = {}
    exec(program.source, scope)
    return tuple(scope[program.name](value) for value in range(10))


def table(steps) -> tuple[int, ...]:
    return table_of(arithmetic_program("f", steps))


def operands(program: Program) -> list[tuple[str, int]]:
    facts = program.facts
    return [(facts[f"op_{k}"], facts[f"constant_{k}"]) for k in range(1, 5) if f"op_{k}" in facts]


def take(step: tuple[str, int], value: int) -> int:
    return MEANING[step[0]](value, step[1])


def of_shape(shape: str, n: int = 60, seed: int = 1) -> list[Program]:
    return arithmetic_programs(NAMES[:n], random.Random(seed), (shape,))


def body(program: Program) -> str:
    return program.source.split("\n", 1)[1]


def values_on_the_way(program: Program, x: int) -> list[int]:
    """The states and the output of a call, from the program's facts alone."""
    steps, facts = operands(program), program.facts
    if "threshold" in facts:
        above, below, last = steps
        y = take(above if x > facts["threshold"] else below, x)
        return [y, take(last, y)]
    if "turns" in facts:
        states = []
        for turn in range(facts["turns"]):
            x = take(steps[0], x)
            states += [turn, x]
        return [*states, x]
    if "step(step(x))" in program.source:
        return [take(steps[1], take(steps[0], take(steps[0], x)))]
    return list(itertools.accumulate(steps, lambda value, step: take(step, value), initial=x))[1:]


@pytest.mark.parametrize("shape", SHAPES)
def test_source_trace_and_facts_agree(shape: str):
    programs = of_shape(shape)
    for program, runs in zip(programs, trace_programs(programs, [range(10)] * len(programs)), strict=True):
        assert [run.input for run in runs] == list(range(10))
        for run in runs:
            assert [*run.states, run.output] == values_on_the_way(program, run.input), program.source
        assert tuple(run.output for run in runs) == table_of(program)


def test_all_operations_are_used_in_every_shape():
    for shape in SHAPES:
        used = [{op for op, _ in operands(program)} for program in of_shape(shape, 120)]
        assert set().union(*used) == set(MEANING), shape


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_all_values_on_the_way_are_digits_and_vary(shape: str):
    for program in of_shape(shape):
        ways = [values_on_the_way(program, x) for x in range(10)]
        assert all(0 <= value <= 9 for way in ways for value in way)
        assert max(Counter(way[-1] for way in ways).values()) <= 4


def test_every_value_is_a_single_digit():
    for steps in [*step_sequences(1), *step_sequences(2)]:
        for value in range(10):
            for step in steps:
                value = take(step, value)
                assert 0 <= value <= 9


def test_no_two_step_sequence_is_a_one_step_function_or_the_identity():
    one_step = {
        tuple(meaning(value, constant) for value in range(10))
        for meaning, constant in itertools.product(MEANING.values(), range(10))
    }
    assert tuple(range(10)) in one_step  # adding 0
    assert len(step_sequences(2)) > 500
    assert not {table(steps) for steps in step_sequences(2)} & one_step
    assert tuple(range(10)) not in {table(steps) for steps in step_sequences(1)}


def tables_of_up_to(length: int) -> set[tuple[int, ...]]:
    """All that can be computed in so many steps or fewer, by looking up every step in every table."""
    steps = np.unique([[take(step, x) for x in range(10)] for (step,) in step_sequences(1)], axis=0)
    found = reached = np.arange(10)[None]
    for _ in range(length):
        reached = np.unique(np.concatenate([step[reached] for step in steps]), axis=0)
        found = np.concatenate([found, reached])
    return set(map(tuple, found.tolist()))


@pytest.mark.parametrize(("shape", "length"), [("three_steps", 3), ("four_steps", 4)])
def test_longer_programs_are_no_shorter_ones_in_disguise(shape: str, length: int):
    programs = of_shape(shape, 120)
    shorter = tables_of_up_to(length - 1)
    assert len(shorter) > 100
    for program in programs:
        assert len(operands(program)) == program.facts["steps"] == length
        assert table_of(program) not in shorter, program.source


def test_drawn_steps_are_among_those_that_are_listed():
    rng, listed = random.Random(0), set(step_sequences(2))
    drawn = [draw_steps(2, rng) for _ in range(300)]
    assert set(drawn) <= listed
    assert len(set(drawn)) > 200


def test_the_kept_sequences_are_all_that_qualify():
    used = {step for (step,) in step_sequences(1)} | set(itertools.chain(*step_sequences(2)))
    short = {table([step]) for step in used} | {tuple(range(10))}
    qualify = {
        steps
        for steps in itertools.product(used, repeat=2)
        if table(steps) not in short and max(Counter(table(steps)).values()) <= 4
    }
    assert set(step_sequences(2)) == qualify
    assert len(step_sequences(2)) == len(qualify)


def test_no_output_repeats_on_more_than_four_inputs():
    for steps in [*step_sequences(1), *step_sequences(2)]:
        assert max(Counter(table(steps)).values()) <= 4


def test_lengths_take_turns_and_facts_agree_with_the_source():
    programs = arithmetic_programs(NAMES, random.Random(2))
    assert [program.name for program in programs] == NAMES
    for i, program in enumerate(programs):
        length = (1, 2, 2)[i % 3]
        assert program.facts["steps"] == length
        lines = program.source.splitlines()
        assert lines[0] == f"def {program.name}(x):"
        assert len(lines) == 1 + length
        assert set(program.facts) == {"steps"} | {f"{f}_{k}" for f in ("op", "constant") for k in range(1, length + 1)}
        for k, (line, argument) in enumerate(zip(lines[1:], "xy", strict=False), start=1):
            left = "    return " if k == length else "    y = "
            assert line == left + written(*operands(program)[k - 1], argument)


def written(operation: str, constant: int, argument: str) -> str:
    return {
        "add": f"({argument} + {constant}) % 10",
        "multiply": f"{argument} * {constant} % 10",
        "max": f"max({argument}, {constant})",
        "min": f"min({argument}, {constant})",
        "distance": f"abs({argument} - {constant})",
        "subtract_from": f"({constant} - {argument}) % 10",
    }[operation]


def test_shapes_by_their_source():
    for program in of_shape("conditional"):
        above, below, last = (written(*step, x) for step, x in zip(operands(program), "xxy", strict=True))
        assert program.source == (
            f"def {program.name}(x):\n    if x > {program.facts['threshold']}:\n        y = {above}\n"
            f"    else:\n        y = {below}\n    return {last}"
        )
    for program in of_shape("loop"):
        ((operation, constant),) = operands(program)
        assert program.source == (
            f"def {program.name}(x):\n    for i in range({program.facts['turns']}):\n"
            f"        x = {written(operation, constant, 'x')}\n    return x"
        )
    for program in of_shape("nested"):
        inner, last = operands(program)
        assert program.source == (
            f"def {program.name}(x):\n\n    def step(y):\n        return {written(*inner, 'y')}\n"
            f"    return {written(*last, 'step(step(x))')}"
        )


def test_steps_are_the_statements_of_the_source_and_sources_are_canonical():
    for program in arithmetic_programs(NAMES, random.Random(4), SHAPES):
        assert ast.unparse(ast.parse(program.source)) == program.source
        statements = [node for node in ast.walk(ast.parse(program.source)) if isinstance(node, ast.stmt)]
        assert program.facts["steps"] == len(statements) - 1
        assert program.family == "arithmetic"


def test_both_branches_are_taken_and_what_a_branch_does_differs():
    for program in of_shape("conditional", 120):
        assert 2 <= program.facts["threshold"] <= 6
        assert len(set(operands(program))) == 3
    assert {program.facts["threshold"] for program in of_shape("conditional", 120)} == {2, 3, 4, 5, 6}


def test_loops_take_two_to_four_turns_and_do_something():
    programs = of_shape("loop", 120)
    assert {program.facts["turns"] for program in programs} == {2, 3, 4}
    assert tuple(range(10)) not in {table_of(program) for program in programs}


def test_shapes_take_turns():
    programs = arithmetic_programs(NAMES[:14], random.Random(0), SHAPES)
    kinds = [(program.facts["steps"], "turns" in program.facts, "threshold" in program.facts) for program in programs]
    once = [(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (4, 0, 1), (3, 1, 0), (3, 0, 0)]
    assert kinds == once * 2
    assert ["step" in program.source for program in programs] == ([False] * 6 + [True]) * 2
    only = arithmetic_programs(NAMES[:6], random.Random(0), shapes=("two_steps",))
    assert [program.facts["steps"] for program in only] == [2] * 6


def test_sequences_repeat_only_when_a_shape_has_too_few():
    programs = arithmetic_programs(NAMES, random.Random(3), shapes=("one_step", "two_steps"))
    bodies = [body(program) for program in programs]
    assert len(set(bodies[1::2])) == 60  # far more two-step sequences than that
    ones = bodies[0::2]
    available = len(step_sequences(1))
    assert len(ones) > available
    assert len(set(ones[:available])) == available
    assert Counter(ones).most_common(1)[0][1] == 2


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_of_many_no_source_comes_twice_and_all_have_outputs_that_vary(shape: str):
    names = [f"name{i}" for i in range(75 if shape == "loop" else 900)]
    programs = arithmetic_programs(names, random.Random(5), (shape,))
    assert len(set(map(body, programs))) == len(names)
    assert max(max(Counter(table_of(program)).values()) for program in programs) <= 4


@pytest.mark.parametrize("shapes", [SHAPES, ("one_step", "two_steps", "two_steps")])
def test_the_seed_decides(shapes):
    def sources(seed: int) -> list[str]:
        return [program.source for program in arithmetic_programs(NAMES, random.Random(seed), shapes)]

    assert sources(5) == sources(5)
    assert sources(5) != sources(6)


@pytest.mark.parametrize(("shapes", "named"), [(("one_step", "spiral"), "spiral"), ((), "one_step"), ("loop", "'l'")])
def test_unknown_shapes_are_refused(shapes, named: str):
    with pytest.raises(PbbError, match=named) as raised:
        arithmetic_programs(NAMES[:3], random.Random(0), shapes)
    assert all(shape in str(raised.value) for shape in SHAPES)
