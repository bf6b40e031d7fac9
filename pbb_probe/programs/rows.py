"""A row of `corpus.jsonl`, read back: every field is held to its type, and its parts to one another."""

import ast
from typing import Any

from pbb_probe.programs.program import GROUPS, Group, Program, Trace, trace_fault
from pbb_probe.programs.values import brief, is_text
from pbb_probe.programs.whitelist import check_source

Row = tuple[Program, Group, tuple[Trace, ...], tuple[int, ...]]
"""The fields of a `corpus.Entry`."""


def read_row(row: Any) -> Row:
    """The program, its group, its traces and the places of the shown ones, from an object of JSON.

    Raises:
        ValueError: a field is missing or is not what it must be, in words that can stand in brackets.
    """
    fields = _object(row, "a program's row")
    program = _program(_object(_field(fields, "program"), "a program"))
    group = _field(fields, "group")
    if group not in GROUPS:
        raise ValueError(f"{program.name:.60}: unknown group {brief(group)}")
    (function,) = ast.parse(program.source).body
    arguments = len(function.args.args)  # type: ignore[attr-defined]
    lines = {node.lineno for node in ast.walk(function) if isinstance(node, ast.stmt)}
    traces = tuple(_trace(program.name, each, arguments, lines) for each in _list(_field(fields, "traces"), "traces"))
    places = _list(_field(fields, "shown"), "shown inputs")
    if any(type(place) is not int or not 0 <= place < len(traces) for place in places) or len(set(places)) < len(
        places
    ):
        raise ValueError(f"{program.name:.60}: shown inputs that are not there: {brief(places)}")
    return program, group, traces, tuple(places)


def _program(fields: dict[str, Any]) -> Program:
    if odd := fields.keys() - Program.__dataclass_fields__.keys():
        raise ValueError(f"a program has no field {brief(min(odd))}")
    facts = _object(fields.get("facts", {}), "the facts of a program")
    if not all(map(is_text, facts)) or not all(type(fact) in (int, bool) or is_text(fact) for fact in facts.values()):
        raise ValueError(f"facts that are neither whole numbers nor text: {brief(facts)}")
    if not is_text(_field(fields, "family")):
        raise ValueError(f"a family that is no text: {brief(fields['family'])}")
    calls = tuple(_list(fields.get("calls", []), "the programs that one calls"))
    program = Program(_field(fields, "name"), _field(fields, "family"), _field(fields, "source"), facts, calls)
    check_source(program.name, program.source, program.calls)
    return program


def _trace(name: str, fields: Any, arguments: int, lines: set[int]) -> Trace:
    fields = _object(fields, f"a trace of {name:.60}")
    given, ran, changes = (
        tuple(_list(_field(fields, key), f"the {key} of {name:.60}")) for key in ("arguments", "lines", "changes")
    )
    trace = Trace(given, ran, changes, _field(fields, "output"))
    if reason := trace_fault(trace):
        raise ValueError(f"{name:.60}: a trace has {reason}")
    if len(trace.arguments) != arguments or not lines.issuperset(trace.lines):
        raise ValueError(f"{name:.60}: a trace is of another program, with other arguments or lines")
    return trace


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {brief(value)}, not an object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what}: {brief(value)} is not a list")
    return value


def _field(fields: dict[str, Any], key: str) -> Any:
    if key not in fields:
        raise ValueError(f"{key} is missing")
    return fields[key]
