"""Values keep their types in text and in JSON; references are `repr`, `eval` and the types themselves."""

import json
import math
import random

import pytest

from pbb_probe.programs.values import DEEPEST, from_json, read_value, to_json, value_text


def drawn(rng: random.Random, depth: int = 3, hashable: bool = False):
    """A random value."""
    flat = [
        None,
        True,
        0,
        -7,
        10**18,
        -(10**1000),
        1.5,
        -0.0,
        1e300,
        math.inf,
        -math.inf,
        "",
        "a'b\"\n",
        "\ud800",
        "é",
        1.0,
        False,
    ]
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(flat)
    kinds = [tuple, frozenset] if hashable else [list, tuple, set, frozenset, dict]
    kind, n = rng.choice(kinds), rng.randrange(4)
    inner = hashable or kind in (set, frozenset)
    items = [drawn(rng, depth - 1, inner) for _ in range(n)]
    return {drawn(rng, 1, True): item for item in items} if kind is dict else kind(items)


def typed(value):
    """Equal for equal values of equal types: 1, 1.0 and True are told apart, 0.0 and -0.0 too."""
    if isinstance(value, dict):
        return dict, [(typed(key), typed(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, map(typed, value)))
    if isinstance(value, list | tuple):
        return type(value), list(map(typed, value))
    return type(value), repr(value)


VALUES = [drawn(random.Random(seed)) for seed in range(300)]


def test_text_is_read_by_python_and_by_us():
    names = {"inf": math.inf, "nan": math.nan}
    for value in VALUES:
        text = value_text(value)
        assert typed(eval(text, names)) == typed(value)
        assert typed(read_value(text)) == typed(value)
        if "set" not in repr(value) and "{" not in repr(value):
            assert text == repr(value)


def test_what_json_writes_keeps_every_type():
    for value in VALUES:
        assert typed(from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))) == typed(value)


def test_sets_are_written_in_one_order():
    rng = random.Random(0)
    items = ["b", "a", 10, 9, 2.5, (2, "x"), (2, "a"), (1,), None, frozenset({2, 1}), True]
    texts = {value_text(set(rng.sample(items, len(items)))) for _ in range(20)}
    assert texts == {"{True, 2.5, 9, 10, 'a', 'b', (1,), (2, 'a'), (2, 'x'), frozenset({1, 2}), None}"}
    assert value_text({math.nan, 1.0}) == "{1.0, nan}"
    assert value_text((set(), frozenset(), {3: {2, 1}})) == "(set(), frozenset(), {3: {1, 2}})"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dict(a=1, b=[2])", {"a": 1, "b": [2]}),
        ("dict([(1, 2)])", {1: 2}),
        ("set([1, 1])", {1}),
        ("frozenset('ab')", frozenset("ab")),
        ("tuple()", ()),
        ("list()", []),
        ("float('-inf')", -math.inf),
        ("-inf", -math.inf),
        ("  [1,\n 2]  ", [1, 2]),
        ("'a' 'b'", "ab"),
    ],
)
def test_other_ways_to_write_a_value_are_read(text: str, value):
    assert typed(read_value(text)) == typed(value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x",
            "1 + 2",
            "1, *[2]",
            "1; 2",
            "[1",
            "1\n2",
            "{[]: 1}",
            "{**{}}",
            "[*[1]]",
            "f'{1}'",
            "...",
            "1j",
            "b'a'",
        ),
        *("set(1)", "set([[]])", "dict(1)", "dict(**{})", "float('x')", "float(1)", "list(1, 2)", "lambda: 1", "not 1"),
        *("- - 1", "-True", "-'a'", "open('x')", "().__class__", "[k for k in [1]]", "1 if 1 else 2", "\0", "\ud800"),
        *("9" * 5000, str(10**1000 + 1), "[" * 51 + "]" * 51, "(" * 500, "-" * 900 + "1", "[" * 300 + "]" * 300),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_value_is_refused_in_one_line(text: str):
    with pytest.raises(ValueError, match=r"^it is [^\n]+$") as raised:
        read_value(text)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("kind", [lambda value: [value], lambda value: (value,), lambda value: {1: value}])
def test_values_of_every_kind_have_one_greatest_depth(kind):
    value: object = 1
    for _ in range(DEEPEST):
        value = kind(value)
    assert typed(read_value(value_text(value))) == typed(value)
    assert typed(from_json(to_json(value))) == typed(value)
    with pytest.raises(RecursionError):
        to_json(kind(value))
    with pytest.raises(ValueError, match="nested more than 50 deep"):
        read_value(value_text(kind(value)))


@pytest.mark.parametrize(
    "written",
    [
        *({}, {"a": []}, {"list": []}, {"tuple": 1}, {"tuple": "ab"}, {"tuple": [], "set": []}, {"dict": [[1]]}),
        *({"dict": [1]}, {"set": [[]]}, {"float": "1.5"}, {"float": []}, math.nan, [math.inf], {"object": []}),
    ],
)
def test_other_json_is_no_value(written):
    with pytest.raises((ValueError, TypeError)):
        from_json(written)
