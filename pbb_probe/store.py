"""A run directory: the output of each step, kept as long as nothing it depends on has changed.

Every step owns a directory `<run>/<step>` with a `step.json` that holds the key of its inputs. A step writes into a
hidden directory that is renamed when it is done: what has a step's name is whole. A killed step finds its own
unfinished work again as long as its key is the same.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_RECORD = "step.json"
LONGEST_NAME = 120
"""Characters of a file's name before its ending, where file systems allow 255 bytes."""
_PACKAGES = ("pbb-probe", "torch", "transformers", "transformer-lens", "peft", "scikit-learn", "numpy", "xarray")


class Run:
    """One run directory.

    Raises:
        PbbError: the path exists and is not a directory, or cannot be written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PbbError(f"The run directory {self.path} cannot be made ({error.strerror}): give another.") from error

    @classmethod
    def existing(cls, path: str | Path) -> Self:
        """A run that is there.

        Raises:
            PbbError: there is none.
        """
        if not (Path(path).expanduser() / "manifest.json").is_file():
            raise PbbError(f"There is no run in {path}: give the directory that pbb-probe run wrote.")
        return cls(path)

    def step(
        self, name: str, inputs: Mapping[str, Any], make: Callable[[Path], None], also: Sequence[Path] = ()
    ) -> str:
        """Make the step's directory unless it is there for the same inputs; return the key of those inputs.

        Args:
            name: of the directory.
            inputs: all that the output depends on, as JSON values; the keys of earlier steps among them.
            make: writes the output into the directory it is given; called again after a kill with what it had written.
            also: files elsewhere that the step writes; it is made again where one is missing.
        """
        key = digest(inputs)
        done, unfinished = self.path / name, self.path / f".{name}.{key}"
        if self.key(name) == key and all(path.exists() for path in also):
            return key
        print(f"{name}: started", file=sys.stderr)
        started = time.monotonic()
        unfinished.mkdir(exist_ok=True)
        make(unfinished)
        record = {"key": key, "inputs": dict(inputs), "seconds": round(time.monotonic() - started, 1)}
        write(unfinished / _RECORD, json.dumps(record, indent=1, sort_keys=True))
        if done.exists():
            old = self.path / f".{name}.old"  # renamed first: a kill while deleting leaves no half step under the name
            shutil.rmtree(old, ignore_errors=True)
            done.rename(old)
        unfinished.rename(done)
        for stale in self.path.glob(f".{name}.*"):
            shutil.rmtree(stale)
        print(f"{name}: done in {record['seconds']} s", file=sys.stderr)
        return key

    def key(self, name: str) -> str | None:
        """The key of a finished step, None where there is none."""
        try:
            return json.loads((self.path / name / _RECORD).read_text())["key"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def array(self, name: str) -> "xr.Dataset":
        """A labelled array of a finished step by its path in the run without `.nc`, such as `probing/probes`.

        Raises:
            PbbError: there is none; the message names those that finished steps have.
        """
        import xarray as xr

        path = self._file(name, ".nc")
        try:
            return xr.load_dataset(path)
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # h5netcdf's, of a file cut short or overwritten
            raise _damaged(path, error) from error

    def table(self, name: str) -> "pd.DataFrame":
        """A table, likewise, such as `comparison/located`."""
        import pandas as pd

        path = self._file(name, ".csv")
        try:
            return pd.read_csv(path)
        except pd.errors.EmptyDataError:
            return pd.DataFrame()  # a table of nothing is written without columns
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error

    def _file(self, name: str, suffix: str) -> Path:
        path = self.path / f"{name}{suffix}"
        if not path.is_file():
            whole = [other.relative_to(self.path) for other in self.path.glob(f"[!.]*/**/*{suffix}")]
            there = ", ".join(sorted(str(other.with_suffix("")) for other in whole)) or "none"
            raise PbbError(f"The run {self.path} has no {name}{suffix}: it has {there}.")
        return path

    def write_manifest(self, **facts: Any) -> None:
        """`manifest.json`: versions, the given facts, and for each finished step its key, inputs and seconds."""
        steps = {path.parent.name: json.loads(path.read_text()) for path in sorted(self.path.glob(f"[!.]*/{_RECORD}"))}
        manifest = {"python": sys.version.split()[0], "versions": {p: version(p) for p in _PACKAGES}, **facts}
        write(self.path / "manifest.json", json.dumps({**manifest, "steps": steps}, indent=1))


def _damaged(path: Path, error: Exception) -> PbbError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return PbbError(f"{path} cannot be read ({reason}): delete the folder {path.parent} and run the study again.")


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def file_name(label: Any) -> str:
    """A name for a file or folder made from a label: it stays in its folder, and no two labels share one.

    Letters, digits, `-` and `_` stand for themselves, and all else is escaped as in a URL; of a long one the end is a
    hash.
    """
    name = quote(str(label), safe="", errors="surrogatepass").replace(".", "%2E").replace("~", "%7E") or "%"
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 17]}%{digest(name)}"


def file_digest(path: str | None, what: str) -> str | None:
    """The same for the content of a file that the user named as his `what`; None where none was named.

    Raises:
        PbbError: it cannot be read.
    """
    try:
        return path and hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise PbbError(f"The {what} in {path} cannot be read ({error.strerror}): give another file.") from error


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
