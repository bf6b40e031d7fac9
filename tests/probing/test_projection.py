"""Points against scikit-learn's own on one layer, planted classes, and turns that are known."""

import sys

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.spatial.distance import pdist
from scipy.stats import special_ortho_group
from sklearn.decomposition import PCA

from pbb_probe.errors import PbbError
from pbb_probe.hooking.calls import make_prompts
from pbb_probe.hooking.capture import capture
from pbb_probe.probing.projection import project, turned

N, WIDTH, LAYERS = 240, 20, 4
RNG = np.random.default_rng(0)
SPREAD = np.geomspace(5, 0.1, WIDTH)


def activations(values: np.ndarray, role="answer") -> xr.Dataset:
    """Of values [layer, prompt, feature], beside a role that is another."""
    both = np.stack([values, RNG.normal(size=values.shape)], axis=1).astype(np.float32)
    return xr.Dataset(
        {"resid_post": (("layer", "role", "prompt", "d_model"), both)},
        coords={"layer": [2 * i for i in range(len(values))], "role": [role, "other"]},
    )


CLOUDS = RNG.normal(size=(LAYERS, N, WIDTH)) * SPREAD + 300  # a mean that dwarfs what differs
ACTS = activations(CLOUDS)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("half", [False, True])
def test_pca_of_a_layer_is_that_of_scikit_learn_up_to_a_turn(axes, half):
    fit = np.arange(N) < N // 2 if half else None
    points = project(ACTS, axes=axes, fit=fit)
    assert points.dims == ("layer", "prompt", "axis")
    assert points.shape == (LAYERS, N, axes)
    assert points.dtype == np.float32
    assert points["layer"].values.tolist() == [0, 2, 4, 6]
    assert points.attrs == {"method": "pca", "site": "resid_post", "role": "answer"}
    for i in range(LAYERS):
        own = PCA(axes, svd_solver="full").fit(CLOUDS[i][: N // 2] if half else CLOUDS[i])
        assert np.allclose(pdist(points[i]), pdist(own.transform(CLOUDS[i])), rtol=1e-3, atol=1e-3)
        assert float(points["explained"][i]) == pytest.approx(own.explained_variance_ratio_.sum(), abs=1e-4)
    assert np.allclose(points.mean("prompt"), 0, atol=1e-4)


def test_more_features_than_rows():
    wide = RNG.normal(size=(2, 30, 600)) * np.geomspace(9, 0.1, 600)
    points = project(activations(wide))
    own = PCA(2, svd_solver="full").fit_transform(wide[1])
    assert np.allclose(pdist(points[1]), pdist(own), rtol=1e-3)
    classes = np.arange(30) % 3
    wide[..., 0] += 60 * classes
    wide[..., 1] += 60 * (classes == 1)
    assert nearest_is_own(project(activations(wide), method="lda", target=classes).values[0], classes).mean() > 0.95


def test_layers_move_less_than_they_would_unturned():
    # the same cloud throughout, seen along other axes in each layer and with a little noise
    same = [CLOUDS[0] @ special_ortho_group.rvs(WIDTH, random_state=i) for i in range(LAYERS)]
    values = np.stack(same) + 0.3 * RNG.normal(size=(LAYERS, N, WIDTH))
    for acts in (activations(values), ACTS):
        points = project(acts).values
        alone = np.stack([project(acts.isel(layer=[i])).values[0] for i in range(LAYERS)])
        assert np.allclose(points[0], alone[0])
        for i in range(LAYERS):
            assert np.allclose(pdist(points[i]), pdist(alone[i]), rtol=1e-4, atol=1e-4)
        assert (np.diff(points, axis=0) ** 2).sum() <= (np.diff(alone, axis=0) ** 2).sum()
    # of the same cloud nothing but the noise is left
    moved = np.linalg.norm(np.diff(project(activations(values)).values, axis=0), axis=-1)
    assert moved.mean() < 0.8


@pytest.mark.parametrize("axes", [2, 3])
def test_a_turn_and_a_reflection_are_undone(axes):
    points = RNG.normal(size=(50, axes))
    turn = special_ortho_group.rvs(axes, random_state=1)
    mirror = np.diag([-1.0, *[1.0] * (axes - 1)])
    assert np.allclose(turned(points @ turn, points), points)
    assert np.allclose(turned(points @ turn @ mirror, points), points)
    assert np.allclose(turned(3 * points @ turn, points), 3 * points)  # never stretched


def nearest_is_own(points: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Is the nearest class mean a point's own? [point]"""
    values = np.unique(classes)
    means = np.stack([points[classes == value].mean(0) for value in values])
    return values[np.linalg.norm(points[:, None] - means, axis=-1).argmin(1)] == classes


def test_lda_parts_planted_classes_on_rows_it_was_not_fitted_on():
    classes = RNG.integers(4, size=N)
    codes = RNG.normal(size=(4, WIDTH)) * 1.5
    noise = RNG.normal(size=(2, N, WIDTH)) * np.array([1.0] * (WIDTH - 2) + [40.0] * 2)  # large, and about nothing
    acts = activations(codes[classes] + noise)
    fit = np.arange(N) % 2 == 0
    lda = project(acts, method="lda", axes=3, target=classes, fit=fit)
    assert "explained" not in lda.coords
    for layer in lda.values:
        assert nearest_is_own(layer[~fit], classes[~fit]).mean() > 0.9
        within = np.concatenate([layer[fit & (classes == c)] - layer[fit & (classes == c)].mean(0) for c in range(4)])
        assert within.std(0) == pytest.approx(np.ones(3), abs=0.2)  # in units of the spread within a class
    pca = project(acts, axes=3)
    assert nearest_is_own(pca.values[0], classes).mean() < 0.75  # the noise is what it sees


def test_rows_without_a_value_are_not_fitted_on():
    classes = (np.arange(N) % 3).astype(float)
    target = np.where(np.arange(N) < 40, np.nan, classes)
    target[40] = 17  # a value that occurs once says nothing of its spread
    known = (np.arange(N) > 40) & np.isfinite(target)
    found = project(ACTS, method="lda", target=target.tolist())
    same = project(ACTS, method="lda", target=classes, fit=known)
    assert np.allclose(found, same, atol=1e-4)
    text = [None if np.isnan(value) else str(value) for value in target]
    assert np.allclose(project(ACTS, method="lda", target=text), found, atol=1e-4)


def test_a_layer_in_which_all_are_alike_is_a_point():
    values = CLOUDS[:2].copy()
    values[0] = values[0, 0]
    points = project(activations(values))
    assert not points[0].any()
    assert points["explained"].values.tolist()[0] == 0
    assert float(points["explained"][1]) > 0.3


def test_heads_of_a_real_model_are_taken_together_and_may_stay_on_disk(bridge, corpus, tmp_path):
    model = bridge("llama")
    prompts = make_prompts(corpus, model, n=12)
    acts = capture(model, prompts, sites=["z", "resid_post"])
    stored = capture(model, prompts, sites=["z", "resid_post"], out=tmp_path / "acts", batch_size=7)
    points = project(acts, site="z", role="input")
    flat = acts["z"].sel(layer=1, role="input").values.reshape(len(prompts), -1)
    assert np.allclose(pdist(points.sel(layer=1)), pdist(PCA(2).fit_transform(flat)), rtol=1e-3, atol=1e-4)
    assert np.allclose(project(stored, site="z", role="input"), points, atol=1e-3)


def test_umap_keeps_neighbours_and_is_seeded():
    pytest.importorskip("umap")
    classes = np.arange(60) % 3
    values = RNG.normal(size=(1, 60, WIDTH)) + 12 * np.eye(WIDTH)[classes]
    threads = torch.get_num_threads()
    points = project(activations(values), method="umap", fit=np.arange(60) < 50, seed=3)
    assert torch.get_num_threads() == threads  # else all that follows in this process would share out what is small
    assert nearest_is_own(points.values[0], classes).all()
    assert np.array_equal(points, project(activations(values), method="umap", fit=np.arange(60) < 50, seed=3))


def test_without_umap_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(PbbError, match=r"pip install 'pbb-probe\[umap\]'"):
        project(ACTS, method="umap")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"site": "z"}, "no site 'z'.*resid_post"),
        ({"role": "name"}, "no role 'name'.*answer, other"),
        ({"method": "tsne"}, "Unknown method 'tsne'"),
        ({"axes": 4}, "axes must be at most 3"),
        ({"fit": np.ones(3, bool)}, "fit must be true or false for each of the 240"),
        ({"fit": np.arange(N)}, "fit must be true or false"),
        ({"fit": np.arange(N) < 3}, "3 rows to fit on are too few"),
        ({"method": "lda"}, "LDA needs a target"),
        ({"target": np.arange(N) % 3}, "the other methods take none"),
        ({"method": "lda", "target": [1, 2]}, "240 prompts and 2 values"),
        ({"method": "lda", "target": np.arange(N) % 2}, "LDA of 2 values has at most 1 axes"),
        ({"method": "lda", "target": np.arange(N) % 3, "axes": 3}, "LDA of 3 values has at most 2 axes"),
        ({"method": "lda", "target": np.arange(N)}, "LDA of 0 values"),
        ({"method": "lda", "target": [None] * N}, "LDA of 0 values"),
    ],
)
def test_what_cannot_be_projected_is_refused(asked, message):
    with pytest.raises(PbbError, match=message):
        project(ACTS, **asked)


def test_activations_of_another_kind_are_refused():
    broken = ACTS.copy(deep=True)
    broken["resid_post"][1, 0, 7, 3] = np.nan
    with pytest.raises(PbbError, match="resid_post at layer 2, role 'answer', is NaN or infinite for prompt 7"):
        project(broken)
    with pytest.raises(PbbError, match="no dimension 'role'"):
        project(ACTS.isel(role=0, drop=True))
    with pytest.raises(PbbError, match="1 features, fewer than the 2 axes"):
        project(ACTS.isel(d_model=[0]))
