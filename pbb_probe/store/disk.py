"""Files that are complete or absent, hashes that identify their content, and file names made from labels."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import xarray as xr

_SEAL = "seal"


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file completely or not at all, even if the machine fails the moment after.

    Raises:
        PbbError: there is a folder in its place.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.partial")
    if folder := next((each for each in (path, partial) if each.is_dir()), None):
        raise PbbError(f"{folder} is a folder in the place of a file: move it elsewhere.")
    partial.write_bytes(data)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def write_array(dataset: "xr.Dataset", path: Path) -> None:
    """Write a labelled array as NetCDF. It is made in memory first: on a full disk HDF5 would abort the process."""
    write(path, dataset.to_netcdf(engine="h5netcdf"))


def sync(path: Path) -> None:
    """Wait until the disk holds a file, or the names in a folder.

    Raises:
        OSError: it does not. File systems without such a guarantee are accepted.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder, a file, or a link (not its target), if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def signature(state: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written, even if its time is set back afterwards."""
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with a hash of itself."""
    plain = json.loads(json.dumps(values))
    write(path, json.dumps(plain | {_SEAL: digest(plain)}, indent=1, sort_keys=True))


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote; None if it is missing, cannot be read, or has changed since."""
    if not path.is_file():  # reading a pipe would never end
        return None
    try:
        values = json.loads(path.read_bytes())
        seal = values.pop(_SEAL)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return values if seal == digest(values) else None


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's content.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: str | None, what: str) -> str | None:
    """A short hash of the content of a file or folder that the user named as the `what`; None where none was named.

    Raises:
        PbbError: it cannot be read.
    """
    try:
        if not path:
            return None
        place = Path(path).expanduser()
        if not place.is_dir():
            return file_hash(place)[:16]
        return digest({str(each.relative_to(place)): file_hash(each) for each in files_in(place)})
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PbbError(f"The {what} in {path} cannot be read ({reason}): give another file.") from error


def files_in(folder: Path) -> Iterator[Path]:
    """The files in a folder and its subfolders, sorted, without hidden ones."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files_in(path)
        else:
            yield path
