"""What loops carry and what they have made after each pass is held to values worked out by hand, and to real runs."""

import pytest

from pbb_probe.programs.algorithms import PROBLEMS
from pbb_probe.programs.ciphers import CIPHERS
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.passes import MOST, loop_of, pass_targets, passes
from pbb_probe.programs.program import Program, trace_programs
from pbb_probe.programs.syntax import function_of


def function(*lines: str, arguments: str = "x") -> str:
    return "\n".join([f"def f({arguments}):", *(f"    {line}" for line in lines)])


def trace_of(source: str, *arguments):
    (((trace,)),) = trace_programs([Program("f", "", source)], [[arguments]])
    return trace


def made(source: str, *arguments) -> list:
    """What the loop carried after each pass of one call."""
    return list(passes(function_of(source), trace_of(source, *arguments)).states)


TOTAL = function("total = 0", "for y in x:", "    total += y", "return total")
GCD = function("while b > 0:", "    rest = a % b", "    a = b", "    b = rest", "return a", arguments="a, b")
EVENS = function("kept = []", "for y in x:", "    if y % 2:", "        continue", "    kept.append(y)", "return kept")
FIRST_ABOVE = function(
    "seen = 0", "for y in x:", "    if y > 5:", "        return seen", "    seen += 1", "return -seen"
)


@pytest.mark.parametrize(
    ("source", "arguments", "states"),
    [
        (TOTAL, ([4, 7, 2],), [(4,), (11,), (13,)]),
        (TOTAL, ([],), []),
        (GCD, (12, 18), [(18, 12), (12, 6), (6, 0)]),
        (GCD, (7, 0), []),
        (EVENS, ([3, 4, 5, 6],), [([],), ([4],), ([4],), ([4, 6],)]),
        (FIRST_ABOVE, ([1, 2, 9, 3],), [(1,), (2,)]),  # the third pass is left by return
        (FIRST_ABOVE, ([9],), []),
        (FIRST_ABOVE.replace("return seen", "break"), ([1, 9],), [(1,)]),
        (TOTAL, (list(range(12)),), [(sum(range(k + 1)),) for k in range(MOST)]),
    ],
)
def test_states_by_hand(source, arguments, states):
    assert made(source, *arguments) == states


def test_passes_that_begin_are_counted_beyond_those_that_are_told_apart():
    assert passes(function_of(TOTAL), trace_of(TOTAL, list(range(12)))).begun == 12
    assert passes(function_of(FIRST_ABOVE), trace_of(FIRST_ABOVE, [1, 9])).begun == 2


@pytest.mark.parametrize(
    ("lines", "carried"),
    [
        (["for i in range(3):", "    x = x * 2", "return x"], ["x"]),
        (["y = 0", "for i in range(x):", "    z = i * 2", "    y += z", "return y"], ["y"]),  # z is made anew
        (["y = z = 0", "for i in range(x):", "    z = i * 2", "    y += z", "return y + z"], ["y", "z"]),
        (["y = z = 0", "for i in x:", "    if i > 3:", "        z = i", "    y += z", "return y"], ["y", "z"]),
        (
            [
                "y = 0",
                "for i in x:",
                "    if i:",
                "        z = 1",
                "    else:",
                "        z = 2",
                "    y += z",
                "return y",
            ],
            ["y"],
        ),
        (["y = 0", "for i in x:", "    for j in x:", "        y += i * j", "return y"], ["y"]),
        (["x = x[:]", "for i in range(len(x)):", "    x[i] += 1", "return x"], ["x"]),
        (["rows = [[0], [0]]", "for i in x:", "    rows[0][0] = i", "return rows"], ["rows"]),
        (["y = x[0]", "for z in x:", "    if x.count(z) > x.count(y):", "        y = z", "return y"], ["y"]),
        (["y = 0", "while (x := x - 1) > 0:", "    y += x", "return y"], ["x", "y"]),
        (["y = []", "for z in x:", "    y = [z for z in y] + [1]", "return [z for z in y]"], ["y"]),  # its own z
    ],
)
def test_what_is_carried(lines, carried):
    assert list(loop_of(function_of(function(*lines))).carried) == carried


@pytest.mark.parametrize(
    "lines",
    [
        ["return x + 1"],
        ["for i in x:", "    if i > 3:", "        return True", "return False"],  # nothing is carried
        ["if x:", "    for i in x:", "        x = i", "return x"],  # not at the top
        ["y = 0", "for i in x:", "    y += i", "for i in x:", "    y += i", "return y"],
        ["y = 0", "for i in x:", "    y += i", "while y > 9:", "    y -= 9", "return y"],
        ["y = 0", "for i in x:", "    y += i", "return y + i"],  # the target is read after the loop
        ["y = 0", "for i in x: y += i", "return y"],  # its lines do not tell passes apart
        ["y = 0", "step = lambda z: z + y", "for i in x:", "    y = step(i)", "return y"],
        ["y = [0]", "for y[0] in x:", "    y.append(1)", "return y"],
    ],
)
def test_loops_that_are_left_alone(lines):
    assert loop_of(function_of(function(*lines))) is None


def test_what_changes_under_another_name_or_is_no_value_has_no_states():
    alias = function("y = []", "z = y", "for i in x:", "    z.append(i)", "return y")
    assert made(alias, [1, 2]) == []
    iterator = function("items = iter(x)", "y = 0", "for i in range(2):", "    y += next(items)", "return y")
    assert made(iterator, [1, 2]) == [None, None]
    sometimes = function("for i in x:", "    if i > 3:", "        y = i", "return y")
    assert made(sometimes, [1, 5]) == [None, (5,)]


def test_labels_of_calls():
    calls = make_corpus("arithmetic", with_io=20, without_io=0, shapes=("loop", "two_steps")).calls()
    for row in calls.to_dict(orient="records"):
        values, x = [], row["input"]
        for _ in range(int(row["turns"]) if row["steps"] == 3 else 0):
            scope = {"x": x}
            exec(row["source"].splitlines()[2].strip(), scope)
            values.append(x := scope["x"])
        labels = [row[f"pass_{k}"] for k in range(1, 5)]
        assert [value for value in labels if value == value] == values
    assert [name for name in calls if name.startswith("pass_")] == [f"pass_{k}" for k in range(1, 5)]
    plain = make_corpus("arithmetic", with_io=3, without_io=0).calls()
    assert not any(name.startswith("pass_") for name in plain)
    assert pass_targets(GCD, trace_of(GCD, 12, 18)) == {"pass_1": "(18, 12)", "pass_2": "(12, 6)", "pass_3": "(6, 0)"}


@pytest.mark.parametrize("family", ["algorithms", "ciphers"])
def test_states_are_what_python_holds_there(family):
    """The body of each program, with a line at the end of the loop's body that keeps what it carries."""
    facts, kinds = {"algorithms": ("problem", PROBLEMS), "ciphers": ("cipher", CIPHERS)}[family]
    corpus = make_corpus(family, with_io=len(kinds), without_io=0, seed=3)
    known = 0
    for entry in corpus.entries:
        source = entry.program.source
        loop = loop_of(function_of(source))
        if loop is None:
            assert entry.program.facts[facts] in ("two_sum", "is_palindrome")
            continue
        end = loop.statement.body[-1].end_lineno
        assert "continue" not in source or entry.program.facts[facts] == "fill_bag"  # whose line would be passed over
        keep = f"        kept.append(repr(({', '.join(loop.carried)},)))"
        watched = source.replace("continue", f"{keep.strip()}; continue").splitlines()
        watched.insert(end, keep)
        for trace in entry.traces:
            scope: dict = {"kept": []}
            exec("\n".join(watched), scope)
            scope[entry.program.name](*map(eval, map(repr, trace.arguments)))
            begun, states = passes(function_of(source), trace)
            assert len(states) <= begun
            assert [repr(state) for state in states] == scope["kept"][: len(states)]
            known += len(states)
    assert known > 300
