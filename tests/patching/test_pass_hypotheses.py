"""What a swap predicts of loops is held to numbers worked out by hand, and to loops run pass by pass in the test."""

import itertools

import pandas as pd
import pytest

from pbb_probe.patching.cutting import cuts
from pbb_probe.patching.hypotheses import hypotheses, must_differ, telling, told_apart
from pbb_probe.patching.resuming import resumed, same_ending
from pbb_probe.patching.transfer_pairs import make_transfer_pairs
from pbb_probe.programs.arithmetic import OPERATIONS
from pbb_probe.programs.corpus import make_corpus

WHOLE = ["nothing", "everything", "program", "input"]


def program(name: str, *lines: str, arguments: str = "x") -> str:
    return "\n".join([f"def {name}({arguments}):", *(f"    {line}" for line in lines)])


def summing(name: str, more: int, ending: str = "total") -> str:
    return program(name, "total = 0", "for y in x:", f"    total += y + {more}", f"return {ending}")


def predicted(base: tuple, donor: tuple) -> dict:
    """The hypotheses of one pair, without those that are not there."""
    rows = [
        pd.DataFrame([(source[4 : source.index("(")], source, call)], columns=["program", "source", "call"])
        for source, call in (base, donor)
    ]
    (row,) = hypotheses(*rows).to_dict(orient="records")
    return {name: value for name, value in row.items() if value is not None}


def test_sums_with_different_increments_by_hand():
    found = predicted((summing("one", 1), "[10, 20]"), (summing("five", 5), "[1, 2, 3]"))
    assert found == {
        "nothing": 32,  # 11, 32
        "everything": 21,  # 6, 13, 21
        "program": 40,  # 15, 40
        "input": 9,  # 2, 5, 9
        "pass_1": 27,  # 6, then 20 + 1
        "passes_to_1": 36,  # 15, then 20 + 1
        "passes_after_1": 36,  # 11, then 20 + 5
        "pass_2": 13,  # 13, and nothing is left of [10, 20]
        # both sums over [10, 20] are done after two passes: passes_to_2 would be `program`, passes_after_2 `nothing`
    }
    assert list(found)[:4] == WHOLE


def test_what_follows_the_loop_makes_its_last_pass_a_state_of_its_own():
    found = predicted((summing("one", 1, "total * 2"), "[10]"), (summing("five", 5, "total - 1"), "[7]"))
    whole = {"nothing": 22, "everything": 11, "program": 14, "input": 16}
    assert found == whole | {"pass_1": 24, "passes_to_1": 30, "passes_after_1": 10}
    same = predicted((summing("one", 1, "total * 2"), "[10]"), (summing("five", 5, "total * 2"), "[7]"))
    assert same == {"nothing": 22, "everything": 24, "program": 30, "input": 16}
    other = predicted((summing("one", 1, "total + x[0]"), "[10]"), (summing("five", 5, "total + x[0]"), "[7]"))
    assert other["pass_1"] == 22  # 12 + 10, where B(x') is 12 + 7


def gcd(name: str, shift: int) -> str:
    lines = [f"b += {shift}", "while b > 0:", "    rest = a % b", "    a = b", "    b = rest", "return a"]
    return program(name, *lines, arguments="a, b")


def test_two_variables_of_a_while_by_hand():
    found = predicted((gcd("one", 1), "12, 17"), (gcd("two", 2), "8, 18"))
    # one(12, 17): (12, 18) -> (18, 12) -> (12, 6) -> (6, 0);  two(8, 18): (8, 20) -> (20, 8) -> (8, 4) -> (4, 0)
    # two(12, 17): (12, 19) -> (19, 12) -> (12, 7) -> (7, 5) -> (5, 2) -> (2, 1) -> (1, 0)
    # one(8, 18): (8, 19) -> (19, 8) -> (8, 3) -> (3, 2) -> (2, 1) -> (1, 0)
    states = {"pass_1": 4, "passes_to_1": 1, "passes_after_1": 6, "pass_2": 4, "passes_to_2": 1, "passes_after_2": 6}
    # after three passes two(8, 18) and one(12, 17) are done, so what goes on from there is their own answer
    assert found == {"nothing": 6, "everything": 4, "program": 1, "input": 1} | states | {"passes_to_3": 1}


def kept(name: str, test: str) -> str:
    return program(name, "kept = [0]", "for y in x:", f"    if {test}:", "        kept.append(y)", "return kept")


def test_lists_that_are_changed_in_place_by_hand():
    found = predicted((kept("odd", "y % 2"), "[1, 2, 3]"), (kept("large", "y > 4"), "[9, 8, 4, 5]"))
    assert found == {
        "nothing": "[0, 1, 3]",
        "everything": "[0, 9, 8, 5]",
        "program": "[0]",
        "input": "[0, 9, 5]",
        "pass_1": "[0, 9, 3]",
        "passes_to_1": "[0, 3]",
        "passes_after_1": "[0, 1]",
        "pass_2": "[0, 9, 8, 3]",
        "passes_to_2": "[0, 3]",
        "passes_after_2": "[0, 1]",
        "pass_3": "[0, 9, 8]",  # large has another pass, odd has none
    }


def test_calls_that_end_early():
    """A pass that return leaves is not completed, and what goes on from before it may leave elsewhere."""
    lines = ["seen = 0", "for y in x:", "    if y > {}:", "        return seen", "    seen += {}", "return -seen"]
    few, many = (program(name, *lines).format(*of) for name, of in (("few", (5, 1)), ("many", (7, 10))))
    found = predicted((few, "[1, 2, 6, 3]"), (many, "[7, 7, 7, 8]"))
    assert found == {
        "nothing": 2,
        "everything": 30,
        "program": -40,
        "input": 0,  # few leaves [7, ...] at once
        "pass_1": 11,
        "passes_to_1": 11,
        "passes_after_1": -31,
        "pass_2": 20,
        "passes_to_2": 20,
        "passes_after_2": -22,
    }


def test_a_loop_that_never_runs_and_states_of_different_kinds():
    one, five = summing("one", 1), summing("five", 5)
    assert list(predicted((one, "[]"), (five, "[1, 2]"))) == WHOLE
    assert list(predicted((one, "[3]"), (five, "[]"))) == WHOLE  # nor passes_to_1: one and five are done after it
    assert list(predicted((one, "[3, 4]"), (five, "[]"))) == [*WHOLE, "passes_to_1", "passes_after_1"]
    assert list(predicted((one, "[1, 2]"), (kept("odd", "y % 2"), "[1, 2, 3]"))) == WHOLE
    two = program("two", "a = b = 0", "for y in x:", "    a += b", "    b += y", "return a + b")
    assert list(predicted((one, "[1, 2]"), (two, "[1, 2, 3]"))) == WHOLE
    straight = program("straight", "y = x[0]", "return y + 1")
    assert list(predicted((one, "[1, 2]"), (straight, "[1, 2]")))[:4] == WHOLE
    assert not any(name.startswith("pass") for name in predicted((one, "[1, 2]"), (straight, "[1, 2]")))


def test_what_fails_from_a_foreign_state_is_missing():
    divide = program("divide", "z = 1", "for y in x:", "    z = 60 // z + y", "return z")
    reset = program("reset", "z = 1", "for y in x:", "    z = 0", "return z")
    found = predicted((divide, "[1, 2]"), (reset, "[3, 4]"))
    assert "pass_1" not in found  # 60 // 0
    assert "passes_to_1" not in found
    assert found["passes_after_1"] == 0


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["for i in range(x):", "    x += i", "return x"], ["items = [*range(x)][2:]", "x = state", "for i in items:"]),
        (["y = x", "while y > 3:", "    y -= 2", "return y"], ["y = x", "y = state", "while y > 3:"]),
        (
            ["state = items = 0", "for i in range(x):", "    state += items", "return state"],
            ["state = items = 0", "items_ = [*range(x)][2:]", "state = state_", "for i in items_:"],
        ),
        (["ys = [x]", "for y in ys:", "    if y < 5:", "        ys.append(y + 1)", "return ys"], None),
        (["return x + 1"], None),
    ],
)
def test_the_text_of_the_rest(lines, text):
    rest = resumed(("f", program("f", *lines)), 2)
    if text is None:
        assert rest is None
        return
    assert rest is not None
    found = [line.strip() for line in rest[1].splitlines()[1:]]
    assert found[: len(text)] == text
    assert found[len(text) :] == [line.strip() for line in lines[-len(found) + len(text) :]]


def test_arguments_stay_and_what_stands_beside_a_function_comes_along():
    lines = ["y = x", "for i in range(n):", "    y = math.gcd(y, i)", "return y"]
    source = "import math\n\n" + program("g", *lines, arguments="x, n=3, *more")
    name, text = resumed(("g", source), 1)
    assert name == "g_after_pass_1"
    assert text.splitlines()[:2] == ["import math", "def g_after_pass_1(state, x, n=3, *more):"]
    assert "def g(" not in text


def test_endings_are_the_same_by_what_they_do_with_what_is_carried():
    one, five = (("one", summing("one", 1, "total * 2")), ("five", summing("five", 5, "total * 2")))
    renamed = ("five", five[1].replace("total", "count"))
    assert same_ending(one, five)
    assert same_ending(one, renamed)
    assert not same_ending(one, ("three", summing("three", 3, "total * 3")))
    assert not same_ending(*[(name, summing(name, 3, "total + len(x)")) for name in ("three", "four")])


def turns(step: tuple, n: int, x: int) -> int:
    for _ in range(n):
        x = OPERATIONS[step[0]].apply(x, step[1])
    return x


def test_all_arithmetic_loops_by_their_operations():
    calls = make_corpus("arithmetic", with_io=40, without_io=0, shapes=("loop",)).calls(n=300)
    base, donor = calls, calls.sample(frac=1, random_state=0)
    found = hypotheses(base, donor)
    seen = set()
    for i, (one, other) in enumerate(zip(base.to_dict(orient="records"), donor.to_dict(orient="records"), strict=True)):
        (a, m, x), (b, n, y) = (((row["op_1"], row["constant_1"]), row["turns"], row["input"]) for row in (one, other))
        expected = dict(zip(WHOLE, (turns(a, m, x), turns(b, n, y), turns(b, n, x), turns(a, m, y)), strict=True))
        for k in range(1, 1 + min(m, n)):
            if k < m or k < n:
                expected[f"pass_{k}"] = turns(a, m - k, turns(b, k, y))
                expected[f"passes_to_{k}"] = turns(a, m - k, turns(b, k, x))
                expected[f"passes_after_{k}"] = turns(b, n - k, turns(a, k, x))
        row = {name: value for name, value in found.iloc[i].items() if value is not None}
        assert row == expected
        seen.add((m, n))
    assert seen == set(itertools.product((2, 3, 4), repeat=2))
    asked = found[[name for name in found if must_differ(name)]]
    assert list(asked) == WHOLE
    assert told_apart(found).tolist() == [len(set(row)) == 4 for row in asked.itertuples(index=False)]


def test_pairs_of_loops_are_told_apart_as_wholes_and_those_that_tell_of_passes_come_first(bridge):
    corpus = make_corpus("arithmetic", with_io=30, without_io=0, shapes=("loop",))
    pairs = make_transfer_pairs(corpus, bridge("nano"), "with_io", n=20, decisive=False)
    assert len(pairs) == 20
    assert not any(map(cuts, pairs.labels["source"]))
    found = hypotheses(pairs.corrupted.labels, pairs.clean.labels)
    assert told_apart(found).all()
    tells = telling(found)
    assert tells["pass_1"].mean() > 0.3
    for rows in pairs.corrupted.labels.groupby("program").indices.values():
        counts = tells.sum(axis=1).iloc[rows].tolist()
        assert counts == sorted(counts, reverse=True)
