"""Mutants differ from a program in one constant or one operation: counted by hand."""

import ast

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.mutants import mutants
from pbb_probe.programs.whitelist import check_source


def texts(source: str, difference: str) -> list[str]:
    return [text.removeprefix("def f(x):\n    return ") for what, text in mutants(source) if what == difference]


def test_every_operation_of_a_sort_takes_the_place_of_another():
    swapped = texts("def f(x):\n    return x + x", "an operation")
    assert sorted(swapped) == ["x % x", "x * x", "x - x", "x // x"]
    swapped = texts("def f(x):\n    return x < 100", "an operation")
    assert sorted(swapped) == ["x != 100", "x <= 100", "x == 100", "x > 100", "x >= 100"]
    assert texts("def f(x):\n    return x and (not x)", "an operation") == ["x or not x"]
    assert texts("def f(x):\n    return max(x, x)", "an operation") == ["min(x, x)"]
    (update,) = [
        text for what, text in mutants("def f(x):\n    x += x\n    return x") if what == "an operation" and "//" in text
    ]
    assert update == "def f(x):\n    x //= x\n    return x"


def test_small_constants_become_every_other_small_one_and_their_neighbours():
    assert texts("def f(x):\n    return -9", "a constant") == [*(f"-{n}" for n in range(9)), "-10", "-11"]
    assert texts("def f(x):\n    return x % 26", "a constant") == ["x % 24", "x % 25", "x % 27", "x % 28"]
    assert texts("def f(x):\n    return 'a' if x == True else 'b'", "a constant") == []


def test_mutants_of_a_program_with_a_branch_and_a_loop_are_programs_that_differ_in_one_place():
    source = "def f(x):\n    for i in range(3):\n        if x > 4 and i < 2:\n            x = x * 2 % 10\n    return x"
    made = mutants(source)
    assert len({text for _, text in made}) == len(made) > 50
    for what, text in made:
        check_source("f", text)
        words, other = (ast.dump(ast.parse(each)).replace("(", " ").split() for each in (source, text))
        changed = [(a, b) for a, b in zip(words, other, strict=True) if a != b]
        assert len(changed) == 1, text
        assert ("value=" in changed[0][0] or changed[0][0].strip("),").isdigit()) == (what == "a constant"), changed


def test_the_tree_that_others_read_stays_as_it_is():
    source = "def f(x):\n    return max(x, 3) + 1"
    assert mutants(source) == mutants(source)
    assert ast.unparse(ast.parse(source)) == source
    assert source not in [text for _, text in mutants(source)]


def test_what_is_no_function_is_refused():
    with pytest.raises(PbbError, match="A program is one function"):
        mutants("x = 3")
