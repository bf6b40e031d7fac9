"""The command line: it dispatches. A user's mistake is one sentence, exit code 2; a signal to end is one, too.

Nothing but this file is imported before signals are taken care of, since that takes seconds.
"""

import contextlib
import errno
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError, first_line

POSITIONAL = ("explore", "verify")
"""Commands that take what they must be given without a flag."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command: Ctrl+C, what schedulers send before they kill, and a terminal that is closed."""
PATIENCE = 5.0
"""Seconds in which further signals change nothing, as the command is ending."""
_DISK = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO)


def commands() -> dict[str, tuple[type, Callable[[Any], None]]]:
    """Each command's configuration and function."""
    from pbb_probe.commands.calibrate import CalibrateConfig, calibrate
    from pbb_probe.commands.doctor import DoctorConfig, doctor
    from pbb_probe.commands.evaluate import EvaluateConfig, evaluate
    from pbb_probe.commands.explore import ExploreConfig, explore
    from pbb_probe.commands.finetune import FinetuneConfig, finetune
    from pbb_probe.commands.patch import PatchConfig, patch
    from pbb_probe.commands.probe import ProbeConfig, probe
    from pbb_probe.commands.run import run
    from pbb_probe.commands.verify import VerifyConfig, verify
    from pbb_probe.runs.config import StudyConfig

    return {
        "run": (StudyConfig, run),
        "finetune": (FinetuneConfig, finetune),
        "evaluate": (EvaluateConfig, evaluate),
        "probe": (ProbeConfig, probe),
        "patch": (PatchConfig, patch),
        "calibrate": (CalibrateConfig, calibrate),
        "explore": (ExploreConfig, explore),
        "verify": (VerifyConfig, verify),
        "doctor": (DoctorConfig, doctor),
    }


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, do what it says, and return the exit code."""
    with _Signals() as signals:
        return _code(arguments, signals)


def program() -> int:
    """The same as a process of its own, which further signals do not disturb while it ends."""
    signals = _Signals().__enter__()
    code = _code(None, signals)
    if signals.received:
        signals.ignore()
    return code


def _code(arguments: list[str] | None, signals: "_Signals") -> int:
    out = Path(".")
    warnings.formatwarning = lambda message, *_, **__: f"pbb-probe: {message}\n"  # a sentence, and no line of code
    try:
        command, config = _parsed(arguments)
        out = Path(getattr(config, "out", out))
        signals.ready()
        command(config)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if signals.received or isinstance(error, KeyboardInterrupt):  # a library may make another error of it
            print(signals.sentence(), file=sys.stderr)
            return signals.code()
        said = _sentence(error, out)
        if said is None:
            raise
        print(f"pbb-probe: {said}", file=sys.stderr)
        return 2


def _parsed(arguments: list[str] | None) -> tuple[Callable[[Any], None], Any]:
    """The command that is asked for, and its configuration."""
    from pbb_probe.commands.arguments import read_arguments

    known = commands()
    name, config = read_arguments(arguments, known, POSITIONAL)
    if hasattr(config, "out"):
        from transformers.utils import logging  # after parsing: it takes a second

        # a bar for each file loaded; training and evaluation show their own
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return known[name][1], config


class _Signals:
    """Makes an interruption of each signal that ends a command, and of one while importing the end at once."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._since = 0.0
        self._importing = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not under nohup
                    self._before[number] = signal.signal(number, self._end)
            sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = sys.__unraisablehook__

    def ignore(self) -> None:
        """Let further signals do nothing, also where Python has taken its handlers down."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def ready(self) -> None:
        """All is imported, and work begins."""
        self._importing = False

    def sentence(self) -> str:
        """What the user is told."""
        how = "interrupted" if self._first() == signal.SIGINT else f"ended by {signal.Signals(self._first()).name}"
        return f"pbb-probe: {how}; the same command goes on from here."

    def code(self) -> int:
        """The exit code, as shells have it."""
        return 128 + self._first()

    def _first(self) -> int:
        return self.received[0] if self.received else signal.SIGINT

    def _unraisable(self, unraisable: Any) -> None:
        """An interruption in the middle of something that cannot be interrupted is none that need be shown."""
        if not self.received:
            sys.__unraisablehook__(unraisable)

    def _end(self, number: int, _frame: object) -> None:
        self.received.append(number)
        if len(self.received) > 1 and time.monotonic() - self._since < PATIENCE:
            return  # it is ending
        self._since = time.monotonic()
        if self._importing:  # nothing is begun, and an import that is interrupted can fail in any way
            os.write(2, f"{self.sentence()}\n".encode())
            os._exit(self.code())
        raise KeyboardInterrupt


def _sentence(error: BaseException, out: Path) -> str | None:
    """What is told of an error that is no defect of the program: the user's, the disk's, the memory's."""
    reason = first_line(error)
    if isinstance(error, PbbError):
        return str(error)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the end of Python would complain, too
        return "nobody reads what is printed any more; files are written all the same where they were done."
    if _is_of_disk(error, out):
        return (
            f"the run directory cannot be written, its disk is full or read-only ({reason}): "
            "make room or give another --out; finished steps are kept."
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in reason:
        return f"there is not enough memory ({reason}): make the batch, memory_gib or the model smaller."
    return None


def _is_of_disk(error: BaseException, out: Path) -> bool:
    """Is it the disk? Libraries report a full one in ways of their own, so its free space is asked as well."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return True
    if any(os.strerror(number) in str(error) for number in _DISK):  # which safetensors says in an error of its own
        return True
    with contextlib.suppress(OSError, ValueError):
        return shutil.disk_usage(out).free < 1 << 20
    return False


if __name__ == "__main__":
    sys.exit(program())
