"""Traces are held to executions worked out by hand; a program that fails is refused in one line that names it."""

import subprocess

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Trace, Value, label, trace_programs, try_programs


def traces(source: str, *inputs) -> list[Trace]:
    return trace_programs([Program("f", "test", source)], [inputs])[0]


def trace(source: str, *arguments: Value) -> Trace:
    return traces(source, arguments)[0]


def refusal(source: str, value: Value = 1, seconds: int = 10) -> str:
    """The message with which `culprit` is refused when it stands between two good programs."""
    good = "def {}(x):\n    return x"
    programs = [
        Program("before", "test", good.format("before")),
        Program("culprit", "test", source),
        Program("after", "test", good.format("after")),
    ]
    with pytest.raises(PbbError) as raised:
        trace_programs(programs, [[1], [value], [1]], seconds=seconds)
    return str(raised.value)


def assert_one_line_naming_the_culprit(message: str) -> None:
    assert "\n" not in message
    assert message.startswith("A program could not be run: culprit: ")


def test_one_step_program_has_no_states():
    assert traces("def f(x):\n    return x * 7 % 10", 0, 3, 9) == [
        Trace(arguments=(0,), lines=(2,), changes=({},), output=0),
        Trace(arguments=(3,), lines=(2,), changes=({},), output=1),
        Trace(arguments=(9,), lines=(2,), changes=({},), output=3),
    ]


def test_two_step_program_keeps_the_value_between_the_steps():
    assert traces("def f(x):\n    y = (x + 4) % 10\n    return abs(y - 5)", 0, 8) == [
        Trace(arguments=(0,), lines=(2, 3), changes=({"y": 4}, {}), output=1),
        Trace(arguments=(8,), lines=(2, 3), changes=({"y": 2}, {}), output=3),
    ]


def test_assigning_the_same_value_again_is_a_state_again():
    source = "def f(x):\n    y = x\n    y = max(y, 2)\n    x = y\n    return x"
    assert [(run.lines, run.states, run.output) for run in traces(source, 5, 1)] == [
        ((2, 3, 4, 5), (5, 5, 5), 5),
        ((2, 3, 4, 5), (1, 2, 2), 2),
    ]


def test_augmented_and_tuple_assignments_are_states_in_order():
    run = trace("def f(x):\n    y, z = x, x + 1\n    y += z\n    return y * 2", 3)
    assert run == Trace((3,), (2, 3, 4), ({"y": 3, "z": 4}, {"y": 7}, {}), 14)
    assert run.states == (3, 4, 7)


def test_only_the_branch_that_runs_leaves_lines_and_states():
    source = "def f(x):\n    if x > 3:\n        y = 10\n    else:\n        y = 20\n    return y + x"
    assert traces(source, 5, 1) == [
        Trace((5,), (2, 3, 6), ({}, {"y": 10}, {}), 15),
        Trace((1,), (2, 5, 6), ({}, {"y": 20}, {}), 21),
    ]


def test_while_loop_leaves_a_state_an_assignment():
    run = trace("def f(x):\n    y = 0\n    while y < x:\n        y = y + 2\n    return y", 3)
    assert run == Trace((3,), (2, 3, 4, 3, 4, 3, 5), ({"y": 0}, {}, {"y": 2}, {}, {"y": 4}, {}, {}), 4)


def test_for_loop_assigns_its_variable_once_a_turn():
    run = trace("def f(x):\n    y = x\n    for i in range(2):\n        y = y + i\n    return y", 5)
    assert run.output == 6
    assert run.lines == (2, 3, 4, 3, 4, 3, 5)
    assert run.changes == ({"y": 5}, {"i": 0}, {"y": 5}, {"i": 1}, {"y": 6}, {}, {})  # the end assigns nothing


def test_for_loop_that_is_exhausted_within_another_loop_changes_nothing():
    source = "def f(x):\n    for i in range(2):\n        for j in [7]:\n            x = j\n    return x"
    run = trace(source, 1)
    assert run.lines == (2, 3, 4, 3, 2, 3, 4, 3, 2, 5)
    assert run.changes == ({"i": 0}, {"j": 7}, {"x": 7}, {}, {"i": 1}, {"j": 7}, {"x": 7}, {}, {}, {})


def test_for_loop_over_nothing_and_over_pairs():
    assert trace("def f(x):\n    for i in []:\n        x = i\n    return x", 4) == Trace((4,), (2, 4), ({}, {}), 4)
    run = trace("def f(xs):\n    for i, x in enumerate(xs):\n        pass\n    return i", ["a", "b"])
    assert run.changes == ({"i": 0, "x": "a"}, {}, {"i": 1, "x": "b"}, {}, {}, {})


def test_statements_that_share_a_line_are_one_step():
    source = "def f(x):\n    y = x; y = y + 1\n    if x > 3: y = 0\n    return y"
    assert [run.changes for run in traces(source, 1, 5)] == [({"y": 2}, {}, {}), ({"y": 6}, {"y": 0}, {})]


def test_loops_on_one_line_leave_a_step_a_turn():
    run = trace("def f(x):\n    for i in range(2): x = x\n    while x < 5: x += 1\n    return x", 3)
    assert run.lines == (2, 2, 2, 3, 3, 4)
    assert run.changes == ({"i": 0, "x": 3}, {"i": 1, "x": 3}, {}, {"x": 4}, {"x": 5}, {})


def test_appending_and_writing_into_a_list_are_changes_with_their_own_copies():
    source = "def f(xs, k):\n    xs.append(k)\n    xs[0] = k\n    ys = xs\n    ys.pop()\n    return len(ys)"
    given = [1, 2]
    run = trace(source, given, 9)
    assert run.changes == (
        {"xs": [1, 2, 9]},
        {"xs": [9, 2, 9]},
        {"ys": [9, 2, 9]},
        {"ys": [9, 2], "xs": [9, 2]},
        {},
    )
    assert run.arguments == ([1, 2], 9)
    assert run.arguments[0] is not given


def test_a_test_that_changes_a_list_says_so_and_true_is_not_one():
    source = "def f(xs):\n    if xs.pop() > 0:\n        xs[0] = True\n    return xs"
    assert trace(source, [1, 5]) == Trace(([1, 5],), (2, 3, 4), ({"xs": [1]}, {"xs": [True]}, {}), [True])
    assert str(trace(source, [1, 5]).changes[1]) == "{'xs': [True]}"


def test_strings_and_truth_values_are_values():
    run = trace("def f(s, up):\n    t = s.upper() if up else s\n    b = t == s\n    return [t, b, None]", "abc", True)
    assert run == Trace(("abc", True), (2, 3, 4), ({"t": "ABC"}, {"b": False}, {}), ["ABC", False, None])


def test_names_may_go_beyond_ascii():
    assert trace("def f(größe):\n    ä = größe + 1\n    return ä", 3) == Trace((3,), (2, 3), ({"ä": 4}, {}), 4)


def test_values_keep_their_types_and_the_rest_is_left_out():
    lines = [
        "def f(n):",
        "    t = (n, 'b')",
        "    s = {str(k) for k in range(n)}",
        "    d = {'a': (1, 2), n: None, (): {1.5}}",
        "    r = range(n)",
        "    half = n / 2",
        "    g = lambda k: k + n",
        "    pairs = zip(r, r)",
        "    mixed = frozenset({n, 'b', float('inf')})",
        "    t = r",
        "    return t[0], [mixed]",
    ]
    run = trace("\n".join(lines), 3)
    assert run.changes == (
        {"t": (3, "b")},
        {"s": {"0", "1", "2"}},
        {"d": {"a": (1, 2), 3: None, (): {1.5}}},
        {},
        {"half": 1.5},
        *({}, {}),
        {"mixed": frozenset({3, "b", float("inf")})},
        *({}, {}),
    )
    assert run.gone == ((),) * 8 + (("t",), ())
    assert run.output == (0, [frozenset({3, "b", float("inf")})])
    assert run.variables()["output"] == "(0, [frozenset({3, inf, 'b'})])"


def test_inner_functions_leave_no_lines():
    source = "def f(x):\n    def g(k):\n        m = k + 1\n        return m\n    y = g(g(x))\n    return y"
    assert trace(source, 3) == Trace((3,), (2, 5, 6), ({}, {"y": 5}, {}), 5)


def test_inner_functions_that_change_a_list_of_the_outer_one_are_seen_there():
    source = "def f(x):\n    xs = []\n    def g(k):\n        xs.append(k)\n        return k\n    y = g(x)\n    return y"
    assert trace(source, 3).changes == ({"xs": []}, {}, {"y": 3, "xs": [3]}, {})


def test_only_the_outermost_call_of_a_recursion_is_traced():
    source = "def f(n):\n    if n < 2:\n        return 1\n    m = f(n - 1)\n    return n * m"
    assert traces(source, 1, 4) == [
        Trace((1,), (2, 3), ({}, {}), 1),
        Trace((4,), (2, 4, 5), ({}, {"m": 6}, {}), 24),
    ]


def test_comprehensions_leave_no_variables():
    run = trace("def f(xs):\n    ys = [x * 2 for x in xs if x]\n    return sum(y for y in ys)", [0, 1, 2])
    assert run == Trace(([0, 1, 2],), (2, 3), ({"ys": [2, 4]}, {}), 6)


def test_order_of_sets_is_the_same_in_every_process():
    source = "def f(s):\n    return ''.join(set(s))"
    assert len({trace(source, "several letters").output for _ in range(4)}) == 1


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((7,), 7),
        ((True,), "True"),
        (("abc",), "'abc'"),
        (([1, 2],), "[1, 2]"),
        (([1, 2], 3), "[1, 2], 3"),
        ((1, 2), "1, 2"),
        ((), ""),
    ],
)
def test_input_is_the_number_or_the_text_of_the_arguments(arguments, shown):
    run = Trace(arguments, (2,), ({},), 0)
    assert run.input == shown
    assert run.call_text == str(shown)


def test_variables_are_numbered_in_order_and_labelled():
    run = trace("def f(x):\n    y = [x]\n    z = x > 1\n    return z", 2)
    assert run.variables() == {"input": 2, "state_1": "[2]", "state_2": "True", "output": "True"}
    assert label(5) == 5
    assert label(None) == "None"
    assert (label(10**18), label(-(10**18) - 1), label(1.0)) == (10**18, "-1000000000000000001", "1.0")


def test_every_program_runs_on_its_own_inputs():
    programs = [
        Program("f", "test", "def f(x):\n    return x + 1"),
        Program("g", "test", "def g(x, y):\n    return -x"),
    ]
    outputs = [[run.output for run in runs] for runs in trace_programs(programs, [[1, 2, 3], [(7, 1)]])]
    assert outputs == [[2, 3, 4], [-7]]


def test_no_programs_have_no_traces():
    assert trace_programs([], []) == []


# --- composition ------------------------------------------------------------------------------------------------

DOUBLE = Program("double", "test", "def double(x):\n    y = x * 2\n    return y")
FOURFOLD = Program("fourfold", "test", "def fourfold(x):\n    y = double(x)\n    return double(y)", calls=("double",))
OUTER = Program("outer", "test", "def outer(x):\n    z = fourfold(x)\n    return z + 1", calls=("fourfold",))


def test_called_programs_leave_no_lines():
    ((run,),) = trace_programs([OUTER], [[3]], library=[FOURFOLD, DOUBLE])
    assert run == Trace((3,), (2, 3), ({"z": 12}, {}), 13)


def test_programs_call_one_another_before_the_library():
    other = Program("double", "test", "def double(x):\n    return 0")
    (runs, _) = trace_programs([FOURFOLD, DOUBLE], [[3], [1]], library=[other])
    assert runs[0].output == 12


def test_program_may_not_call_what_it_does_not_declare():
    undeclared = Program("culprit", "test", "def culprit(x):\n    return double(x)")
    with pytest.raises(PbbError, match="culprit: line 2: a call of double is not allowed"):
        trace_programs([undeclared], [[1]], library=[DOUBLE])


def test_unknown_callee_is_refused_with_both_names():
    with pytest.raises(PbbError, match="fourfold: it calls double"):
        trace_programs([OUTER], [[1]], library=[FOURFOLD])


def test_circle_of_calls_is_refused():
    ping = Program("ping", "test", "def ping(x):\n    return pong(x)", calls=("pong",))
    pong = Program("pong", "test", "def pong(x):\n    return ping(x)", calls=("ping",))
    with pytest.raises(PbbError, match=r"circle \((ping -> pong -> ping|pong -> ping -> pong)\)"):
        trace_programs([ping], [[1]], library=[pong])


def test_callee_is_held_to_the_whitelist_too():
    bad = Program("double", "test", "def double(x):\n    return open(x)")
    with pytest.raises(PbbError, match="double: line 2: a call of open is not allowed"):
        trace_programs([FOURFOLD], [[1]], library=[bad])


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return open('leak.txt', 'w')", "open"),
        ("import os\n    return os.getpid()", "import"),
        ("return __import__('os')", "import"),
        ("return 1 // x", "ZeroDivisionError"),
        ("return culprit(x + 1)", "RecursionError"),
        ("return len('a' * 10 ** 11)", "MemoryError"),
        ("return y", "NameError"),
        ("return {}[10 ** 5000 + x]", "KeyError"),
        ("break", "outside loop"),
    ],
)
def test_forbidden_and_failing_programs_are_refused(body: str, reason: str):
    message = refusal(f"def culprit(x):\n    {body}", value=0)
    assert_one_line_naming_the_culprit(message)
    assert reason in message


def test_failure_on_a_single_input_is_refused():
    with pytest.raises(PbbError, match="f: ZeroDivisionError"):
        traces("def f(x):\n    return 6 // (x - 3)", 1, 2, 3, 4)


def test_wrong_number_of_arguments_is_refused():
    with pytest.raises(PbbError, match="f: TypeError"):
        trace("def f(x):\n    return x", 1, 2)


@pytest.mark.parametrize("source", ["def culprit(x:\n    return x", "def other(x):\n    return x"])
def test_source_that_defines_no_such_function_is_refused(source: str):
    assert_one_line_naming_the_culprit(refusal(source))


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("range(x)", "it returned range"),
        ("complex(x)", "it returned complex"),
        ("{x: range(x)}", "it returned dict with range in it"),
        ("[x, (1, {2: len})]", "it returned list with builtin_function_or_method in it"),
        ("culprit", "it returned function, not a number, text"),
        ("(y for y in [x])", "it returned generator"),
        ("[print]", "the name print is not allowed"),
        ("x.append", "AttributeError"),
        ("10 ** 1001", "beyond"),
        ("[[-10 ** 1001]]", "beyond"),
    ],
)
def test_output_that_is_no_value_is_refused_by_name(output: str, reason: str):
    message = refusal(f"def culprit(x):\n    return {output}")
    assert_one_line_naming_the_culprit(message)
    assert reason in message


@pytest.mark.parametrize("value", [1j, b"a", [1, range(3)], {"a": {1j}}, [(1, ...)], {(1, (b"",))}])
def test_argument_that_is_no_value_is_refused(value):
    assert_one_line_naming_the_culprit(refusal("def culprit(x):\n    return 1", value=value))


def tried(bodies: list[str]) -> list[int | None]:
    """What each body of `f{i}(x)` returns for 3; None where it cannot be run."""
    programs = [Program(f"f{i}", "test", f"def f{i}(x):\n    {body}") for i, body in enumerate(bodies)]
    return [runs and runs[0].output for runs in try_programs(programs, [[3]] * len(programs))]


def test_programs_that_fail_are_left_out_in_one_child_process(monkeypatch):
    children = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **settings: children.append(1) or popen(*args, **settings))
    failing = ["return 1 // (x - 3)", "return x[0]", "return x.upper()", "pass"]
    bodies = [body for body in failing for body in (body, "return x + 1")]
    assert tried(bodies) == [None, 4] * 4
    assert len(children) == 1
    with pytest.raises(PbbError, match="f: ZeroDivisionError"):  # where nothing may be left out
        traces("def f(x):\n    return 1 // (x - 3)", 3)


@pytest.mark.parametrize(
    "body",
    [
        "return open(x)",  # refused before it is run
        "return other(x)",
        "return len('a' * 10 ** 11)",  # fills the memory of the child process
        "return 10 ** 10 ** 9",  # cannot be stopped by an exception
    ],
)
def test_programs_that_end_the_child_process_harm_no_others(body: str):
    assert tried(["return x", body, "return x * 2", "return x // 0", "return -x"]) == [3, None, 6, None, -3]
