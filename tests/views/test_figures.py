"""Figures show the numbers of their tables, leave plotly's templates alone, and refuse tables that lack a column."""

import numpy as np
import pandas as pd
import plotly.io
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.programs.passes import MOST


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


def test_groups_of_other_names_have_colours_of_their_own(table):
    named = {name: name.replace("without_io", "<b>x").replace("with_io", "a") for name in table.columns}
    lines = pbb.figures.layer_curves(table.rename(columns=named), "site", "role", groups=("a", "<b>x")).data
    colours = {t.name: t.line.color for t in lines if t.mode == "lines+markers"}
    assert colours["a"] != colours["&lt;b&gt;x"]


def one_place(table, site="resid_pre"):
    return table[(table["site"] == site) & (table["role"] == "name")]


def test_below_both_curves_stands_their_difference_with_its_interval(table):
    tables = {"<i>first</i>": one_place(table), "second": one_place(table, "attn_out")}
    figure = pbb.figures.curves_with_difference(tables, y_titles={"second": "recovery"}, margin=0.5)
    for heading, x, upper, lower in (("<i>first</i>", "x", "y", "y3"), ("second", "x2", "y2", "y4")):
        cells = tables[heading].sort_values("layer")
        for group in ("with_io", "without_io"):
            (line,) = [t for t in figure.data if t.name == group and t.yaxis == upper and t.fill is None]
            np.testing.assert_allclose(line.y, cells[f"mean_{group}"])
            assert (line.xaxis, list(line.x)) == (x, [0, 1, 2])
        band, line = [t for t in figure.data if t.yaxis == lower and t.legendgroup == "with_io minus without_io"]
        np.testing.assert_allclose(line.y, cells["difference"])
        np.testing.assert_allclose(line.y, cells["mean_with_io"] - cells["mean_without_io"])
        np.testing.assert_allclose(band.y, [*cells["upper"], *cells["lower"][::-1]])
        assert line.name == "with_io minus without_io"
        assert list(line.marker.symbol) == ["circle" if p < 0.05 else "circle-open" for p in cells["p_adjusted"]]
    assert "circle" in figure.data[5].marker.symbol
    assert {"&lt;i&gt;first&lt;/i&gt;", "second"} <= {note.text for note in figure.layout.annotations}
    assert [shape.y1 for shape in figure.layout.shapes if shape.type == "rect"] == [0.5, 0.5]
    assert figure.layout.yaxis2.title.text == "recovery"


def test_a_difference_without_p_has_no_markers(table):
    figure = pbb.figures.curves_with_difference({"": one_place(table).drop(columns="p_adjusted")})
    assert {t.mode for t in figure.data} == {"lines"}
    assert "p < 0.05" not in str([t.name for t in figure.data])


def test_the_difference_is_named_in_the_order_in_which_it_is_taken(table):
    figure = pbb.figures.curves_with_difference({"": one_place(table)}, groups=("without_io", "with_io"))
    assert [t.name for t in figure.data if t.legendgroup and " minus " in t.legendgroup][
        1
    ] == "with_io minus without_io"


def test_several_places_and_tables_without_differences_are_refused(table):
    draw, cells = pbb.figures.curves_with_difference, one_place(table)
    with pytest.raises(pbb.PbbError, match="'both' has several rows for one layer"):
        draw({"both": table[table["role"] == "name"]})
    with pytest.raises(pbb.PbbError, match="no column 'difference'"):
        draw({"": cells.drop(columns="difference")})
    with pytest.raises(pbb.PbbError, match="has no rows"):
        draw({"": cells[:0]})
    with pytest.raises(pbb.PbbError, match="no tables"):
        draw({})
    with pytest.raises(pbb.PbbError, match="Two groups"):
        draw({"": cells}, groups=("with_io",))


def test_behaviour_bars_reach_the_interval():
    row = {"model": "m", "mode": "direct", "group": "with_io", "steps": 1, "seen": True, "mean": 0.5, "lower": 0.4}
    table = pd.DataFrame([{**row, "upper": 0.7, "n": 10, "programs": 5, "chance": 0.1}])
    (bar,) = pbb.figures.behaviour(table).data
    assert bar.y[0] + bar.error_y.array[0] == pytest.approx(0.7)
    assert bar.y[0] - bar.error_y.arrayminus[0] == pytest.approx(0.4)
    assert list(bar.x) == ["with_io<br>seen input"]


def test_the_headline_is_decisive_calls_of_new_functions_before_all_calls():
    """with_io has no new functions: what is asked of it stands for all its decisive calls."""
    cells = {
        ("with_io", "all", "all"): 0.8, ("with_io", "decisive", "all"): 0.6, ("without_io", "all", "all"): 0.7,
        ("without_io", "all", "new functions"): 0.5, ("without_io", "all", "known functions"): 0.75,
        ("without_io", "decisive", "all"): 0.4, ("without_io", "decisive", "new functions"): 0.2,
        ("without_io", "decisive", "known functions"): 0.45, ("io_only", "all", "all"): 0.9,
        ("io_only", "decisive", "all"): 0.65,
    }  # fmt: skip
    rows = [
        {"model": m, "mode": "direct", "group": g, "steps": 2, "seen": False, "calls": calls, "programs": of,
         "mean": mean / n, "lower": mean / n - 0.1, "upper": mean / n + 0.05, "n": 10, "chance": 0.1 + (calls == "all")}
        for n, m in enumerate(("finetuned", "base"), 1) for (g, calls, of), mean in cells.items()
    ]  # fmt: skip
    figure = pbb.figures.behaviour(pd.DataFrame(rows))
    drawn = {
        (bar.name, bar.opacity < 1): dict(zip(bar.x, bar.y, strict=True)) for bar in figure.data if bar.type == "bar"
    }
    order = ["with_io<br>unseen input", "without_io", "io_only<br>unseen input"]
    for n, model in enumerate(("finetuned", "base"), 1):
        assert drawn[model, False] == {x: y / n for x, y in zip(order, (0.6, 0.2, 0.65), strict=True)}
        assert drawn[model, True] == {x: y / n for x, y in zip(order, (0.8, 0.7, 0.9), strict=True)}
    pale, full = figure.data[:2]
    assert (pale.error_y.array, list(full.error_y.array)) == (None, pytest.approx([0.05] * 3))
    assert pale.offset < full.offset < full.offset + full.width < pale.offset + pale.width
    assert list(figure.layout.xaxis.categoryarray) == order
    assert [shape.y0 for shape in figure.layout.shapes] == [pytest.approx(0.1)]
    assert "decisive calls of new functions" in figure.layout.title.text


@pytest.fixture(scope="module")
def carried():
    cells = [
        (group, site, control, layer, role, hypothesis, share)
        for group, most in (("with_io", 0.75), ("without_io", 0.5))
        for site in ("resid_pre", "mlp_out")
        for control in ("none", "self")
        for layer in (0, 1)
        for role in ("name", "answer")
        for hypothesis, share in (("nothing", 1 - most), ("state_1", most * (control == "none")))
    ]
    columns = ["group", "site", "control", "layer", "role", "hypothesis", "proportion"]
    return pd.DataFrame(cells, columns=columns).assign(lower=0.1, upper=0.9, n=8, programs=4)


def test_the_transfer_map_stacks_the_shares_with_the_groups_side_by_side(carried):
    figure = pbb.figures.transfer_map(carried)
    assert figure.layout.barmode == "stack"
    assert len(figure.data) == 2 * 4 * 2  # sites, roles by group, hypotheses
    titles = [note.text for note in figure.layout.annotations[:4]]
    assert titles == [f"{r}<br><b>{g}</b> (8)" for r in ("name", "answer") for g in ("with_io", "without_io")]
    shares = {(bar.xaxis or "x", bar.name): list(bar.x) for bar in figure.data[:4]}
    assert shares["x", "state 1"] == [0.75, 0.75]
    assert shares["x2", "state 1"] == [0.5, 0.5]
    assert list(figure.data[0].y) == ["0", "1"]
    assert figure.layout.yaxis.autorange == "reversed"
    control = pbb.figures.transfer_map(carried, control="self", groups=("without_io",))
    assert len(control.data) == 2 * 2 * 2
    assert list(control.data[1].x) == [0, 0]


def test_a_hypothesis_that_few_pairs_tell_has_a_bar_of_its_share_of_all_pairs(carried):
    """Two of the eight pairs tell whether state 1 is followed, and in 3 of 4 of these it is."""
    few = carried.assign(n=carried["hypothesis"].map({"nothing": 8, "state_1": 2}))
    of_state = next(bar for bar in pbb.figures.transfer_map(few).data if bar.name == "state 1")
    assert list(of_state.x) == [0.75 * 2 / 8] * 2
    assert [row[2] for row in of_state.customdata] == [0.75] * 2
    assert "customdata[2]" in of_state.hovertemplate


def test_every_hypothesis_has_a_colour_of_its_own(carried):
    names = [
        *("nothing", "everything", "program", "input", "state_1", "steps_to_1", "steps_after_1"),
        *(f"{name}_{k}" for k in range(1, MOST + 1) for name in ("pass", "passes_to", "passes_after")),
        *("only_step_1", "only_step_2", "program_only_step_1", "program_only_step_2", "other"),
    ]
    cell = carried.drop_duplicates("site").iloc[:1]
    table = pd.concat([cell.assign(hypothesis=name) for name in names])
    bars = pbb.figures.transfer_map(table).data
    assert [bar.name for bar in bars] == [name.replace("_", " ") for name in names]
    assert len({bar.marker.color for bar in bars}) == len(names)


def test_the_transfer_map_names_heads(carried):
    some = carried.assign(head=[0.0, 1.0] * (len(carried) // 2)).assign(hypothesis="program")
    bar = pbb.figures.transfer_map(some).data[0]
    assert list(bar.y) == ["0.0", "0.1", "1.0", "1.1"]


def test_the_transfer_map_leaves_out_what_one_group_alone_was_measured_at(carried):
    lacking = (carried["role"] == "answer") & (carried["group"] == "without_io")
    assert len(pbb.figures.transfer_map(carried[~lacking]).data) == 2 * 3 * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drop": "control"}, "no column 'control'"),
        ({"control": "random"}, "no rows of the control 'random'"),
    ],
)
def test_the_transfer_map_refuses_tables_it_cannot_draw(carried, change, said):
    table = carried.drop(columns=change.pop("drop")) if "drop" in change else carried
    with pytest.raises(pbb.PbbError, match=said):
        pbb.figures.transfer_map(table, **change)


def swept(**coords) -> pd.DataFrame:
    """A table of recoveries that differ at every place."""
    rows = pd.MultiIndex.from_product(coords.values(), names=coords).to_frame(index=False)
    numbers = np.linspace(-0.5, 1, len(rows))
    return rows.assign(recovery=numbers, lower=numbers - 0.1, upper=numbers + 0.1, n=7, clusters=3)


def test_a_sweep_has_a_panel_a_site_and_a_row_a_head():
    heads = swept(site=["z"], layer=[0, 1], head=[0.0, 1.0], role=["name", "answer"])
    table = pd.concat([swept(site=["resid_pre"], layer=[0, 1], role=["name", "answer"]), heads])
    whole, by_head = pbb.figures.sweep_heatmap(table).data
    assert (list(whole.x), list(whole.y)) == (["name", "answer"], ["0", "1"])
    assert list(by_head.y) == ["0.0", "0.1", "1.0", "1.1"]
    assert by_head.z[2][1] == heads.query("layer == 1 and head == 0 and role == 'answer'")["recovery"].item()
    np.testing.assert_allclose(np.array(whole.customdata)[..., 1] - np.array(whole.z), 0.1)


def test_a_sweep_of_positions_keeps_their_order_and_cells_left_out_stay_empty():
    table = swept(site=["resid_pre"], layer=[0, 1], position=range(12)).iloc[:-1]
    (heat,) = pbb.figures.sweep_heatmap(table).data
    assert list(heat.x) == [str(position) for position in range(12)]
    assert np.isnan(heat.z[1][11])


def test_a_sweep_of_two_metrics_at_once_and_other_tables_are_refused(table):
    two = swept(metric=["a", "b"], site=["resid_pre"], layer=[0], role=["answer"])
    with pytest.raises(pbb.PbbError, match="those of one metric"):
        pbb.figures.sweep_heatmap(two)
    with pytest.raises(pbb.PbbError, match="no column 'recovery'"):
        pbb.figures.sweep_heatmap(table)


def test_no_global_template_is_changed(table):
    before = plotly.io.templates.default
    pbb.figures.patching_heatmap(table)
    assert plotly.io.templates.default == before
