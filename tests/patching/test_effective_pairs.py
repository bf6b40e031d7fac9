"""Pairs of what a planted model computes, where its sources say another thing: it answers them as they predict."""

import numpy as np
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.programs.arithmetic import arithmetic_program
from pbb_probe.programs.corpus import Corpus, Entry
from pbb_probe.programs.enumerated import read_steps
from pbb_probe.programs.program import Program, trace_programs


@pytest.fixture(scope="module")
def planted():
    """A model; a corpus in which every third program has its steps in the other order; and what the model computes."""
    model, tokenizer, corpus, _ = pbb.planted_model(n_programs=40)
    entries = []
    for i, entry in enumerate(corpus.entries):
        steps = read_steps(entry.program.source)
        program = arithmetic_program(entry.program.name, steps[::-1] if i % 3 == 0 else steps)
        (traces,) = trace_programs([program], [range(10)])
        entries.append(Entry(program, entry.group, tuple(traces), entry.shown))
    taught = Corpus(tuple(entries))
    effective = pbb.effective_programs((model, tokenizer), taught)
    assert {"none", "the order"} <= set(effective["difference"].values) <= {"none", "the order", "a step left out"}
    return pbb.load_model(model, tokenizer), corpus, taught, effective


def test_the_effective_corpus_is_the_one_that_was_planted(planted):
    _, corpus, taught, effective = planted
    computed = pbb.prompts.effective_corpus(taught, effective)
    assert len(computed.entries) == 40
    for entry, true, given in zip(computed.entries, corpus.entries, taught.entries, strict=True):
        assert (entry.program.name, entry.group, entry.shown) == (given.program.name, given.group, given.shown)
        assert [t.output for t in entry.traces] == [t.output for t in true.traces]
        assert entry.program.facts["taught_steps"] == 2
        same = [t.output for t in given.traces] == [t.output for t in true.traces]
        assert (entry.program.facts["difference"] == "none") == same
        assert entry.program.facts["steps"] == len(read_steps(entry.program.source))
        if same:
            assert entry.program.source == given.program.source


@pytest.mark.filterwarnings("ignore:This model is patched by")
def test_the_model_answers_pairs_of_effective_programs_and_only_these(planted):
    model, _, taught, effective = planted
    for make in (
        lambda **given: pbb.make_transfer_pairs(taught, model, "with_io", n=30, decisive=False, **given),
        lambda **given: pbb.make_pairs(taught, model, "program", "with_io", n=30, decisive=False, **given),
    ):
        labels = make(effective=effective).with_answered(model).labels
        assert labels["answered"].all()
        assert labels["corrupted_answered"].all()
        assert "the order" in set(labels["difference"])
        assert not make().with_answered(model).labels["answered"].all()


def test_hypotheses_are_those_of_what_is_computed(planted):
    model, _, taught, effective = planted
    pairs = pbb.make_transfer_pairs(taught, model, "with_io", n=20, decisive=False, effective=effective)
    sources = dict(zip(effective["program"].values, effective["effective"].values, strict=True))
    labels = pairs.labels
    assert [sources[name] for name in labels["program"]] == labels["source"].tolist()
    assert [sources[name] for name in labels["corrupted_program"]] == labels["corrupted_source"].tolist()


def test_labels_of_calls_prompts_and_pairs_say_what_is_computed(planted):
    model, corpus, taught, effective = planted
    right = {(e.program.name, t.call_text): str(t.output) for e in corpus.entries for t in e.traces}
    calls = pbb.prompts.with_effective(taught.calls(), effective)
    assert calls["effective_output"].tolist() == [
        right[key] for key in zip(calls["program"], calls["call"], strict=True)
    ]
    assert (calls["effective_output"] != calls["output"].astype(str)).any()
    prompts = pbb.prompts.with_effective(pbb.make_prompts(taught, model, n=5), effective)
    assert prompts.labels["effective_output"].notna().all()
    pairs = pbb.make_pairs(taught, model, "input", "with_io", n=5, decisive=False)
    labels = pbb.prompts.with_effective(pairs, effective).labels
    assert labels["corrupted_effective"].equals(labels["effective"])
    assert labels["corrupted_difference"].notna().all()


def test_unclear_programs_and_failing_inputs_are_left_out():
    sources = {
        "dax": "def dax(x):\n    return 12 // x",
        "lug": "def lug(x):\n    return x",
        "wif": "def wif(x):\n    return x",
    }
    programs = [Program(name, "own", text, {"steps": 1}) for name, text in sources.items()]
    traces = trace_programs(programs, [[1, 2, 3, 4]] * 3)
    corpus = Corpus(tuple(Entry(p, "with_io", tuple(t), (1, 3)) for p, t in zip(programs, traces, strict=True)))
    texts = {"dax": "def dax(x):\n    return 12 // (x - 2)", "lug": "", "wif": sources["wif"]}
    words = {"dax": "a constant", "lug": "unclear", "wif": "none"}
    effective = xr.Dataset(
        {
            name: ("program", np.array([by[p] for p in words], object))
            for name, by in (("effective", texts), ("difference", words))
        },
        {"program": list(words)},
    )
    found = pbb.prompts.effective_corpus(corpus, effective)
    assert [entry.program.name for entry in found.entries] == ["dax", "wif"]
    first = found.entries[0]
    assert [(trace.arguments[0], trace.output) for trace in first.traces] == [(1, -12), (3, 12), (4, 6)]
    assert first.shown == (2,)  # of the inputs 2 and 4 the first fails
    labels = pbb.prompts.with_effective(corpus.calls(), effective).set_index(["program", "call"])
    assert labels.loc[("dax", "4"), "effective_output"] == "6"
    assert labels.loc[[("dax", "2"), ("lug", "3")], "effective_output"].isna().all()
    with pytest.raises(PbbError, match="effective program of no name is known"):
        pbb.prompts.effective_corpus(corpus, effective.isel(program=[1]))


def test_what_is_no_call_is_refused(planted):
    *_, effective = planted
    with pytest.raises(PbbError, match="labels of calls, prompts or pairs, not of 3"):
        pbb.prompts.with_effective(3, effective)
    with pytest.raises(PbbError, match="The labels lack 'call'"):
        pbb.prompts.with_effective(pbb.make_corpus(with_io=2, without_io=1).calls("recite"), effective)
