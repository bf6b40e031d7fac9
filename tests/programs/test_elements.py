"""The elements of calls are what one reads in them, and the labels made of them are those of Python's own values."""

import ast

import pytest

from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.elements import element_spans, element_targets
from pbb_probe.programs.trace import Trace

CALLS = {
    "[3, 10]": ["3", "10"],
    "(3,)": ["3"],
    "'ozqs'": ["o", "z", "q", "s"],
    "[4, -5], 'ab', 7": ["4", "-5", "a", "b", "7"],
    "3, 5": ["3", "5"],
    "[[1, 2], 3]": ["[1, 2]", "3"],
    "'é', 2": ["é", "2"],
    r"'a\'b'": [r"'a\'b'"],
    "[]": [],
    "''": [],
    "7": [],
    "{1, 2}": [],
    "": [],
}


@pytest.mark.parametrize("call", CALLS)
def test_elements_stand_where_they_are_read(call):
    assert [call[start:end] for start, end in element_spans(call)] == CALLS[call]


def targets(arguments, output) -> dict:
    return element_targets(Trace(arguments, (), (), output))


def test_targets_by_hand():
    assert targets(([3, 10], "oz"), [True, [1]]) == {
        **{"input_1": 3, "input_2": 10, "input_3": "o", "input_4": "z", "input_length": 4},
        **{"output_1": "True", "output_2": "[1]", "output_length": 2},
    }
    assert targets(([],), "") == {"input_length": 0, "output_length": 0}
    assert targets((7,), 3) == {}
    assert targets(((7,),), None) == {"input_1": 7, "input_length": 1}


def test_columns_are_bounded():
    found = targets(([5] * 100,), "x" * 9)
    assert len(found) == 18
    assert (found["input_length"], found["output_length"]) == (100, 9)


def test_calls_on_numbers_have_the_columns_they_had():
    calls = make_corpus(with_io=6, without_io=2).calls()
    assert not [name for name in calls if name.startswith(("input_", "output_"))]


@pytest.mark.parametrize("family", ["algorithms", "ciphers"])
def test_labels_of_calls_are_the_elements_of_their_values(family):
    calls = make_corpus(family, with_io=6, without_io=0).calls()
    seen = 0
    for row in calls.to_dict(orient="records"):
        for name, values in (("input", ast.literal_eval(f"[{row['call']}]")), ("output", [row["output"]])):
            if name == "output" and isinstance(values[0], str):
                values = [ast.literal_eval(values[0])]
            if len(values) == 1 and not isinstance(values[0], list | str):
                assert row.get(f"{name}_length") != row.get(f"{name}_length")  # missing
                continue
            parts = [part for value in values for part in (value if isinstance(value, list | str) else [value])]
            assert row[f"{name}_length"] == len(parts)
            assert [row[f"{name}_{k}"] for k in range(1, min(len(parts), 8) + 1)] == parts[:8]
            seen += 1
    assert seen > 50
