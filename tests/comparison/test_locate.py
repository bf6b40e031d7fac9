"""Onset layers are held to curves drawn by hand, and their intervals to resamples that can be counted."""

import numpy as np
import pytest
import xarray as xr

from pbb_probe.comparison.locate import locate
from pbb_probe.errors import PbbError


def curves(*columns: list[float], layers=None) -> xr.DataArray:
    """(layer, prompt) from a curve over layers for each prompt."""
    layers = range(len(columns[0])) if layers is None else layers
    return xr.DataArray(np.array(columns, float).T, dims=("layer", "prompt"), coords={"layer": list(layers)})


def found(values: xr.DataArray, clusters=None, **settings):
    """The only row of a table of one group."""
    n = values.sizes["prompt"]
    table = locate(values, group=["g"] * n, clusters=range(n) if clusters is None else clusters, draws=2000, **settings)
    assert len(table) == 1
    return table.iloc[0]


def test_first_is_where_the_curve_stays_above():
    row = found(curves([0.1, 0.2, 0.9, 1.0]))
    assert (row["layer"], row["lower"], row["upper"], row["found"]) == (2, 2, 2, 1)


def test_first_ignores_a_bump_that_falls_again():
    assert found(curves([0.9, 0.1, 0.2, 0.8]))["layer"] == 3
    assert found(curves([0.9, 0.9, 0.2, 0.8, 0.8, 0.8]))["layer"] == 3


def test_first_finds_nothing_when_the_top_is_below():
    row = found(curves([0.9, 0.9, 0.4]))
    assert np.isnan([row["layer"], row["lower"], row["upper"]]).all()
    assert row["found"] == 0


def test_last_is_the_highest_layer_above():
    assert found(curves([0.9, 0.9, 0.4, 0.1]), edge="last")["layer"] == 1
    assert found(curves([0.9, 0.1, 0.8, 0.1]), edge="last")["layer"] == 2
    assert found(curves([0.1, 0.1, 0.9]), edge="last")["layer"] == 2


@pytest.mark.parametrize("edge", ["first", "last"])
def test_nothing_above_is_missing(edge: str):
    row = found(curves([0.1, 0.2, 0.3]), edge=edge)
    assert np.isnan([row["layer"], row["lower"], row["upper"]]).all()
    assert row["found"] == 0


def test_everything_above_is_the_first_layer_or_the_last():
    assert found(curves([0.9, 0.8, 0.7]))["layer"] == 0
    assert found(curves([0.9, 0.8, 0.7]), edge="last")["layer"] == 2


def test_the_threshold_itself_counts_and_can_be_moved():
    assert found(curves([0.0, 0.25, 0.5, 0.75]))["layer"] == 2
    assert found(curves([0.0, 0.25, 0.5, 0.75]), threshold=0.25)["layer"] == 1
    assert found(curves([0.0, 0.25, 0.5, 0.75]), threshold=0.6)["layer"] == 3


def test_layers_are_named_by_their_coordinate():
    assert found(curves([0.0, 1.0, 1.0], layers=[4, 8, 12]))["layer"] == 8


def test_the_mean_over_rows_decides_and_missing_rows_are_absent():
    nan = float("nan")
    assert found(curves([0.0, 0.2, 1.0], [0.0, 1.0, 1.0]))["layer"] == 1
    assert found(curves([0.0, nan, 1.0], [0.0, 0.4, 1.0]))["layer"] == 2


def test_interval_spans_clusters_that_disagree():
    # resamples: early twice (1/4), one of each (1/2), late twice (1/4)
    early, late = [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    row = found(curves(early, late), threshold=0.5)
    assert (row["layer"], row["lower"], row["upper"], row["found"]) == (1, 1, 3, 1)
    row = found(curves(early, late), threshold=0.6)
    assert (row["layer"], row["lower"], row["upper"], row["found"]) == (3, 1, 3, 1)


def test_rows_of_one_cluster_are_resampled_together():
    early, late = [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    row = found(curves(early, late, early, late), clusters=["p"] * 4, threshold=0.5)
    assert (row["layer"], row["lower"], row["upper"]) == (1, 1, 1)
    assert (row["n"], row["clusters"]) == (4, 1)


def test_resamples_without_a_layer_are_counted_and_bounds_need_half_of_them():
    early, never = [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    row = found(curves(early, never), threshold=0.5)  # missing only when `never` is drawn twice
    assert row["found"] == pytest.approx(0.75, abs=0.04)
    assert (row["layer"], row["lower"], row["upper"]) == (1, 1, 1)
    row = found(curves(early, never), threshold=0.6)  # there only when `early` is drawn twice
    assert row["found"] == pytest.approx(0.25, abs=0.04)
    assert np.isnan([row["layer"], row["lower"], row["upper"]]).all()


def test_groups_are_located_apart():
    values = curves([0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0])
    group = ["without_io", "with_io", "without_io", "with_io", "with_io"]
    table = locate(values, group=group, clusters=list("pqpqr"), draws=100).set_index("group")
    assert list(table.index) == ["with_io", "without_io"]
    assert (table.loc["with_io", "layer"], table.loc["without_io", "layer"]) == (2, 1)
    assert (table.loc["with_io", "n"], table.loc["without_io", "n"]) == (3, 2)
    assert (table.loc["with_io", "clusters"], table.loc["without_io", "clusters"]) == (2, 1)


def test_an_unknown_edge_is_refused():
    with pytest.raises(PbbError, match="middle"):
        found(curves([0.0, 1.0]), edge="middle")
