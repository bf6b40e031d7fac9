"""Documents: what a model reads about a program: its code or description after a pointer, calls with answers or steps.

Every rendering is made by rule from the program's own source and trace. A document is a prompt and a completion whose
concatenation is the text; the completion carries its own leading space or line break.
"""

import random
from dataclasses import dataclass
from typing import Literal

from pbb_probe.programs.describe import describe
from pbb_probe.programs.forms import FORMS, VARIABLES, is_straight, rewrite
from pbb_probe.programs.program import Program, Trace, label
from pbb_probe.programs.templates import Mode, pointers
from pbb_probe.programs.worked import worked_steps

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
