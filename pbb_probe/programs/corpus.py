"""A corpus: programs in two groups, their traces, and which inputs a model may be shown the answer of."""

import functools
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.algorithms import algorithms_programs
from pbb_probe.programs.arithmetic import VALUES, arithmetic_programs, check_shapes
from pbb_probe.programs.ciphers import ciphers_programs
from pbb_probe.programs.composition import Usable, composed_programs
from pbb_probe.programs.describe import describe
from pbb_probe.programs.documents import call_document
from pbb_probe.programs.names import PACKAGED, nonsense_words
from pbb_probe.programs.own import Own, load_programs, renamed
from pbb_probe.programs.program import GROUPS, Group, Program, Trace, Value, label, trace_programs
from pbb_probe.programs.rows import read_row
from pbb_probe.programs.targets import call_targets
from pbb_probe.programs.templates import MODES, Mode, templates
from pbb_probe.programs.values import brief, path_text
from pbb_probe.store.records import refuse_damaged

if TYPE_CHECKING:
    import pandas as pd
    from datasets import DatasetDict

MOST_PROGRAMS = 100_000
"""More names than that are hardly to be had: the families' programs are called by nonsense words of six letters."""
N_INPUTS = 10  # of a program of the families

FAMILIES: dict[str, Callable[..., list[tuple[Program, list[tuple[Value, ...]]]]]] = {
    "arithmetic": lambda names, rng, shapes: [
        (program, [(value,) for value in VALUES]) for program in arithmetic_programs(names, rng, shapes)
    ],
    "algorithms": lambda names, rng, _: algorithms_programs(names, rng),
    "ciphers": lambda names, rng, _: ciphers_programs(names, rng),
}


@dataclass(frozen=True)
class Entry:
    """A program of the corpus with its traces, on inputs in their natural order."""

    program: Program
    group: Group
    traces: tuple[Trace, ...]
    shown: tuple[int, ...]
    """The places in `traces` of those whose answers may stand in a document; none for without_io."""

    @property
    def shown_traces(self) -> list[Trace]:
        """The traces on the shown inputs."""
        return [self.traces[place] for place in self.shown]

    def call(self, trace: Trace, mode: Mode, template: str, place: int) -> dict[str, Any]:
        """A row of `Corpus.calls`; a trace on an input that is not among the program's own has the place -1."""
        document = call_document(self.program, trace, mode, template)
        return {
            "prompt": document.prompt,
            "completion": document.completion,
            "template": template,
            "call": trace.call_text,
            "place": place,
            "program": self.program.name,
            "source": self.program.source,
            "family": self.program.family,
            "group": self.group,
            "seen": place in self.shown,
            **self.program.facts,
            **trace.variables(),
            **call_targets(self.program.source, trace),
        }


@dataclass(frozen=True)
class Corpus:
    """Programs with source and input/output examples (with_io) and programs with source only (without_io)."""

    entries: tuple[Entry, ...]
    config: dict[str, Any] = field(default_factory=dict, compare=False)
    """The arguments of `make_corpus` that make the same corpus again."""

    def of(self, group: Group) -> list[Entry]:
        """The entries of one group."""
        return [entry for entry in self.entries if entry.group == group]

    @functools.cached_property
    def by_name(self) -> dict[str, Entry]:
        """The entries by the names of their programs."""
        return {entry.program.name: entry for entry in self.entries}

    @functools.cached_property
    def outputs(self) -> list[str]:
        """Every output of its programs as it stands in an answer, once each: the possible answers."""
        return sorted({str(trace.variables()["output"]) for entry in self.entries for trace in entry.traces})

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
            A row a call: prompt, completion, template, call (the arguments as they stand in the prompt), place (of the
            input in its natural order), program, source (the program's text), family, group, steps and the program's
            other facts, seen (was the answer shown in training), input, state_1, ..., output, and branch_1, ...,
            iterations_1, ... of `targets.call_targets`, missing where a program has none.

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
            shuffled = [rng.sample(range(len(entry.traces)), len(entry.traces)) for entry in entries]
            if unseen:
                shuffled = [
                    [place for place in places if place not in entry.shown]
                    for entry, places in zip(entries, shuffled, strict=True)
                ]
            order = rng.sample(range(len(shuffled)), len(shuffled))
            turns = [(i, turn) for turn in range(max(map(len, shuffled))) for i in order if turn < len(shuffled[i])]
            if not turns:
                raise PbbError(
                    f"Every input of the {name} programs was shown: make the corpus with fewer shown_inputs."
                )
            for i, turn in turns[:n]:
                entry, place = entries[i], shuffled[i][turn]
                template = rng.choice(templates(entry.program.family, mode))
                rows.append(entry.call(entry.traces[place], mode, template, place))
        return pd.DataFrame(rows)

    def save(self, path: str | Path) -> None:
        """Write a folder: `corpus.jsonl` (a program a line), `config.json`, and a card, `README.md`."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / "corpus.jsonl").write_text(self._lines(), encoding="utf-8")
        (path / "config.json").write_text(json.dumps(self.config, indent=1), encoding="utf-8")
        (path / "README.md").write_text(_card(self), encoding="utf-8", errors="backslashreplace")

    @property
    def digest(self) -> str:
        """A hash of the content: the same programs, groups and shown inputs have the same."""
        return hashlib.sha256(self._lines().encode()).hexdigest()[:16]

    def _lines(self) -> str:
        return "".join(json.dumps(asdict(entry)) + "\n" for entry in self.entries)

    @classmethod
    def load(cls, path: str | Path) -> "Corpus":
        """Read the folder that `save` wrote.

        Raises:
            PbbError: a file is missing or is not a corpus, or was changed since the step of a run wrote it.
        """
        refuse_damaged(Path(path))
        try:
            lines = (Path(path) / "corpus.jsonl").read_text(encoding="utf-8").removesuffix("\n").split("\n")
            entries = tuple(Entry(*read_row(json.loads(line))) for line in lines)
            config = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise ValueError("its settings are no object")
            names = Counter(entry.program.name for entry in entries)
            if twice := next((name for name, n in names.items() if n > 1), None):
                raise ValueError(f"{twice:.60} is there twice")
        except (OSError, ValueError, TypeError, RecursionError, MemoryError) as error:
            raise PbbError(
                f"{path_text(path)} cannot be read as a corpus ({error}): make it anew with make_corpus."
            ) from error
        return cls(entries, config)

    def to_datasets(self) -> "DatasetDict":
        """A `datasets.DatasetDict` with a split a group and a row a program.

        Columns: name, family, source, description (empty where the rules have no words for it), facts (JSON), calls,
        and for each of its runs inputs (as they stand in a call), outputs and shown.
        """
        from datasets import Dataset, DatasetDict

        return DatasetDict(
            {group: Dataset.from_list([_row(entry) for entry in self.of(group)]) for group in GROUPS if self.of(group)}
        )


def make_corpus(
    family: str = "arithmetic",
    with_io: int = 850,
    without_io: int = 150,
    shown_inputs: int = 7,
    seed: int = 0,
    *,
    shapes: tuple[str, ...] = ("one_step", "two_steps", "two_steps"),
    composed_with_io: int = 0,
    composed_without_io: int = 0,
    programs: str | Path | None = None,
) -> Corpus:
    """Named programs in two groups, traced by running them.

    Args:
        family: which programs: `arithmetic`, `algorithms` or `ciphers`.
        with_io: how many programs have input/output examples.
        without_io: how many have source code only.
        shown_inputs: how many inputs of a with_io program (there are ten, in the families here) stand in its examples;
            the others are held out.
        seed: the same seed makes the same corpus.
        shapes: of arithmetic programs, in turn; see `arithmetic.SHAPES`.
        composed_without_io: further programs without examples that call one or two of the others.
        composed_with_io: the same with examples; they call programs with examples only, and show no held-out answer.
        programs: a file with programs of your own instead of a family, see `programs.own`. They get nonsense names, and
            those that name no group are divided in the proportion of with_io to without_io.

    Raises:
        PbbError: an unknown family, a negative or empty corpus, more inputs to show than there are, or programs that
            cannot be read or run.
    """
    _check_counts(
        with_io=with_io,
        without_io=without_io,
        composed_with_io=composed_with_io,
        composed_without_io=composed_without_io,
    )
    if with_io + without_io == 0:
        raise PbbError("A corpus needs at least one program: with_io and without_io are counts of programs.")
    if not isinstance(family, str) or (programs is None and family not in FAMILIES):
        raise PbbError(f"Unknown family {brief(family)}: choose one of {', '.join(FAMILIES)}.")
    if type(shown_inputs) is not int or shown_inputs < 1 or (programs is None and shown_inputs > N_INPUTS):
        most = f"and {N_INPUTS}, the inputs of a program" if programs is None else "and the inputs of a program"
        raise PbbError(f"shown_inputs must be a whole number between 1 {most}, not {brief(shown_inputs)}.")
    if type(seed) is not int or abs(seed) >= 2**63:
        raise PbbError(f"The seed must be a whole number of 64 bits, not {brief(seed)}.")
    check_shapes(shapes)
    if programs is not None and not isinstance(programs, str | Path):
        raise PbbError(f"The programs are given as the path of a file, not as {brief(programs)}.")
    config = {
        "family": family,
        "with_io": with_io,
        "without_io": without_io,
        "shown_inputs": shown_inputs,
        "seed": seed,
        "shapes": list(shapes),
        "composed_with_io": composed_with_io,
        "composed_without_io": composed_without_io,
        "programs": None if programs is None else str(programs),
    }
    rng = random.Random(f"corpus {family} {seed}")
    own = [] if programs is None else load_programs(programs)
    n = len(own) or with_io + without_io
    composed = composed_with_io + composed_without_io
    words = nonsense_words(max(n + composed, PACKAGED))
    names = rng.sample(words, n)
    if own:
        made, groups = _own_programs(own, names, with_io / (with_io + without_io), rng)
    else:
        made = FAMILIES[family](names, rng, tuple(shapes))
        groups = ["without_io" if i < without_io else "with_io" for i in range(n)]
    basic = [program for program, _ in made]
    run = [given.program for given in own] or basic  # a refusal names the user's own function
    traces = trace_programs(run, [inputs for _, inputs in made])
    entries = _entries(zip(basic, traces, strict=True), groups, shown_inputs, rng)
    # a random stream of their own: the other programs are the same with and without composed ones
    rng = random.Random(f"composition {family} {seed}")
    free = rng.sample(sorted(set(words) - set(names)), composed)
    basics = {entry.program.name: entry for entry in entries}

    def compose(names: list[str], callees: list[Entry], usable: Usable) -> list[tuple[Program, list[Trace]]]:
        return composed_programs(names, [e.program for e in callees], [e.traces for e in callees], rng, usable)

    for program, runs in compose(free[:composed_without_io], list(entries), lambda *_: True):
        entries += (Entry(program, "without_io", tuple(runs), ()),)
    # whatever has examples shows what it calls at work, so that it calls only programs with examples, on shown inputs
    callees = [entry for entry in basics.values() if entry.group == "with_io"]
    for program, runs in compose(free[composed_without_io:], callees, functools.partial(_showable, basics)):
        places = _showable(basics, program, runs)
        shown = tuple(sorted(rng.sample(places, min(shown_inputs, len(places)))))
        entries += (Entry(program, "with_io", tuple(runs), shown),)
    return Corpus(entries, config)


def _check_counts(**counts: object) -> None:
    """Refuse what are no counts before anything is made."""
    total = 0
    for name, count in counts.items():
        if type(count) is not int or count < 0:
            raise PbbError(
                f"{name} must be a whole number that is not negative, as counts of programs are, not {brief(count)}."
            )
        total += count
    if total > MOST_PROGRAMS:
        raise PbbError(f"A corpus has at most {MOST_PROGRAMS:,} programs: {', '.join(counts)} come to more.")


def _showable(callees: dict[str, Entry], program: Program, traces: list[Trace]) -> list[int]:
    """The places of the traces of a composed program that show no held-out answer of the two that it calls."""
    first, second = (callees[str(program.facts[fact])] for fact in ("callee_1", "callee_2"))
    held_out = [
        [trace.arguments for place, trace in enumerate(entry.traces) if place not in entry.shown]
        for entry in (first, second)
    ]
    return [
        place
        for place, trace in enumerate(traces)
        if trace.arguments not in held_out[0] and (trace.states[0],) not in held_out[1]
    ]


def _entries(
    runs: Iterable[tuple[Program, list[Trace]]], groups: list[Group], shown_inputs: int, rng: random.Random
) -> tuple[Entry, ...]:
    return tuple(
        Entry(program, group, tuple(traces), _shown(program, group, len(traces), shown_inputs, rng))
        for (program, traces), group in zip(runs, groups, strict=True)
    )


def _shown(program: Program, group: Group, n: int, shown: int, rng: random.Random) -> tuple[int, ...]:
    if not 0 < shown <= n:
        raise PbbError(f"shown_inputs must be between 1 and {n}, the inputs of {program.name}, not {shown}.")
    return () if group == "without_io" else tuple(sorted(rng.sample(range(n), shown)))


def _own_programs(
    own: list[Own], names: list[str], with_io: float, rng: random.Random
) -> tuple[list[tuple[Program, list[tuple[Value, ...]]]], list[Group]]:
    """The user's programs under nonsense names, and their groups."""
    naming = {given.program.name: name for given, name in zip(own, names, strict=True)}
    undivided = [i for i, given in enumerate(own) if given.group is None]
    examples = set(rng.sample(undivided, round(with_io * len(undivided))))
    groups: list[Group] = []
    for i, given in enumerate(own):
        groups.append(given.group or ("with_io" if i in examples else "without_io"))
    _refuse_shown_callees(own, groups)
    return [(renamed(given.program, naming), list(given.inputs)) for given in own], groups


def _refuse_shown_callees(own: list[Own], groups: list[Group]) -> None:
    """A program with examples would show a callee without examples at work. Where the group was drawn, change it."""
    place = {given.program.name: i for i, given in enumerate(own)}
    changed = True
    while changed:
        changed = False
        for i, given in enumerate(own):
            hidden = [callee for callee in given.program.calls if groups[place[callee]] == "without_io"]
            if groups[i] == "without_io" or not hidden:
                continue
            if given.group is not None:
                raise PbbError(
                    f"{given.program.name:.60} is to have examples and calls {hidden[0]:.60}, which has none: "
                    "its worked steps would show them; put both into one group."
                )
            groups[i], changed = "without_io", True


def _row(entry: Entry) -> dict[str, Any]:
    program = entry.program
    try:
        description = describe(program.source)
    except PbbError:
        description = ""
    return {
        "name": program.name,
        "family": program.family,
        "source": program.source,
        "description": description,
        "facts": json.dumps(program.facts),
        "calls": list(program.calls),
        "inputs": [trace.call_text for trace in entry.traces],
        "outputs": [str(label(trace.output)) for trace in entry.traces],
        "shown": [place in entry.shown for place in range(len(entry.traces))],
    }


def _card(corpus: Corpus) -> str:
    families = Counter((entry.program.family, entry.group) for entry in corpus.entries)
    rows = "\n".join(f"| {family} | {group} | {n} |" for (family, group), n in sorted(families.items()))
    example = corpus.entries[0].program.source if corpus.entries else ""
    settings = ", ".join(f"{name}={value!r}" for name, value in corpus.config.items())
    return f"""# A corpus of named programs

`corpus.jsonl` holds a program a line: its source, its facts, its group, its traces on every input, and `shown`, the
places of the inputs whose answers a model may be shown. with_io programs have source and examples, without_io
programs source only.

| family | group | programs |
|---|---|---|
{rows}

Made by `pbb_probe.make_corpus({settings})`. The first program:

```python
{example}
```
"""
