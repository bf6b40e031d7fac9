"""A probe by itself reads as the scikit-learn estimator of its kind does, and survives being saved."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pbb_probe.errors import PbbError
from pbb_probe.probing.probe import LinearProbe
from pbb_probe.probing.readers import fit_probe

RNG = np.random.default_rng(0)
WIDTH = 12
DIRECTIONS = RNG.normal(size=(4, WIDTH))
NAMES = np.array(["add", "max", "min", "mul"])
CODES = RNG.integers(4, size=300)
ACTIVATIONS = (DIRECTIONS[CODES] + RNG.normal(size=(300, WIDTH))) * RNG.uniform(0.1, 30, size=WIDTH) + 5
NEW, RIGHT = ACTIVATIONS[200:], NAMES[CODES[200:]]
FITTED, TAUGHT = ACTIVATIONS[:200], NAMES[CODES[:200]]
NUMBERS = ACTIVATIONS @ RNG.normal(size=WIDTH) + RNG.normal(size=300)


def test_a_logistic_probe_is_scikit_learns():
    probe = fit_probe(FITTED, TAUGHT, C=0.3)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, tol=1e-9, max_iter=10_000))
    reference.fit(FITTED, TAUGHT)
    assert probe.classes == ("add", "max", "min", "mul")
    assert list(probe.predict(NEW)) == list(reference.predict(NEW))
    assert np.allclose(probe.predict_proba(NEW), reference.predict_proba(NEW), atol=1e-3)
    assert probe.score(NEW, RIGHT) == reference.score(NEW, RIGHT) > 0.8


def test_of_two_classes_too():
    two = CODES[:200] < 2
    probe = fit_probe(FITTED, two)
    reference = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-9, max_iter=10_000)).fit(FITTED, two)
    assert probe.classes == (False, True)
    assert np.allclose(probe.predict_proba(NEW), reference.predict_proba(NEW), atol=1e-3)
    (direction,) = probe.directions()
    expected = reference[-1].coef_[0] / reference[0].scale_
    assert direction @ expected / np.linalg.norm(expected) == pytest.approx(1, abs=1e-5)


def test_a_ridge_probe_is_scikit_learns():
    for rows in (slice(0, 200), slice(0, 8)):  # more rows than features, and fewer
        probe = fit_probe(ACTIVATIONS[rows], NUMBERS[rows], "ridge", C=0.2)
        reference = make_pipeline(StandardScaler(), Ridge(alpha=5.0)).fit(ACTIVATIONS[rows], NUMBERS[rows])
        assert np.allclose(probe.predict(NEW), reference.predict(NEW), rtol=1e-8)
        assert probe.score(NEW, NUMBERS[200:]) == pytest.approx(reference.score(NEW, NUMBERS[200:]))


def test_a_mean_difference_probe_reads_the_nearest_mean():
    probe = fit_probe(FITTED, TAUGHT, "mean_difference")
    reference = make_pipeline(StandardScaler(), NearestCentroid()).fit(FITTED, TAUGHT)
    assert list(probe.predict(NEW)) == list(reference.predict(NEW))
    two = fit_probe(FITTED, CODES[:200] < 2, "mean_difference")
    scale = FITTED.std(0)
    expected = (FITTED[CODES[:200] < 2].mean(0) - FITTED[CODES[:200] >= 2].mean(0)) / scale**2
    assert two.directions()[0] @ expected / np.linalg.norm(expected) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["logistic", "mean_difference", "ridge"])
def test_it_survives_being_saved_and_becomes_an_estimator(kind, tmp_path):
    probe = fit_probe(FITTED, NUMBERS[:200] if kind == "ridge" else CODES[:200], kind)
    probe.save(tmp_path / "probe.safetensors")
    again = LinearProbe.load(tmp_path / "probe.safetensors")
    assert (again.kind, again.classes) == (probe.kind, probe.classes)
    assert np.array_equal(again.decision_function(NEW), probe.decision_function(NEW))
    assert np.allclose(probe.to_sklearn().predict(NEW), probe.predict(NEW))
    assert np.allclose(np.linalg.norm(probe.directions(), axis=1), 1)


def test_two_classes_become_an_estimator():
    probe = fit_probe(FITTED, TAUGHT == "add")
    assert np.array_equal(probe.to_sklearn().predict(NEW), probe.predict(NEW))
    assert np.allclose(probe.to_sklearn().predict_proba(NEW), probe.predict_proba(NEW))


def test_directions_point_where_a_class_gains_on_the_others():
    probe = fit_probe(FITTED, TAUGHT)
    for k, direction in enumerate(probe.directions()):
        scores = probe.decision_function(np.stack([NEW[0], NEW[0] + direction]))
        gain = scores[1] - scores[0]
        assert gain[k] - gain.mean() == pytest.approx(
            np.linalg.norm((probe.coefficients - probe.coefficients.mean(0))[k])
        )


def test_heads_are_flattened():
    by_head = ACTIVATIONS.reshape(300, 3, 4)
    assert np.array_equal(
        fit_probe(by_head[:200], TAUGHT).predict(by_head[200:]), fit_probe(FITTED, TAUGHT).predict(NEW)
    )


def test_what_cannot_be_fitted_or_read_is_refused(tmp_path):
    probe = fit_probe(FITTED, TAUGHT)
    for call, said in (
        (lambda: fit_probe(FITTED, TAUGHT[:-1]), "200 activations and 199 values"),
        (lambda: fit_probe(FITTED, ["add"] * 200), "same value"),
        (lambda: fit_probe(FITTED, TAUGHT, "tree"), "Unknown kind 'tree'"),
        (lambda: fit_probe(np.where(FITTED[3, 2] == FITTED, np.nan, FITTED), TAUGHT), "row 3 is NaN"),
        (lambda: probe.predict(NEW[:, :5]), "reads 12 features and the activations have 5"),
        (lambda: fit_probe(FITTED, NUMBERS[:200], "ridge").predict_proba(NEW), "has no probabilities"),
        (lambda: LinearProbe.load(tmp_path / "none"), "holds no probe"),
    ):
        with pytest.raises(PbbError, match=said):
            call()
