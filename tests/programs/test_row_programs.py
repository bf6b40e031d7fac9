"""Programs of rows with `code`, `input` and `output`: read, run, compared, told apart by id; bad rows are refused."""

import json
from pathlib import Path

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.given import Refused
from pbb_probe.programs.names import nonsense_words
from pbb_probe.programs.own import given_programs, load_programs
from pbb_probe.programs.program import trace_programs

ADD = "def f(a, b):\n    # adds\n    return a + b"
DOWN = "def f(n):\n    '''f counts.'''\n\n    return [] if n == 0 else [n] + f(n - 1)"
HELPED = "def g(x):\n    return f(x) * 2\n\ndef f(x):\n    return x + 1"
ROWS = [
    {"code": ADD, "input": "1, 2", "output": "3", "id": "a-0"},
    {"code": DOWN, "input": "3", "output": "[3, 2, 1]", "id": "a-1"},
    {"code": DOWN, "input": "n=1 + 1", "output": "[2, 1]", "id": "a-2"},
    {"code": HELPED, "input": "4", "output": "10", "id": 7},
]


def write(path: Path, rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def corpus_of(path: Path, rows, **settings) -> Corpus:
    return make_corpus(programs=write(path / "mine.jsonl", rows), with_io=1, without_io=1, shown_inputs=1, **settings)


def refusal(path: Path, *rows) -> str:
    with pytest.raises(PbbError) as raised:
        corpus_of(path, rows)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- reading -------------------------------------------------------------------------------------------------------


def test_rows_of_one_text_are_one_program(tmp_path):
    add, down, helped = load_programs(write(tmp_path / "mine.jsonl", [*ROWS, ROWS[1] | {"id": "a-9"}]))
    assert (add.label, add.id, add.program.name, add.inputs, add.outputs) == ("a-0", "a-0", "f", ((1, 2),), ("3",))
    assert (down.label, down.inputs, down.outputs) == ("a-1", ((3,), (2,)), ("[3, 2, 1]", "[2, 1]"))
    assert (helped.label, helped.program.name) == ("7", "g")  # the one that no other calls
    assert down.program.source == DOWN
    assert down.program.facts == {"steps": 1, "id": "a-1"}
    assert [len(each.inputs) for each in given_programs(tmp_path / "mine.jsonl")] == [1] * 5


@pytest.mark.parametrize(
    "code",
    [
        "\ufeffdef f(x):\n    return x",
        "def f(x):\n    return x \\\n\n",
        "def f(x):\r\n\treturn x\r\n\x0c\r\n",
        "\x0cdef f(x):\r    return x\r",
    ],
)
def test_texts_as_editors_leave_them_are_read(code: str, tmp_path):
    (own,) = load_programs(write(tmp_path / "mine.jsonl", [{"code": code, "input": "1", "output": "1"}]))
    ((trace,),) = trace_programs([own.program], [own.inputs])
    assert (trace.lines, trace.output) == ((2,), 1)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("1", (1,)),
        ("1, 2", (1, 2)),
        ("1, b=2", (1, 2)),
        ("b=2, a=1", (1, 2)),
        ("a=1", (1,)),
        ("c=5, a=1", (1, 10, 5)),
        ("(1,), [2, (3,)]", ((1,), [2, (3,)])),
        ("{'k': {1, 2}}, 0.5", ({"k": {1, 2}}, 0.5)),
        ("'a b'.split(), 'x'.upper()", (["a", "b"], "X")),
        ("dict(k=1), set()", ({"k": 1}, set())),
        ("1,  # one\n2", (1, 2)),
        ("'\\u00e9\\n', None", ("é\n", None)),
    ],
)
def test_an_input_is_what_stands_between_the_brackets_of_a_call(tmp_path, text: str, arguments: tuple):
    row = {"code": "def f(a, b=10, c=20):\n    return a", "input": text}
    (own,) = load_programs(write(tmp_path / "mine.jsonl", [row]))
    assert own.inputs == (arguments,)
    assert repr(own.inputs) == repr((arguments,))  # 1 is not True, nor (1,) [1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1) + (2", "brackets of one call"),
        ("1)\nf(2", "brackets of one call"),
        ("1, ", ""),
        ("[1", "cannot stand between the brackets of a call (line 2: "),
        ("*[1, 2]", "star"),
        ("**{'a': 1}", "star"),
        ("1, d=2", "the argument d has no place"),
        ("1, a=2", "the argument a has no place"),
        ("b=2", "it lacks the argument a"),
        ("1, only=2", "the argument only can be given by name only"),
        ("undefined", "NameError"),
        ("open('x')", "a call of open is not allowed"),
        ("().__class__", "the attribute __class__ is not allowed"),
        ("1 // 0", "ZeroDivisionError"),
        ("[" * 60 + "]" * 60, ""),
        ("1, a=2, a=3", "the argument a has no place"),
    ],
)
def test_inputs_that_cannot_be_read_are_refused(tmp_path, text: str, reason: str):
    path = write(
        tmp_path / "mine.jsonl", [{"code": "def f(a, b=10, *, only=1):\n    return a", "input": text, "id": "odd"}]
    )
    (read,) = given_programs(path)
    if text == "1, ":
        assert read.inputs == ((1,),)
        return
    assert isinstance(read, Refused)
    assert read.reason.startswith("its `input` cannot be read: ")
    assert reason in read.reason
    assert read.sentence.startswith(f"Line 1 of {path} (odd) is no program (its `input` cannot be read: ")


def test_the_function_of_several_may_be_asked_for(tmp_path):
    rows = [{"code": HELPED, "input": "1", "entry_point": name} for name in ("f", "g", "h")]
    f, g, h = given_programs(write(tmp_path / "mine.jsonl", rows))
    assert (f.program.name, g.program.name) == ("f", "g")
    assert "defines no function called 'h', its `entry_point`" in h.reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"input": "1"}, "it has no `code` or `source`"),
        ({"code": None, "input": "1"}, "it has no `code` or `source`"),
        ({"code": ADD}, "it has no `input` or `inputs`"),
        ({"code": ADD, "source": ADD, "input": "1"}, "it has both `code` and `source`"),
        ({"code": ADD, "input": "1", "inputs": [[1]]}, "it has both `input` and `inputs`"),
        ({"code": 3, "input": "1"}, "its `code` is 3, not text"),
        ({"code": "x = 1", "input": "1"}, "its `code` defines no function"),
        ({"code": "def f(x:", "input": "1"}, "line 1: "),
        ({"code": ADD, "input": [1, 2]}, "its `input` cannot be read: it is [1, 2], not text"),
        ({"code": ADD, "input": "1", "output": 11}, "its `output` is no Python text of a value: 11"),
        ({"code": ADD, "input": "1", "output": "<object>"}, "its `output` is no Python text of a value: '<object>'"),
        ({"code": ADD, "inputs": [[1]], "output": "11"}, "its `output` is that of one call"),
        ({"code": ADD, "input": "1", "id": ["x"]}, "its `id` is ['x'], not a text of 1 to 200 characters"),
        ({"code": ADD, "input": "1", "id": " "}, "its `id` is ' '"),
        ({"code": ADD, "input": "1", "id": "a\u001b[2J"}, "its `id` is "),
        ({"code": ADD, "input": "1", "id": "a-0"}, ""),
        ({"code": DOWN, "input": "1", "output": "[1]", "id": "a-0"}, "its `id` is that of another program, see line 1"),
        ({"code": ADD, "input": "1", "id": "a-8"}, "it has no `output`, which other rows have"),
        ('{"code": "def f', "it is no JSON: "),
        ('{"code": 1, "code": 2}', "a key stands twice"),
    ],
)
def test_bad_rows_are_refused_by_number(tmp_path, row, reason: str):
    message = refusal(tmp_path, ROWS[0], row)
    place = f"Line 2 of {tmp_path / 'mine.jsonl'}"
    id = f" ({row['id']})" if isinstance(row, dict) and str(row.get("id")).startswith("a-") else ""
    assert message.startswith(f"{place}{id} is no program (") or reason.startswith("its `id` is ")
    assert reason in message


def test_outputs_that_the_run_contradicts_are_refused_by_id(tmp_path):
    for output in ("4", "3.0", "True", "'3'", "[3]", "(3,)"):
        message = refusal(tmp_path, ROWS[0] | {"output": output})
        assert message == (
            f"A program could not be run: a-0: its output is another than the one given: f(1, 2) is 3, not {output}"
        )


@pytest.mark.parametrize("value", ["{'b': {2, 1}, 'a': (1, [])}", "float('nan')", "-0.0", "[{1: 2}, {3}]"])
def test_outputs_are_compared_by_value_and_type(tmp_path, value: str):
    code = "def f(x):\n    return x"
    assert len(corpus_of(tmp_path, [{"code": code, "input": value, "output": value}]).entries) == 1
    if value.startswith("{"):
        turned = "{'a': (1, []), 'b': {1, 2}}"
        assert len(corpus_of(tmp_path, [{"code": code, "input": value, "output": turned}]).entries) == 1
        assert "not {'a': [1, []]" in refusal(
            tmp_path, {"code": code, "input": value, "output": "{'a': [1, []], 'b': {1, 2}}"}
        )


def test_two_outputs_for_one_input_are_refused(tmp_path):
    assert "a-0 has two outputs for '1, 2', 3 and 4: give one" in refusal(tmp_path, ROWS[0], ROWS[0] | {"output": "4"})


# --- names ---------------------------------------------------------------------------------------------------------


def test_functions_of_one_name_get_words_of_their_own(tmp_path):
    corpus = corpus_of(tmp_path, ROWS)
    names = [entry.program.name for entry in corpus.entries]
    assert len(set(names)) == 3
    assert set(names) <= set(nonsense_words())
    assert [entry.program.facts["id"] for entry in corpus.entries] == ["a-0", "a-1", "7"]
    add, down, helped = (entry.program.source for entry in corpus.entries)
    assert add == ADD.replace("f(a", f"{names[0]}(a")
    assert (
        down
        == f"def {names[1]}(n):\n    '''{names[1]} counts.'''\n\n    return [] if n == 0 else [n] + {names[1]}(n - 1)"
    )
    assert helped.startswith(f"def {names[2]}(x):\n    return ")
    assert not {"f", "g"} & set(helped.replace("(", " ").split())
    assert [trace.output for entry in corpus.entries for trace in entry.traces] == [3, [3, 2, 1], [2, 1], 10]
    corpus.save(tmp_path / "saved")
    assert Corpus.load(tmp_path / "saved") == corpus == make_corpus(**corpus.config)


def test_kept_names_are_those_of_the_file_and_number_what_comes_again(tmp_path):
    rows = [*ROWS, {"code": "def f_2(x):\n    return x", "input": "1", "output": "1", "id": "b"}]
    corpus = corpus_of(tmp_path, rows, names="kept")
    assert [entry.program.name for entry in corpus.entries] == ["f", "f_3", "g", "f_2"]
    assert corpus.entries[0].program.source == ADD
    assert corpus.entries[1].program.source == DOWN.replace("f counts", "f_3 counts").replace("f(n", "f_3(n")
    assert corpus.entries[2].program.source == HELPED


def test_without_comments_blank_lines_and_docstrings(tmp_path):
    corpus = corpus_of(tmp_path, ROWS, names="kept", comments=False)
    assert [entry.program.source for entry in corpus.entries[:2]] == [
        "def f(a, b):\n    return a + b",
        "def f_2(n):\n    return [] if n == 0 else [n] + f_2(n - 1)",
    ]
    assert corpus.entries[0].traces[0].lines == (2,)
    assert corpus_of(tmp_path, ROWS).entries[0].traces[0].lines == (3,)


def test_words_that_a_program_contains_are_not_its_name(tmp_path):
    words = nonsense_words()
    code = f"def f(x):\n    '''{' '.join(words[:2040])}'''\n    return f(0) if x else 1"
    corpus = corpus_of(tmp_path, [{"code": code, "input": "1", "output": "1"}])
    assert corpus.entries[0].program.name not in words[:2040]


def test_a_row_calls_another_by_its_name_unless_that_is_pythons(tmp_path):
    rows = [
        {"code": "def outer(x):\n    return inner(x) + sum([x])", "input": "1", "output": "3"},
        {"code": "def inner(x):\n    return x + 1", "input": "1", "output": "2"},
        {"code": "def sum(xs):\n    return 100", "input": "[]", "output": "100"},
        {"code": "from math import sqrt\ndef root(x):\n    return sqrt(x)", "input": "4", "output": "2.0"},
        {"code": "def sqrt(x):\n    return 'none'", "input": "4", "output": "'none'"},
    ]
    for names in ("kept", "nonsense"):
        corpus = corpus_of(tmp_path, rows, names=names)
        programs = [entry.program for entry in corpus.entries]
        assert [program.calls for program in programs] == [(programs[1].name,), (), (), (), ()]
        assert "return sqrt(x)" in programs[3].source


def test_programs_without_id_are_told_apart_by_line(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "id"} for row in ROWS]
    path = write(tmp_path / "mine.jsonl", rows)
    assert [own.label for own in load_programs(path)] == ["f of line 1", "f of line 2", "g"]
    message = refusal(tmp_path, rows[0] | {"input": "'a', 2"}, rows[1] | {"input": "'a'"})
    assert message.startswith("A program could not be run: f of line 1: TypeError: ")
    assert message.endswith(f" (and 1 more, see pbb-probe programs {path}).")
    with pytest.raises(PbbError, match="the inputs of f of line 1, not 2"):
        make_corpus(programs=write(path, rows), shown_inputs=2)


def test_what_fails_can_be_left_out_with_what_calls_it(tmp_path):
    rows = [
        {"code": "def good(x):\n    return x", "input": "1", "output": "1", "id": "a"},
        {"code": "def bad(x):\n    return 1 // x", "input": "0", "output": "0", "id": "b"},
        {"code": "def caller(x):\n    return bad(x)", "input": "1", "output": "1", "id": "c"},
        {"code": "def wrong(x):\n    return x", "input": "1", "output": "2", "id": "d"},
        {"input": "1", "output": "2", "id": "e"},
    ]
    with pytest.warns(UserWarning, match="left out") as warned:
        corpus = corpus_of(tmp_path, rows, names="kept", skip_failing=True)
    assert [entry.program.name for entry in corpus.entries] == ["good"]
    said = [str(each.message) for each in warned]
    assert "(e) is no program (it has no `code` or `source`)" in said[0]
    assert "could not be run: b: ZeroDivisionError" in said[1]
    assert f"(and 2 more, see pbb-probe programs {tmp_path / 'mine.jsonl'})" in said[1]
    with pytest.raises(PbbError, match="could not be run: b: ZeroDivisionError"):
        corpus_of(tmp_path, rows[1:2], skip_failing=True)
