"""Reading a row of `corpus.jsonl`: every field is checked for its type, and the fields against one another."""

import ast
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from pbb_probe.programs.program import Group, Program, Trace
from pbb_probe.programs.syntax import function_of
from pbb_probe.programs.trace import trace_from_json
from pbb_probe.programs.values import from_json
from pbb_probe.programs.whitelist import check_source
from pbb_probe.schema import shown

Row = tuple[Program, Group, tuple[Trace, ...], tuple[int, ...]]
"""The fields of an `Entry`."""


def _writable(text: str) -> str:
    text.encode()  # there may be half a surrogate pair in it
    return text


Text = Annotated[str, AfterValidator(_writable)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Program(_Strict, extra="forbid"):
    name: Text
    family: Text
    source: Text
    facts: dict[Text, int | bool | Text] = {}
    calls: list[Text] = []


class _Trace(_Strict):
    arguments: list[Any]
    lines: list[Any]
    changes: list[Any]
    output: Any
    gone: list[Any] = []
    defaults: dict[str, Any] = {}


class _Row(_Strict):
    program: _Program
    group: Group
    traces: list[_Trace]
    shown: list[int]


def read_row(row: Any) -> Row:
    """The program, its group, its traces and the places of the shown ones, from an object of JSON.

    Raises:
        ValueError: a field is missing or wrong; the message can stand in brackets.
    """
    try:
        fields = _Row.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "a row"
        raise ValueError(f"{where:.200}: {first['msg']}, not {shown(first['input'])}") from error
    program = Program(**{**dict(fields.program), "calls": tuple(fields.program.calls)})
    check_source(program.name, program.source, program.calls)
    function = function_of(program.source, program.name)
    traces = tuple(_trace(program.name, each, function) for each in fields.traces)
    places = fields.shown
    if not set(places) <= set(range(len(traces))) or len(set(places)) < len(places):
        raise ValueError(f"{program.name:.60}: shown inputs that are not there: {shown(places)}")
    return program, fields.group, traces, tuple(places)


def _trace(name: str, fields: _Trace, function: ast.FunctionDef) -> Trace:
    try:
        arguments = map(from_json, fields.arguments)
        trace = trace_from_json(arguments, fields.lines, fields.changes, fields.output, fields.gone, fields.defaults)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{name:.60}: a trace has {error}") from error
    positional = [*function.args.posonlyargs, *function.args.args]
    least, most = len(positional) - len(function.args.defaults), len(positional)
    lines = {getattr(node, "lineno", 0) for node in ast.walk(function)}
    fits = least <= len(trace.arguments) and (function.args.vararg or len(trace.arguments) <= most)
    if not fits or not lines.issuperset(trace.lines):
        raise ValueError(f"{name:.60}: a trace is of another program, with other arguments or lines")
    return trace
