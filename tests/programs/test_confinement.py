"""What a program may not do is refused in one line that names it, and the child process holds even without that."""

import json
import random
import re
import subprocess
import sys
import time

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs import _executor
from pbb_probe.programs.arithmetic import arithmetic_program, arithmetic_programs, step_sequences
from pbb_probe.programs.program import Program, trace_programs
from pbb_probe.programs.whitelist import BUILTINS, LONGEST_SOURCE, check_source


def function(*lines: str) -> str:
    """A function `culprit` of one argument with these lines as its body."""
    return "\n".join(["def culprit(x):", *(f"    {line}" for line in lines)])


def refusal(source: str, seconds: int = 1) -> str:
    """The message with which `culprit` is refused after a good program; it must be one line that names it."""
    before = Program("before", "test", "def before(x):\n    return x")
    with pytest.raises(PbbError) as raised:
        trace_programs([before, Program("culprit", "test", source)], [[1], [1]], seconds=seconds)
    message = str(raised.value)
    assert message.startswith("A program could not be run: culprit: ")
    assert len(message.splitlines()) == 1
    assert len(message) < 400
    return message


# --- what the whitelist refuses, before anything runs --------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("return ().__class__.__bases__[0].__subclasses__()", "method __subclasses__"),
        ("return ().__class__", "attribute __class__"),
        ("return x.real", "attribute real"),
        ("return (lambda: 0).__globals__['__builtins__']", "attribute __globals__"),
        ("return [x for x in []].gi_frame.f_back", "attribute f_back"),
        ("return __builtins__", "name __builtins__"),
        ("__x = 1", "name __x"),
        ("return _", "name _ "),
        ("return [_ for _ in [1]]", "name _ "),
        ("return (lambda _y: 1)(2)", "anything but a name or a method"),
        ("f = lambda _y: 1", "name _y"),
        ("return '{0.__class__}'.format(x)", "method format"),
        ("return '{y.__class__}'.format_map({'y': x})", "method format_map"),
        ("return f'{x.__class__}'", "an f-string"),
        ("return getattr(x, 'real')", "call of getattr"),
        ("return eval('1')", "call of eval"),
        ("exec('x = 1')", "calls a method"),
        ("return exec('x = 1')", "call of exec"),
        ("return compile('1', '', 'eval')", "call of compile"),
        ("return open('/etc/passwd')", "call of open"),
        ("return __import__('os')", "call of __import__"),
        ("return print(x)", "call of print"),
        ("return type(x)", "call of type"),
        ("return vars()", "call of vars"),
        ("import os", "import"),
        ("from os import system", "import"),
        ("global y", "global"),
        ("nonlocal y", "nonlocal"),
        ("del x", "del"),
        ("assert x", "assert"),
        ("raise x", "raise"),
        ("return (y := x)", ":="),
        ("y: int = x", "annotated assignment"),
        ("return [*x]", "starred"),
        ("return max(*x)", "starred"),
        ("return max(x, default=1)", "keyword argument default of max"),
        ("return sorted(x, **x)", "keyword argument ** of sorted"),
        ("x.sort(cmp=1)", "keyword argument cmp of sort"),
        ("return [y async for y in x]", "async"),
        ("y = yield x", "yield"),
        ("return 1.5", "constant 1.5"),
        ("return 1j", "constant 1j"),
        ("return b'a'", "constant b'a'"),
        ("return ...", "constant Ellipsis"),
        ("x", "calls a method"),
        ("return [len][0](x)", "anything but a name or a method"),
    ],
)
def test_line_that_is_not_allowed_is_refused_with_its_number(line: str, reason: str):
    message = refusal(function("x = x", line))
    assert "culprit: line 3: " in message
    assert reason in message


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("try:", "    x = 1", "except NameError:", "    x = 2"), "line 2: try"),
        (("with x:", "    x = 1"), "line 2: with"),
        (("class A:", "    y = x"), "line 2: class"),
        (("match x:", "    case 1:", "        x = 2"), "line 2: match"),
        (("async def g():", "    return 1"), "line 2: async"),
        (("def g(y=1):", "    return y"), "line 2: a default argument"),
        (("g = lambda y=1: y",), "line 2: a default argument"),
        (("def g(*y):", "    return y"), "line 2: an argument that is not positional"),
        (("def g(**y):", "    return y"), "line 2: an argument that is not positional"),
        (("def g(*, y):", "    return y"), "line 2: an argument that is not positional"),
        (("def _g(y):", "    return y"), "line 2: the name _g"),
        (("@len", "def g(y):", "    return y"), "line 3: a decorator"),
    ],
)
def test_block_that_is_not_allowed_is_refused(lines: tuple[str, ...], reason: str):
    assert reason in refusal(function(*lines, "return x"))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "culprit = lambda x: x",
        "def other(x):\n    return x",
        "x = 1\ndef culprit(x):\n    return x",
        "def culprit(x):\n    return x\ndef other(x):\n    return x",
        "def culprit(x):\n    return x\nprint(culprit(1))",
        "@len\ndef culprit(x):\n    return x",
        "def culprit(x=print(1)):\n    return x",
        "def culprit(*x):\n    return x",
        "async def culprit(x):\n    return x",
        "class culprit:\n    pass",
        "def culprit(x):\n    return x\x00",
        "def culprit(x):\n    return '\ud800'",
        "def culprit(x):\nreturn x",
    ],
)
def test_source_that_is_not_one_plain_function_is_refused(source: str):
    refusal(source)


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 5_000 + "x" + ")" * 5_000,
        "[" * 150 + "]" * 150,
        "-" * 19_000 + "x",
        "not " * 4_000 + "x",
        "x" + " + x" * 4_500,
        "x" + "[0]" * 6_000,
        "lambda: " * 2_000 + "x",
    ],
    ids=lambda expression: expression[:5],
)
def test_deep_nesting_is_refused_and_harms_neither_process(expression: str):
    refusal(function(f"return {expression}"))


def test_parentheses_that_mean_nothing_are_no_nesting():
    check_source("culprit", function("return " + "(" * 150 + "x" + ")" * 150))


def test_over_long_source_is_refused():
    assert "20000" in refusal(function(*["x = x"] * (LONGEST_SOURCE // 10)))


def test_a_name_that_is_no_name_is_refused_in_one_line():
    with pytest.raises(PbbError) as raised:
        check_source("two\nlines", "def f(x):\n    return x")
    assert "\n" not in str(raised.value)


def test_wide_characters_do_not_hide_a_name():
    with pytest.raises(PbbError, match="culprit: line 2: a call of open"):
        check_source("culprit", function("return \uff4fpen(x)"))  # Python reads a wide o as o
    with pytest.raises(PbbError, match="culprit: line 2: the attribute __class__"):
        check_source("culprit", function("return x._\uff3fclass\uff3f_"))


@pytest.mark.parametrize(
    "lines",
    [
        ("'what it does'", "return x"),
        ("xs = sorted([3, x], key=lambda y: -y, reverse=True)", "xs.sort(key=abs)", "return xs[0]"),
        ("return sum([k for k, y in enumerate([1, x], start=2)], start=1)",),
        ("def twice(f, y):", "    return f(f(y))", "return twice(lambda y: y + x, 1)"),
        ("d = {'a': x}", "s = {1}", "s.add(d.get('a'))", "return len(s) if s else 0"),
        ("while x < 9:", "    x += 2", "    if x % 2:", "        continue", "    break", "return x"),
        ("return ''.join(reversed('abc'[:x + 1])).upper()",),
        ("return max([1, x], key=lambda y: -y) if not x else divmod(7, 2)[1]",),
    ],
)
def test_what_is_allowed_runs(lines: tuple[str, ...]):
    ((run,),) = trace_programs([Program("culprit", "test", function(*lines))], [[1]])
    assert run.output is not None


def test_every_arithmetic_program_is_allowed():
    for length in (1, 2):
        for steps in step_sequences(length):
            program = arithmetic_program("wexu", steps)
            check_source(program.name, program.source, program.calls)


def test_both_sides_know_the_same_builtins():
    assert set(_executor.BUILTINS) == BUILTINS


def test_a_thousand_programs_take_seconds():
    programs = arithmetic_programs([f"f{k}" for k in range(1000)], random.Random(0))
    began = time.monotonic()
    traces = trace_programs(programs, [range(10)] * len(programs))
    assert time.monotonic() - began < 20
    assert sum(map(len, traces)) == 10_000


# --- what only running shows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("while True:", "    pass"), "more than 5000 lines"),
        (("for i in range(10 ** 9):", "    x = i"), "more than 5000 lines"),
        (("def g(y):", "    while True:", "        y = y", "return g(x)"), "longer than 1 s"),
        (("return culprit(x)",), "RecursionError"),
        (("g = lambda y: g(y)", "return g(x)"), "RecursionError"),
        (("return sum(range(10 ** 12))",), "longer than 1 s"),
        (("return len([[y] for y in range(10 ** 12)])",), "(longer than 1 s|MemoryError)"),
        (("return 10 ** 10 ** 9",), "(longer than 1 s|MemoryError)"),
        (("return len(str(x << 10 ** 12))",), "MemoryError"),
        (("x = 3", "while True:", "    x = x * x"), r"beyond 10\*\*18"),
        (("x = x << 70", "return 1"), r"beyond 10\*\*18"),
        (("return str(10 ** 5000)",), "ValueError"),
        (("return len('a' * 10 ** 11)",), "MemoryError"),
        (("return '%99999999999d' % x",), "MemoryError"),
        (("return len([x] * 10 ** 11)",), "MemoryError"),
        (("x = 'a'", "while True:", "    x = x + x"), "(MemoryError|too long)"),
        (("x = []", "while True:", "    x = [x]"), "RecursionError"),
        (("x = []", "x.append(x)", "return x"), "RecursionError"),
        (("x = [1]", "while len(x) < 3:", "    x = [x, x]"), "(longer than 1 s|MemoryError|RecursionError)"),
        (("x = 'a' * 10 ** 6", "for i in range(40):", "    x = x.upper()", "return 1"), "too long to keep"),
    ],
)
def test_program_without_bounds_is_stopped(lines: tuple[str, ...], reason: str):
    assert re.search(reason, refusal(function(*lines)))


def test_a_program_alone_may_not_use_up_the_time_of_all():
    began = time.process_time()
    assert "it ran longer than 5 s" in refusal(function("return all(True for y in range(10 ** 12))"), seconds=60)
    assert time.process_time() - began < 5  # of this process


# --- the child process itself, handed what the whitelist would refuse ----------------------------------------------

REACH = (
    "os = [c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__"
)


def execute(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run `culprit` by the executor directly, with the functions of the module os within its reach."""
    job = {
        "sources": [{"name": "culprit", "source": function(REACH, *lines), "calls": {}}],
        "inputs": [[[1]]],
        "skip": False,
    }
    command = [sys.executable, "-I", _executor.__file__, "5"]
    return subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env={}, timeout=30)


def test_no_program_is_skipped_for_the_time_that_all_took():
    source = function("return all(True for y in range(10 ** 12))")
    job = {"sources": [{"name": "culprit", "source": source, "calls": {}}], "inputs": [[[1]]], "skip": True}
    command = [sys.executable, "-I", _executor.__file__, "1"]
    child = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env={}, timeout=30)
    assert (child.returncode, child.stdout) == (1, "")
    assert "1 s in all" in child.stderr


def test_the_hostile_source_does_reach_the_system():
    assert json.loads(execute("return os['getpid']() > 0").stdout)[0][-1] is True


@pytest.mark.parametrize(
    "lines",
    [
        ("return os['open']('/etc/passwd', 0)",),
        ("os['close'](0)", "return os['open']('/etc/passwd', 0)"),
        ("return os['open']({path!r}, 65)",),
        ("return os['__builtins__']['open']({path!r}, 'w').write('x')",),
        ("return os['__builtins__']['open']('/etc/passwd').read()",),
        ("return os['open']({path!r}, 0)",),
        ("return len(os['listdir']('/'))",),
        ("return os['pipe']()[0]",),
        ("return os['fork']()",),
        ("return os['posix_spawn']('/bin/true', ['true'], {{}})",),
        ("return os['__builtins__']['__import__']('socket').socket().fileno()",),
        ("return os['__builtins__']['__import__']('_socket').socket().fileno()",),
        ("os['setuid'](0)", "return os['fork']()"),
    ],
)
def test_no_file_process_or_socket_can_be_opened(lines: tuple[str, ...], tmp_path):
    path = tmp_path / "leak.txt"
    tmp_path.chmod(0o777)  # what stops it is not the folder
    child = execute(*(line.format(path=str(path)) for line in lines))
    assert child.returncode == 1
    assert child.stdout == ""
    refusals = ("Too many open files", "temporarily unavailable", "not permitted", "ImportError", "ModuleNotFoundError")
    assert any(words in child.stderr for words in refusals), child.stderr
    assert not path.exists()


def test_limits_cannot_be_raised_again():
    limits = execute(
        "modules = os['sys'].modules",
        "return [list(modules['resource'].getrlimit(k)) for k in (6, 7)]",
    )
    assert json.loads(limits.stdout)[0][-1] == [[0, 0], [0, 0]]
    raised = execute("return os['sys'].modules['resource'].setrlimit(7, (9, 9))")
    assert "ValueError" in raised.stderr
