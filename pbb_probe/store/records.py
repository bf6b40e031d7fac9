"""What is recorded of the steps of a run, and whether it still holds: their inputs, outputs and earlier steps."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.store.disk import digest, files_in, read_sealed, signature
from pbb_probe.store.outputs import ALWAYS, Checker, Outputs, content, size

RECORD = "step.json"
MANIFEST = "manifest.json"


class Records:
    """The records of the run in a directory, read again when they are touched."""

    def __init__(self, path: Path):
        self.path = path
        self._checker = Checker()
        self._read: dict[Path, tuple[tuple[int, ...], dict[str, Any] | None]] = {}

    def key(self, name: str) -> str | None:
        """The key of a finished step, None where there is none, or only one of other settings or earlier steps."""
        record = self.current(name)
        return record["key"] if record else None

    def content(self, name: str) -> str | None:
        """The content of a finished step, as `Run.step` returns it; None where there is none."""
        record = self.record(name)
        return content(record["outputs"]) if record else None

    def check(self, name: str) -> None:
        """Refuse a step whose files are not as it wrote them, whatever it was made for.

        Raises:
            PbbError: says which file, or that the step's record cannot be read.
        """
        record = self.record(name)
        if record is None:
            raise self.damaged(f"{name}/{RECORD} (no record of this step)", name)
        self.refuse_foreign(name, record["outputs"])
        if faults := self.faults(name, record):
            raise self.damaged(faults[0], name)

    def verify(self) -> dict[str, list[str]]:
        """What is wrong with each step, however large the run: nothing, or files and what became of them."""
        found = {}
        for name in sorted({*self.done(), *self.manifest_read().get("steps", {})}):
            record = self.record(name)
            if record is None:
                found[name] = [f"{name}/{RECORD} (no record of this step)"]
                continue
            foreign = [f"{path} (none of its outputs)" for path in self._foreign(name, record["outputs"])]
            found[name] = self.faults(name, record, every=True) + foreign
            if not self.current(name):
                found[name].append(
                    f"{name}/{RECORD} (of other settings, or made of an earlier step that is another now)"
                )
        return found

    def manifest_read(self) -> dict[str, Any]:
        """The manifest; nothing where it cannot be read."""
        return self._sealed(self.path / MANIFEST) or {}

    def record(self, name: str) -> dict[str, Any] | None:
        """The record of a step; None where there is none that can be read, or it is one of another step.

        Raises:
            PbbError: it is of version 0.7.
        """
        path = self.path / name / RECORD
        record = self._sealed(path)
        if record is None and without_hashes(path):
            raise PbbError(
                f"The step {name} of {self.path} was written by version 0.7, which kept no hashes of its outputs: read "
                "it with that version, or give another directory and run the study again."
            )
        return record if record and record["step"] == name else None

    def current(self, name: str) -> dict[str, Any] | None:
        """The record of a step, unless the run was asked for other settings since, or for another earlier step."""
        record = self.record(name)
        if record is None:
            return None
        own, earlier = digest(without_after(record["inputs"])), record["inputs"].get("after", {})
        if self.manifest_read().get("asked", {}).get(name, own) != own:
            return None
        made_of = all(self.content(step) in (None, was) for step, was in earlier.items())
        there = [step for step in earlier if self.record(step)]
        return record if made_of and all(self.current(step) for step in there) else None

    def done(self) -> list[str]:
        """The names of all steps with a record of their own, copies under another name left out."""
        names = sorted(path.parent.name for path in self.path.glob(f"[!.]*/{RECORD}"))
        return [name for name in names if self.record(name)]

    def faults(self, name: str, record: Mapping[str, Any], every: bool = False) -> list[str]:
        """Each output that is not as it was written, and what became of it."""
        large = not every and self.is_large()
        checker = Checker() if every else self._checker
        checked = {file: checker.fault(self.path / name, file, at, large) for file, at in record["outputs"].items()}
        return [f"{_shown(name, file)} ({fault})" for file, fault in checked.items() if fault]

    def is_large(self) -> bool:
        """Is the run so large that sizes and times are compared, and not hashes?"""
        return sum(size(record["outputs"]) for record in map(self.record, self.done()) if record) > ALWAYS

    def refuse_foreign(self, name: str, outputs: Outputs) -> None:
        """Refuse files among a step's outputs that it has not written: they are the user's.

        Raises:
            PbbError: names one of them.
        """
        if foreign := self._foreign(name, outputs):
            raise PbbError(
                f"{foreign[0]} is none of the files that the step {name} wrote, {len(foreign)} in all: move what is "
                "yours elsewhere."
            )

    def refuse_unknown(self, name: str) -> None:
        """Refuse what has a step's name and no record, unless the manifest knows the step: it is the user's.

        Raises:
            PbbError: names it.
        """
        path = self.path / name
        known = name in self.manifest_read().get("written", []) or (path / RECORD).is_file()
        if os.path.lexists(path) and not known:
            raise PbbError(f"{path} is in the way of the step {name}, which did not write it: move it elsewhere.")

    def damaged(self, fault: str, step: str) -> PbbError:
        """The sentence about a file that is not as it was written."""
        return PbbError(
            f"A file of the run {self.path} is not as its step wrote it: {fault}. Run it again, which does the step "
            f"{step} anew."
        )

    def _foreign(self, name: str, outputs: Outputs) -> list[Path]:
        known = {self.path / name / file for file in (*outputs, RECORD)}
        return [path for path in files_in(self.path / name) if path not in known]

    def _sealed(self, path: Path) -> dict[str, Any] | None:
        """What a sealed file holds, read once while it is not touched."""
        try:
            state = path.stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(state.st_mode):  # reading a pipe would wait for ever
            return None
        now = signature(state)
        if self._read.get(path, ((), None))[0] != now:
            self._read[path] = (now, read_sealed(path))
        return self._read[path][1]


def without_after(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a step but for the contents of earlier ones."""
    return {name: value for name, value in inputs.items() if name != "after"}


def refuse_damaged(path: Path) -> None:
    """Refuse what lies in the folder of a step, or is one, unless the step's files are as it wrote them.

    Whatever is in no run is left alone, and so are copies of a step under another name, and steps of version 0.7.

    Raises:
        PbbError: a file was changed since, or the step's record cannot be read.
    """
    where = path.expanduser().resolve()
    for folder in (where, *where.parents):
        if (folder / RECORD).is_file() and not without_hashes(folder / RECORD):
            run, record = Records(folder.parent), read_sealed(folder / RECORD)
            if (
                record is None
                or record.get("step") == folder.name
                or folder.name in run.manifest_read().get("written", [])
            ):
                run.check(folder.name)


def owner_of(path: Path) -> Path | None:
    """The run of which a directory is a step, or is to be one; None where it is of none."""
    folder = path.expanduser().resolve()
    steps = Records(folder.parent).manifest_read()
    known = {*steps.get("asked", {}), *steps.get("written", [])}
    return folder.parent if (folder / RECORD).is_file() or folder.name in known else None


def without_hashes(path: Path) -> bool:
    """Is it a record as version 0.7 wrote them?"""
    try:
        return path.is_file() and set(json.loads(path.read_bytes())) == {"key", "inputs", "seconds"}
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _shown(name: str, file: str) -> str:
    return file.removeprefix("../") if file.startswith("../") else f"{name}/{file}"
