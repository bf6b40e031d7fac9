"""The table of a sweep is held to ratios by hand and to a slow bootstrap over programs."""

import numpy as np
import pytest
import xarray as xr

from pbb_probe.evidence import tables


def test_recoveries_by_hand():
    effects = xr.Dataset(
        {
            "clean": ("pair", [3.0, 5.0, 4.0]),
            "corrupted": ("pair", [1.0, -1.0, 0.0]),
            "resid_pre": (("layer", "role", "pair"), [[[1.0, 5.0, 0.0]], [[np.nan] * 3]]),
            "z": (("layer", "head", "role", "pair"), [[[[1.0, -1.0, 0.0]], [[3.0, 5.0, 4.0]]]] * 2),
            "z_estimate": (("layer", "head", "role", "pair"), np.zeros((2, 2, 1, 3))),
        },
        coords={"layer": [4, 9], "role": ["answer"], "program": ("pair", ["a", "a", "b"])},
    )
    table = tables.recovery(effects, by=(), draws=100)
    assert list(table.columns) == ["site", "layer", "role", "head", "recovery", "lower", "upper", "n", "clusters"]
    assert list(table["site"]) == ["resid_pre"] + ["z"] * 4  # layer 9 of resid_pre was not patched
    assert list(table["recovery"]) == pytest.approx([6 / 12, 0, 1, 0, 1])  # changes 0, 6, 0 of distances 2, 6, 4
    assert set(table["n"]) == {3}
    assert set(table["clusters"]) == {2}
    first = table.iloc[0]
    assert (first["lower"], first["upper"]) == pytest.approx((0.0, 6 / 8))  # only b, and only a


def test_several_metrics_each_have_their_own_distance():
    rng = np.random.default_rng(0)
    clean, corrupted = rng.normal(2, 1, (2, 60)), rng.normal(0, 1, (2, 60))
    effects = xr.Dataset(
        {
            "clean": (("metric", "pair"), clean),
            "corrupted": (("metric", "pair"), corrupted),
            "resid_pre": (("metric", "layer", "position", "pair"), rng.normal(1, 1, (2, 3, 4, 60))),
        },
        coords={"metric": ["one", "two"], "layer": range(3), "position": range(4)},
    )
    clusters = np.repeat(np.arange(20), 3)
    effects = effects.assign_coords(name=("pair", clusters))
    table = tables.recovery(effects, by=(), clusters="name", draws=4000).set_index(["metric", "layer", "position"])
    draw = np.random.default_rng(1)
    for i, metric in enumerate(("one", "two")):
        change = effects["resid_pre"].values[i, 1, 2] - corrupted[i]
        found = []
        for _ in range(4000):
            rows = np.concatenate([np.flatnonzero(clusters == c) for c in draw.integers(0, 20, 20)])
            found.append(change[rows].sum() / (clean[i] - corrupted[i])[rows].sum())
        row = table.loc[metric, 1, 2]
        assert row["recovery"] == pytest.approx(change.sum() / (clean[i] - corrupted[i]).sum())
        assert (row["lower"], row["upper"]) == pytest.approx(np.percentile(found, [2.5, 97.5]), abs=0.02)


def test_pairs_are_split_by_a_coordinate_and_each_may_be_its_own_cluster():
    effects = xr.Dataset(
        {
            "clean": ("pair", [1.0, 3, 2, 2]),
            "corrupted": ("pair", [0.0] * 4),
            "z": (("layer", "pair"), [[1.0, 0, 2, 1]]),
        },
        coords={"layer": [0], "group": ("pair", ["a", "a", "b", "b"])},
    )
    table = tables.recovery(effects, clusters=None, draws=50)
    assert table[["group", "recovery", "n", "clusters"]].to_numpy().tolist() == [["a", 1 / 4, 2, 2], ["b", 3 / 4, 2, 2]]
