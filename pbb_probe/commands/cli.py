"""The command line: it dispatches. A user's mistake ends with one sentence and exit code 2, a signal with one, too.

Other modules are imported only once the signal handlers are set, since importing takes seconds.
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError, first_line

POSITIONAL = ("explore", "verify", "programs")
"""Commands whose required fields are given without a flag."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command: Ctrl+C, a scheduler's warning before it kills, and a closed terminal."""
PATIENCE = 5.0
"""Seconds in which further signals are ignored, since the command is already ending."""
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
    from pbb_probe.commands.programs import ProgramsConfig, programs
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
        "programs": (ProgramsConfig, programs),
        "verify": (VerifyConfig, verify),
        "doctor": (DoctorConfig, doctor),
    }


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, do what it says, and return the exit code."""
    with _Signals() as signals:
        return _code(arguments, signals)


def program() -> int:
    """`main` for a process of its own: further signals do not disturb its end."""
    signals = _Signals().__enter__()
    code = _code(None, signals)
    if signals.received:
        signals.ignore()
    return code


def _code(arguments: list[str] | None, signals: "_Signals") -> int:
    out = Path(".")
    warnings.formatwarning = lambda message, *_, **__: f"pbb-probe: {message}\n"  # a sentence, without the line of code
    try:
        command, config = _parsed(arguments)
        out = Path(getattr(config, "out", None) or out)
        signals.ready()
        command(config)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if signals.received or isinstance(error, KeyboardInterrupt):  # which a library may turn into another error
            print(signals.sentence(), file=sys.stderr)
            return signals.code()
        said = _sentence(error, out)
        if said is None:
            raise
        print(f"pbb-probe: {said}", file=sys.stderr)
        return 2


def _parsed(arguments: list[str] | None) -> tuple[Callable[[Any], None], Any]:
    """The command on the command line, and its configuration."""
    from pbb_probe.commands.arguments import read_arguments

    known = commands()
    name, config = read_arguments(arguments, known, POSITIONAL, _sizes)
    if hasattr(config, "out"):
        from transformers.utils import logging  # after parsing: it takes a second

        # a bar for each file loaded; training and evaluation show their own
        logging.disable_progress_bar()
    return known[name][1], config


def _sizes(settings: type, values: Any) -> Mapping[str, int]:
    """The number of programs and calls of a study of a family, for those that are not given."""
    from pbb_probe.runs.config import SIZES, StudyConfig

    if settings is not StudyConfig or values.corpus is None or values.corpus.programs is not None:
        return {}
    return SIZES.get(values.corpus.family, {})


class _Signals:
    """Turns each signal that ends a command into a KeyboardInterrupt; during imports it ends the process at once."""

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
        """Ignore further signals, even after Python has removed its handlers."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def ready(self) -> None:
        """Everything is imported, and work begins."""
        self._importing = False

    def sentence(self) -> str:
        """What the user is told."""
        how = "interrupted" if self._first() == signal.SIGINT else f"ended by {signal.Signals(self._first()).name}"
        return f"pbb-probe: {how}; the same command goes on from here."

    def code(self) -> int:
        """The exit code that shells use for the signal."""
        return 128 + self._first()

    def _first(self) -> int:
        return self.received[0] if self.received else signal.SIGINT

    def _unraisable(self, unraisable: Any) -> None:
        """Do not report an interruption of code that cannot raise it, such as a finaliser."""
        if not self.received:
            sys.__unraisablehook__(unraisable)

    def _end(self, number: int, _frame: object) -> None:
        self.received.append(number)
        if len(self.received) > 1 and time.monotonic() - self._since < PATIENCE:
            return  # it is already ending
        self._since = time.monotonic()
        if self._importing:  # no work has begun, and an interrupted import can fail in any way
            os.write(2, f"{self.sentence()}\n".encode())
            os._exit(self.code())
        raise KeyboardInterrupt


def _sentence(error: BaseException, out: Path) -> str | None:
    """The message for an error of the user, the disk or the memory; None for a defect of the program."""
    reason = first_line(error)
    if isinstance(error, PbbError):
        return str(error)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python would complain at exit
        return "the output is no longer read; files that were finished have been written."
    if _is_of_disk(error, out):
        return (
            f"the run directory cannot be written, its disk is full or read-only ({reason}): "
            "make room or give another --out; finished steps are kept."
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in reason:
        return f"there is not enough memory ({reason}): make the batch, memory_gib or the model smaller."
    return None


def _is_of_disk(error: BaseException, out: Path) -> bool:
    """Is it the disk? Libraries report a full disk in their own ways, so its free space is checked as well."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return True
    if any(os.strerror(number) in str(error) for number in _DISK):  # as in errors of safetensors
        return True
    with contextlib.suppress(OSError, ValueError):
        return shutil.disk_usage(out).free < 1 << 20
    return False


if __name__ == "__main__":
    sys.exit(program())
