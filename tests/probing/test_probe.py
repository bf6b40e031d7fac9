"""The probe of one place reads as the scikit-learn estimator of its kind does, and survives being saved."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pbb_probe.errors import PbbError
from pbb_probe.probing.linear import fit_probes
from pbb_probe.probing.probes import Probes

RNG = np.random.default_rng(0)
WIDTH = 12
DIRECTIONS = RNG.normal(size=(4, WIDTH))
NAMES = np.array(["add", "max", "min", "mul"])
CODES = RNG.integers(4, size=300)
ACTIVATIONS = (DIRECTIONS[CODES] + RNG.normal(size=(300, WIDTH))) * RNG.uniform(0.1, 30, size=WIDTH) + 5
NEW, RIGHT = ACTIVATIONS[200:], NAMES[CODES[200:]]
FITTED, TAUGHT = ACTIVATIONS[:200], NAMES[CODES[:200]]
NUMBERS = ACTIVATIONS @ RNG.normal(size=WIDTH) + RNG.normal(size=300)


def activations(values) -> xr.Dataset:
    """Rows of one place, which need no layers and roles."""
    dims = ("prompt", "feature") if values.ndim == 2 else ("prompt", "head", "feature")
    return xr.Dataset({"mine": (dims, values)})


def fit_all(values, column, kind="logistic", C=1.0) -> Probes:  # noqa: N803
    """One probe, fitted on all rows."""
    targets = pd.DataFrame({"op": column})
    return fit_probes(activations(values), targets, range(len(values)), C=C, folds=1, kinds={"op": kind}, keep=True)


def test_a_logistic_probe_is_scikit_learns():
    probe = fit_all(FITTED, TAUGHT, C=0.3)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, tol=1e-9, max_iter=10_000))
    reference.fit(FITTED, TAUGHT)
    assert probe.classes == {"op": ("add", "max", "min", "mul")}
    assert probe.predict(activations(NEW)).values.ravel().tolist() == list(reference.predict(NEW))
    estimator = probe.to_sklearn()
    assert list(estimator.predict(NEW)) == list(reference.predict(NEW))
    assert np.allclose(estimator.predict_proba(NEW), reference.predict_proba(NEW), atol=1e-3)
    assert estimator.score(NEW, RIGHT) == reference.score(NEW, RIGHT) > 0.8


def test_of_two_classes_too():
    two = CODES[:200] < 2
    probe = fit_all(FITTED, two)
    reference = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-9, max_iter=10_000)).fit(FITTED, two)
    assert probe.classes == {"op": (False, True)}
    assert np.allclose(probe.to_sklearn().predict_proba(NEW), reference.predict_proba(NEW), atol=1e-3)
    assert np.array_equal(probe.to_sklearn().predict(NEW), probe.predict(activations(NEW)).values.ravel())
    direction = probe.directions()
    assert direction["value"].values.tolist() == ["True"]
    expected = reference[-1].coef_[0] / reference[0].scale_
    assert direction.values.ravel() @ expected / np.linalg.norm(expected) == pytest.approx(1, abs=1e-5)


def test_a_ridge_probe_is_scikit_learns():
    for rows in (slice(0, 200), slice(0, 8)):  # more rows than features, and fewer
        probe = fit_all(ACTIVATIONS[rows], NUMBERS[rows], "ridge", C=0.2)
        reference = make_pipeline(StandardScaler(), Ridge(alpha=5.0)).fit(ACTIVATIONS[rows], NUMBERS[rows])
        assert np.allclose(probe.predict(activations(NEW)).values.ravel(), reference.predict(NEW), rtol=1e-8)
        score = probe.to_sklearn().score(NEW, NUMBERS[200:])
        assert score == pytest.approx(reference.score(NEW, NUMBERS[200:]))


def test_a_mean_difference_probe_reads_the_nearest_mean():
    probe = fit_all(FITTED, TAUGHT, "mean_difference")
    reference = make_pipeline(StandardScaler(), NearestCentroid()).fit(FITTED, TAUGHT)
    assert probe.predict(activations(NEW)).values.ravel().tolist() == list(reference.predict(NEW))
    two = fit_all(FITTED, CODES[:200] < 2, "mean_difference")
    scale = FITTED.std(0)
    expected = (FITTED[CODES[:200] < 2].mean(0) - FITTED[CODES[:200] >= 2].mean(0)) / scale**2
    assert two.directions().values.ravel() @ expected / np.linalg.norm(expected) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["logistic", "mean_difference", "ridge"])
def test_it_survives_being_saved_and_becomes_an_estimator(kind, tmp_path):
    probe = fit_all(FITTED, NUMBERS[:200] if kind == "ridge" else CODES[:200], kind)
    probe.save(tmp_path / "probe.safetensors")
    again = Probes.load(tmp_path / "probe.safetensors")
    assert (again.kinds, again.classes) == (probe.kinds, probe.classes)
    predicted = probe.predict(activations(NEW))
    xr.testing.assert_identical(again.predict(activations(NEW)), predicted)
    assert np.allclose(probe.to_sklearn().predict(NEW), predicted.values.ravel())
    assert np.allclose(np.linalg.norm(probe.directions(), axis=-1), 1)


@pytest.mark.parametrize(("kind", "classes"), [("logistic", ["add", "max"]), ("ridge", [])])
def test_a_file_of_one_probe_as_version_0_8_wrote_it_is_read(kind, classes, tmp_path):
    rows = max(1, len(classes))
    coefficients, intercepts = RNG.normal(size=(rows, WIDTH)), RNG.normal(size=rows)
    metadata = {"kind": kind, "classes": json.dumps(classes)}
    path = tmp_path / "probe.safetensors"
    save_file({"coefficients": coefficients, "intercepts": intercepts}, path, metadata=metadata)
    scores = NEW @ coefficients.T + intercepts
    expected = scores[:, 0] if kind == "ridge" else np.array(classes)[scores.argmax(1)]
    estimator = Probes.load(path).to_sklearn()
    found = Probes.load(path).predict(activations(NEW).rename(mine="activations"))
    for predicted in (estimator.predict(NEW), found.values.ravel()):
        assert predicted.tolist() == (pytest.approx(expected) if kind == "ridge" else expected.tolist())


def test_directions_point_where_a_class_gains_on_the_others():
    probe = fit_all(FITTED, TAUGHT)
    (rows,) = probe.coefficients["op", "mine"][0, 0]
    estimator = probe.to_sklearn()
    for k, direction in enumerate(probe.directions().values.reshape(4, WIDTH)):
        scores = estimator.decision_function(np.stack([NEW[0], NEW[0] + direction]))
        gain = scores[1] - scores[0]
        assert gain[k] - gain.mean() == pytest.approx(np.linalg.norm((rows - rows.mean(0))[k]))


def test_a_class_that_a_fold_lacks_has_no_direction_in_it():
    fold = np.arange(200) % 2
    rare = np.where((fold == 1) & (TAUGHT == "mul"), "rare", TAUGHT)  # the probe of fold 1 is fitted on the others
    targets = pd.DataFrame({"op": rare})
    probes = fit_probes(activations(FITTED), targets, range(200), folds=fold.tolist(), keep=True)
    directions = probes.directions().squeeze()
    assert np.isnan(directions.sel(value="rare").isel(fold=1)).all()
    alone = fit_all(FITTED[fold == 0], rare[fold == 0]).directions().squeeze()
    assert np.allclose(directions.isel(fold=1).sel(value=alone["value"]), alone, atol=1e-4)
    assert probes.to_sklearn(fold=1).classes_.tolist() == ["add", "max", "min", "mul"]


def test_heads_are_flattened():
    by_head = ACTIVATIONS.reshape(300, 3, 4)
    found = fit_all(by_head[:200], TAUGHT).predict(activations(by_head[200:]))
    xr.testing.assert_identical(found, fit_all(FITTED, TAUGHT).predict(activations(NEW)))


def test_what_cannot_be_read_or_loaded_is_refused(tmp_path):
    probe = fit_all(FITTED, TAUGHT)
    (tmp_path / "text").write_text("no probes")
    save_file({"coefficients": np.ones(3)}, tmp_path / "other.safetensors")
    for call, said in (
        (lambda: fit_all(FITTED, ["add"] * 200), "fewer than two classes"),
        (lambda: fit_all(np.where(FITTED[3, 2] == FITTED, np.nan, FITTED), TAUGHT), "for prompt 3"),
        (lambda: probe.predict(activations(NEW[:, :5])), "read 12 features and the activations have 5"),
        (lambda: Probes.load(tmp_path / "none"), "holds no probes"),
        (lambda: probe.save(tmp_path / "nowhere" / "probes"), "cannot be written to"),
        (lambda: Probes.load(tmp_path / "text"), "holds no probes"),
        (lambda: Probes.load(tmp_path / "other.safetensors"), "holds no probes"),
        (lambda: fit_all(FITTED, [(1, 2), (3, 4)] * 100).save(tmp_path / "pairs"), "neither a text nor a number"),
    ):
        with pytest.raises(PbbError, match=said):
            call()
