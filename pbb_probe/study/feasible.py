"""What a study asks of a corpus, found out before anything is trained: a dry pass over what its later steps draw.

No model is needed for it, only the tokenizer of the base: groups, unseen inputs, folds, classes and partners follow
from the programs and the seed. What a later step leaves out with a sentence, such as a transfer map without pairs, is
not asked for here.
"""

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.curricula import CURRICULA, get_curriculum
from pbb_probe.labels import AUTO, NONE, cluster_label
from pbb_probe.models.bases import load_tokenizer
from pbb_probe.models.tokens import refuse_unknown
from pbb_probe.patching.pairs import SWAPS, has_pair
from pbb_probe.probing.folds import assigned_folds
from pbb_probe.probing.groups import halves_of_groups
from pbb_probe.probing.tasks import Task
from pbb_probe.programs.corpus import Corpus, Entry, Group
from pbb_probe.programs.documents import Document, call_document, program_document
from pbb_probe.programs.program import Trace
from pbb_probe.programs.templates import Mode, templates
from pbb_probe.runs.config import StudyConfig
from pbb_probe.schema import shown
from pbb_probe.study.steps import groups_there

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ProgramKind = Literal["code", "description"]
PROGRAM_KINDS: tuple[ProgramKind, ...] = get_args(ProgramKind)
COMPARED: tuple[Group, ...] = ("with_io", "without_io")
"""The groups without which there is no study; others are measured where they are there."""


def check_feasible(config: StudyConfig, corpus: Corpus) -> None:
    """Refuse a study whose corpus lacks what is read, probed or patched.

    Raises:
        PbbError: a group without programs or without unseen inputs, a program without words, or with some that the
            base's tokenizer lacks, more folds than programs, a target without two values wherever a probe is fitted, or
            a swap without a pair.
    """
    _check_groups(config, corpus)
    _check_documents(config, corpus)
    _check_probing(config, corpus)
    for swap in SWAPS:
        for group in groups_there(corpus):
            if not has_pair(corpus, swap, group, config.patching.pairs, config.seed, config.patching.unseen_inputs):
                raise PbbError(
                    f"Patching swaps the {swap}, and no {group} call has a partner of as many steps with another "
                    f"{swap} and another answer: {_more(config, group)}."
                )


def _check_groups(config: StudyConfig, corpus: Corpus) -> None:
    for group in COMPARED:
        if not corpus.of(group):
            raise PbbError(
                f"The study compares with_io and without_io programs, and there are no {group} ones: "
                f"{_more(config, group)}."
            )
    for group in groups_there(corpus):
        entries = corpus.of(group)
        all_shown = all(len(entry.shown) == len(entry.traces) for entry in entries)
        for step in ("probing", "patching"):
            if all_shown and getattr(config, step).unseen_inputs:
                raise PbbError(
                    f"Every input of the {group} programs is shown, and {step}.unseen_inputs asks for others: lower "
                    "corpus.shown_inputs, or give the programs more inputs."
                )


def _check_documents(config: StudyConfig, corpus: Corpus) -> None:
    """Refuse programs that the curriculum reads in words that they, or the base's tokenizer, do not have."""
    stages = (*get_curriculum(config.curriculum), *CURRICULA["stage2_only"])
    read = {(portion.group, portion.kind) for stage in stages for phase in stage.phases for portion in phase}
    rng, documents, known = random.Random(config.seed), list[Document](), set[str]()
    for entry in corpus.entries:
        for kind in PROGRAM_KINDS:
            if (entry.group, kind) in read:
                documents.append(_program_document(config, entry, kind, rng))
        calls: list[tuple[Mode, Sequence[Trace]]] = [("direct", _with_new_words(entry, known))]
        if (entry.group, "trace") in read:
            calls.append(("trace", entry.shown_traces))
        for mode, traces in calls:
            template = templates(entry.program.family, mode)[0]
            documents += [call_document(entry.program, trace, mode, template) for trace in traces]
    tokenizer = load_tokenizer(config.base)
    texts = [document.text for document in documents]
    for text, ids in zip(texts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True):
        refuse_unknown(tokenizer, ids, text)


def _with_new_words(entry: Entry, known: set[str]) -> list[Trace]:
    """The first call of a program, and those whose input or output no call before had: any may be asked or answered."""
    found = []
    for i, trace in enumerate(entry.traces):
        words = {trace.call_text, str(trace.variables()["output"])}
        if i == 0 or not words <= known:
            found.append(trace)
        known |= words
    return found


def _program_document(config: StudyConfig, entry: Entry, kind: ProgramKind, rng: random.Random) -> Document:
    try:
        return program_document(entry.program, kind, rng)
    except PbbError as error:
        raise PbbError(
            f"The curriculum {config.curriculum} reads programs in words, and there are none for "
            f"{shown(entry.program.source)}: write it in simpler statements, or choose another curriculum."
        ) from error


def _check_probing(config: StudyConfig, corpus: Corpus) -> None:
    """Refuse what probes, the lens or the interchange could not be fitted to in the calls that will be drawn."""
    probing = config.probing
    calls = corpus.calls("direct", n=probing.prompts, seed=config.seed, unseen=probing.unseen_inputs)
    for name in ("targets", "lens", "interchange"):
        if lacking := [one for one in getattr(probing, name) if one not in calls]:
            raise PbbError(
                f"probing.{name} names {lacking[0]!r}, which none of the calls that are probed has: leave it out, or "
                "raise probing.prompts."
            )
    unit = cluster_label(calls, AUTO)
    clusters = calls.groupby("group")[unit].nunique()
    for group in groups_there(corpus):
        if clusters[group] < probing.folds:
            raise PbbError(
                f"probing.folds is {probing.folds}, and {clusters[group]} {group} {unit}s are probed: lower it, raise "
                f"probing.prompts, or {_more(config, group)}."
            )
    for group, rows, part in _fitted_on(config, calls, groups_there(corpus)):
        for name in probing.targets:
            if calls[name][rows].nunique() < 2:
                raise PbbError(
                    f"probing.targets names {name!r}, which has fewer than two values in {part} of the {group} calls "
                    f"that are probed: leave it out, raise probing.prompts, or {_more(config, group)}."
                )
    for name in probing.targets:
        Task.of(NONE, calls[name], "logistic")  # refuses values that cannot be sorted


def _fitted_on(
    config: StudyConfig, calls: "pd.DataFrame", groups: Sequence[Group]
) -> "Iterator[tuple[Group, np.ndarray, str]]":
    """The rows [call] of each group on which some probe is fitted, and which part of the group they are."""
    import pandas as pd

    folds, labels = config.probing.folds, calls["group"].to_numpy()
    clusters = calls[cluster_label(calls, AUTO)]
    codes = pd.factorize(clusters)[0]
    halves = halves_of_groups(clusters.tolist(), labels, groups, config.seed)
    for group in groups:
        fold = assigned_folds(codes, folds, labels == group, config.seed)
        for k in range(folds):
            yield group, (labels == group) & (fold != k), f"{folds - 1} of {folds} folds"
        for k in (0, 1):
            yield group, halves[group, k], "half"


def _more(config: StudyConfig, group: Group) -> str:
    """What to do about a group that is too small or too uniform."""
    if config.corpus.programs is None:
        return f"raise corpus.{group}"
    return f"give corpus.programs more and other {group} programs"
