"""The subspace that a probe reads is where the class was written, and what is interchanged in it is the class."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pbb_probe.errors import PbbError
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import patch_sweep
from pbb_probe.probing.linear import fit_probes
from pbb_probe.probing.probes import Probes

RNG = np.random.default_rng(0)


def fit_all(acts, values: pd.Series, **settings) -> Probes:
    """Fitted on all rows."""
    return fit_probes(acts, values.to_frame("state_1"), range(len(values)), folds=1, keep=True, **settings)


def test_it_is_the_span_of_scikit_learns_coefficients():
    directions, classes = RNG.normal(size=(4, 16)), RNG.integers(4, size=400)
    values = (directions[classes] + RNG.normal(size=(400, 16))) * RNG.uniform(0.1, 5, size=16)
    known = RNG.random(400) < 0.9
    acts = xr.Dataset(
        {"resid_post": (("layer", "role", "prompt", "d_model"), np.stack([values, values[:, ::-1]])[:, None])},
        coords={"layer": [2, 5], "role": ["answer"]},
    )
    basis = fit_all(acts, pd.Series(classes, dtype=float).where(known), C=0.5).subspaces()["resid_post"]
    assert basis.shape == (2, 1, 16, 3)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, tol=1e-9, max_iter=10_000))
    reference.fit(values[known], classes[known])
    rows = reference[-1].coef_ / reference[0].scale_
    span = torch.from_numpy(rows - rows.mean(0)).float().T
    for layer, expected in enumerate((span, span.flip(0))):
        here = basis[layer, 0]
        assert torch.allclose(here.T @ here, torch.eye(3), atol=1e-5)
        assert (expected - here @ (here.T @ expected)).norm() < 1e-3 * expected.norm()


def test_interchange_in_it_moves_the_class_that_the_probe_reads(bridge):
    """A probe reads the patched activation as the other run's class, though most of it stayed where it was."""
    model = bridge("llama")
    texts = [f"run dolvik({k % 5}) : {k % 7}" for k in range(35)]
    spans = [(text.index("(") + 1, text.index(")")) for text in texts]
    prompts = Prompts.from_texts(model, texts, {"input": spans})
    column = pd.Series([k % 5 for k in range(35)], name="input")
    acts = capture(model, prompts, layers=[1], roles=["input"])
    probes = fit_all(acts, column, C=10)
    probe, basis = probes.to_sklearn(), probes.subspaces()
    clean, corrupted = prompts.select([1, 2, 3]), prompts.select([10, 15, 20])
    effects = patch_sweep(
        model,
        Pairs(clean, corrupted),
        metric=lambda logits: logits[:, 0],
        sites=("resid_post",),
        layers=[1],
        positions=["input"],
        subspaces=basis,
    )
    own, other = acts["resid_post"].values[0, 0][[10, 15, 20]], acts["resid_post"].values[0, 0][[1, 2, 3]]
    inside = basis["resid_post"][0, 0].numpy()
    patched = own + (other - own) @ inside @ inside.T
    assert probe.predict(own).tolist() == [0, 0, 0]
    assert probe.predict(patched).tolist() == [1, 2, 3]
    assert np.linalg.norm(patched - own) < np.linalg.norm(other - own)

    def put(value, hook):
        value[range(3), corrupted.roles["input"]] = torch.from_numpy(patched)
        return value

    with torch.inference_mode():
        logits = model.run_with_hooks(corrupted.tokens, fwd_hooks=[("blocks.1.hook_resid_post", put)])
    expected = logits[range(3), corrupted.roles["answer"], 0].numpy()
    assert np.allclose(effects["resid_post"].values.squeeze(), expected, atol=1e-4)
    assert np.abs(expected - effects["corrupted"].values).max() > 1e-3


def test_what_cannot_be_a_subspace_is_refused():
    acts = xr.Dataset(
        {"z": (("layer", "role", "prompt", "head", "d_head"), RNG.normal(size=(1, 1, 6, 2, 3)))},
        coords={"layer": [0], "role": ["answer"]},
    )
    flat = acts.rename(z="resid_post").isel(head=0).rename(d_head="d_model")
    for given, values, settings, said in (
        (acts, pd.Series([1, 2] * 3), {}, "z is not"),
        (flat, pd.Series([1, 2, 3, 4, 5, 6]), {}, "'state_1' have 6 classes and activations 3 features"),
        (flat, pd.Series([1, 2] * 3), {"kinds": {"state_1": "ridge"}}, "'state_1' is read by ridge"),
    ):
        probes = fit_all(given, values, **settings)
        with pytest.raises(PbbError, match=said):
            probes.subspaces()


def one_place(values):
    return xr.Dataset(
        {"resid_post": (("layer", "role", "prompt", "d_model"), values[None, None])},
        coords={"layer": [0], "role": ["answer"]},
    )


CLASSES = np.arange(60) % 3


@pytest.mark.parametrize("strength", [1e-6, 1e5])
@pytest.mark.parametrize(
    "values",
    [
        RNG.normal(size=(60, 12)) * np.logspace(-4, 4, 12),
        np.tile(RNG.normal(size=(60, 6)), 2),
        np.eye(12)[CLASSES] + 1e-3 * RNG.normal(size=(60, 12)),
    ],
    ids=["of all scales", "twice", "separable"],
)
def test_every_strength_that_is_taken_gives_a_basis(strength, values):
    basis = fit_all(one_place(values), pd.Series(CLASSES), C=strength).subspaces()["resid_post"][0, 0]
    assert torch.allclose(basis.T @ basis, torch.eye(2), atol=1e-5)


@pytest.mark.parametrize("values", [np.ones((60, 12)), np.outer(CLASSES, np.ones(12))], ids=["one point", "a line"])
def test_activations_of_too_few_directions_are_refused(values):
    probes = fit_all(one_place(values), pd.Series(CLASSES))
    with pytest.raises(PbbError, match="'state_1' have no subspace of 2 dimensions"):
        probes.subspaces()
