"""Figures show the numbers of their tables, leave plotly's templates alone, and refuse tables that lack a column."""

import numpy as np
import pandas as pd
import plotly.io
import pytest
import xarray as xr

import pbb_probe as pbb


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    values = xr.DataArray(
        rng.normal(size=(2, 3, 2, 40)),
        dims=("site", "layer", "role", "pair"),
        coords={"site": ["resid_pre", "attn_out"], "layer": [0, 1, 2], "role": ["name", "answer"]},
    )
    values[0, 1, 0, :20] += 10.0  # one place where the groups differ
    return pbb.compare_groups(values, group=["with_io"] * 20 + ["without_io"] * 20, clusters=range(40), draws=300)


def test_heat_maps_hold_both_means_and_the_difference(table):
    figure = pbb.figures.patching_heatmap(table)
    assert len(figure.data) == 2 * 3
    with_io, without_io, difference = (np.array(trace.z) for trace in figure.data[:3])
    np.testing.assert_allclose(with_io - without_io, difference, atol=1e-12)
    cell = table[(table["site"] == "resid_pre") & (table["layer"] == 1) & (table["role"] == "name")]
    assert difference[1, 0] == pytest.approx(cell["difference"].item())
    assert figure.data[2].text[1][0].endswith("*")
    assert not figure.data[2].text[0][0].endswith("*")


def test_curves_hold_the_means_the_bands_and_mark_where_groups_differ(table):
    figure = pbb.figures.layer_curves(table, rows="site", columns="role", reference=table)
    lines = [t for t in figure.data if t.mode == "lines+markers" and t.name == "with_io"]
    assert len(lines) == 4
    panel = table[(table["site"] == "resid_pre") & (table["role"] == "name")].sort_values("layer")
    np.testing.assert_allclose(lines[0].y, panel["mean_with_io"])
    assert lines[0].marker.symbol == ("circle-open", "circle", "circle-open")
    bands = [t for t in figure.data if t.fill == "toself"]
    np.testing.assert_allclose(bands[0].y[:3], panel["upper_with_io"])
    with pytest.raises(pbb.PbbError, match="no column"):
        pbb.figures.layer_curves(table.drop(columns="layer"), rows="site", columns="role")


def test_behaviour_bars_reach_the_interval():
    row = {"model": "m", "mode": "direct", "group": "with_io", "steps": 1, "seen": True, "mean": 0.5, "lower": 0.4}
    table = pd.DataFrame([{**row, "upper": 0.7, "n": 10, "programs": 5, "chance": 0.1}])
    (bar,) = pbb.figures.behaviour(table).data
    assert bar.y[0] + bar.error_y.array[0] == pytest.approx(0.7)
    assert bar.y[0] - bar.error_y.arrayminus[0] == pytest.approx(0.4)
    assert list(bar.x) == ["with_io<br>seen input"]


def test_no_global_template_is_changed(table):
    before = plotly.io.templates.default
    pbb.figures.patching_heatmap(table)
    assert plotly.io.templates.default == before
