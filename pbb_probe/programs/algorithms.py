"""The algorithms family: short classic problems, with parameters that make many programs of each, and their inputs.

No program is executed here. How inputs are drawn makes the outputs vary: a target, for example, can mostly be found.
"""

import functools
import itertools
import random
from collections.abc import Callable

from pbb_probe.errors import PbbError
from pbb_probe.programs.draws import endless
from pbb_probe.programs.number_problems import NUMBER_PROBLEMS
from pbb_probe.programs.problem import Arguments, Parameters
from pbb_probe.programs.program import Program, count_steps
from pbb_probe.programs.text_problems import TEXT_PROBLEMS

Made = tuple[Program, list[Arguments]]
"""A program and its inputs."""
ATTEMPTS = 100  # draws for each input, before there are said to be too few distinct ones

_ORDER = """
    two_sum count_above longest_run is_palindrome greatest_common_divisor collatz_steps maximum_subarray
    binary_search most_common balanced_brackets run_lengths rotate merge_sorted fibonacci_like coin_change
    matching_letters digit_sum second_largest prefix_extremes first_missing count_inversions sum_of_peaks
    interleave bubble_pass count_bits letter_numerals caesar fill_bag
"""
PROBLEMS = {name: (NUMBER_PROBLEMS | TEXT_PROBLEMS)[name] for name in _ORDER.split()}
"""By name. Their order decides which of them a seed draws, so it never changes."""


def algorithms_programs(names: list[str], rng: random.Random, n_inputs: int = 10) -> list[Made]:
    """A program for each name, with `n_inputs` distinct inputs; the problems take turns in a shuffled order.

    Parameters of a problem repeat only after all have been used. Inputs are sorted by `input_size`.
    """
    draw = algorithms_draws(rng, n_inputs)
    return [draw(place)(name) for place, name in enumerate(names)]


def algorithms_draws(rng: random.Random, n_inputs: int = 10) -> Callable[[int], Callable[[str], Made]]:
    """What draws the program at a place, as a function of its name."""
    turns = rng.sample(list(PROBLEMS), len(PROBLEMS))
    pools = {problem: endless(PROBLEMS[problem].combinations(), rng) for problem in PROBLEMS}

    def draw(place: int) -> Callable[[str], Made]:
        problem = turns[place % len(turns)]
        return functools.partial(
            algorithm, problem=problem, parameters=next(pools[problem]), rng=rng, n_inputs=n_inputs
        )

    return draw


def algorithm(name: str, problem: str, parameters: Parameters, rng: random.Random, n_inputs: int = 10) -> Made:
    """The problem with these parameters, which are among its facts, and distinct inputs for it."""
    source = PROBLEMS[problem].source(name, parameters)
    steps = count_steps(source)
    facts: dict[str, str | int] = {"problem": problem, "steps": steps}
    facts |= {f"parameter_{parameter}": value for parameter, value in parameters.items()}
    inputs: dict[str, Arguments] = {}
    for _ in range(ATTEMPTS * n_inputs):
        if len(inputs) == n_inputs:
            break
        arguments = PROBLEMS[problem].draw(rng, **parameters)
        inputs.setdefault(repr(arguments), arguments)
    if len(inputs) < n_inputs:
        raise PbbError(f"The problem {problem} has fewer than {n_inputs} distinct inputs: ask for fewer.")
    return Program(name, "algorithms", source, facts), sorted(inputs.values(), key=input_size)


def input_size(arguments: Arguments) -> tuple[int, int, str]:
    """The sort key of inputs: the number of values (or letters), the sum of the numbers, then their text."""
    parts = [list(value) if isinstance(value, list | str) else [value] for value in arguments]
    items = list(itertools.chain(*parts))
    return len(items), sum(abs(value) for value in items if isinstance(value, int)), repr(arguments)
