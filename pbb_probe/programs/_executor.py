"""The child process that runs programs: a script with no imports from the package, in Python's isolated mode.

Reads `{"sources": [{name, source, calls}], "inputs": [[arguments, ...], ...], "skip": bool}` as JSON on standard input,
where the first sources are the programs that `inputs` belong to and `calls` maps a callee's name to its place in
`sources`. Writes a line of JSON per program as soon as it has run: a list per input of `[lines, changes, output]`, or
null for one that failed and may be skipped. The number of these lines tells the parent which program was running when
this process ended, by an error or by a signal. Where the job has no programs and `"report": true`, the one line is what
confines this process, see `_confinement.confine`.

The first defence is the whitelist of the parent, which has read every source by then. Only a few builtins are within
reach of a program, and before anything runs this process is confined by the kernel, in the layers of `_confinement.py`:
a program that escapes from the interpreter has gained nothing but this process. The last defence is the parent again
(`child.py`), which ends a child that takes too long or says too much, and believes nothing that it says.
"""

import ast
import contextlib
import importlib.machinery
import json
import os
import signal
import sys
import types
import unicodedata  # noqa: F401 (for the parser, which asks for it at names beyond ASCII, when no file can be opened)

FRAMES = 200
LINES = 5_000  # a call
LARGEST = 10**18
DEEPEST = 50  # lists in lists
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


class Refusal(Exception):  # noqa: N818
    """What a program did, as a sentence of its own."""


class Overtime(Refusal):
    """All programs together ran too long: it need not be the fault of the one that was running."""


class NotAValueError(Exception):
    """A value that has no counterpart among whole numbers, text, truth values, None and lists."""


def confinement() -> types.ModuleType:
    """The file beside this one, by its path: the folder, with its many names, stays off the path of imports."""
    name = "_confinement"
    module = types.ModuleType(name)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    importlib.machinery.SourceFileLoader(name, path).exec_module(module)
    return module


def end_at_the_limit(seconds: int) -> None:
    """Make an exception of the signal that says that the CPU time of all programs is over."""

    def stop(*_) -> None:
        raise Overtime(f"the programs ran longer than {seconds} s in all")

    signal.signal(signal.SIGXCPU, stop)


class Stopwatch:
    """Limits the CPU time of what runs inside: by an exception, or by a signal where C code never looks up."""

    def __init__(self, seconds: int) -> None:
        self.seconds = min(seconds, PROGRAM_SECONDS)
        signal.signal(signal.SIGVTALRM, self.stop)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def stop(self, *_) -> None:
        raise Refusal(f"it ran longer than {self.seconds} s")

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
        signal.setitimer(signal.ITIMER_PROF, self.seconds + GRACE)

    def __exit__(self, *_) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def plain(value, depth: int = 0):
    """A deep copy of a value in whole numbers, text, truth values, None and lists."""
    if depth > DEEPEST:
        raise RecursionError(f"its lists are nested more than {DEEPEST} deep")
    kind = type(value)
    if kind is int:
        if not -LARGEST <= value <= LARGEST:
            raise Refusal("its numbers grow beyond 10**18")
        return value
    if kind is str or kind is bool or value is None:
        return value
    if kind is list or kind is tuple:
        return [plain(item, depth + 1) for item in value]
    if kind is set:
        items = [plain(item, depth + 1) for item in value]
        try:
            return sorted(items)
        except TypeError:  # numbers and text
            return sorted(items, key=repr)
    if kind is dict:
        return [[plain(key, depth + 2), plain(item, depth + 2)] for key, item in value.items()]
    raise NotAValueError


def plain_locals(frame) -> dict:
    values = {}
    for name, value in frame.f_locals.items():
        if type(value) is dict:  # there is no such value in a document: a variable that holds one keeps its name there
            continue
        with contextlib.suppress(NotAValueError):
            values[name] = plain(value)
    return values


class Line:
    """What the statements that begin on one line store: `targets` only in a turn of the loop, as `body` runs next."""

    def __init__(self) -> None:
        self.stores: list[str] = []
        self.targets: list[str] = []
        self.body = range(0)
        self.repeats = False  # a loop whose body is on the same line
        self.returns = False  # a return and nothing else


def read_lines(function: ast.FunctionDef) -> dict[int, tuple[int, Line]]:
    """For each line of the function's statements, the first line of its statement and what is stored there."""
    table: dict[int, tuple[int, Line]] = {}
    pending: list[tuple[ast.stmt, bool]] = [(statement, True) for statement in function.body]
    while pending:
        statement, certain = pending.pop(0)
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        line = table[first][1] if first in table else Line()
        line.returns = isinstance(statement, ast.Return) and first not in table
        if isinstance(statement, (ast.For, ast.While, ast.If)):
            # whether a body on the same line runs shows in the values only, but for the turns of a `for`
            joined = statement.body[0].lineno == first
            pending += [(part, not joined) for part in statement.body] + [(part, True) for part in statement.orelse]
            line.repeats |= joined and not isinstance(statement, ast.If)
            if isinstance(statement, ast.For):
                line.targets = stored_names(statement.target)
                line.targets += [name for part in statement.body if joined for name in stores(part)]
                line.body = range(statement.body[0].lineno, (statement.body[-1].end_lineno or last) + 1)
        elif certain:
            line.stores += stores(statement)
        if isinstance(statement, (ast.For, ast.While, ast.If, ast.FunctionDef)):
            last = max(first, statement.body[0].lineno - 1)
        for number in range(first, last + 1):
            table.setdefault(number, (first, line))
    return table


def stores(statement: ast.stmt) -> list[str]:
    """The names that a simple statement binds."""
    if isinstance(statement, ast.Assign):
        return [name for target in statement.targets for name in stored_names(target)]
    return stored_names(statement.target) if isinstance(statement, ast.AugAssign) else []


def stored_names(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, (ast.Tuple, ast.List)):
        return [name for part in target.elts for name in stored_names(part)]
    return []  # a subscript: its list is seen to differ


class Tracer:
    """Notes the lines that the outermost call of `function` runs, and what each of them changes."""

    def __init__(self, function, table: dict[int, tuple[int, Line]]) -> None:
        self.code = function.__code__
        self.table = table
        self.entered = False
        self.lines: list[int] = []
        self.changes: list[dict] = []
        self.known: dict = {}

    def __call__(self, frame, event, _argument):
        """The trace function of every new frame."""
        if self.entered or frame.f_code is not self.code:
            return None
        self.entered = True
        self.known = plain_locals(frame)
        return self.local

    def local(self, frame, event, _argument):
        """The trace function of the outermost frame."""
        if event == "line":
            number = frame.f_lineno
            first, line = self.table[number]
            if self.lines:
                if self.lines[-1] == first and not line.repeats:
                    return self.local  # further into the same statement
                self.settle(frame, first)
            if len(self.lines) == LINES:
                raise Refusal(f"it ran more than {LINES} lines")
            self.lines.append(first)
        elif event == "return" and self.lines:
            self.settle(frame, None)
        return self.local

    def settle(self, frame, following: int | None) -> None:
        """What the line that ran last has changed, now that `following` is about to run."""
        line = self.table[self.lines[-1]][1]
        before, now = self.known, plain_locals(frame)
        self.known = now
        changed = {}
        if following is not None or not line.returns:
            for name in line.stores + (line.targets if following in line.body else []):
                if name in now:
                    changed[name] = now[name]
            for name, value in now.items():
                if name not in changed and (name not in before or differ(before[name], value)):
                    changed[name] = value
        self.changes.append(changed)


def differ(one, other) -> bool:
    return one is not other and (one != other or repr(one) != repr(other))  # 1 and True are equal


class Workshop:
    """Makes functions of sources, each once, with what they call within reach."""

    def __init__(self, sources: list[dict]) -> None:
        self.sources = sources
        self.made: dict[int, tuple] = {}

    def function(self, place: int) -> tuple:
        """The function and its table of lines."""
        if place not in self.made:
            name, source = self.sources[place]["name"], self.sources[place]["source"]
            scope = {"__builtins__": BUILTINS}
            for callee, where in self.sources[place]["calls"].items():
                scope[callee] = self.function(where)[0]
            tree = ast.parse(source)
            exec(compile(tree, f"<{name}>", "exec"), scope)
            self.made[place] = (scope[name], read_lines(tree.body[0]))
        return self.made[place]


def run(function, table: dict[int, tuple[int, Line]], arguments: list) -> list:
    """One call of the function, as lines, changes and output."""
    tracer = Tracer(function, table)
    sys.settrace(tracer)
    try:
        output = function(*arguments)
    finally:
        sys.settrace(None)
    if output is None:
        raise Refusal("it returned nothing")
    try:
        if isinstance(output, (set, dict)):
            raise NotAValueError
        output = plain(output)
    except NotAValueError:
        kind = type(output).__name__
        raise Refusal(f"it returned {kind}, not whole numbers, text, truth values or lists of them") from None
    return [tracer.lines, tracer.changes, output]


def describe(error: BaseException) -> str:
    """The error in one line."""
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:  # a number too long to be written
        text = ""
    if isinstance(error, Refusal):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def main() -> int:
    job = json.load(sys.stdin)
    seconds = int(sys.argv[1])
    workshop = Workshop(job["sources"])
    stopwatch = Stopwatch(seconds)
    end_at_the_limit(seconds)
    layers = confinement().confine(seconds)
    if job.get("report"):
        print(json.dumps(layers))
    sys.setrecursionlimit(FRAMES)
    try:
        for place, inputs in enumerate(job["inputs"]):
            try:
                with stopwatch:
                    function, table = workshop.function(place)
                    text = json.dumps([run(function, table, arguments) for arguments in inputs])
                    if len(text) > LONGEST:
                        raise Refusal("its traces are too long to keep")
            except Exception as error:
                if not job["skip"] or isinstance(error, (Overtime, MemoryError)):
                    raise
                text = "null"
            print(text, flush=True)
    except (Exception, SystemExit) as error:  # whatever a program does wrong is that program's fault
        error.__traceback__ = None  # and with it all that filled the memory
        print(describe(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
