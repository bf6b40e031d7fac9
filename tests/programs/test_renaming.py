"""Functions renamed throughout a text: Python itself must still find what it found, and nothing else may change."""

import pytest

from pbb_probe.programs.renaming import defined_names, free_names, renamed_text

NAMES = {"f": "dolvik", "g": "zamtor"}


def ran(text: str, name: str, *arguments):
    """What plain Python makes of the text."""
    scope: dict = {}
    exec(text, scope)
    return scope[name](*arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(x):\n    return f(x - 1) if x else 0", "def dolvik(x):\n    return dolvik(x - 1) if x else 0"),
        (
            "def f(x):  # f and f_2, off\n\n    '''f(1) is é.'''\n    return x",
            "def dolvik(x):  # dolvik and f_2, off\n\n    '''dolvik(1) is é.'''\n    return x",
        ),
        ("def f(x): s = 'é f'; return f", "def dolvik(x): s = 'é f'; return dolvik"),
        ("def f(x):\n    é = f; return f\n\n", "def dolvik(x):\n    é = dolvik; return dolvik\n\n"),
        ("def f(x):\n    return {'f': x.f, f: len('f')}", "def dolvik(x):\n    return {'f': x.f, dolvik: len('f')}"),
        ("def f(x):\n    return g(f=f, x=f)", "def dolvik(x):\n    return zamtor(f=dolvik, x=dolvik)"),
        ("def f(x, f=f):\n    return f(x)", "def dolvik(x, f=dolvik):\n    return f(x)"),
        (
            "def f(x):\n    h = lambda f: f + 1\n    return f(h(x))",
            "def dolvik(x):\n    h = lambda f: f + 1\n    return dolvik(h(x))",
        ),
        (
            "def f(x):\n    return [f for f in f(x)] + [f(y) for y in x]",
            "def dolvik(x):\n    return [f for f in dolvik(x)] + [dolvik(y) for y in x]",
        ),
        (
            "def f(x):\n    for f in x:\n        pass\n    return f",
            "def dolvik(x):\n    for f in x:\n        pass\n    return f",
        ),
        (
            "def f(x):\n    def f(y):\n        return y\n    return f(x)",
            "def dolvik(x):\n    def f(y):\n        return y\n    return f(x)",
        ),
        (
            "def f(x):\n    def h():\n        return f(x)\n    return h()",
            "def dolvik(x):\n    def h():\n        return dolvik(x)\n    return h()",
        ),
        (
            "def f(x):\n    return [y for y in x if (f := y)] and f",
            "def dolvik(x):\n    return [y for y in x if (f := y)] and f",
        ),
        (
            "def f(x):\n    return f'{f(x - 1)} f {x!r:>{f(2)}}'",
            "def dolvik(x):\n    return f'{dolvik(x - 1)} f {x!r:>{dolvik(2)}}'",
        ),
        (
            "def g(x):\n    return f(x)\ndef f(x):\n    return x",
            "def zamtor(x):\n    return dolvik(x)\ndef dolvik(x):\n    return x",
        ),
        (
            "def f(x):\n    return (  # f\n        f\n        (x))",
            "def dolvik(x):\n    return (  # dolvik\n        dolvik\n        (x))",
        ),
        (
            "def f(x):\n    try:\n        return f\n    except ValueError as g:\n        return g",
            "def dolvik(x):\n    try:\n        return dolvik\n    except ValueError as g:\n        return g",
        ),
    ],
)
def test_what_means_the_function_is_renamed_and_the_rest_stays(text: str, expected: str):
    assert renamed_text(text, NAMES) == expected


def test_functions_under_other_names_return_what_they_returned():
    text = (
        "def g(n):\n    '''g of f'''\n    return n * 2  # not f\n\n"
        "def f(n, k=3):\n    fs = [f for f in range(k)]\n"
        "    return (fs, 'f', g(n), f(n - 1, k) if n else f'{g(k):>{g(2)}}f{{f}}')"
    )
    new = renamed_text(text, NAMES)
    assert ran(new, "dolvik", 3) == ran(text, "f", 3)
    assert new.count("\n") == text.count("\n")
    assert "# not dolvik" in new
    assert "'{zamtor(k):>{zamtor(2)}}f{{f}}'" in new


def test_names_that_stay_leave_the_text_as_it_is():
    text = "def f( x ):\n\n    return  f\n"
    assert renamed_text(text, {}) == text
    assert renamed_text(text, {"f": "f", "h": "zamtor"}) == text


def test_names_that_a_text_uses_and_does_not_bind():
    text = (
        "from a import b\ndef f(x, k=d):\n    import math\n    y = g(x, b)\n"
        "    return [h(z) + math.pi for z in y if sum(z)]\n\ndef k():\n    return f"
    )
    assert free_names(text) == ["d", "g", "h", "sum"]
    assert defined_names(text) == ["f", "k"]


def test_names_that_a_star_imports_are_not_those_of_other_programs():
    assert free_names("from math import *\ndef f(x):\n    return gcd(x, helper(x))") == ["helper"]
