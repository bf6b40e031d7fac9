"""A run directory: the output of each step, kept as long as nothing it depends on has changed.

Every step owns a directory `<run>/<step>` with a `step.json`: the key of its inputs, and the hash of each of its
outputs, which is compared before the step is used. A step writes into a hidden directory that is renamed when it is
done: what has a step's name is whole. A killed step finds its own unfinished work again as long as its key is the same.
One process at a time writes into a run.
"""

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pbb_probe.disk import digest, files_in, read_sealed, sync, write_sealed
from pbb_probe.errors import PbbError
from pbb_probe.outputs import ALWAYS, Checker, Outputs, content, record_outputs, size
from pbb_probe.writers import only_writer

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

RECORD = "step.json"
_PACKAGES = ("pbb-probe", "torch", "transformers", "transformer-lens", "peft", "scikit-learn", "numpy", "xarray")


class Run:
    """One run directory.

    Raises:
        PbbError: the path exists and is not a directory, or cannot be written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self._checker = Checker()
        self._read: dict[Path, tuple[tuple[int, ...], dict[str, Any] | None]] = {}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # ValueError: a null character
            reason = getattr(error, "strerror", None) or error
            raise PbbError(f"The run directory {self.path} cannot be made ({reason}): give another.") from error

    @classmethod
    def existing(cls, path: str | Path) -> Self:
        """A run that is there.

        Raises:
            PbbError: there is none.
        """
        folder = Path(path).expanduser()
        try:
            there = (folder / "manifest.json").is_file() or any(folder.glob(f"[!.]*/{RECORD}"))
        except (OSError, ValueError):
            there = False
        if not there:
            raise PbbError(f"There is no run in {path}: give the directory that pbb-probe run wrote.")
        run = cls(path)
        for name in run._done():
            run.key(name)  # refuses those of version 0.7
        return run

    def writing(self) -> AbstractContextManager[None]:
        """Be the only one who writes into the run.

        Raises:
            PbbError: another process is; the message says which.
        """
        return only_writer(self.path)

    def step(
        self, name: str, inputs: Mapping[str, Any], make: Callable[[Path], None], also: Sequence[Path] = ()
    ) -> str:
        """Make the step's directory unless it is there for the same inputs, as it was written.

        Args:
            name: of the directory.
            inputs: all that the output depends on, as JSON values. Under `after` stand the contents of earlier steps by
                name: where one of them has another content by now, what was made of it is no longer read.
            make: writes the output into the directory it is given; called again after a kill with what it had written.
            also: files elsewhere in the run that the step writes.

        Returns:
            The content: a hash of what the step wrote, equal where that is equal.

        Raises:
            PbbError: another process is writing into the run, the step was written by version 0.7, or there are files
                beside its outputs that it has not written.
        """
        key = digest(inputs)
        done, unfinished, old = self.path / name, self.path / f".{name}.{key}", self.path / f".{name}.old"
        with self.writing():
            record = self._record(name)
            if record:
                self._refuse_foreign(name, record["outputs"])
            if record and record["key"] == key:
                if not (faults := self._faults(name, record)):
                    self._clean(name)
                    return content(record["outputs"])
                print(f"{name}: done again, as a file is not as it was written: {faults[0]}", file=sys.stderr)
            elif not record and os.path.lexists(done):
                self._refuse_unknown(name)
                print(f"{name}: done again, as its record cannot be read", file=sys.stderr)
            print(f"{name}: started", file=sys.stderr)
            started = time.monotonic()
            if not unfinished.is_dir():
                _remove(unfinished)
                unfinished.mkdir()
            make(unfinished)
            _remove(unfinished / RECORD)  # of a kill right before the renaming
            outputs = record_outputs(unfinished, also)
            if not record and done.is_dir():  # whose files they are is not known, only which are made again
                self._refuse_foreign(name, outputs)
            seconds = round(time.monotonic() - started, 1)
            record = {"key": key, "inputs": dict(inputs), "outputs": outputs, "seconds": seconds}
            write_sealed(unfinished / RECORD, record)
            if os.path.lexists(done):
                _remove(old)  # renamed first: a kill while deleting leaves no half step under the name
                done.rename(old)
            unfinished.rename(done)
            sync(self.path)
            self._clean(name)
            print(f"{name}: done in {seconds} s", file=sys.stderr)
            return content(outputs)

    def key(self, name: str) -> str | None:
        """The key of a finished step, None where there is none, or only one of earlier steps that are done anew."""
        record = self._current(name)
        return record["key"] if record else None

    def content(self, name: str) -> str | None:
        """The content of a finished step, as `step` returns it; None where there is none."""
        record = self._record(name)
        return content(record["outputs"]) if record else None

    def folder(self, name: str) -> Path:
        """The directory of a finished step, every file in it as it was written.

        Raises:
            PbbError: it is not finished, a file was changed since, or another one is among them.
        """
        if self._current(name) is None:
            raise self._lacks(name)
        self.check(name)
        return self.path / name

    def check(self, name: str) -> None:
        """Refuse a step whose files are not as it wrote them, whatever it was made for.

        Raises:
            PbbError: says which file, or that the step's record cannot be read.
        """
        record = self._record(name)
        if record is None:
            raise self._damaged(f"{name}/{RECORD} (no record)", name)
        self._refuse_foreign(name, record["outputs"])
        if faults := self._faults(name, record):
            raise self._damaged(faults[0], name)

    def holds(self, name: str) -> bool:
        """Has a finished step this file, such as `probing/lens.nc`?"""
        step, _, file = name.partition("/")
        record = self._current(step)
        return record is not None and file in record["outputs"]

    def files(self, name: str, suffix: str) -> list[str]:
        """The files of a finished step with such a name, by their paths in the run without it, sorted."""
        record = self._current(name)
        found = (
            [f"{name}/{file.removesuffix(suffix)}" for file in record["outputs"] if file.endswith(suffix)]
            if record
            else []
        )
        return sorted(path for path in found if ".." not in path)

    def array(self, name: str) -> "xr.Dataset":
        """A labelled array of a finished step by its path in the run without `.nc`, such as `probing/probes`.

        Raises:
            PbbError: there is none (the message names those that finished steps have), or it was changed since.
        """
        import xarray as xr

        path = self._file(name, ".nc")
        try:
            return xr.load_dataset(path)
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # h5netcdf's
            raise self._unreadable(path, error) from error

    def table(self, name: str) -> "pd.DataFrame":
        """A table, likewise, such as `comparison/located`."""
        import pandas as pd

        path = self._file(name, ".csv")
        try:
            return pd.read_csv(path)
        except pd.errors.EmptyDataError:
            return pd.DataFrame()  # a table of nothing is written without columns
        except (OSError, ValueError) as error:
            raise self._unreadable(path, error) from error

    def verify(self) -> dict[str, list[str]]:
        """What is wrong with each step, however large the run: nothing, or files and what became of them."""
        found = {}
        for name in sorted({*self._done(), *self._manifest().get("steps", {})}):
            record = self._record(name)
            if record is None:
                found[name] = [f"{name}/{RECORD} cannot be read"]
            else:
                foreign = [f"{path} is none of its outputs" for path in self._foreign(name, record["outputs"])]
                found[name] = self._faults(name, record, every=True) + foreign
        return found

    def write_manifest(self, **facts: Any) -> None:
        """`manifest.json`: versions, the given facts, and for each finished step its key, inputs and seconds.

        `written` are the steps that the run has ever had. Of the facts, `asked` may hold the digest of the inputs that
        each step is wanted for, `after` left out: one of other inputs is no longer read.
        """
        records = {name: record for name in self._done() if (record := self._record(name))}
        told = {name: {of: record[of] for of in ("key", "inputs", "seconds")} for name, record in records.items()}
        versions = {package: version(package) for package in _PACKAGES}
        facts = {"python": sys.version.split()[0], "versions": versions, **facts, "steps": told}
        facts["written"] = sorted({*told, *self._manifest().get("written", [])})
        write_sealed(self.path / "manifest.json", facts)

    def _record(self, name: str) -> dict[str, Any] | None:
        """The record of a step; None where there is none that can be read.

        Raises:
            PbbError: it is of version 0.7.
        """
        path = self.path / name / RECORD
        record = self._sealed(path)
        if record is None and _without_hashes(path):
            raise PbbError(
                f"The step {name} of {self.path} was written by version 0.7, which kept no hashes of its outputs: read "
                "it with that version, or give another directory and run the study again."
            )
        return record

    def _current(self, name: str) -> dict[str, Any] | None:
        """The record of a step, unless the run was asked for other settings since, or for another earlier step."""
        record = self._record(name)
        if record is None:
            return None
        own, earlier = dict(record["inputs"]), record["inputs"].get("after", {})
        own.pop("after", None)
        if self._manifest().get("asked", {}).get(name, digest(own)) != digest(own):
            return None
        made_of = all(self.content(step) in (None, was) for step, was in earlier.items())
        there = [step for step in earlier if self._record(step)]
        return record if made_of and all(self._current(step) for step in there) else None

    def _faults(self, name: str, record: Mapping[str, Any], every: bool = False) -> list[str]:
        """Each output that is not as it was written, and what became of it."""
        large = not every and self._size() > ALWAYS
        checker = Checker() if every else self._checker
        checked = {file: checker.fault(self.path / name, file, at, large) for file, at in record["outputs"].items()}
        return [f"{_shown(name, file)} ({fault})" for file, fault in checked.items() if fault]

    def _manifest(self) -> dict[str, Any]:
        return self._sealed(self.path / "manifest.json") or {}

    def _sealed(self, path: Path) -> dict[str, Any] | None:
        """What a sealed file holds, read once while it is not touched."""
        try:
            state = path.stat()
        except (OSError, ValueError):
            return None
        now = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        if self._read.get(path, ((), None))[0] != now:
            self._read[path] = (now, read_sealed(path))
        return self._read[path][1]

    def _size(self) -> int:
        """Bytes of all finished steps."""
        return sum(size(record["outputs"]) for record in map(self._record, self._done()) if record)

    def _done(self) -> list[str]:
        """The names of all steps with a record."""
        return sorted(path.parent.name for path in self.path.glob(f"[!.]*/{RECORD}"))

    def _foreign(self, name: str, outputs: Outputs) -> list[Path]:
        """Files among a step's outputs that it has not written: a model directory with another file is another."""
        known = {self.path / name / file for file in (*outputs, RECORD)}
        return [path for path in files_in(self.path / name) if path not in known]

    def _refuse_foreign(self, name: str, outputs: Outputs) -> None:
        if foreign := self._foreign(name, outputs):
            raise PbbError(f"{foreign[0]} is none of the files that the step {name} wrote: move it elsewhere.")

    def _refuse_unknown(self, name: str) -> None:
        """A folder of a step's name without a record of one: it is the user's, unless the manifest knows the step."""
        if name not in self._manifest().get("written", []) and not (self.path / name / RECORD).exists():
            raise PbbError(
                f"{self.path / name} is in the way of the step {name}, which did not write it: move it elsewhere."
            )

    def _file(self, name: str, suffix: str) -> Path:
        """A file of a finished step, as it was written."""
        step, _, file = name.partition("/")
        record = self._current(step)
        written = record["outputs"].get(file + suffix) if record else None
        if record is None or written is None:
            raise self._lacks(name, suffix)
        large = self._size() > ALWAYS
        if fault := self._checker.fault(self.path / step, file + suffix, written, large):
            raise self._damaged(f"{name}{suffix} ({fault})", step)
        return self.path / f"{name}{suffix}"

    def _lacks(self, name: str, suffix: str = "") -> PbbError:
        steps = self._done()
        there = [file for step in steps for file in self.files(step, suffix)] if suffix else steps
        return PbbError(f"The run {self.path} has no {name}{suffix}: it has {', '.join(there) or 'none'}.")

    def _damaged(self, fault: str, step: str) -> PbbError:
        return PbbError(
            f"A file of the run {self.path} is not as its step wrote it: {fault}. Run it again, which does the step "
            f"{step} anew."
        )

    def _unreadable(self, path: Path, error: Exception) -> PbbError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return PbbError(f"{path} cannot be read ({reason}): delete the folder {path.parent} and run it again.")

    def _clean(self, name: str) -> None:
        """Remove what the run itself has left of a step that is done."""
        for path in self.path.glob(f".{name}.*"):
            if re.fullmatch(r"[0-9a-f]{16}|old", path.name.removeprefix(f".{name}.")):
                _remove(path)


def refuse_damaged(path: Path) -> None:
    """Refuse what lies in the folder of a step, or is one, unless the step's files are as it wrote them.

    Whatever is in no run is left alone, and so is a step of version 0.7.

    Raises:
        PbbError: a file was changed since, or the step's record cannot be read.
    """
    for folder in (path, path.parent):
        if (folder / RECORD).is_file() and not _without_hashes(folder / RECORD):
            Run(folder.parent).check(folder.name)


def _shown(name: str, file: str) -> str:
    return file.removeprefix("../") if file.startswith("../") else f"{name}/{file}"


def _without_hashes(path: Path) -> bool:
    """Is it a record as version 0.7 wrote them?"""
    try:
        return set(json.loads(path.read_bytes())) == {"key", "inputs", "seconds"}
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
