"""The algorithms family's problems on text."""

import random

from pbb_probe.programs.problem import UP_OR_DOWN, Arguments, Problem, word


def _nearly_palindrome(rng: random.Random, vowel: str, mark: str) -> Arguments:
    """Half of them read the same both ways, once the vowel is taken for the mark."""
    half = word(rng, vowel + mark + "lr", 2, 3)
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
        return (word(rng, opening + closing),)
    return ("".join(symbols),)


def _partly_equal_words(rng: random.Random, **_: int | str) -> Arguments:
    left = word(rng)
    return left, "".join(rng.choice(letter + chr(rng.randint(97, 122))) for letter in left)


def _runs_of_letters(rng: random.Random, **_: int | str) -> Arguments:
    return ("".join(letter * rng.randint(1, 3) for letter in rng.sample("abcxyz", 3))[: rng.randint(3, 6)],)


TEXT_PROBLEMS: dict[str, Problem] = {
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
        _runs_of_letters,
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
        _partly_equal_words,
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
        lambda rng, first, modulus, rest: (word(rng), word(rng)),
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
        lambda rng, low, middle, high: (word(rng, "abc"),),
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
        lambda rng, order, pivot, k: (word(rng),),
    ),
}
