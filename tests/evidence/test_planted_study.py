"""Three groups of a planted model, measured as a study does: located where planted, where the gate lets it."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from sealed import seal

import pbb_probe as pbb
from pbb_probe.evidence.comparison import comparison_tables
from pbb_probe.evidence.gate import gate_of
from pbb_probe.evidence.located import located_tables
from pbb_probe.evidence.verdict import describe
from pbb_probe.programs.program import GROUPS
from pbb_probe.runs.config import PatchingConfig, ProbingConfig, TransferConfig
from pbb_probe.runs.opened import OpenedRun
from pbb_probe.store.disk import write_array
from pbb_probe.study import steps

PAIRS = list(combinations(GROUPS, 2))
DRAWN = {"draws": 100, "seed": 0}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The arrays of a run: program in block 1, state 1 in block 2, output in block 3, in all of three groups."""
    hf_model, tokenizer, corpus, _ = pbb.planted_model(n_layers=4, retrieve=1, states=(2,), output=3, n_programs=75)
    entries = [
        replace(entry, group=GROUPS[i % 3], shown=() if GROUPS[i % 3] == "without_io" else (i % 10,))
        for i, entry in enumerate(corpus.entries)
    ]
    corpus, path = pbb.Corpus(tuple(entries)), tmp_path_factory.mktemp("three")
    model, run = str(path / "model"), path / "run"
    hf_model.save_pretrained(model)
    tokenizer.save_pretrained(model)
    for step in ("behaviour", "probing", "patching", "transfer"):
        (run / step).mkdir(parents=True)
    write_array(pbb.evaluate(model, corpus, modes=["direct"]), run / "behaviour" / "finetuned.nc")
    probing = ProbingConfig(
        prompts=150, folds=2, targets=("input", "op_1", "state_1", "output"), controls=("shuffled", "chance")
    ).of_family("arithmetic")
    steps.probe(probing, corpus, model, model, 0, run / "probing")
    patching = PatchingConfig(pairs=40, sites=("resid_pre",), roles=("name", "input"))
    steps.patch(patching, corpus, model, 0, run / "patching")
    transfer = TransferConfig(pairs=100, sites=("resid_pre",), roles=("name", "input"), controls=("random",))
    steps.transfer(transfer, corpus, model, 0, run / "transfer")
    return SimpleNamespace(path=run, run=OpenedRun(seal(run)))


@pytest.fixture(scope="module")
def tables(measured):
    return comparison_tables(measured.run, 0.5, 0.2, 0.1, **DRAWN)


def test_the_gate_opens_for_what_is_planted(tables):
    gate = tables["evaluation_gate"]
    assert gate["group"].tolist() == sorted(GROUPS)
    assert gate["evaluated"].all()
    assert (gate["mean"] == 1).all()


def test_every_group_is_located_on_decisive_calls_where_it_is_planted(tables):
    onsets = tables["onsets"]
    for subset in ("all", "correct", "decisive"):
        found = onsets[onsets["subset"] == subset].set_index(["group", "variable"])
        for group in GROUPS:
            layers = {name: found.loc[(group, name), "used_layer"] for name in ("program", "input")}
            assert layers == {"program": 1, "input": 0}
            assert found.loc[(group, "output"), "read_layer"] == 3
            assert found.loc[(group, "program"), "patched_layer"] == 1
    read = onsets.groupby("subset")["read_n"].max()  # pairs are decisive already, prompts are not
    assert read["decisive"] < read["all"]


@pytest.mark.parametrize("name", ["probing", "patching", "transfer_differences", "onset_differences"])
def test_groups_are_compared_two_by_two_in_every_table(tables, name):
    for subset, table in tables[name].groupby("subset"):
        rows = table.drop_duplicates(["first", "second"])
        assert list(zip(rows["first"], rows["second"], strict=True)) == PAIRS, subset
        means = "layer" if name == "onset_differences" else "mean"
        for row in table.to_dict(orient="records"):
            apart = row[f"{means}_{row['first']}"] - row[f"{means}_{row['second']}"]
            assert row["difference"] == pytest.approx(apart, nan_ok=True)


def test_what_the_code_adds_to_a_planted_model_is_nothing(tables):
    row = tables["code_adds"].set_index("what").loc["with_io minus io_only"]
    assert [row["mean"], row["lower"], row["upper"]] == [0, 0, 0]


def test_what_is_answered_at_chance_on_decisive_calls_is_not_located(measured, tables, tmp_path):
    """The same run, but that decisive calls of without_io programs were answered wrong: all calls stay far above."""
    behaviour = measured.run.array("behaviour/finetuned")
    wrong = (behaviour["group"] == "without_io") & behaviour["decisive"]
    behaviour["correct"] = behaviour["correct"] & ~wrong
    (tmp_path / "behaviour").mkdir()
    write_array(behaviour, tmp_path / "behaviour" / "finetuned.nc")
    gate = gate_of({"": OpenedRun(seal(tmp_path))}, **DRAWN)
    every = pbb.tables.accuracy(behaviour, by=("group",), **DRAWN).set_index("group").loc["without_io"]
    assert every["lower"] > every["chance"]
    assert gate.set_index("group")["evaluated"].to_dict() == {"with_io": True, "without_io": False, "io_only": True}
    located = located_tables({"": measured.run}, gate=gate, **DRAWN)
    for name in ("onsets", "evaluation"):
        table = located[name]
        assert set(table.loc[table["subset"] == "decisive", "group"]) == {"with_io", "io_only"}
        assert set(table.loc[~table["evaluated"], "group"]) == {"without_io"}
    apart = located["onset_differences"]
    assert set(apart.loc[apart["subset"] == "decisive", "second"]) == {"io_only"}
    assert np.array_equal(apart["evaluated"], ~((apart["first"] == "without_io") | (apart["second"] == "without_io")))
    answers = pbb.tables.accuracy(behaviour, **DRAWN).assign(model="finetuned")
    compared = {"recovery": tables["patching"]}
    words = describe(answers, *located.values(), compared, gate)
    (sentence,) = gate.loc[~gate["evaluated"], "sentence"]
    assert sentence.startswith("not evaluated (0 % [0, 0] on ")
    assert f"without_io, 2 steps: {sentence}" in words[0]
    (group,) = (text for text in words if text.startswith("without_io, only"))
    assert group.endswith(f"2 steps: {sentence}.")
