"""What a swap predicts is held to numbers worked out by hand, and to functions spliced in the test."""

import itertools
import random
import subprocess

import numpy as np
import pandas as pd
import pytest

from pbb_probe.errors import PbbError
from pbb_probe.patching.cutting import cuts
from pbb_probe.patching.hypotheses import hypotheses, is_half, telling, told_apart
from pbb_probe.programs.arithmetic import arithmetic_program, step_sequences
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.program import Program

ONE = "def one(x):\n    return (x + 3) % 10"
TIMES = "def times(x):\n    return x * 7 % 10"
ADD_MAX = "def addmax(x):\n    y = (x + 4) % 10\n    return max(y, 3)"
DOUBLE_FROM = "def doublefrom(x):\n    y = x * 2 % 10\n    return (9 - y) % 10"
THREE = "def three(x):\n    y = x + 1\n    z = y * 2\n    return z - 3"
OTHER_THREE = "def otherthree(x):\n    a = x * 10\n    a = a + 5\n    return a // 2"
CONDITIONAL = "def maybe(x):\n    if x > 4:\n        y = x - 4\n    else:\n        y = x + 1\n    return y * 2"
LONG_WAY = "def longway(x):\n    y = x + 1\n    z = y * 2\n    return z + x"

STEPS_OF_THREE = [f"{name}_{k}" for k in (1, 2) for name in ("state", "steps_to", "steps_after")]
HALVES_OF_TWO = ["only_step_1", "only_step_2", "program_only_step_1", "program_only_step_2"]


def name_of(source: str) -> str:
    return source[4 : source.index("(")]


def runs(*calls: tuple[str, object]) -> pd.DataFrame:
    return pd.DataFrame(
        [(name_of(source), source, call) for source, call in calls], columns=["program", "source", "call"]
    )


def predicted(base: tuple, source: tuple, **settings) -> dict:
    """The hypotheses of one pair."""
    (row,) = hypotheses(runs(base), runs(source), **settings).to_dict(orient="records")
    return row


def test_one_step_by_hand():
    assert predicted((ONE, 5), (TIMES, 6)) == {
        "nothing": 8,  # 5 + 3
        "everything": 2,  # 6 * 7 % 10
        "program": 5,  # 5 * 7 % 10
        "input": 9,  # 6 + 3
    }


def test_two_steps_by_hand():
    found = predicted((ADD_MAX, 1), (DOUBLE_FROM, 3))
    assert found == {
        "nothing": 5,  # max(1 + 4, 3)
        "everything": 3,  # 9 - 3 * 2
        "program": 7,  # 9 - 1 * 2
        "input": 7,  # max(3 + 4, 3)
        "state_1": 6,  # max(3 * 2, 3)
        "steps_to_1": 3,  # max(1 * 2, 3)
        "steps_after_1": 4,  # 9 - (1 + 4)
        "only_step_1": 5,  # 1 + 4
        "only_step_2": 3,  # max(1, 3)
        "program_only_step_1": 2,  # 1 * 2
        "program_only_step_2": 8,  # 9 - 1
    }
    assert list(found)[:7] == ["nothing", "everything", "program", "input", "state_1", "steps_to_1", "steps_after_1"]
    assert list(found)[7:] == HALVES_OF_TWO


def test_three_steps_by_hand():
    found = predicted((THREE, 2), (OTHER_THREE, 7))
    assert found == {
        "nothing": 3,  # 2 -> 3 -> 6 -> 3
        "everything": 37,  # 7 -> 70 -> 75 -> 37
        "program": 12,  # 2 -> 20 -> 25 -> 12
        "input": 13,  # 7 -> 8 -> 16 -> 13
        "state_1": 137,  # 70 * 2 - 3
        "steps_to_1": 37,  # 20 * 2 - 3
        "steps_after_1": 4,  # (3 + 5) // 2
        "state_2": 72,  # 75 - 3
        "steps_to_2": 22,  # 25 - 3
        "steps_after_2": 3,  # 6 // 2
        "only_step_1": 3,  # 2 + 1
        "only_step_2": 4,  # 2 * 2
        "only_step_3": -1,  # 2 - 3
        "program_only_step_1": 20,  # 2 * 10
        "program_only_step_2": 7,  # 2 + 5
        "program_only_step_3": 1,  # 2 // 2
    }
    assert list(found)[4:10] == STEPS_OF_THREE
    assert list(found)[10:] == [f"{name}_{k}" for name in ("only_step", "program_only_step") for k in (1, 2, 3)]


def test_branches_and_values_that_are_used_again_have_no_steps():
    whole = ["nothing", "everything", "program", "input"]
    assert predicted((CONDITIONAL, 6), (CONDITIONAL.replace("maybe", "more").replace("* 2", "* 5"), 3)) == dict(
        zip(whole, (4, 20, 10, 8), strict=True)
    )
    found = predicted((THREE, 2), (ADD_MAX, 7))
    assert [name for name in found if not is_half(name)] == whole  # other numbers of steps
    assert [found[f"program_only_step_{k}"] for k in (1, 2)] == [6, 3]
    assert "program_only_step_3" not in found
    found = predicted((LONG_WAY, 2), (THREE, 7))
    assert [name for name in found if not is_half(name)] == whole
    assert not any(name.startswith("only_step") for name in found)  # the last statement needs x as well: no one state
    assert found["nothing"] == 8


def test_only_what_both_programs_have_is_there():
    base = runs((ONE, 5), (THREE, 2), (LONG_WAY, 2), (ADD_MAX, 1))
    source = runs((TIMES, 6), (OTHER_THREE, 7), (THREE, 7), (DOUBLE_FROM, 3))
    found = hypotheses(base, source)
    found = found[[name for name in found if not is_half(name)]]
    assert list(found.columns[4:]) == STEPS_OF_THREE
    there = found.notna()
    assert there.iloc[:, :4].all(axis=None)
    assert there.iloc[0, 4:].sum() == there.iloc[2, 4:].sum() == 0
    assert there.iloc[1, 4:].all()
    assert list(there.iloc[3, 4:]) == [True] * 3 + [False] * 3
    assert list(found["state_1"][[1, 3]]) == [137, 6]


@pytest.mark.parametrize(
    ("lines", "places"),
    [
        (["return x"], ()),
        (["y = x + 1", "return y"], (1,)),
        (["x = x + 1", "x = x * 2", "return x"], (1, 2)),
        (["x += 1", "x *= 2", "return x - 1"], (1, 2)),
        (["y = x", "x = 3", "return x + y"], (1,)),  # x is set anew before it is read
        (["y = x", "x += 3", "return x + y"], ()),  # x is read where it is added to
        (["y = x + 1", "z = y + x", "return z"], (2,)),
        (["y = x + 1", "z = y + 2", "return z + y"], (1,)),
        (["y = x + 1", "return sum([x for x in range(y)])"], ()),  # to be on the safe side
        (["y, z = x, 1", "return y"], ()),
        (["y = x[:]", "y[0] = 3", "return y"], ()),
        (["y = x + 1; return y"], ()),
        (["y = x + 1", "for k in range(3):", "    y = y + k", "return y"], ()),
        (["'adds one'", "return x + 1"], ()),
        (["y = x + 1", "return"], (1,)),
    ],
)
def test_cuts(lines, places):
    assert cuts("def f(x):\n" + "\n".join(f"    {line}" for line in lines)) == places


def test_cuts_of_several_arguments():
    assert cuts("def f(a, b):\n    c = a + b\n    return c * 2") == (1,)
    assert cuts("def f(a, b):\n    c = a + b\n    return c * b") == ()


OPERATIONS = {
    "add": lambda x, c: (x + c) % 10,
    "multiply": lambda x, c: x * c % 10,
    "max": lambda x, c: x if x > c else c,
    "min": lambda x, c: x if x < c else c,
    "distance": lambda x, c: x - c if x > c else c - x,
    "subtract_from": lambda x, c: (c - x) % 10,
}


def answer(steps: tuple, x: int) -> int:
    """The operations one after another, in numbers alone."""
    for name, constant in steps:
        x = OPERATIONS[name](x, constant)
    return x


def by_operations(a: tuple, x: int, b: tuple, y: int) -> list[int]:
    """The answer of each hypothesis of programs with as many steps, in their order."""
    whole = [answer(a, x), answer(b, y), answer(b, x), answer(a, y)]
    for k in range(1, len(a)):
        whole += [answer(b[:k] + a[k:], y), answer(b[:k] + a[k:], x), answer(a[:k] + b[k:], x)]
    return whole + [answer((step,), x) for step in (*a, *b)]


@pytest.mark.parametrize("n_steps", [2, 3])
def test_all_pairs_of_arithmetic_programs_by_their_operations(n_steps):
    shape = {2: "two_steps", 3: "three_steps"}[n_steps]
    calls = make_corpus(with_io=40, without_io=2, shapes=(shape,), seed=n_steps).calls()
    rng = np.random.default_rng(0)
    base, source = (calls.iloc[rng.integers(len(calls), size=600)].reset_index(drop=True) for _ in range(2))
    found = hypotheses(base, source)
    assert found.shape == (600, 4 + 3 * (n_steps - 1) + 2 * n_steps)
    for i in range(600):
        (a, x), (b, y) = (
            (tuple((row[f"op_{k}"], int(row[f"constant_{k}"])) for k in range(1, n_steps + 1)), row["input"])
            for row in (base.iloc[i], source.iloc[i])
        )
        assert found.iloc[i].tolist() == by_operations(a, x, b, y)
    assert list(found["nothing"]) == list(base["output"])
    assert list(found["everything"]) == list(source["output"])
    whole = found[[name for name in found if not is_half(name)]]
    assert told_apart(found).tolist() == [len(set(row)) == whole.shape[1] for row in whole.itertuples(index=False)]


def test_every_program_of_two_steps_on_both_sides_and_which_hypotheses_tell():
    """Each of the 1,083 sequences is the base once and the donor once."""
    rng, sequences = random.Random(0), step_sequences(2)
    donors = rng.sample(sequences, len(sequences))
    inputs = [(rng.randrange(10), rng.randrange(10)) for _ in sequences]
    base, donor = (
        runs(*((arithmetic_program(name, steps).source, x) for steps, x in zip(many, given, strict=True)))
        for name, many, given in (
            ("dolvik", sequences, [x for x, _ in inputs]),
            ("zabrut", donors, [y for _, y in inputs]),
        )
    )
    found = hypotheses(base, donor)
    tells, whole_differ = telling(found), told_apart(found)
    assert list(tells) == list(found)
    seen = set()
    for i, (a, b, (x, y)) in enumerate(zip(sequences, donors, inputs, strict=True)):
        answers = by_operations(a, x, b, y)
        assert found.iloc[i].tolist() == answers
        assert tells.iloc[i].tolist() == [answers.count(each) == 1 for each in answers]
        assert whole_differ[i] == (len(set(answers[:7])) == 7)
        seen.add((bool(whole_differ[i]), bool(tells.iloc[i, 7:].any()), bool(tells.iloc[i, :7].all())))
    assert {(True, True, False), (True, False, False), (False, True, False)} <= seen
    assert not tells.all(axis=1).any()  # eleven hypotheses, ten values


def test_texts_and_lists_as_functions_spliced_by_hand():
    shout = "def shout(words):\n    longest = max(words, key=len)\n    return longest.upper()"
    join = "def join(words):\n    text = '-'.join(words)\n    return text[::-1]"
    found = predicted((shout, "['ab', 'c']"), (join, "['d', 'efg']"))
    assert found == {
        "nothing": "'AB'",
        "everything": "'gfe-d'",
        "program": "'c-ba'",
        "input": "'EFG'",
        "state_1": "'D-EFG'",
        "steps_to_1": "'AB-C'",
        "steps_after_1": "'ba'",
        "only_step_1": "'ab'",
        "only_step_2": None,  # a list has no upper()
        "program_only_step_1": "'ab-c'",
        "program_only_step_2": "['c', 'ab']",
    }


def test_what_cannot_be_run_is_missing():
    shout = "def shout(text):\n    loud = text.upper()\n    return loud + '!'"
    half = "def half(x):\n    y = x // 2\n    return y + 1"
    found = predicted((shout, "'ab'"), (half, 9))
    assert found == {
        "nothing": "'AB!'",
        "everything": 5,
        "program": None,  # 'ab' // 2
        "input": None,  # (9).upper()
        "state_1": None,  # 4 + '!'
        "steps_to_1": None,
        "steps_after_1": None,  # 'AB' + 1
        "only_step_1": "'AB'",
        "only_step_2": "'ab!'",
        "program_only_step_1": None,
        "program_only_step_2": None,
    }
    inverse = "def inverse(x):\n    y = x - 3\n    return 12 // y"
    found = hypotheses(runs((inverse, 5), (inverse, 5), (half, 3)), runs((half, 3), (half, 9), (inverse, 5)))
    assert list(found["input"]) == [None, 2, 3]  # 12 // 0 where x is 3: the other inputs of the program are run
    assert list(found["program"]) == [3, 3, None]
    assert list(found["steps_after_1"]) == [3, 3, 12]  # half's 3 // 2 = 1 put into 12 // y


def test_several_arguments():
    area = "def area(a, b):\n    c = a * b\n    return c + 1"
    total = "def total(a, b):\n    c = a + b\n    return c * 2"
    halves = [6, None, 5, None]  # a second step has one value to work on, and two are given
    assert list(predicted((area, "2, 3"), (total, "10, -4")).values()) == [7, 12, 10, -39, 7, 6, 12, *halves]


def test_programs_that_call_others_need_these():
    library = [Program("addmax", "", ADD_MAX), Program("times", "", TIMES), Program("one", "", ONE)]
    first = "def first(x):\n    y = addmax(x)\n    return times(y)"
    second = "def second(x):\n    y = one(x)\n    return addmax(y)"
    assert list(predicted((first, 1), (second, 4), library=library).values()) == [
        5,  # addmax 5, times 5
        3,  # one 7, addmax 1 -> 3
        8,  # one 4, addmax 8
        6,  # addmax 8, times 6
        9,  # one(4) = 7, times 9
        8,  # one(1) = 4, times 8
        9,  # addmax(1) = 5, addmax 9
        5,  # addmax(1)
        7,  # times(1)
        4,  # one(1)
        5,  # addmax(1)
    ]
    with pytest.raises(PbbError, match=r"first\(1\) cannot be run.*library"):
        predicted((first, 1), (second, 4))


def test_thousands_of_pairs_take_few_child_processes(monkeypatch):
    calls = make_corpus(with_io=60, without_io=2, seed=1).calls()
    calls = calls[calls["steps"] == 2]
    rng = np.random.default_rng(1)
    base, source = (calls.iloc[rng.integers(len(calls), size=4000)] for _ in range(2))
    children = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **settings: children.append(1) or popen(*args, **settings))
    assert len(hypotheses(base, source)) == 4000
    assert len(children) == 2


def test_told_apart():
    table = pd.DataFrame(
        [[1, 2, 3, None], [1, 2, 1, None], [1, 2, 3, 3], [1, "'1'", "1", 4], [None] * 4],
        columns=list("abcd"),
        dtype=object,
    )
    assert told_apart(table).tolist() == [True, False, False, False, True]
    expected = [[1, 1, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1], [0] * 4]
    assert telling(table).astype(int).values.tolist() == expected
    assert told_apart(table.rename(columns={"a": "only_step_1"})).tolist() == [True, True, False, True, True]
    for row in itertools.permutations(range(4)):
        assert told_apart(pd.DataFrame([row])).tolist() == [True]


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(PbbError, match="2 base and 1 donor prompts"):
        hypotheses(runs((ONE, 5), (ONE, 6)), runs((TIMES, 6)))
    with pytest.raises(PbbError, match="donor lack 'call'"):
        hypotheses(runs((ONE, 5)), runs((TIMES, 6)).drop(columns="call"))
    with pytest.raises(PbbError, match=r"one\(x \+ 1\) cannot be read"):
        hypotheses(runs((ONE, "x + 1")), runs((TIMES, 6)))
    with pytest.raises(PbbError, match=r"one\(\[5\]\) cannot be run"):
        hypotheses(runs((ONE, "[5]")), runs((TIMES, 6)))
    with pytest.raises(PbbError, match="cannot be run"):
        hypotheses(runs((ONE + "\nprint(3)", 5)), runs((TIMES, 6)))
    with pytest.raises(PbbError, match="A program is one function"):
        hypotheses(runs((ONE + " +", 5)), runs((TIMES, 6)))
