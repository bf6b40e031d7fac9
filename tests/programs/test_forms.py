"""Forms are held to execution: however a function is rewritten, it computes the same."""

import ast
import copy
import itertools
import random

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.algorithms import algorithms_programs
from pbb_probe.programs.arithmetic import SHAPES, arithmetic_programs
from pbb_probe.programs.ciphers import ciphers_programs
from pbb_probe.programs.forms import FORMS, VARIABLES, is_straight, rewrite

TWO_STEPS = "def f(x):\n    y = (x + 3) % 10\n    return abs(y - 5)"
NAMES = [f"name{i}" for i in range(70)]


def outputs(source: str, name: str, inputs=tuple((value,) for value in range(10))) -> list:
    scope: dict = {}
    exec(source, scope)
    return [scope[name](*copy.deepcopy(arguments)) for arguments in inputs]


def test_rewriting_keeps_the_function():
    for program in arithmetic_programs(NAMES, random.Random(0), SHAPES):
        expected = outputs(program.source, program.name)
        straight = program.facts.keys().isdisjoint({"threshold", "turns"}) and "step(" not in program.source
        assert is_straight(program.source) == straight
        for form, variables in itertools.product(FORMS if straight else FORMS[:1], VARIABLES):
            assert outputs(rewrite(program.source, form, variables), program.name) == expected


def test_rewriting_keeps_the_functions_of_several_arguments_lists_and_words():
    for program, inputs in (*algorithms_programs(NAMES, random.Random(0)), *ciphers_programs(NAMES, random.Random(0))):
        expected = outputs(program.source, program.name, inputs)
        for variables in VARIABLES:
            assert outputs(rewrite(program.source, "statements", variables), program.name, inputs) == expected


def test_rewritten_forms_by_hand():
    assert rewrite(TWO_STEPS, "statements", "abcdeg") == "def f(a):\n    b = (a + 3) % 10\n    return abs(b - 5)"
    assert rewrite(TWO_STEPS, "nested", "nmkjih") == "def f(n):\n    return abs((n + 3) % 10 - 5)"
    assert rewrite(TWO_STEPS, "lambda", "xyzuvw") == "f = lambda x: abs((x + 3) % 10 - 5)"


def test_branches_loops_and_inner_functions_are_renamed_by_hand():
    source = "def f(x):\n    for i in range(3):\n        x = x + i\n    return x"
    assert (
        rewrite(source, "statements", "abcdeg") == "def f(a):\n    for b in range(3):\n        a = a + b\n    return a"
    )
    source = "def f(x):\n\n    def step(y):\n        return y + 1\n    return step(step(x))"
    renamed = "def f(a):\n\n    def step(b):\n        return b + 1\n    return step(step(a))"
    assert rewrite(source, "statements", "abcdeg") == renamed


def test_rewriting_a_product_of_a_sum_keeps_the_brackets():
    source = "def f(x):\n    y = x + 1\n    return y * 2"
    assert rewrite(source, "nested") == "def f(x):\n    return (x + 1) * 2"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    x = x + 1\n    x = x * 2\n    return x - 3",
        "def f(x):\n    y = x + 1\n    z = y * x\n    y = z - y\n    return y + z",
        "def f(y):\n    x = y * 2\n    return x - y",
        "def f(a):\n    c = a + 1\n    b = c * 2\n    return b - c",
        "def f(x):\n    y = x\n    return y",
    ],
)
def test_rewriting_reassigned_swapped_and_clashing_variables(source: str, form: str):
    for variables in VARIABLES:
        assert outputs(rewrite(source, form, variables), "f") == outputs(source, "f")


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    y = x + 1\n    z = [y * x for x in range(3)]\n    return z",
        "def f(x):\n    x = x + 1\n    z = [x for x in range(x)]\n    return z",
        "def f(x):\n    y = x + 1\n    return sorted([1, 2], key=lambda x: x - 2 * y * x)",
        "def f(x):\n    xs = [x, 2]\n    y = xs.pop()\n    return xs + [y, y]",
        "def f(x):\n    def a(y):\n        return y + 1\n    return a(x)",
        "def f(x):\n    def b(y):\n        y += 1\n        return y\n    z = b(x)\n    return b(z) * z",
        "def f(x):\n    def m(k):\n        return k * x\n    n = m(x)\n    return m(n)",
        "def f(x):\n    return 0 if x == 0 else f(x - 1) + x",
    ],
)
def test_what_binds_names_or_changes_lists_is_the_same_function_in_every_form_it_has(source: str):
    for form, variables in itertools.product(FORMS if is_straight(source) else FORMS[:1], VARIABLES):
        assert outputs(rewrite(source, form, variables), "f") == outputs(source, "f")


def test_a_function_named_by_a_letter_of_its_own_variables_is_told_from_them():
    source = "def f(x):\n\n    def a(y):\n        return y + 1\n    return a(x)"
    assert rewrite(source, "statements", "abcdeg") == source
    assert rewrite(source, "statements", "nmkjih") == source.replace("y", "m").replace("(x)", "(n)")


def test_longer_names_and_more_variables_than_letters_are_kept():
    longer = "def f(x):\n    total = x + 1\n    return total"
    assert rewrite(longer, "statements", "abcdeg") == longer
    many = "def f(x):\n    " + "\n    ".join(f"{letter} = x" for letter in "abcdef") + "\n    return x"
    assert rewrite(many, "statements", "nmkjih") == many


def test_rewriting_uses_every_letter_it_is_given():
    steps = ["y = x + 1", "z = y + 1", "u = z + 1", "v = u + 1", "w = v + 1", "w = w * 2", "return w"]
    source = "def f(x):\n    " + "\n    ".join(steps)
    rewritten = rewrite(source, "statements", "abcdeg")
    assert outputs(rewritten, "f") == [2 * (x + 5) for x in range(10)]
    assert {node.id for node in ast.walk(ast.parse(rewritten)) if isinstance(node, ast.Name)} == set("abcdeg")


def test_rewriting_leaves_the_source_of_later_calls_alone():
    first = rewrite(TWO_STEPS, "statements", "abcdeg")
    rewrite(TWO_STEPS, "lambda", "nmkjih")
    assert rewrite(TWO_STEPS, "statements", "abcdeg") == first


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    if x > 3:\n        return 1\n    return 2",
        "def f(x):\n    y = 0\n    for i in range(x):\n        y = y + i\n    return y",
        "def f(x):\n    y = x\n    y += 1\n    return y",
        "def f(x):\n    y, z = x, 1\n    return y + z",
        "def f(x):\n    y = z = x + 1\n    return y + z",
        "def f(x, y):\n    return x + y",
        "def f():\n    return 1",
        "def f(x):\n    y = x",
        "def f(x):\n    return",
    ],
)
def test_what_is_not_straight_line_has_the_form_of_statements_only(source: str):
    assert not is_straight(source)
    for form in FORMS[1:]:
        with pytest.raises(PbbError, match=form):
            rewrite(source, form)


@pytest.mark.parametrize(
    "source",
    [
        "f = lambda x: x",
        "y = 3\nimport math",
        "def f(x:\n    return x",
        "",
    ],
)
def test_what_is_no_function_is_refused(source: str):
    with pytest.raises(PbbError, match="not one"):
        rewrite(source)
    with pytest.raises(PbbError, match="not one"):
        is_straight(source)


@pytest.mark.parametrize(
    "source",
    [
        "y = 3\ndef f(x):\n    return x + y",
        "import math\n\ndef f(x):\n    return math.sqrt(x)",
        "def g(x):\n    return x\n\ndef f(x):\n    return g(x)",
        "def f(x):\n    # doubled\n\n    return x * 2",
        "def f(x):\n    return (x +\n        1)",
    ],
)
def test_a_text_that_is_more_than_a_function_or_in_a_layout_of_its_own_stays_as_it_is(source: str):
    assert rewrite(source, variables="abc") == source
    assert is_straight(source) == ("g(x)" not in source and source.startswith("def f"))


@pytest.mark.parametrize(
    "lines",
    [
        ("y = x.popitem()", "return [y, y]"),
        ("y = next(x)", "return [y, y]"),
        ("y = x.setdefault(1, 2)", "return y"),
        ("y = (z := x)", "return y + z"),
    ],
)
def test_steps_that_change_something_or_bind_another_name_are_not_folded(lines: tuple[str, ...]):
    assert not is_straight("\n    ".join(["def f(x):", *lines]))


@pytest.mark.parametrize("arguments", ["x=1", "*x", "**x", "*, x", "x, *y", "x, /"])
def test_only_a_plain_argument_can_be_that_of_a_straight_line(arguments: str):
    assert not is_straight(f"def f({arguments}):\n    return 1")


def test_unknown_forms_are_refused():
    with pytest.raises(PbbError, match="'verse': choose from statements, nested, lambda"):
        rewrite(TWO_STEPS, "verse")
