"""Odd programs and inputs from anywhere: each works, or is refused in one sentence."""

import copy
import itertools
import json
import random
import re
from pathlib import Path

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.describe import describe
from pbb_probe.programs.documents import program_document
from pbb_probe.programs.forms import is_straight, rewrite
from pbb_probe.programs.own import load_programs
from pbb_probe.programs.program import Program, call_arguments, count_steps, trace_programs
from pbb_probe.programs.relabel import relabelled
from pbb_probe.programs.syntax import node_types, parsed, statement_lines
from pbb_probe.programs.targets import call_targets
from pbb_probe.programs.worked import worked_steps

F = "def f(x):\n    return x"


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def returning(expression: str) -> str:
    return f"def f(x):\n    return {expression}"


TOO_MUCH = {
    "a sum": returning("x" + " + x" * 900),
    "lists": returning("[" * 190 + "]" * 190),
    "calls": returning("abs(" * 190 + "x" + ")" * 190),
    "signs": returning("-" * 900 + "x"),
    "not": returning("not " * 900 + "x"),
    "methods": returning("x" + ".strip()" * 600),
    "places": returning("x" + "[0]" * 900),
    "lambdas": returning("lambda: " * 900 + "x"),
    "choices": returning("1 if x else " * 400 + "x"),
    "tests": "def f(x):\n    if x == 0:\n        x = 1\n" + "    elif x == 1:\n        x = 2\n" * 300 + "    return x",
    "hexadecimal": returning("0x" + "f" * 5000),
    "octal": returning("[0o" + "7" * 9000 + "]"),
    "decimal": returning("9" * 5000),
    "brackets": returning("(" * 300 + "x" + ")" * 300),
}
ODD_TEXT = {
    "half a surrogate pair": returning("'\ud800'"),
    "a name of half a pair": "def \ud800(x):\n    return x",
    "null": F + "\0",
    "nothing": "",
    "a mark": "\ufeff\ufeff" + F,
    "a page": "\x0c" * 3,
}


def refused(does, *arguments) -> str:
    """The one sentence with which it is refused."""
    with pytest.raises(PbbError) as raised:
        does(*arguments)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def attempt(does, *arguments):
    """What it returns, or the one sentence with which it is refused."""
    try:
        return does(*arguments)
    except PbbError:
        return refused(does, *arguments)


def jsonl(tmp_path: Path, *rows) -> Path:
    path = tmp_path / "mine.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return path


def python(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.py"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def corpus_of(path) -> Corpus:
    return make_corpus(with_io=1, without_io=0, shown_inputs=1, programs=path)


# --- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [*TOO_MUCH.values(), *ODD_TEXT.values()], ids=[*TOO_MUCH, *ODD_TEXT])
def test_a_source_that_cannot_be_handled_is_refused_wherever_it_is_given(source: str, tmp_path):
    assert "f" in refused(trace_programs, [Program("f", "test", source)], [[1]])
    refused(corpus_of, jsonl(tmp_path, {"source": source, "inputs": [[1]]}))
    refused(corpus_of, python(tmp_path, f"{source}\nf_inputs = [1, 2]"))
    refused(describe, source)
    for does in (relabelled, parsed, node_types, statement_lines, count_steps, is_straight, rewrite):
        if source.strip("\x0c"):
            refused(does, source)


@pytest.mark.parametrize("terms", [20, 60])
def test_sums_of_some_length_work_everywhere(terms: int, tmp_path):
    source = returning("x" + " + x" * (terms - 1))
    for path in (
        jsonl(tmp_path, {"source": source, "inputs": [[3]]}),
        python(tmp_path, f"{source}\nf_inputs = [3]"),
    ):
        (entry,) = corpus_of(path).entries
        (trace,) = entry.traces
        assert trace.output == 3 * terms
        assert worked_steps(entry.program, trace).endswith(f" = {3 * terms}")
        assert len(statement_lines(entry.program.source)) == len(entry.program.source)
        assert call_targets(entry.program.source, trace) == {}
        relabelled(entry.program.source)


@pytest.mark.parametrize("step", ["y = y + y", "y = y + 1"])
def test_steps_that_would_not_fit_into_one_expression_are_not_folded(step: str):
    """Of forty steps that double, 2**40 terms would be made; of three hundred, a tree too deep."""
    source = "\n    ".join(["def f(x):", "y = x", *[step] * 300, "return y"])
    assert not is_straight(source)
    refused(rewrite, source, "nested")
    for seed in range(9):
        document = program_document(Program("f", "own", source), "code", random.Random(seed))
        assert document.completion.count("\n") == 303


@pytest.mark.parametrize(
    "name", ["match", "case", "type", "print", "len", "max", "x" * 3000, "größe", "ﬁnd", "f_inputs"]
)
def test_odd_names_work(name: str, tmp_path):
    source = f"def {name}(x):\n    return max(x, 1) + 1" if name != "max" else "def max(x):\n    return x + 2"
    entries = corpus_of(jsonl(tmp_path, {"source": source, "inputs": [[1]]})).entries
    assert entries[0].traces[0].output in (2, 3)
    assert corpus_of(python(tmp_path, f"{source}\n{name}_inputs = [1]")).entries[0].traces == entries[0].traces


@pytest.mark.parametrize("callee", ["", "two\nlines", "\ud800", "a b"])
def test_callees_that_are_no_names_are_refused(callee: str):
    refused(lambda: Program("f", "own", F, calls=(callee,)))


def test_long_names_are_cut_in_messages(tmp_path):
    name = "x" * 5000
    function = f"def {name}(x):\n    return x"
    for text in (
        function,
        f"{function}\n{function}",
        f"{function}\n{name}_inputs = 3",
        f"{function}\n{name}_inputs = []",
    ):
        refused(load_programs, python(tmp_path, text))
    for odd in ("return y", "return x.gi_frame", "return 0x" + "f" * 5000, "return 1 // 0"):
        refused(corpus_of, python(tmp_path, f"{function.replace('return x', odd)}\n{name}_inputs = [1]"))
    rows = [{"source": function, "inputs": [[1]]}, {"source": function + " + 1", "inputs": [[1]]}]
    refused(load_programs, jsonl(tmp_path, *rows))


@pytest.mark.parametrize("name", ["if", "None", "__x", "__class__", "two words", "", "1", "\ud800", "a.b", "\n", "x\0"])
def test_what_is_no_name_is_refused(name: str, tmp_path):
    source = f"def {name}(x):\n    return x"
    refused(trace_programs, [Program(name, "test", source)], [[1]])
    refused(corpus_of, jsonl(tmp_path, {"source": source, "inputs": [[1]]}))


@pytest.mark.parametrize("odd", [5, None, True, [], {}, b"", F.encode()])
def test_fields_of_another_type_are_refused(odd):
    for fields in ({"name": odd}, {"family": odd}, {"source": odd}, {"calls": odd} if odd != [] else {"calls": [odd]}):
        refused(lambda fields: Program(**{"name": "f", "family": "own", "source": F, **fields}), fields)


# --- inputs ----------------------------------------------------------------------------------------------------------

NO_VALUES = {
    "deep": nested(900),
    "a little too deep": nested(51),
    "large": 10**1000 + 1,
    "without end": 10**5000,
    "negative": -(10**1400),
    "complex": 1j,
    "bytes": b"a",
    "inside": [1, (2, {"a": [...]})],
}


@pytest.mark.parametrize("value", NO_VALUES.values(), ids=NO_VALUES)
def test_what_is_no_value_is_refused_as_an_input(value, tmp_path):
    assert "f: an argument is" in refused(trace_programs, [Program("f", "test", F)], [[value]])
    assert "f: an argument is" in refused(trace_programs, [Program("f", "test", F)], [[(1, value)]])
    if value != 10**5000:  # such a number has no text
        text = repr(value)
        if not re.search("j|b'|Ell", text):
            refused(corpus_of, jsonl(tmp_path, json.dumps({"source": F, "inputs": [[value]]})))
        refused(corpus_of, python(tmp_path, f"{F}\nf_inputs = [[{text}]]"))
        refused(call_arguments, "f", text)
    else:
        refused(corpus_of, python(tmp_path, f"{F}\nf_inputs = [[{value:#x}]]"))
        refused(call_arguments, "f", f"{value:#x}")


def test_a_value_that_holds_itself_or_doubles_is_refused():
    circle: list = []
    circle.append(circle)
    refused(trace_programs, [Program("f", "test", F)], [[circle]])
    doubled: list = [1]
    for _ in range(40):
        doubled = [doubled, doubled]
    assert "more than" in refused(trace_programs, [Program("f", "test", F)], [[doubled]])


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "\u2028", "\ufeff", "\x1b[31m", "'\"\\", "\U0001d518", ""])
def test_odd_text_is_a_value(text: str, tmp_path):
    source = "def f(s):\n    t = s + s\n    return [t, ord('a')]"
    path = jsonl(tmp_path, {"source": source, "inputs": [[text], [text + "a"]]})
    corpus = make_corpus(with_io=1, without_io=0, shown_inputs=1, programs=path)
    assert [trace.output for trace in corpus.entries[0].traces] == [[text * 2, 97], [(text + "a") * 2, 97]]
    corpus.save(tmp_path / "saved")
    assert Corpus.load(tmp_path / "saved") == corpus
    calls = corpus.calls("trace")
    assert [call_arguments("f", call) for call in calls["call"]] in ([(text,), (text + "a",)], [(text + "a",), (text,)])
    "".join(calls["prompt"] + calls["completion"]).encode()  # what a tokenizer is given is text


def test_text_that_a_program_makes_may_be_half_a_pair(tmp_path):
    path = python(tmp_path, "def f(x):\n    y = chr(x)\n    return y + 'a'\nf_inputs = [55296, 56320, 97]")
    corpus = make_corpus(with_io=1, without_io=0, shown_inputs=1, programs=path)
    assert [trace.output for trace in corpus.entries[0].traces] == ["\ud800a", "\udc00a", "aa"]
    corpus.save(tmp_path / "saved")
    assert Corpus.load(tmp_path / "saved").digest == corpus.digest
    "".join(corpus.calls("trace")["completion"]).encode()


@pytest.mark.parametrize("inputs", [5, None, "ab", "", {"a": 1}, True, 1.5, [5], ["ab"], [None], [[1], 2]])
def test_inputs_that_are_no_argument_lists_are_refused(inputs, tmp_path):
    assert "Line 1" in refused(load_programs, jsonl(tmp_path, {"source": F, "inputs": inputs}))
    if not isinstance(inputs, list):
        refused(trace_programs, [Program("f", "test", F)], [inputs])
        refused(load_programs, python(tmp_path, f"{F}\nf_inputs = {inputs!r}"))


# --- rows and files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        "null",
        "true",
        '"text"',
        "[]",
        "{}",
        "NaN",
        "{]",
        "[" * 900 + "]" * 900,
        "[" * 100_000,
        '{"source": "def f(x):\\n    return x", "inputs": [[1]], "inputs": [[2]]}',
        '{"source": "def f(x):\\n    return x", "inputs": ' + "[" * 900 + "]" * 900 + "}",
        '{"source": "def f(x):\\n    return x", "inputs": [[1' + "0" * 5000 + "]]}",
        {"source": {"def": 1}, "inputs": [[1]]},
        {"source": ["def"], "inputs": [[1]]},
        {"source": 5, "inputs": [[1]]},
        {"source": None, "inputs": [[1]]},
        {"source": True, "inputs": [[1]]},
        {"source": nested(300), "inputs": [[1]]},
        *(
            {"source": F, "inputs": [[1]], "group": group}
            for group in ([], {}, 0, False, 1.5, "", "x" * 5000, ["with_io"])
        ),
        {"source": F, "inputs": [[1]], "group": nested(300)},
        '{"source": "def f(x):\\n    return x", "inputs": [[1]], "group": NaN}',
    ],
    ids=lambda row: str(row)[:50],
)
def test_odd_rows_are_refused(row, tmp_path):
    refused(load_programs, jsonl(tmp_path, {"source": "def g(x):\n    return x", "inputs": [[1]]}, "", row))


@pytest.mark.parametrize("name", ["mine.py", "mine.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp500"])
def test_files_of_another_encoding_are_refused(name: str, encoding: str, tmp_path):
    text = f"{F}\nf_inputs = [1]\n" if name == "mine.py" else json.dumps({"source": F, "inputs": [[1]]})
    (tmp_path / name).write_bytes(text.encode(encoding))
    refused(load_programs, tmp_path / name)


@pytest.mark.parametrize("name", ["mine.py", "mine.jsonl"])
def test_files_that_cannot_be_read_are_refused(name: str, tmp_path):
    path = tmp_path / name
    for content in (b"", b"\n \n", b"\0", b"\0" * 5000, b"\xef\xbb\xbf", b"\xff"):
        path.write_bytes(content)
        refused(load_programs, path)
    path.unlink()
    path.mkdir()
    refused(load_programs, path)
    refused(load_programs, path / name)
    for odd in (
        f"~nobody-of-that-name/{name}",
        f"\0{name}",
        f"{'x' * 260}{name}",
        "",
        ".",
        "/dev/null",
        f"/dev/null/{name}",
        f"two\nlines/{name}",
        f"\udcff{name}",
        "\n",
    ):
        refused(load_programs, odd)
    refused(load_programs, None)


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    path = jsonl(tmp_path, {"source": F, "inputs": [[1]]})

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbidden)  # root may read whatever its mode is
    monkeypatch.setattr(Path, "read_text", forbidden)
    assert "Permission denied" in refused(load_programs, path)


@pytest.mark.parametrize(
    "text",
    [
        "f_inputs = [[1, 2], [3, {}]]".format("[" * 900),
        "f_inputs = [1 + 1]",
        "f_inputs = ['a' 5]",
        "f_inputs = [f_inputs]",
        "f_inputs = [*[1]]",
        "f_inputs = [{[]: 1}]",
        "f_inputs = [b'a']",
        "f_inputs = [(1, (2, 3))]",
        "f_inputs = [" + "-" * 900 + "1]",
        "f_inputs = (1, 2)",
        "f_inputs = None",
        "f_inputs = 'ab'",
        "def f_inputs(k):\n    return " + "[" * 60 + "]" * 60,
        "def f_inputs(k):\n    return " + "k" + " + k" * 900,
        "def f_inputs(k):\n    return range(k)",
        "def f_inputs(k):\n    while True:\n        k = k",
        "class f_inputs:\n    pass",
        "async def f_inputs(k):\n    return k",
    ],
    ids=lambda text: text[:40],
)
def test_odd_inputs_of_python_files_are_refused(text: str, tmp_path):
    refused(corpus_of, python(tmp_path, f"{F}\n{text}\n"))


ODD_CALLS = ["[" * 900 + "]" * 900, "[" * 100 + "]" * 100, "-" * 900 + "1", "9" * 5000, "1j", "b'a'", "{1: x}"]
ODD_CALLS += ["x", "1\n2", "\ud800", "\0", "1] + [2", "...", "f'{x}'", "[] + []", "*[1]", "a=1"]


@pytest.mark.parametrize("call", ODD_CALLS, ids=lambda call: call[:20])
def test_odd_calls_are_refused(call: str):
    refused(call_arguments, "f", call)


# --- corpora ---------------------------------------------------------------------------------------------------------

WILD = [
    -1,
    True,
    False,
    1.0,
    1.5,
    float("nan"),
    float("inf"),
    None,
    "3",
    [3],
    {},
    10**10,
    10**400,
    10**5000,
    nested(900),
]


@pytest.mark.parametrize("name", ["with_io", "without_io", "composed_with_io", "composed_without_io"])
@pytest.mark.parametrize("value", WILD, ids=range(len(WILD)))
def test_wild_counts_are_refused_before_anything_is_made(name: str, value, monkeypatch):
    monkeypatch.setattr("pbb_probe.programs.corpus.nonsense_words", None)  # nothing is made without names
    assert re.search(name, refused(lambda: make_corpus(**{"with_io": 2, "without_io": 2, name: value})))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("shown_inputs", [0, *(value for value in WILD if value != 10**5000), 11]),
        ("family", [None, 3, [], {}, "", "cooking", "\ud800", nested(900), "x" * 5000]),
        ("shapes", [None, 3, (), [], {}, "", "spiral", ("spiral",), (1,), ([],), ("one_step", None), nested(900)]),
        ("seed", [None, True, 1.5, "0", [], 10**5000, -(2**63)]),
        ("programs", [3, True, [], {}, b"mine.py", 1.5, ""]),
    ],
)
def test_wild_settings_are_refused_before_anything_is_made(name: str, values, monkeypatch):
    monkeypatch.setattr("pbb_probe.programs.corpus.nonsense_words", None)
    for value in values:
        refused(lambda value=value: make_corpus(**{"with_io": 2, "without_io": 2, name: value}))


@pytest.fixture(scope="module")
def rows() -> list:
    corpus = make_corpus(with_io=2, without_io=1, shown_inputs=2, composed_without_io=1)
    return [json.loads(line) for line in corpus._lines().splitlines()]


def loaded(rows, path: Path, config="{}") -> Corpus:
    path.mkdir(exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (path / "corpus.jsonl").write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    (path / "config.json").write_text(config)
    return Corpus.load(path)


def places(value, place=()):
    yield place
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*place, key))


def replaced(rows: list, place: tuple, value) -> list:
    if not place:
        return value
    rows = copy.deepcopy(rows)
    part = rows
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return rows


def test_a_wrong_type_anywhere_in_a_corpus_is_refused_or_what_is_loaded_can_be_used(rows, tmp_path):
    """Each field of a row, each item of a trace, by each type in turn."""
    outcomes = set()
    for place, value in itertools.product(list(places(rows[0])), [None, True, -1, 1.5, "", "\ud800", [], {}, [[]]]):
        corpus = attempt(loaded, [replaced(rows[0], place, value), *rows[1:]], tmp_path / "damaged")
        outcomes.add(type(corpus))
        if isinstance(corpus, Corpus):
            assert len(corpus.calls("trace")) == sum(len(entry.traces) for entry in corpus.entries)
    assert outcomes == {str, Corpus}  # one number is as good as another


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), []),
        ((), "text"),
        ((), None),
        (("shown",), None),
        (("shown",), [0, 0]),
        (("shown",), [True]),
        (("shown",), "01"),
        (("group",), []),
        (("program",), []),
        (("program", "name"), 5),
        (("program", "name"), "other"),
        (("program", "source"), ["def"]),
        (("program", "source"), "import os"),
        (("program", "facts"), []),
        (("program", "facts"), {"steps": []}),
        (("program", "calls"), "f"),
        (("program", "calls"), [1]),
        (("traces",), "text"),
        (("traces", 0), "text"),
        (("traces", 0, "arguments"), [1, 2]),
        (("traces", 0, "arguments"), [nested(80)]),
        (("traces", 0, "lines"), "22"),
        (("traces", 0, "lines"), [99]),
        (("traces", 0, "changes"), [[]]),
        (("traces", 0, "changes"), {}),
        (("traces", 0, "output"), {"a": 1}),
        (("traces", 0, "output"), float("nan")),
        (("traces", 0, "output"), 10**1001),
    ],
)
def test_a_corpus_with_damage_is_refused(rows, place, value, tmp_path):
    loaded(rows, tmp_path)  # as it was, it can be loaded
    assert str(tmp_path) in refused(loaded, [replaced(rows[0], place, value), *rows[1:]], tmp_path)


@pytest.mark.parametrize("config", ["null", "[]", '"text"', "NaN", "[" * 100_000, "\0", '{"a": ' + "1" * 5000 + "}"])
def test_settings_with_damage_are_refused(rows, config: str, tmp_path):
    assert str(tmp_path) in refused(loaded, rows, tmp_path, config)


def test_a_program_twice_and_odd_lines_are_refused(rows, tmp_path):
    for lines in ([*rows, rows[0]], ["", *rows], [*rows, "\0"], ["[" * 100_000], ['{"a": "\ud800"}'], []):
        refused(loaded, lines, tmp_path)


# --- and whatever else -----------------------------------------------------------------------------------------------

PYTHON = (
    f"{F} + 1\nf_inputs = [1, [2], (3,)]\n\ndef g(s):\n    t = f(len(s))\n    return s * t\ng_inputs = ['a', 'bc']\n"
)
ROWS = [
    {"source": f"{F} + 1", "inputs": [[1], [2]], "group": "with_io"},
    {"source": F.replace("f", "g"), "inputs": [[[1]]]},
]
SPLINTERS = [
    "\0",
    "\ud800",
    "\ufeff",
    "\u2028",
    "0x" + "f" * 5000,
    "[" * 150,
    "]",
    "(",
    ")",
    "x + " * 400,
    "'",
    '"',
    "\\",
]
SPLINTERS += [
    "1e400",
    "NaN",
    "null",
    "{",
    "}",
    ":",
    ",",
    "\n",
    "    ",
    "def ",
    "_inputs",
    "class",
    "=",
    "-",
    "1",
    "é",
    "#",
]


def test_no_damage_to_a_file_gives_anything_but_a_sentence(tmp_path):
    rng = random.Random(0)
    accepted = 0
    for k in range(400):
        text = PYTHON if k % 2 else "\n".join(map(json.dumps, ROWS))
        for _ in range(rng.choice([1, 1, 2, 4])):
            start = rng.randrange(len(text))
            text = text[:start] + rng.choice(SPLINTERS) + text[start + rng.choice([0, 0, 1, 5]) :]
        accepted += isinstance(attempt(load_programs, (python if k % 2 else jsonl)(tmp_path, text)), list)
    assert accepted > 10  # some damage is none
