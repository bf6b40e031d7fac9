"""Relabelled programs do what the same text does under operators that all mean another."""

import ast
import operator

import pytest

from pbb_probe.programs.program import Program, trace_programs
from pbb_probe.programs.relabel import relabelled

ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def run(source: str, *arguments):
    ((trace,),) = trace_programs([Program("f", "", source)], [[arguments]])
    return trace.output


def meaning(text: str, seed: int):
    """What the operator of an expression `7 ? 3` does, found out by running it."""
    return run(relabelled(f"def f(a, b):\n    return a {text} b", seed), 7, 3)


@pytest.mark.parametrize("seed", range(4))
def test_every_operator_means_another_one_of_its_kind(seed):
    assert sorted(meaning(text, seed) for text in "+-*") == [4, 10, 21]
    for text, own in (("+", 10), ("-", 4), ("*", 21)):
        assert meaning(text, seed) != own
    assert meaning("%", seed) == 1
    assert meaning("//", seed) == 2
    assert meaning("==", seed) is True
    assert meaning("!=", seed) is False
    assert run(relabelled("def f(x):\n    return max(x, 3)", seed), 7) == 3
    assert run(relabelled("def f(x):\n    return min(x, 3)", seed), 7) == 7
    assert run(relabelled("def f(x):\n    return abs(x)", seed), -7) == 7


def test_the_meanings_are_drawn_by_the_seed_and_the_same_in_every_program():
    pictures = {seed: tuple(meaning(text, seed) for text in "+-*") for seed in range(8)}
    assert set(pictures.values()) == {(4, 21, 10), (21, 10, 4)}  # the two circles of three
    for seed, (plus, _, _) in pictures.items():
        assert run(relabelled("def f(x):\n    y = x + 3\n    y += 3\n    return y", seed), 7) == {4: 1, 21: 63}[plus]


@pytest.mark.parametrize("seed", range(4))
def test_a_step_by_hand(seed):
    # (x * 3) % 10, then max(_, 2): what * means, found out apart, on each input
    source = "def f(x):\n    y = x * 3 % 10\n    return max(y, 2)"
    times = {4: operator.sub, 10: operator.add}[meaning("*", seed)]
    for x in range(10):
        assert run(relabelled(source, seed), x) == min(times(x, 3) % 10, 2)
