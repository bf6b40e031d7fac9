"""The command `programs`: which of a user's programs run, why the others do not, and what each call does."""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.given import Own, Refused
from pbb_probe.programs.own import given_programs
from pbb_probe.programs.program import LINES, Trace
from pbb_probe.programs.syntax import parsed
from pbb_probe.programs.trials import tried
from pbb_probe.programs.values import path_text, value_text
from pbb_probe.schema import Lines, Place, check_fields
from pbb_probe.store.disk import write

SHOWN = 5
"""Programs named for each reason."""
MOST_REASONS = 20


@dataclass(frozen=True)
class ProgramsConfig:
    """Which programs are tried."""

    file: Place
    """A .py, .jsonl, .parquet or .arrow file, or a folder that the datasets library saved."""
    out: Place | None = None
    """A .jsonl file for the calls of the programs that run, a call a line. Those that do not run are written beside it,
    each with its reason, as <name>.refused.jsonl."""

    lines: Lines = LINES
    """Lines that a call may run."""

    def __post_init__(self) -> None:
        check_fields(self)


def programs(config: ProgramsConfig) -> None:
    """Try programs before anything is trained: which run, and why do the others not?"""
    out = None if config.out is None else Path(config.out).expanduser()
    if out is not None:
        _check_out(out, Path(config.file).expanduser())
    given = given_programs(config.file)
    own = [each for each in given if isinstance(each, Own)]
    outcomes = iter(tried(own, config.lines))
    tried_all = [(each, next(outcomes) if isinstance(each, Own) else each) for each in given]
    refused = [outcome for _, outcome in tried_all if isinstance(outcome, Refused)]
    ran = [(each, outcome) for each, outcome in tried_all if isinstance(each, Own) and not isinstance(outcome, Refused)]
    n_calls = sum(len(traces) for _, traces in ran)
    print(f"{path_text(config.file)}: {len(ran)} of {len(given)} programs run, {n_calls} calls.")
    for line in _summary(refused):
        print(line)
    if not ran:
        raise PbbError(f"No program of {path_text(config.file)} runs, the first for this reason: {refused[0].sentence}")
    if out is not None:
        _write(out, ran, refused)


def _check_out(out: Path, file: Path) -> None:
    """Refuse to write where nothing could be written in the end, or where the programs are."""
    if out.suffix != ".jsonl":
        raise PbbError(f"The calls are written as JSONL: give an --out that ends in .jsonl, not {path_text(out)}.")
    for path in (out, _refused_beside(out)):
        if path.resolve() == file.resolve():
            raise PbbError(f"{path_text(path)} holds the programs, and would be written: give another --out.")
        if path.is_dir():
            raise PbbError(f"{path_text(path)} is a folder, and a file would be written there: give another --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PbbError(f"{path_text(out)} cannot be written ({error.strerror}): give another --out.") from error


def _refused_beside(out: Path) -> Path:
    return out.with_suffix(".refused.jsonl")


def _summary(refused: Sequence[Refused]) -> Iterator[str]:
    """A line a kind of reason, the most frequent first: how many, and which."""
    kinds: dict[str, list[str]] = {}
    for each in refused:
        kinds.setdefault(re.sub(r"^line \d+: ", "", each.reason).split(": ")[0], []).append(f"{each.label:.60}")
    by_count = sorted(kinds.items(), key=lambda of_kind: -len(of_kind[1]))
    for kind, labels in by_count[:MOST_REASONS]:
        more = ", ..." if len(labels) > SHOWN else ""
        yield f"{len(labels):6}  {kind}: {', '.join(labels[:SHOWN])}{more}"
    if others := by_count[MOST_REASONS:]:
        yield f"{sum(len(labels) for _, labels in others):6}  for {len(others)} other reasons"


def _write(out: Path, ran: Sequence[tuple[Own, list[Trace]]], refused: Sequence[Refused]) -> None:
    """The calls and, beside them, the refused programs; the calls last, so that they are there only with the others."""
    reasons = ({"name" if each.id is None else "id": each.id or each.label, "reason": each.reason} for each in refused)
    calls = (_call(own, trace) for own, traces in ran for trace in traces)
    write(_refused_beside(out), "".join(json.dumps(row) + "\n" for row in reasons))
    write(out, "".join(json.dumps(row) + "\n" for row in calls))
    print(f"calls: {path_text(out)}")


def _call(own: Own, trace: Trace) -> dict[str, Any]:
    """A call as an object of JSON, its values as Python text; `variables` are all local ones after each line."""
    return {
        "name" if own.id is None else "id": own.id or own.label,
        "arguments": [value_text(argument) for argument in trace.arguments],
        "lines": list(trace.lines),
        "variables": [
            {name: value_text(value) for name, value in variables.items()}
            for variables in trace.variables_by_line(_parameters(own))
        ],
        "output": value_text(trace.output),
    }


def _parameters(own: Own) -> list[str]:
    """The names of the arguments that are given by place."""
    functions = [node for node in parsed(own.program.source).body if isinstance(node, ast.FunctionDef)]
    function = next(node for node in functions if node.name == own.program.name)
    return [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
