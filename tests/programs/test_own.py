"""Users' programs: read from either kind of file, renamed everywhere, divided into groups; bad files are refused."""

import ast
import copy
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.names import nonsense_words
from pbb_probe.programs.own import load_programs, renamed
from pbb_probe.programs.program import Program, count_steps

PYTHON = """
def double(x):
    return 2 * x

double_inputs = [1, 2, 3, 4]

def gauss(n):  # calls itself
    if n == 0:
        return 0
    return n + gauss(n - 1)

gauss_inputs = [[0], [3], (5,), 7]

def ends(words, k):
    first = words[0]
    return first[:double(k)] + words[-1]

def ends_inputs(i):
    return [["basket", "k" * i + "t"], i % 3]

def chained(x):
    y = gauss(double(x))
    return max([y, 1], key=double)

chained_inputs = [[1], [2], [3]]
"""

JSONL = [
    {"source": "def double(x):\n    return 2 * x", "inputs": [[1], [2], [3], [4]], "group": "without_io"},
    {
        "source": "def ends(words, k):\n    return words[0][:double(k)] + words[-1]",
        "inputs": [[["ab", "c"], 1], [["x"], 0]],
    },
    {"source": "def gauss(n):\n    return 0 if n == 0 else n + gauss(n - 1)", "inputs": [[3], [4], [3]]},
    {"source": "def shout(text):\n    return text.upper()", "inputs": [["a"], ["bc"]], "group": "with_io"},
]


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content))
    return path


def refusal(path: Path, content=None) -> str:
    if content is not None:
        write(path, content)
    with pytest.raises(PbbError) as raised:
        make_corpus(with_io=1, without_io=1, shown_inputs=1, programs=path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def answers(corpus: Corpus) -> dict[str, list]:
    """By the name of each program, what plain execution of all of them together returns."""
    scope: dict = {}
    for entry in corpus.entries:
        exec(entry.program.source, scope)
    return {
        entry.program.name: [scope[entry.program.name](*copy.deepcopy(trace.arguments)) for trace in entry.traces]
        for entry in corpus.entries
    }


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_python_file_with_lists_and_a_generator(tmp_path):
    found = {own.program.name: own for own in load_programs(write(tmp_path / "mine.py", PYTHON))}
    assert list(found) == ["double", "gauss", "ends", "chained"]
    assert found["double"].inputs == ((1,), (2,), (3,), (4,))
    assert found["gauss"].inputs == ((0,), (3,), (5,), (7,))
    assert found["ends"].inputs == tuple((["basket", "k" * i + "t"], i % 3) for i in range(10))
    assert {own.group for own in found.values()} == {None}
    assert [own.program.calls for own in found.values()] == [(), (), ("double",), ("gauss", "double")]
    assert found["gauss"].program.facts == {"steps": 3}
    assert {own.program.family for own in found.values()} == {"own"}
    assert found["gauss"].program.source == (
        "def gauss(n):  # calls itself\n    if n == 0:\n        return 0\n    return n + gauss(n - 1)"
    )
    bare = {own.program.name: own for own in load_programs(tmp_path / "mine.py", comments=False)}
    assert bare["gauss"].program.source == (
        "def gauss(n):\n    if n == 0:\n        return 0\n    return n + gauss(n - 1)"
    )


def test_a_jsonl_file(tmp_path):
    lines = [json.dumps(row) for row in JSONL]
    found = load_programs(write(tmp_path / "mine.jsonl", "\n\n".join(lines)))
    assert [own.program.name for own in found] == ["double", "ends", "gauss", "shout"]
    assert [own.group for own in found] == ["without_io", None, None, "with_io"]
    assert found[1].inputs == ((["ab", "c"], 1), (["x"], 0))
    assert found[1].program.calls == ("double",)
    assert found[2].inputs == ((3,), (4,))  # each once


def test_inputs_that_come_twice_are_one(tmp_path):
    generated = "def f(x):\n    return x\ndef f_inputs(k):\n    return [k // 2]\n"
    text = generated + "def g(x):\n    return x\ng_inputs = [1, [1], 2]"
    f, g = load_programs(write(tmp_path / "mine.py", text))
    assert f.inputs == ((0,), (1,), (2,), (3,), (4,))
    assert g.inputs == ((1,), (2,))


def test_line_separators_within_a_text_do_not_end_a_line(tmp_path):
    row = json.dumps({"source": "def f(x):\n    return x + '\u2028'", "inputs": [["a"]]}, ensure_ascii=False)
    (own,) = load_programs(write(tmp_path / "mine.jsonl", row + "\n"))
    assert own.program.source == "def f(x):\n    return x + '\u2028'"


def test_steps_are_statements():
    assert count_steps("def f(x):\n    if x:\n        y = 1\n    else:\n        y = 2\n    return y") == 4


# --- renaming ------------------------------------------------------------------------------------------------------


def names_in(source: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(source)))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.name for node in nodes if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize(("name", "content"), [("mine.py", PYTHON), ("mine.jsonl", JSONL)])
def test_programs_get_nonsense_names_everywhere(tmp_path, name: str, content):
    path = write(tmp_path / name, content)
    given = load_programs(path)
    corpus = make_corpus(with_io=2, without_io=2, shown_inputs=1, programs=path)
    renaming = {own.program.name: entry.program.name for own, entry in zip(given, corpus.entries, strict=True)}
    assert len(set(renaming.values())) == 4
    assert set(renaming.values()) <= set(nonsense_words())
    for own, entry in zip(given, corpus.entries, strict=True):
        assert not names_in(entry.program.source) & set(renaming)
        backwards = entry.program.source
        for old, new in renaming.items():
            backwards = backwards.replace(new, old)
        assert backwards == own.program.source
        assert entry.program.calls == tuple(renaming[callee] for callee in own.program.calls)
        assert [trace.arguments for trace in entry.traces] == list(own.inputs)
    outputs = {entry.program.name: [trace.output for trace in entry.traces] for entry in corpus.entries}
    assert outputs == answers(corpus)
    assert outputs[renaming["double"]] == [2, 4, 6, 8]
    if name == "mine.py":
        assert outputs[renaming["gauss"]] == [0, 6, 15, 28]
        assert outputs[renaming["ends"]][:4] == ["t", "bakt", "baskkkt", "kkkt"]
        assert outputs[renaming["chained"]] == [3, 10, 21]


def test_arguments_and_variables_that_are_called_like_another_program_keep_their_names(tmp_path):
    text = (
        "def total(xs):\n    total = 0\n    for x in xs:\n        total += x\n    return total\n"
        "total_inputs = [[[1, 2]], [[3]]]\n"
        "def mean(total, n):\n    return total // n\nmean_inputs = [[9, 2], [7, 3]]\n"
        "def both(xs):\n    mean = total(xs)\n    return mean\nboth_inputs = [[[4, 4]], [[5]]]\n"
        "def inner(x):\n    def mean(y):\n        return y + 1\n    return mean(x)\ninner_inputs = [1, 2]\n"
    )
    corpus = make_corpus(with_io=2, without_io=2, shown_inputs=1, programs=write(tmp_path / "mine.py", text))
    total, mean, both, inner = (entry.program for entry in corpus.entries)
    assert [[t.output for t in e.traces] for e in corpus.entries] == [[3, 3], [4, 2], [8, 5], [2, 3]]
    assert total.source.startswith(f"def {total.name}(xs):\n    total = 0\n")
    assert mean.source == f"def {mean.name}(total, n):\n    return total // n"
    assert both.source == f"def {both.name}(xs):\n    mean = {total.name}(xs)\n    return mean"
    assert [program.calls for program in (total, mean, both, inner)] == [(), (), (total.name,), ()]
    assert "def mean(y)" in inner.source


def test_renaming_by_hand():
    source = "def f(x):\n    return g(f(x - 1)) if x > h(g, x) else x"
    program = Program("f", "own", source, {"steps": 1}, ("g", "h"))
    assert renamed(program, {"f": "dolvik", "g": "zamtor", "h": "f", "x": "never"}) == Program(
        "dolvik",
        "own",
        "def dolvik(x):\n    return zamtor(dolvik(x - 1)) if x > f(zamtor, x) else x",
        {"steps": 1},
        ("zamtor", "f"),
    )


# --- groups --------------------------------------------------------------------------------------------------------


def rows(n: int, groups: dict[int, str] | None = None) -> list[dict]:
    made = [{"source": f"def f{i}(x):\n    return x + {i}", "inputs": [[1], [2], [3]]} for i in range(n)]
    return [{**row, **({"group": (groups or {})[i]} if i in (groups or {}) else {})} for i, row in enumerate(made)]


def grouped(tmp_path, content, with_io: int, without_io: int, seed: int = 0) -> list[str]:
    path = write(tmp_path / "mine.jsonl", content)
    corpus = make_corpus(with_io=with_io, without_io=without_io, shown_inputs=2, seed=seed, programs=path)
    assert [len(entry.shown) for entry in corpus.entries] == [
        2 if entry.group == "with_io" else 0 for entry in corpus.entries
    ]
    return [entry.group for entry in corpus.entries]


def test_programs_without_a_group_are_divided_in_proportion(tmp_path):
    assert Counter(grouped(tmp_path, rows(20), 850, 150)) == {"with_io": 17, "without_io": 3}
    assert Counter(grouped(tmp_path, rows(20), 1, 1)) == {"with_io": 10, "without_io": 10}
    assert Counter(grouped(tmp_path, rows(6), 0, 5)) == {"without_io": 6}
    draws = [grouped(tmp_path, rows(20), 1, 1, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_groups_that_are_asked_for_are_honoured_and_the_rest_divided(tmp_path):
    asked = {0: "without_io", 3: "with_io", 5: "without_io", 6: "without_io"}
    for seed in range(4):
        groups = grouped(tmp_path, rows(12, asked), 3, 1, seed)
        assert {i: groups[i] for i in asked} == asked
        assert Counter(group for i, group in enumerate(groups) if i not in asked) == {"with_io": 6, "without_io": 2}


def test_their_corpora_are_saved_composed_and_called_like_any_other(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(8))
    corpus = make_corpus(
        with_io=4, without_io=4, shown_inputs=2, programs=path, composed_with_io=3, composed_without_io=2
    )
    assert Counter(entry.program.family for entry in corpus.entries) == {"own": 8, "composed": 5}
    assert corpus.config["programs"] == str(path)
    corpus.save(tmp_path / "saved")
    assert Corpus.load(tmp_path / "saved") == corpus == make_corpus(**corpus.config)
    calls = corpus.calls("trace")
    assert len(calls) == 13 * 3
    own = calls[calls["family"] == "own"]
    assert all(f"return {row.input} + " in row.completion for row in own.itertuples())


# --- refusals ------------------------------------------------------------------------------------------------------

F = "def f(x):\n    return x"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "it is no JSON"),
        ("[1]", "[1] is not an object"),
        ("3", "3 is not an object"),
        ({"inputs": [[1]]}, "source"),
        ({"source": F}, "inputs"),
        ({"source": 3, "inputs": [[1]]}, "its `source` is 3, not text"),
        ({"source": "def g(x:", "inputs": [[1]]}, "line 1: '(' was never closed"),
        ({"source": "", "inputs": [[1]]}, "defines no function"),
        ({"source": "x = 3", "inputs": [[1]]}, "defines no function"),
        ({"source": "g = lambda x: x", "inputs": [[1]]}, "defines no function"),
        ({"source": "class g:\n    pass", "inputs": [[1]]}, "defines no function"),
        ({"source": "async def g(x):\n    return x", "inputs": [[1]]}, "defines no function"),
        ({"source": "(" * 3000, "inputs": [[1]]}, "line 1: too many nested parentheses"),
        ({"source": "def g(x):\n    return x\0", "inputs": [[1]]}, "null"),
        ({"source": "def g(x):\n    return x", "inputs": 3}, "3 is not a list"),
        ({"source": "def g(x):\n    return x", "inputs": [1, 2]}, "1 is not a list"),
        ({"source": "def g(x, y):\n    return x", "inputs": ["ab"]}, "'ab' is not a list"),
        ({"source": "def g(x):\n    return x", "inputs": {"a": 1}}, "{'a': 1} is not a list"),
    ],
)
def test_lines_that_are_no_program_are_refused_by_number(tmp_path, row, reason: str):
    path = tmp_path / "mine.jsonl"
    good = json.dumps({"source": F, "inputs": [[1]]})
    message = refusal(path, f"{good}\n\n{row if isinstance(row, str) else json.dumps(row)}\n")
    assert message.startswith(f"Line 3 of {path} is no program (")
    assert reason in message
    assert message.endswith(
        "give an object with `code` and `input`, Python text, or with `source` and `inputs`, a list of argument lists."
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(x):\n    return x", "f has no inputs: give f_inputs = [[...], ...] or a function f_inputs(k)"),
        ("def f(x):\n    return x\nf_inputs = []", "f has no inputs"),
        ("def f(x):\n    return x\nf_inputs = [[k] for k in range(3)]", "f_inputs must be a plain list"),
        ("def f(x):\n    return x\nf_inputs = {[1]: 2}", "f_inputs must be a plain list"),
        ("def f(x):\n    return x\nf_inputs = 3", "f_inputs must be a plain list"),
        ("def f(x):\n    return x\nf_inputs = [1]\ndef f(x):\n    return 2 * x", "defines f twice"),
        ("def f(x:\n    return x", "is no Python"),
        ("def f(x):\n    return x\0", "is no Python"),
        ("", "holds no program"),
        ("x = 3\nf_inputs = [1]", "holds no program"),
    ],
)
def test_bad_python_files_are_refused(tmp_path, text: str, reason: str):
    path = tmp_path / "mine.py"
    message = refusal(path, text)
    assert str(path) in message
    assert reason in message


@pytest.mark.parametrize(
    ("text", "culprit", "reason"),
    [
        (
            "import os\ndef g(x):\n    return os.getpid()\ng_inputs = [1]",
            "g",
            "line 1: the import of os is not allowed",
        ),
        ("def g(x):\n    return open(x)\ng_inputs = [1]", "g", "line 2: a call of open is not allowed"),
        ("def g(x, y=open):\n    return x\ng_inputs = [1]", "g", "line 1: the name open is not allowed"),
        ("def g(x):\n    return x.__class__\ng_inputs = [1]", "g", "__class__"),
        ("def g(x):\n    return x // 0\ng_inputs = [1]", "g", "ZeroDivisionError"),
        ("def g(x):\n    return K\ng_inputs = [1]", "g", "NameError"),
        ("def g(x):\n    return x\ng_inputs = [[1, 2]]", "g", "TypeError"),
        ("def g(x):\n    return x\ng_inputs = [1j]", "g", "an argument is complex"),
        ("def g(x):\n    return x\ndef g_inputs(k):\n    return open(k)", "g_inputs", "a call of open"),
        ("def g(x):\n    return x\ndef g_inputs():\n    return [1]", "g_inputs", "TypeError"),
        ("def g(x):\n    return h(x)\ng_inputs = [1]\ndef h(x):\n    return g(x)\nh_inputs = [1]", "[gh]", "circle"),
    ],
)
def test_what_may_not_run_is_refused_by_program(tmp_path, text: str, culprit: str, reason: str):
    message = refusal(tmp_path / "mine.py", text)
    assert re.match(f"A program could not be run: {culprit}: ", message)
    assert reason in message


def test_a_program_twice_in_a_jsonl_file_is_refused(tmp_path):
    message = refusal(tmp_path / "mine.jsonl", [*JSONL, {**JSONL[2], "source": "def gauss(n):\n    return n"}])
    assert str(tmp_path / "mine.jsonl") in message
    assert "line 3 defines gauss, too; give both an `id`" in message


def test_an_empty_list_of_inputs_is_refused(tmp_path):
    message = refusal(tmp_path / "mine.jsonl", [JSONL[0], {**JSONL[3], "inputs": []}])
    assert "shout has no inputs" in message


@pytest.mark.parametrize("group", ["some_io", "", 3, ["with_io"]])
def test_an_unknown_group_is_refused(tmp_path, group):
    message = refusal(tmp_path / "mine.jsonl", [{**JSONL[0], "group": group}])
    assert f"it asks for the group {group!r}: there are with_io, without_io" in message


def test_files_of_another_kind_missing_and_unreadable_ones_are_refused(tmp_path):
    assert "not from" in refusal(tmp_path / "mine.txt", "def f(x):\n    return x")
    for path in (tmp_path / "nowhere.py", tmp_path):
        message = refusal(path)
        assert str(path) in message
        assert "cannot be read" in message
    (tmp_path / "mine.py").write_bytes(b"\xff\xfe\xfd")
    assert "cannot be read" in refusal(tmp_path / "mine.py")


def test_an_empty_jsonl_file_is_refused(tmp_path):
    assert "holds no program" in refusal(tmp_path / "mine.jsonl", "\n\n")


def test_programs_that_do_not_fit_one_another_are_not_composed(tmp_path):
    path = write(tmp_path / "mine.py", "def f(x):\n    return str(x)\nf_inputs = [1, 2, 3]")
    with pytest.raises(PbbError, match="Only 0 of 3 composed programs"):
        make_corpus(with_io=1, without_io=0, shown_inputs=1, programs=path, composed_with_io=3)


def test_more_inputs_to_show_than_a_program_has_are_refused(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(2))
    with pytest.raises(PbbError, match="between 1 and 3"):
        make_corpus(with_io=1, without_io=1, shown_inputs=4, programs=path)


def test_a_program_with_examples_may_not_show_one_without(tmp_path):
    rows = [
        {"source": "def inner(x):\n    return x + 1", "inputs": [[0], [1]], "group": "without_io"},
        {"source": "def outer(x):\n    return inner(x) * 2", "inputs": [[0], [1]]},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    for seed in range(4):  # where the group of the caller is drawn, it follows
        corpus = make_corpus(programs=path, with_io=1, without_io=1, shown_inputs=1, seed=seed)
        assert {entry.group for entry in corpus.entries} == {"without_io"}
    rows[1]["group"] = "with_io"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(PbbError, match="outer is to have examples and calls inner"):
        make_corpus(programs=path, shown_inputs=1)
