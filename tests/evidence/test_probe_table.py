"""The table says of each place what a hand count says, with intervals over clusters."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.metrics import r2_score

from pbb_probe.errors import PbbError
from pbb_probe.evidence import tables
from pbb_probe.probing.linear import fit_probes
from pbb_probe.statistics.groups import cluster_bootstrap

N = 120
RNG = np.random.default_rng(0)
CLUSTER = np.repeat(np.arange(30), 4)
GROUP = np.where(CLUSTER < 20, "with_io", "without_io")
ACTS = xr.Dataset(
    {"resid_post": (("layer", "role", "prompt", "d_model"), RNG.normal(size=(2, 1, N, 5)))},
    coords={"layer": [0, 3], "role": ["answer"], "program": ("prompt", CLUSTER), "group": ("prompt", GROUP)},
)
X = ACTS["resid_post"].values[1, 0]
TARGETS = pd.DataFrame(
    {"class": pd.Series(X[:, 0] > 0).where(RNG.random(N) < 0.8), "number": X[:, 1] + 0.5 * RNG.normal(size=N)}
)
PROBES = fit_probes(ACTS, TARGETS, CLUSTER, folds=3, kinds={"number": "ridge"}, controls=("selectivity", "chance"))
TABLE = tables.probes(PROBES, draws=500)


@pytest.mark.parametrize("control", ["none", "chance", "selectivity"])
@pytest.mark.parametrize("group", ["with_io", "without_io"])
def test_accuracy_by_hand(control, group):
    row = TABLE[
        (TABLE["control"] == control) & (TABLE["group"] == group) & (TABLE["target"] == "class") & (TABLE["layer"] == 3)
    ]
    assert len(row) == 1
    values = PROBES["correct"].sel(control=control, target="class", layer=3).values.ravel()
    mine = (group == GROUP) & np.isfinite(values)
    assert row["score"].item() == pytest.approx(values[mine].mean())
    assert row["n"].item() == mine.sum()
    assert row["clusters"].item() == len(set(CLUSTER[mine]))
    assert row["measure"].item() == "accuracy"
    interval = cluster_bootstrap(values[group == GROUP], CLUSTER[group == GROUP].tolist(), 500, 0)
    assert (row["lower"].item(), row["upper"].item()) == pytest.approx((float(interval.lower), float(interval.upper)))


def test_r_squared_is_scikit_learns():
    for group in ("with_io", "without_io"):
        mine = group == GROUP
        found = TABLE[(TABLE["target"] == "number") & (TABLE["group"] == group) & (TABLE["control"] == "none")]
        for layer in (0, 3):
            row = found[found["layer"] == layer]
            predicted = PROBES["predicted"].sel(control="none", target="number", layer=layer).values.ravel()
            assert row["score"].item() == pytest.approx(r2_score(TARGETS["number"][mine], predicted[mine]), abs=1e-6)
            assert row["measure"].item() == "r2"
            assert row["lower"].item() < row["score"].item() < row["upper"].item()


def test_without_groups_there_is_one_row_a_place():
    table = tables.probes(PROBES, by=(), draws=50)
    assert "group" not in table
    assert not table.duplicated(["control", "target", "site", "layer", "role"]).any()
    assert len(table) == 3 * 2 * 2
    with pytest.raises(PbbError, match="no coordinate 'family'"):
        tables.probes(PROBES, by=["family"])
