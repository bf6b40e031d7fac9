"""No leak: what a stage may show is checked document by document against the corpus, with answers by execution."""

import functools
import itertools
import re
from collections import Counter

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.curricula import CURRICULA, Portion, Stage, get_curriculum, stage_documents
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.documents import Document

STAGES = [stage for stages in CURRICULA.values() for stage in stages]


@functools.cache
def corpus() -> Corpus:
    return make_corpus(with_io=8, without_io=6, shown_inputs=4, seed=3)


@functools.cache
def phases(stage: Stage, seed: int = 0) -> list[list[Document]]:
    return stage_documents(stage, corpus(), seed=seed)


def documents(stage: Stage) -> list[Document]:
    return [document for phase in phases(stage) for document in phase]


def names(group: str) -> set[str]:
    return {entry.program.name for entry in corpus().of(group)}


def called_input(document: Document) -> int:
    (found,) = re.findall(rf"{document.program}(?:\(| on | of | maps )(\d)", document.prompt)
    return int(found)


def holds_call(text: str, name: str) -> bool:
    return bool(re.search(rf"{name}\W*(on|of|maps)?\W*\d", text))


def holds_code(text: str, name: str) -> bool:
    return f"def {name}(" in text or f"{name} = lambda" in text


def test_the_detectors_detect():
    assert holds_call("run dolvik on 3 :", "dolvik")
    assert holds_call("dolvik(3) =", "dolvik")
    assert not holds_call("def dolvik(x):\n    return x + 3", "dolvik")
    assert not holds_call("dolvik = lambda x: (x + 3)", "dolvik")
    assert holds_code("here :\ndolvik = lambda x: x", "dolvik")


def test_stage1_knows_no_without_io_program():
    for stage in STAGES:
        if stage.name != "stage1":
            continue
        text = "\n".join(document.text for document in documents(stage))
        assert not [name for name in names("without_io") if name in text]
        assert {document.program for document in documents(stage)} == names("with_io")


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_without_io_programs_are_never_called(stage: Stage):
    for document in documents(stage):
        for name in names("without_io"):
            assert not holds_call(document.text, name)
        if document.program in names("without_io"):
            assert document.kind == "code"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_no_held_out_answer_is_shown(stage: Stage):
    shown = {entry.program.name: set(entry.shown) for entry in corpus().entries}
    source = {entry.program.name: entry.program.source for entry in corpus().entries}
    for document in documents(stage):
        if document.kind == "code":
            continue
        value = called_input(document)
        assert value in shown[document.program]
        scope: dict = {}
        exec(source[document.program], scope)
        assert document.completion.split()[-1] == str(scope[document.program](value))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_no_document_holds_both_code_and_call(stage: Stage):
    every = names("with_io") | names("without_io")
    for document in documents(stage):
        mentioned = [name for name in every if name in document.text]
        assert mentioned == [document.program]
        code, call = holds_code(document.text, document.program), holds_call(document.text, document.program)
        assert (code, call) == ((True, False) if document.kind == "code" else (False, True))


def test_code_is_read_before_anything_is_executed():
    (stage1, _stage2) = get_curriculum("proactive")
    assert {document.kind for document in phases(stage1)[0]} == {"code"}
    assert {document.kind for document in phases(stage1)[1]} == {"code", "io", "trace"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_program_is_rendered_as_often_as_the_portions_say(stage: Stage):
    for portions, phase in zip(stage.phases, phases(stage), strict=True):
        expected: Counter = Counter()
        for portion in portions:
            for name in names(portion.group):
                expected[name, portion.kind] += portion.times
        assert Counter((document.program, document.kind) for document in phase) == expected


def test_counts_of_a_stage_written_by_hand():
    small = Stage("small", ((Portion("with_io", "io", 8),), (Portion("without_io", "code", 3),)))
    first, second = stage_documents(small, corpus())
    assert (len(first), len(second)) == (8 * 8, 6 * 3)
    uses = Counter((document.program, called_input(document)) for document in first)
    assert set(uses.values()) == {2}  # 8 renderings over 4 shown inputs
    assert len(uses) == 8 * 4


def test_renderings_vary_and_phases_are_mixed():
    (stage1, _) = get_curriculum("proactive")
    recite, execute = phases(stage1)
    for name in names("with_io"):
        assert len({document.text for document in recite if document.program == name}) > 20
    kinds = [document.kind for document in execute]
    assert sum(a != b for a, b in itertools.pairwise(kinds)) > len(kinds) / 4


def test_the_seed_decides():
    for stage in get_curriculum("proactive"):
        assert stage_documents(stage, corpus(), seed=0) == phases(stage)
        assert stage_documents(stage, corpus(), seed=1) != phases(stage)


def test_the_paper_order_and_its_ablations():
    assert [stage.name for stage in get_curriculum("proactive")] == ["stage1", "stage2"]
    assert get_curriculum("stage1_only") == get_curriculum("proactive")[:1]
    (alone,) = get_curriculum("stage2_only")
    assert {(document.program in names("without_io"), document.kind) for document in documents(alone)} == {
        (True, "code")
    }
    assert {document.program for document in documents(alone)} == names("without_io")


def test_stage2_reads_the_code_of_every_without_io_program():
    (_, stage2) = get_curriculum("proactive")
    assert names("without_io") <= {document.program for document in documents(stage2)}


def test_a_group_without_programs_is_refused():
    (stage1, stage2) = get_curriculum("proactive")
    with pytest.raises(PbbError, match="with_io"):
        stage_documents(stage1, make_corpus(with_io=0, without_io=2))
    with pytest.raises(PbbError, match="without_io"):
        stage_documents(stage2, make_corpus(with_io=2, without_io=0))


def test_an_unknown_curriculum_is_refused():
    with pytest.raises(PbbError, match="backwards"):
        get_curriculum("backwards")
