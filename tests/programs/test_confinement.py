"""What a program may not do is refused in one line that names it, and the child process holds even without that."""

import ctypes
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import time
import types
from collections import Counter, defaultdict, deque
from functools import partial
from pathlib import Path

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs import _executor
from pbb_probe.programs.arithmetic import arithmetic_program, arithmetic_programs, step_sequences
from pbb_probe.programs.program import Program, trace_programs
from pbb_probe.programs.whitelist import BUILTINS, LONGEST_SOURCE, METHODS, MODULES, check_source


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
        ("return x.__name__", "attribute __name__"),
        ("return x().__name__", "attribute __name__"),
        ("return (lambda: 0).__globals__['__builtins__']", "attribute __globals__"),
        ("return [x for x in []].gi_frame.f_back", "attribute f_back"),
        ("g = (y for y in [1])\n    return g.gi_frame", "line 4: the attribute gi_frame"),
        ("g = (y for y in [1])\n    g.throw(x)", "line 4: the method throw"),
        (
            "try:\n        x = 1\n    except TypeError as e:\n        return e.__traceback__",
            "line 6: the attribute __traceback__",
        ),
        ("try:\n        x = 1\n    except TypeError as e:\n        return e.obj", "line 6: the attribute obj"),
        (
            "try:\n        x = 1\n    except TypeError as e:\n        return e.with_traceback(x)",
            "line 6: the method with_",
        ),
        ("return __builtins__", "name __builtins__"),
        ("__x = 1", "name __x"),
        ("global __builtins__", "name __builtins__"),
        ("import math as __builtins__", "name __builtins__"),
        ("return [1 for __y in x]", "name __y"),
        ("return lambda __y: 1", "name __y"),
        ("match x:\n        case __y:\n            return 1", "line 4: the name __y"),
        ("x.y = 1", "assignment to the attribute y"),
        ("x.append = 1", "assignment to the attribute append"),
        ("del x.append", "assignment to the attribute append"),
        ("x.append += 1", "assignment to the attribute append"),
        ("for x.append in [1]:\n        pass", "assignment to the attribute append"),
        ("return '{0.__class__}'.format(x)", "the field 0.__class__ of a format"),
        ("return '{0[a]}'.format(x)", "the field 0[a] of a format"),
        ("return '{:{0.__class__}}'.format(x)", "the field 0.__class__ of a format"),
        ("return list(map('{0.__class__}'.format, [x]))", "the field 0.__class__ of a format"),
        ("return '{'.format(x)", "the format cannot be read"),
        ("return ('{0.__' + 'class__}').format(x)", "method format is not allowed"),
        ("return x.format(x)", "method format is not allowed"),
        ("return str.format('{0.__class__}', x)", "method format is not allowed"),
        ("return map(str.format, ['{0.__class__}'], [x])", "method format is not allowed"),
        ("return f'{x}'.format(x)", "method format is not allowed"),
        ("return '{y.__class__}'.format_map({'y': x})", "method format_map"),
        ("return f'{x.__class__}'", "attribute __class__"),
        ("return f'{x:{x.__class__}}'", "attribute __class__"),
        ("return getattr(x, 'real')", "call of getattr"),
        ("return list(map(getattr, [x], ['real']))", "name getattr"),
        ("g = eval\n    return g('1')", "name eval"),
        ("return eval('1')", "call of eval"),
        ("exec('x = 1')", "call of exec"),
        ("return exec('x = 1')", "call of exec"),
        ("return compile('1', '', 'eval')", "call of compile"),
        ("return open('/etc/passwd')", "call of open"),
        ("return __import__('os')", "call of __import__"),
        ("return print(x)", "call of print"),
        ("return vars()", "call of vars"),
        ("return hash(x)", "call of hash"),
        ("return BaseException()", "call of BaseException"),
        ("return super()", "call of super"),
        ("import os", "the import of os is not allowed: there are __future__, array,"),
        ("import os.path", "the import of os.path"),
        ("import collections.abc", "the import of collections.abc"),
        ("from . import math", "the import of ."),
        ("from os import system", "the import of os"),
        ("from math import *", "the import of * from math"),
        ("from operator import attrgetter", "the import of attrgetter from operator"),
        ("from string import Formatter", "the import of Formatter from string"),
        ("import operator\n    return operator.methodcaller('a')", "line 4: the method methodcaller"),
        ("import re\n    return re.sre_compile", "line 4: the attribute sre_compile"),
        ("import random", "the import of random"),
        ("match x:\n        case int(real=1):\n            return 1", "line 4: a pattern that looks into an object"),
        ("match x:\n        case int(1, 2):\n            return 1", "line 4: a pattern that looks into an object"),
        ("with x:\n        x = 1", "with"),
        ("return [y async for y in x]", "async"),
        ("return 1j", "constant 1j"),
    ],
)
def test_line_that_is_not_allowed_is_refused_with_its_number(line: str, reason: str):
    message = refusal(function("x = x", line))
    assert ("culprit: line 3: " in message) != reason.startswith("line")
    assert reason in message


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("with x:", "    x = 1"), "line 2: with"),
        (("class A:", "    y = x"), "line 2: a class"),
        (("async def g():", "    return 1"), "line 2: async"),
        (("def g(y=open):", "    return y"), "line 2: the name open"),
        (("g = lambda y=open: y",), "line 2: the name open"),
        (("def g(__y):", "    return y"), "line 2: the name __y"),
        (("def g(*__y):", "    return y"), "line 2: the name __y"),
        (("def __g(y):", "    return y"), "line 2: the name __g"),
        (("@len", "def g(y):", "    return y"), "line 3: a decorator"),
        (("@x.count", "def g(y):", "    return y"), "line 3: a decorator"),
        (("@(lambda g: g)", "def g(y):", "    return y"), "line 3: a decorator"),
        (("try:", "    x = 1", "except* TypeError:", "    x = 2"), "line 2: except*"),
        (("try:", "    x = 1", "except TypeError as __e:", "    x = 2"), "line 4: the name __e"),
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
        "def culprit(x):\n    return x\nprint(culprit(1))",
        "import os\ndef culprit(x):\n    return x",
        "culprit = open\ndef culprit(x):\n    return x",
        "def culprit(x):\n    return x\nclass A:\n    pass",
        "def culprit(x):\n    return x\nreturn 1",
        "def culprit(x):\n    return x\nculprit = 1",
        "@len\ndef culprit(x):\n    return x",
        "def culprit(x=print(1)):\n    return x",
        "async def culprit(x):\n    return x",
        "class culprit:\n    pass",
        "def culprit(x):\n    return x\x00",
        "def culprit(x):\n    return '\ud800'",
        "def culprit(x):\nreturn x",
    ],
)
def test_source_that_is_not_a_function_with_what_it_needs_is_refused(source: str):
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
    assert not {"getattr", "setattr", "eval", "exec", "open", "compile", "vars", "globals", "super"} & BUILTINS


def test_no_method_leads_out_of_a_value():
    """Of every object that programs can have, the attributes that are allowed are methods, plain numbers or text."""
    things = [1, 1.5, 1j, "a", b"a", [], (), set(), frozenset(), {}, len, [].append, str.upper, iter([]), range(3)]
    things += [lambda: 0, (k for k in [1]), ValueError("a"), NameError("a"), StopIteration(1), zip(), slice(1)]
    things += [Counter(), deque(), re.compile("a"), re.match("a", "a"), defaultdict(int), partial(len)]
    names = METHODS | {name for names in MODULES.values() for name in names}
    reached = [getattr(thing, name) for thing in things for name in names if hasattr(thing, name)]
    data = [value for value in reached if not callable(value)]
    assert len(data) > 10
    assert {type(value) for value in data} <= {int, float, str, tuple, type(None)}  # tuple: the arguments of errors


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
        (("x = 3", "while True:", "    x = x * x"), r"beyond 10\*\*1000"),
        (("x = x << 7000", "return 1"), r"beyond 10\*\*1000"),
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


# --- each layer alone, by a process that has no other ---------------------------------------------------------------

CONFINEMENT = Path(_executor.__file__).with_name("_confinement.py")
ALONE = """
import ctypes, importlib.machinery, json, os, resource, socket, subprocess, sys, types
layers, path, parent = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
confinement = types.ModuleType("confinement")
importlib.machinery.SourceFileLoader("confinement", sys.argv[4]).exec_module(confinement)
tcp, other, unix = socket.socket(), socket.socket(), socket.socket(socket.AF_UNIX)
missing = {layer: confinement.reason_against(getattr(confinement, layer)) for layer in layers}

def attempt(does):
    try:
        does()
    except Exception as error:
        return type(error).__name__
    return "done"

libc = ctypes.CDLL(None, use_errno=True)
def without_python(call, *arguments):
    if call(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

piece = (ctypes.c_size_t * 2)(8, 8)  # at an address where nothing is
attempts = {
    "read a file": lambda: open("/etc/passwd").read(),
    "write a file": lambda: open(path, "w").write("leak"),
    "make a folder": lambda: os.mkdir(path + ".d"),
    "list a folder": lambda: os.listdir("/"),
    "look at a file": lambda: os.stat("/etc/passwd"),
    "change a mode": lambda: os.chmod(path + ".kept", 0o777),
    "remove a file": lambda: os.remove(path + ".kept"),
    "make a socket": lambda: socket.socket(),
    "connect": lambda: tcp.connect(("127.0.0.1", int(sys.argv[5]))),
    "listen": lambda: other.bind(("127.0.0.1", 0)),
    "connect to an abstract socket": lambda: unix.connect(sys.argv[6].replace("@", chr(0))),
    "signal": lambda: os.kill(parent, 0),
    "signal by the C library": lambda: without_python(libc.kill, parent, 0),
    "make a pipe": lambda: os.pipe(),
    "fork": lambda: os.fork() or os._exit(0),
    "start a program": lambda: subprocess.run(["/bin/true"]),
    "become a program": lambda: os.execv("/nowhere", ["nowhere"]),
    "ask for a limit of another": lambda: resource.prlimit(parent, resource.RLIMIT_CORE),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "read the memory of another": lambda: without_python(libc.process_vm_readv, parent, piece, 1, piece, 1, 0),
    "make a file in memory": lambda: without_python(libc.memfd_create, b"x", 0),
    "get a limit": lambda: resource.getrlimit(resource.RLIMIT_CORE),
    "compute": lambda: [bytearray(1 << 22) for _ in range(8)],
}
print(json.dumps([missing, {name: attempt(does) for name, does in attempts.items()}]))
"""
BY_LANDLOCK = {
    *("read a file", "write a file", "make a folder", "list a folder", "remove a file", "start a program"),
    *(
        "connect",
        "listen",
        "connect to an abstract socket",
        "signal",
        "signal by the C library",
        "read the memory of another",
    ),
}
HARMLESS = {"get a limit", "compute"}


def attempts(layers: list[str], path) -> dict[str, str]:
    """What a process with only these layers achieves: for each attempt "done", or the error that it met."""
    (path.parent / f"{path.name}.kept").write_text("kept")
    path.parent.chmod(0o777)  # what stops it is not the folder
    name = f"@pbb-{path.parent.name}-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name.replace("@", "\0"))
        abstract.listen()
        command = [sys.executable, "-I", "-c", ALONE, json.dumps(layers), str(path), str(os.getpid())]
        command += [str(CONFINEMENT), str(server.getsockname()[1]), name]
        child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    missing, achieved = json.loads(child.stdout)
    for layer, reason in missing.items():
        if reason:
            pytest.skip(f"{layer} cannot be had here: {reason}")
    return achieved


linux = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")


@linux
def test_without_any_layer_the_attempts_succeed(tmp_path):
    achieved = attempts([], tmp_path / "leak")
    met = {name for name, result in achieved.items() if result != "done"}
    assert met <= {"become a program", "read the memory of another"}  # there is nothing to become
    assert (tmp_path / "leak").exists()
    assert not (tmp_path / "leak.kept").exists()


@linux
def test_landlock_alone_opens_no_file_connects_to_nothing_and_sends_no_signal(tmp_path):
    achieved = attempts(["forbid_new_privileges", "close_files_and_network"], tmp_path / "leak")
    version = landlock_version()
    expected = BY_LANDLOCK - ({"connect", "listen"} if version < 4 else set())
    expected -= {"connect to an abstract socket", "signal", "signal by the C library"} if version < 6 else set()
    assert {name: achieved[name] for name in expected} == dict.fromkeys(expected, "PermissionError")
    assert {achieved[name] for name in HARMLESS} == {"done"}
    assert not (tmp_path / "leak").exists()
    assert not (tmp_path / "leak.d").exists()
    assert (tmp_path / "leak.kept").exists()


@linux
def test_seccomp_alone_leaves_nothing_but_computing(tmp_path):
    achieved = attempts(["forbid_new_privileges", "filter_system_calls"], tmp_path / "leak")
    refused = achieved.keys() - HARMLESS - {"raise a limit"}
    assert {name: achieved[name] for name in refused} == dict.fromkeys(refused, "PermissionError")
    assert achieved["raise a limit"] == "ValueError"  # Python's word for EPERM there
    assert {achieved[name] for name in HARMLESS} == {"done"}
    assert not (tmp_path / "leak").exists()
    assert (tmp_path / "leak.kept").exists()


@linux
def test_a_call_of_another_architecture_kills():
    """The filter, run by hand on what the kernel would show it."""
    for machine, (column, architecture) in confinement().ARCHITECTURES.items():
        steps = confinement().seccomp_filter(machine)
        verdict = {
            name: filtered(steps, numbers[column], architecture) for name, numbers in confinement().CALLS.items()
        }
        assert set(verdict.values()) == {confinement().ALLOW}
        allowed = {n for n in range(600) if filtered(steps, n, architecture) == confinement().ALLOW}
        prlimit = confinement().PRLIMIT[column]
        assert allowed == {numbers[column] for numbers in confinement().CALLS.values()} | {prlimit}
        assert filtered(steps, 0x40000000, architecture) == confinement().REFUSE  # the numbers of x32
        for arguments in ((1, 0, 0), (0, 0, 1), (0, 0, 1 << 32)):  # of another process, or to be set
            assert filtered(steps, prlimit, architecture, arguments) == confinement().REFUSE
        for other in (0x40000003, 0x40000028, 0, *(a for _, a in confinement().ARCHITECTURES.values())):
            if other != architecture:
                assert filtered(steps, 0, other) == confinement().KILL


def filtered(steps, number: int, architecture: int, arguments=(0, 0, 0)) -> int:
    """What a filter of loads, equalities and returns says of a system call (classic BPF, as the kernel defines it)."""
    data = struct.pack("<IIQ3Q", number, architecture, 0, *arguments)
    place = word = 0
    while True:
        code, if_equal, if_not, k = steps[place]
        place += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (word,) = struct.unpack_from("<I", data, k)
        elif code == 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
            place += if_equal if word == k else if_not
        else:
            assert code == 0x06  # BPF_RET | BPF_K
            return k


def confinement():
    return _executor.beside("_confinement")


def landlock_version() -> int:
    libc = ctypes.CDLL(None)
    return libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint32(1))


# --- hostile code in the executor, where the kernel sets no rlimits -------------------------------------------------

WITHOUT_RLIMITS = """
import resource, runpy, sys
resource.setrlimit = lambda *_: None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@linux
@pytest.mark.parametrize(
    "line",
    [
        "return os['open']('/etc/passwd', 0)",
        "return os['open']({path!r}, 65)",
        "return os['__builtins__']['open']({path!r}, 'w').write('x')",
        "return os['mkdir']({path!r})",
        "return len(os['listdir']('/'))",
        "return 1 // (1 + os['sys'].modules['ctypes'].CDLL(None).fork())",  # -1 where it fails
        "return 1 // (1 + os['sys'].modules['ctypes'].CDLL(None).kill(os['getppid'](), 0))",
        "return os['kill'](os['getppid'](), 0)",
        "return os['kill'](-1, 0)",
        "return os['fork']()",
        "return os['posix_spawn']('/bin/true', ['true'], {{}})",
        "return os['execv']('/bin/true', ['true'])",
        "return os['pipe']()[0]",
        "return os['dup'](0)",
        "return os['memfd_create']('x')",
        "return os['setuid'](0)",
        "return os['sched_setaffinity'](0, [0])",
        "return os['__builtins__']['__import__']('_socket').socket().fileno()",
    ],
)
def test_the_kernel_holds_hostile_code_without_rlimits(line: str, tmp_path):
    layers = json.loads(run_without_rlimits({"sources": [], "inputs": [], "skip": False, "report": True}).stdout)
    if missing := {name: reason for name, reason in layers.items() if reason}:
        pytest.skip(f"this kernel lacks layers: {missing}")
    path = tmp_path / "leak"
    tmp_path.chmod(0o777)
    source = function(REACH, line.format(path=str(path)))
    child = run_without_rlimits(
        {"sources": [{"name": "culprit", "source": source, "calls": {}}], "inputs": [[[1]]], "skip": False}
    )
    assert child.returncode == 1, child
    assert child.stdout == ""
    assert "not permitted" in child.stderr or "Error" in child.stderr
    assert not path.exists()


def run_without_rlimits(job: dict) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", WITHOUT_RLIMITS, _executor.__file__, "5"]
    return subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env={}, timeout=30)


CONFINED = """
import importlib.machinery, sys, types
confinement = types.ModuleType("confinement")
importlib.machinery.SourceFileLoader("confinement", sys.argv[1]).exec_module(confinement)
print(confinement.confine(5)["seccomp"], flush=True)
sys.stdin.read()
"""


@linux
def test_what_the_kernel_says_of_the_child():
    """Its own account of itself is not taken for it: the parent reads /proc while the child waits for its job."""
    command = [sys.executable, "-I", "-c", CONFINED, str(CONFINEMENT)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as child:
        missing = child.stdout.readline().strip()
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        limits = Path(f"/proc/{child.pid}/limits").read_text()
        child.stdin.close()
    fields = dict(line.split(":", 1) for line in lines)
    if missing:
        pytest.skip(f"no seccomp here: {missing}")
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"  # a filter
    assert "0" not in fields["Uid"].split()
    assert re.search(r"Max open files +0 +0 ", limits)
    assert re.search(r"Max cpu time +5 +6 ", limits)


def test_a_layer_that_is_missing_leaves_the_others_in_force(monkeypatch):
    module = confinement()
    said = []
    monkeypatch.setattr(module, "limit_resources", lambda seconds: said.append(seconds))
    monkeypatch.setattr(module, "become_nobody", lambda: said.append("nobody"))
    monkeypatch.setattr(module.sys, "platform", "plan9")
    monkeypatch.setattr(module.os, "uname", lambda: types.SimpleNamespace(machine="pdp11"))
    layers = module.confine(7)
    assert said == [7, "nobody"]
    assert {name: bool(reason) for name, reason in layers.items()} == {
        **{"no_new_privs": True, "landlock": True, "seccomp": True},
        **{"rlimits": False, "user": False},
    }
    assert "plan9" in layers["landlock"]
    assert "pdp11" in layers["seccomp"]
