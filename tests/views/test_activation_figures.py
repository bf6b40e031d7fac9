"""Points of activations: each prompt is drawn once, where it is in each layer, and its text is text."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.views.figures import activations

N, LAYERS = 60, (1, 2, 5)
RNG = np.random.default_rng(0)
HOSTILE = "<b>x</b><script>alert(1)</script>%{x}"
LABELS = pd.DataFrame(
    {
        "group": np.where(np.arange(N) % 3, "with_io", "without_io"),
        "state_1": np.where(np.arange(N) < 10, np.nan, np.arange(N) % 4),
        "score": np.where(np.arange(N) < 5, np.nan, np.arange(N) / 7),
        "program": [f"p{i}" if i < 30 else f"often{i % 11}" for i in range(N)],
        "op": [HOSTILE if i % 2 else "a & b" for i in range(N)],
        "source": "def f(x):\n    return x < 2",
        HOSTILE: range(N),
    }
)
NAMES = {2: "xy", 3: "xyz"}


def points(axes: int) -> xr.DataArray:
    values = (RNG.normal(size=(len(LAYERS), N, axes)) * np.array([1, 4, 9])[:, None, None]).astype(np.float32)
    coords = {"layer": list(LAYERS), "axis": [f"axis {k + 1}" for k in range(axes)]}
    return xr.DataArray(values, coords, ("layer", "prompt", "axis"), attrs={"method": "pca"})


POINTS = {axes: points(axes) for axes in NAMES}


def prompts(trace) -> list[int]:
    return [row[0] for row in trace.customdata]


def coordinates(data, axes: int) -> np.ndarray:
    return np.stack([data[name] for name in NAMES[axes]], axis=-1)


def by_name(figure) -> dict:
    return {trace.name: trace for trace in figure.data}


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("colour", ["group", "state_1", "score", "program", "op"])
@pytest.mark.parametrize("some", [False, True])
def test_every_prompt_is_drawn_once_where_it_is_in_each_layer(axes, colour, some):
    selected = np.arange(N) % 5 == 0 if some else None
    figure = activations(POINTS[axes], LABELS, colour, ["program"], selected=selected, layer=2)
    assert {trace.type for trace in figure.data} == {"scattergl" if axes == 2 else "scatter3d"}
    assert sorted(i for trace in figure.data for i in prompts(trace)) == list(range(N))
    for trace in figure.data:
        assert np.array_equal(coordinates(trace, axes), POINTS[axes].sel(layer=2).values[prompts(trace)])
    assert [frame.name for frame in figure.frames] == ["1", "2", "5"]
    for frame in figure.frames:
        assert list(frame.traces) == list(range(len(figure.data)))
        for data, trace in zip(frame.data, figure.data, strict=True):
            assert set(data.to_plotly_json()) == {"type", *NAMES[axes]}
            assert np.array_equal(coordinates(data, axes), POINTS[axes].sel(layer=int(frame.name))[prompts(trace)])


@pytest.mark.parametrize("axes", [2, 3])
def test_the_axes_hold_all_layers(axes):
    figure = activations(POINTS[axes], LABELS, "group")
    holder = figure.layout if axes == 2 else figure.layout.scene
    for k, name in enumerate(NAMES[axes]):
        low, high = holder[f"{name}axis"].range
        assert low < POINTS[axes][..., k].min()
        assert high > POINTS[axes][..., k].max()
        assert holder[f"{name}axis"].title.text == f"PCA axis {k + 1}"
    # the last layer is shown, and distances are to scale
    assert np.array_equal(coordinates(figure.data[0], axes), POINTS[axes][2].values[prompts(figure.data[0])])
    assert (figure.layout.yaxis.scaleanchor, figure.layout.dragmode) == (("x", "lasso") if axes == 2 else (None, None))
    assert figure.layout.scene.aspectmode == (None if axes == 2 else "data")


def test_few_values_have_a_trace_each_and_those_missing_are_grey():
    traces = by_name(activations(POINTS[2], LABELS, "state_1"))
    assert list(traces) == ["missing", "0", "1", "2", "3"]  # the grey ones behind
    assert prompts(traces["missing"]) == list(range(10))
    assert all(prompts(traces[str(k)]) == [i for i in range(10, N) if i % 4 == k] for k in range(4))
    colours = [trace.marker.color for trace in traces.values()]
    assert len(set(colours)) == 5
    assert len({trace.marker.symbol for name, trace in traces.items() if name != "missing"}) == 4
    assert max(traces.values(), key=lambda trace: trace.legendrank).name == "missing"  # but last in the legend
    kept_as_objects = LABELS.assign(state_1=[None if i < 10 else i % 4 for i in range(N)])
    kept_as_objects["state_1"] = kept_as_objects["state_1"].astype("Int64")
    assert list(by_name(activations(POINTS[2], kept_as_objects, "state_1"))) == list(traces)


def test_groups_have_their_own_colours():
    traces = by_name(activations(POINTS[2], LABELS, "group"))
    assert (traces["with_io"].marker.color, traces["without_io"].marker.color) == ("#0072B2", "#D55E00")
    more = LABELS.assign(group=["without_io" if i % 12 == 11 else f"g{i % 12}" for i in range(N)])
    colours = [trace.marker.color for trace in activations(POINTS[2], more, "group").data]
    assert len(set(colours)) == len(colours) == 12


def test_many_numbers_have_a_colour_bar():
    missing, drawn = activations(POINTS[2], LABELS, "score").data
    assert (missing.name, prompts(missing)) == ("missing", [0, 1, 2, 3, 4])
    assert np.allclose(drawn.marker.color, LABELS["score"][5:])
    assert drawn.marker.colorbar.title.text == "score"
    assert drawn.marker.cmin == pytest.approx(5 / 7)
    assert "score: %{marker.color" in drawn.hovertemplate
    endless = LABELS.assign(score=[np.inf, *LABELS["score"][1:]])
    assert prompts(by_name(activations(POINTS[2], endless, "score"))["missing"]) == [0, 1, 2, 3, 4]


def test_of_many_texts_the_most_common_have_a_trace_each():
    traces = by_name(activations(POINTS[2], LABELS, "program"))
    assert set(traces) == {"other", *(f"often{k}" for k in range(11))}
    assert prompts(traces["other"]) == list(range(30))


def test_text_is_shown_as_it_is():
    figure = activations(POINTS[2], LABELS, "op", ["op", "source", HOSTILE])
    escaped = "&lt;b&gt;x&lt;/b&gt;&lt;script&gt;alert(1)&lt;/script&gt;%{x}"
    assert [trace.name for trace in figure.data] == [escaped, "a &amp; b"]
    assert list(figure.data[0].customdata[0]) == [1, escaped, "def f(x):<br>    return x &lt; 2", "1"]
    assert "<script>" not in json.dumps(figure.to_plotly_json(), default=str)
    in_template = escaped.replace("{", "&#123;")  # a brace would begin a field
    assert figure.data[0].hovertemplate == (
        "prompt %{customdata[0]}<br>op: %{customdata[1]}<br>source: %{customdata[2]}"
        f"<br>{in_template}: %{{customdata[3]}}<extra>{in_template}</extra>"
    )
    named = activations(POINTS[2], LABELS, HOSTILE)
    assert named.data[0].marker.colorbar.title.text == escaped
    missing = activations(POINTS[2], LABELS, "group", ["state_1"]).data[1].customdata
    assert [list(row) for row in missing[:5]] == [[i, "missing"] for i in (0, 3, 6, 9)] + [[12, "0"]]


def test_what_is_not_selected_is_dimmed():
    selected = np.isin(np.arange(N), [3, 4, 40])
    flat = by_name(activations(POINTS[2], LABELS, "group", selected=selected))
    assert [prompts(flat["without_io"])[i] for i in flat["without_io"].selectedpoints] == [3]
    assert [prompts(flat["with_io"])[i] for i in flat["with_io"].selectedpoints] == [4, 40]
    assert all(trace.unselected.marker.opacity < 0.2 for trace in flat.values())
    nothing = activations(POINTS[2], LABELS, "group", selected=np.zeros(N, bool))
    assert all(len(trace.selectedpoints) == 0 for trace in nothing.data)
    assert all(trace.selectedpoints is None for trace in activations(POINTS[2], LABELS, "group").data)
    for colour in ("group", "score"):
        solid = activations(POINTS[3], LABELS, colour, selected=selected)
        full = [trace for trace in solid.data if trace.opacity > 0.5]
        dim = [trace for trace in solid.data if trace.opacity < 0.2]
        assert len(full) + len(dim) == len(solid.data)
        assert sorted(i for trace in full for i in prompts(trace)) == [3, 4, 40]
        assert all(not trace.showlegend for trace in dim)
        assert all(len(trace.marker.color) == len(trace.x) for trace in full if trace.name == "score")


def test_the_slider_steps_through_the_frames():
    figure = activations(POINTS[2].assign_coords(explained=("layer", [0.5, 0.25, 0.126])), LABELS, "group", layer=2)
    (slider,) = figure.layout.sliders
    assert [list(step.args[0]) for step in slider.steps] == [["1"], ["2"], ["5"]]
    assert [step.label for step in slider.steps] == ["1: 50%", "2: 25%", "5: 13%"]
    assert slider.active == 1
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["Play", "Pause", "Keep selected"]
    bare = activations(POINTS[2], LABELS, "group", slider=False)
    assert not bare.layout.sliders
    assert not bare.layout.updatemenus
    assert len(bare.frames) == 3


def test_many_points_are_small_on_a_page():
    many = 20_000
    values = RNG.normal(size=(6, many, 2)).astype(np.float32)
    cloud = xr.DataArray(values, {"layer": range(6)}, ("layer", "prompt", "axis"))
    text = activations(cloud, pd.DataFrame({"op": np.arange(many) % 5}), "op").to_json()
    assert len(text) < 110 * many  # 7 times 8 bytes, in base 64


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"points": POINTS[2].isel(axis=[0])}, "2 or 3 axes"),
        ({"points": POINTS[2].rename(axis="d_model")}, "layer, prompt, axis"),
        ({"points": POINTS[2].where(POINTS[2] < 1)}, "NaN or infinite"),
        ({"points": POINTS[2].isel(prompt=[]), "labels": LABELS[:0]}, "There are no points"),
        ({"labels": LABELS[:5]}, "60 points and 5 rows of labels"),
        ({"colour": "taste"}, "no column 'taste'"),
        ({"hover": ["taste"]}, "no column 'taste'.*group"),
        ({"layer": 3}, "no layer 3.*1, 2, 5"),
        ({"selected": np.ones(5, bool)}, "selected must be true or false for each of the 60"),
        ({"selected": np.arange(N)}, "selected must be true or false"),
    ],
)
def test_what_cannot_be_drawn_is_refused(asked, message):
    with pytest.raises(PbbError, match=message):
        activations(**{"points": POINTS[2], "labels": LABELS, "colour": "group"} | asked)
