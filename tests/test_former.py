"""Calls of the previous release still answer, with a warning; what they give is held to scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import pbb_probe as pbb

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(80, 6))
VALUES = np.where(FEATURES[:, 0] + 0.3 * RNG.normal(size=80) > 0, "yes", "no")
ACTS = xr.Dataset(
    {"resid_post": (("layer", "role", "prompt", "d_model"), FEATURES[None, None])},
    coords={"layer": [3], "role": ["answer"]},
)
REFERENCE = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000)
SCALED = StandardScaler().fit(FEATURES)
REFERENCE.fit(SCALED.transform(FEATURES), VALUES)


@pytest.mark.filterwarnings("ignore:pbb_probe.fit_probe goes")
def test_one_probe_on_all_rows():
    probe = pbb.fit_probe(FEATURES, VALUES, C=0.5)
    mine = probe.to_sklearn("value", "features").predict(FEATURES)
    assert mine.tolist() == REFERENCE.predict(SCALED.transform(FEATURES)).tolist()


@pytest.mark.filterwarnings("ignore:pbb_probe.probe_subspaces goes")
def test_a_subspace_is_the_span_of_the_directions():
    (basis,) = pbb.probe_subspaces(ACTS, pd.Series(VALUES, name="value"), C=0.5).values()
    direction = torch.from_numpy(REFERENCE.coef_[0] / SCALED.scale_)
    cosine = torch.nn.functional.cosine_similarity(basis[0, 0, :, 0].double(), direction, dim=0)
    assert abs(cosine.item()) == pytest.approx(1, abs=1e-5)


@pytest.mark.filterwarnings("ignore:pbb_probe.fit_held_out goes")
def test_held_out_probes_read_what_they_did_not_see():
    clusters = [f"program {i // 4}" for i in range(80)]
    probes = pbb.fit_held_out(ACTS, pd.DataFrame({"value": VALUES}), clusters, None, 0.5)
    read = probes.read(ACTS, clusters)
    assert probes.folds == 2
    assert (read["value"] == VALUES).mean() > 0.75
