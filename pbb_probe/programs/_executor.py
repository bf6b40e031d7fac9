"""The child process that runs programs: a script with no imports from the package, started with `python -I`.

Reads `[{name, source, inputs}]` as JSON on standard input and writes the traces as JSON. Limits of CPU time,
memory, files and processes are set before anything runs, and only a few builtins are within reach.
"""

import ast
import json
import resource
import signal
import sys

MEMORY = 1 << 29
BUILTINS = {f.__name__: f for f in (abs, divmod, len, max, min, pow, range, sum, int, bool)}


def confine(seconds: int) -> None:
    """Limits of CPU time, memory, open files, processes and file size. Not a sandbox against hostile sources."""

    def stop(*_) -> None:
        raise TimeoutError(f"it ran longer than {seconds} s")

    signal.signal(signal.SIGXCPU, stop)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for limit, amount in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (amount, amount))


class Note(ast.NodeTransformer):
    """Adds a call `__note__(values)` after each assignment, with what it assigned."""

    def visit(self, node):
        self.generic_visit(node)
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            return [node, self.call(node, node.targets if isinstance(node, ast.Assign) else [node.target])]
        if isinstance(node, ast.For):
            node.body.insert(0, self.call(node.target, [node.target]))
        return node

    def call(self, where, targets):
        names = [
            node.id
            for target in targets
            for node in ast.walk(target)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
        note = ast.Expr(ast.Call(ast.Name("__note__", ast.Load()), [ast.Name(n, ast.Load()) for n in names], []))
        for node in ast.walk(note):
            ast.copy_location(node, where)
        return note


def compile_function(name: str, source: str, note):
    scope: dict = {"__builtins__": BUILTINS, "__note__": note}
    exec(compile(Note().visit(ast.parse(source)), f"<{name}>", "exec"), scope)
    return scope[name]


def run(function, states: list[int], value: int) -> dict:
    """Call the function; `states` fills with what it assigns, and a tracer notes the lines it runs."""
    lines: list[int] = []

    def tracer(frame, event, _argument):
        if frame.f_code is not function.__code__:
            return None
        if event == "line":
            lines.append(frame.f_lineno)
        return tracer

    states.clear()
    sys.settrace(tracer)
    try:
        output = function(value)
    finally:
        sys.settrace(None)
    if not isinstance(output, int):
        raise TypeError(f"it returned {type(output).__name__}, not a whole number")
    return {"states": list(states), "lines": lines, "output": output}


def main() -> int:
    job = json.load(sys.stdin)
    confine(int(sys.argv[1]))
    results = []
    for program in job:
        try:
            states: list[int] = []
            function = compile_function(
                program["name"], program["source"], lambda *values, states=states: states.extend(values)
            )
            results.append([run(function, states, value) for value in program["inputs"]])
        except (Exception, SystemExit) as error:  # whatever a program does wrong is that program's fault
            print(f"{program['name']}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
    json.dump(results, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
