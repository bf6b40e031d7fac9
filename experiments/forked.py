"""Commands in forked processes, which start at once as all they import is there: to be killed, or to be listened to."""

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from pbb_probe.commands import cli

PATIENCE = 120
"""Seconds for one command."""


@dataclass
class Child:
    """A command in a process of its own, and the file that it writes to."""

    pid: int
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ended(self, within: float = PATIENCE) -> int | None:
        """Its exit code, the negative number of the signal that ended it, or None if it had to be ended here."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None


def start(arguments: list[str], log: Path, folder: Path | None = None, largest: int = -1) -> Child:
    """`pbb-probe` with these arguments in a forked process, no file of which may grow larger than that."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, log)
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(folder or ".")
        if largest >= 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        code = cli.main(arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def sentences(log: str) -> list[str]:
    """What the command said to its user."""
    return [line for line in log.splitlines() if line.startswith("pbb-probe:") or "error:" in line]
