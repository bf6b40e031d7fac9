"""The optimum is scikit-learn's own, on random problems and on degenerate ones, of many problems at once or of one."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pbb_probe.probing.logistic import Fitted, fit_logistic

RNG = np.random.default_rng(0)


def standardised(features):
    scale = features.std(0)
    return (features - features.mean(0)) / np.where(scale > 0, scale, 1)


def ill_conditioned(rows, width, decay=6.0):
    """As residual streams are: a few directions hold nearly all of the variance, and all features share them."""
    spectrum = np.exp(-decay * np.arange(width) / width)
    mixing = np.linalg.qr(RNG.normal(size=(width, width)))[0]
    return standardised((RNG.normal(size=(rows, width)) * spectrum) @ mixing + 3)


def classes_of(features, n, noise=1.0):
    scores = features @ RNG.normal(size=(features.shape[1], n)) / features.shape[1] ** 0.5
    return np.unique((scores + noise * RNG.normal(size=scores.shape)).argmax(1), return_inverse=True)[1]


def ours(features, columns, strengths, weights=None):
    fitted = fit_logistic(
        torch.from_numpy(features)[None],
        torch.from_numpy(np.stack(columns, axis=1))[None],
        [len(set(column.tolist())) for column in columns],
        torch.tensor([strengths]),
        None if weights is None else torch.from_numpy(np.stack(weights, axis=1))[None],
    )
    return [Fitted(*(part[0] for part in of_column)) for of_column in fitted]


def objective(features, column, strength, coefficients, intercepts, weight=None):
    """In float64, apart from either implementation."""
    logits = features @ coefficients.T + intercepts
    largest = logits.max(1)
    losses = largest + np.log(np.exp(logits - largest[:, None]).sum(1)) - logits[np.arange(len(column)), column]
    return strength * (losses if weight is None else losses * weight).sum() + (coefficients**2).sum() / 2


def sklearns(features, column, strength, weight=None):
    probe = LogisticRegression(C=strength, max_iter=100_000, tol=1e-10).fit(features, column, sample_weight=weight)
    coefficients, intercepts = probe.coef_, probe.intercept_
    if len(coefficients) == 1:
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    return coefficients, intercepts


def check(features, columns, strengths, weights=None, held_out=None):
    fitted = ours(features, columns, strengths, weights)
    for i, (column, strength) in enumerate(zip(columns, strengths, strict=True)):
        weight = None if weights is None else weights[i]
        mine = fitted[i].coefficients.numpy(), fitted[i].intercepts.numpy()
        best = sklearns(features, column, strength, weight)
        reference = objective(features, column, strength, *best, weight)
        value = objective(features, column, strength, *mine, weight)
        assert (value - reference) / reference < 1e-6
        assert float(fitted[i].objectives) == pytest.approx(value, rel=1e-6)
        if held_out is not None:
            answers = [(held_out @ w.T + b).argmax(1) for w, b in (mine, best)]
            assert (answers[0] == answers[1]).mean() >= 0.999


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_the_optimum_of_many_problems_at_once(strength):
    features = ill_conditioned(500, 40)
    held_out, features = features[:200], standardised(features[200:])
    columns = [classes_of(features, n) for n in (2, 3, 10)]
    check(features, columns, [strength] * 3, held_out=held_out)


def test_each_problem_has_its_own_strength():
    features = ill_conditioned(300, 20)
    column = classes_of(features, 4)
    check(features, [column] * 4, [0.001, 0.1, 10.0, 1000.0])


def test_rows_count_what_they_weigh():
    features = ill_conditioned(200, 10)
    columns = [classes_of(features, 3), classes_of(features, 2)]
    weights = [RNG.random(200) * 3, (RNG.random(200) < 0.5).astype(float)]
    check(features, columns, [0.5, 0.5], weights)


def separable(rows=120, width=8):
    features = standardised(RNG.normal(size=(rows, width)))
    features[:, 0] = np.where(np.arange(rows) % 3 == 0, 3.0, -1.5)
    return features, np.arange(rows) % 3


@pytest.mark.parametrize(
    ("features", "column"),
    [
        separable(),
        (np.concatenate([ill_conditioned(90, 6), np.zeros((90, 2))], axis=1), np.arange(90) % 3),  # constant features
        (ill_conditioned(30, 80), np.arange(30) % 3),  # more features than rows
        (np.repeat(ill_conditioned(20, 5), 6, axis=0), np.arange(120) % 4),  # duplicated rows with unlike classes
        (np.repeat(ill_conditioned(50, 4), 2, axis=1), np.arange(50) % 2),  # duplicated features
        (ill_conditioned(150, 10), (np.arange(150) == 7).astype(int)),  # one row of a class
        (ill_conditioned(60, 12), np.arange(60)),  # a class a row
    ],
    ids=["separable", "constant", "wide", "rows twice", "features twice", "rare", "all unlike"],
)
@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_degenerate_problems(features, column, strength):
    check(features, [column], [strength])


def test_a_batch_of_features_with_rows_of_padding():
    """The same as each alone, though they have unlike rows, classes, and difficulty."""
    several = [ill_conditioned(rows, 10) for rows in (80, 120, 50)]
    columns = [[classes_of(features, n) for n in (2, 5)] for features in several]
    features, classes, weights = torch.zeros(3, 120, 10), torch.zeros(3, 120, 2).long(), torch.zeros(3, 120, 2)
    for i, own in enumerate(several):
        features[i, : len(own)] = torch.from_numpy(own)
        classes[i, : len(own)] = torch.from_numpy(np.stack(columns[i], axis=1))
        weights[i, : len(own)] = 1
        features[i, len(own) :] = 77  # what padding holds does not matter
    strengths = torch.tensor([[1.0, 2.0], [0.01, 100.0], [5.0, 0.3]])
    fitted = fit_logistic(features.double(), classes, [2, 5], strengths, weights)
    for i, own in enumerate(several):
        alone = ours(own, columns[i], strengths[i].tolist())
        for j, column in enumerate(columns[i]):
            assert float(fitted[j].objectives[i]) == pytest.approx(float(alone[j].objectives), rel=1e-6)
            mine = fitted[j].coefficients[i].numpy(), fitted[j].intercepts[i].numpy()
            value = objective(own, column, float(strengths[i, j]), *mine)
            assert value == pytest.approx(float(alone[j].objectives), rel=1e-6)


def test_parts_that_cores_work_on_apart_are_each_alone(monkeypatch):
    features = torch.from_numpy(np.stack([ill_conditioned(60, 12) for _ in range(5)]))
    classes = torch.from_numpy(np.stack([classes_of(features[0].numpy(), n) for n in (4, 2)], axis=1)).expand(5, -1, -1)
    strengths = torch.tensor([[1.0, 0.3]]).expand(5, -1)
    at_once = fit_logistic(features, classes, [4, 2], strengths)
    monkeypatch.setattr("pbb_probe.probing.logistic.VALUES_AT_ONCE", 1)
    threads = torch.get_num_threads()
    apart = fit_logistic(features, classes, [4, 2], strengths)
    assert torch.get_num_threads() == threads
    for one, other in zip(at_once, apart, strict=True):
        assert torch.allclose(one.objectives, other.objectives, rtol=1e-6)
        assert torch.allclose(one.coefficients, other.coefficients, atol=5e-3)


def test_a_gram_matrix_that_rounding_makes_indefinite_still_leads_to_the_optimum():
    """At C = 1e5 float32 cannot tell the penalty from rounding; the objective is as low as scikit-learn's."""
    features = ill_conditioned(200, 60, decay=14)
    column = classes_of(features, 4)
    (fitted,) = ours(features, [column], [1e5])
    reached = objective(features, column, 1e5, fitted.coefficients.numpy(), fitted.intercepts.numpy())
    assert reached <= objective(features, column, 1e5, *sklearns(features, column, 1e5)) * (1 + 1e-4)
