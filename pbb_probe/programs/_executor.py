"""The child process that runs programs: a script with no imports from the package, in Python's isolated mode.

Reads `{"sources": [{name, source, calls}], "inputs": [[arguments, ...], ...], "skip": bool}` as JSON on standard input,
where the first sources are the programs that `inputs` belong to and `calls` maps a callee's name to its place in
`sources`. Writes a line of JSON per program as soon as it has run: for each input `[lines, changes, output]`, or with
`"outputs": true` the output alone. With `skip`, null stands for a call that failed, and for a program that failed as a
whole. The number of these lines tells the parent which program was running when this process ended, by an error or by
a signal. Where the job has no programs and `"report": true`, the one line is what confines this process, see
`_confinement.confine`.

The first defence is the parent's whitelist, to which every source has been held by then. A program reaches only a few
builtins, and before anything runs the kernel confines this process, in the layers of `_confinement.py`: a program that
escapes from the interpreter gains nothing but this process. The last defence is the parent again (`child.py`), which
ends a child that takes too long or writes too much, and does not trust what it writes.
"""

import ast
import importlib.machinery
import json
import os
import signal
import sys
import types
import unicodedata  # noqa: F401 (for the parser, which asks for it at names beyond ASCII, when no file can be opened)
from typing import Any

FRAMES = 200
LONGEST = 20_000_000  # characters of the traces of one program
PROGRAM_SECONDS = 5
GRACE = 0.5  # seconds from the exception that ends a program to the signal that ends what an exception cannot
BUILTINS = {
    f.__name__: f
    for f in (
        *(abs, all, any, bool, chr, dict, divmod, enumerate, int, len, list, max, min, ord, pow),
        *(range, reversed, set, sorted, str, sum, tuple, zip),
    )
}


def beside(name: str) -> types.ModuleType:
    """A file beside this one, by its path: the folder, with its many names, stays off the path of imports."""
    module = types.ModuleType(name)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    importlib.machinery.SourceFileLoader(name, path).exec_module(module)
    return module


tracing = beside("_tracing")


class OvertimeError(Exception):
    """All programs together ran too long, which need not be the fault of the one that was running."""


class SlowError(Exception):
    """One program ran too long."""


def end_at_the_limit(seconds: int) -> None:
    """Raise an exception when the CPU time of all programs is used up."""

    def stop(*_: object) -> None:
        raise OvertimeError(f"the programs ran longer than {seconds} s in all")

    signal.signal(signal.SIGXCPU, stop)


class Stopwatch:
    """Limits the CPU time of what runs inside: by an exception, or by a signal where C code does not return."""

    def __init__(self, seconds: int) -> None:
        self.seconds = min(seconds, PROGRAM_SECONDS)
        signal.signal(signal.SIGVTALRM, self.stop)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def stop(self, *_: object) -> None:
        """Called when the time is used up."""
        raise SlowError(f"it ran longer than {self.seconds} s")

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
        signal.setitimer(signal.ITIMER_PROF, self.seconds + GRACE)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


class Workshop:
    """Compiles sources into functions, each once, with the functions they call in scope."""

    def __init__(self, sources: list[dict[str, Any]]) -> None:
        self.sources = sources
        self.made: dict[int, tuple[Any, Any]] = {}

    def function(self, place: int) -> tuple[Any, Any]:
        """The function and its table of lines."""
        if place not in self.made:
            name, source = self.sources[place]["name"], self.sources[place]["source"]
            scope: dict[str, Any] = {"__builtins__": BUILTINS}
            for callee, where in self.sources[place]["calls"].items():
                scope[callee] = self.function(where)[0]
            tree = ast.parse(source)
            exec(compile(tree, f"<{name}>", "exec"), scope)
            self.made[place] = (scope[name], tracing.read_lines(tree.body[0]))
        return self.made[place]


def describe(error: BaseException) -> str:
    """The error in one line."""
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:  # a number too long to be written
        text = ""
    if isinstance(error, (tracing.Refusal, OvertimeError, SlowError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def called(function: Any, table: Any, arguments: list[Any], job: dict[str, Any]) -> Any:
    """The trace or the output of one call; with `skip` None for one that fails by itself."""
    try:
        return (
            tracing.output_of(function, arguments)
            if job.get("outputs")
            else tracing.traced_call(function, table, arguments)
        )
    except Exception as error:
        if not job["skip"] or isinstance(error, (OvertimeError, SlowError, MemoryError)):
            raise
        return None


def main() -> int:
    """Run the job on standard input."""
    job = json.load(sys.stdin)
    seconds = int(sys.argv[1])
    workshop = Workshop(job["sources"])
    stopwatch = Stopwatch(seconds)
    end_at_the_limit(seconds)
    layers = beside("_confinement").confine(seconds)
    if job.get("report"):
        print(json.dumps(layers))
    sys.setrecursionlimit(FRAMES)
    try:
        for place, inputs in enumerate(job["inputs"]):
            try:
                with stopwatch:
                    function, table = workshop.function(place)
                    text = json.dumps([called(function, table, arguments, job) for arguments in inputs])
                    if len(text) > LONGEST:
                        raise tracing.Refusal("its traces are too long to keep")
            except Exception as error:
                if not job["skip"] or isinstance(error, (OvertimeError, MemoryError)):
                    raise
                text = "null"
            print(text, flush=True)
    except (Exception, SystemExit) as error:  # whatever went wrong, a program did it
        error.__traceback__ = None  # which may hold on to all that filled the memory
        print(describe(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
