"""Curricula: which documents a model reads, in which order. A declaration of stages, not code that trains.

A stage is a sequence of phases read one after the other; a phase is a mixture of portions, shuffled together. A portion
names a group, a kind of document and how many times each program is rendered, each time anew (another surface template,
form and variables, another shown input). "Facts before implications": inside stage 1 the code is read until it can be
recited, and only then executed; without that order answers are memorised name by name and nothing transfers.
"""

import random
from dataclasses import dataclass

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, Entry, Group
from pbb_probe.programs.documents import TEMPLATES, Document, Kind, Mode, call_document, code_document


@dataclass(frozen=True)
class Portion:
    """`times` documents of `kind` for each program of `group`."""

    group: Group
    kind: Kind
    times: int


@dataclass(frozen=True)
class Stage:
    """One trainer's work. The learning rate warms up, holds and falls to zero within each stage."""

    name: str
    phases: tuple[tuple[Portion, ...], ...]
    rate: float = 1.0
    """Multiplies the configured learning rate."""


_RECITE = (Portion("with_io", "code", 34),)
_EXECUTE = (Portion("with_io", "code", 20), Portion("with_io", "io", 120), Portion("with_io", "trace", 20))
_STUDY = (Portion("without_io", "code", 240),)
_REPLAY = (Portion("with_io", "code", 12), Portion("with_io", "io", 32), Portion("with_io", "trace", 8))

CURRICULA: dict[str, tuple[Stage, ...]] = {
    # the paper's proactive order: first learn that code and its behaviour go together, then read code alone
    "proactive": (Stage("stage1", (_RECITE, _EXECUTE)), Stage("stage2", ((*_STUDY, *_REPLAY),), rate=2.0)),
    # the ablations that make the claim: neither stage does it alone
    "stage1_only": (Stage("stage1", (_RECITE, _EXECUTE)),),
    "stage2_only": (Stage("stage2_alone", (_STUDY,), rate=2.0),),
}


def get_curriculum(name: str) -> tuple[Stage, ...]:
    """The stages of a curriculum.

    Raises:
        PbbError: unknown name.
    """
    if name not in CURRICULA:
        raise PbbError(f"Unknown curriculum {name!r}: choose one of {', '.join(CURRICULA)}.")
    return CURRICULA[name]


def stage_documents(stage: Stage, corpus: Corpus, seed: int = 0) -> list[list[Document]]:
    """The documents of each phase in the order they are read.

    Raises:
        PbbError: the stage reads a group that has no programs in this corpus.
    """
    rng = random.Random(f"documents {stage.name} {seed}")
    phases = []
    for phase in stage.phases:
        documents = []
        for portion in phase:
            if not (entries := corpus.of(portion.group)):
                raise PbbError(f"{stage.name} reads {portion.group} programs and the corpus has none: add some.")
            documents += [_render(entry, portion.kind, k, rng) for entry in entries for k in range(portion.times)]
        rng.shuffle(documents)
        phases.append(documents)
    return phases


def _render(entry: Entry, kind: Kind, k: int, rng: random.Random) -> Document:
    if kind == "code":
        return code_document(entry.program, rng)
    mode: Mode = "direct" if kind == "io" else "trace"
    trace = entry.shown_traces[k % len(entry.shown)]
    return call_document(entry.program, trace, mode, rng.choice(TEMPLATES[mode]))
