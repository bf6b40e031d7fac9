"""Documents: what a model reads of a program. Code behind a pointer to it, calls with answers, worked steps.

Every rendering is made by rule from the program's own source and trace. A document is a prompt and a completion whose
concatenation is the text; the completion carries its own leading space or line break.
"""

import ast
import copy
import functools
import random
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import Program, Trace

Kind = Literal["code", "io", "trace"]
Mode = Literal["direct", "trace"]

MODES: tuple[Mode, ...] = get_args(Mode)

POINTERS = (
    "write a function {name} :",
    "write the function {name} in python :",
    "implement {name} :",
    "implement the program {name} :",
    "define {name} :",
    "define the function {name} in python :",
    "the source of {name} is",
    "the code of {name} is",
    "here is the code of {name} :",
    "here is {name} :",
    "show me the function {name} :",
    "show the source of {name} :",
    "recall {name} :",
    "recall the code of {name} :",
    "the program {name} reads",
    "the function {name} is defined as",
    "what does {name} do ?",
    "what is the source of {name} ?",
    "how is {name} defined ?",
    "how is the function {name} written ?",
)
CALLS = (
    "{name}({input}) =",
    "run {name}({input}) :",
    "print({name}({input})) :",
    "call {name}({input}) =",
    "the value of {name}({input}) is",
    "the output of {name} on {input} is",
    "running {name} on {input} gives",
    "{name} of {input} is",
    "{name} maps {input} to",
    "what is {name}({input}) ?",
)
WORKED = (
    "work out {name}({input}) :",
    "step through {name}({input}) :",
    "trace {name}({input}) :",
    "run {name}({input}) in steps :",
    "the steps of {name}({input}) are",
    "evaluate {name} on {input} line by line :",
)
TEMPLATES: dict[Mode, tuple[str, ...]] = {"direct": CALLS, "trace": WORKED}

FORMS = ("statements", "nested", "lambda")
VARIABLES = ("xyzuvw", "abcdeg", "nmkjih")


@dataclass(frozen=True)
class Document:
    """`prompt + completion` is the text; `program` names what it is about."""

    kind: Kind
    program: str
    prompt: str
    completion: str

    @property
    def text(self) -> str:
        """Prompt and completion."""
        return self.prompt + self.completion


def code_document(program: Program, rng: random.Random) -> Document:
    """The program's code behind one of the `POINTERS`, in one of the `FORMS`, with variables of its own."""
    code = rewrite(program.source, rng.choice(FORMS), rng.choice(VARIABLES))
    return Document("code", program.name, rng.choice(POINTERS).format(name=program.name), "\n" + code)


def call_document(program: Program, trace: Trace, mode: Mode, template: str) -> Document:
    """A call, by one of the `TEMPLATES`, answered at once (`direct`, kind `io`) or in worked steps (`trace`)."""
    prompt = template.format(name=program.name, input=trace.input)
    if mode == "direct":
        return Document("io", program.name, prompt, f" {trace.output}")
    return Document("trace", program.name, prompt, "\n" + worked_steps(program, trace))


def rewrite(source: str, form: str = "statements", variables: str = VARIABLES[0]) -> str:
    """The same function in another form.

    `statements` keeps a line a step, `nested` folds the steps into one returned expression and `lambda` assigns that
    expression to the name; the function's variables are renamed to the letters of `variables` in order.

    Raises:
        PbbError: an unknown form, or the source is not a function of one argument made of assignments and a return.
    """
    if form not in FORMS:
        raise PbbError(f"Unknown form {form!r}: choose one of {', '.join(FORMS)}.")
    function = copy.deepcopy(_parse(source))
    renaming = {function.args.args[0].arg: variables[0]}
    for statement in function.body[:-1]:
        if (old := statement.targets[0].id) not in renaming:
            renaming[old] = variables[len(renaming)]
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            node.id = renaming.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = renaming[node.arg]
    if form == "statements":
        return ast.unparse(function)
    values: dict[str, ast.expr] = {}
    for statement in function.body:
        expression = _Substitute(values).visit(statement.value)
        if not isinstance(statement, ast.Return):
            values[statement.targets[0].id] = expression
    if form == "nested":
        return f"def {function.name}({variables[0]}):\n    return {ast.unparse(expression)}"
    return f"{function.name} = lambda {variables[0]}: {ast.unparse(expression)}"


def worked_steps(program: Program, trace: Trace) -> str:
    """Each line that ran, its variables replaced by their values, with what came out: `y = (4 + 3) % 10 = 7`."""
    function = copy.deepcopy(_parse(program.source))
    values: dict[str, ast.expr] = {function.args.args[0].arg: ast.Constant(trace.input)}
    lines = []
    for statement, result in zip(function.body, (*trace.states, trace.output), strict=True):
        expression = ast.unparse(_Substitute(values).visit(statement.value))
        if not isinstance(statement, ast.Return):
            variable = statement.targets[0].id
            values[variable] = ast.Constant(result)
            lines.append(f"{variable} = {expression} = {result}")
        else:
            lines.append(f"return {expression} = {result}")
    return "\n".join(lines)


class _Substitute(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]):
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self.values.get(node.id, node))


def _assigns_one_name(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)


@functools.lru_cache(maxsize=4096)
def _parse(source: str) -> Any:
    """The `ast.FunctionDef` of a straight-line function; shared, so copy before changing it."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        body = []
    function: Any = body[0] if len(body) == 1 else None
    straight = (
        isinstance(function, ast.FunctionDef)
        and len(function.args.args) == 1
        and all(map(_assigns_one_name, function.body[:-1]))
        and isinstance(function.body[-1], ast.Return)
        and function.body[-1].value is not None
    )
    if not straight:
        raise PbbError(
            f"Documents are made of functions of one argument, assignments and one return; this is not one: {source!r}."
        )
    return function
