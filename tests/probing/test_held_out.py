"""Kept probes read as scikit-learn's own fits do, and no prompt is read by a probe that has seen its program."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pbb_probe as pbb

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


def test_each_prompt_is_read_by_scikit_learns_fit_on_other_programs(planted):
    acts, targets, programs, train = planted
    probes = pbb.fit_held_out(acts, targets, programs, train, C=0.5, folds=2, seed=1)
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
    assert read["value"].tolist() == np.array(["add", "max", "min"])[expected.argmax(1)].tolist()


def test_what_is_there_is_read_and_what_is_not_is_not(planted):
    acts, targets, programs, train = planted
    table = pbb.fit_held_out(acts, targets, programs, train, C=0.5).read(acts, programs)
    right = (table["value"] == targets["op"].to_numpy()[table["prompt"]]).groupby(table["layer"]).mean()
    assert right[1] > 0.8
    assert right[0] < 0.5


def test_a_value_that_one_fold_lacks_is_read_by_the_other(planted):
    acts, targets, programs, train = planted
    rare = targets.assign(op=targets["op"].where(np.array(programs) != "p3", "rare"))
    probes = pbb.fit_held_out(acts, rare, programs, train, folds=2)
    table = probes.read(acts, programs)
    assert set(table["value"]) <= {"add", "max", "min", "rare"}
    assert table["probability"].between(1 / 4, 1).all()


def test_rows_without_a_value_are_not_fitted_on(planted):
    acts, targets, programs, train = planted
    some = np.arange(N) % 2 == 0
    missing = targets.assign(op=targets["op"].where(some))
    mine = pbb.fit_held_out(acts, missing, programs, train, folds=1).read(acts, programs)
    rows = np.flatnonzero(some)
    alone = pbb.fit_held_out(
        acts.isel(prompt=rows), targets.iloc[rows], [programs[i] for i in rows], train[rows], folds=1
    ).read(acts, programs)
    assert mine["probability"].to_numpy() == pytest.approx(alone["probability"].to_numpy(), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clusters": ["p"] * 3}, "give targets, clusters and train a row each"),
        ({"folds": 21}, "20 clusters to fit on and 21 folds"),
        ({"targets": pd.DataFrame({"op": ["same"] * N})}, "'op' has fewer than two values"),
    ],
)
def test_what_cannot_be_fitted_is_refused(planted, change, said):
    acts, targets, programs, train = planted
    with pytest.raises(pbb.PbbError, match=said):
        pbb.fit_held_out(acts, **({"targets": targets, "clusters": programs, "train": train} | change))
