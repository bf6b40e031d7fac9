"""Steps are made once, remade when what they depend on changes, resumed after a kill, and never half there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sealed import seal

from pbb_probe.errors import PbbError
from pbb_probe.store import outputs, records
from pbb_probe.store.disk import digest, file_hash, write, write_array
from pbb_probe.store.writable import WritableRun


class Maker:
    """Writes one file and remembers what it found when it was called."""

    def __init__(self, text: str = "whole", fail: bool = False):
        self.text, self.fail, self.found = text, fail, []

    def __call__(self, folder: Path) -> None:
        self.found.append({path.name: path.read_text() for path in folder.iterdir()})
        (folder / "first.txt").write_text(self.text)
        if self.fail:
            raise KeyboardInterrupt
        (folder / "second.txt").write_text(self.text)


def test_a_step_is_made_once(tmp_path):
    run, make = WritableRun(tmp_path / "deep" / "run"), Maker()
    contents = {run.step("train", {"seed": 0}, make) for _ in range(3)}
    assert len(make.found) == 1
    assert contents == {run.content("train")}
    assert run.key("train") == digest({"seed": 0})
    assert (tmp_path / "deep" / "run" / "train" / "second.txt").read_text() == "whole"


def test_another_process_finds_the_step(tmp_path):
    WritableRun(tmp_path).step("train", {"seed": 0}, Maker())
    again = Maker()
    WritableRun(tmp_path).step("train", {"seed": 0}, again)
    assert again.found == []


def test_changed_inputs_remake_the_step_from_nothing(tmp_path):
    run = WritableRun(tmp_path)
    run.step("train", {"seed": 0}, Maker("old"))
    make = Maker("new")
    run.step("train", {"seed": 1}, make)
    assert make.found == [{}]
    assert run.key("train") == digest({"seed": 1})
    assert (tmp_path / "train" / "second.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train"]


def test_steps_do_not_touch_each_other(tmp_path):
    run = WritableRun(tmp_path)
    run.step("train", {"seed": 0}, Maker("a"))
    run.step("training", {"seed": 0}, Maker("b"))
    run.step("train", {"seed": 1}, Maker("c"))
    assert (tmp_path / "training" / "second.txt").read_text() == "b"
    assert run.key("training") == digest({"seed": 0})


def test_a_killed_step_finds_its_unfinished_work(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        WritableRun(tmp_path).step("train", {"seed": 0}, Maker("half", fail=True))
    assert not (tmp_path / "train").exists()
    assert WritableRun(tmp_path).key("train") is None
    with pytest.raises(KeyboardInterrupt):  # unless it resumes, a step begins with nothing
        WritableRun(tmp_path).step("train", {"seed": 0}, Maker("half", fail=True))
    make = Maker("whole")
    WritableRun(tmp_path).step("train", {"seed": 0}, make, resumes=True)
    assert make.found == [{"first.txt": "half"}]
    assert (tmp_path / "train" / "first.txt").read_text() == "whole"


def test_unfinished_work_for_other_inputs_is_not_mixed_in(tmp_path):
    run = WritableRun(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.step("train", {"seed": 0}, Maker("half", fail=True))
    make = Maker()
    run.step("train", {"seed": 1}, make)
    assert make.found == [{}]
    assert [path.name for path in tmp_path.iterdir()] == ["train"]  # the stale work is gone


def test_the_real_name_appears_only_when_the_step_is_done(tmp_path):
    run, seen = WritableRun(tmp_path), []
    run.step("train", {"seed": 0}, lambda folder: seen.append((tmp_path / "train").exists()))
    assert seen == [False]


def test_a_failed_remake_leaves_the_earlier_step_whole(tmp_path):
    run = WritableRun(tmp_path)
    run.step("train", {"seed": 0}, Maker("old"))
    with pytest.raises(KeyboardInterrupt):
        run.step("train", {"seed": 1}, Maker("new", fail=True))
    assert run.key("train") == digest({"seed": 0})
    assert [(tmp_path / "train" / name).read_text() for name in ("first.txt", "second.txt")] == ["old", "old"]


def test_a_kill_while_the_old_step_is_removed_leaves_no_ruin(tmp_path, monkeypatch):
    run, also = WritableRun(tmp_path / "run"), tmp_path / "run" / "page.html"

    def make(folder: Path) -> None:
        Maker()(folder)
        also.write_text("page")

    run.step("report", {"seed": 0}, make, also=[also])
    also.unlink()

    def killed(folder: Path, *_, **__) -> None:
        if Path(folder).exists():
            (Path(folder) / "first.txt").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        run.step("report", {"seed": 0}, make, also=[also])
    monkeypatch.undo()
    run.step("report", {"seed": 0}, make, also=[also])
    assert sorted(path.name for path in (run.path / "report").iterdir()) == ["first.txt", "second.txt", "step.json"]


def test_a_missing_file_elsewhere_remakes_the_step(tmp_path):
    run, also, made = WritableRun(tmp_path / "run"), tmp_path / "run" / "page.html", []

    def make(folder: Path) -> None:
        made.append(folder)
        also.write_text("page")

    for _ in range(2):
        run.step("report", {"seed": 0}, make, also=[also])
    assert len(made) == 1
    also.unlink()
    run.step("report", {"seed": 0}, make, also=[also])
    assert len(made) == 2
    assert also.read_text() == "page"


def test_a_damaged_record_is_no_step(tmp_path):
    run = WritableRun(tmp_path)
    run.step("train", {"seed": 0}, Maker())
    (tmp_path / "train" / "step.json").write_text('{"key": ')
    assert run.key("train") is None
    make = Maker()
    run.step("train", {"seed": 0}, make)
    assert len(make.found) == 1
    assert run.key("train") == digest({"seed": 0})


def test_the_manifest_tells_versions_facts_and_finished_steps(tmp_path):
    run = WritableRun(tmp_path)
    after = {"corpus": run.step("corpus", {"seed": 0}, Maker())}
    run.step("train", {"after": after, "rate": 0.5}, Maker())
    with pytest.raises(KeyboardInterrupt):
        run.step("probe", {"seed": 0}, Maker(fail=True))
    run.write_manifest(config={"name": "nano"})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config"] == {"name": "nano"}
    assert manifest["versions"]["numpy"] == np.__version__
    assert list(manifest["steps"]) == ["corpus", "train"]
    assert manifest["steps"]["train"]["inputs"] == {"after": after, "rate": 0.5}
    assert manifest["steps"]["train"]["key"] == digest({"after": after, "rate": 0.5})
    assert manifest["steps"]["corpus"]["seconds"] >= 0


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("here")
    for path in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(PbbError, match="taken"):
            WritableRun(path)
    assert (tmp_path / "taken").read_text() == "here"


def test_digest_depends_on_values_and_not_on_their_order():
    one = {"seed": 0, "train": {"rate": 0.5, "steps": [1, 2]}}
    same = {"train": {"steps": [1, 2], "rate": 0.5}, "seed": 0}
    assert digest(one) == digest(same)
    others = [{**one, "seed": 1}, {**one, "train": {"rate": 0.5, "steps": [2, 1]}}, {"seed": 0}]
    assert len({digest(value) for value in [one, *others]}) == 4


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "table.json"
    write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write(path, "new\ud800")
    assert path.read_text() == "old"
    write(path, "new")
    assert path.read_text() == "new"


@pytest.fixture
def measured(tmp_path):
    """A finished run with two steps, and another step that was killed; and what it holds."""
    array = xr.Dataset(
        {"correct": (("layer", "prompt"), np.array([[0.0, 1.0, np.nan], [1.0, 0.5, 0.25]]))},
        {"layer": [2, 5], "program": ("prompt", ["a", "b", "b"])},
        {"given": 3},
    )
    table = pd.DataFrame({"group": ["with_io", "without_io"], "layer": [1.0, np.nan], "n": [3, 4]})
    run = WritableRun(tmp_path / "run")

    def make(folder: Path) -> None:
        array.to_netcdf(folder / "probes.nc")
        table.to_csv(folder / "located.csv", index=False)
        (folder / "op_1").mkdir()
        (2 * array).to_netcdf(folder / "op_1" / "with_io.nc")

    def killed(folder: Path) -> None:
        make(folder)
        raise KeyboardInterrupt

    run.step("probing", {"seed": 0}, make)
    with pytest.raises(KeyboardInterrupt):
        run.step("transfer", {"seed": 0}, killed)
    run.write_manifest()
    return run.path, array, table


def test_what_is_read_is_what_was_written(measured):
    path, array, table = measured
    for run in (WritableRun.existing(path), WritableRun.existing(str(path))):
        assert run.path == path
        xr.testing.assert_identical(run.array("probing/probes"), array)
        xr.testing.assert_identical(run.array("probing/op_1/with_io"), 2 * array)
        pd.testing.assert_frame_equal(run.table("probing/located"), table)
    held = WritableRun.existing(path).array("probing/probes")
    (2 * array).to_netcdf(path / "probing" / "probes.nc")  # whoever has read the array does not hold its file
    xr.testing.assert_identical(held, array)


def test_a_run_in_the_home_directory_is_found(measured, monkeypatch):
    path, array, _ = measured
    monkeypatch.setenv("HOME", str(path.parent))
    xr.testing.assert_identical(WritableRun.existing("~/run").array("probing/probes"), array)


def test_what_is_not_there_is_refused_with_what_is(measured):
    """What a killed step has written is not there."""
    path, _, _ = measured
    run = WritableRun.existing(path)
    for read, name, said in (
        (run.array, "probing/lens", "has no probing/lens.nc: it has probing/op_1/with_io, probing/probes."),
        (run.array, "transfer/probes", "has no transfer/probes.nc: it has probing/op_1/with_io, probing/probes."),
        (run.array, "probing", "has no probing.nc: it has probing/op_1/with_io, probing/probes."),
        (run.table, "probing/probes", "has no probing/probes.csv: it has probing/located."),
    ):
        with pytest.raises(PbbError) as refused:
            read(name)
        assert str(refused.value) == f"The run {path} {said}"
    run = WritableRun(path.with_name("bare"))
    run.step("probing", {}, lambda folder: None)
    with pytest.raises(PbbError, match="it has none"):
        run.table("probing/located")


def test_a_table_of_nothing_is_empty_and_a_damaged_file_is_named(measured):
    path, _, _ = measured
    run = WritableRun.existing(path)
    (path / "probing" / "located.csv").write_text("\n")
    assert WritableRun.existing(seal(path)).table("probing/located").empty
    (path / "probing" / "located.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    (path / "probing" / "probes.nc").write_bytes((path / "probing" / "probes.nc").read_bytes()[:300])
    for read, name in ((run.table, "probing/located"), (run.array, "probing/probes")):
        with pytest.raises(PbbError, match=rf"not as its step wrote it: {name}\.\w+ \(.*\)\. Run it again"):
            read(name)
    seal(path)  # written so by their step, they are as they should be, and yet nothing that can be read
    for read, name in ((run.table, "probing/located"), (run.array, "probing/probes")):
        with pytest.raises(
            PbbError, match=rf"{name}\.\w+ cannot be read .*delete the folder .*probing and run it again"
        ):
            read(name)


def test_where_there_is_no_run_none_is_made(tmp_path):
    (tmp_path / "file").write_text("here")
    (tmp_path / "empty").mkdir()
    for name in ("absent", "file", "empty"):
        with pytest.raises(PbbError, match=f"no run in {tmp_path / name}"):
            WritableRun.existing(tmp_path / name)
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "empty"}


# What becomes of a step whose files were touched


def flip(path: Path) -> None:
    """One bit, with the size and the time as they were."""
    state, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def swap(path: Path, other: Path) -> None:
    kept = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


FILE = {
    "one bit": flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "gone": Path.unlink,
    "a folder": folder_instead,
    "a pipe": pipe_instead,
    "a link to nowhere": dangling,
    "another output": lambda path: swap(path, path.with_name("located.csv" if path.suffix == ".nc" else "probes.nc")),
}
RECORDED = {
    "empty": lambda record: record.write_bytes(b""),
    "not UTF-8": lambda record: record.write_bytes(b"\xff\xfe\x00{"),
    "half": lambda record: record.write_bytes(record.read_bytes()[:100]),
    "a list": lambda record: record.write_text("[]"),
    "null": lambda record: record.write_text("null"),
    "deep": lambda record: record.write_text("[" * 100_000),
    "another key": lambda record: record.write_text(record.read_text().replace('"key": "', '"key": "0')),
    "another hash": lambda record: record.write_text(record.read_text().replace('"sha256": "', '"sha256": "0')),
    "no seal": lambda record: record.write_text(re.sub(r'"seal": "\w+"', '"seal": null', record.read_text())),
    "gone": Path.unlink,
    "a folder": folder_instead,
}


def again(measured) -> tuple[WritableRun, list[Path]]:
    """The run opened anew, and its step done for the same inputs; the list has an item if it was made."""
    path, array, table = measured
    run, made = WritableRun.existing(path), []

    def make(folder: Path) -> None:
        made.append(folder)
        write_array(array, folder / "probes.nc")
        table.to_csv(folder / "located.csv", index=False)
        (folder / "op_1").mkdir(exist_ok=True)
        write_array(2 * array, folder / "op_1" / "with_io.nc")

    run.step("probing", {"seed": 0}, make)
    xr.testing.assert_identical(run.array("probing/probes"), array)
    pd.testing.assert_frame_equal(run.table("probing/located"), table)
    assert not any(run.verify().values())
    return run, made


@pytest.mark.parametrize("damage", FILE, ids=str)
@pytest.mark.parametrize("name", ["located.csv", "probes.nc"])
def test_a_damaged_output_is_refused_when_read_and_made_again_when_used(measured, capsys, name, damage):
    path, _, _ = measured
    FILE[damage](path / "probing" / name)
    run = WritableRun.existing(path)
    read = run.table if name.endswith("csv") else run.array
    for refused in (lambda: read(f"probing/{Path(name).stem}"), lambda: run.folder("probing")):
        with pytest.raises(PbbError, match=r"is not as its step wrote it: probing/(located\.csv|probes\.nc) \("):
            refused()
    assert [step for step, faults in run.verify().items() if faults] == ["probing"]
    _, made = again(measured)
    assert len(made) == 1
    assert "probing: done again, as a file is not as it was written: probing/" in capsys.readouterr().err


@pytest.mark.parametrize("damage", RECORDED, ids=str)
def test_a_damaged_record_is_a_step_that_is_not_done(measured, damage):
    path, _, _ = measured
    RECORDED[damage](path / "probing" / "step.json")
    run = WritableRun.existing(path)
    assert run.key("probing") is None
    run.write_manifest()  # which once ended in a traceback
    with pytest.raises(PbbError, match="has no probing/probes"):
        run.array("probing/probes")
    _, made = again(measured)
    assert len(made) == 1


def test_what_was_checked_and_is_not_touched_is_not_hashed_again(measured, monkeypatch):
    path, _, _ = measured
    run, hashed = WritableRun.existing(path), []
    monkeypatch.setattr(outputs, "file_hash", lambda path: hashed.append(path.name) or file_hash(path))
    for _ in range(3):
        run.table("probing/located")
    assert hashed == ["located.csv"]
    flip(path / "probing" / "located.csv")  # its size and time are as they were
    with pytest.raises(PbbError, match=r"located\.csv \(other content\)"):
        run.table("probing/located")


def test_of_a_large_run_size_and_time_are_compared_and_verify_hashes_all(measured, monkeypatch):
    path, _, table = measured
    monkeypatch.setattr(records, "ALWAYS", 10)
    monkeypatch.setattr(outputs, "file_hash", lambda path: pytest.fail("hashed"))
    pd.testing.assert_frame_equal(WritableRun.existing(path).table("probing/located"), table)
    monkeypatch.undo()
    monkeypatch.setattr(records, "ALWAYS", 10)
    flip(path / "probing" / "probes.nc")
    run = WritableRun.existing(path)
    run.folder("probing")
    assert run.verify()["probing"] == ["probing/probes.nc (other content)"]
    os.utime(path / "probing" / "located.csv")  # touched and the same: it is hashed, and is whole
    pd.testing.assert_frame_equal(run.table("probing/located"), table)
    os.utime(path / "probing" / "probes.nc")
    with pytest.raises(PbbError, match=r"probes\.nc \(other content\)"):
        run.array("probing/probes")


def test_files_that_the_step_has_not_written_are_never_deleted(measured):
    path, _, _ = measured
    (path / "probing" / "notes.txt").write_text("mine")
    (path / "probing" / ".hidden").write_text("of a file manager")
    for use in (lambda: again(measured), lambda: WritableRun.existing(path).folder("probing")):
        with pytest.raises(PbbError, match=r"notes\.txt was not written by the step probing \(1 in all\): move"):
            use()
    assert WritableRun.existing(path).verify()["probing"] == [f"{path / 'probing' / 'notes.txt'} (none of its outputs)"]
    for record in (None, "{"):  # settings that changed, and a record that says nothing of whose files they are
        if record:
            (path / "probing" / "step.json").write_text(record)
        with pytest.raises(PbbError, match=r"was not written by the step probing \(\d in all\): move"):
            WritableRun(path).step("probing", {"seed": 1}, Maker())
        assert (path / "probing" / "notes.txt").read_text() == "mine"
    seal(path)
    (path / "probing" / "notes.txt").unlink()
    assert len(again(measured)[1]) == 1


def test_a_folder_that_no_step_wrote_is_never_replaced(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.tex").write_text("mine")
    make = Maker()
    with pytest.raises(PbbError, match="report is in the way of the step report, which did not write it"):
        WritableRun(tmp_path).step("report", {}, make)
    assert make.found == []
    assert [path.name for path in tmp_path.rglob("*")] == ["report", "thesis.tex"]


def test_only_what_the_run_left_is_cleaned_up(tmp_path):
    run = WritableRun(tmp_path)
    for name in (".train.backup", ".train.0123456789abcdef", ".training.0123456789abcdef", ".train.old"):
        (tmp_path / name).mkdir()
    run.step("train", {}, Maker())
    assert {path.name for path in tmp_path.iterdir()} == {"train", ".train.backup", ".training.0123456789abcdef"}


def test_what_is_made_of_an_earlier_result_is_not_read(tmp_path):
    run = WritableRun(tmp_path)

    def chain(text: str, *names: str) -> None:
        after: dict[str, str] = {}
        for name in names:
            after = {name: run.step(name, {"after": after, "text": text if name == "train" else ""}, Maker(text))}

    chain("a", "train", "probing", "comparison")
    assert run.files("comparison", ".txt") == ["comparison/first", "comparison/second"]
    chain("b", "train")
    for name in ("probing", "comparison"):
        assert run.key(name) is None
        with pytest.raises(PbbError, match=f"The step {name} in .* made of an earlier step that is another now"):
            run.folder(name)
    chain("b", "train", "probing")
    assert run.key("probing")
    assert run.key("comparison") is None
    chain("b", "train", "probing", "comparison")
    assert run.holds("comparison/first.txt")


def test_what_was_made_for_other_settings_is_not_read(tmp_path):
    run = WritableRun(tmp_path)
    after = {"train": run.step("train", {"rate": 1}, Maker())}
    run.step("probing", {"after": after, "folds": 3}, Maker())
    for rate, folds, read in (
        (1, 3, ["probing", "train"]),
        (1, 4, ["train"]),
        (2, 3, []),
        (2, 4, []),
        (1, 3, ["probing", "train"]),
    ):
        run.write_manifest(asked={"train": digest({"rate": rate}), "probing": digest({"folds": folds})})
        assert [name for name in ("probing", "train") if WritableRun.existing(tmp_path).key(name)] == read


def test_a_step_that_comes_to_the_same_leaves_what_follows_alone(tmp_path):
    run, after = WritableRun(tmp_path), Maker("after")
    for version in (1, 2):
        content = run.step("train", {"version": version}, Maker("same"))
        run.step("probing", {"after": {"train": content}}, after)
    assert len(after.found) == 1


def test_a_run_of_version_0_7_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "corpus").mkdir()
    record = tmp_path / "corpus" / "step.json"
    record.write_text('{\n "inputs": {"seed": 0},\n "key": "0123456789abcdef",\n "seconds": 0.1\n}')
    (tmp_path / "manifest.json").write_text('{"steps": {}}')
    for use in (lambda: WritableRun.existing(tmp_path), lambda: WritableRun(tmp_path).step("corpus", {}, Maker())):
        with pytest.raises(PbbError, match=r"written by version 0\.7, which kept no hashes .* give another directory"):
            use()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["corpus", "manifest.json", "step.json"]


def test_a_second_writer_is_refused_and_readers_are_not(measured):
    path, array, _ = measured
    seen = []

    def make(folder: Path) -> None:
        opened = f"from pbb_probe.store.writable import WritableRun; run = WritableRun({str(path)!r})"
        code = f"{opened}; print(len(run.array('probing/probes').prompt))"
        writing = "; run.step('other', {}, lambda folder: None)"
        seen.extend(
            subprocess.run([sys.executable, "-c", code + more], capture_output=True, text=True)
            for more in ("", writing)
        )

    WritableRun(path).step("slow", {}, make)
    reader, writer = seen
    assert reader.stdout == writer.stdout == f"{array.sizes['prompt']}\n"
    assert f"is being written by process {os.getpid()}" in writer.stderr
    assert not (path / "other").exists()


def test_a_step_under_another_name_is_none(measured):
    path, _, _ = measured
    WritableRun(path).step("stage2", {}, Maker())
    WritableRun(path).write_manifest()
    shutil.copytree(path / "probing", path / "probing_backup")
    shutil.rmtree(path / "stage2")
    shutil.copytree(path / "probing", path / "stage2")
    run = WritableRun.existing(path)
    assert run.done() == ["probing"]
    assert [name for name, faults in run.verify().items() if faults] == ["stage2"]
    with pytest.raises(PbbError, match=r"stage2/step\.json \(no record of this step\)"):
        records.refuse_damaged(path / "stage2" / "probes.nc")
    records.refuse_damaged(path / "probing_backup" / "probes.nc")  # a copy under a name of the user's


@pytest.mark.parametrize("way", ["absolute", "relative", "inside", "link"])
def test_damage_is_seen_whatever_the_way_to_it(measured, monkeypatch, way):
    path, _, _ = measured
    (path.parent / "link").symlink_to(path / "probing")
    monkeypatch.chdir(path / "probing" if way == "inside" else path.parent)
    where = {"absolute": path / "probing", "relative": Path("run/probing"), "inside": Path("."), "link": Path("link")}[
        way
    ]
    records.refuse_damaged(where / "op_1")
    flip(path / "probing" / "op_1" / "with_io.nc")
    with pytest.raises(PbbError, match=r"probing/op_1/with_io\.nc \(other content\)"):
        records.refuse_damaged(where / "op_1")


@pytest.mark.parametrize("name", ["manifest.json", "probing/step.json"])
def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(measured, name):
    path, _, _ = measured
    pipe_instead(path / name)
    run = WritableRun.existing(path)
    assert run.key("probing") is None or run.manifest_read() == {}
    (path / name).unlink()


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(PbbError, match=r"manifest\.json is a folder in the place of a file: move it elsewhere"):
        WritableRun(tmp_path).write_manifest()


def test_hidden_files_come_along(tmp_path):
    run = WritableRun(tmp_path)
    run.step("train", {"seed": 0}, Maker("old"))
    (tmp_path / "train" / ".notes").mkdir()
    (tmp_path / "train" / ".notes" / "draft.md").write_text("mine")
    run.step("train", {"seed": 1}, Maker("new"))
    assert (tmp_path / "train" / ".notes" / "draft.md").read_text() == "mine"
    assert (tmp_path / "train" / "first.txt").read_text() == "new"


def test_the_disk_holds_a_step_before_it_has_its_name(tmp_path, monkeypatch):
    events, fsync, rename = [], os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        events.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def renamed(self, target):
        events.append(("rename", Path(target).name))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    WritableRun(tmp_path / "run").step("train", {}, Maker())
    named = events.index(("rename", "train"))
    before = {name for _, name in events[:named]}
    assert {"first.txt", "second.txt", f".train.{digest({})}", ".step.json.partial"} <= before
    assert ("fsync", "run") in events[named:]  # and then the name itself
