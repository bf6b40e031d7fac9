"""One writer per folder: a lock that the kernel releases when its process ends, however it ends."""

import contextlib
import errno
import fcntl
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from pbb_probe.errors import PbbError

_LOCK = ".lock"
_UNKNOWN_HERE = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # network file systems mounted without locks
_guard = threading.Lock()
_held: dict[Path, tuple[tuple[int, int], int]] = {}  # the process and thread that hold a folder, and how many times


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder; the thread that holds it may enter again.

    Raises:
        PbbError: another process or thread, which the message names, is writing into it.
    """
    folder, this_thread = folder.resolve(), (os.getpid(), threading.get_ident())
    with _guard:
        holder, times = _held.get(folder, (this_thread, 0))
        if holder != this_thread:  # also in a process that was forked meanwhile
            raise PbbError(f"Another thread, or process {holder[0]}, is writing into {folder}: wait for it.")
        _held[folder] = (this_thread, times + 1)
    try:
        with contextlib.nullcontext() if times else _locked(folder):
            yield
    finally:
        with _guard:
            if times:
                _held[folder] = (this_thread, times)
            else:
                del _held[folder]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The lock file of a folder, which exists while it is held and says who holds it."""
    path = folder / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        while not _is_at(_taken(descriptor, folder), path):  # its previous holder has just removed it
            os.close(descriptor)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise PbbError(f"{folder} cannot be written ({error.strerror}): give another directory.") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _taken(descriptor: int, folder: Path) -> int:
    """Lock an open file and write into it who holds it.

    Raises:
        PbbError: another process has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNKNOWN_HERE:
            who = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise PbbError(
                f"{folder} is being written by {who}: wait for it, end it, or give another directory."
            ) from error
        warnings.warn(f"The file system of {folder} has no locks: start nothing else there.", stacklevel=2)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # a full disk: the lock holds without words
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode(), 0)
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
