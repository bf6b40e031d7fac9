"""A corpus: programs in two groups, their traces, and the inputs whose answers a model may be shown."""

import functools
import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pbb_probe.errors import PbbError
from pbb_probe.programs.algorithms import algorithms_draws
from pbb_probe.programs.arithmetic import VALUES, arithmetic_draws, check_shapes
from pbb_probe.programs.ciphers import ciphers_draws
from pbb_probe.programs.composition import composed_entries
from pbb_probe.programs.drawing import NEW_SHARE, PROBLEM_SHARE, Draw, Made, drawn_programs
from pbb_probe.programs.entry import Entry as Entry
from pbb_probe.programs.given import Own
from pbb_probe.programs.meaning import Meaning, Taught, meanings
from pbb_probe.programs.names import PACKAGED, every_word, nonsense_words
from pbb_probe.programs.own import Naming, groups_for, names_for, renamed
from pbb_probe.programs.program import GROUPS as GROUPS
from pbb_probe.programs.program import LINES, Program, Trace
from pbb_probe.programs.program import Group as Group
from pbb_probe.programs.rows import read_row
from pbb_probe.programs.templates import MODES, Mode, templates
from pbb_probe.programs.trials import run_programs
from pbb_probe.programs.values import path_text
from pbb_probe.schema import AnyPlace, Lines, Name, Share, checks_arguments, refuse_unknown, whole
from pbb_probe.store.records import refuse_damaged

if TYPE_CHECKING:
    import pandas as pd
    from datasets import DatasetDict

MOST_PROGRAMS = 100_000
"""More names are hard to find: the families' programs are called by nonsense words of six letters."""
ProgramCount = Annotated[int, whole(0, MOST_PROGRAMS)]
CARD = """\
# A corpus of named programs

`corpus.jsonl` holds a program a line: its source, its facts, its group, its traces on every input, and `shown`, the
places of the inputs whose answers a model may be shown. with_io programs have source and examples, without_io
programs source only, and io_only programs, a control, examples only.

| family | group | programs |
|---|---|---|
{rows}

Made by `pbb_probe.make_corpus({settings})`. The first program:

```python
{example}
```
"""
N_INPUTS = 10  # of a program of the families


def _arithmetic_draws(rng: random.Random, shapes: tuple[str, ...]) -> Draw:
    draw = arithmetic_draws(rng, shapes)

    def with_inputs(place: int) -> Callable[[str], Made]:
        made = draw(place)
        return lambda name: (made(name), [(value,) for value in VALUES])

    return with_inputs


FAMILIES: dict[str, Callable[[random.Random, tuple[str, ...]], Draw]] = {
    "arithmetic": _arithmetic_draws,
    "algorithms": lambda rng, _: algorithms_draws(rng),
    "ciphers": lambda rng, _: ciphers_draws(rng),
}


@dataclass(frozen=True)
class Corpus:
    """Programs with source and examples (with_io), with source only (without_io), and with examples only (io_only).

    Example:
        >>> import pbb_probe as pbb
        >>> corpus = pbb.make_corpus("ciphers", with_io=3, without_io=1)
        >>> [len(corpus.of(group)) for group in ("with_io", "without_io")]
        [3, 1]
        >>> corpus.calls("direct", group="without_io", n=1)[["call", "output"]].to_dict("records")
        [{'call': "'that'", 'output': "'pvrw'"}]
    """

    entries: tuple[Entry, ...]
    config: dict[str, Any] = field(default_factory=dict, compare=False)
    """The arguments with which `make_corpus` makes the same corpus again."""

    def of(self, group: Group) -> list[Entry]:
        """The entries of one group."""
        return [entry for entry in self.entries if entry.group == group]

    @functools.cached_property
    def by_name(self) -> dict[str, Entry]:
        """The entries by the names of their programs."""
        return {entry.program.name: entry for entry in self.entries}

    @functools.cached_property
    def meaning(self) -> dict[str, Meaning]:
        """What each program computes and what its answers show, by its name."""
        taught = [
            Taught(entry.program, entry.traces, entry.group != "io_only", entry.group != "without_io")
            for entry in self.entries
        ]
        return dict(zip((entry.program.name for entry in self.entries), meanings(taught), strict=True))

    @functools.cached_property
    def outputs(self) -> list[str]:
        """Every distinct output of its programs, as written in an answer: the possible answers."""
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
            mode: `direct` asks for the answer at once, `trace` for worked steps. `recite` asks for no answer but for
                the program's code by its name: a row a program, without what only a call has.
            group: only this group.
            n: calls per group; all of them when None. Programs take turns, so that few are left out.
            seed: of the draw and of the surface templates.
            unseen: only inputs whose answers are never shown, so that no answer can have been memorised.

        Returns:
            A row a call: prompt, completion, template, call (the arguments as written in the prompt), place (of the
            input in its natural order), program, source (the program's text), family, group, steps and the program's
            other facts, function (an id, equal for programs with equal outputs on all inputs), novelty (of a program
            without examples, see `meaning.Novelty`; otherwise empty), decisive (does no simpler program give the
            answer?), explained_by (what does, in words; empty where nothing does), seen (is the answer shown in
            training?), input, state_1, ..., output, branch_1, ..., iterations_1, ... of `targets.call_targets`,
            pass_1, ... of `passes.pass_targets` (what a loop has made after each pass), and of calls with lists, texts
            or several arguments input_1, ..., input_length, output_1, ..., output_length of
            `elements.element_targets`; each missing where a call has none.

        Raises:
            PbbError: an unknown mode or group, a group without programs, or one without unseen inputs.
        """
        import pandas as pd

        refuse_unknown("mode", [mode], MODES)
        refuse_unknown("group", [] if group is None else [group], GROUPS)
        rows = []
        for name in [group] if group else [g for g in GROUPS if self.of(g)]:
            if not (entries := self.of(name)):
                raise PbbError(f"The corpus has no {name} programs: make it with {name} above 0.")
            rng = random.Random(f"calls {seed} {mode} {name}")
            if mode == "recite":
                chosen = rng.sample(entries, len(entries))[:n]
                for entry in chosen:
                    meaning = self.meaning[entry.program.name]
                    template = rng.choice(templates(entry.program.family, mode))
                    labels = {"function": meaning.function, "novelty": meaning.novelty}
                    rows.append(entry.recitation(template) | labels)
                continue
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
                meaning = self.meaning[entry.program.name]
                rows.append(entry.call(entry.traces[place], mode, template, place) | meaning.labels(place))
        return pd.DataFrame(rows)

    def save(self, path: str | Path) -> None:
        """Write a folder: `corpus.jsonl` (a program a line), `config.json`, and a card, `README.md`."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / "corpus.jsonl").write_text(self._lines(), encoding="utf-8")
        (path / "config.json").write_text(json.dumps(self.config, indent=1), encoding="utf-8")
        (path / "README.md").write_text(self._card(), encoding="utf-8", errors="backslashreplace")

    @property
    def digest(self) -> str:
        """A hash of the content, the same for the same programs, groups and shown inputs."""
        return hashlib.sha256(self._lines().encode()).hexdigest()[:16]

    def _lines(self) -> str:
        return "".join(json.dumps(entry.to_json()) + "\n" for entry in self.entries)

    @classmethod
    def load(cls, path: str | Path) -> "Corpus":
        """Read the folder that `save` wrote.

        Raises:
            PbbError: a file is missing or is not a corpus, or has changed since the step of a run wrote it.
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

        Columns: name, family, source, description (empty where the rules have no words for the program), facts (JSON),
        calls, and for each of its traces inputs (as written in a call), outputs and shown.
        """
        from datasets import Dataset, DatasetDict

        rows = {group: [entry.dataset_row() for entry in self.of(group)] for group in GROUPS}
        return DatasetDict({group: Dataset.from_list(each) for group, each in rows.items() if each})

    def _card(self) -> str:
        families = Counter((entry.program.family, entry.group) for entry in self.entries)
        rows = "\n".join(f"| {family} | {group} | {n} |" for (family, group), n in sorted(families.items()))
        example = self.entries[0].program.source if self.entries else ""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return CARD.format(rows=rows, settings=settings, example=example)


@checks_arguments
def make_corpus(
    family: Name = "arithmetic",
    with_io: ProgramCount = 850,
    without_io: ProgramCount = 150,
    shown_inputs: Annotated[int, whole(1, 10**6)] = 7,
    seed: Annotated[int, whole(1 - 2**63, 2**63 - 1)] = 0,
    *,
    io_only: ProgramCount = 0,
    new_functions: Share | None = NEW_SHARE,
    new_problems: Share = PROBLEM_SHARE,
    shapes: tuple[str, ...] = ("one_step", "two_steps", "two_steps"),
    composed_with_io: ProgramCount = 0,
    composed_without_io: ProgramCount = 0,
    programs: AnyPlace | None = None,
    names: Naming = "nonsense",
    comments: bool = True,
    lines: Lines = LINES,
    skip_failing: bool = False,
) -> Corpus:
    """Named programs in groups, traced by executing them.

    Args:
        family: which programs: `arithmetic`, `algorithms` or `ciphers`.
        with_io: how many programs have input/output examples.
        without_io: how many have source code only.
        shown_inputs: how many inputs of a with_io program (out of ten, in the families here) are in its examples; the
            others are held out.
        seed: the same seed makes the same corpus.
        io_only: how many programs have examples only, as many as a with_io program: a model never sees their code.
        new_functions: which share of the functions of without_io programs, at least, no program with examples
            computes, of each number of steps; programs with decisive calls are preferred. None draws programs as they
            come, as releases before 0.10 did. Of users' own programs it is not drawn: the label `novelty` says which
            are new.
        new_problems: which share of the problems or ciphers of without_io programs, rounded up, no program with
            examples is of: the novelty of their programs is `new_problem`. Arithmetic programs are of none.
        shapes: of arithmetic programs, in turn; see `arithmetic.SHAPES`.
        composed_with_io: how many further programs with examples call one or two of the others; these have examples,
            too, and no held-out answer is shown.
        composed_without_io: how many further programs without examples do.
        programs: a file with programs of your own instead of a family, see `programs.own`: functions (`.py`), or rows
            of `code`, `input` and `output` (`.jsonl`, `.parquet`, `.arrow`, a folder that `datasets` saved). Those
            without a group are divided in the proportion of with_io to without_io. The fact `id` is that of the file.
        names: of your own programs. `nonsense` gives each function a word that means nothing, wherever its name stands
            but in a value. `kept` keeps them; of several `f`, the second is `f_2`.
        comments: keep the text of your own programs to the letter, or write it without comments, blank lines and
            docstrings.
        lines: that a call of your own programs may run at most.
        skip_failing: leave out those of your own programs that do not run, with a warning, where otherwise the file is
            refused.

    Raises:
        PbbError: an unknown family, a negative or empty corpus, more shown inputs than there are, or programs that
            cannot be read or run.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus = pbb.make_corpus("arithmetic", with_io=2, without_io=1, seed=0)
        >>> print(corpus.entries[0].program.source)
        def nigtok(x):
            return x * 7 % 10
    """
    if with_io + without_io + io_only == 0:
        raise PbbError("A corpus needs at least one program: with_io, without_io and io_only count programs.")
    if with_io + without_io + io_only + composed_with_io + composed_without_io > MOST_PROGRAMS:
        raise PbbError(
            f"A corpus has at most {MOST_PROGRAMS:,} programs: with_io, without_io, io_only and composed_* have more."
        )
    if programs is None:
        refuse_unknown("family", [family], FAMILIES)
        if shown_inputs > N_INPUTS:
            raise PbbError(f"shown_inputs must be at most {N_INPUTS}, the inputs of a program, not {shown_inputs}.")
    check_shapes(shapes)
    refuse_unknown("naming", [names], get_args(Naming), "names")
    config = {
        "family": family,
        "with_io": with_io,
        "without_io": without_io,
        "shown_inputs": shown_inputs,
        "seed": seed,
        "io_only": io_only,
        "new_functions": new_functions,
        "new_problems": new_problems,
        "shapes": list(shapes),
        "composed_with_io": composed_with_io,
        "composed_without_io": composed_without_io,
        "programs": None if programs is None else str(programs),
        "names": names,
        "comments": comments,
        "lines": lines,
        "skip_failing": skip_failing,
    }
    rng = random.Random(f"corpus {family} {seed}")
    own, runs = ([], []) if programs is None else run_programs(programs, comments, lines, skip_failing)
    counts: dict[Group, int] = {"without_io": without_io, "with_io": with_io, "io_only": io_only}
    n = len(own) or sum(counts.values())
    n_composed = composed_with_io + composed_without_io
    if n + n_composed > MOST_PROGRAMS:
        raise PbbError(f"A corpus has at most {MOST_PROGRAMS:,} programs, and {path_text(programs)} holds {n:,}.")
    words = nonsense_words(max(n + n_composed, PACKAGED))
    chosen = rng.sample(words, n)
    used = set(chosen)
    if own:
        renaming = names_for(own, itertools.chain(chosen, (word for word in every_word() if word not in used)), names)
        used = {name for each in renaming for name in each.values()}
        groups = groups_for(own, counts, rng)
        drawn = _renamed(own, runs, renaming)
    else:
        groups = [group for group, number in counts.items() for _ in range(number)]
        functions = random.Random(f"new functions {family} {seed}")
        draw = FAMILIES[family](rng, tuple(shapes))
        drawn = drawn_programs(draw, chosen[:without_io], chosen[without_io:], new_functions, new_problems, functions)
    entries = []
    labels = [each.label for each in own] or chosen
    for (program, traces), group, label in zip(drawn, groups, labels, strict=True):
        if shown_inputs > len(traces):
            raise PbbError(
                f"shown_inputs must be between 1 and {len(traces)}, the inputs of {label:.60}, not {shown_inputs}."
            )
        shown = [] if group == "without_io" else sorted(rng.sample(range(len(traces)), shown_inputs))
        entries.append(Entry(program, group, tuple(traces), tuple(shown)))
    # a random stream of its own: composed programs leave the others as they are
    rng = random.Random(f"composition {family} {seed}")
    words = nonsense_words(max(len(used) + n_composed, PACKAGED))
    free = rng.sample(sorted(set(words) - used), n_composed)
    composed = composed_entries(free[:composed_without_io], free[composed_without_io:], entries, shown_inputs, rng)
    return Corpus((*entries, *composed), config)


def _renamed(
    own: Sequence[Own], traces: Iterable[list[Trace]], renaming: Iterable[Mapping[str, str]]
) -> list[tuple[Program, list[Trace]]]:
    """Users' programs under other names, each with its traces."""
    return [
        (renamed(each.program, names), of_program)
        for each, of_program, names in zip(own, traces, renaming, strict=True)
    ]
