"""The parent is held up by no child: not one that is stopped, talks without end, or says what is no answer."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs import _executor, child, values
from pbb_probe.programs.program import Program, trace_programs, try_programs

PROGRAMS = [Program(name, "test", f"def {name}(x):\n    return x") for name in ("first", "second")]


@pytest.fixture
def children(monkeypatch):
    """The child processes that are started, in order."""
    started: list[subprocess.Popen] = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return started


@pytest.fixture
def executor(monkeypatch, tmp_path):
    """`executor(lines)` puts a script of these lines in the place of the executor."""

    def replace(*lines: str) -> None:
        path = tmp_path / "executor.py"
        path.write_text("\n".join(["import json, os, signal, sys, time", *lines]))
        monkeypatch.setattr(child, "_EXECUTOR", path)

    return replace


def refusal(programs=PROGRAMS, inputs=((1,), (1,)), seconds: int = 1) -> str:
    with pytest.raises(PbbError) as raised:
        trace_programs(programs, inputs, seconds=seconds)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def is_gone(process: subprocess.Popen) -> bool:
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


# --- time by the clock -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("os.kill(os.getpid(), signal.SIGSTOP)",),
        ("print(json.load(sys.stdin) and 'null', flush=True)", "os.kill(os.getpid(), signal.SIGSTOP)"),
        ("time.sleep(1000)",),
        ("os.close(1)", "os.close(2)", "time.sleep(1000)"),
        ("while True:", "    print(end='x', flush=True)", "    time.sleep(0.01)"),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))", "time.sleep(1000)"),
    ],
)
def test_a_child_that_never_ends_is_killed(lines, executor, children, monkeypatch):
    monkeypatch.setattr(child, "PATIENCE", 0.3)
    executor(*lines)
    began = time.monotonic()
    message = refusal()
    assert time.monotonic() - began < 10
    culprit = "second" if "null" in lines[0] else "first"
    assert message.startswith(f"A program could not be run: {culprit}: its child process had not ended after")
    assert all(map(is_gone, children))
    assert len(children) == 1


def test_a_stopped_child_is_killed_while_it_runs_programs(children, monkeypatch):
    monkeypatch.setattr(child, "PATIENCE", 0.3)
    started = subprocess.Popen.__init__

    def stopped(self, *args, **settings):
        started(self, *args, **settings)
        os.kill(self.pid, signal.SIGSTOP)

    monkeypatch.setattr(subprocess.Popen, "__init__", stopped)
    assert "first: its child process had not ended" in refusal()
    assert all(map(is_gone, children))


def test_the_clock_leaves_a_busy_machine_ten_times_the_processor_time(executor):
    assert child.PATIENCE >= 10
    executor("time.sleep(2)", "print('[[[2], [{}], 1]]')", "print('[[[2], [{}], 1]]')")  # more than `seconds`
    assert len(trace_programs(PROGRAMS, [[1], [1]], seconds=1)) == 2


def test_an_interrupted_parent_leaves_no_child(executor, children, monkeypatch):
    executor("time.sleep(1000)")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(child, "_converse", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trace_programs(PROGRAMS, [[1], [1]])
    assert all(map(is_gone, children))


# --- what is read ----------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, trace_programs, try_programs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
programs = [Program(f"f{k}", "test", f"def f{k}(x):\\n    return 'a' * 19_000_000") for k in range(20)]
try:
    (try_programs if sys.argv[1] == "try" else trace_programs)(programs, [[1]] * 20)
except PbbError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.parametrize("way", ["trace", "try"])
def test_long_answers_cost_the_parent_little_memory(way: str):
    done = subprocess.run([sys.executable, "-c", PEAK, way], capture_output=True, text=True, check=True)
    kibibytes, message = done.stdout.strip().split(" ", 1)
    assert int(kibibytes) < 150 * 1024
    assert message.startswith("A program could not be run: f3: by then the programs had answered more than 64 MiB")
    assert "run fewer of them at once" in message


@pytest.mark.parametrize("end", ["1", "2"])
def test_endless_output_ends_the_child(end: str, executor, children):
    executor("while True:", f"    os.write({end}, b'x' * 65536)")
    message = refusal()
    assert message.startswith("A program could not be run: first: ")
    assert ("64 MiB" if end == "1" else "errors without end") in message
    assert all(map(is_gone, children))


def test_large_jobs_and_large_answers_do_not_wait_for_each_other():
    programs = [Program(f"f{k}", "test", f"def f{k}(s):\n    return s + s") for k in range(30)]
    texts = [["a" * 200_000, "b" * 200_000] for _ in programs]  # 12 MB in, 24 MB and more out
    traces = trace_programs(programs, texts)
    assert [[len(trace.output) for trace in runs] for runs in traces] == [[400_000, 400_000]] * 30


def test_a_child_that_reads_nothing_is_no_reason_to_wait(executor):
    executor("os.close(0)", "sys.exit(3)")
    texts = [["a" * 1_000_000], ["a"]]
    assert "first: the child process ended with 3" in refusal(inputs=texts)


# --- what is believed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "null",
        "3",
        "{}",
        "[]",
        "x",
        "[[]]",
        "[[[2], [{}]]]",
        "[[[2], [{}], 1], [[2], [{}], 1]]",
        "[[[0], [{}], 1]]",
        "[[[2.5], [{}], 1]]",
        "[[[true], [{}], 1]]",
        '[[["2"], [{}], 1]]',
        "[[2, [{}], 1]]",
        "[[[2], [], 1]]",
        "[[[2], [[]], 1]]",
        '[[[2], [{"two words": 1}], 1]]',
        '[[[2], [{"y": {}}], 1]]',
        '[[[2], [{"y": {"tuple": 1}}], 1]]',
        '[[[2], [{"y": {"dict": [[1]]}}], 1]]',
        '[[[2], [{"y": {"dict": [[[1], 2]]}}], 1]]',
        '[[[2], [{"y": {"object": []}}], 1]]',
        '[[[2], [{"y": {"set": [], "tuple": []}}], 1]]',
        '[[[2], [{"y": {"float": "1"}}], 1]]',
        "[[[2], [{}], 1, [[], []]]]",
        '[[[2], [{}], 1, [[]], {"two words": 1}]]',
        "[[[2], [{}], 1, [], {}, 1]]",
        '{"failed": 1}',
        '[{"failed": "x", "and": "y"}]',
        "[[[2], [{}], {}]]",
        "[[[2], [{}], NaN]]",
        "[[[2], [{}], 1" + "0" * 1001 + "]]",
        "[[[2], [{}], " + "9" * 5000 + "]]",
        "[[[2], [{}], " + "[" * 500 + "]" * 500 + "]]",
        "[" * 100_000,
    ],
    ids=lambda answer: answer[:40],
)
def test_an_answer_that_is_no_trace_is_refused(answer: str, executor):
    executor(f"print({answer!r})", "print('[[[2], [{}], 1]]')")
    assert "first: its child process gave an answer that is no trace" in refusal()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_answers_of_another_number_are_refused(n: int, executor):
    executor(*["print('[[[2], [{}], 1]]')"] * n)
    assert f"gave {n} answers" in refusal()


def test_bytes_that_are_no_text_are_refused(executor):
    executor("os.write(1, b'\\xff\\xfe\\n\\n')")
    assert "no trace" in refusal()


@pytest.mark.parametrize(
    "complaint", [b"", b"\n \n", b"\xff\xfe", b"a\nb\rc\x1b", "\u2028\u0085x".encode(), b"x" * 5000]
)
def test_whatever_is_said_on_ending_is_one_line(complaint: bytes, executor):
    executor(f"os.write(2, {complaint!r})", "sys.exit(1)")
    message = refusal()
    assert message.startswith("A program could not be run: first: ")
    assert message.isprintable()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, 40])
def test_a_child_that_dies_of_a_signal_is_named(number: int, executor):
    executor("json.load(sys.stdin)", "print('null', flush=True)", f"os.kill(os.getpid(), {int(number)})")
    assert refusal().startswith("A program could not be run: second: it ")


@pytest.mark.parametrize("seconds", [0, -1, True, 1.5, float("nan"), "60", None, 10**10])
def test_seconds_that_are_none_are_refused(seconds):
    assert "seconds" in refusal(seconds=seconds)


def test_programs_and_inputs_of_different_numbers_are_refused():
    assert "2 programs and inputs for 1" in refusal(inputs=[[1]])


# --- what both sides must know alike ---------------------------------------------------------------------------------


def test_both_sides_have_the_same_limits():
    assert child.PROGRAM_SECONDS == _executor.PROGRAM_SECONDS


@pytest.mark.parametrize("depth", [values.DEEPEST - 1, values.DEEPEST, values.DEEPEST + 1])
def test_the_deepest_value_goes_in_and_out(depth: int):
    """Random values as deep as that and no deeper, against the nesting that their text shows."""
    rng = random.Random(depth)
    value: list = []
    for _ in range(depth - 1):
        value = rng.choice([[value], [1, value], ["a", value, None]])
    text = json.dumps(value)
    assert max(text[: k + 1].count("[") - text[: k + 1].count("]") for k in range(len(text))) == depth
    program = Program("f", "test", "def f(x):\n    return x")
    if depth <= values.DEEPEST:
        assert trace_programs([program], [[value]])[0][0].output == value
    else:
        with pytest.raises(PbbError, match="f: an argument is nested more than"):
            trace_programs([program], [[value]])
    grown = Program("f", "test", f"def f(x):\n    for i in range({depth - 1}):\n        x = [x]\n    return x")
    (runs,) = try_programs([grown], [[[]]])
    assert (runs is not None) == (depth <= values.DEEPEST)
