"""Parts of sentences: numbers, steps and lists as words, and which calls a figure is of."""

from collections.abc import Sequence
from typing import Any

from pbb_probe.views.pairs import in_order

Kind = tuple[str, int]
"""A group and a number of steps."""

SUBSETS = {
    "decisive": "decisive calls of new functions answered right",
    "all": "all calls",
    "correct": "only calls answered correctly",
    "matched": "pairs of which all four calls are answered correctly",
}
SHORT_SUBSETS = {
    "decisive": "decisive, new, answered right",
    "all": "all calls",
    "correct": "answered right",
    "matched": "swapped calls right too",
}
"""The same where there is little room, as beside a control."""


def short(value: float, digits: int = 3) -> str:
    """A number with at most so many digits behind the point."""
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def steps_words(steps: Any) -> str:
    """A number of steps, such as `1 step`."""
    return f"{steps} step{'s' * (str(steps) != '1')}"


def and_words(words: Sequence[str]) -> str:
    """Such as `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def sentences(said: Sequence[str]) -> str:
    """Each as a sentence of its own."""
    return " ".join(f"{line[0].upper()}{line[1:]}." for line in said)


def kinds_words(kinds: Sequence[Kind]) -> str:
    """Such as `with_io and io_only, 1 and 2 steps; without_io, 1 step`: groups of as many steps together."""
    of_group = {group: tuple(sorted(n for g, n in kinds if g == group)) for group in in_order(g for g, _ in kinds)}
    alike: dict[tuple[int, ...], list[str]] = {}
    for group, numbers in of_group.items():
        alike.setdefault(numbers, []).append(group)
    steps = {and_words(groups): list(numbers) for numbers, groups in alike.items()}
    return "; ".join(f"{g}, {and_words([str(n) for n in own])} step{'s' * (own != [1])}" for g, own in steps.items())
