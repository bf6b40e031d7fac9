"""A trace: what one execution of a program did, line by line."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pbb_probe.programs.values import Value, fault, from_json, to_json, value_text
from pbb_probe.schema import shown

LARGEST_LABEL = 10**18
"""Of a whole number's absolute value, which 64 bits must hold."""


@dataclass(frozen=True)
class Trace:
    """One execution, as seen in the outermost call of the function: inner calls leave no lines of their own."""

    arguments: tuple[Value, ...]
    lines: tuple[int, ...]
    """Line numbers in the order they ran, the first line of the source being 1: the line events of `sys.settrace`."""
    changes: tuple[dict[str, Value], ...]
    """For each of these lines, the local variables that it assigned or changed, with their values afterwards."""
    output: Value
    gone: tuple[tuple[str, ...], ...] = ()
    """For each of these lines, the variables that have no value after it and had one before, as after `del`; empty if
    there are none in the whole trace. What holds no `Value`, such as a function, is no variable here."""
    defaults: Mapping[str, Value] = field(default_factory=dict)
    """The parameters that are not given by position, with their values at the start, such as defaults and `*rest`."""

    @property
    def states(self) -> tuple[Value, ...]:
        """The values assigned during the call, in order, without the output."""
        return tuple(value for changed in self.changes for value in changed.values())

    @property
    def input(self) -> int | str:
        """The input as labels and tables have it: a single whole number, or the arguments as written in a call."""
        if len(self.arguments) == 1:
            return label(self.arguments[0])
        return self.call_text

    @property
    def call_text(self) -> str:
        """The arguments as written in a call."""
        return ", ".join(map(value_text, self.arguments))

    def variables(self) -> dict[str, int | str]:
        """The trace as named variables: input, state_1, state_2, ..., output."""
        states = {f"state_{k}": label(state) for k, state in enumerate(self.states, start=1)}
        return {"input": self.input, **states, "output": label(self.output)}

    def variables_by_line(self, parameters: Sequence[str]) -> list[dict[str, Value]]:
        """For each line that ran, all local variables after it.

        Args:
            parameters: the names of the function's positional parameters, in order.

        Example:
            >>> trace = Trace((3,), (2, 3), ({"y": 4}, {}), 8)  # of def f(x): y = x + 1; return y * 2
            >>> trace.variables_by_line(["x"])
            [{'x': 3, 'y': 4}, {'x': 3, 'y': 4}]
        """
        known = {**dict(zip(parameters, self.arguments, strict=False)), **self.defaults}
        after = []
        for changed, gone in zip(self.changes, self.gone or [()] * len(self.lines), strict=True):
            known = {name: value for name, value in (known | changed).items() if name not in gone}
            after.append(known)
        return after

    def without_dicts(self) -> "Trace":
        """The trace as corpora of the families have it: their tables of constants are no states."""
        changes: tuple[dict[str, Value], ...] = tuple(
            {name: value for name, value in changed.items() if not isinstance(value, dict)} for changed in self.changes
        )
        return replace(self, changes=changes)


def label(value: Value) -> int | str:
    """A value as documents and labels have it: a whole number stays one, everything else becomes its Python text.

    A number beyond `LARGEST_LABEL` becomes text, too, since no array holds it.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_LABEL
    return value if is_number else value_text(value)  # type: ignore[return-value]


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """The trace in what `json` can write, its values as `to_json` writes them."""
    written: dict[str, Any] = {
        "arguments": [to_json(value) for value in trace.arguments],
        "lines": list(trace.lines),
        "changes": [_to_json(changed) for changed in trace.changes],
        "output": to_json(trace.output),
    }
    if trace.gone:
        written["gone"] = [list(names) for names in trace.gone]
    if trace.defaults:
        written["defaults"] = _to_json(trace.defaults)
    return written


def trace_from_json(
    arguments: Iterable[Value], lines: Any, changes: Any, output: Any, gone: Any = (), defaults: Any = None
) -> Trace:
    """The trace that `trace_to_json` or the child process wrote, of a call with these arguments.

    Raises:
        ValueError, TypeError, AttributeError, RecursionError: these are no fields of a trace.
    """
    trace = Trace(
        tuple(arguments),
        tuple(lines),
        tuple({name: from_json(value) for name, value in changed.items()} for changed in changes),
        from_json(output),
        tuple(map(tuple, gone)),
        {name: from_json(value) for name, value in (defaults or {}).items()},
    )
    if reason := trace_fault(trace):
        raise ValueError(reason)
    return trace


def trace_fault(trace: Trace) -> str | None:
    """What is wrong with the fields of a trace, in words; None if nothing is."""
    if any(type(line) is not int or line < 1 for line in trace.lines):
        return f"lines that are no numbers of lines: {shown(trace.lines)}"
    for what, of_lines in (("changes", trace.changes), ("removals", trace.gone or trace.changes)):
        if len(of_lines) != len(trace.lines):
            return f"{len(trace.lines)} lines, and {what} of {len(of_lines)}"
    if odd := [changed for changed in trace.changes if not isinstance(changed, dict)]:
        return f"changes that are no variables with their values: {shown(odd[0])}"
    for names in (*trace.changes, *trace.gone, trace.defaults):
        if odd_names := [name for name in names if not is_name(name)]:
            return f"a variable called {shown(odd_names[0])}"
    for value in (*trace.arguments, trace.output, *trace.states, *trace.defaults.values()):
        if reason := fault(value):
            return f"a value that is {reason}"
    return None


def is_name(name: object) -> bool:
    """Is this text that can be a name in Python?"""
    return isinstance(name, str) and name.isidentifier()


def _to_json(variables: Mapping[str, Value]) -> dict[str, Any]:
    return {name: to_json(value) for name, value in variables.items()}
