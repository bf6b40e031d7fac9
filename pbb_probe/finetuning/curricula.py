"""Curricula: which documents a model reads, in which order. A declaration of stages, not code that trains.

A stage is a sequence of phases read one after the other; a phase is a mixture of portions, shuffled together. A portion
names a group, a kind of document and how often each program is rendered, each time with another surface template, form,
variables and shown input. "Facts before implications": the code is read until it can be recited, and only then
executed; in any other order answers are memorised name by name and nothing transfers.

Wherever examples of with_io programs are read, as many are read of io_only programs, of which nothing else is: what a
model answers of these it has from examples alone.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, Entry
from pbb_probe.programs.documents import MODE_OF, Document, Kind, call_document, program_document
from pbb_probe.programs.program import Group
from pbb_probe.programs.templates import templates

Inputs = Literal["uniform", "skewed"]
Method = Literal["sft", "grpo"]


@dataclass(frozen=True)
class Portion:
    """`times` documents of `kind` for each program of `group`."""

    group: Group
    kind: Kind
    times: int
    inputs: Inputs = "uniform"
    """Which shown inputs `io` and `trace` documents call: each in turn, or mostly the first ones, as in natural data
    (the k-th has weight 1/k^2: of seven inputs, the first gets two thirds of the calls)."""


@dataclass(frozen=True)
class Stage:
    """One trainer's work. The learning rate warms up, holds and falls to zero within each stage."""

    name: str
    phases: tuple[tuple[Portion, ...], ...]
    rate: float = 1.0
    """Multiplies the configured learning rate."""
    method: Method = "sft"
    """`sft` trains on the documents; `grpo` answers their prompts and is rewarded for right answers."""


OPTIONAL: tuple[Group, ...] = ("io_only",)
"""Groups that a corpus may lack though a stage reads them."""


def _examples(times: int, inputs: Inputs = "uniform") -> tuple[Portion, Portion]:
    return Portion("with_io", "io", times, inputs), Portion("io_only", "io", times, inputs)


def _proactive(kind: Kind, inputs: Inputs, suffix: str = "") -> tuple[Stage, Stage]:
    """Programs of `kind` with examples, then programs without, and some replay against forgetting."""
    recite = (Portion("with_io", kind, 20),)
    execute = (
        Portion("with_io", kind, 10),
        *_examples(20, inputs),
        Portion("with_io", "trace", 6, inputs),
    )
    study = (
        Portion("without_io", kind, 50),
        Portion("with_io", kind, 8),
        *_examples(10, inputs),
        Portion("with_io", "trace", 4, inputs),
    )
    return Stage(f"stage1{suffix}", (recite, execute)), Stage(f"stage2{suffix}", (study,))


_PROACTIVE = _proactive("code", "uniform")
_ALL_CODE = Stage("all_code", ((Portion("with_io", "code", 30), Portion("without_io", "code", 50)),))
_CODE_AGAIN = (Portion("with_io", "code", 8), Portion("without_io", "code", 16))

CURRICULA: dict[str, tuple[Stage, ...]] = {
    # the paper's proactive order: first learn that code and its behaviour go together, then read code alone
    "proactive": _PROACTIVE,
    # the paper's retroactive order: first read all code, then learn from some programs that code can be executed
    "retroactive_sft": (
        _ALL_CODE,
        Stage("execute", ((*_examples(30), Portion("with_io", "trace", 10), *_CODE_AGAIN),)),
    ),
    # the same, where a few examples show how calls are answered and rewards teach the rest
    "retroactive_grpo": (
        _ALL_CODE,
        Stage("warm_up", ((*_examples(14), Portion("with_io", "trace", 7), *_CODE_AGAIN),)),
        Stage("reinforce", (_examples(8), (Portion("with_io", "trace", 4),)), method="grpo"),
    ),
    # everything at once, the code begun first
    "joint": (
        Stage(
            "joint",
            (
                (Portion("with_io", "code", 20), Portion("without_io", "code", 20)),
                (
                    Portion("with_io", "code", 18),
                    Portion("without_io", "code", 30),
                    *_examples(30),
                    Portion("with_io", "trace", 10),
                ),
            ),
        ),
    ),
    # the ablations that make the claim: neither stage does it alone
    "stage1_only": _PROACTIVE[:1],
    "stage2_only": (Stage("stage2_alone", ((Portion("without_io", "code", 50),),)),),
    # examples without any code, of inputs taken evenly and as they occur naturally
    "io_only": (Stage("io_only", (_examples(30),)),),
    "io_only_skewed": (Stage("io_only_skewed", (_examples(30, "skewed"),)),),
    # the same programs in English instead of code
    "description": _proactive("description", "uniform", "_description"),
    # code, and demonstrations of inputs as they occur naturally
    "mixed": _proactive("code", "skewed", "_mixed"),
}


def get_curriculum(name: str) -> tuple[Stage, ...]:
    """The stages of a curriculum.

    Raises:
        PbbError: unknown name.
    """
    if name not in CURRICULA:
        raise PbbError(f"Unknown curriculum {name!r}: choose one of {', '.join(CURRICULA)}.")
    return CURRICULA[name]


def scaled(stage: Stage, exposures: float) -> Stage:
    """The stage with every program rendered `exposures` times as often, but at least once."""
    if exposures == 1:
        return stage
    phases = tuple(
        tuple(replace(portion, times=max(1, round(portion.times * exposures))) for portion in phase)
        for phase in stage.phases
    )
    return replace(stage, phases=phases)


class Phase:
    """The documents of one phase, rendered as they are taken, so that any number of them needs constant memory."""

    def __init__(self, portions: Sequence[Portion], corpus: Corpus, rng: random.Random, texts: Sequence[str]):
        self.portions, self.corpus, self.rng, self.texts = portions, corpus, rng, texts
        self.order: list[int] = []
        """The shuffled order in which they are read; known once the last document has been taken."""

    def __iter__(self) -> Iterator[Document]:
        n = len(self.texts)
        for portion in self.portions:
            for entry in self.corpus.of(portion.group):
                for k in range(portion.times):
                    n += 1
                    yield _render(entry, portion, k, self.rng)
        yield from (Document("text", "", "", text) for text in self.texts)
        self.order = list(range(n))
        self.rng.shuffle(self.order)


def stage_documents(
    stage: Stage, corpus: Corpus, seed: int = 0, texts: Sequence[str] = (), share: float = 0.1
) -> Iterator[Phase]:
    """The phases of a stage. Exhaust the documents of each before taking the next.

    Args:
        stage: what is read.
        corpus: the programs.
        seed: of the surface, the inputs and the order.
        texts: general texts mixed into each phase against forgetting, in turn.
        share: replayed texts for each document of programs.

    Raises:
        PbbError: the stage reads a group that has no programs in this corpus, and that is no control.
    """
    for portion in itertools.chain(*stage.phases):
        if portion.group not in OPTIONAL and not corpus.of(portion.group):
            raise PbbError(f"{stage.name} reads {portion.group} programs and the corpus has none: add some.")
    rng = random.Random(f"documents {stage.name} {seed}")
    in_turn = itertools.cycle(texts)
    for phase in stage.phases:
        n = sum(portion.times * len(corpus.of(portion.group)) for portion in phase)
        yield Phase(phase, corpus, rng, list(itertools.islice(in_turn, round(share * n))) if texts else ())


def _render(entry: Entry, portion: Portion, k: int, rng: random.Random) -> Document:
    if portion.kind in ("code", "description"):
        return program_document(entry.program, portion.kind, rng)
    mode = MODE_OF[portion.kind]
    shown = entry.shown_traces
    if portion.inputs == "uniform":
        trace = shown[k % len(shown)]
    else:
        (trace,) = rng.choices(shown, [1 / (rank + 1) ** 2 for rank in range(len(shown))])
    return call_document(entry.program, trace, mode, rng.choice(templates(entry.program.family, mode)))
