"""Random draws from a pool: without end, or without repetition."""

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


def endless(pool: Sequence[T], rng: random.Random) -> Iterator[T]:
    """All that is in the pool in random order, again and again: nothing comes twice before everything came once."""
    while True:
        yield from rng.sample(pool, len(pool))


def distinct(draw: Callable[[], H]) -> Iterator[H]:
    """What is drawn, without repetition: for pools too large to list and to use up."""
    seen = set()
    while True:
        if (drawn := draw()) not in seen:
            seen.add(drawn)
            yield drawn
