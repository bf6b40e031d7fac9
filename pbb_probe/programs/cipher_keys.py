"""The keys of the ciphers family: each cipher's, such that no two programs are the same function."""

import itertools
import math

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
"""Words of three to six letters, from common to rare. They also serve as keys."""

Key = tuple[int | str, ...]
"""The constants of one program, in the order in which its template numbers them."""


def pairs(first: range, second: range) -> tuple[Key, ...]:
    """Every pair of a number from the first range and one from the second."""
    return tuple(itertools.product(first, second))


def multiplied(factors: range) -> tuple[Key, ...]:
    """A factor, and a start that it multiplies modulo 26; of starts with equal products only the smallest."""
    return tuple((factor, start) for factor in factors for start in range(26 // math.gcd(factor, 26)))


def keyed_alphabets() -> tuple[Key, ...]:
    """The letters of two words in order of first appearance, then the rest of the alphabet."""
    alphabets = ("".join(dict.fromkeys(a + b + LETTERS)) for a, b in zip(WORDS, reversed(WORDS), strict=True))
    return tuple((alphabet,) for alphabet in dict.fromkeys(alphabets))


def column_orders() -> tuple[Key, ...]:
    """Orders of three to five columns. The first three are never sorted, so that a word of three letters changes."""
    orders = (order for width in range(3, 6) for order in itertools.permutations(LETTERS[:width]))
    return tuple(("".join(order),) for order in orders if list(order[:3]) != sorted(order[:3]))


def zigzags() -> tuple[Key, ...]:
    """Numbers of rails, and where the zigzag begins: near enough to a turn that a word of four letters changes."""
    return tuple((rails, start) for rails in range(2, 5) for start in range(max(0, rails - 3), 2 * rails - 2))
