"""Nonsense words: names that mean nothing to a model before it is finetuned."""

import random

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
    rng = random.Random("nonsense words")
    words: dict[str, None] = {}
    while len(words) < n:
        parts = (_CONSONANTS, _VOWELS, _CODAS, _CONSONANTS, _VOWELS, _CODAS)
        words["".join(rng.choice(part) for part in parts)] = None
    return list(words)
