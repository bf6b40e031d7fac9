"""Rows of tables on disk: the same programs from JSONL, Parquet, Arrow and saved datasets; other files are refused."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.own import given_programs, load_programs
from pbb_probe.store.disk import file_digest

ROWS = [
    {"code": f"def f(x):\n    return x + {i}", "input": "'é'.count('x')", "output": str(i), "id": f"s_{i}"}
    for i in range(4)
]


def saved(kind: str, folder: Path, rows: list[dict]) -> Path:
    """The rows in a file of this kind."""
    path = folder / f"rows.{kind}"
    match kind:
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case "arrow":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.Table.from_pylist(rows).schema) as writer:
                writer.write_table(pa.Table.from_pylist(rows))
        case "stream.arrow":
            with (
                pa.OSFile(str(path), "wb") as file,
                pa.ipc.new_stream(file, pa.Table.from_pylist(rows).schema) as writer,
            ):
                writer.write_table(pa.Table.from_pylist(rows))
        case "dataset":
            Dataset.from_list(rows).save_to_disk(path)
        case "shards":
            Dataset.from_list(rows).save_to_disk(path, num_shards=2)
        case "splits":
            halves = {"train": Dataset.from_list(rows[:2]), "test": Dataset.from_list(rows[2:])}
            DatasetDict(halves).save_to_disk(path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream.arrow", "dataset", "shards", "splits"])
def test_a_table_holds_the_programs_of_its_rows(tmp_path, kind: str):
    assert load_programs(saved(kind, tmp_path, ROWS)) == load_programs(saved("jsonl", tmp_path, ROWS))


@pytest.mark.parametrize("columns", [None, ["label"]])
@pytest.mark.parametrize("form", ["numpy", "torch"])
def test_a_format_of_a_dataset_is_no_matter(tmp_path, form: str, columns: list[str] | None):
    rows = [{"source": "def f(x):\n    return x", "inputs": [[1], [2]], "label": 0}]
    Dataset.from_list(rows).with_format(form, columns=columns).save_to_disk(tmp_path / "formatted")
    (own,) = load_programs(tmp_path / "formatted")
    assert own.inputs == ((1,), (2,))
    assert [type(value) for (value,) in own.inputs] == [int, int]


def test_a_dataset_of_nothing_is_refused(tmp_path):
    Dataset.from_dict({}).save_to_disk(tmp_path / "empty")
    with pytest.raises(PbbError, match="cannot be read"):
        load_programs(tmp_path / "empty")


def test_a_dataset_makes_a_corpus_and_is_not_changed(tmp_path):
    path = saved("dataset", tmp_path, ROWS)
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    digest = file_digest(str(path), "programs")
    corpus = make_corpus(programs=path, with_io=1, without_io=1, shown_inputs=1, names="kept")
    assert [entry.traces[0].output for entry in corpus.entries] == [0, 1, 2, 3]
    assert [entry.program.name for entry in corpus.entries] == ["f", "f_2", "f_3", "f_4"]
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before
    assert digest == file_digest(str(path), "programs") != file_digest(str(saved("splits", tmp_path, ROWS)), "programs")


def test_empty_fields_of_a_table_are_missing_ones(tmp_path):
    lists = {"source": "def g(x):\n    return [x]", "inputs": [[1], [2]], "group": "with_io"}
    rows = [ROWS[0] | dict.fromkeys(lists), dict.fromkeys(ROWS[0]) | lists]  # each has the columns of the other
    first, second = load_programs(saved("parquet", tmp_path, rows))
    assert (first.inputs, first.group, second.inputs, second.group) == (((0,),), None, ((1,), (2,)), "with_io")
    bad = given_programs(saved("parquet", tmp_path, [ROWS[0], {"code": None, "input": "1", "id": "x"}]))[1]
    assert bad.sentence.startswith(
        f"Row 2 of {tmp_path / 'rows.parquet'} (x) is no program (it has no `code` or `source`)"
    )


@pytest.mark.parametrize("name", ["bad.parquet", "bad.arrow", "folder", "none.parquet", "none.arrow", "empty.parquet"])
def test_what_is_no_table_is_refused(tmp_path, name: str):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "notes.txt").write_text("nothing")
    elif name == "empty.parquet":
        pq.write_table(pa.table({"code": pa.array([], pa.string())}), path)
    elif name.startswith("bad"):
        path.write_bytes(b"no table at all")
    with pytest.raises(PbbError) as raised:
        load_programs(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_the_package_the_command_to_install_it_is_said(tmp_path, monkeypatch):
    path = saved("parquet", tmp_path, ROWS)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PbbError, match=r"datasets, which is not installed .*: pip install datasets\.$"):
        load_programs(path)
    assert len(load_programs(saved("jsonl", tmp_path, ROWS))) == 4
