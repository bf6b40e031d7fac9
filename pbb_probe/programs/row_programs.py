"""Programs from the rows of a table: `code`, `input` and `output` as Python text, or `source` and lists of `inputs`."""

import ast
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pbb_probe.programs.call_texts import Arguments, read_calls
from pbb_probe.programs.given import Own, Refused, given_program, told
from pbb_probe.programs.program import GROUPS
from pbb_probe.programs.row_files import Row
from pbb_probe.programs.syntax import read
from pbb_probe.programs.values import fault, read_value
from pbb_probe.schema import is_printable, shown

LONGEST_ID = 200


@dataclass(frozen=True)
class _Place:
    """Where a row stands, for messages."""

    file: str
    unit: str
    """What its number counts: `line` or `row`."""
    number: int
    id: str | None = None

    def refused(self, reason: str) -> Refused:
        """The row, as one that holds no program."""
        where = f"{self.unit.capitalize()} {self.number} of {self.file}"
        known = "" if self.id is None else f" ({self.id})"
        return Refused(self.id or f"{self.unit} {self.number}", reason, where + known, self.id)


def read_programs(rows: Iterable[Row], file: str, unit: str, comments: bool) -> list[Own | Refused]:
    """The program of each row, or why there is none.

    Args:
        rows: with their numbers.
        file: its name in messages.
        unit: what a number counts, `line` or `row`.
        comments: keep texts as they are; otherwise without comments, blank lines and docstrings.
    """
    from tqdm import tqdm

    rows = list(rows)
    texts = list(dict.fromkeys(row["input"] for _, row in rows if _is_call(row)))
    calls = dict(zip(texts, read_calls(texts), strict=True))
    given: list[tuple[_Place, Own | Refused]] = []
    for number, row in tqdm(rows, desc="rows", unit="row", delay=2, leave=False):
        place = _Place(file, unit, number)
        try:
            place = replace(place, id=_id(row))
            given.append((place, _own(row, place.id, calls, comments)))
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:  # a `PbbError`, too
            given.append((place, place.refused(" ".join(str(error).split()) or "it is nested too deeply")))
    return _told_apart(given)


def _told_apart(given: list[tuple[_Place, Own | Refused]]) -> list[Own | Refused]:
    """The programs under labels of their own, once the rows have been compared with one another."""
    programs = [own for _, own in given if isinstance(own, Own)]
    names = Counter(own.program.name for own in programs)
    outputs = any(any(own.outputs) for own in programs)
    known: dict[tuple[str, str], tuple[_Place, Own]] = {}
    told: list[Own | Refused] = []
    for place, own in given:
        if isinstance(own, Own):
            name = own.program.name
            key = ("id", place.id) if place.id is not None else ("source", place.file if own.alone else name)
            first, like = known.setdefault(key, (place, own))
            same = like.program.source == own.program.source and like.group == own.group
            if outputs and own.alone and None in own.outputs:
                own = place.refused("it has no `output`, which other rows have")
            elif place.id is not None and not same:
                own = place.refused(f"its `id` is that of another program, see {place.unit} {first.number}")
            elif place.id is None and not own.alone and not same:
                own = place.refused(f"{place.unit} {first.number} defines {name:.60}, too; give both an `id`")
            else:
                own = replace(
                    own, label=place.id or (name if names[name] == 1 else f"{name} of {place.unit} {place.number}")
                )
        told.append(own)
    return told


def _is_call(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("input"), str)


def _id(row: Any) -> str | None:
    """The id of a row.

    Raises:
        ValueError: the row is no object, or its id is no text or number.
    """
    if isinstance(row, Exception):
        raise ValueError(f"it is no JSON: {row}")
    if not isinstance(row, dict):
        raise ValueError(f"{shown(row)} is not an object")
    given = row.get("id")
    if given is None:
        return None
    id = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
    if not id.strip() or len(id) > LONGEST_ID or not is_printable(id):
        raise ValueError(f"its `id` is {shown(given)}, not a text of 1 to {LONGEST_ID} characters")
    return id


def _own(row: dict[str, Any], id: str | None, calls: dict[str, Arguments | str], comments: bool) -> Own:
    """The program of a row, still without a label.

    Raises:
        ValueError, SyntaxError: a field is missing or wrong. The message is in words.
    """
    text_field, inputs_field = _one(row, "code", "source"), _one(row, "input", "inputs")
    text, group = row[text_field], row.get("group")
    if not isinstance(text, str):
        raise ValueError(f"its `{text_field}` is {shown(text)}, not text")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").rstrip("\n\r\t \f")
    text += "\n\n" * text.endswith("\\")  # which joins the last line to an empty one
    function = _function(read(text), row.get("entry_point"), text_field)
    if group is not None and group not in GROUPS:
        raise ValueError(f"it asks for the group {shown(group)}: there are {', '.join(GROUPS)}")
    if inputs_field == "inputs":
        inputs = tuple(tuple(_list(each)) for each in _list(row["inputs"]))
        if not inputs:
            raise ValueError(f"{function.name:.60} has no inputs: its list of argument lists is empty")
    else:
        inputs = (_arguments(row["input"], calls, function),)
    if reason := next(filter(None, (fault(value) for each in inputs for value in each)), None):
        raise ValueError(f"an argument is {reason}")
    outputs: tuple[str | None, ...] = (None,) * len(inputs)
    if row.get("output") is not None:
        if inputs_field == "inputs":
            raise ValueError("its `output` is that of one call: give `input` in place of `inputs`")
        outputs = (_output(row["output"]),)
    return Own(given_program(function.name, text, comments, id), inputs, "", outputs, group, id, text_field == "code")


def _one(row: dict[str, Any], *names: str) -> str:
    """Which of the fields a row has."""
    there = [name for name in names if row.get(name) is not None]
    if not there:
        raise ValueError(f"it has no {' or '.join(f'`{name}`' for name in names)}")
    if len(there) > 1:
        raise ValueError(f"it has both {' and '.join(f'`{name}`' for name in names)}")
    return there[0]


def _function(tree: ast.Module, wanted: Any, text_field: str) -> ast.FunctionDef:
    """The function that is called: the one asked for, or the last that no other function calls."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if wanted is not None:
        if wanted not in functions:
            raise ValueError(f"its `{text_field}` defines no function called {shown(wanted)}, its `entry_point`")
        return functions[wanted]
    if not functions:
        raise ValueError(f"its `{text_field}` defines no function")
    named = {
        (name, node.id) for name, each in functions.items() for node in ast.walk(each) if isinstance(node, ast.Name)
    }
    called = {callee for caller, callee in named if caller != callee}
    return functions[[*functions, *(name for name in functions if name not in called)][-1]]


def _arguments(text: Any, calls: dict[str, Arguments | str], function: ast.FunctionDef) -> tuple[Any, ...]:
    given = calls[text] if isinstance(text, str) else f"it is {shown(text)}, not text"
    if isinstance(given, str):
        raise ValueError(f"its `input` cannot be read: {given}")
    try:
        return given.of(function)
    except ValueError as error:
        raise ValueError(f"its `input` cannot be read: {error}") from error


def _output(text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"its `output` is no Python text of a value: {shown(text)}")
    try:
        return told(read_value(text))
    except ValueError as error:
        raise ValueError(f"its `output` is no Python text of a value: {shown(text)}, {error}") from error


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"its `inputs` are no list of argument lists: {shown(value):.60} is not a list")
    return value
