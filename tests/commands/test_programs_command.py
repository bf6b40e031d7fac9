"""The command `programs`: what runs and what does not, with the calls as plain Python traces them."""

import json
import sys
from pathlib import Path

import pytest

from pbb_probe.commands import cli
from pbb_probe.programs import child

LOOP = (
    "def f(xs, k):\n    # pairs\n    total = {}\n    for i, x in enumerate(xs):\n        total[x] = (i, k)\n\n"
    "    return total"
)
ROWS = [
    {"code": LOOP, "input": "['a', 'b'], 1.5", "output": "{'a': (0, 1.5), 'b': (1, 1.5)}", "id": "good-0"},
    {"code": "def f(x):\n    return x.pop()", "input": "[1, 2]", "output": "2"},
    {"code": "def f(x):\n    return x", "input": "1", "output": "2", "id": "wrong-0"},
    {"code": "def f(x):\n    return open(x)", "input": "1", "output": "1", "id": "open-0"},
    {"code": "def f(x):\n    y = x\n    return open(x)", "input": "1", "output": "1", "id": "open-1"},
    {"code": "def f(x):\n    while True:\n        x += 1", "input": "1", "output": "1", "id": "endless"},
    {"input": "1", "output": "1", "id": "no-code"},
    {"code": "def f(x):\n    return x", "input": "x y", "output": "1", "id": "no-input"},
    {"code": "def f(x):\n    return x", "input": "1", "output": "1", "id": "good-0"},
]


def written(path: Path, rows=ROWS) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def traced(code: str, arguments: str) -> dict:
    """The lines of a call, all local variables after each, and its output, by `sys.settrace` alone."""
    scope: dict = {}
    exec(code, scope)
    lines: list[int] = []
    after: list[dict[str, str]] = []

    def local(frame, event, _argument):
        if lines and event in ("line", "return"):
            after.append({name: repr(value) for name, value in frame.f_locals.items()})
        if event == "line":
            lines.append(frame.f_lineno)
        return local

    given = eval(f"[{arguments}]")
    sys.settrace(lambda frame, *_: local if frame.f_code is scope["f"].__code__ else None)
    try:
        output = scope["f"](*given)
    finally:
        sys.settrace(None)
    return {"lines": lines, "variables": after, "output": repr(output)}


def test_it_says_which_run_and_why_the_others_do_not(tmp_path, capsys):
    file = written(tmp_path / "mine.jsonl")
    assert cli.main(["programs", file]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{file}: 2 of 9 programs run, 2 calls."
    assert said[1] == "     2  a call of open is not allowed: open-0, open-1"
    assert {line.split(": ")[0].strip() for line in said[2:]} == {
        "1  its output is another than the one given",
        "1  it ran more than 5000 lines",
        "1  it has no `code` or `source`",
        "1  its `input` cannot be read",
        "1  its `id` is that of another program, see line 1",
    }
    assert not list(tmp_path.glob("*.jsonl"))[1:]


def test_the_calls_are_those_of_settrace(tmp_path, capsys):
    out = tmp_path / "new" / "traces.jsonl"
    assert cli.main(["programs", written(tmp_path / "mine.jsonl"), "--out", str(out)]) == 0
    first, second = read(out)
    arguments = [["['a', 'b']", "1.5"], ["[1, 2]"]]
    assert first == {"id": "good-0", "arguments": arguments[0], **traced(LOOP, ROWS[0]["input"])}
    assert second == {"name": "f of line 2", "arguments": arguments[1], **traced(ROWS[1]["code"], "[1, 2]")}
    assert second["variables"] == [{"x": "[1]"}]
    refused = read(out.with_name("traces.refused.jsonl"))
    assert [row["id"] for row in refused] == [*(row["id"] for row in ROWS[2:8]), "good-0"]
    assert refused[0]["reason"] == "its output is another than the one given: f(1) is 1, not 2"
    assert refused[1]["reason"] == "line 2: a call of open is not allowed"


def test_traces_too_long_to_keep_together_are_taken_apart(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(child, "LONGEST_ANSWERS", 30_000)
    code = "def f(n):\n    while n:\n        n -= 1\n    return n"
    rows = [{"code": code, "input": n, "output": "0", "id": n} for n in ("300", "2", "4000", "301")]
    assert cli.main(["programs", written(tmp_path / "mine.jsonl", rows)]) == 0
    said = capsys.readouterr().out
    assert "3 of 4 programs run" in said
    assert said.splitlines()[1].endswith(": 4000")


def test_the_number_of_lines_is_a_setting(tmp_path, capsys):
    rows = [{"code": "def f(n):\n    while n:\n        n -= 1\n    return n", "input": "4000", "output": "0"}]
    file = written(tmp_path / "mine.jsonl", rows)
    assert cli.main(["programs", file]) == 2
    assert "it ran more than 5000 lines" in capsys.readouterr().err
    assert cli.main(["programs", file, "--lines", "10000"]) == 0


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.jsonl", None, "cannot be read"),
        ("mine.txt", "", "are read from a .jsonl, .py, .parquet or .arrow file"),
        ("mine.jsonl", "", "holds no program"),
        ("mine.jsonl", "not json\n", "No program of"),
        ("mine.parquet", "no parquet", "cannot be read"),
        ("mine.py", "def f(x:", "is no Python"),
        ("mine.jsonl", json.dumps(ROWS[2]), "its output is another than the one given: f(1) is 1, not 2"),
    ],
)
def test_a_file_that_gives_nothing_is_one_sentence(tmp_path, capsys, name: str, content: str | None, reason: str):
    if content is not None:
        (tmp_path / name).write_text(content)
    out = tmp_path / "traces.jsonl"
    assert cli.main(["programs", str(tmp_path / name), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pbb-probe: ")
    assert error.count("\n") == 1
    assert reason in error
    assert not out.exists()


def test_what_is_there_is_kept_until_the_whole_is_written(tmp_path, capsys):
    file, out = written(tmp_path / "mine.jsonl"), tmp_path / "traces.jsonl"
    out.write_text("before")
    assert cli.main(["programs", written(tmp_path / "bad.jsonl", ROWS[2:3]), "--out", str(out)]) == 2
    assert out.read_text() == "before"
    assert cli.main(["programs", file, "--out", file]) == 2
    assert cli.main(["programs", file, "--out", str(tmp_path / "traces.json")]) == 2
    (tmp_path / "file").write_text("")
    assert cli.main(["programs", file, "--out", str(tmp_path / "file" / "traces.jsonl")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert cli.main(["programs", file, "--out", str(out)]) == 0
    assert len(read(out)) == 2
    assert not list(tmp_path.glob(".*"))


def test_functions_of_a_python_file_are_named(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import math\nK = math.floor(2.5)\n\n\ndef double(x):\n    return K * x\n\n\ndouble_inputs = [1, (2,)]\n"
        "def bad(x):\n    return undefined\nbad_inputs = [1]\n"
    )
    assert cli.main(["programs", str(file), "--out", str(tmp_path / "t.jsonl")]) == 0
    assert "NameError: bad" in capsys.readouterr().out
    assert [(row["name"], row["arguments"], row["output"]) for row in read(tmp_path / "t.jsonl")] == [
        ("double", ["1"], "2"),
        ("double", ["2"], "4"),
    ]


@pytest.mark.parametrize("name", ["mine.jsonl", "folder.jsonl", "beside.jsonl"])
def test_nothing_is_run_that_could_not_be_written(tmp_path, capsys, name: str):
    file = Path(written(tmp_path / "mine.refused.jsonl"))  # what --out mine.jsonl would write beside it
    before = file.read_text()
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "beside.refused.jsonl").mkdir()
    assert cli.main(["programs", str(file), "--out", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "give another --out" in said.err
    assert file.read_text() == before
