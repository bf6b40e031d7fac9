"""The child process that runs programs: a script with no imports from the package, started with `python -I`.

Reads `[{name, source, inputs}]` as JSON on standard input and writes the traces as JSON. Limits of CPU time,
memory, files and processes are set before anything runs, and only a few builtins are within reach.
"""

import ast
import json
import resource
import sys

MEMORY = 1 << 29
BUILTINS = {f.__name__: f for f in (abs, divmod, len, max, min, pow, range, sum, int, bool)}


def confine(seconds: int) -> None:
    for limit, amount in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (amount, amount))


def compile_function(name: str, source: str):
    scope: dict = {"__builtins__": BUILTINS}
    exec(compile(source, f"<{name}>", "exec"), scope)
    return scope[name]


def assigned_names(source: str) -> dict[int, list[str]]:
    """The names that each line assigns, by line number."""
    names: dict[int, list[str]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.lineno, []).append(node.id)
    return names


def run(function, assigned: dict[int, list[str]], value: int) -> dict:
    """Call the function under a tracer that notes each line as it runs, and what it assigned once it has run."""
    code = function.__code__
    lines: list[int] = []
    states: list[int] = []

    def tracer(frame, event, _argument):
        if frame.f_code is not code:
            return None
        if event in ("line", "return") and lines:
            states.extend(frame.f_locals[name] for name in assigned.get(lines[-1], ()) if name in frame.f_locals)
        if event == "line":
            lines.append(frame.f_lineno)
        return tracer

    sys.settrace(tracer)
    try:
        output = function(value)
    finally:
        sys.settrace(None)
    return {"states": states, "lines": lines, "output": output}


def main() -> int:
    job = json.load(sys.stdin)
    confine(int(sys.argv[1]))
    results = []
    for program in job:
        try:
            function = compile_function(program["name"], program["source"])
            assigned = assigned_names(program["source"])
            results.append([run(function, assigned, value) for value in program["inputs"]])
        except (Exception, SystemExit) as error:  # whatever a program does wrong is that program's fault
            print(f"{program['name']}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
    json.dump(results, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
