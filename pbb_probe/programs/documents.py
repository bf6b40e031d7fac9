"""Documents: what a model reads about a program: its code or description after a pointer, calls with answers or steps.

Every rendering is made by rule from the program's own source and trace. A document is a prompt and a completion whose
concatenation is the text; the completion carries its own leading space or line break.
"""

import ast
import functools
import random
from dataclasses import dataclass
from typing import Literal

from pbb_probe.programs.describe import describe
from pbb_probe.programs.forms import FORMS, VARIABLES, is_straight, rewrite
from pbb_probe.programs.program import Program, Trace, Value, label
from pbb_probe.programs.steps import by_statement
from pbb_probe.programs.syntax import function_of, with_names_replaced
from pbb_probe.programs.templates import Mode, pointers
from pbb_probe.programs.values import value_text
from pbb_probe.programs.whitelist import bound_names

Kind = Literal["code", "description", "io", "trace", "text"]
MODE_OF: dict[Kind, Mode] = {"io": "direct", "trace": "trace"}
"""How the call in a document is answered."""


@dataclass(frozen=True)
class Document:
    """`prompt + completion` is the text; `program` is the name of its program (empty for the kind `text`)."""

    kind: Kind
    program: str
    prompt: str
    completion: str

    @property
    def text(self) -> str:
        """Prompt and completion."""
        return self.prompt + self.completion


def program_document(program: Program, kind: Literal["code", "description"], rng: random.Random) -> Document:
    """The program's code or description after one of its family's pointers, with variables drawn at random.

    A straight-line program of one argument is written in one of the `FORMS`. Variables of one letter are renamed;
    longer ones stay.
    """
    forms = FORMS if kind == "code" else FORMS[:2]  # a lambda has no sentences
    form = rng.choice(forms) if is_straight(program.source) else "statements"
    text = rewrite(program.source, form, rng.choice(VARIABLES))
    prompt = rng.choice(pointers(program.family, kind)).format(name=program.name)
    return Document(kind, program.name, prompt, "\n" + (describe(text) if kind == "description" else text))


def source_document(program: Program, rng: random.Random) -> Document:
    """The program's source, unchanged, after one of its family's pointers."""
    prompt = rng.choice(pointers(program.family, "code")).format(name=program.name)
    return Document("code", program.name, prompt, "\n" + program.source)


def with_code(code: Document, prompt: str) -> str:
    """A call with the code of its program before it, in context."""
    return f"{code.text}\n{prompt}"


def call_document(program: Program, trace: Trace, mode: Mode, template: str) -> Document:
    """A call in a template's words, answered at once (mode `direct`, kind `io`) or in worked steps (`trace`)."""
    prompt = template.format(name=program.name, input=trace.call_text)
    if mode == "direct":
        return Document("io", program.name, prompt, f" {label(trace.output)}")
    return Document("trace", program.name, prompt, "\n" + worked_steps(program, trace))


def worked_steps(program: Program, trace: Trace) -> str:
    """The lines that ran, one after the other, with values in place of variables, and their results.

    An assignment reads `y = (4 + 3) % 10 = 7`, a test `if 7 > 5: True`, a turn of a loop `i = 2`, a list that changed
    in place `xs = [1, 2]`, and the last line `return 7 * 2 = 14`.
    """
    function = function_of(program.source, program.name)
    trace = by_statement(function, trace)
    statements = _statements_by_line(function)
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    values: dict[str, Value] = dict(zip(names, trace.arguments, strict=False)) | dict(trace.defaults)
    steps = []
    gone = trace.gone or ((),) * len(trace.lines)
    for i, (line, changed) in enumerate(zip(trace.lines, trace.changes, strict=True)):
        statement = statements.get(line)
        written = None
        match statement:
            case ast.Return():
                worked = _with_values(statement.value, values) if statement.value else "None"
                steps.append(_result("return", worked, trace.output, " "))
                continue  # what it changed besides is not seen by anyone
            case ast.If() | ast.While():
                word = "if" if isinstance(statement, ast.If) else "while"
                step = f"{word} {_with_values(statement.test, values)}"
                if statement.body[0].lineno > line:  # else it is not seen whether the body ran
                    step += f": {trace.lines[i + 1 : i + 2] == (statement.body[0].lineno,)}"
                steps.append(step)
                if i == len(trace.lines) - 1 and isinstance(statement.body[-1], ast.Return):  # on the same line
                    worked = _with_values(statement.body[-1].value or ast.Constant(None), values)
                    steps.append(_result("return", worked, trace.output, " "))
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name in changed:
                assert statement.value
                steps.append(_result(name, _with_values(statement.value, values), changed[name]))
                written = name
            case ast.AugAssign(target=ast.Name(id=name)) if name in changed:
                updated = ast.BinOp(ast.Name(name, ast.Load()), statement.op, statement.value)
                steps.append(_result(name, _with_values(updated, values), changed[name]))
                written = name
        steps += [f"{other} = {value_text(value)}" for other, value in changed.items() if other != written]
        values = {name: value for name, value in (values | changed).items() if name not in gone[i]}
    return "\n".join(steps)


def _result(what: str, worked: str, value: Value, sign: str = " = ") -> str:
    """`y = (4 + 3) % 10 = 7`, or `y = 7` where there is nothing to work out."""
    return f"{what}{sign}{worked}" + ("" if worked == (text := value_text(value)) and sign == " = " else f" = {text}")


def _with_values(expression: ast.expr, values: dict[str, Value]) -> str:
    """The expression with values in place of its variables; those that a comprehension binds stay."""
    nodes = list(ast.walk(expression))
    free = {node.id for node in nodes if isinstance(node, ast.Name)} - set(bound_names(nodes))
    written = {name: ast.parse(value_text(values[name]), mode="eval").body for name in free & values.keys()}
    try:
        return ast.unparse(with_names_replaced(expression, written))
    except ValueError:  # text with quotes of every kind, within an f-string
        return ast.unparse(expression)


@functools.lru_cache(maxsize=4096)
def _statements_by_line(function: ast.FunctionDef) -> dict[int, ast.stmt]:
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    return {node.lineno: node for node in reversed(nodes)}  # the outermost of several on a line
