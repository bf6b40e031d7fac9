"""A run directory: the output of each step, kept as long as nothing it depends on has changed.

Every step owns a directory `<run>/<step>` with a `step.json`: the key of its inputs, and the hash of each of its
outputs, which is compared before the step is used. A step writes into a hidden directory that is renamed when it is
done: what has a step's name is whole. One process at a time writes into a run.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pbb_probe.errors import PbbError, first_line
from pbb_probe.store.disk import digest, remove, sync, write_sealed
from pbb_probe.store.outputs import content, record_outputs
from pbb_probe.store.records import MANIFEST, RECORD, Records, owner_of
from pbb_probe.store.writers import only_writer

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Run(Records):
    """One run directory, which is made when something is written.

    Raises:
        PbbError: the path is not one of a directory, or cannot be.
    """

    def __init__(self, path: str | Path):
        super().__init__(Path(path).expanduser())
        try:
            there = next((folder for folder in (self.path, *self.path.parents) if os.path.lexists(folder)), None)
            if there and not there.is_dir():
                raise NotADirectoryError(0, f"{there} is no directory")
        except (OSError, ValueError) as error:  # ValueError: a null character
            raise self._unmade(error) from error

    @classmethod
    def existing(cls, path: str | Path) -> Self:
        """A run that is there.

        Raises:
            PbbError: there is none.
        """
        folder = Path(path).expanduser()
        try:
            there = (folder / MANIFEST).is_file() or any(folder.glob(f"[!.]*/{RECORD}"))
        except (OSError, ValueError):
            there = False
        if not there:
            raise PbbError(f"There is no run in {path}: give the directory that pbb-probe run wrote.")
        run = cls(path)
        run.done()  # refuses those of version 0.7
        return run

    def refuse_owned(self) -> None:
        """Refuse a directory that is the folder of a step of another run.

        Raises:
            PbbError: names that run.
        """
        if owner := owner_of(self.path):
            raise PbbError(f"{self.path} is the folder of a step of the run {owner}: give another directory.")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make the directory and be the only one who writes into it.

        Raises:
            PbbError: it cannot be made, it belongs to another run, or another process writes into it; the message says
                which.
        """
        self.refuse_owned()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unmade(error) from error
        with only_writer(self.path):
            yield

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any],
        make: Callable[[Path], None],
        also: Sequence[Path] = (),
        resumes: bool = False,
    ) -> str:
        """Make the step's directory unless it is there for the same inputs, as it was written.

        Args:
            name: of the directory.
            inputs: all that the output depends on, as JSON values. Under `after` stand the contents of earlier steps by
                name: where one of them has another content by now, what was made of it is no longer read.
            make: writes the output into the directory it is given.
            also: files elsewhere in the run that the step writes.
            resumes: after a kill, `make` is given what it had written; else it begins with nothing.

        Returns:
            The content: a hash of what the step wrote, equal where that is equal.

        Raises:
            PbbError: another process is writing into the run, the step was written by version 0.7, or there are files
                beside its outputs that it has not written.
        """
        key = digest(inputs)
        done, unfinished, old = self.path / name, self.path / f".{name}.{key}", self.path / f".{name}.old"
        with self.writing():
            record = self.record(name)
            if record:
                self.refuse_foreign(name, record["outputs"])
            if record and record["key"] == key:
                if not (faults := self.faults(name, record)):
                    self._clean(name)
                    return content(record["outputs"])
                print(f"{name}: done again, as a file is not as it was written: {faults[0]}", file=sys.stderr)
            elif not record and os.path.lexists(done):
                self.refuse_unknown(name)
                print(f"{name}: done again, as it has no record that can be read", file=sys.stderr)
            print(f"{name}: started", file=sys.stderr)
            started = time.monotonic()
            if not (resumes and unfinished.is_dir()):
                remove(unfinished)
                unfinished.mkdir()
            make(unfinished)
            remove(unfinished / RECORD)  # of a kill right before the renaming
            outputs = record_outputs(unfinished, also)
            if not record and done.is_dir():  # whose files they are is not known, only which are made again
                self.refuse_foreign(name, outputs)
            seconds = round(time.monotonic() - started, 1)
            record = {"step": name, "key": key, "inputs": dict(inputs), "outputs": outputs, "seconds": seconds}
            write_sealed(unfinished / RECORD, record)
            if os.path.lexists(done):
                _keep_hidden(done, unfinished)
                remove(old)  # renamed first: a kill while deleting leaves no half step under the name
                done.rename(old)
            unfinished.rename(done)
            sync(self.path)
            self._clean(name)
            print(f"{name}: done in {seconds} s", file=sys.stderr)
            return content(outputs)

    def folder(self, name: str) -> Path:
        """The directory of a finished step, every file in it as it was written.

        Raises:
            PbbError: it is not finished, a file was changed since, or another one is among them.
        """
        if self.current(name) is None:
            raise self._lacks(name)
        self.check(name)
        return self.path / name

    def holds(self, name: str) -> bool:
        """Has a finished step this file, such as `probing/lens.nc`?"""
        step, _, file = name.partition("/")
        record = self.current(step)
        return record is not None and file in record["outputs"]

    def files(self, name: str, suffix: str) -> list[str]:
        """The files of a finished step with such an ending, by their paths in the run without it, sorted."""
        outputs = (self.current(name) or {"outputs": ()})["outputs"]
        inside = [file for file in outputs if file.endswith(suffix) and not file.startswith("../")]
        return sorted(f"{name}/{file.removesuffix(suffix)}" for file in inside)

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
            raise _unreadable(path, error) from error

    def table(self, name: str) -> "pd.DataFrame":
        """A table, likewise, such as `comparison/located`."""
        import pandas as pd

        path = self._file(name, ".csv")
        try:
            return pd.read_csv(path)
        except pd.errors.EmptyDataError:
            return pd.DataFrame()  # a table of nothing is written without columns
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error

    def _file(self, name: str, suffix: str) -> Path:
        """A file of a finished step, as it was written."""
        step, _, file = name.partition("/")
        record = self.current(step)
        written = record["outputs"].get(file + suffix) if record else None
        if record is None or written is None:
            raise self._lacks(name, suffix)
        if fault := self._checker.fault(self.path / step, file + suffix, written, self.is_large()):
            raise self.damaged(f"{name}{suffix} ({fault})", step)
        return self.path / f"{name}{suffix}"

    def _lacks(self, name: str, suffix: str = "") -> PbbError:
        step = name.partition("/")[0]
        if self.record(step) and not self.current(step):
            return PbbError(
                f"The step {step} in {self.path} is of other settings, or made of an earlier step that is another now: "
                "run it again, which does the step anew."
            )
        steps = self.done()
        there = [file for step in steps for file in self.files(step, suffix)] if suffix else steps
        return PbbError(f"The run {self.path} has no {name}{suffix}: it has {', '.join(there) or 'none'}.")

    def _unmade(self, error: Exception) -> PbbError:
        reason = getattr(error, "strerror", None) or error
        return PbbError(f"The run directory {self.path} cannot be made ({reason}): give another.")

    def _clean(self, name: str) -> None:
        """Remove what the run itself has left of a step that is done."""
        for path in self.path.glob(f".{name}.*"):
            if re.fullmatch(r"[0-9a-f]{16}|old", path.name.removeprefix(f".{name}.")):
                remove(path)


def _unreadable(path: Path, error: Exception) -> PbbError:
    return PbbError(f"{path} cannot be read ({first_line(error)}): delete the folder {path.parent} and run it again.")


def _keep_hidden(old: Path, new: Path) -> None:
    """Take along hidden files, which are none of a step's: a file manager's, an editor's."""
    for path in old.rglob(".*") if old.is_dir() else ():
        target = new / path.relative_to(old)
        if target.parent.is_dir() and not os.path.lexists(target) and path.exists():
            path.rename(target)
