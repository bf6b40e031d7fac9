"""The child process that runs programs, seen from the parent: its job, its time limit, and what is read from it.

What the child does is in `_executor.py` and `_tracing.py`, and what confines it in `_confinement.py`. Two more limits
are set from here, for a child that is stopped, or that no longer does what `_executor.py` says: on the time it is
waited for, and on what is read of it. Beyond either it is killed. What it answers is not trusted until it is checked.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError

_EXECUTOR = Path(__file__).with_name("_executor.py")

LONGEST_ANSWERS = 1 << 26
"""Bytes that all programs of a job may answer; the longest job here, a thousand ciphers on ten inputs, needs 4 MB."""
LONGEST_COMPLAINT = 1 << 16  # bytes; the executor writes one line
PATIENCE = 10
"""A child is waited for this many seconds, plus this many times its CPU time: a tenth of a core is enough."""
PROGRAM_SECONDS = 5  # CPU time of one program, as the executor has it
_PIECE = 1 << 16  # bytes
_TURN = 1.0  # seconds


class TooMuchError(PbbError):
    """The programs answer more than is read; fewer at a time may not."""


@dataclass(frozen=True)
class _Child:
    """A child process that has ended."""

    code: int
    """Its exit code, or the signal that ended it, negative."""
    answers: bytearray
    complaint: str
    """The last line on its standard error."""
    overrun: str | None
    """Why the parent killed it; None if it did not."""


@dataclass(frozen=True)
class Ended:
    """What a child process has answered, and how it ended."""

    answers: list[bytearray]
    """The whole lines that it wrote, one a program. They are not checked."""
    error: PbbError | None
    """Why it ended before it was done, one sentence that names the program which was running; None if it was done."""
    may_be_innocent: bool
    """Can programs that ran before it be the reason, since they share time and memory with it?"""


def run_job(job: dict[str, Any], names: Sequence[str], seconds: int) -> Ended:
    """Run a job in a child process of its own.

    Args:
        job: as `_executor.py` has it.
        names: of the programs of `inputs`, in order.
        seconds: CPU time of all programs together.

    Raises:
        TooMuchError: the answers are too long.
    """
    child = _run(json.dumps(job).encode(), seconds)
    if child.code == 0 and child.overrun is None:
        return Ended(child.answers.split(b"\n")[:-1], None, False)
    running = f"{names[min(child.answers.count(10), len(names) - 1)]:.60}" if names else "none"
    sentence = f"A program could not be run: {running}: {child.overrun or _reason(child, seconds)}"
    if child.overrun and len(child.answers) > LONGEST_ANSWERS:
        raise TooMuchError(sentence)
    answers = child.answers.split(b"\n")[:-1]
    shared = child.code > 0 or -child.code in (signal.SIGKILL, signal.SIGXCPU)
    return Ended(answers, PbbError(sentence), shared and child.overrun is None)


def confinement() -> dict[str, str]:
    """The layers that confine a child process on this machine: "" for those in force, otherwise why they are not.

    A child is started and confined to find out.

    Raises:
        PbbError: no child process can be started, or it gave no answer.
    """
    try:
        ended = run_job({"sources": [], "inputs": [], "skip": False, "report": True}, (), 5)
        if ended.error:
            raise ended.error
        (line,) = ended.answers
        return {str(layer): str(reason) for layer, reason in json.loads(line).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise PbbError(f"No child process could be confined: {error}") from error


def _run(job: bytes, seconds: int) -> _Child:
    # isolated as by -I, but for the environment, which is empty and fixes the order of sets; without site-packages
    command = [sys.executable, "-P", "-s", "-S", "-W", "ignore", str(_EXECUTOR), str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env={"PYTHONHASHSEED": "0"}, bufsize=0, **pipes) as child:  # type: ignore[call-overload]
        try:
            answers, complaint, overrun = _converse(child, job, PATIENCE * (1 + seconds))
        finally:  # also where this process is interrupted
            child.kill()
    last_line = " ".join((complaint.decode("utf-8", "replace").strip().splitlines() or [""])[-1].split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in last_line)  # no commands to a terminal
    return _Child(child.returncode, answers, printable, overrun)


def _converse(child: "subprocess.Popen[bytes]", job: bytes, wait: float) -> tuple[bytearray, bytearray, str | None]:
    """Write the job and read both outputs as they come, until the child ends or exceeds a limit.

    Returns:
        Standard output, standard error, and why the child is to be killed, or None if it has ended.
    """
    assert child.stdin
    assert child.stdout
    assert child.stderr
    unsent = memoryview(job)
    read = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
    answers, complaint = read.values()
    left = wait
    with selectors.DefaultSelector() as selector:
        os.set_blocking(child.stdin.fileno(), False)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        for pipe in (child.stdout, child.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while left > 0:
            began = time.monotonic()
            if not selector.get_map():  # both outputs are closed
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(min(left, _TURN))
                    return answers, complaint, None
            for key, _ in selector.select(min(left, _TURN)) if selector.get_map() else ():
                if key.fd in read:
                    piece = os.read(key.fd, _PIECE)
                    read[key.fd] += piece
                    ended = not piece
                else:
                    try:
                        unsent = unsent[os.write(key.fd, unsent[:_PIECE]) :]
                        ended = not unsent
                    except BrokenPipeError:  # it ended before it had read all
                        ended = True
                if ended:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
            if len(answers) > LONGEST_ANSWERS:
                reason = f"by then the programs had answered more than {LONGEST_ANSWERS >> 20} MiB in all"
                return answers, complaint, f"{reason}: run fewer of them at once, or let them return less"
            if len(complaint) > LONGEST_COMPLAINT:
                return answers, complaint, "its child process wrote errors without end, and was killed"
            # not much more than a turn: time in which this process itself was stopped does not count
            left -= min(time.monotonic() - began, 2 * _TURN)
    reason = f"its child process had not ended after {wait:.0f} s, and was killed"
    return answers, complaint, f"{reason}: it had been stopped, or this machine is far too busy"


def _reason(child: _Child, seconds: int) -> str:
    """Why the child process ended, as words after the name of the program that was running."""
    if child.code > 0:
        return child.complaint[:300] or f"the child process ended with {child.code}"
    killer = -child.code
    if killer == signal.SIGPROF:
        return f"it ran longer than {min(seconds, PROGRAM_SECONDS)} s"
    if killer in (signal.SIGKILL, signal.SIGXCPU):
        return f"it was stopped by the system, for its time ({seconds} s in all) or its memory"
    known = signal.Signals(killer).name if killer in set(signal.Signals) else f"signal {killer}"
    return f"it brought the child process down with {known}"
