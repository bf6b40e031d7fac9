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
from pbb_probe.programs.syntax import function_of, with_names_replaced
from pbb_probe.programs.templates import Mode, pointers
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
    statements = _statements_by_line(program.source)
    names = [argument.arg for argument in function_of(program.source).args.args]
    values: dict[str, Value] = dict(zip(names, trace.arguments, strict=True))
    steps = []
    for i, (line, changed) in enumerate(zip(trace.lines, trace.changes, strict=True)):
        statement = statements[line]
        written = None
        match statement:
            case ast.Return():
                worked = _with_values(statement.value, values) if statement.value else "None"
                steps.append(_result("return", worked, trace.output, " "))
            case ast.If() | ast.While():
                taken = trace.lines[i + 1] == statement.body[0].lineno
                word = "if" if isinstance(statement, ast.If) else "while"
                steps.append(f"{word} {_with_values(statement.test, values)}: {taken}")
            case ast.Assign(targets=[ast.Name(id=name)]) if name in changed:
                steps.append(_result(name, _with_values(statement.value, values), changed[name]))
                written = name
            case ast.AugAssign(target=ast.Name(id=name)) if name in changed:
                updated = ast.BinOp(ast.Name(name, ast.Load()), statement.op, statement.value)
                steps.append(_result(name, _with_values(updated, values), changed[name]))
                written = name
        steps += [f"{other} = {value!r}" for other, value in changed.items() if other != written]
        for assigned in _assigned(statement):
            values.pop(assigned, None)  # its new value may have no counterpart in a document
        values |= changed
    return "\n".join(steps)


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that an assignment binds."""
    if not isinstance(statement, ast.Assign | ast.AugAssign):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return list(bound_names(node for target in targets for node in ast.walk(target)))


def _result(what: str, worked: str, value: Value, sign: str = " = ") -> str:
    """`y = (4 + 3) % 10 = 7`, or `y = 7` where there is nothing to work out."""
    return f"{what}{sign}{worked}" + ("" if worked == repr(value) and sign == " = " else f" = {value!r}")


def _with_values(expression: ast.expr, values: dict[str, Value]) -> str:
    """The expression with values in place of its variables; those that a comprehension binds stay."""
    nodes = list(ast.walk(expression))
    free = {node.id for node in nodes if isinstance(node, ast.Name)} - set(bound_names(nodes))
    written = {name: ast.parse(repr(values[name]), mode="eval").body for name in free & values.keys()}
    return ast.unparse(with_names_replaced(expression, written))


@functools.lru_cache(maxsize=4096)
def _statements_by_line(source: str) -> dict[int, ast.stmt]:
    nodes = [node for node in ast.walk(function_of(source)) if isinstance(node, ast.stmt)]
    return {node.lineno: node for node in reversed(nodes)}  # the outermost of several on a line
