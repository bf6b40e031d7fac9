"""Python that is written down as it runs: what a page computes with, and what its reader copies, are one.

`pbb`, a run and whatever is asked of them are `Recorded`: an attribute, an item or a call of one is another, and knows
the Python that makes it. `value_of` makes it, `python_of` prints it. So no call is written twice, and the text cannot
differ from what was computed.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

WIDTH = 100
"""Characters of a line; what is longer is broken at its arguments."""
Write = Callable[[Any, int], str]
"""The text of a part, which may be recorded or a plain value, at so many spaces of indentation."""


class Recorded:
    """A value that is made when it is asked for, and the Python that makes it.

    Args:
        make: the value. It is called once.
        text: the Python, given how the parts it is made of are written, and its indentation.

    Example:
        >>> home = named(imported("math").hypot(3, 4), "home")
        >>> value_of(home)
        5.0
        >>> print(python_of(home))
        import math
        <BLANKLINE>
        home = math.hypot(3, 4)
    """

    __iter__ = None  # it has items, but nobody knows how many before it is made

    def __init__(self, make: Callable[[], Any], text: Callable[[Write, int], str]):
        self._make, self._text = make, text
        self._made: list[Any] = []
        self._name = ""

    def __getattr__(self, name: str) -> "Recorded":
        if name.startswith("_"):
            raise AttributeError(name)
        return Recorded(lambda: getattr(value_of(self), name), lambda write, indent: f"{write(self, indent)}.{name}")

    def __getitem__(self, key: Any) -> "Recorded":
        return Recorded(
            lambda: value_of(self)[value_of(key)],
            lambda write, indent: f"{write(self, indent)}[{write(key, indent)}]",
        )

    def __call__(self, *args: Any, **kwargs: Any) -> "Recorded":
        """The call with these arguments, which may be recorded themselves, or hold what is."""

        def text(write: Write, indent: int) -> str:
            given = [("", value) for value in args] + [(f"{name}=", value) for name, value in kwargs.items()]
            return _bracketed(f"{write(self, indent)}(", given, ")", write, indent)

        return Recorded(lambda: value_of(self)(*value_of(args), **value_of(kwargs)), text)


def imported(module: str, name: str = "", attribute: str = "") -> Recorded:
    """A module under the name it is imported by, or something in it under its own."""

    def make() -> Any:
        return getattr(import_module(module), attribute) if attribute else import_module(module)

    whole = f"import {module}" + f" as {name}" * bool(name)
    statement = f"from {module} import {attribute}" if attribute else whole
    return _under(attribute or name or module, Recorded(make, lambda *_: statement))


def named(recorded: Any, name: str, value: Any = None) -> Recorded:
    """The same with a line of its own, `name = ...`; with a value that is already there if one is given."""
    made = _under(name, Recorded(lambda: value_of(recorded), lambda write, _: f"{name} = {write(recorded, 0)}"))
    made._made += [] if value is None else [value]
    return made


def value_of(part: Any) -> Any:
    """The value of what is recorded, also inside lists, tuples and dicts; anything else is its own value."""
    if isinstance(part, Recorded):
        if not part._made:
            part._made.append(part._make())
        return part._made[0]
    if isinstance(part, dict):
        return {key: value_of(value) for key, value in part.items()}
    return type(part)(map(value_of, part)) if type(part) in (list, tuple) else part


def python_of(recorded: Recorded) -> str:
    """A program that makes it: imports, then a line for everything that is named."""
    lines: dict[str, str] = {}

    def write(part: Any, indent: int) -> str:
        if isinstance(part, Recorded):
            text = part._text(write, indent)
            if part._name:
                lines[text] = part._name
            return part._name or text
        if isinstance(part, dict):
            return _bracketed("{", [(f"{key!r}: ", value) for key, value in part.items()], "}", write, indent)
        if type(part) in (list, tuple):
            ends = "[]" if isinstance(part, list) else "()"
            comma = "," * (ends == "()" and len(part) == 1)
            return _bracketed(ends[0], [("", value) for value in part], comma + ends[1], write, indent)
        return repr(part)

    write(recorded, 0)
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    return "\n".join(
        [
            *sorted(imports, key=lambda line: line.startswith("from ")),
            "",
            *(line for line in lines if line not in imports),
        ]
    )


def _under(name: str, recorded: Recorded) -> Recorded:
    recorded._name = name
    return recorded


def _bracketed(before: str, parts: list[tuple[str, Any]], after: str, write: Write, indent: int) -> str:
    """Parts between brackets: on one line, or where that is too long a line each."""
    line = before + ", ".join(lead + write(part, indent) for lead, part in parts) + after
    last = line[before.rfind("\n") + 1 :]
    if not parts or ("\n" not in last and indent + len(last) <= WIDTH):
        return line
    margin = "\n" + " " * (indent + 4)
    inside = f",{margin}".join(lead + write(part, indent + 4) for lead, part in parts)
    return f"{before}{margin}{inside},\n{' ' * indent}{after.removeprefix(',')}"


pbb = imported("pbb_probe", "pbb")
np = imported("numpy", "np")
pd = imported("pandas", "pd")
labels_of = imported("pbb_probe.labels", attribute="labels_of")
attention_patterns = imported("pbb_probe.hooking.attention", attribute="attention_patterns")
project = imported("pbb_probe.probing.projection", attribute="project")
decisive = imported("pbb_probe.evidence.subsets", attribute="decisive")
decoded = imported("pbb_probe.views.explorer.address", attribute="decode_selection")
