"""Kinds of damage to the files of a run, for fault_trials.py."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], object]


# How a file is damaged


def flipped(path: Path) -> None:
    """One bit near the end, with size and time as they were."""
    state, data = path.stat(), bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{\x00")


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def saying(text: str) -> Damage:
    """Another text."""
    return lambda path: path.write_text(text)


def edited(pattern: str, by: str) -> Damage:
    """A text in which one thing is another."""

    def damage(path: Path) -> None:
        text, n = re.subn(pattern, by, path.read_text(), count=1)
        assert n, f"{path} has no {pattern}"
        path.write_text(text)

    return damage


def row_dropped(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))


def value_written(path: Path) -> None:
    """A number in a NetCDF file, by the library that reads it."""
    import h5py

    with h5py.File(path, "r+") as file:
        name = next(name for name, values in file.items() if values.dtype.kind == "f" and values.size > 1)
        values = file[name][...]
        values.flat[0] = 1 - values.flat[0]
        file[name][...] = values


def swapped_with(name: str) -> Damage:
    def damage(path: Path) -> None:
        other = path.with_name(name)
        kept = other.read_bytes()
        shutil.copy(path, other)
        path.write_bytes(kept)

    return damage


def beside(name: str, text: str) -> Damage:
    """A further file in the folder."""
    return lambda path: path.joinpath(name).write_text(text)


def made_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("no folder")


def unfinished(what: str, damage: Damage) -> Damage:
    """The step as a kill leaves it, with a part of the unfinished work damaged."""

    def undone(path: Path) -> None:
        key = json.loads((path / "step.json").read_text())["key"]
        hidden = path.with_name(f".{path.name}.{key}")
        path.rename(hidden)
        (hidden / "step.json").unlink()
        damage(hidden / what)

    return undone


def stale_work(path: Path) -> None:
    """A file where the step's unfinished work would lie."""
    key = json.loads((path / "step.json").read_text())["key"]
    shutil.rmtree(path)
    path.with_name(f".{path.name}.{key}").write_text("no folder")


DAMAGE: dict[str, tuple[str, Damage]] = {
    "an answer in the corpus is another": ("corpus/corpus.jsonl", edited(r'"output": 1\b', '"output": 2')),
    "the corpus's settings are gone": ("corpus/config.json", gone),
    "the corpus is cut in half": ("corpus/corpus.jsonl", half),
    "a bit of the weights of stage 1": ("stage1/model/model.safetensors", flipped),
    "a bit of the weights of stage 2": ("stage2/model/model.safetensors", flipped),
    "half of the weights": ("stage2/model/model.safetensors", half),
    "weights of another stage": (
        "stage2/model/model.safetensors",
        lambda path: shutil.copy(path.parents[2] / "stage1/model/model.safetensors", path),
    ),
    "an empty tokenizer": ("stage2/model/tokenizer.json", empty),
    "a model without its config": ("stage2/model/config.json", gone),
    "another rope in the model's config": (
        "stage2/model/config.json",
        edited(r'"rope_theta": [\d.]+', '"rope_theta": 7.0'),
    ),
    "an adapter among the weights": ("stage2/model", beside("adapter_config.json", "{}")),
    "a bit of an array": ("probing/probes.nc", flipped),
    "a value of an array": ("probing/activations.nc", value_written),
    "an array of zeros": ("behaviour/finetuned.nc", zeros),
    "the array of one group is gone": ("patching/program_without_io.nc", gone),
    "the arrays of the groups are swapped": ("transfer/with_io.nc", swapped_with("without_io.nc")),
    "an array is a pipe": ("transfer/with_io.nc", pipe),
    "an array is a folder": ("transfer/with_io.nc", folder),
    "a table lacks its last row": ("comparison/probing.csv", row_dropped),
    "a number in a table is another": ("comparison/onsets.csv", edited(r"with_io", "io_with")),
    "a table is empty": ("comparison/patching.csv", empty),
    "a table is no text": ("comparison/transfer.csv", garbage),
    "a table links to itself": ("comparison/lens.csv", loop),
    "a line is added to a table": ("behaviour/behaviour.csv", longer),
    "half of the report": ("report.html", half),
    "the report in Markdown is gone": ("report.md", gone),
    "an empty record": ("probing/step.json", empty),
    "a record that is no text": ("stage2/step.json", garbage),
    "a record that is a list": ("transfer/step.json", saying("[]")),
    "half of a record": ("corpus/step.json", half),
    "a record with another key": ("patching/step.json", edited(r'"key": "\w', '"key": "x')),
    "a record with another hash": ("patching/step.json", edited(r'"sha256": "\w', '"sha256": "x')),
    "a record of too deep lists": ("behaviour/step.json", saying("[" * 100_000)),
    "a record is gone": ("interchange/step.json", gone),
    "a record of version 0.7": ("corpus/step.json", saying('{"key": "0123456789abcdef", "inputs": {}, "seconds": 1}')),
    "a step is gone": ("transfer", gone),
    "a step is a file": ("comparison", made_a_file),
    "other settings in config.json": ("config.json", edited(r'"seed": 0', '"seed": 1')),
    "config.json is no text": ("config.json", garbage),
    "config.json is gone": ("config.json", gone),
    "half of the manifest": ("manifest.json", half),
    "another version in the manifest": ("manifest.json", edited(r'"torch": "', '"torch": "0')),
    "the manifest is a list": ("manifest.json", saying("[]")),
    "half of the settings of unfinished training": ("stage2", unfinished("model/training.json", half)),
    "a bit of weights that were about to be done": ("stage2", unfinished("model/model.safetensors", flipped)),
    "a file in the place of unfinished work": ("stage2", stale_work),
    "a lock of a process that is long gone": (".", beside(".lock", "process 1 on elsewhere, since long ago")),
    "a lock that is no text": (".", lambda path: (path / ".lock").write_bytes(b"\xff\x00")),
}
"""By what is said of it: the file or folder of the run, and what is done to it."""
