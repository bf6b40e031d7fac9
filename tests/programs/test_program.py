"""Traces are held to executions worked out by hand; what a program may not do is refused in one line that names it."""

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Trace, trace_programs


def traces(source: str, *inputs: int) -> list[Trace]:
    return trace_programs([Program("f", "test", source)], [inputs])[0]


def refusal(source: str, value: int = 1, seconds: int = 10) -> str:
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
    assert "culprit" in message


def test_one_step_program_has_no_states():
    assert traces("def f(x):\n    return x * 7 % 10", 0, 3, 9) == [
        Trace(input=0, states=(), lines=(2,), output=0),
        Trace(input=3, states=(), lines=(2,), output=1),
        Trace(input=9, states=(), lines=(2,), output=3),
    ]


def test_two_step_program_keeps_the_value_between_the_steps():
    assert traces("def f(x):\n    y = (x + 4) % 10\n    return abs(y - 5)", 0, 8) == [
        Trace(input=0, states=(4,), lines=(2, 3), output=1),
        Trace(input=8, states=(2,), lines=(2, 3), output=3),
    ]


def test_assigning_the_same_value_again_is_a_state_again():
    source = "def f(x):\n    y = x\n    y = max(y, 2)\n    x = y\n    return x"
    assert traces(source, 5, 1) == [
        Trace(input=5, states=(5, 5, 5), lines=(2, 3, 4, 5), output=5),
        Trace(input=1, states=(1, 2, 2), lines=(2, 3, 4, 5), output=2),
    ]


def test_augmented_and_tuple_assignments_are_states_in_order():
    source = "def f(x):\n    y, z = x, x + 1\n    y += z\n    return y * 2"
    assert traces(source, 3) == [Trace(input=3, states=(3, 4, 7), lines=(2, 3, 4), output=14)]


def test_only_the_branch_that_runs_leaves_lines_and_states():
    source = "def f(x):\n    if x > 3:\n        y = 10\n    else:\n        y = 20\n    return y + x"
    assert traces(source, 5, 1) == [
        Trace(input=5, states=(10,), lines=(2, 3, 6), output=15),
        Trace(input=1, states=(20,), lines=(2, 5, 6), output=21),
    ]


def test_while_loop_leaves_a_state_an_assignment():
    source = "def f(x):\n    y = 0\n    while y < x:\n        y = y + 2\n    return y"
    assert traces(source, 3) == [Trace(input=3, states=(0, 2, 4), lines=(2, 3, 4, 3, 4, 3, 5), output=4)]


def test_for_loop_assigns_its_variable_once_a_turn():
    source = "def f(x):\n    y = x\n    for i in range(2):\n        y = y + i\n    return y"
    (trace,) = traces(source, 5)
    assert trace.output == 6
    assert trace.lines == (2, 3, 4, 3, 4, 3, 5)
    assert trace.states == (5, 0, 5, 1, 6)  # y, i, y, i, y: the end of the loop assigns nothing


def test_statements_that_share_a_line_leave_their_own_states():
    source = "def f(x):\n    y = x; y = y + 1\n    if x > 3: y = 0\n    return y"
    assert [trace.states for trace in traces(source, 1, 5)] == [(1, 2), (5, 6, 0)]


def test_variables_are_numbered_in_order():
    (trace,) = traces("def f(x):\n    y = x + 1\n    z = y + 1\n    return z * z", 2)
    assert trace.variables() == {"input": 2, "state_1": 3, "state_2": 4, "output": 16}


def test_every_program_runs_on_its_own_inputs():
    programs = [Program("f", "test", "def f(x):\n    return x + 1"), Program("g", "test", "def g(x):\n    return -x")]
    outputs = [[trace.output for trace in runs] for runs in trace_programs(programs, [[1, 2, 3], [7]])]
    assert outputs == [[2, 3, 4], [-7]]


def test_endless_loop_is_stopped():
    assert_one_line_naming_the_culprit(refusal("def culprit(x):\n    while True:\n        pass", seconds=1))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return open('leak.txt', 'w')", "open"),
        ("import os\n    return os.getpid()", "import"),
        ("return __import__('os').getpid()", "import"),
        ("return 1 // x", "ZeroDivisionError"),
        ("return culprit(x + 1)", "RecursionError"),
        ("return len('a' * 10 ** 11)", "MemoryError"),
        ("return y", "NameError"),
    ],
)
def test_forbidden_and_failing_programs_are_refused(body: str, reason: str):
    message = refusal(f"def culprit(x):\n    {body}", value=0)
    assert_one_line_naming_the_culprit(message)
    assert reason in message


def test_failure_on_a_single_input_is_refused():
    with pytest.raises(PbbError, match="f: ZeroDivisionError"):
        traces("def f(x):\n    return 6 // (x - 3)", 1, 2, 3, 4)


@pytest.mark.parametrize("source", ["def culprit(x:\n    return x", "def other(x):\n    return x"])
def test_source_that_defines_no_such_function_is_refused(source: str):
    assert_one_line_naming_the_culprit(refusal(source))


def test_output_that_is_no_number_is_refused_by_name():
    assert_one_line_naming_the_culprit(refusal("def culprit(x):\n    return range(x)"))
