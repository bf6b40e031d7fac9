"""Every algorithm is held to the same thing computed another way here, on the inputs generated for it."""

import ast
import bisect
import functools
import itertools
import math
import operator
import random
import re
import statistics
import string
from collections import Counter

import numpy as np
import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.algorithms import PROBLEMS, algorithm, algorithms_programs, input_size
from pbb_probe.programs.number_problems import COLLATZ
from pbb_probe.programs.program import trace_programs

COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
COMPUTE = {"+": operator.add, "-": operator.sub, "*": operator.mul}
CLOSING = dict(zip("([<{", ")]>}", strict=True))
PICK = {"max": max, "min": min}
TRUE_OR_FALSE = {"is_palindrome", "balanced_brackets"}  # outputs of which one is bound to be common


def two_sum(p, numbers, target):
    for (i, a), (j, b) in itertools.combinations(enumerate(numbers, start=p["base"]), 2):
        if COMPUTE[p["op"]](a, b) == target - p["k"]:
            return [i, j]
    return []


def longest_run(p, numbers):
    holds = "".join("y" if COMPARE[p["op"]](number, p["k"]) else "n" for number in numbers)
    return p["weight"] * len(max(re.findall("y*", holds), key=len))


def is_palindrome(p, text):
    text = re.sub(p["vowel"], p["mark"], text)
    return text == "".join(reversed(text))


def orbit(x):
    while True:
        yield x
        x = (x // 2, 3 * x + 1)[x & 1]


def collatz_steps(p, x):
    return p["start"] + p["weight"] * sum(1 for _ in itertools.takewhile(lambda y: y > p["stop"], orbit(x)))


def maximum_subarray(p, numbers):
    slices = itertools.combinations(range(len(numbers) + 1), 2)
    sums = [sum(numbers[i:j]) - p["k"] * (j - i) for i, j in slices]
    return p["start"] + PICK[p["pick"]]([0, *sums])


def binary_search(p, numbers, target):
    search = {"<": bisect.bisect_left, "<=": bisect.bisect_right}[p["op"]]
    return p["base"] + search(numbers, target + p["k"])


def most_common(p, numbers):
    rests = [divmod(number + p["k"], p["modulus"])[1] for number in numbers]
    return statistics.mode(rests if p["op"] == ">" else rests[::-1])  # mode: of several the first met


def balanced_brackets(p, text):
    pair = p["opening"] + CLOSING[p["opening"]]
    text = pair[0] * p["start"] + text + pair[1] * p["end"]
    while pair in text:
        text = text.replace(pair, "")
    return text == ""


def run_lengths(p, text):
    runs = ((letter, len(list(same))) for letter, same in itertools.groupby(text))
    return "".join(f"{letter}{p['mark']}{p['weight'] * length}" for letter, length in runs)


def rotate(p, numbers, times):
    if times == 0:
        return numbers
    place = p["place"]
    moved = COMPUTE[p["op"]](numbers[place], p["k"])
    return rotate(p, [*numbers[:place], *numbers[place + 1 :], moved], times - 1)


def merge_sorted(p, left, right):
    return sorted([*(COMPUTE[p["op"]](number, p["k"]) for number in left), *right], reverse=p["order"] == ">")


def fibonacci_like(p, n, a):
    step = np.array([[0, 1], [1, p["weight"]]])
    return int((np.linalg.matrix_power(step, n) @ [a, p["second"]])[1] % p["modulus"])


def coin_change(p, amount):
    large, small = p["large"], p["small"]
    ways = [
        (x, y, amount - large * x - small * y)
        for x, y in itertools.product(range(amount // large + 1), range(amount // small + 1))
        if large * x + small * y <= amount
    ]
    return sum(max(ways))  # as many of the large ones as fit, then of the small ones


def matching_letters(p, left, right):
    equal = sum(map(operator.eq, left, right))
    return p["start"] + p["match"] * equal - p["miss"] * (len(left) - equal)


def digit_sum(p, n):
    digits = np.base_repr(n, p["base"])
    return COMPUTE[p["op"]](p["start"], sum(int(digit, p["base"]) for digit in digits))


def second_largest(p, numbers):
    ordered = sorted([p["start"], p["start"], *numbers], reverse=p["order"] == ">")
    return COMPUTE[p["op"]](ordered[1], p["k"])


def prefix_extremes(p, numbers):
    shifted = [COMPUTE[p["op"]](number, p["k"]) for number in numbers]
    return [PICK[p["pick"]]([p["start"], *shifted[: i + 1]]) for i in range(len(shifted))]


def first_missing(p, numbers):
    return min(set(range(p["start"], p["start"] + 6 * p["step"], p["step"])) - set(numbers))


def count_inversions(p, numbers):
    pairs = itertools.combinations(numbers, 2)
    return p["weight"] * sum(COMPARE[p["order"]](a - b, p["gap"]) for a, b in pairs)


def sum_of_peaks(p, numbers):
    beyond = COMPARE[p["order"]]
    triples = zip(numbers, numbers[1:], numbers[2:], strict=False)
    return COMPUTE[p["op"]](p["start"], sum(b for a, b, c in triples if beyond(b, a) and beyond(b, c)))


def interleave(p, left, right):
    pairs = enumerate(zip(left, right, strict=False))
    return p["first"] + "".join(pair[i % p["modulus"] != p["rest"]] for i, pair in pairs)


def bubble_pass(p, numbers):
    """The one that is carried along, against each that comes: one of the two stays behind."""
    behind, (carried, *coming) = numbers[: p["start"]], numbers[p["start"] :]
    for number in coming:
        swaps = COMPARE[p["order"]](carried, COMPUTE[p["op"]](number, p["gap"]))
        stays, carried = (number, carried) if swaps else (carried, number)
        behind = [*behind, stays]
    return [*behind, carried]


def letter_numerals(p, text):
    values = {"a": p["low"], "b": p["middle"], "c": p["high"]}
    return sum(values[x] for x in text) - 2 * sum(values[x] for x, y in itertools.pairwise(text) if x < y)


def caesar(p, text):
    letters = string.ascii_lowercase
    table = dict(zip(letters, letters[p["k"] :] + letters[: p["k"]], strict=True))
    return "".join(table[x] if COMPARE[p["order"]](x, p["pivot"]) else x for x in text)


def fill_bag(p, numbers):
    if p["then"] == "break":
        return max([0, *(total for total in itertools.accumulate(numbers) if total <= p["limit"])])
    return functools.reduce(lambda total, x: (total, total + x)[total + x <= p["limit"]], numbers, 0)


REFERENCES = {
    **{f.__name__: f for f in (two_sum, longest_run, is_palindrome, collatz_steps, maximum_subarray, binary_search)},
    **{f.__name__: f for f in (most_common, balanced_brackets, run_lengths, rotate, merge_sorted, fibonacci_like)},
    **{f.__name__: f for f in (coin_change, matching_letters, digit_sum, second_largest, prefix_extremes)},
    **{f.__name__: f for f in (first_missing, count_inversions, sum_of_peaks, interleave, bubble_pass)},
    **{f.__name__: f for f in (letter_numerals, caesar, fill_bag)},
    "count_above": lambda p, numbers: p["start"] + sum(COMPARE[p["op"]](number, p["k"]) for number in numbers),
    "count_bits": lambda p, n: p["weight"] * bin(n ^ p["mask"]).count("1"),
    "greatest_common_divisor": lambda p, a, b: COMPUTE[p["op"]](math.gcd(a, b + p["shift"]), p["k"]),
}

HAND_COMPUTED = [
    ("two_sum", {"op": "+", "k": 1, "base": 1}, ([2, 7, 4], 7), [1, 3]),
    ("two_sum", {"op": "*", "k": 2, "base": 2}, ([2, 7, 4], 9), []),
    ("count_above", {"op": ">=", "k": 6, "start": 2}, ([6, 5, 12, 0],), 4),
    ("longest_run", {"op": "<", "k": 9, "weight": 2}, ([1, 9, 3, 8, 2],), 6),
    ("is_palindrome", {"vowel": "a", "mark": "b"}, ("alb",), True),
    ("greatest_common_divisor", {"shift": 2, "op": "-", "k": 9}, (18, 10), -3),
    ("collatz_steps", {"start": 1, "stop": 2, "weight": 3}, (3,), 19),  # 3 10 5 16 8 4 (2)
    ("maximum_subarray", {"pick": "max", "start": 1, "k": 6}, ([9, 4, 10, 2],), 6),  # 3 - 2 + 4
    ("binary_search", {"op": "<", "k": 2, "base": 4}, ([1, 5, 5, 8], 3), 5),
    ("binary_search", {"op": "<=", "k": 2, "base": 4}, ([1, 5, 5, 8], 3), 7),
    ("balanced_brackets", {"opening": "<", "start": 1, "end": 0}, ("><>>",), False),
    ("balanced_brackets", {"opening": "<", "start": 1, "end": 0}, ("><>",), True),
    ("run_lengths", {"weight": 2, "mark": "-"}, ("aab",), "a-4b-2"),
    ("rotate", {"place": 1, "op": "-", "k": 3}, ([5, 6, 7], 2), [5, 3, 4]),
    ("merge_sorted", {"op": "+", "k": 2, "order": "<"}, ([1, 4, 9], [2, 3, 20]), [2, 3, 3, 6, 11, 20]),
    ("fibonacci_like", {"second": 2, "weight": 1, "modulus": 10}, (4, 1), 3),  # 1 2 3 5 8 (13)
    ("coin_change", {"large": 10, "small": 4}, (29,), 5),  # 2 of 10, 2 of 4, 1
    ("digit_sum", {"start": 1, "op": "-", "base": 10}, (47,), -10),
    ("second_largest", {"start": 6, "order": ">", "op": "+", "k": 2}, ([9, 3, 12, 7],), 11),
    ("first_missing", {"start": 2, "step": 3}, ([8, 2, 5, 0],), 11),
    ("bubble_pass", {"start": 0, "order": ">", "op": "+", "gap": 2}, ([5, 2, 4, 9],), [2, 5, 4, 9]),
    ("letter_numerals", {"low": 1, "middle": 5, "high": 10}, ("cab",), 14),
    ("caesar", {"order": ">", "pivot": "h", "k": 3}, ("hzk",), "hcn"),
    ("fill_bag", {"limit": 20, "then": "break"}, ([9, 12, 5],), 9),
    ("fill_bag", {"limit": 20, "then": "continue"}, ([9, 12, 5],), 14),
]


def drawn(n_each: int, seed: int = 0):
    return algorithms_programs([f"name{i}" for i in range(n_each * len(PROBLEMS))], random.Random(seed))


def parameters(program):
    facts = program.facts.items()
    return {fact.removeprefix("parameter_"): value for fact, value in facts if fact.startswith("parameter_")}


def traces(made):
    """A list per program with a trace per input. That they run at all says that each is within the whitelist."""
    programs, inputs = zip(*made, strict=True)
    return trace_programs(programs, inputs)


@pytest.fixture(scope="module")
def made():
    return drawn(n_each=12)


@pytest.fixture(scope="module")
def executed(made):
    return traces(made)


def test_every_program_agrees_with_its_reference(made, executed):
    assert set(REFERENCES) == set(PROBLEMS)
    assert Counter(program.facts["problem"] for program, _ in made) == dict.fromkeys(PROBLEMS, 12)
    for (program, inputs), runs in zip(made, executed, strict=True):
        found = [run.output for run in runs]
        reference = functools.partial(REFERENCES[program.facts["problem"]], parameters(program))
        wanted = [reference(*arguments) for arguments in inputs]
        assert found == wanted, program.source
        assert list(map(type, found)) == list(map(type, wanted)), program.source


@pytest.mark.parametrize(("problem", "chosen", "arguments", "output"), HAND_COMPUTED)
def test_hand_computed(problem, chosen, arguments, output):
    assert chosen in PROBLEMS[problem].combinations()
    program, _ = algorithm("name", problem, chosen, random.Random(0))
    ((run,),) = traces([(program, [arguments])])
    assert run.output == output
    assert REFERENCES[problem](chosen, *arguments) == output


def test_one_source_in_full():
    program, _ = algorithm("dax", "first_missing", {"start": 2, "step": 3}, random.Random(0))
    assert program.source == (
        "def dax(numbers):\n"
        "    candidate = 2\n"
        "    while candidate in numbers:\n"
        "        candidate += 3\n"
        "    return candidate"
    )
    assert program.name == "dax"
    assert program.family == "algorithms"
    assert program.facts == {"problem": "first_missing", "steps": 4, "parameter_start": 2, "parameter_step": 3}


def test_sources_are_canonical_and_all_distinct():
    assert len(PROBLEMS) >= 24
    sources = [problem.source("f", chosen) for problem in PROBLEMS.values() for chosen in problem.combinations()]
    assert len(set(sources)) == len(sources) >= 1500
    for source in sources:
        assert ast.unparse(ast.parse(source)) == source
        assert "NAME" not in source
        (function,) = ast.parse(source).body
        assert 3 <= len([node for node in ast.walk(function) if isinstance(node, ast.stmt)]) - 1 <= 9


def test_inputs_are_distinct_small_and_in_order(made):
    for program, inputs in made:
        assert len(set(map(repr, inputs))) == len(inputs) == 10
        assert inputs == sorted(inputs, key=input_size)
        for value in itertools.chain(*inputs):
            if isinstance(value, list):
                assert 3 <= len(value) <= 5, program.source
            elif isinstance(value, str) and program.facts["problem"] != "balanced_brackets":
                assert re.fullmatch("[a-z]{3,6}", value), program.source
            for part in value if isinstance(value, list) else [value]:
                assert isinstance(part, str) or -99 <= part <= 99, program.source


def test_input_size_puts_few_values_first_then_small_numbers():
    ordered = [(3, 1), ("ab",), (2, 9), ([1, 2], 0), ([1], -1, "a"), ("zzz", 1)]
    assert sorted(ordered, key=input_size)[:3] == [("ab",), (3, 1), (2, 9)]
    assert input_size(([4, -5], 2)) == (3, 11, "([4, -5], 2)")


def test_outputs_are_short_and_vary(made, executed):
    shares = {problem: [] for problem in PROBLEMS}
    for (program, _), runs in zip(made, executed, strict=True):
        found = [run.output for run in runs]
        assert all(isinstance(output, int) or len(output) <= 12 for output in found), program.source
        shares[program.facts["problem"]].append(Counter(map(repr, found)).most_common(1)[0][1] / len(found))
    assert statistics.median(itertools.chain(*shares.values())) <= 0.4
    for problem, of_each in shares.items():
        assert statistics.median(of_each) <= (0.7 if problem in TRUE_OR_FALSE else 0.5), problem


def test_every_number_on_the_way_has_two_digits_at_most(made, executed):
    for (program, _), runs in zip(made, executed, strict=True):
        for value in itertools.chain(*((*run.states, run.output) for run in runs)):
            for part in value if isinstance(value, list) else [value]:
                assert not isinstance(part, int) or -99 <= part <= 99, program.source


def test_no_program_changes_its_arguments(made):
    for program, inputs in made:
        scope: dict = {}
        exec(program.source, scope)
        for arguments in inputs:
            before = repr(arguments)
            scope[program.name](*arguments)
            assert repr(arguments) == before, program.source


def test_problems_take_turns_and_parameters_repeat_only_when_used_up():
    n_each = 40
    programs = [program for program, _ in drawn(n_each)]
    problems = [program.facts["problem"] for program in programs]
    assert set(problems[: len(PROBLEMS)]) == set(PROBLEMS)
    assert problems == problems[: len(PROBLEMS)] * n_each
    for problem in PROBLEMS:
        chosen = [tuple(parameters(program).items()) for program in programs if program.facts["problem"] == problem]
        available = len(PROBLEMS[problem].combinations())
        assert len(set(chosen[:available])) == len(chosen[:available])
        assert max(Counter(chosen).values()) == math.ceil(n_each / available)


def test_the_seed_decides():
    assert drawn(2, seed=5) == drawn(2, seed=5)
    assert drawn(2, seed=5) != drawn(2, seed=6)


def test_too_many_inputs_are_refused_by_name():
    chosen = PROBLEMS["collatz_steps"].combinations()[0]
    _, inputs = algorithm("name", "collatz_steps", chosen, random.Random(0), n_inputs=len(COLLATZ))
    assert sorted(inputs) == [(x,) for x in COLLATZ]
    with pytest.raises(PbbError, match="collatz_steps"):
        algorithm("name", "collatz_steps", chosen, random.Random(0), n_inputs=len(COLLATZ) + 1)


def test_collatz_numbers_are_the_tame_ones():
    def until_one(x):
        return [*itertools.takewhile(lambda y: y != 1, orbit(x)), 1]

    tame = [x for x in range(3, 82) if len(until_one(x)) <= 14 and max(until_one(x)) <= 99]
    assert list(COLLATZ) == tame
