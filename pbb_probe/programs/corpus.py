"""A corpus: programs in two groups, their traces, and which inputs a model may be shown the answer of."""

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.programs.arithmetic import VALUES, arithmetic_programs
from pbb_probe.programs.documents import MODES, TEMPLATES, Mode, call_document
from pbb_probe.programs.names import PACKAGED, nonsense_words
from pbb_probe.programs.program import Program, Trace, trace_programs

if TYPE_CHECKING:
    import pandas as pd

Group = Literal["with_io", "without_io"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class Entry:
    """A program of the corpus: `shown` are the inputs whose answers may stand in a document (none for without_io)."""

    program: Program
    group: Group
    traces: tuple[Trace, ...]
    shown: tuple[int, ...]

    @property
    def shown_traces(self) -> list[Trace]:
        """The traces on the shown inputs."""
        return [trace for trace in self.traces if trace.input in self.shown]


@dataclass(frozen=True)
class Corpus:
    """Programs with source and input/output examples (with_io) and programs with source only (without_io)."""

    entries: tuple[Entry, ...]

    def of(self, group: Group) -> list[Entry]:
        """The entries of one group."""
        return [entry for entry in self.entries if entry.group == group]

    def calls(
        self,
        mode: Mode = "direct",
        group: Group | None = None,
        n: int | None = None,
        seed: int = 0,
        unseen: bool = False,
    ) -> "pd.DataFrame":
        """Every program on every input as a prompt, or `n` of them a group drawn at random.

        Args:
            mode: `direct` asks for the answer at once, `trace` for worked steps.
            group: only this group.
            n: how many calls a group; all of them when None. Programs take turns, so that few are left out.
            seed: of the draw and of the surface templates.
            unseen: only inputs whose answers were never shown, so that nothing can be answered by heart.

        Returns:
            A row a call: prompt, completion, template, program, group, steps and the program's other facts, seen
            (was the answer shown in training), input, state_1, ..., output.

        Raises:
            PbbError: an unknown mode or group, a group without programs, or one without unseen inputs.
        """
        import pandas as pd

        if mode not in MODES:
            raise PbbError(f"Unknown mode {mode!r}: choose one of {', '.join(MODES)}.")
        if group is not None and group not in GROUPS:
            raise PbbError(f"Unknown group {group!r}: choose one of {', '.join(GROUPS)}.")
        rows = []
        for name in [group] if group else [g for g in GROUPS if self.of(g)]:
            if not (entries := self.of(name)):
                raise PbbError(f"The corpus has no {name} programs: make it with {name} above 0.")
            rng = random.Random(f"calls {seed} {mode} {name}")
            shuffled = [rng.sample(entry.traces, len(entry.traces)) for entry in entries]
            if unseen:
                shuffled = [
                    [trace for trace in traces if trace.input not in entry.shown]
                    for entry, traces in zip(entries, shuffled, strict=True)
                ]
            order = rng.sample(range(len(shuffled)), len(shuffled))
            turns = [(i, turn) for turn in range(max(map(len, shuffled))) for i in order if turn < len(shuffled[i])]
            if not turns:
                raise PbbError(
                    f"Every input of the {name} programs was shown: make the corpus with fewer shown_inputs."
                )
            for i, turn in turns[:n]:
                entry, trace = entries[i], shuffled[i][turn]
                template = rng.choice(TEMPLATES[mode])
                document = call_document(entry.program, trace, mode, template)
                rows.append(
                    {
                        "prompt": document.prompt,
                        "completion": document.completion,
                        "template": template,
                        "program": entry.program.name,
                        "group": entry.group,
                        "seen": trace.input in entry.shown,
                        **entry.program.facts,
                        **trace.variables(),
                    }
                )
        return pd.DataFrame(rows)

    def save(self, path: str | Path) -> None:
        """Write one JSON object a program to `path` (JSONL)."""
        Path(path).write_text(self._lines())

    @property
    def digest(self) -> str:
        """A hash of the content: the same programs, groups and shown inputs have the same."""
        return hashlib.sha256(self._lines().encode()).hexdigest()[:16]

    def _lines(self) -> str:
        return "".join(json.dumps(asdict(entry)) + "\n" for entry in self.entries)

    @classmethod
    def load(cls, path: str | Path) -> "Corpus":
        """Read what `save` wrote.

        Raises:
            PbbError: the file is missing or is not a corpus.
        """
        try:
            rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
            return cls(tuple(_entry(row) for row in rows))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PbbError(f"{path} cannot be read as a corpus ({error}): make it anew with make_corpus.") from error


def make_corpus(
    family: str = "arithmetic", with_io: int = 850, without_io: int = 150, shown_inputs: int = 7, seed: int = 0
) -> Corpus:
    """Named programs in two groups, made at random and traced by running them.

    Args:
        family: which programs; `arithmetic` has one step in a third of its programs and two in the rest.
        with_io: how many programs have input/output examples.
        without_io: how many have source code only.
        shown_inputs: how many of the ten inputs of a with_io program stand in its examples; the others are held out.
        seed: the same seed makes the same corpus.

    Raises:
        PbbError: an unknown family, a negative or empty corpus, or more inputs to show than there are.
    """
    if family != "arithmetic":
        raise PbbError(f"Unknown family {family!r}: choose arithmetic.")
    if with_io < 0 or without_io < 0 or with_io + without_io == 0:
        raise PbbError("A corpus needs at least one program: with_io and without_io are counts of programs.")
    if not 0 < shown_inputs <= len(VALUES):
        raise PbbError(f"shown_inputs must be between 1 and {len(VALUES)}, not {shown_inputs}.")
    rng = random.Random(f"corpus {family} {seed}")
    n = with_io + without_io
    names = rng.sample(nonsense_words(max(n, PACKAGED)), n)
    programs = arithmetic_programs(names, rng)
    traces = trace_programs(programs, [VALUES] * n)
    return Corpus(
        tuple(
            Entry(program, "without_io", tuple(runs), ())
            if i < without_io
            else Entry(program, "with_io", tuple(runs), tuple(sorted(rng.sample(VALUES, shown_inputs))))
            for i, (program, runs) in enumerate(zip(programs, traces, strict=True))
        )
    )


def _entry(row: dict) -> Entry:
    def trace(fields: dict) -> Trace:
        return Trace(fields["input"], tuple(fields["states"]), tuple(fields["lines"]), fields["output"])

    if row["group"] not in GROUPS:
        raise ValueError(f"unknown group {row['group']!r}")
    return Entry(Program(**row["program"]), row["group"], tuple(map(trace, row["traces"])), tuple(row["shown"]))
