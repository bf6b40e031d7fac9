"""A selection of an array gives the rows of the whole table, or one sentence; never another number under its name."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.evidence.subsets import answered


@pytest.fixture(scope="module")
def model():
    return pbb.load_model("nano")


@pytest.fixture(scope="module")
def corpus():
    return pbb.make_corpus(with_io=40, without_io=10)


@pytest.fixture(scope="module")
def acts(corpus, model):
    return pbb.capture(model, pbb.make_prompts(corpus, model, n=40), layers=[2, 3], roles=["answer"])


@pytest.fixture(scope="module")
def probes(acts):
    return pbb.fit_probes(acts, ["output"], controls=["chance", "shuffled"], folds=3)


@pytest.fixture(scope="module")
def whole(probes) -> pd.DataFrame:
    return pbb.tables.probes(probes, by=(), draws=50)


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        ({"control": "shuffled"}, "control == 'shuffled'"),
        ({"control": ["shuffled"]}, "control == 'shuffled'"),
        ({"control": ["chance", "shuffled"]}, "control != 'none'"),
        ({"control": ["none", "shuffled"]}, "control != 'chance'"),
        ({"control": "none"}, "control == 'none'"),
        ({"layer": 3}, "layer == 3"),
        ({"role": "answer"}, "role == 'answer'"),
        ({"target": "output"}, "target == 'output'"),
    ],
)
def test_a_selection_of_probes_gives_its_rows(probes, whole, chosen, rows):
    made = pbb.tables.probes(probes.sel(chosen), by=(), draws=50)
    expected = whole.query(rows).reset_index(drop=True)
    gain = [name for name in whole if name.startswith("gain")]
    if "none" not in made["control"].tolist() or set(made["control"]) == {"none"}:  # nothing to gain over, or on
        assert not set(gain) & set(made)
        expected = expected.drop(columns=gain)
    pd.testing.assert_frame_equal(made, expected)


def test_gains_are_over_the_control_they_stand_beside(probes, whole):
    read = probes["correct"].sel(layer=3, target="output").squeeze()
    for control in ("chance", "shuffled"):
        gain = whole[(whole["control"] == control) & (whole["layer"] == 3)]["gain"].item()
        assert gain == pytest.approx(float((read.sel(control="none") - read.sel(control=control)).mean()))


def test_a_control_alone_is_not_taken_for_the_measurement(corpus, model):
    pairs = pbb.make_transfer_pairs(corpus, model, "with_io", n=12)
    carried = pbb.transfer_map(model, pairs, sites=["resid_pre"], controls=["random"])
    for alone in (carried.sel(control="random"), carried.sel(control=["random"])):
        with pytest.raises(pbb.PbbError, match="only the control random is there"):
            pbb.tables.located_use(alone)
        assert set(pbb.tables.transfer(alone, by=(), draws=20)["control"]) == {"random"}


def test_nothing_selected_is_one_sentence(probes):
    with pytest.raises(pbb.PbbError, match="no prompts"):
        pbb.tables.probes(probes.isel(prompt=[]))


def test_a_prompt_of_which_nothing_is_known_does_not_count_as_answered(corpus, model):
    prompts = pbb.make_prompts(corpus, model, n=4)
    known = pbb.capture(model, pbb.prompts.with_answered(model, prompts))
    both = pbb.tables.join([known, pbb.capture(model, prompts)], "prompt")
    assert not answered(both)[len(prompts) :].any()


@pytest.mark.parametrize("name", ["block no", "a/b", "tab\there", ""])
def test_a_label_that_netcdf_cannot_hold_is_refused(model, name):
    with pytest.raises(pbb.PbbError, match="cannot be stored: name it by a text without spaces and slashes"):
        pbb.Prompts.from_texts(model, ["dolvik(3) ="], labels=pd.DataFrame({name: [1]}))
    labelled = SimpleNamespace(unit="prompt", labels=pd.DataFrame({name: [1]}))
    with pytest.raises(pbb.PbbError, match="cannot be stored"):
        pbb.prompts.with_labels(xr.DataArray([1.0], dims="prompt"), labelled)


def test_a_label_named_like_a_dimension_is_kept_under_a_longer_name(model, tmp_path):
    labels = pd.DataFrame({"layer": range(6), "role": list("ababab")})
    prompts = pbb.Prompts.from_texts(model, [f"dolvik({x}) =" for x in range(6)], labels=labels)
    acts = pbb.capture(model, prompts)
    assert pbb.prompts.labels_of(acts)["prompt_layer"].tolist() == list(range(6))
    assert acts["layer"].values.tolist() == list(range(6))


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
@pytest.mark.parametrize("name", ["layer", "correct", "predicted", "control"])
def test_a_target_may_be_named_like_a_dimension_or_variable(acts, kind, name):
    values = pd.DataFrame({name: pbb.prompts.labels_of(acts)["output"].to_numpy() % 3})
    probes = pbb.fit_probes(acts, values, kinds={name: kind}, folds=2)
    table = pbb.tables.probes(probes, draws=20)
    assert set(table["measure"]) == {"r2" if kind == "ridge" else "accuracy"}
    assert np.isfinite(table["score"]).all()


def test_a_target_with_other_values_than_the_label_of_its_name_is_refused(acts):
    with pytest.raises(pbb.PbbError, match="'output' has other values than the label 'output'"):
        pbb.fit_probes(acts, pd.DataFrame({"output": pbb.prompts.labels_of(acts)["output"] % 2}), folds=2)
    same = pbb.fit_probes(acts, pbb.prompts.labels_of(acts)[["output"]].astype(float), folds=2)
    assert same["correct"].sizes["target"] == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: pbb.tables.probes(p, by="group"), "by must be"),
        (lambda p: pbb.tables.probes(p, clusters=["program"]), "clusters must be"),
        (lambda p: pbb.tables.probes(p, by=["family", "colour"]), "no coordinate 'colour'"),
        (lambda p: pbb.tables.join([], "prompt"), "Arrays are joined along 'prompt'"),
        (lambda p: pbb.tables.join([p], "pair"), "Arrays are joined along 'pair'"),
        (lambda p: pbb.fit_probes(p, ["output"], types=[1]), "takes no 'types' any more"),
        (lambda p: pbb.transfer_map(None, base=p, source=p), "takes no 'base' any more: give pairs"),
        (lambda p: pbb.patch_sweep(None, source="mean", metric=len), "takes no 'source' any more: it is replace_with"),
        (lambda p: pbb.tables.transfer(p, cluster="program"), "takes no 'cluster' any more"),
    ],
)
def test_odd_and_former_arguments_are_one_sentence(probes, call, said):
    with pytest.raises(pbb.PbbError, match=said) as caught:
        call(probes)
    assert str(caught.value).endswith(".")


def test_pairs_that_do_not_say_their_answers_are_one_sentence(model):
    clean, corrupted = (pbb.Prompts.from_texts(model, [f"dolvik({x}) ="]) for x in (3, 5))
    with pytest.raises(pbb.PbbError, match="do not say their answers"):
        pbb.Pairs(clean, corrupted).answer_ids(model)


def test_pairs_have_no_labels_of_how_they_were_made(corpus, model):
    labels = pbb.make_pairs(corpus, model, "program", "with_io", n=4).labels
    assert "tokens" not in labels
    assert "corrupted_tokens" not in labels
