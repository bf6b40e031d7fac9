"""No leak: what a stage may show is checked document by document against the corpus, with answers by execution."""

import ast
import functools
import itertools
import re
from collections import Counter
from dataclasses import replace

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.curricula import CURRICULA, Phase, Portion, Stage, get_curriculum, scaled, stage_documents
from pbb_probe.models.answers import is_right, read_answer
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.describe import read_description
from pbb_probe.programs.documents import Document

STAGES = list(dict.fromkeys(stage for stages in CURRICULA.values() for stage in stages))
FIRST = [stage for stage in STAGES if stage.name.startswith("stage1")]
KINDS = {"code", "description"}
every_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


def in_order(phase: Phase) -> list[Document]:
    """The documents of a phase in the order in which they are read."""
    made = list(phase)
    assert sorted(phase.order) == list(range(len(made)))
    return [made[i] for i in phase.order]


@functools.cache
def corpus() -> Corpus:
    return make_corpus(with_io=8, without_io=6, shown_inputs=4, seed=3)


@functools.cache
def phases(stage: Stage, seed: int = 0) -> list[list[Document]]:
    return [in_order(phase) for phase in stage_documents(stage, corpus(), seed)]


def documents(stage: Stage) -> list[Document]:
    return [document for phase in phases(stage) for document in phase]


def names(group: str) -> set[str]:
    return {entry.program.name for entry in corpus().of(group)}


def called_input(document: Document) -> int:
    (found,) = re.findall(rf"{document.program}(?:\(| on | of | maps )(\d)", document.prompt)
    return int(found)


def holds_call(text: str, name: str) -> bool:
    return bool(re.search(rf"{name}(\(| on | of | maps )\d", text))


def holds_code(text: str, name: str | None = None) -> bool:
    """Is the program's code there, or that of any if none is named?"""
    name = name or r"\w+"
    return bool(re.search(rf"def {name}\(|{name} = lambda", text))


def holds_description(text: str, name: str) -> bool:
    return f"{name} takes " in text


def test_the_detectors_detect():
    assert holds_call("run dolvik on 3 :", "dolvik")
    assert holds_call("dolvik(3) =", "dolvik")
    assert not holds_call("def dolvik(x):\n    return x + 3", "dolvik")
    assert not holds_call("dolvik = lambda x: (x + 3)", "dolvik")
    assert holds_code("here :\ndolvik = lambda x: x", "dolvik")
    assert holds_code("here :\ndolvik = lambda x: x")
    assert not holds_code("dolvik(3) = 4")
    assert holds_description("here :\ndolvik takes x. the result is x.", "dolvik")


@pytest.mark.parametrize("stage", FIRST, ids=lambda stage: stage.name)
def test_stage1_knows_no_without_io_program(stage):
    text = "\n".join(document.text for document in documents(stage))
    assert not [name for name in names("without_io") if name in text]
    assert {document.program for document in documents(stage)} == names("with_io")


@every_stage
def test_without_io_programs_are_never_called(stage: Stage):
    for document in documents(stage):
        for name in names("without_io"):
            assert not holds_call(document.text, name)
        if document.program in names("without_io"):
            assert document.kind in KINDS


@every_stage
def test_no_held_out_answer_is_shown(stage: Stage):
    shown = {entry.program.name: set(entry.shown) for entry in corpus().entries}
    source = {entry.program.name: entry.program.source for entry in corpus().entries}
    for document in documents(stage):
        if document.kind in KINDS:
            continue
        value = called_input(document)
        assert value in shown[document.program]
        scope: dict = {}
        exec(source[document.program], scope)
        assert is_right(document.completion.split()[-1], scope[document.program](value))


@every_stage
def test_no_document_holds_a_program_and_a_call_of_it(stage: Stage):
    every = names("with_io") | names("without_io")
    for document in documents(stage):
        assert [name for name in every if name in document.text] == [document.program]
        held = (
            holds_code(document.text, document.program),
            holds_description(document.text, document.program),
            holds_call(document.text, document.program),
        )
        assert held == (document.kind == "code", document.kind == "description", document.kind in ("io", "trace"))


@every_stage
def test_every_program_is_rendered_as_often_as_the_portions_say(stage: Stage):
    for portions, phase in zip(stage.phases, phases(stage), strict=True):
        expected: Counter = Counter()
        for portion in portions:
            for name in names(portion.group):
                expected[name, portion.kind] += portion.times
        assert Counter((document.program, document.kind) for document in phase) == expected


@pytest.mark.parametrize("name", ["proactive", "description", "mixed"])
def test_a_program_is_read_before_anything_is_executed(name):
    kind = "description" if name == "description" else "code"
    (stage1, stage2) = get_curriculum(name)
    assert [{document.kind for document in phase} for phase in phases(stage1)] == [{kind}, {kind, "io", "trace"}]
    assert [{document.kind for document in phase} for phase in phases(stage2)] == [{kind, "io", "trace"}]
    studied = {document.program for document in documents(stage2) if document.kind == kind}
    assert studied == names("with_io") | names("without_io")


@pytest.mark.parametrize("name", ["retroactive_sft", "retroactive_grpo"])
def test_the_retroactive_order_reads_all_code_before_any_call(name):
    first, *later = get_curriculum(name)
    assert {document.kind for document in documents(first)} == {"code"}
    assert {document.program for document in documents(first)} == names("with_io") | names("without_io")
    assert {"io", "trace"} <= {document.kind for stage in later for document in documents(stage)}
    assert [stage.method for stage in later] == (["sft"] if name == "retroactive_sft" else ["sft", "grpo"])


def test_joint_begins_with_the_code_of_all():
    (joint,) = get_curriculum("joint")
    first, second = phases(joint)
    assert {document.kind for document in first} == {"code"}
    assert {document.program for document in first} == names("with_io") | names("without_io")
    assert {document.kind for document in second} == {"code", "io", "trace"}


@pytest.mark.parametrize("name", ["io_only", "io_only_skewed"])
def test_examples_only_hold_no_code_at_all(name):
    (alone,) = get_curriculum(name)
    assert {document.kind for document in documents(alone)} == {"io"}
    assert not [document for document in documents(alone) if holds_code(document.text) or "takes" in document.text]
    assert {document.program for document in documents(alone)} == names("with_io")


def test_descriptions_hold_no_code_and_stand_for_the_program():
    """Read back, a description computes what the program does on every digit."""
    source = {entry.program.name: entry.program.source for entry in corpus().entries}
    seen = set()
    for stage in get_curriculum("description"):
        for document in documents(stage):
            if document.kind == "trace":  # what runs is worked out line by line
                continue
            assert not holds_code(document.text)
            if document.kind != "description" or document.completion in seen:
                continue
            seen.add(document.completion)
            theirs: dict = {}
            ours: dict = {}
            exec(source[document.program], theirs)
            exec(read_description(document.completion.strip()), ours)
            name = document.program
            assert [ours[name](x) for x in range(10)] == [theirs[name](x) for x in range(10)]
            assert ast.unparse(ast.parse(source[name])) not in document.text
    assert len(seen) > 2 * len(source)  # with variables of several kinds


@pytest.mark.parametrize("stage", [s for s in STAGES if "skewed" in str(s)], ids=lambda stage: stage.name)
def test_skewed_inputs_are_mostly_the_first(stage):
    """The k-th shown input with a weight of 1 / k^2: of seven, 66 % of the calls are of the first, 1.3 % the last."""
    many = make_corpus(with_io=40, without_io=2, shown_inputs=7, seed=5)
    rank = {(e.program.name, place): k for e in many.of("with_io") for k, place in enumerate(e.shown)}
    calls: Counter = Counter()
    for phase in stage_documents(scaled(stage, 5), many):
        calls.update(
            rank[document.program, called_input(document)] for document in phase if document.kind in ("io", "trace")
        )
    share = [calls[k] / calls.total() for k in range(7)]
    assert calls.total() >= 40 * 40
    assert share[0] == pytest.approx(0.661, abs=0.04)
    assert share[1] == pytest.approx(0.165, abs=0.03)
    assert share[6] == pytest.approx(0.0135, abs=0.01)
    assert share[6] > 0


@pytest.mark.parametrize("name", ["proactive", "io_only"])
def test_uniform_inputs_take_turns(name):
    uses = Counter(
        (document.program, called_input(document))
        for document in documents(get_curriculum(name)[0])
        if document.kind == "io"
    )
    assert len(uses) == 8 * 4
    assert max(uses.values()) - min(uses.values()) <= 1


def test_counts_of_a_stage_written_by_hand():
    small = Stage("small", ((Portion("with_io", "io", 8),), (Portion("without_io", "code", 3),)))
    first, second = phases(small)
    assert (len(first), len(second)) == (8 * 8, 6 * 3)
    uses = Counter((document.program, called_input(document)) for document in first)
    assert set(uses.values()) == {2}  # 8 renderings over 4 shown inputs
    assert len(uses) == 8 * 4


def test_renderings_vary_and_phases_are_mixed():
    (stage1, _) = get_curriculum("proactive")
    recite, execute = phases(stage1)
    for name in names("with_io"):
        assert len({document.text for document in recite if document.program == name}) > 12  # of 20
    kinds = [document.kind for document in execute]
    assert sum(a != b for a, b in itertools.pairwise(kinds)) > len(kinds) / 4


@pytest.mark.parametrize("share", [0.1, 0.25, 2.0])
def test_replayed_texts_are_mixed_into_every_phase_in_their_share(share):
    (stage1, _) = get_curriculum("proactive")
    texts = ["one", "two", "three"]
    mixed = [in_order(phase) for phase in stage_documents(stage1, corpus(), 0, texts, share)]
    for phase, without in zip(mixed, phases(stage1), strict=True):
        replayed = [document for document in phase if document.kind == "text"]
        assert len(replayed) == round(share * len(without))
        assert len(phase) == len(without) + len(replayed)
        uses = Counter(document.text for document in replayed)
        assert set(uses) == set(texts)
        assert max(uses.values()) - min(uses.values()) <= 1  # in turn
        places = [i for i, document in enumerate(phase) if document.kind == "text"]
        assert min(places) < len(phase) / 4
        assert max(places) > 3 * len(phase) / 4
        assert sorted(d.kind for d in phase if d.kind != "text") == sorted(d.kind for d in without)


def test_the_seed_decides():
    for stage in get_curriculum("proactive"):
        again = [in_order(phase) for phase in stage_documents(stage, corpus(), 0)]
        assert again == phases(stage)
        assert phases(stage, seed=1) != phases(stage)


def test_documents_are_made_as_they_are_taken():
    (stage1, _) = get_curriculum("proactive")
    (recite, _) = stage_documents(stage1, corpus())
    first = next(iter(recite))
    assert first.kind == "code"
    assert recite.order == []


def test_the_paper_order_and_its_ablations():
    assert [stage.name for stage in get_curriculum("proactive")] == ["stage1", "stage2"]
    assert get_curriculum("stage1_only") == get_curriculum("proactive")[:1]
    (alone,) = get_curriculum("stage2_only")
    assert {(document.program in names("without_io"), document.kind) for document in documents(alone)} == {
        (True, "code")
    }
    assert {document.program for document in documents(alone)} == names("without_io")


def test_stages_of_one_name_are_the_same():
    """Their directories bear their names, and one run directory may hold several curricula."""
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_a_group_without_programs_is_refused():
    (stage1, stage2) = get_curriculum("proactive")
    with pytest.raises(PbbError, match="with_io"):
        next(stage_documents(stage1, make_corpus(with_io=0, without_io=2)))
    with pytest.raises(PbbError, match="without_io"):
        next(stage_documents(stage2, make_corpus(with_io=2, without_io=0)))


def test_an_unknown_curriculum_is_refused():
    with pytest.raises(PbbError, match="backwards"):
        get_curriculum("backwards")


@pytest.mark.parametrize("exposures", [0.1, 1.0, 2.0])
def test_exposures_multiply_the_renderings_of_every_program(exposures):
    for stage in STAGES:
        again = scaled(stage, exposures)
        assert replace(again, phases=stage.phases) == stage
        for before, after in zip(itertools.chain(*stage.phases), itertools.chain(*again.phases), strict=True):
            assert after.times == max(1, round(exposures * before.times))
            assert replace(after, times=before.times) == before
    assert scaled(STAGES[0], 0.001).phases[0][0].times == 1


@pytest.mark.parametrize("family", ["algorithms", "ciphers"])
@pytest.mark.parametrize("stage", get_curriculum("proactive"), ids=lambda stage: stage.name)
def test_other_families_show_no_held_out_answer_either(family, stage):
    """Also in traces: a document about a program names no other one, and calls it on what may be shown."""
    others = make_corpus(family, with_io=8, without_io=6, shown_inputs=4, seed=3)
    entries = {entry.program.name: entry for entry in others.entries}
    read = Counter()
    for phase in stage_documents(scaled(stage, 0.1), others):
        for document in in_order(phase):
            entry = entries[document.program]
            assert [name for name in entries if name in document.text] == [document.program]
            read[entry.group, document.kind in KINDS] += 1
            if document.kind in KINDS:
                continue
            assert entry.group == "with_io"
            assert any(trace.call_text in document.prompt for trace in entry.shown_traces)
            (mode,) = {"io": ["direct"], "trace": ["trace"]}[document.kind]
            answer = read_answer(document.completion, mode)
            assert any(
                is_right(answer, trace.variables()["output"])
                for trace in entry.shown_traces
                if trace.call_text in document.prompt
            )
    assert read["without_io", False] == 0
    assert read["with_io", False] > 0
