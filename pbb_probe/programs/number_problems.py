"""The algorithms family's problems on numbers and lists of numbers."""

import random

from pbb_probe.programs.problem import COMPARISONS, UP_OR_DOWN, Arguments, Problem, whole_numbers

COLLATZ = (3, 4, 5, 6, 8, 10, 12, 13, 16, 17, 20, 21, 24, 26, 32, 34, 40, 42, 48, 52, 64, 80)
"""Numbers that reach 1 within 13 halvings or `3 * x + 1`, without passing 99."""


def _one_list(rng: random.Random, **_: int | str) -> Arguments:
    return (whole_numbers(rng),)


def _pair_to_find(rng: random.Random, op: str, k: int, base: int) -> Arguments:
    """The target is most often made from two of the numbers."""
    numbers = whole_numbers(rng, high=9)
    first, second = sorted(rng.sample(range(len(numbers)), 2))
    a, b = numbers[first], numbers[second]
    made = {"+": a + b, "-": a - b, "*": a * b}[op] + k
    return numbers, made if rng.random() < 0.8 else rng.randint(0, 20)


def _first_numbers_with_gaps(rng: random.Random, start: int, step: int) -> Arguments:
    """Up to four of the numbers that are tried first, among others."""
    tried = [start + step * i for i in range(rng.randint(0, 4))]
    numbers = tried + whole_numbers(rng, least=max(0, 3 - len(tried)), most=5 - len(tried))
    rng.shuffle(numbers)
    return (numbers,)


NUMBER_PROBLEMS: dict[str, Problem] = {
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
        _one_list,
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
        _one_list,
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
        _one_list,
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
        lambda rng, op, k, base: (
            numbers := sorted(whole_numbers(rng)),
            rng.choice([*numbers, *whole_numbers(rng, 22)]) - k,
        ),
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
        _one_list,
    ),
    "rotate": Problem(
        """def NAME(numbers, times):
            result = numbers[:]
            for turn in range(times):
                moved = result.pop({place})
                result.append(moved {op} {k})
            return result""",
        {"place": range(3), "op": "+-", "k": range(1, 10)},
        lambda rng, place, op, k: (whole_numbers(rng), rng.randint(1, 5)),
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
        lambda rng, op, k, order: tuple(sorted(whole_numbers(rng, most=3), reverse=order == ">") for _ in range(2)),
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
        _one_list,
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
        _one_list,
    ),
    "first_missing": Problem(
        """def NAME(numbers):
            candidate = {start}
            while candidate in numbers:
                candidate += {step}
            return candidate""",
        {"start": range(12), "step": range(1, 7)},
        _first_numbers_with_gaps,
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
        lambda rng, order, gap, weight: (whole_numbers(rng, least=4),),
    ),
    "sum_of_peaks": Problem(
        """def NAME(numbers):
            total = {start}
            for i in range(1, len(numbers) - 1):
                if numbers[i] {order} numbers[i - 1] and numbers[i] {order} numbers[i + 1]:
                    total {op}= numbers[i]
            return total""",
        {"start": range(10), "order": COMPARISONS, "op": "+-"},
        lambda rng, start, order, op: (whole_numbers(rng, least=4),),
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
        _one_list,
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
    "fill_bag": Problem(
        """def NAME(numbers):
            total = 0
            for number in numbers:
                if total + number > {limit}:
                    {then}
                total += number
            return total""",
        {"limit": range(14, 44), "then": ("break", "continue")},
        _one_list,
    ),
}
