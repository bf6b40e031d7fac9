"""The ciphers family: functions of one short lower-case word that return one, so that they compose with one another.

A cipher is a template of Python text into which its key is written as constants. Ten are classic; five were invented
here, so that no model has met them. Letters are a to z, numbered from 0. No two programs are the same function under
different names, and the inputs are real words: what a program would naturally be called on.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pbb_probe.programs.cipher_keys import (
    LETTERS,
    WORDS,
    Key,
    column_orders,
    keyed_alphabets,
    multiplied,
    pairs,
    zigzags,
)
from pbb_probe.programs.program import Program, Value, count_steps


@dataclass(frozen=True)
class Cipher:
    """One way to encrypt a word."""

    name: str
    template: str
    """The source, with NAME for the function's name and KEY_1, KEY_2 for the parts of the key."""
    keys: tuple[Key, ...]
    """Every key it is used with."""

    def draw_keys(self, rng: random.Random) -> list[Key]:
        """All the keys, each once, in random order."""
        return rng.sample(self.keys, len(self.keys))

    def source(self, name: str, key: Key) -> str:
        """The source of a function called `name` that encrypts with `key`."""
        text = self.template
        for k, part in enumerate(key, start=1):
            text = text.replace(f"KEY_{k}", repr(part))
        return text.replace("NAME", name)

    def program(self, name: str, key: Key) -> Program:
        """The program called `name`; its facts are cipher, steps and key (a key of several parts as one string)."""
        source = self.source(name, key)
        steps = count_steps(source)
        whole = key[0] if len(key) == 1 else " ".join(map(str, key))
        return Program(name, "ciphers", source, {"cipher": self.name, "steps": steps, "key": whole})


Made = tuple[Program, list[tuple[Value, ...]]]
"""A program and its inputs."""


def ciphers_programs(names: list[str], rng: random.Random, n_inputs: int = 10) -> list[Made]:
    """A program for each name, with `n_inputs` different words as its inputs, from common to rare.

    The ciphers take turns in a shuffled order. One that has used up its keys waits until all of them have, so that no
    function repeats before every function has come once.
    """
    draw = ciphers_draws(rng, n_inputs)
    return [draw(place)(name) for place, name in enumerate(names)]


def ciphers_draws(rng: random.Random, n_inputs: int = 10) -> Callable[[int], Callable[[str], Made]]:
    """What draws the program at a place, as a function of its name; it comes with its inputs."""
    turns = _turns(rng)

    def draw(place: int) -> Callable[[str], Made]:
        cipher, key = next(turns)
        return lambda name: (cipher.program(name, key), _inputs(rng, n_inputs))

    return draw


def _turns(rng: random.Random) -> Iterator[tuple[Cipher, Key]]:
    order = rng.sample(list(CIPHERS.values()), len(CIPHERS))
    while True:
        unused = [(cipher, cipher.draw_keys(rng)) for cipher in order]
        while any(keys for _, keys in unused):
            for cipher, keys in unused:
                if keys:
                    yield cipher, keys.pop()


def _inputs(rng: random.Random, number: int) -> list[tuple[Value, ...]]:
    return [(WORDS[rank],) for rank in sorted(rng.sample(range(len(WORDS)), number))]


_CLASSIC = (
    Cipher(
        "shift",  # Caesar's
        """\
def NAME(text):
    result = ''
    for letter in text:
        result += chr((ord(letter) - 97 + KEY_1) % 26 + 97)
    return result""",
        tuple((shift,) for shift in range(1, 26)),
    ),
    Cipher(
        "affine",  # but not by 1 or 25, which are the shift and the reflection
        """\
def NAME(text):
    result = ''
    for letter in text:
        number = ord(letter) - 97
        result += chr((KEY_1 * number + KEY_2) % 26 + 97)
    return result""",
        tuple((factor, shift) for factor in range(3, 25, 2) if factor != 13 for shift in range(1, 26)),
    ),
    Cipher(
        "vigenere",
        """\
def NAME(text):
    key = KEY_1
    result = ''
    for i, letter in enumerate(text):
        shift = ord(key[i % len(key)]) - 97
        result += chr((ord(letter) - 97 + shift) % 26 + 97)
    return result""",
        tuple((word,) for word in WORDS),
    ),
    Cipher(
        "substitution",
        """\
def NAME(text):
    table = KEY_1
    result = ''
    for letter in text:
        result += table[ord(letter) - 97]
    return result""",
        keyed_alphabets(),
    ),
    Cipher(
        "columnar",  # written in rows under the key, read by columns in the order of the key's letters
        """\
def NAME(text):
    key = KEY_1
    result = ''
    for letter in sorted(key):
        column = key.index(letter)
        result += text[column::len(key)]
    return result""",
        column_orders(),
    ),
    Cipher(
        "rail_fence",  # the second part of the key is the place on the zigzag of the first letter
        """\
def NAME(text):
    rails = KEY_1
    period = 2 * rails - 2
    result = ''
    for rail in range(rails):
        for i, letter in enumerate(text, KEY_2):
            step = i % period
            if min(step, period - step) == rail:
                result += letter
    return result""",
        zigzags(),
    ),
    Cipher(
        "reflection",  # 25 is Atbash
        """\
def NAME(text):
    alphabet = 'abcdefghijklmnopqrstuvwxyz'
    result = ''
    for letter in text:
        result += alphabet[(KEY_1 - alphabet.index(letter)) % 26]
    return result""",
        tuple((offset,) for offset in range(26)),
    ),
    Cipher(
        "autokey",  # primers are shorter than any word, which makes the word its own key
        """\
def NAME(text):
    stream = KEY_1 + text
    result = ''
    for i, letter in enumerate(text):
        shift = ord(stream[i]) - 97
        result += chr((ord(letter) - 97 + shift) % 26 + 97)
    return result""",
        tuple(("".join(primer),) for length in (1, 2) for primer in itertools.product(LETTERS, repeat=length)),
    ),
    Cipher(
        "beaufort",
        """\
def NAME(text):
    key = KEY_1
    result = ''
    for i, letter in enumerate(text):
        number = ord(key[i % len(key)]) - ord(letter)
        result += chr(number % 26 + 97)
    return result""",
        tuple((word,) for word in WORDS),
    ),
    Cipher(
        "progressive",  # from 0 by 1 it is Trithemius's
        """\
def NAME(text):
    shift = KEY_1
    result = ''
    for letter in text:
        result += chr((ord(letter) - 97 + shift) % 26 + 97)
        shift += KEY_2
    return result""",
        pairs(range(26), range(1, 26)),
    ),
)

_OURS = (
    Cipher(
        "linked",  # shifted by a multiple of the letter before, then neighbours change places
        """\
def NAME(text):
    previous = KEY_2
    result = ''
    for letter in text:
        number = ord(letter) - 97
        result += chr((number + KEY_1 * previous) % 26 + 97)
        previous = number
    return ''.join([result[i:i + 2][::-1] for i in range(0, len(result), 2)])""",
        multiplied(range(1, 26)),
    ),
    Cipher(
        "parity",  # every second letter reflected, the others shifted by the word's length and a constant
        """\
def NAME(text):
    result = ''
    for i, letter in enumerate(text):
        number = ord(letter) - 97
        if i % 2 == 1:
            number = KEY_1 - number
        else:
            number += len(text) + KEY_2
        result += chr(number % 26 + 97)
    return result""",
        pairs(range(26), range(1, 26)),
    ),
    Cipher(
        "chain",  # each letter of the result is a multiple of the one before it plus the word's letter
        """\
def NAME(text):
    total = KEY_2
    result = ''
    for letter in text:
        total = (KEY_1 * total + ord(letter) - 97) % 26
        result += chr(total + 97)
    return result""",
        multiplied(range(1, 26)),
    ),
    Cipher(
        "vowels",  # vowels turn into vowels and consonants into consonants
        """\
def NAME(text):
    vowels = 'aeiou'
    consonants = 'bcdfghjklmnpqrstvwxyz'
    result = ''
    for letter in text:
        if letter in vowels:
            result += vowels[(vowels.index(letter) + KEY_1) % 5]
        else:
            result += consonants[(consonants.index(letter) + KEY_2) % 21]
    return result""",
        pairs(range(1, 5), range(1, 21)),
    ),
    Cipher(
        "peel",  # letters are taken from the two ends in turn, the last one first, under a growing shift
        """\
def NAME(text):
    rest = text
    shift = KEY_1
    result = ''
    while rest:
        result += chr((ord(rest[-1]) - 97 + shift) % 26 + 97)
        rest = rest[:-1][::-1]
        shift += KEY_2
    return result""",
        pairs(range(26), range(1, 26)),
    ),
)

CIPHERS: dict[str, Cipher] = {cipher.name: cipher for cipher in (*_CLASSIC, *_OURS)}
