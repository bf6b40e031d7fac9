"""Nonsense words: names that mean nothing to a model before it is finetuned."""

import itertools
import random
from collections.abc import Iterator

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_CODAS = "bdgklmnprstx"

PACKAGED = 2048
"""The first `PACKAGED` words are single tokens of the packaged tokenizer."""


def nonsense_words(n: int = PACKAGED) -> list[str]:
    """The first `n` words of one fixed sequence, such as `dolvik` (C V C C V C, of which there are 847,000).

    The sequence never changes, so that a word is a single token of the packaged tokenizer exactly when
    its index is below `PACKAGED`.
    """
    return list(itertools.islice(every_word(), n))


def every_word() -> Iterator[str]:
    """The whole sequence; after its last word it never returns."""
    rng = random.Random("nonsense words")
    words: set[str] = set()
    while True:
        parts = (_CONSONANTS, _VOWELS, _CODAS, _CONSONANTS, _VOWELS, _CODAS)
        word = "".join(rng.choice(part) for part in parts)
        if word not in words:
            words.add(word)
            yield word
