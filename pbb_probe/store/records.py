"""The records of a run's steps, and whether they still hold: inputs, outputs and the earlier steps they depend on."""

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
    """The records of the run in a directory, read again when they change."""

    def __init__(self, path: Path):
        self.path = path
        self._checker = Checker()
        self._read: dict[Path, tuple[tuple[int, ...], dict[str, Any] | None]] = {}

    def key(self, name: str) -> str | None:
        """The key of a finished step; None if there is none whose settings and earlier steps are current."""
        record = self.current(name)
        return record["key"] if record else None

    def content(self, name: str) -> str | None:
        """The content of a finished step, as `Run.step` returns it; None if there is none."""
        record = self.record(name)
        return content(record["outputs"]) if record else None

    def check(self, name: str) -> None:
        """Refuse a step whose files are not as it wrote them, even if its settings are no longer current.

        Raises:
            PbbError: names the file, or says that the step's record cannot be read.
        """
        record = self.record(name)
        if record is None:
            raise self.damaged(f"{name}/{RECORD} (no record of this step)", name)
        self.refuse_foreign(name, record["outputs"])
        if faults := self.faults(name, record):
            raise self.damaged(faults[0], name)

    def verify(self) -> dict[str, list[str]]:
        """What is wrong with each step: a list of damaged files and how they differ. Every file is hashed."""
        faults = {}
        for name in sorted({*self.done(), *self.manifest_read().get("steps", {})}):
            record = self.record(name)
            if record is None:
                faults[name] = [f"{name}/{RECORD} (no record of this step)"]
                continue
            foreign = [f"{path} (none of its outputs)" for path in self._foreign(name, record["outputs"])]
            faults[name] = self.faults(name, record, every=True) + foreign
            if not self.current(name):
                faults[name].append(
                    f"{name}/{RECORD} (of other settings, or made of an earlier step that is another now)"
                )
        return faults

    def manifest_read(self) -> dict[str, Any]:
        """The manifest; empty if it cannot be read."""
        return self._sealed(self.path / MANIFEST) or {}

    def record(self, name: str) -> dict[str, Any] | None:
        """The record of a step; None if none can be read, or it belongs to another step.

        Raises:
            PbbError: it was written by version 0.7.
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
        """The record of a step, unless the run's settings or an earlier step have changed since."""
        record = self.record(name)
        if record is None:
            return None
        asked_with, earlier = digest(without_after(record["inputs"])), record["inputs"].get("after", {})
        if self.manifest_read().get("asked", {}).get(name, asked_with) != asked_with:
            return None
        unchanged = all(self.content(step) in (None, was) for step, was in earlier.items())
        recorded = [step for step in earlier if self.record(step)]
        return record if unchanged and all(self.current(step) for step in recorded) else None

    def done(self) -> list[str]:
        """The names of all steps with a record of their own, without copies under another name."""
        names = sorted(path.parent.name for path in self.path.glob(f"[!.]*/{RECORD}"))
        return [name for name in names if self.record(name)]

    def faults(self, name: str, record: Mapping[str, Any], every: bool = False) -> list[str]:
        """Each output that is not as it was written, and how it differs."""
        large = not every and self.is_large()
        checker = Checker() if every else self._checker
        checked = {file: checker.fault(self.path / name, file, at, large) for file, at in record["outputs"].items()}
        return [f"{_shown(name, file)} ({fault})" for file, fault in checked.items() if fault]

    def is_large(self) -> bool:
        """Is the run so large that sizes and times are compared instead of hashes?"""
        return sum(size(record["outputs"]) for record in map(self.record, self.done()) if record) > ALWAYS

    def refuse_foreign(self, name: str, outputs: Outputs) -> None:
        """Refuse files among a step's outputs that the step did not write: they are the user's.

        Raises:
            PbbError: names one of them.
        """
        if foreign := self._foreign(name, outputs):
            raise PbbError(
                f"{foreign[0]} was not written by the step {name} ({len(foreign)} in all): move what is "
                "yours elsewhere."
            )

    def refuse_unknown(self, name: str) -> None:
        """Refuse a folder with a step's name and no record, unless the manifest lists the step: it is the user's.

        Raises:
            PbbError: names it.
        """
        path = self.path / name
        known = name in self.manifest_read().get("written", []) or (path / RECORD).is_file()
        if os.path.lexists(path) and not known:
            raise PbbError(f"{path} is in the way of the step {name}, which did not write it: move it elsewhere.")

    def damaged(self, fault: str, step: str) -> PbbError:
        """The error about a file that is not as it was written."""
        return PbbError(
            f"A file of the run {self.path} is not as its step wrote it: {fault}. Run it again, which does the step "
            f"{step} anew."
        )

    def _foreign(self, name: str, outputs: Outputs) -> list[Path]:
        known = {self.path / name / file for file in (*outputs, RECORD)}
        return [path for path in files_in(self.path / name) if path not in known]

    def _sealed(self, path: Path) -> dict[str, Any] | None:
        """The content of a sealed file, read once until it is written again."""
        try:
            state = path.stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(state.st_mode):  # reading a pipe would never end
            return None
        now = signature(state)
        if self._read.get(path, ((), None))[0] != now:
            self._read[path] = (now, read_sealed(path))
        return self._read[path][1]


def without_after(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a step without the contents of earlier ones."""
    return {name: value for name, value in inputs.items() if name != "after"}


def refuse_damaged(path: Path) -> None:
    """Refuse a step's folder, or anything inside one, unless the step's files are as it wrote them.

    What is in no run is accepted, and so are copies of a step under another name, and steps of version 0.7.

    Raises:
        PbbError: a file has changed since, or the step's record cannot be read.
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
    """The run in which a directory is a step or is going to be one; None if there is no such run."""
    folder = path.expanduser().resolve()
    steps = Records(folder.parent).manifest_read()
    known = {*steps.get("asked", {}), *steps.get("written", [])}
    return folder.parent if (folder / RECORD).is_file() or folder.name in known else None


def without_hashes(path: Path) -> bool:
    """Is it a record in the format of version 0.7?"""
    try:
        return path.is_file() and set(json.loads(path.read_bytes())) == {"key", "inputs", "seconds"}
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _shown(name: str, file: str) -> str:
    return file.removeprefix("../") if file.startswith("../") else f"{name}/{file}"
