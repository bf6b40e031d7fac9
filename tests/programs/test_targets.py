"""Targets are held to executions worked out by hand, to `sys.settrace` and to programs that count for themselves."""

import ast
import sys

import numpy as np
import pytest
import xarray as xr

from pbb_probe.probing.linear import fit_probes
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.program import Program, Value, label, trace_programs
from pbb_probe.programs.targets import call_targets, line_targets
from pbb_probe.study.steps import check_targets

SHAPES = ("two_steps", "conditional", "loop", "nested")


def trace(source: str, *arguments: Value):
    return trace_programs([Program("f", "test", source)], [[arguments]])[0][0]


def lines_of(source: str, *arguments: Value) -> dict[int, tuple]:
    """By line: executed, next_line, variable, value, type, times; None where missing."""
    table = line_targets(source, trace(source, *arguments))
    assert list(table) == ["line", "executed", "next_line", "variable", "value", "type", "times"]
    rows = table.astype(object).where(table.notna(), None).itertuples(index=False)
    return {line: tuple(rest) for line, *rest in rows}


def calls_of(source: str, *arguments: Value) -> dict[str, bool | int]:
    return call_targets(source, trace(source, *arguments))


CONDITIONAL = """def f(x):
    if x > 3:
        y = x - 1
    else:
        y = 'low'
    return y"""


def test_a_branch_that_is_not_taken_was_not_executed():
    assert calls_of(CONDITIONAL, 5) == {"branch_1": True}
    assert calls_of(CONDITIONAL, 1) == {"branch_1": False}
    assert lines_of(CONDITIONAL, 5) == {
        2: (True, 3, None, None, None, 1),
        3: (True, 6, "y", 4, "int", 1),
        5: (False, None, None, None, None, 0),
        6: (True, 0, None, None, None, 1),
    }
    assert lines_of(CONDITIONAL, 1)[5] == (True, 6, "y", "'low'", "str", 1)


LOOPS = """def f(n, xs):
    total = 0
    while n > 0:
        for a, b in xs:
            if b > n:
                break
            total += a
        n -= 1
    for a in []:
        total = 0
    return [total, n]"""


def test_nested_loops_count_all_their_turns_and_their_headers_once_more():
    pairs = [[1, 1], [2, 2], [3, 3]]
    # n = 2 adds 1 and 2 and breaks at 3; n = 1 adds 1 and breaks at 2
    assert trace(LOOPS, 2, pairs).output == [4, 0]
    assert calls_of(LOOPS, 2, pairs) == {
        "branch_1": False,
        "iterations_1": 2,
        "iterations_2": 5,
        "iterations_3": 0,
    }
    assert lines_of(LOOPS, 2, pairs) == {
        2: (True, 3, "total", 0, "int", 1),
        3: (True, 4, None, None, None, 3),
        4: (True, 5, "a", 1, "int", 5),
        5: (True, 7, None, None, None, 5),
        6: (True, 8, None, None, None, 2),
        7: (True, 4, "total", 1, "int", 3),  # the first time of three
        8: (True, 3, "n", 1, "int", 2),
        9: (True, 11, None, None, None, 1),
        10: (False, None, None, None, None, 0),
        11: (True, 0, None, None, None, 1),
    }


def test_a_loop_that_never_runs_has_no_turns_and_a_test_that_never_runs_no_branch():
    source = "def f(x):\n    if x:\n        return x\n    while x < 0:\n        if x:\n            x += 1\n    return 7"
    assert calls_of(source, 3) == {"branch_1": True, "iterations_1": 0}
    assert calls_of(source, 0) == {"branch_1": False, "iterations_1": 0}
    assert lines_of(source, 3)[4] == (False, None, None, None, None, 0)
    assert lines_of(source, 3)[3] == (True, 0, None, None, None, 1)


def test_a_branch_is_that_of_the_first_time_and_elif_is_a_test_of_its_own():
    source = """def f(xs):
    n = 0
    for x in xs:
        if x > 5:
            continue
        elif x > 2:
            n += x
        else:
            pass
    return n"""
    assert calls_of(source, [1, 9, 3]) == {"branch_1": False, "branch_2": False, "iterations_1": 3}
    assert calls_of(source, [9, 3, 1]) == {"branch_1": True, "branch_2": True, "iterations_1": 3}
    assert calls_of(source, [9]) == {"branch_1": True, "iterations_1": 1}


@pytest.mark.parametrize("test", ["True", "1", "not False"])
def test_a_loop_without_a_test_turns_until_it_is_left(test):
    source = f"def f(n):\n    while {test}:\n        n -= 1\n        if n < 0:\n            return n"
    assert calls_of(source, 2) == {"branch_1": False, "iterations_1": 3}


def test_what_leaves_no_line_has_no_target():
    """Helpers, conditions within an expression, and the docstring: missing is not the same as not executed."""
    source = '''def f(xs):
    """One."""
    def step(y):
        if y > 2:
            y = 0
        return y
    xs = [step(x) for x in xs
          if x != 1]
    return xs if xs else [7]'''
    assert calls_of(source, [1, 2, 3]) == {}
    assert lines_of(source, [1, 2, 3]) == {
        3: (True, 7, None, None, None, 1),
        7: (True, 9, "xs", "[2, 0]", "list", 1),
        9: (True, 0, None, None, None, 1),
    }


def test_of_bodies_on_the_line_of_their_header_nothing_is_said():
    lines = ["if x > 3: y = 1", "while x > 0: x -= 1", "if x: pass", "elif x == 0:", "    x = 8", "return x"]
    source = "\n    ".join(["def f(x):", *lines])
    assert calls_of(source, 2) == {"branch_3": True}
    assert lines_of(source, 2)[3] == (True, 3, "x", 1, "int", 2)


def test_types_are_those_of_values_in_a_trace():
    lines = ["a = (x, None)", "b = x > 1", "c = None", "d = {1: 2}", "e = [a]", "e.pop()", "return 1"]
    source = "\n    ".join(["def f(x):", *lines])
    rows = lines_of(source, 2)
    assert [rows[line][2:5] for line in range(2, 8)] == [
        ("a", "(2, None)", "tuple"),
        ("b", "True", "bool"),
        ("c", "None", "NoneType"),
        ("d", "{1: 2}", "dict"),
        ("e", "[(2, None)]", "list"),
        ("e", "[]", "list"),
    ]


@pytest.fixture(scope="module")
def families():
    return {
        "arithmetic": make_corpus(with_io=20, without_io=4, shapes=SHAPES),
        "algorithms": make_corpus("algorithms", with_io=60, without_io=20),
        "ciphers": make_corpus("ciphers", with_io=20, without_io=10),
    }


@pytest.mark.parametrize("family", ["arithmetic", "algorithms", "ciphers"])
def test_lines_are_those_that_settrace_sees(family, families):
    seen_types = set()
    for entry in families[family].entries:
        source, name = entry.program.source, entry.program.name
        statements = {node.lineno: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)}
        for run in entry.traces[::3]:
            events, output = watched(source, name, run.arguments)
            assert label(output) == label(run.output)
            ran = [line for line, _ in events]
            for row in line_targets(source, run).itertuples():
                assert row.executed == (row.line in ran)
                assert row.times == ran.count(row.line)
                if row.line not in ran:
                    continue
                first = ran.index(row.line)
                assert row.next_line == [*ran, 0][first + 1]
                match statements[row.line]:
                    case ast.Assign(targets=[ast.Name(id=variable)]) | ast.AugAssign(target=ast.Name(id=variable)):
                        value = events[first + 1][1][variable]
                        if not isinstance(value, dict):
                            value = eval(value)
                            assert (row.variable, row.value) == (variable, label(value))
                            assert row.type == type(value).__name__
                            seen_types.add(row.type)
    assert seen_types >= {"algorithms": {"int", "str", "list"}, "ciphers": {"int", "str"}}.get(family, {"int"})


def watched(source: str, name: str, arguments):
    """The lines of the outermost call as `sys.settrace` has them, each with the text of the values before it."""
    scope: dict = {}
    exec(compile(source, name, "exec"), scope)
    events: list = []
    frames: list = []

    def tracer(frame, event, _):
        if frame.f_code is not scope[name].__code__ or frames:
            return None
        frames.append(frame)

        def local(frame, event, _):
            if event == "line":
                values = {
                    key: value if isinstance(value, dict) else repr(list(value) if isinstance(value, tuple) else value)
                    for key, value in frame.f_locals.items()
                }
                events.append((frame.f_lineno, values))
            return local

        return local

    sys.settrace(tracer)
    try:
        output = scope[name](*ast.literal_eval(repr(arguments)))
    finally:
        sys.settrace(None)
    return events, output


@pytest.mark.parametrize("family", ["arithmetic", "algorithms", "ciphers"])
def test_calls_have_the_branches_and_turns_that_a_program_counts_itself(family, families):
    calls = families[family].calls()
    found = calls.filter(regex=r"^(branch|iterations)_\d+$")
    assert len(found.columns) >= 2
    traces = {entry.program.name: entry.traces for entry in families[family].entries}
    for i, row in calls.iterrows():
        expected = counted(row["source"], row["program"], traces[row["program"]][row["place"]].arguments)
        assert found.loc[i].dropna().to_dict() == expected


def counted(source: str, name: str, arguments) -> dict[str, bool | int]:
    """The program rewritten so that it notes its own tests and turns."""
    tree = ast.parse(source)
    noted: dict = {}

    def note(key, value):
        noted.setdefault(key, value) if key.startswith("branch") else noted.__setitem__(key, noted[key] + 1)
        return value

    helpers = [node for node in tree.body[0].body if isinstance(node, ast.FunctionDef)]
    hidden = {id(part) for helper in helpers for part in ast.walk(helper)}
    nodes = [node for node in ast.walk(tree) if id(node) not in hidden and hasattr(node, "lineno")]
    nodes.sort(key=lambda node: node.lineno)
    tests = [node for node in nodes if isinstance(node, ast.If)]
    loops = [node for node in nodes if isinstance(node, ast.For | ast.While)]
    for k, node in enumerate(tests, start=1):
        node.test = call("note", f"branch_{k}", call("bool", node.test))
    for k, node in enumerate(loops, start=1):
        noted[f"iterations_{k}"] = 0
        node.body.insert(0, ast.Expr(call("note", f"iterations_{k}", ast.Constant(1))))
    scope = {"note": note}
    exec(compile(ast.fix_missing_locations(tree), name, "exec"), scope)
    scope[name](*ast.literal_eval(repr(arguments)))
    return noted


def call(function: str, *arguments) -> ast.Call:
    given = [ast.Constant(argument) if isinstance(argument, str) else argument for argument in arguments]
    return ast.Call(ast.Name(function, ast.Load()), given, [])


def test_probes_take_branches_and_turns_with_missing_values(families):
    """As targets of a study: a column of truth values and nothing where a program has no such test."""
    labels = families["arithmetic"].calls()
    assert labels["branch_1"].isna().any()
    assert set(labels["branch_1"].dropna()) == {True, False}
    values = np.random.default_rng(0).normal(size=(1, 1, len(labels), 4))
    values[..., 0] += 20 * (labels["branch_1"] == True).to_numpy()  # noqa: E712 (missing is not true)
    for turns in (2, 3, 4):
        values[..., turns - 1] += 20 * (labels["iterations_1"] == turns).to_numpy()
    acts = xr.Dataset({"x": (("layer", "role", "prompt", "d"), values)}, {"layer": [0], "role": ["r"]})
    targets = labels[["branch_1", "iterations_1"]]
    check_targets(list(targets), labels)
    found = fit_probes(acts, targets, clusters=labels.index, folds=3)
    assert (found["accuracy"].mean("fold") > 0.98).all()
    missing = found["correct"].isnull().values.squeeze()
    assert (missing == targets.isna().to_numpy().T).all()
