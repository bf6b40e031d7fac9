"""Kept probes read as scikit-learn's own fits do, and no prompt is read by a probe that has seen its program."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pbb_probe as pbb
from pbb_probe.probing.probes import Probes

N, WIDTH = 120, 6


@pytest.fixture(scope="module")
def planted():
    """Two layers; the target is a direction of the second, and each program's own noise sits in both."""
    rng = np.random.default_rng(0)
    programs = np.repeat([f"p{i}" for i in range(30)], 4)
    target = rng.choice(["add", "max", "min"], N)
    acts = rng.normal(size=(2, 1, N, WIDTH))
    acts[1, 0, :, 0] += 3 * (target == "add")
    acts[1, 0, :, 1] += 3 * (target == "max")
    dataset = xr.Dataset(
        {"resid_post": (("layer", "role", "prompt", "d_model"), acts)}, coords={"layer": [0, 1], "role": ["answer"]}
    )
    train = np.arange(N) < 80
    return dataset, pd.DataFrame({"op": target}), programs.tolist(), train


def kept(acts, targets, programs, train, C=1.0, folds=2, **settings) -> Probes:  # noqa: N803
    return pbb.fit_probes(acts, targets, programs, train, C=C, folds=folds, keep=True, **settings)


def test_each_prompt_is_read_by_scikit_learns_fit_on_other_programs(planted):
    acts, targets, programs, train = planted
    probes = kept(acts, targets, programs, train, C=0.5, seed=1)
    table = probes.read(acts, programs).set_index(["layer", "prompt"])
    fold = np.array([probes.fold.get(name, -1) for name in programs])
    features = acts["resid_post"].values[1, 0]
    shares = []
    for k in range(2):
        fitted = train & (fold != k)
        assert not set(np.array(programs)[fitted]) & {name for name, f in probes.fold.items() if f == k}
        reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, tol=1e-10, max_iter=5000))
        shares.append(reference.fit(features[fitted], targets["op"][fitted]).predict_proba(features))
    expected = np.where((fold == 0)[:, None], shares[0], shares[1])
    expected = np.where((fold == -1)[:, None], np.mean(shares, axis=0), expected)  # others: all folds' probes
    read = table.loc[1]
    assert read["probability"].to_numpy() == pytest.approx(expected.max(1), abs=2e-3)
    ranked = np.sort(expected, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 4e-3  # else either value may be the likeliest
    assert clear.mean() > 0.95
    assert (read["value"] == np.array(["add", "max", "min"])[expected.argmax(1)])[clear].all()


def test_what_is_there_is_read_and_what_is_not_is_not(planted):
    acts, targets, programs, train = planted
    table = kept(acts, targets, programs, train, C=0.5).read(acts, programs)
    right = (table["value"] == targets["op"].to_numpy()[table["prompt"]]).groupby(table["layer"]).mean()
    assert right[1] > 0.8
    assert right[0] < 0.5


def test_a_value_that_one_fold_lacks_is_read_by_the_other(planted):
    acts, targets, programs, train = planted
    rare = targets.assign(op=targets["op"].where(np.array(programs) != "p3", "rare"))
    probes = kept(acts, rare, programs, train, folds=2)
    table = probes.read(acts, programs)
    assert set(table["value"]) <= {"add", "max", "min", "rare"}
    assert table["probability"].between(1 / 4, 1).all()


def test_rows_without_a_value_are_not_fitted_on(planted):
    acts, targets, programs, train = planted
    some = np.arange(N) % 2 == 0
    missing = targets.assign(op=targets["op"].where(some))
    mine = kept(acts, missing, programs, train, folds=1).read(acts, programs)
    rows = np.flatnonzero(some)
    alone = kept(acts.isel(prompt=rows), targets.iloc[rows], [programs[i] for i in rows], train[rows], folds=1).read(
        acts, programs
    )
    assert mine["probability"].to_numpy() == pytest.approx(alone["probability"].to_numpy(), abs=1e-4)


def test_scores_are_those_of_fit_probes_and_follow_from_what_is_predicted(planted):
    acts, targets, programs, train = planted
    targets = targets.assign(number=acts["resid_post"].values[1, 0, :, 2], near=targets["op"])
    options = {"kinds": {"number": "ridge", "near": "mean_difference"}, "folds": 3, "controls": ["shuffled"]}
    probes = kept(acts, targets, programs, train, **options)
    scores = pbb.fit_probes(acts, targets, programs, train, **options)
    xr.testing.assert_identical(probes.scores, scores)
    mine = scores.sel(control="none", site="resid_post")
    for target in ("op", "near"):
        right = probes.predict(acts, target, clusters=programs) == targets[target].to_numpy()
        held_out = mine["correct"].sel(target=target).isel(prompt=train).transpose("layer", "role", "prompt")
        assert np.array_equal(right.isel(prompt=train), held_out)
    number = probes.predict(acts, "number", clusters=programs)
    assert np.allclose(number, mine["predicted"].sel(target="number").transpose("layer", "role", "prompt"), atol=1e-5)
    table = probes.read(acts, programs)
    assert table[table["target"] != "op"]["probability"].isna().all()
    assert table[table["target"] == "number"]["value"].tolist() == pytest.approx(number.values.ravel())


def test_with_one_fold_all_rows_are_fitted_on_and_scores_are_missing(planted):
    acts, targets, programs, train = planted
    probes = kept(acts, targets, programs, train, C=0.5, folds=1)
    features = acts["resid_post"].values[1, 0]
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, tol=1e-10, max_iter=5000))
    expected = reference.fit(features[train], targets["op"][train]).predict(features)
    assert probes.predict(acts).sel(layer=1, role="answer").values.tolist() == expected.tolist()
    correct = probes.scores["correct"].squeeze().sel(layer=1).values
    assert np.isnan(correct[train]).all()
    assert np.isnan(probes.scores["accuracy"]).all()
    assert np.array_equal(correct[~train], expected[~train] == targets["op"][~train])
    with pytest.raises(pbb.PbbError, match="folds must be at least 2, or 1 with keep=True"):
        pbb.fit_probes(acts, targets, programs, train, folds=1)


def test_a_file_holds_all_of_them(planted, tmp_path):
    acts, targets, programs, train = planted
    acts = acts.assign(
        z=(("layer", "role", "prompt", "head", "d_head"), acts["resid_post"].values.reshape(2, 1, N, 2, 3))
    )
    targets = targets.assign(number=np.arange(N) * 0.5, even=np.arange(N) % 2 == 0)
    probes = kept(acts, targets, programs, train, kinds={"number": "ridge"})
    probes.save(tmp_path / "probes.safetensors")
    again = pbb.Probes.load(tmp_path / "probes.safetensors")
    pd.testing.assert_frame_equal(again.read(acts, programs), probes.read(acts, programs))
    assert (again.kinds, again.classes, again.dims, again.fold) == (
        probes.kinds,
        {"op": ("add", "max", "min"), "number": (), "even": (False, True)},
        {"resid_post": ("d_model",), "z": ("head", "d_head")},
        probes.fold,
    )
    for name in ("layer", "role", "target", "site"):
        assert again.scores[name].equals(probes.scores[name])
    assert not again.scores.data_vars


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda probes, acts: probes.predict(acts, "state"), "have the targets op, and 'state' is none of them"),
        (lambda probes, acts: probes.predict(acts.isel(layer=[0])), "no layer 1"),
        (lambda probes, acts: probes.predict(acts.isel(d_model=[0, 1])), "read 6 features and the activations have 2"),
        (lambda probes, acts: probes.predict(acts.rename(resid_post="z")), "no site 'resid_post'"),
        (lambda probes, acts: probes.read(acts), "clusters names 'program', which is no label"),
        (lambda probes, acts: probes.to_sklearn(layer=0), "have the folds 0, 1, and None is none of them: name one"),
        (lambda probes, acts: probes.to_sklearn(layer=7, fold=0), "have the layers 0, 1, and 7 is none of them"),
        (lambda probes, acts: probes.subspaces(fold=2), "have the folds 0, 1, and 2 is none of them"),
    ],
)
def test_what_the_probes_do_not_have_is_refused(planted, call, said):
    acts, targets, programs, train = planted
    with pytest.raises(pbb.PbbError, match=said):
        call(kept(acts, targets, programs, train), acts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"programs": ["p"] * 3}, "120 prompts and 3 values of clusters"),
        ({"folds": 21}, "21 folds need as many clusters to train on, and there are 20"),
        ({"targets": pd.DataFrame({"op": ["same"] * N})}, "'op' has fewer than two classes"),
        ({"folds": 1, "C": [0.1, 1.0]}, "or 1 with keep=True and a single C"),
    ],
)
def test_what_cannot_be_fitted_is_refused(planted, change, said):
    acts, targets, programs, train = planted
    with pytest.raises(pbb.PbbError, match=said):
        kept(acts, **({"targets": targets, "programs": programs, "train": train} | change))
