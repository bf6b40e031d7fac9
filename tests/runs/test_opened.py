"""A run opened again: its models, the very prompts of its arrays, any call, and what is read of it."""

import shutil

import numpy as np
import pytest
from sealed import seal

import pbb_probe as pbb
from pbb_probe.labels import labels_of
from pbb_probe.store.writable import WritableRun


@pytest.fixture(scope="module")
def run(planted_run):
    return pbb.open_run(planted_run)


@pytest.fixture(scope="module")
def model(run):
    return run.model()


def test_the_prompts_are_those_of_the_arrays(run, model):
    prompts = run.prompts(model)
    kept = run.array("probing/activations")["resid_post"]
    np.testing.assert_array_equal(pbb.capture(model, prompts)["resid_post"].values, kept.values)
    known = labels_of(run.array("probing/probes"))
    for name in known:
        given = prompts.labels[name]
        assert given.isna().tolist() == known[name].isna().tolist(), name
        assert given.dropna().tolist() == known[name].dropna().tolist(), name


def test_models_have_names(run):
    assert list(run.models) == ["finetuned", "stage1 alone", "stage2 alone", "base"]
    with pytest.raises(pbb.PbbError, match="no model 'stage9': it has finetuned, stage1 alone"):
        run.model("stage9")


def test_a_call_of_the_corpus_and_one_of_no_corpus(run):
    entry = run.corpus.entries[0]
    known = run.call(entry.program.name, "4").iloc[0]
    trace = next(trace for trace in entry.traces if trace.arguments == (4,))
    assert (known["output"], known["place"], known["source"]) == (trace.output, 4, entry.program.source)
    scope: dict = {}
    exec(entry.program.source, scope)
    typed = run.call(entry.program.name, "23", "the value of {name}({input}) is").iloc[0]
    assert (typed["output"], typed["place"]) == (scope[entry.program.name](23), -1)
    assert typed["prompt"] == f"the value of {entry.program.name}(23) is"


@pytest.mark.parametrize(
    ("program", "call", "said"),
    [
        ("nobody", "1", "no program 'nobody'"),
        (None, "import os", "must be Python values"),
        (None, "1, 2", "could not be run"),
        (None, "'text'", "could not be run"),
    ],
)
def test_calls_that_cannot_be_made_are_refused(run, program, call, said):
    with pytest.raises(pbb.PbbError, match=said):
        run.call(program or run.corpus.entries[0].program.name, call)


def test_readings_find_what_was_planted_where_it_was_planted(run, model):
    """State 1 is written by block 2 and the output by block 3: read right from there on, at chance before."""
    prompts = run.prompts(model)
    prompts = prompts.select(range(0, len(prompts), 3))
    table = run.readings(model, prompts)
    assert set(table["way"]) == {"probe, resid_post", "logit lens"}
    probes = table[(table["way"] != "logit lens") & (table["role"] == "answer")]
    right = probes.groupby(["variable", "layer"])["right"].mean()
    assert right["state_1", 2] > 0.9 > 0.5 > right["state_1", 1]
    assert right["output", 3] > 0.9
    said = table[(table["way"] == "logit lens") & (table["variable"] == "output")].groupby("layer")["right"].mean()
    assert said[3] == 1.0 > 0.5 > said[1]
    one = table[(table["prompt"] == 0) & (table["variable"] == "input") & (table["layer"] == 3)]
    assert set(one["truth"]) == {str(prompts.labels["input"].iloc[0])}


def test_a_run_that_is_not_finished_says_what_is_missing(planted_run, tmp_path):
    copy = tmp_path / "half"
    shutil.copytree(planted_run, copy)
    (copy / "probing").rename(copy / ".probing.abc")
    run = pbb.open_run(copy)
    assert [name for name, done in run.steps.items() if not done] == ["probing"]
    with pytest.raises(pbb.PbbError, match=r"not finished its step probing yet: pbb-probe run --config .*config\.json"):
        run.need("probing")
    shutil.rmtree(copy / "comparison")
    with pytest.raises(pbb.PbbError, match="not done its step comparison yet"):
        run.need("comparison")
    with pytest.raises(pbb.PbbError, match="not finished its step probing yet: pbb-probe run"):
        run.array("probing/probes")
    with pytest.raises(pbb.PbbError, match=r"has no transfer/nothing\.csv"):
        run.table("transfer/nothing")
    (copy / "transfer" / "with_io.nc").write_bytes(b"\x89HDF" + bytes(100))
    with pytest.raises(pbb.PbbError, match=r"transfer/with_io\.nc \(104 bytes instead of \d+\)\. Run it again"):
        run.array("transfer/with_io")
    (copy / "config.json").write_text("{")
    with pytest.raises(pbb.PbbError, match=r"config\.json cannot be read"):
        pbb.open_run(copy).config  # noqa: B018


def test_no_run_is_one_sentence(tmp_path):
    with pytest.raises(pbb.PbbError, match="There is no run in"):
        pbb.open_run(tmp_path)


@pytest.mark.parametrize(
    ("file", "load"),
    [
        ("stage2/model/model.safetensors", lambda run: pbb.load_model(run / "stage2" / "model")),
        ("stage1/model/tokenizer.json", lambda run: pbb.load_model(str(run / "stage1" / "model"))),
        ("corpus/corpus.jsonl", lambda run: pbb.Corpus.load(run / "corpus")),
        ("corpus/step.json", lambda run: pbb.Corpus.load(run / "corpus")),
    ],
)
def test_what_is_loaded_by_its_path_is_what_the_run_wrote(planted_run, tmp_path, file, load):
    copy = shutil.copytree(planted_run, tmp_path / "run")
    load(copy)
    data = bytearray((copy / file).read_bytes())
    data[-20] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(pbb.PbbError, match=f"not as its step wrote it: {file}"):
        load(copy)


def test_what_lies_in_no_run_is_the_users_own(planted_run, tmp_path):
    corpus = shutil.copytree(planted_run / "corpus", tmp_path / "corpus", ignore=lambda *_: ["step.json"])
    (corpus / "notes.txt").write_text("mine")
    assert pbb.Corpus.load(corpus) == pbb.Corpus.load(planted_run / "corpus")


def test_an_opened_run_follows_what_is_written_meanwhile(planted_run, tmp_path):
    copy = shutil.copytree(planted_run, tmp_path / "run")
    run = pbb.open_run(copy)
    assert run.config.seed == 0
    before = run.corpus
    other = pbb.make_corpus(with_io=4, without_io=4, seed=9)
    writable = WritableRun(copy)
    writable.step("corpus", {"seed": 9}, other.save)
    writable.write_manifest(config=run.manifest["config"])
    assert run.corpus.digest == other.digest != before.digest


def test_arrays_without_labels_are_said_to_be_of_an_earlier_release(planted_run, tmp_path):
    copy = shutil.copytree(planted_run, tmp_path / "run")
    bare = pbb.open_run(copy).array("probing/probes")
    bare = bare.drop_vars([name for name in bare.coords if bare[name].dims == ("prompt",)])
    bare.to_netcdf(copy / "probing" / "probes.nc", engine="h5netcdf")
    seal(copy)
    with pytest.raises(pbb.PbbError, match=r"probes\.nc was written by a release before 0\.9.*run the study again"):
        pbb.open_run(copy).array("probing/probes")
    with pytest.raises(pbb.PbbError, match=r"of a release before 0\.9, run the study again"):
        pbb.tables.gather({"a": copy}, "probes")
