"""Random draws from a pool: without end, or without repetition."""

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


def endless(pool: Sequence[T], rng: random.Random) -> Iterator[T]:
    """The whole pool in random order, again and again: nothing repeats before everything has come once."""
    while True:
        yield from rng.sample(pool, len(pool))


def distinct(draw: Callable[[], H]) -> Iterator[H]:
    """Draws without repetition, from pools too large to list or to exhaust."""
    seen = set()
    while True:
        if (drawn := draw()) not in seen:
            seen.add(drawn)
            yield drawn
