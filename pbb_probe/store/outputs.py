"""The files that a step or a stage wrote, as hashes: recorded when it is done, and compared before they are used.

In runs of up to `ALWAYS` bytes the hashes are always compared. In larger ones a file counts as unchanged while its size
and time are, as in git, and is hashed only where they differ.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pbb_probe.store.disk import digest, file_hash, files_in, read_sealed, signature, sync, write, write_sealed

ALWAYS = 10**9
"""Bytes of a run up to which every file is hashed before it is used."""

Outputs = Mapping[str, Mapping[str, Any]]
"""For each file by its path: `sha256`, `bytes`, and `modified`, its time in nanoseconds."""


def record_outputs(folder: Path, also: Iterable[Path] = ()) -> dict[str, dict[str, Any]]:
    """Hash the files in a folder, without hidden ones, and further files elsewhere; on return the disk holds them.

    Their paths are relative to the folder.
    """
    paths, outputs = [*files_in(folder), *also], {}
    for path in paths:
        sync(path)
        state = path.stat()
        outputs[os.path.relpath(path, folder)] = {
            "sha256": file_hash(path),
            "bytes": state.st_size,
            "modified": state.st_mtime_ns,
        }
    for inner in {folder, *(path.parent for path in paths)}:
        sync(inner)
    return outputs


def content(outputs: Outputs) -> str:
    """A short hash of the files: equal for equal files under equal names."""
    return digest({path: written["sha256"] for path, written in outputs.items()})


def size(outputs: Outputs) -> int:
    """Bytes in all."""
    return sum(written["bytes"] for written in outputs.values())


def write_recorded(path: Path, data: bytes) -> None:
    """Write a file of unfinished work completely, with a hidden record beside it for `is_whole`."""
    write(path, data)
    write_sealed(_beside(path), {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})


def is_whole(path: Path, hashed: bool = True) -> bool:
    """Is a file as `write_recorded` wrote it? By its size alone unless `hashed`."""
    record = read_sealed(_beside(path))
    try:
        if record is None or path.stat().st_size != record["bytes"]:
            return False
        return not hashed or file_hash(path) == record["sha256"]
    except OSError:
        return False


def forget(path: Path) -> None:
    """Remove the record of a file, which then no longer counts as whole."""
    _beside(path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


class Checker:
    """Compares files with their records, each once until it is written again."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Path, str], tuple[int, ...]] = {}

    def fault(self, folder: Path, name: str, written: Mapping[str, Any], trust_time: bool = False) -> str | None:
        """What is wrong with a recorded file, in a few words; None if nothing is.

        Args:
            folder: to which the record is relative.
            name: the file's path there.
            written: its entry in the record.
            trust_time: accept a file of the recorded size and time without hashing it.
        """
        path = folder / name
        try:
            state = path.stat()
        except OSError:
            return "missing"
        if not stat.S_ISREG(state.st_mode):
            return "no file"
        if state.st_size != written["bytes"]:
            return f"{state.st_size} bytes instead of {written['bytes']}"
        if trust_time and state.st_mtime_ns == written["modified"]:
            return None
        seen = signature(state)
        if self._seen.get((path, written["sha256"])) == seen:
            return None
        try:
            if file_hash(path) != written["sha256"]:
                return "other content"
        except OSError as error:
            return str(error.strerror)
        self._seen[path, written["sha256"]] = seen
        return None


def first_fault(folder: Path, outputs: Outputs) -> tuple[str, str] | None:
    """The first file in a folder that is not as it was written, and what is wrong with it; None if there is none."""
    checker = Checker()
    checked = ((name, checker.fault(folder, name, written)) for name, written in outputs.items())
    return next(((name, fault) for name, fault in checked if fault), None)
