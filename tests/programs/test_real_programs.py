"""Programs as people write them: traces are those of `sys.settrace` on bare execution, in values of every type."""

import copy
import json
import sys

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.entry import Entry
from pbb_probe.programs.meaning import body_of, steps_of
from pbb_probe.programs.mutants import mutants
from pbb_probe.programs.program import Program, attempt_calls, call_arguments, trace_programs, try_outputs
from pbb_probe.programs.relabel import relabelled
from pbb_probe.programs.simpler import simpler_programs
from pbb_probe.programs.syntax import without_comments
from pbb_probe.programs.targets import call_targets, line_targets
from pbb_probe.programs.values import fault, read_value
from pbb_probe.programs.worked import worked_steps

BODIES = {
    "a return that changes a list": ("xs = [3, 1, 2]", "return xs.pop()"),
    "a return within a loop": (
        "xs = [3, 1]",
        "for y in xs:",
        "    return xs.pop() + xs.append(y) if y < 0 else xs.pop()",
    ),
    "a return that binds": ("return [(y := x + 1), y]",),
    "del": ("y, d = x, {1: 2}", "del y", "del d[1]", "y = 3", "del y, d", "return x"),
    "try": (
        *("try:", "    y = x // 0", "except ZeroDivisionError as e:", "    y = str(e)"),
        *("else:", "    y = 1", "finally:", "    x = 9", "return y, x"),
    ),
    "try without an error": ("try:", "    y = 1", "except Exception:", "    y = 2", "else:", "    y += 1", "return y"),
    "an error that assigns nothing": (
        "y = 1",
        "for k in (1, 0):",
        "    try:",
        "        y = 1 // k",
        "    except:",
        "        pass",
        "return y",
    ),
    "finally that returns": ("try:", "    return x", "finally:", "    return x + 1"),
    "finally after a return": ("xs = [1]", "try:", "    return xs.pop()", "finally:", "    xs = 'gone'"),
    "raise and assert": (
        *("try:", "    assert x > 99, 'small'", "except AssertionError as error:", "    y = error.args", "try:"),
        *(
            "    raise ValueError('no') from None",
            "except (KeyError, ValueError) as error:",
            "    y += (str(error),)",
            "return y",
        ),
    ),
    "for and else": ("for k in range(x):", "    if k == 9:", "        break", "else:", "    k = -1", "return k"),
    "while and else": (
        "while x:",
        "    x -= 1",
        "    if x == 1:",
        "        continue",
        "else:",
        "    y = x",
        "return y",
    ),
    "loops in loops": ("s = 0", "for i in range(2):", "    for j in range(i + 1):", "        s += i * j", "return s"),
    "a loop over nothing": ("for k in []:", "    y = k", "return x"),
    "a loop on a line": ("for k in range(3): x += k", "while x > 3: x -= 2", "return x"),
    "tests on a line": ("if x > 1: x = 0", "if x: return 1", "return x"),
    "statements on a line": ("y = x; z = y; y = 0", "return y, z"),
    "several lines": ("y = [", "    x,", "    x +", "    1,", "]", "return (y[0]", "        + y[1])"),
    "a long call": (
        "y = max(",
        "    x,",
        "    len(str(",
        "        x)))",
        "if (x and",
        "        y):",
        "    y = -y",
        "return y",
    ),
    "nonlocal": (
        "n = 0",
        "def g(k):",
        "    nonlocal n",
        "    n += k",
        "    return n",
        "g(2)",
        "y = g(3)",
        "return y, n",
    ),
    "a function that changes": ("xs = []", "def g(k):", "    xs.append(k)", "for k in range(2): g(k)", "return xs"),
    "comprehensions": (
        "xs = [k * x for k in range(3) if k]",
        "s = {k for k in xs}",
        "d = {k: {k} for k in xs}",
        "return xs, s, d",
    ),
    "walrus in a comprehension": ("ys = [last := k for k in range(x)]", "return ys, last"),
    "a generator": ("def g(n):", "    while n:", "        n -= 1", "        yield n", "a, *b = g(x)", "return a, b"),
    "iterators": ("it = iter([1, 2, 3])", "y = next(it)", "z = next(it, None)", "it = list(it)", "return y, z, it"),
    "stars": (
        "a, *b, (c, d) = 1, 2, 3, (4, 5)",
        "e = [*b, *'xy']",
        "f = {**{1: 2}, 3: 4}",
        "return max(*b, a), c, d, e, f",
    ),
    "several targets": ("a = b = [x]", "b.append(a[0])", "a[0], a[1] = a[1], 7", "return a, b"),
    "text": ("y = f'{x:>4}|{x!r}'", "z = '{:<3}|{name}'.format(x, name='é')", "w = '%03d' % x", "return y, z, w"),
    "annotations": ("y: int = x", "z: list[int]", "w: Unknown = y", "return w"),
    "types": ("y = type(x) is int", "z = isinstance(x, (int, str))", "return y, z, type(x).__name__"),
    "True and 1": (
        "y = 1",
        "y = True",
        "y = 1.0",
        "d = {1: 1}",
        "d[1] = 1.0",
        "xs = [1]",
        "xs[0] = True",
        "return y, d, xs",
    ),
    "signs of nothing": ("y = 0.0", "y = -0.0", "return str(y)"),
    "infinity": ("y = float('inf')", "z = [-y, y - 1]", "return y, z"),
    "variables that lose their value": ("y = x", "y = range(y)", "y = list(y)", "return y"),
    "dicts in order": ("d = {1: 2, 3: 4}", "d[1] = d.pop(1)", "return d"),
    "sets": ("s = {3, 1}", "s.add(2)", "s |= {'a', (1, 2), frozenset()}", "t = s - {1}", "return s, t, set()"),
    "match": (
        *(
            "y = []",
            "for z in ([1, 2], {'a': x}, 5, 'b'):",
            "    match z:",
            "        case [a, *rest]:",
            "            y.append(a)",
        ),
        *(
            "        case {'a': q}:",
            "            y.append(q)",
            "        case int(k) if k > 9:",
            "            y.append(-1)",
        ),
        *("        case 5 | 6:", "            y.append(z)", "        case _:", "            pass", "return y"),
    ),
    "imports": (
        "import math",
        "from collections import Counter, defaultdict as dd",
        "d = dd(list)",
        "d[x].append(math.floor(2.5))",
        "return dict(d), Counter('aab').most_common(1), math.pi",
    ),
    "lambdas": ("g = lambda a, b=2, *c, **d: (a, b, c, d)", "return g(1), g(1, 3, 4, k=5), (lambda: x)()"),
    "defaults": ("def g(a, b=[], *, c=3):", "    b.append(a)", "    return b + [c]", "g(1)", "return g(2, c=4)"),
    "recursion": ("def g(n):", "    return 1 if n < 2 else n * g(n - 1)", "y = g(x + 300 - 290)", "return y"),
    "a docstring": ("'''What it does.", "", "In words.'''", "# a comment", "", "y = x  # another", "", "return y"),
    "None": ("y = {}.get(x)", "return y"),
    "a decorator": (
        "def twice(g):",
        "    return lambda *a: g(*a) * 2",
        "@twice",
        "def h(k):",
        "    return k + 1",
        "y = h(x)",
        "return y, h(y)",
    ),
    "a coroutine": (
        "def total():",
        "    s = 0",
        "    while True:",
        "        s += yield s",
        "g = total()",
        "ys = [next(g), *map(g.send, [x, 2])]",
        "g.close()",
        "return ys",
    ),
    "objects and bytes": (
        "none = object()",
        "y = {}.get(x, none) is none",
        "b = bytearray(b'ab')",
        "b[0] += x",
        "return y, b.decode(), isinstance(none, object)",
    ),
    "a deque": (
        "from collections import deque",
        "d = deque([x], maxlen=2)",
        "y = d.maxlen",
        "d.extend('ab')",
        "return y, list(d)",
    ),
    "abstract types": (
        "from collections.abc import Iterable, Mapping",
        "return [isinstance(y, Iterable) for y in (x, [x], 'a')], isinstance({}, Mapping)",
    ),
}


def reference(source: str, name: str, arguments: tuple) -> tuple[list[int], list[dict[str, str]], str]:
    """The line events of the outermost call, the locals that are values after each, and what it returns."""
    scope: dict = {}
    exec(compile(source, "<reference>", "exec", flags=0x1000000), scope)  # annotations are not evaluated
    function = scope[name]
    lines: list[int] = []
    after: list[dict[str, str]] = []
    entered = []

    def local(frame, event, _):
        if event in ("line", "return"):
            if lines:
                after.append({name: text(value) for name, value in frame.f_locals.items() if fault(value) is None})
            if event == "line":
                lines.append(frame.f_lineno)
        return local

    def entering(frame, *_):
        if (frame.f_code.co_filename, frame.f_code.co_name) == ("<reference>", name) and not entered:
            entered.append(frame)
            return local
        return None

    sys.settrace(entering)
    try:
        output = function(*copy.deepcopy(arguments))
    finally:
        sys.settrace(None)
    return lines, after, text(output)


def text(value: object) -> str:
    """Equal for equal values of equal types, whatever the order of sets."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(map(text, value))})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({list(map(text, value))})"
    if isinstance(value, dict):
        return f"dict({[(text(key), text(item)) for key, item in value.items()]})"
    return f"{type(value).__name__} {value!r}"


def traced(
    source: str, name: str, arguments: tuple, parameters: tuple[str, ...]
) -> tuple[list[int], list[dict[str, str]], str]:
    ((trace,),) = trace_programs([Program(name, "test", source)], [[arguments]])
    after = [{name: text(value) for name, value in each.items()} for each in trace.variables_by_line(parameters)]
    return list(trace.lines), after, text(trace.output)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_trace_is_what_settrace_sees(body: tuple[str, ...]):
    source = "\n".join(["def f(x):", *(f"    {line}" if line else "" for line in body)])
    assert traced(source, "f", (3,), ("x",)) == reference(source, "f", (3,))


FILE = '''"""A file as people write them."""
from __future__ import annotations

import functools
import heapq, re as regex
from typing import List, Optional

LIMIT: int = 3  # a constant
WORDS = {w: len(w) for w in "some words".split()}


@functools.lru_cache(maxsize=None)
def fib(n):
    # twice recursive

    return n if n < 2 else fib(n - 1) + fib(n - 2)


def helper(xs: List[int], *rest, key=None) -> Optional[int]:
    """Smallest."""
    heapq.heapify(xs)
    return heapq.heappop(xs) if xs else None


def solve(xs: "List[int]", k: int = LIMIT, *more, **options) -> dict:
    """Solve it.

    >>> solve([3, 1])
    """
    global LIMIT

    first = helper(xs)  # changes xs
    LIMIT += 1
    words = sorted(WORDS, key=lambda w: (-WORDS[w], w))

    return {"first": first, "limit": LIMIT, "fib": fib(k + 4), "words": words,
            "found": regex.findall(r"[aeiou]", "".join(words))}
'''


@pytest.mark.parametrize("arguments", [([3, 1, 2],), ([], 5), ([2, 2], 1, "a", None)])
def test_a_file_with_imports_helpers_and_constants_runs_in_its_own_lines(arguments: tuple):
    assert traced(FILE, "solve", arguments, ("xs", "k")) == reference(FILE, "solve", arguments)
    assert traced(FILE, "fib", (9,), ("n",)) == reference(FILE, "fib", (9,))


DECORATED = """from math import *
from typing import *
import sys

sys.setrecursionlimit(1000)
T = TypeVar("T")
Pairs = Dict[str, List[Tuple[int, T]]]


def kept(function: Callable[..., T]) -> Callable[..., T]:
    known: Dict[int, T] = {}

    def wrapper(n):
        if n not in known:
            known[n] = function(n)
        return known[n]

    return wrapper


def shifted(by):
    def decorator(function):
        return lambda n: function(n + by)

    return decorator


@kept
def fib(n: int) -> int:
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)


@shifted(by=2)
def area(n, scale=1):
    n *= scale
    pairs: Pairs = {"n": [(floor(pi * n), n)]}
    return pairs, gcd(n, 10)


if __name__ == "__main__":
    area(fib(20))
"""


@pytest.mark.parametrize(("name", "given"), [("fib", 12), ("area", 3)])
def test_decorators_of_its_own_types_with_names_and_all_names_of_modules(name: str, given: int):
    """A decorator may call the function with other arguments than it was called with."""
    assert traced(DECORATED, name, (given,), ("n",)) == reference(DECORATED, name, (given,))


def test_a_decorator_may_return_what_the_function_does_not():
    lines = ["def safe(g):", "    def h(x):", "        try:", "            return g(x)", "        except ValueError:"]
    lines += ["            return -1", "    return h", "@safe", "def f(x):", "    y = x + 1", "    raise ValueError"]
    assert traced("\n".join(lines), "f", (3,), ("x",)) == reference("\n".join(lines), "f", (3,))


def test_a_decorator_that_calls_nothing_is_refused():
    source = "def never(g):\n    return lambda x: x\n@never\ndef f(x):\n    return x"
    ((error,),) = attempt_calls([Program("f", "test", source)], [[1]])
    assert "its decorator returned without calling it" in str(error)


def test_calls_share_nothing():
    lines = ["seen = []", "def f(x, into=[]):", "    seen.append(x)", "    into.append(x)", "    return seen + into"]
    source = "\n".join(lines)
    ((first, second),) = trace_programs([Program("f", "test", source)], [[1, 2]])
    assert (first.output, second.output) == ([1, 1], [2, 2])


def test_arguments_keep_their_types_and_are_those_before_the_call():
    source = "def f(d, t, s):\n    d[t] = s.pop()\n    return d, t, s"
    given = ({}, (1, [2.5]), {7})
    source = source.replace("d[t]", "d[t[0]]")
    ((trace,),) = trace_programs([Program("f", "test", source)], [[given]])
    assert trace.arguments == ({}, (1, [2.5]), {7})
    assert trace.output == ({1: 7}, (1, [2.5]), set())
    assert trace.call_text == "{}, (1, [2.5]), {7}"


ODD = [
    ("def f(x, *rest, k=2):\n    y = (x, rest)\n    del x\n    return {y: {k, 1.5}}", [((1, 2), None), (1, True, "a")]),
    ("def f(d):\n    d[()] = frozenset({1})\n    return d.pop(1), 10 ** 30, float('inf')", [({1: 1},), ({1: 1.0},)]),
]


def test_traces_are_stored_and_loaded_with_every_type(tmp_path):
    entries = []
    for k, (source, calls) in enumerate(ODD):
        program = Program(f"f{k}", "own", source.replace("f(", f"f{k}(", 1))
        (run,) = trace_programs([program], [calls])
        entries.append(Entry(program, "with_io", tuple(run), (0,)))
    corpus = Corpus(tuple(entries), {})
    corpus.save(tmp_path)
    loaded = Corpus.load(tmp_path)
    assert repr(loaded.entries) == repr(corpus.entries)
    calls = loaded.calls("trace")
    traces = {(e.program.name, trace.call_text): trace for e in entries for trace in e.traces}
    assert len(calls) == len(traces) == 4
    for name, call, output in zip(calls["program"], calls["call"], calls["output"], strict=True):
        assert text(call_arguments(name, call)) == text(traces[name, call].arguments)
        assert text(read_value(output)) == text(traces[name, call].output)
    for line in (tmp_path / "corpus.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # JSON has no Infinity


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_runs_has_documents_targets_and_changed_programs(body: tuple[str, ...]):
    source = "\n".join(["def f(x):", *(f"    {line}" if line else "" for line in body)])
    program = Program("f", "own", source)
    ((trace,),) = trace_programs([program], [[3]])
    assert "return" in worked_steps(program, trace)
    rows = line_targets(source, trace).set_index("line")
    assert rows["executed"][sorted(set(trace.lines) & set(rows.index))].all()
    ((output,),) = try_outputs([Program("f", "own", without_comments(source))], [[3]])
    assert text(output) == text(trace.output)
    for changed in (*(mutant for _, mutant in mutants(source)), *simpler_programs(source).values()):
        compile(changed, "changed", "exec")
    compile(relabelled(source), "relabelled", "exec")
    assert call_targets(source, trace) is not None
    assert steps_of(source)
    assert body_of(source).startswith("def f(v0)")


# --- many at once ----------------------------------------------------------------------------------------------------

FAILING = {
    "pass": "it returned nothing",
    "if x > 9: return 1": "it returned nothing",
    "return f": "it returned function, not a number",
    "y = []\n    y.append(y)\n    return y": "nested more than 50 deep",
    "while x: x += 1": "more than 5000 lines",
    "while True:\n        try: x += 1\n        except: pass": "more than 5000 lines",
    "try:\n        return sum(1 for y in iter(int, 1))\n    except:\n        return 1": "ran longer than 1 s",
    "return print(x)": "a call of print",
    "return len('a' * 10 ** 11)": "MemoryError",
    "return 'é'.encode('shift_jis').decode('cp932')": "the encoding shift_jis is not available",
    "try:\n        return 'é'.encode('shift_jis')\n    except LookupError:\n        return 1": "the encoding shift_jis",
    "return 'é'.encode('unicode_escape')": "the encoding unicode_escape is not available",
    "return 'é'.encode('no such')": "LookupError: unknown encoding: no such",
    "def g(n):\n        try: return g(n + 1)\n        except: return n\n    return g(0)": "at a depth of calls",
    "import itertools\n    return list(itertools.cycle([1]))": "MemoryError",
    "y = type(type(x))\n    return 1": "TypeError: the type of a type is not given",
    "raise ValueError('one\\ntwo')": "ValueError: one two",
    "try:\n        while x: x += 1\n    except:\n        return 1": "more than 5000 lines",
}


def test_each_call_that_fails_says_why_and_spoils_no_other(monkeypatch):
    monkeypatch.setattr("pbb_probe.programs.program.SECONDS", 1)
    bodies = [body for failing in FAILING for body in (failing, "return x + 1")]
    programs = [Program("f", "test", f"def f(x):\n    {body}") for body in bodies]
    attempts = [attempt for (attempt,) in attempt_calls(programs, [[3]] * len(programs))]
    assert [attempt.output for attempt in attempts[1::2]] == [4] * len(FAILING)
    for attempt, reason in zip(attempts[::2], FAILING.values(), strict=True):
        assert isinstance(attempt, PbbError)
        assert str(attempt).startswith("A program could not be run: f: ")
        assert reason in str(attempt)
        assert "\n" not in str(attempt)


def test_the_lines_that_a_call_may_run_are_a_setting():
    program = Program("f", "test", "def f(x):\n    for k in range(x):\n        pass\n    return k")
    ((attempt,),) = attempt_calls([program], [[3_000]])
    assert "more than 5000 lines" in str(attempt)
    ((trace,),) = trace_programs([program], [[3_000]], lines=6_002)
    assert len(trace.lines) == 6_002
    with pytest.raises(PbbError, match="more than 6001 lines"):
        trace_programs([program], [[3_000]], lines=6_001)
    for wild in (0, -1, True, 1.5, None, 10**9):
        with pytest.raises(PbbError, match="The lines that a call may run must be a whole number"):
            trace_programs([program], [[1]], lines=wild)
