"""The algorithms family: short classic problems, each with parameters that make many programs of it, and its inputs.

A problem is a source template. Its parameters are thresholds, moduli, start values, directions, increments; a choice
for each of them makes a program. No program is executed here: that the outputs vary is up to how inputs are drawn,
such as a target that is mostly one to be found.
"""

import ast
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Value, count_steps

Arguments = tuple[Value, ...]
Made = tuple[Program, list[Arguments]]
"""A program and the inputs it is to be run on."""
Parameters = Mapping[str, int | str]

ATTEMPTS = 100  # draws for each input asked for, before there are said to be too few distinct ones


@dataclass(frozen=True)
class Problem:
    """One problem: NAME stands for the function's name and `{k}` for its parameter k."""

    template: str
    values: Mapping[str, Sequence[int | str]]
    """The values of each parameter."""
    draw: Callable[..., Arguments]
    """One input at random: called with the generator and the parameters by name."""

    def source(self, name: str, parameters: Parameters) -> str:
        """The canonical source: the layout of `ast.unparse`."""
        text = self.template.replace("NAME", name)
        for parameter, value in parameters.items():
            text = text.replace("{" + parameter + "}", str(value))
        return ast.unparse(ast.parse(text))

    def combinations(self) -> list[Parameters]:
        """Every choice of parameters, in a fixed order."""
        return [dict(zip(self.values, chosen, strict=True)) for chosen in itertools.product(*self.values.values())]


def algorithms_programs(names: list[str], rng: random.Random, n_inputs: int = 10) -> list[Made]:
    """A program a name with `n_inputs` distinct inputs, the problems in turn in a shuffled order.

    A problem's parameters repeat only when it has too few of them. Inputs come small to large, as `input_size` says.
    """
    turns = itertools.cycle(rng.sample(list(PROBLEMS), len(PROBLEMS)))
    pools = {problem: _endless(PROBLEMS[problem].combinations(), rng) for problem in PROBLEMS}
    return [
        algorithm(name, problem, next(pools[problem]), rng, n_inputs)
        for name, problem in zip(names, turns, strict=False)
    ]


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
    """What inputs are ordered by: how many values (or letters) they hold, the sum of the numbers, then their text."""
    parts = [list(value) if isinstance(value, list | str) else [value] for value in arguments]
    held = list(itertools.chain(*parts))
    return len(held), sum(abs(value) for value in held if isinstance(value, int)), repr(arguments)


def _endless(combinations: list[Parameters], rng: random.Random) -> Iterator[Parameters]:
    while True:
        yield from rng.sample(combinations, len(combinations))


def _ints(rng: random.Random, high: int = 20, least: int = 3, most: int = 5) -> list[int]:
    return [rng.randint(0, high) for _ in range(rng.randint(least, most))]


def _word(rng: random.Random, letters: str = "abcdefghijklmnopqrstuvwxyz", least: int = 3, most: int = 6) -> str:
    return "".join(rng.choices(letters, k=rng.randint(least, most)))


def _numbers(rng: random.Random, **_: int | str) -> Arguments:
    return (_ints(rng),)


def _pair_to_find(rng: random.Random, op: str, k: int, base: int) -> Arguments:
    """The target is most often made from two of the numbers."""
    numbers = _ints(rng, high=9)
    first, second = sorted(rng.sample(range(len(numbers)), 2))
    a, b = numbers[first], numbers[second]
    made = {"+": a + b, "-": a - b, "*": a * b}[op] + k
    return numbers, made if rng.random() < 0.8 else rng.randint(0, 20)


def _nearly_palindrome(rng: random.Random, vowel: str, mark: str) -> Arguments:
    """Half of them read the same both ways, once the vowel is taken for the mark."""
    half = _word(rng, vowel + mark + "lr", 2, 3)
    mirrored = half + half[::-1][rng.randint(0, 1) :]
    letters = [rng.choice(vowel + mark) if letter in vowel + mark else letter for letter in mirrored]
    if rng.random() < 0.5:
        letters[rng.choice([0, -1])] = rng.choice("mnxz")
    return ("".join(letters),)


def _brackets(rng: random.Random, opening: str, start: int, end: int) -> Arguments:
    """Most often as many of each as lead from `start` to `end`: then the order decides."""
    closing = {"(": ")", "[": "]", "<": ">", "{": "}"}[opening]
    length = rng.choice([n for n in range(3, 7) if (n + end - start) % 2 == 0])
    n_opening = (length + end - start) // 2
    symbols = [*opening * n_opening, *closing * (length - n_opening)]
    for _ in range(rng.randint(0, 2)):  # all opened first is balanced, and a few swaps may leave it so
        i, j = rng.choices(range(length), k=2)
        symbols[i], symbols[j] = symbols[j], symbols[i]
    if rng.random() < 0.07 * (1 + start + end):  # the deeper, the less the order matters
        return (_word(rng, opening + closing),)
    return ("".join(symbols),)


def _numbers_and_gap(rng: random.Random, start: int, step: int) -> Arguments:
    """Up to four of the numbers that are tried first, among others."""
    tried = [start + step * i for i in range(rng.randint(0, 4))]
    numbers = tried + _ints(rng, least=max(0, 3 - len(tried)), most=5 - len(tried))
    rng.shuffle(numbers)
    return (numbers,)


def _partly_equal(rng: random.Random, **_: int | str) -> Arguments:
    left = _word(rng)
    return left, "".join(rng.choice(letter + chr(rng.randint(97, 122))) for letter in left)


def _runs(rng: random.Random, **_: int | str) -> Arguments:
    return ("".join(letter * rng.randint(1, 3) for letter in rng.sample("abcxyz", 3))[: rng.randint(3, 6)],)


COMPARISONS = ("<", "<=", ">", ">=")
UP_OR_DOWN = ("<", ">")
COLLATZ = (3, 4, 5, 6, 8, 10, 12, 13, 16, 17, 20, 21, 24, 26, 32, 34, 40, 42, 48, 52, 64, 80)
"""Numbers that reach 1 within 13 halvings or `3 * x + 1`, without passing 99."""

PROBLEMS: dict[str, Problem] = {
    "two_sum": Problem(
        """def NAME(numbers, target):
            for i in range(len(numbers)):
                for j in range(i + 1, len(numbers)):
                    if numbers[i] {op} numbers[j] + {k} == target:
                        return [i + {base}, j + {base}]
            return []""",
        {"op": "+-*", "k": range(1, 11), "base": range(1, 3)},
        _pair_to_find,
    ),
    "count_above": Problem(
        """def NAME(numbers):
            count = {start}
            for number in numbers:
                if number {op} {k}:
                    count += 1
            return count""",
        {"op": COMPARISONS, "k": range(6, 14), "start": range(3)},
        _numbers,
    ),
    "longest_run": Problem(
        """def NAME(numbers):
            best = 0
            run = 0
            for number in numbers:
                run = run + {weight} if number {op} {k} else 0
                best = max(best, run)
            return best""",
        {"op": COMPARISONS, "k": range(6, 14), "weight": range(1, 4)},
        _numbers,
    ),
    "is_palindrome": Problem(
        """def NAME(text):
            text = text.replace('{vowel}', '{mark}')
            for i in range(len(text) // 2):
                if text[i] != text[len(text) - 1 - i]:
                    return False
            return True""",
        {"vowel": "aeiou", "mark": "bcdfghkpstvw"},
        _nearly_palindrome,
    ),
    "greatest_common_divisor": Problem(
        """def NAME(a, b):
            b += {shift}
            while b > 0:
                rest = a % b
                a = b
                b = rest
            return a {op} {k}""",
        {"shift": range(1, 6), "op": "+-", "k": range(1, 10)},
        lambda rng, shift, op, k: (
            (divisor := rng.randint(1, 7)) * rng.randint(1, 9),
            divisor * rng.randint(6, 9) - shift,
        ),
    ),
    "collatz_steps": Problem(
        """def NAME(x):
            count = {start}
            while x > {stop}:
                if x % 2 == 0:
                    x //= 2
                else:
                    x = 3 * x + 1
                count += {weight}
            return count""",
        {"start": range(5), "stop": range(1, 6), "weight": range(1, 4)},
        lambda rng, start, stop, weight: (rng.choice(COLLATZ),),
    ),
    "maximum_subarray": Problem(
        """def NAME(numbers):
            best = {start}
            total = {start}
            for number in numbers:
                total = {pick}({start}, total + number - {k})
                best = {pick}(best, total)
            return best""",
        {"pick": ("max", "min"), "start": range(4), "k": range(6, 15)},
        _numbers,
    ),
    "binary_search": Problem(
        """def NAME(numbers, target):
            low = 0
            high = len(numbers)
            while low < high:
                middle = (low + high) // 2
                if numbers[middle] {op} target + {k}:
                    low = middle + 1
                else:
                    high = middle
            return low + {base}""",
        {"op": ("<", "<="), "k": range(1, 10), "base": range(1, 5)},
        lambda rng, op, k, base: (numbers := sorted(_ints(rng)), rng.choice([*numbers, *_ints(rng, 22)]) - k),
    ),
    "most_common": Problem(
        """def NAME(numbers):
            rests = [(number + {k}) % {modulus} for number in numbers]
            best = rests[0]
            for rest in rests:
                if rests.count(rest) {op} rests.count(best):
                    best = rest
            return best""",
        {"k": range(1, 6), "modulus": range(5, 11), "op": (">", ">=")},
        _numbers,
    ),
    "balanced_brackets": Problem(
        """def NAME(text):
            depth = {start}
            for symbol in text:
                depth += 1 if symbol == '{opening}' else -1
                if depth < 0:
                    return False
            return depth == {end}""",
        {"opening": "([<{", "start": range(4), "end": range(4)},
        _brackets,
    ),
    "run_lengths": Problem(
        """def NAME(text):
            result = ''
            count = 0
            for i in range(len(text)):
                count += {weight}
                if i + 1 == len(text) or text[i + 1] != text[i]:
                    result += text[i] + '{mark}' + str(count)
                    count = 0
            return result""",
        {"weight": range(1, 7), "mark": "-.:=*+/^!~"},
        _runs,
    ),
    "rotate": Problem(
        """def NAME(numbers, times):
            result = numbers[:]
            for turn in range(times):
                moved = result.pop({place})
                result.append(moved {op} {k})
            return result""",
        {"place": range(3), "op": "+-", "k": range(1, 10)},
        lambda rng, place, op, k: (_ints(rng), rng.randint(1, 5)),
    ),
    "merge_sorted": Problem(
        """def NAME(left, right):
            merged = []
            i = 0
            for number in left:
                number {op}= {k}
                while i < len(right) and right[i] {order} number:
                    merged.append(right[i])
                    i += 1
                merged.append(number)
            return merged + right[i:]""",
        {"op": "+-", "k": range(1, 16), "order": UP_OR_DOWN},
        lambda rng, op, k, order: tuple(sorted(_ints(rng, most=3), reverse=order == ">") for _ in range(2)),
    ),
    "fibonacci_like": Problem(
        """def NAME(n, a):
            b = {second}
            for i in range(n):
                total = (a + {weight} * b) % {modulus}
                a = b
                b = total
            return b""",
        {"second": range(1, 6), "weight": range(1, 5), "modulus": (10, 20, 50, 100)},
        lambda rng, second, weight, modulus: (rng.randint(1, 6), rng.randint(1, 9)),
    ),
    "coin_change": Problem(
        """def NAME(amount):
            count = 0
            for coin in [{large}, {small}, 1]:
                count += amount // coin
                amount %= coin
            return count""",
        {"large": range(8, 21), "small": range(2, 8)},
        lambda rng, large, small: (rng.randint(5, 80),),
    ),
    "matching_letters": Problem(
        """def NAME(left, right):
            score = {start}
            for a, b in zip(left, right):
                if a == b:
                    score += {match}
                else:
                    score -= {miss}
            return score""",
        {"start": range(4), "match": range(1, 6), "miss": range(1, 5)},
        _partly_equal,
    ),
    "digit_sum": Problem(
        """def NAME(n):
            total = {start}
            while n > 0:
                total {op}= n % {base}
                n //= {base}
            return total""",
        {"start": range(5), "op": "+-", "base": range(3, 11)},
        lambda rng, start, op, base: (rng.randint(1, 99),),
    ),
    "second_largest": Problem(
        """def NAME(numbers):
            first = {start}
            second = {start}
            for number in numbers:
                if number {order} first:
                    second = first
                    first = number
                elif number {order} second:
                    second = number
            return second {op} {k}""",
        {"start": range(6, 12), "order": UP_OR_DOWN, "op": "+-", "k": range(1, 4)},
        _numbers,
    ),
    "prefix_extremes": Problem(
        """def NAME(numbers):
            result = []
            best = {start}
            for number in numbers:
                best = {pick}(best, number {op} {k})
                result.append(best)
            return result""",
        {"start": (8, 12), "pick": ("max", "min"), "op": "+-", "k": range(1, 10)},
        _numbers,
    ),
    "first_missing": Problem(
        """def NAME(numbers):
            candidate = {start}
            while candidate in numbers:
                candidate += {step}
            return candidate""",
        {"start": range(12), "step": range(1, 7)},
        _numbers_and_gap,
    ),
    "count_inversions": Problem(
        """def NAME(numbers):
            count = 0
            for i in range(len(numbers)):
                for j in range(i + 1, len(numbers)):
                    if numbers[i] {order} numbers[j] + {gap}:
                        count += {weight}
            return count""",
        {"order": UP_OR_DOWN, "gap": range(1, 10), "weight": range(1, 4)},
        lambda rng, order, gap, weight: (_ints(rng, least=4),),
    ),
    "sum_of_peaks": Problem(
        """def NAME(numbers):
            total = {start}
            for i in range(1, len(numbers) - 1):
                if numbers[i] {order} numbers[i - 1] and numbers[i] {order} numbers[i + 1]:
                    total {op}= numbers[i]
            return total""",
        {"start": range(10), "order": COMPARISONS, "op": "+-"},
        lambda rng, start, order, op: (_ints(rng, least=4),),
    ),
    "interleave": Problem(
        """def NAME(left, right):
            result = '{first}'
            for i in range(min(len(left), len(right))):
                if i % {modulus} == {rest}:
                    result += left[i]
                else:
                    result += right[i]
            return result""",
        {"first": "bdghkmpswz", "modulus": range(2, 5), "rest": range(2)},
        lambda rng, first, modulus, rest: (_word(rng), _word(rng)),
    ),
    "bubble_pass": Problem(
        """def NAME(numbers):
            result = numbers[:]
            for i in range({start}, len(result) - 1):
                if result[i] {order} result[i + 1] {op} {gap}:
                    held = result[i]
                    result[i] = result[i + 1]
                    result[i + 1] = held
            return result""",
        {"start": range(2), "order": UP_OR_DOWN, "op": "+-", "gap": range(1, 10)},
        _numbers,
    ),
    "count_bits": Problem(
        """def NAME(n):
            n ^= {mask}
            count = 0
            while n > 0:
                count += n % 2 * {weight}
                n //= 2
            return count""",
        {"mask": range(1, 32), "weight": range(1, 4)},
        lambda rng, mask, weight: (rng.randint(1, 63),),
    ),
    "letter_numerals": Problem(
        """def NAME(text):
            values = {'a': {low}, 'b': {middle}, 'c': {high}}
            total = 0
            for i in range(len(text)):
                if i + 1 < len(text) and values[text[i]] < values[text[i + 1]]:
                    total -= values[text[i]]
                else:
                    total += values[text[i]]
            return total""",
        {"low": range(1, 4), "middle": range(4, 8), "high": range(8, 13)},
        lambda rng, low, middle, high: (_word(rng, "abc"),),
    ),
    "caesar": Problem(
        """def NAME(text):
            result = ''
            for letter in text:
                if letter {order} '{pivot}':
                    letter = chr((ord(letter) - 97 + {k}) % 26 + 97)
                result += letter
            return result""",
        {"order": UP_OR_DOWN, "pivot": "hkmpr", "k": range(1, 10)},
        lambda rng, order, pivot, k: (_word(rng),),
    ),
    "fill_bag": Problem(
        """def NAME(numbers):
            total = 0
            for number in numbers:
                if total + number > {limit}:
                    {then}
                total += number
            return total""",
        {"limit": range(14, 44), "then": ("break", "continue")},
        _numbers,
    ),
}
