"""Reading a run directory: the files of its steps, each as it was written.

Every step owns a directory `<run>/<step>` with a `step.json`: the key of its inputs, and the hash of each of its
outputs, which is compared before the step is used.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pbb_probe.errors import PbbError, first_line
from pbb_probe.store.records import MANIFEST, RECORD, Records

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Run(Records):
    """One run directory to read from, which may not exist yet. Nothing is ever written.

    Raises:
        PbbError: the path is not a directory, or cannot become one.
    """

    def __init__(self, path: str | Path):
        super().__init__(Path(path).expanduser())
        try:
            existing = next((folder for folder in (self.path, *self.path.parents) if os.path.lexists(folder)), None)
            if existing and not existing.is_dir():
                raise NotADirectoryError(0, f"{existing} is no directory")
        except (OSError, ValueError) as error:  # ValueError: a null character
            raise self._unmade(error) from error

    @classmethod
    def existing(cls, path: str | Path) -> Self:
        """A run that exists.

        Raises:
            PbbError: there is none at the path.
        """
        folder = Path(path).expanduser()
        try:
            is_run = (folder / MANIFEST).is_file() or any(folder.glob(f"[!.]*/{RECORD}"))
        except (OSError, ValueError):
            is_run = False
        if not is_run:
            raise PbbError(f"There is no run in {path}: give the directory that pbb-probe run wrote.")
        run = cls(path)
        run.done()  # refuses those of version 0.7
        return run

    def folder(self, name: str) -> Path:
        """The directory of a finished step, in which every file is as it was written.

        Raises:
            PbbError: it is not finished, a file has changed since, or one was added.
        """
        if self.current(name) is None:
            raise self._lacks(name)
        self.check(name)
        return self.path / name

    def holds(self, name: str) -> bool:
        """Does a finished step have this file, such as `probing/lens.nc`?"""
        step, _, file = name.partition("/")
        record = self.current(step)
        return record is not None and file in record["outputs"]

    def files(self, name: str, suffix: str) -> list[str]:
        """The files of a finished step with this ending: their paths in the run, without the ending, sorted."""
        outputs = (self.current(name) or {"outputs": ()})["outputs"]
        inside = [file for file in outputs if file.endswith(suffix) and not file.startswith("../")]
        return sorted(f"{name}/{file.removesuffix(suffix)}" for file in inside)

    def array(self, name: str) -> "xr.Dataset":
        """A labelled array of a finished step, by its path in the run without `.nc`, such as `probing/probes`.

        Raises:
            PbbError: there is none (the message lists those of finished steps), or it has changed since.
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
        available = [file for step in steps for file in self.files(step, suffix)] if suffix else steps
        return PbbError(f"The run {self.path} has no {name}{suffix}: it has {', '.join(available) or 'none'}.")

    def _unmade(self, error: Exception) -> PbbError:
        reason = getattr(error, "strerror", None) or error
        return PbbError(f"The run directory {self.path} cannot be made ({reason}): give another.")


def _unreadable(path: Path, error: Exception) -> PbbError:
    return PbbError(f"{path} cannot be read ({first_line(error)}): delete the folder {path.parent} and run it again.")
