"""The ciphers family: functions of one short lower-case word that return one, so that they compose with one another.

A cipher is a template of Python text with its key written into it as constants. Ten are the classic ones; five are
nobody's, so that no model has met them. Letters are a to z throughout, numbered from 0. No two programs are the same
function under different names, and the inputs are real words: what a program would naturally be called on.
"""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from pbb_probe.programs.program import Program, Value, count_steps

LETTERS = "abcdefghijklmnopqrstuvwxyz"

_BY_FREQUENCY = """
    the and that have for not with you this but his from they say her she will one all would there their what out about
    who get which when make can like time just him know take people into year your good some could them see other than
    then now look only come its over think also back after use two how our work first well way even new want any these
    give day most life child world school state house night water hand part place week point home story fact month right
    study book eye job word issue side kind head friend power hour game line end member car city name team minute idea
    body parent face level office door health person art war party result change reason girl guy moment air food table
    dinner summer garden market paper window letter street river doctor music bridge winter forest stone horse island
    corner silver bread coffee kitten engine ladder butter orange basket pencil saddle anchor badger cactus helmet
    kettle maple napkin oyster pebble quiver tunnel lemon rabbit carpet pepper candle magnet wagon violin wizard parrot
    hammer puddle walnut beetle magpie turnip sorrel gravel cobalt goblet ferret trowel zephyr quartz fjord
"""
WORDS = tuple(_BY_FREQUENCY.split())
"""Words of three to six letters, from common to rare. Some of them serve as keys as well."""

Key = tuple[int | str, ...]
"""The constants of one program, in the order in which its template numbers them."""


@dataclass(frozen=True)
class Cipher:
    """One way of writing a word differently."""

    name: str
    template: str
    """The source, with NAME for the function's name and KEY_1, KEY_2 for the parts of the key."""
    keys: tuple[Key, ...]
    """Every key it is used with."""

    def draw_keys(self, rng: random.Random) -> list[Key]:
        """All the keys, each once, in random order."""
        return rng.sample(self.keys, len(self.keys))

    def source(self, name: str, key: Key) -> str:
        """The source of a function called `name` that enciphers with `key`."""
        text = self.template
        for k, part in enumerate(key, start=1):
            text = text.replace(f"KEY_{k}", repr(part))
        return text.replace("NAME", name)

    def program(self, name: str, key: Key) -> Program:
        """The program called `name`, with cipher, steps and key as its facts: a key of several parts as one string."""
        source = self.source(name, key)
        steps = count_steps(source)
        whole = key[0] if len(key) == 1 else " ".join(map(str, key))
        return Program(name, "ciphers", source, {"cipher": self.name, "steps": steps, "key": whole})


def ciphers_programs(
    names: list[str], rng: random.Random, n_inputs: int = 10
) -> list[tuple[Program, list[tuple[Value, ...]]]]:
    """A program a name, each with `n_inputs` different words as its inputs, from common to rare.

    The ciphers take turns in a shuffled order. One that has used up its keys sits out until all of them have, so that
    no function comes twice before every one has come once.
    """
    return [
        (cipher.program(name, key), _inputs(rng, n_inputs))
        for name, (cipher, key) in zip(names, _turns(rng), strict=False)
    ]


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


def _pairs(first: range, second: range) -> tuple[Key, ...]:
    return tuple(itertools.product(first, second))


def _multiplied(factors: range) -> tuple[Key, ...]:
    """A factor, and a start that it multiplies modulo 26: of the starts with equal products only the smallest."""
    return tuple((factor, start) for factor in factors for start in range(26 // math.gcd(factor, 26)))


def _keyed_alphabets() -> tuple[Key, ...]:
    """The letters of two words in the order of their first appearance, then the rest of the alphabet."""
    alphabets = ("".join(dict.fromkeys(a + b + LETTERS)) for a, b in zip(WORDS, reversed(WORDS), strict=True))
    return tuple((alphabet,) for alphabet in dict.fromkeys(alphabets))


def _column_orders() -> tuple[Key, ...]:
    """The orders of three to five columns. The first three are never in sequence, so that any three letters move."""
    orders = (order for width in range(3, 6) for order in itertools.permutations(LETTERS[:width]))
    return tuple(("".join(order),) for order in orders if list(order[:3]) != sorted(order[:3]))


def _zigzags() -> tuple[Key, ...]:
    """Numbers of rails, and where on the zigzag to begin: near enough to a turn that any four letters move."""
    return tuple((rails, start) for rails in range(2, 5) for start in range(max(0, rails - 3), 2 * rails - 2))


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
        _keyed_alphabets(),
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
        _column_orders(),
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
        _zigzags(),
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
        _pairs(range(26), range(1, 26)),
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
        _multiplied(range(1, 26)),
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
        _pairs(range(26), range(1, 26)),
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
        _multiplied(range(1, 26)),
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
        _pairs(range(1, 5), range(1, 21)),
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
        _pairs(range(26), range(1, 26)),
    ),
)

CIPHERS: dict[str, Cipher] = {cipher.name: cipher for cipher in (*_CLASSIC, *_OURS)}
