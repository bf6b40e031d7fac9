"""A program: its name, its text, and what is known of it."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.programs.syntax import parsed
from pbb_probe.programs.trace import is_name
from pbb_probe.schema import shown

Group = Literal["with_io", "without_io", "io_only"]
"""What a model is shown of a program: source and input/output examples, source alone, or examples alone (a control)."""
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class Program:
    """One named function: Python text that defines a function called `name`, at best one statement a line.

    It takes any number of positional arguments. The text may import, define further functions and set variables beside
    it. What it may contain is in `programs.whitelist`.
    """

    name: str
    family: str
    source: str
    facts: Mapping[str, str | int] = field(default_factory=dict)
    """What is true on every input and can be probed for, such as `steps`, `op_1`, `constant_1`."""
    calls: tuple[str, ...] = ()
    """The names of the other programs that it calls."""

    @property
    def problem(self) -> str | None:
        """The problem or cipher whose parameters it sets, which other programs share; None if it is of none."""
        of = self.facts.get("problem", self.facts.get("cipher"))
        return None if of is None else str(of)

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("family", self.family), ("source", self.source)):
            if not isinstance(text, str):
                raise PbbError(f"The {what} of a program must be text, not {shown(text)}.")
        if not isinstance(self.facts, Mapping):
            raise PbbError(f"The facts of {self.name:.60} must be a mapping, not {shown(self.facts)}.")
        if not isinstance(self.calls, tuple | list) or not all(map(is_name, self.calls)):
            raise PbbError(f"What {self.name:.60} calls must be a list of names, not {shown(self.calls)}.")


def count_steps(source: str) -> int:
    """Statements in the body of the function that a source defines.

    Raises:
        PbbError: the source is no Python.
    """
    return sum(isinstance(node, ast.stmt) for node in ast.walk(parsed(source))) - 1
