"""The arithmetic family is held to a table of the operations written here and to plain execution of its sources."""

import itertools
import random
from collections import Counter

from pbb_probe.programs.arithmetic import arithmetic_program, arithmetic_programs, step_sequences
from pbb_probe.programs.program import trace_programs

MEANING = {
    "add": lambda x, c: divmod(x + c, 10)[1],
    "multiply": lambda x, c: int(str(x * c)[-1]),
    "max": lambda x, c: sorted((x, c))[1],
    "min": lambda x, c: sorted((x, c))[0],
    "distance": lambda x, c: x - c if x > c else c - x,
    "subtract_from": lambda x, c: c - x if x <= c else c - x + 10,
}
NAMES = [f"name{i}" for i in range(120)]


def executed(program, value: int) -> int:
    scope: dict = {}
    exec(program.source, scope)
    return scope[program.name](value)


def table(steps) -> tuple[int, ...]:
    """The outputs on 0 to 9, by executing the program's source."""
    program = arithmetic_program("f", steps)
    scope: dict = {}
    exec(program.source, scope)
    return tuple(scope["f"](value) for value in range(10))


def test_source_trace_and_meaning_agree():
    programs = arithmetic_programs(NAMES, random.Random(1))
    assert {program.facts["op_1"] for program in programs} == set(MEANING)
    for program, runs in zip(programs, trace_programs(programs, [range(10)] * len(programs)), strict=True):
        assert [run.input for run in runs] == list(range(10))
        for run in runs:
            value, between = run.input, []
            for k in range(1, program.facts["steps"] + 1):
                value = MEANING[program.facts[f"op_{k}"]](value, program.facts[f"constant_{k}"])
                between.append(value)
            assert (*run.states, run.output) == tuple(between)
            assert run.output == executed(program, run.input)
            assert run.lines == tuple(range(2, 2 + len(between)))


def test_every_value_is_a_single_digit():
    for steps in [*step_sequences(1), *step_sequences(2)]:
        for value in range(10):
            for operation, constant in steps:
                value = MEANING[operation](value, constant)
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
            constant = program.facts[f"constant_{k}"]
            right = {
                "add": f"({argument} + {constant}) % 10",
                "multiply": f"{argument} * {constant} % 10",
                "max": f"max({argument}, {constant})",
                "min": f"min({argument}, {constant})",
                "distance": f"abs({argument} - {constant})",
                "subtract_from": f"({constant} - {argument}) % 10",
            }[program.facts[f"op_{k}"]]
            assert line == left + right


def test_only_the_lengths_asked_for():
    programs = arithmetic_programs(NAMES[:6], random.Random(0), lengths=(2,))
    assert [program.facts["steps"] for program in programs] == [2] * 6


def test_sequences_repeat_only_when_a_length_has_too_few():
    programs = arithmetic_programs(NAMES, random.Random(3), lengths=(1, 2))
    bodies = [program.source.split("\n", 1)[1] for program in programs]
    assert len(set(bodies[1::2])) == 60  # far more two-step sequences than that
    ones = bodies[0::2]
    available = len(step_sequences(1))
    assert len(ones) > available
    assert len(set(ones[:available])) == available
    assert Counter(ones).most_common(1)[0][1] == 2


def test_the_seed_decides():
    def sources(seed: int) -> list[str]:
        return [program.source for program in arithmetic_programs(NAMES, random.Random(seed))]

    assert sources(5) == sources(5)
    assert sources(5) != sources(6)
