"""The child process that runs programs: a script with no imports from the package, in Python's isolated mode.

Reads `{"sources": [{name, source, calls}], "inputs": [[arguments, ...], ...], "modules": {name: [names]}, "lines": n,
"skip": bool}` as JSON on standard input, where the first sources are the programs that `inputs` belong to, `calls` maps
a callee's name to its place in `sources`, and `modules` is what `import` gives. Writes a line of JSON per program as
soon as it has run: for each input `[lines, changes, output]` (`Tracer.traced`), or with `"outputs": true` the output
alone, all with values as in `_json_values.py`. With `skip`, `{"failed": sentence}` stands for a call that failed, and
for a program that failed as a whole. The number of these lines tells the parent which program was running when this
process ended, by an error or by a signal. Where the job has no programs and `"report": true`, the one line is what
confines this process, see `_confinement.confine`.

Every call has a scope of its own: nothing that one leaves behind is seen by the next.

The first defence is the parent's whitelist, to which every source has been held by then. A program reaches only a few
builtins, and before anything runs the kernel confines this process, in the layers of `_confinement.py`: a program that
escapes from the interpreter gains nothing but this process. The last defence is the parent again (`child.py`), which
ends a child that takes too long or writes too much, and does not trust what it writes.
"""

import __future__

import ast
import codecs
import encodings.aliases
import gc
import importlib
import importlib.machinery
import json
import os
import signal
import sys
import types
import unicodedata  # noqa: F401 (for the parser, which asks for it at names beyond ASCII, when no file can be opened)
from types import SimpleNamespace
from typing import Any

FRAMES = 1_000
PROGRAM_SECONDS = 5
GRACE = 0.5  # seconds from the exception that ends a program to the signal that ends what an exception cannot
UNEVALUATED = __future__.annotations.compiler_flag  # of arguments and variables: nothing is looked up in them


def kind_of(value: object) -> type:
    """`type` of one argument, for the types that a program can name."""
    kind = type(value)
    if kind not in KINDS:
        raise TypeError(f"the type of a {kind.__name__} is not given")
    return kind


BUILTINS: dict[str, Any] = {
    f.__name__: f
    for f in (
        *(
            abs,
            all,
            any,
            bin,
            bool,
            bytearray,
            bytes,
            callable,
            chr,
            complex,
            dict,
            divmod,
            enumerate,
            filter,
            float,
            format,
        ),
        *(frozenset, hex, int, isinstance, issubclass, iter, len, list, map, max, min, next, oct, ord, pow, range),
        *(repr, reversed, round, set, slice, sorted, str, sum, tuple, zip, ascii, object),
        *(Exception, ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, IndexError, KeyError),
        *(LookupError, NameError, NotImplementedError, OSError, OverflowError, RecursionError, RuntimeError),
        *(StopIteration, SyntaxError, TypeError, UnicodeDecodeError, UnicodeEncodeError, UnicodeError, ValueError),
        *(FileNotFoundError, FloatingPointError, UnboundLocalError, ZeroDivisionError),
    )
}
BUILTINS |= {"type": kind_of, "IOError": OSError}
KINDS = {kind for kind in BUILTINS.values() if isinstance(kind, type)} | {type(None)}


def beside(name: str) -> types.ModuleType:
    """A file beside this one, by its path: the folder, with its many names, stays off the path of imports."""
    module = types.ModuleType(name)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    importlib.machinery.SourceFileLoader(name, path).exec_module(module)
    return module


tracing, values = beside("_tracing"), beside("_json_values")


class OvertimeError(Exception):
    """All programs together ran too long, which need not be the fault of the one that was running."""


class SlowError(Exception):
    """One program ran too long."""


class Stopwatch:
    """Limits CPU time: of all programs by an exception, and of what runs inside by another or by a signal.

    A program may catch an exception: `over` is raised when it has ended. The signal ends what does not.
    """

    def __init__(self, seconds: int) -> None:
        self.all = seconds
        self.seconds = min(seconds, PROGRAM_SECONDS)
        self.over: Exception | None = None
        signal.signal(signal.SIGXCPU, self.stop_all)
        signal.signal(signal.SIGVTALRM, self.stop)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def stop_all(self, *_: object) -> None:
        """Called when the CPU time of all programs is used up."""
        self.over = OvertimeError(f"the programs ran longer than {self.all} s in all")
        raise self.over

    def stop(self, *_: object) -> None:
        """Called when the time of one program is used up."""
        self.over = self.over or SlowError(f"it ran longer than {self.seconds} s")
        raise self.over

    def __enter__(self) -> None:
        self.over = None
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
        signal.setitimer(signal.ITIMER_PROF, self.seconds + GRACE)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if self.over is not None:
            raise self.over


def refuse_codecs(stopwatch: Stopwatch) -> None:
    """End a program that asks for a codec which Python has and cannot load here: no file can be opened any more."""
    known = {*encodings.aliases.aliases, *encodings.aliases.aliases.values()}
    known |= {name.removesuffix(".py") for name in os.listdir(os.path.dirname(encodings.__file__))}

    def search(name: str) -> None:
        if name.replace("-", "_").replace(" ", "_").lower() in known:
            stopwatch.over = tracing.Refusal(f"the encoding {name:.60} is not available")
            raise stopwatch.over

    codecs.register(search)


def importer(modules: dict[str, list[str]]) -> Any:
    """What `import` calls: it knows these modules with these names alone, read before no file can be opened."""
    known = {}
    if "collections" in modules:
        importlib.import_module("heapq")  # which Counter.most_common imports when it is called
    for name, names in modules.items():
        module = importlib.import_module(name)
        known[name] = SimpleNamespace(**{part: getattr(module, part) for part in names})
    if "sys" in known:
        known["sys"].setrecursionlimit = lambda _: None  # how deep calls go is not the program's to say

    def load(name: str, *_: object) -> SimpleNamespace:
        if name not in known:
            raise ImportError(f"no module {name}")
        return known[name]

    return load


def code_of(function: ast.FunctionDef, module: types.CodeType) -> types.CodeType:
    """The code of a function of a module."""
    first = min([function.lineno, *(each.lineno for each in function.decorator_list)])
    codes = [each for each in module.co_consts if isinstance(each, types.CodeType)]
    return next(each for each in codes if (each.co_name, each.co_firstlineno) == (function.name, first))


class Workshop:
    """Compiles sources, each once, and makes functions of them, with the functions they call in scope."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.builtins = BUILTINS | {"__import__": importer(job.get("modules", {}))}
        self.compiled: dict[int, types.CodeType] = {}

    def function(self, place: int) -> Any:
        """A fresh function, which shares nothing with those made before."""
        name, source = self.job["sources"][place]["name"], self.job["sources"][place]["source"]
        if place not in self.compiled:
            self.compiled[place] = compile(source, f"<{name}>", "exec", flags=UNEVALUATED, dont_inherit=True)
        scope: dict[str, Any] = {"__builtins__": self.builtins, "__name__": "program"}
        for callee, where in self.job["sources"][place]["calls"].items():
            scope[callee] = self.function(where)
        exec(self.compiled[place], scope)
        return scope[name]

    def answer(self, place: int, arguments: list[list[Any]]) -> str:
        """The traces or outputs of a program's calls, as JSON; with `skip` a sentence for one that fails by itself."""
        name = self.job["sources"][place]["name"]
        self.function(place)  # which compiles it
        trees = ast.parse(self.job["sources"][place]["source"]).body
        tree = [node for node in trees if isinstance(node, ast.FunctionDef) and node.name == name][-1]
        code = code_of(tree, self.compiled[place])  # and not of the function: a decorator may have put another there
        tracer = tracing.Tracer(code, tree, self.job.get("lines", tracing.LINES), values)
        answers = []
        for given in arguments:
            try:
                call = tracer.output if self.job.get("outputs") else tracer.traced
                answers.append(call(self.function(place), values.from_json(given)))
            except Exception as error:
                if not self.job["skip"] or isinstance(error, (OvertimeError, SlowError, MemoryError)):
                    raise
                answers.append(failed(error))
        text = f"[{', '.join(answers)}]"
        if len(text) > tracing.LONGEST:
            raise tracing.Refusal("its traces are too long to keep")
        return text


def describe(error: BaseException) -> str:
    """The error in one line."""
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:  # a number too long to be written
        text = ""
    if isinstance(error, (tracing.Refusal, values.TooLargeError, OvertimeError, SlowError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def failed(error: BaseException) -> str:
    """What stands for a call or a program that failed, as JSON."""
    return json.dumps({"failed": describe(error)})


def main() -> int:
    """Run the job on standard input."""
    job = json.load(sys.stdin)
    seconds = int(sys.argv[1])
    workshop = Workshop(job)
    stopwatch = Stopwatch(seconds)
    refuse_codecs(stopwatch)
    layers = beside("_confinement").confine(seconds)
    if job.get("report"):
        print(json.dumps(layers))
    sys.setrecursionlimit(FRAMES)
    sys.unraisablehook = lambda _: None  # of a generator that is closed
    gc.freeze()  # what is here to stay need not be looked at again
    try:
        for place, inputs in enumerate(job["inputs"]):
            try:
                with stopwatch:
                    text = workshop.answer(place, inputs)
                    gc.collect()  # what the program leaves behind may run when it goes
            except Exception as error:
                if not job["skip"] or isinstance(error, (OvertimeError, MemoryError)):
                    raise
                text = failed(error)
            print(text, flush=True)
    except (Exception, SystemExit) as error:  # whatever went wrong, a program did it
        error.__traceback__ = None  # which may hold on to all that filled the memory
        print(describe(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
