"""The ciphers family is held to references written another way, to published examples, and to being undone again."""

import ast
import itertools
import random
import string
from collections import Counter

import numpy as np
import pytest

from pbb_probe.programs.cipher_keys import WORDS
from pbb_probe.programs.ciphers import CIPHERS, ciphers_programs
from pbb_probe.programs.program import trace_programs

ABC = string.ascii_lowercase
NAMES = [f"name{i}" for i in range(300)]


def executed(cipher: str, key: tuple, text: str) -> str:
    return function(cipher, key)(text)


def function(cipher: str, key: tuple):
    scope: dict = {}
    exec(CIPHERS[cipher].source("f", key), scope)
    return scope["f"]


def numbers(text: str) -> np.ndarray:
    return np.array([ABC.index(letter) for letter in text], dtype=int)


def letters(values) -> str:
    return "".join(ABC[value % 26] for value in np.asarray(values, dtype=int))


def by_table(alphabet: str, text: str) -> str:
    return text.translate(str.maketrans(ABC, alphabet))


def repeated(key: str, text: str) -> np.ndarray:
    return np.resize(numbers(key), len(text))


def columnar(key: str, text: str) -> str:
    """A grid with a row to spare, its columns put in order."""
    height = len(text) // len(key) + 1
    grid = np.array(list(text.ljust(height * len(key)))).reshape(height, len(key))
    return "".join(grid[:, np.argsort(list(key))].T.ravel()).replace(" ", "")


def rail_fence(rails: int, start: int, text: str) -> str:
    """Letters put down on a grid by walking it, the walker turning at the first and the last rail."""
    grid = np.full((rails, len(text) + start), "")
    row, direction = 0, 1
    for column in range(len(text) + start):
        if column >= start:
            grid[row, column] = text[column - start]
        if not 0 <= row + direction < rails:
            direction = -direction
        row += direction
    return "".join(grid.ravel())


def linked(factor: int, first: int, text: str) -> str:
    x = numbers(text)
    before = np.array([first, *x])[: len(x)]
    shifted = list(letters(x + factor * before))
    for left in range(0, len(shifted) - 1, 2):
        shifted[left], shifted[left + 1] = shifted[left + 1], shifted[left]
    return "".join(shifted)


def parity(sum_of_both: int, extra: int, text: str) -> str:
    x = numbers(text)
    odd = np.arange(len(x)) % 2 == 1
    return letters(np.where(odd, sum_of_both - x, x + len(x) + extra))


def chain(factor: int, start: int, text: str) -> str:
    """The recurrence solved: y_i = factor ** (i + 1) * start + the sum over j <= i of factor ** (i - j) * x_j."""
    x = [start, *map(ABC.index, text)]
    return letters([sum(factor ** (i - j) * x[j] for j in range(i + 1)) % 26 for i in range(1, len(x))])


def vowels(turn: int, other_turn: int, text: str) -> str:
    first, second = "aeiou", "".join(sorted(set(ABC) - set("aeiou")))
    table = dict(zip(first, first[turn:] + first[:turn], strict=True))
    table |= dict(zip(second, second[other_turn:] + second[:other_turn], strict=True))
    return text.translate(str.maketrans(table))


def peel(start: int, growth: int, text: str) -> str:
    backward, forward = reversed(range(len(text))), range(len(text))
    ends = [place for both in zip(backward, forward, strict=True) for place in both][: len(text)]
    return letters(numbers(text)[ends] + start + growth * np.arange(len(text)))


REFERENCE = {
    "shift": lambda k, text: by_table(ABC[k:] + ABC[:k], text),
    "affine": lambda a, b, text: letters(numbers(text) * a + b),
    "vigenere": lambda key, text: letters(numbers(text) + repeated(key, text)),
    "substitution": by_table,
    "columnar": columnar,
    "rail_fence": rail_fence,
    "reflection": lambda k, text: by_table(ABC[k::-1] + ABC[:k:-1], text),
    "autokey": lambda primer, text: letters(numbers(text) + numbers(primer + text)[: len(text)]),
    "beaufort": lambda key, text: letters(repeated(key, text) - numbers(text)),
    "progressive": lambda start, growth, text: letters(numbers(text) + start + growth * np.arange(len(text))),
    "linked": linked,
    "parity": parity,
    "chain": chain,
    "vowels": vowels,
    "peel": peel,
}

PUBLISHED = [
    ("shift", (3,), "thequickbrownfox", "wkhtxlfneurzqira"),  # Caesar's shift
    ("shift", (13,), "hello", "uryyb"),  # ROT13
    ("affine", (5, 8), "affinecipher", "ihhwvcswfrcp"),
    ("vigenere", ("lemon",), "attackatdawn", "lxfopvefrnhr"),
    ("substitution", ("zebrascdfghijklmnopqtuvwxy",), "fleeatoncewearediscovered", "siaazqlkbavazoarfpbluaoar"),
    ("columnar", ("zebras",), "wearediscoveredfleeatonce", "evlnacdtesearofodeecwiree"),
    ("rail_fence", (3, 0), "wearediscoveredfleeatonce", "wecrlteerdsoeefeaocaivden"),
    ("reflection", (25,), "wizard", "draziw"),  # Atbash
    ("autokey", ("queenly",), "attackatdawn", "qnxepvytwtwp"),
    ("beaufort", ("fortification",), "defendtheeastwallofthecastle", "ckmpvcpvwpiwujogiuapvwriwuuk"),
    ("progressive", (0, 1), "hello", "hfnos"),  # Trithemius
]


@pytest.mark.parametrize(("cipher", "key", "plain", "secret"), PUBLISHED)
def test_published_examples(cipher, key, plain, secret):
    assert executed(cipher, key, plain) == secret
    assert REFERENCE[cipher](*key, plain) == secret


BY_HAND = [
    # cab = 2 0 1, before them 4 2 0, times 3: 14 6 1 = ogb, and the first two change places
    ("linked", (3, 4), "cab", "gob"),
    # abcd = 0 1 2 3: even places plus 4 + 1, odd ones 10 minus it: 5 9 7 7
    ("parity", (10, 1), "abcd", "fjhh"),
    # bad = 1 0 3 from 5: 2*5+1 = 11, 2*11+0 = 22, 2*22+3 = 47 = 21
    ("chain", (2, 5), "bad", "lwv"),
    ("vowels", (1, 1), "zoub", "buac"),
    # taken in the order d a c b, shifted by 1 3 5 7
    ("peel", (1, 2), "abcd", "edhi"),
]


@pytest.mark.parametrize(("cipher", "key", "plain", "secret"), BY_HAND)
def test_examples_by_hand(cipher, key, plain, secret):
    assert executed(cipher, key, plain) == secret


@pytest.mark.parametrize("cipher", CIPHERS)
def test_sources_agree_with_the_references(cipher):
    rng = random.Random(1)
    texts = ["", "a", "zz", *("".join(rng.choices(ABC, k=length)) for length in (3, 4, 5, 6, 6, 11, 30))]
    for key in CIPHERS[cipher].draw_keys(rng)[:40]:
        enciphers = function(cipher, key)
        for text in [*texts, *rng.sample(WORDS, 5)]:
            assert enciphers(text) == REFERENCE[cipher](*key, text), (key, text)


def test_the_programs_run_confined_and_agree_with_the_references():
    made = ciphers_programs(NAMES, random.Random(2))
    programs, inputs = zip(*made, strict=True)
    for program, words, runs in zip(programs, inputs, trace_programs(programs, inputs), strict=True):
        key = program.facts["key"]
        parts = [int(part) if part.isdigit() else part for part in str(key).split()]
        expected = [REFERENCE[program.facts["cipher"]](*parts, word) for (word,) in words]
        assert [run.output for run in runs] == expected


UNDONE_BY = {
    "shift": lambda k: ("shift", (-k % 26,)),
    "affine": lambda a, b: ("affine", (pow(a, -1, 26), -b * pow(a, -1, 26) % 26)),
    "vigenere": lambda key: ("vigenere", ("".join(ABC[-ABC.index(letter) % 26] for letter in key),)),
    "substitution": lambda table: ("substitution", ("".join(ABC[table.index(letter)] for letter in ABC),)),
    "reflection": lambda k: ("reflection", (k,)),
    "beaufort": lambda key: ("beaufort", (key,)),
    "progressive": lambda start, growth: ("progressive", (-start % 26, -growth % 26)),
    "vowels": lambda turn, other_turn: ("vowels", (5 - turn, 21 - other_turn)),
}


@pytest.mark.parametrize("cipher", UNDONE_BY)
def test_the_inverse_key_gives_the_word_back(cipher):
    for key in CIPHERS[cipher].draw_keys(random.Random(3))[:25]:
        enciphers, deciphers = function(cipher, key), function(*UNDONE_BY[cipher](*key))
        for word in WORDS[::9]:
            assert deciphers(enciphers(word)) == word


@pytest.mark.parametrize("cipher", CIPHERS)
def test_different_words_stay_different(cipher):
    """Every cipher can be undone: on the words, and on all texts of two and three of the letters a, b, n and z."""
    short = ["".join(text) for length in (2, 3) for text in itertools.product("abnz", repeat=length)]
    for key in CIPHERS[cipher].draw_keys(random.Random(4))[:20]:
        enciphers = function(cipher, key)
        for texts in (WORDS, short):
            secrets = {enciphers(text) for text in texts}
            assert len(secrets) == len(set(texts))


@pytest.mark.parametrize("cipher", ["columnar", "rail_fence"])
def test_transpositions_move_letters_and_keep_them(cipher):
    for key in CIPHERS[cipher].keys:
        enciphers = function(cipher, key)
        assert all(enciphers(text) != text for text in ("abcd", "abcde", "abcdef"))
        assert sorted(enciphers("abcdef")) == list("abcdef")


@pytest.mark.parametrize("cipher", CIPHERS)
def test_few_words_stay_as_they_are(cipher):
    for key in CIPHERS[cipher].draw_keys(random.Random(5))[:60]:
        enciphers = function(cipher, key)
        assert sum(enciphers(word) == word for word in WORDS) < len(WORDS) / 3


def test_programs_compose():
    text = "kitten"
    rng = random.Random(6)
    for cipher in CIPHERS.values():
        text = executed(cipher.name, cipher.draw_keys(rng)[0], text)
        assert len(text) == 6
        assert set(text) <= set(ABC)


def test_no_two_keys_make_the_same_function_not_even_of_different_ciphers():
    texts = ["zab", "abcd", "bdfhj", "abcdef", "zyxwvu"]
    owners: dict[tuple, tuple] = {}
    for cipher in CIPHERS.values():
        for key in cipher.keys:
            owner = owners.setdefault(tuple(map(function(cipher.name, key), texts)), (cipher.name, key))
            assert owner == (cipher.name, key)
    assert len(owners) >= 1500


def test_sources_are_canonical_and_of_three_to_nine_statements():
    for cipher in CIPHERS.values():
        for key in cipher.draw_keys(random.Random(7))[:30]:
            program = cipher.program("name", key)
            tree = ast.parse(program.source)
            assert ast.unparse(tree) == program.source
            (definition,) = tree.body
            assert isinstance(definition, ast.FunctionDef)
            assert definition.name == program.name == "name"
            assert [argument.arg for argument in definition.args.args] == ["text"]
            # in canonical layout every statement has a line to itself; `else:` and the header are none
            lines = [line.strip() for line in program.source.splitlines()[1:]]
            assert program.facts["steps"] == len(lines) - lines.count("else:")
            assert 3 <= program.facts["steps"] <= 9


def test_the_key_is_in_the_facts_and_in_the_source():
    for program, _ in ciphers_programs(NAMES, random.Random(8)):
        assert program.family == "ciphers"
        assert set(program.facts) == {"cipher", "steps", "key"}
        constants = {node.value for node in ast.walk(ast.parse(program.source)) if isinstance(node, ast.Constant)}
        key = program.facts["key"]
        parts = [int(part) if part.isdigit() else part for part in key.split()] if isinstance(key, str) else [key]
        assert set(parts) <= constants


def test_ciphers_take_turns_until_their_keys_are_spent():
    n = len(CIPHERS)
    assert n == len(REFERENCE) >= 12
    made = [program for program, _ in ciphers_programs(NAMES, random.Random(9))]
    assert [program.name for program in made] == NAMES
    order = [program.facts["cipher"] for program in made]
    assert set(order[:n]) == set(CIPHERS)
    fewest = min(len(cipher.keys) for cipher in CIPHERS.values())
    assert order[: n * fewest] == order[:n] * fewest

    everything = sum(len(cipher.keys) for cipher in CIPHERS.values())
    long = [program for program, _ in ciphers_programs(["f"] * (everything + n), random.Random(9), n_inputs=1)]
    assert len({program.source for program in long[:everything]}) == everything >= 1500
    counts = Counter(program.facts["cipher"] for program in long[:everything])
    assert counts == {cipher.name: len(cipher.keys) for cipher in CIPHERS.values()}
    assert len({program.facts["cipher"] for program in long[everything:]}) == n  # and then all of them once more


def test_inputs_are_different_words_from_common_to_rare():
    assert len(set(WORDS)) == len(WORDS) >= 200
    assert all(3 <= len(word) <= 6 and set(word) <= set(ABC) for word in WORDS)
    for n_inputs in (1, 10, 25):
        seen = set()
        for _, inputs in ciphers_programs(NAMES, random.Random(10), n_inputs):
            ranks = [WORDS.index(word) for (word,) in inputs]
            assert len(ranks) == n_inputs
            assert ranks == sorted(set(ranks))
            seen |= set(ranks)
        assert len(seen) > len(WORDS) / 2


def test_the_seed_decides():
    assert ciphers_programs(NAMES, random.Random(5)) == ciphers_programs(NAMES, random.Random(5))
    assert ciphers_programs(NAMES, random.Random(5)) != ciphers_programs(NAMES, random.Random(6))
