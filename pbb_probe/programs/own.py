"""Users' own programs, from a file of rows or of functions, under names of their own and divided into groups.

| file | a program |
|---|---|
| `.jsonl`, `.parquet`, `.arrow`, a folder of `datasets` | a row: `code`, `input`, `output` or `source`, `inputs` |
| `.py` | a function, with a variable or a function `<function>_inputs` |

Functions of a Python file, and rows, may call one another by name where only one has that name.
"""

import builtins
import random
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pbb_probe.errors import PbbError
from pbb_probe.programs.given import Own, Refused, call_text
from pbb_probe.programs.program import Group, Program, Value
from pbb_probe.programs.python_programs import read_functions
from pbb_probe.programs.renaming import defined_names, free_names, renamed_text
from pbb_probe.programs.row_files import TABLES, jsonl_rows, table_rows
from pbb_probe.programs.row_programs import read_programs
from pbb_probe.programs.values import path_text
from pbb_probe.schema import shown

Naming = Literal["nonsense", "kept"]
"""Are users' programs called by nonsense words, or as they were?"""
_KINDS = ".jsonl, .py, .parquet or .arrow file, or a folder that the datasets library saved"


def load_programs(path: str | Path, comments: bool = True, skip_failing: bool = False) -> list[Own]:
    """The programs of a file; rows of one text are one program with all their inputs.

    Args:
        path: a `.jsonl`, `.py`, `.parquet` or `.arrow` file, or a folder that the `datasets` library saved.
        comments: keep texts as they are; otherwise without comments, blank lines and docstrings.
        skip_failing: leave out what is no program, with a warning.

    Raises:
        PbbError: the file cannot be read, or something in it is no program.
    """
    given = given_programs(path, comments)
    own = [each for each in given if isinstance(each, Own)]
    refuse([each for each in given if isinstance(each, Refused)], path, skip_failing and bool(own))
    return _joined(own)


def refuse(refused: Sequence[Refused], path: str | Path, skip: bool) -> None:
    """Refuse a file for what it holds, or warn that this is left out.

    Raises:
        PbbError: something is refused, and is not to be skipped. The message names the first and counts the others.
    """
    if not refused:
        return
    sentence = refused[0].sentence
    if others := len(refused) - 1:
        sentence = f"{sentence.removesuffix('.')} (and {others} more, see pbb-probe programs {path_text(path)})."
    if not skip:
        raise PbbError(sentence)
    warnings.warn(f"Programs are left out. {sentence}", stacklevel=2)


def given_programs(path: str | Path, comments: bool = True) -> list[Own | Refused]:
    """As `load_programs`, a program for each row, or why it is none.

    Raises:
        PbbError: the file as a whole cannot be read, or holds nothing.
    """
    where = path_text(path)
    try:
        path = Path(path).expanduser()
        where = path_text(path)
        if path.is_dir() or path.suffix in TABLES:
            if not path.exists():
                raise FileNotFoundError("there is no such file")
            given = read_programs(table_rows(path), where, "row", comments)
        elif path.suffix == ".py":
            given = read_functions(path.read_text(encoding="utf-8-sig"), where, comments)
        elif path.suffix == ".jsonl":
            given = read_programs(jsonl_rows(path.read_text(encoding="utf-8-sig")), where, "line", comments)
        else:
            raise PbbError(f"Programs are read from a {_KINDS}, not from {where}.")
    except (OSError, UnicodeDecodeError, ValueError, TypeError, RuntimeError) as error:  # no such home, no such path
        if isinstance(error, PbbError):
            raise
        raise PbbError(
            f"The programs in {where} cannot be read ({' '.join(str(error).split())}): give a {_KINDS}."
        ) from error
    if not given:
        raise PbbError(f"{where} holds no program.")
    programs = [each for each in given if isinstance(each, Own)]
    times = Counter(dict.fromkeys((own.program.name, own.program.source) for own in programs))
    names = Counter(name for name, _ in times)
    unique = {name for name, n in names.items() if n == 1}
    return [_calling(each, unique) if isinstance(each, Own) else each for each in given]


def renamed(program: Program, names: Mapping[str, str]) -> Program:
    """The program with its name, those of its functions, and those of the programs that it calls replaced.

    Args:
        program: the program.
        names: by the names before. Those that are missing stay, and those of anything else are no matter.
    """
    mine = {*defined_names(program.source), *program.calls}
    return replace(
        program,
        name=names.get(program.name, program.name),
        source=renamed_text(program.source, {old: new for old, new in names.items() if old in mine}),
        calls=tuple(names.get(callee, callee) for callee in program.calls),
    )


def names_for(own: Sequence[Own], words: Iterable[str], naming: Naming) -> list[dict[str, str]]:
    """For each program, the new names of its functions and of the programs that it calls, by those before.

    Args:
        own: the programs.
        words: nonsense words without end; those that a program contains are left out.
        naming: `nonsense` takes a word for each function. With `kept` names stay, but for programs of a name that an
            earlier one has: of several `f`, the second is called `f_2`.
    """
    taken = {*dir(builtins), *(word for each in own for word in re.findall(r"\w+", each.program.source))}
    free = (word for word in words if word not in taken)
    numbered = Counter(dict.fromkeys([each.program.name for each in own], 0))
    names = []
    for name in (each.program.name for each in own):
        numbered[name] += 1
        new = name
        while naming == "kept" and numbered[name] > 1 and (new := f"{name}_{numbered[name]}") in taken:
            numbered[name] += 1
        names.append(next(free) if naming == "nonsense" else new)
    by_name = {each.program.name: name for each, name in zip(own, names, strict=True)}
    renaming = []
    for each, name in zip(own, names, strict=True):
        callees = {callee: by_name[callee] for callee in each.program.calls}
        helpers = defined_names(each.program.source) if naming == "nonsense" else ()
        others = {helper: next(free) for helper in helpers if helper != each.program.name}
        renaming.append({**callees, **others, each.program.name: name})
    return renaming


def groups_for(own: Sequence[Own], counts: Mapping[Group, int], rng: random.Random) -> list[Group]:
    """The groups of the programs.

    Args:
        own: the programs.
        counts: the groups in whose proportion those that name no group are divided.
        rng: divides them.

    Raises:
        PbbError: a program that asks for examples calls one that has none.
    """
    undivided = [i for i, given in enumerate(own) if given.group is None]
    shuffled = rng.sample(undivided, len(undivided))
    drawn: dict[int, Group] = dict.fromkeys(shuffled, "without_io")
    for group in ("with_io", "io_only"):
        n = round(len(undivided) * counts[group] / sum(counts.values()))
        drawn |= dict.fromkeys(shuffled[:n], group)
        shuffled = shuffled[n:]
    groups: list[Group] = [given.group or drawn[i] for i, given in enumerate(own)]
    _refuse_shown_callees(own, groups)
    return groups


def _refuse_shown_callees(own: Sequence[Own], groups: list[Group]) -> None:
    """Refuse programs with examples that call one without: they would show it. Where the group was drawn, change it."""
    place = {given.program.name: i for i, given in enumerate(own)}
    changed = True
    while changed:
        changed = False
        for i, given in enumerate(own):
            hidden = [callee for callee in given.program.calls if groups[place[callee]] != "with_io"]
            if groups[i] == "without_io" or not hidden:
                continue
            if given.group is not None:
                raise PbbError(
                    f"{given.label:.60} is to have examples and calls {hidden[0]:.60}, which is not a with_io "
                    "program: its worked steps would show it; put both into one group."
                )
            groups[i], changed = "without_io", True


def _calling(own: Own, unique: set[str]) -> Own:
    """The program with the programs of its file that it calls; a text that is complete calls nothing of Python's."""
    known = unique - set(dir(builtins)) if own.alone else unique
    if known.isdisjoint(re.findall(r"\w+", own.program.source)):
        return own
    calls = tuple(name for name in free_names(own.program.source) if name in known)
    return replace(own, program=replace(own.program, calls=calls)) if calls else own


def _joined(given: Iterable[Own]) -> list[Own]:
    """The programs, those of one text as one: a shown input must not come again as an unseen one.

    Raises:
        PbbError: programs of one text ask for different groups, or give different outputs for one input.
    """
    by_text: dict[str, list[Own]] = {}
    for own in given:
        by_text.setdefault(own.program.source, []).append(own)
    return [_as_one(alike) for alike in by_text.values()]


def _as_one(alike: list[Own]) -> Own:
    first = alike[0]
    if other := next((own for own in alike if own.group != first.group), None):
        raise PbbError(f"{first.label:.60} and {other.label:.60} have one text and two groups: give them the same.")
    calls: dict[str, tuple[tuple[Value, ...], str | None]] = {}
    for own in alike:
        for arguments, output in zip(own.inputs, own.outputs, strict=True):
            text = call_text(arguments)
            known = calls.setdefault(text, (arguments, output))[1]
            if output is not None is not known and output != known:
                raise PbbError(
                    f"{own.label:.60} has two outputs for {shown(text)}, {known:.60} and {output:.60}: give one."
                )
    inputs, outputs = zip(*calls.values(), strict=True)
    return replace(first, inputs=inputs, outputs=outputs)
