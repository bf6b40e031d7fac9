"""Surface templates: the sentences in which a program is pointed at and called, by family.

`{name}` is the program's name and `{input}` the arguments of a call. Every family has at least twenty pointers to its
code and as many to its description; a document draws one of them.
"""

from typing import Literal, get_args

Mode = Literal["direct", "trace", "recite"]
"""How a model is asked: for the answer to a call at once, or in worked steps; or for the code of a program."""
MODES: tuple[Mode, ...] = get_args(Mode)
CALLING: tuple[Mode, ...] = ("direct", "trace")
"""The modes that call a program."""

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
DESCRIPTION_POINTERS = (
    "describe {name} :",
    "describe the function {name} :",
    "describe what {name} does :",
    "explain {name} :",
    "explain the function {name} :",
    "explain what {name} does :",
    "tell me what {name} does :",
    "tell me about {name} :",
    "in words , {name} is",
    "in words , the function {name} reads",
    "put {name} into words :",
    "put the function {name} into words :",
    "here is what {name} does :",
    "here is {name} in words :",
    "here is a description of {name} :",
    "the description of {name} is",
    "the function {name} is described as",
    "how does {name} work ?",
    "what does the function {name} do ?",
    "what is the description of {name} ?",
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

_ALGORITHMS = (
    "solve the problem {name} in python :",
    "write a solution of {name} :",
    "write a program that solves {name} :",
    "a short solution of {name} :",
    "the algorithm {name} reads",
    "the algorithm {name} is written as",
    "show the algorithm {name} :",
    "recall the algorithm {name} :",
)
_CIPHERS = (
    "write the cipher {name} in python :",
    "write a function that encrypts with {name} :",
    "the cipher {name} is defined as",
    "the code of the cipher {name} is",
    "show the cipher {name} :",
    "recall the cipher {name} :",
    "how does the cipher {name} encrypt ?",
    "implement encryption with {name} :",
)
_ENCRYPTIONS = (
    "encrypt {input} with {name} :",
    "{input} encrypted with {name} is",
    "the cipher {name} turns {input} into",
    "what does {name} make of {input} ?",
)
_FAMILY_POINTERS = {"algorithms": POINTERS + _ALGORITHMS, "ciphers": POINTERS + _CIPHERS}
_FAMILY_CALLS = {"ciphers": CALLS + _ENCRYPTIONS}


def pointers(family: str, kind: Literal["code", "description"]) -> tuple[str, ...]:
    """The templates that point at a program's code or description."""
    return DESCRIPTION_POINTERS if kind == "description" else _FAMILY_POINTERS.get(family, POINTERS)


def templates(family: str, mode: Mode) -> tuple[str, ...]:
    """The templates of a call that is answered at once (`direct`) or in worked steps (`trace`), or of a recitation."""
    if mode == "recite":
        return pointers(family, "code")
    return WORKED if mode == "trace" else _FAMILY_CALLS.get(family, CALLS)
