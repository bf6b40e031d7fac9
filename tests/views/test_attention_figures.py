"""Figures of heads show the attention of each head in its panel, name tokens at the edges, and rank effects by size."""

import numpy as np
import pytest
import xarray as xr

import pbb_probe as pbb

TOKENS = ["<script>", " a", " <b>b", " a"]


def pattern(layers: int = 2, heads: int = 3, n: int = 4) -> xr.DataArray:
    """Attention that differs in every cell."""
    values = np.linspace(0, 1, layers * heads * n * n).reshape(layers, heads, n, n)
    return xr.DataArray(
        values, dims=("layer", "head", "query", "key"), coords={"layer": [2 * i + 1 for i in range(layers)]}
    )


def panels(figure) -> dict[str, object]:
    """The heat map under each title."""
    found = {}
    for trace in figure.data:
        if trace.type == "heatmap":
            x = figure.layout["xaxis" + trace.xaxis[1:]].domain
            y = figure.layout["yaxis" + trace.yaxis[1:]].domain
            (title,) = [
                note.text
                for note in figure.layout.annotations
                if note.x == pytest.approx(sum(x) / 2) and note.y == pytest.approx(y[1])
            ]
            found[title] = trace
    return found


def labelled(figure, axis: str) -> int:
    axes = [value for name, value in figure.layout.to_plotly_json().items() if name.startswith(axis)]
    return sum(value["showticklabels"] for value in axes)


def test_every_head_has_a_panel_under_its_name():
    data = pattern()
    scores = xr.DataArray(np.arange(9).reshape(3, 3) / 10 - 0.001, dims=("head", "layer"), coords={"layer": [1, 3, 5]})
    figure = pbb.figures.attention(data.transpose("key", "head", "query", "layer"), TOKENS, scores=scores)
    drawn = panels(figure)
    names = [
        f"{layer}.{head}: {head * 0.3 + index / 10:.2f}" for index, layer in enumerate((1, 3)) for head in range(3)
    ]
    assert list(drawn) == names  # 1.0: 0.00, without a sign
    for name, trace in drawn.items():
        layer, head = map(int, name.split(":")[0].split("."))
        np.testing.assert_array_equal(trace.z, data.sel(layer=layer, head=head))  # row query, column key
    assert list(drawn["3.1: 0.40"].customdata[2][1]) == ["␣&lt;b&gt;b", "␣a"]
    top, bottom = figure.layout.yaxis.range[::-1]
    assert top < bottom  # the first query on top


def test_tokens_are_named_at_the_edges_and_escaped():
    figure = pbb.figures.attention(pattern(), TOKENS, title="<b>b")
    assert list(figure.layout.xaxis4.ticktext) == ["&lt;script&gt;", "␣a", "␣&lt;b&gt;b", "␣a"]
    assert list(figure.layout.xaxis4.tickvals) == [0, 1, 2, 3]
    assert list(figure.layout.yaxis.ticktext) == list(figure.layout.xaxis4.ticktext)
    assert (labelled(figure, "xaxis"), labelled(figure, "yaxis")) == (3, 2)
    shown = figure.to_json().encode().decode("unicode_escape")
    assert "<script>" not in shown
    assert "<b>b" not in shown


def test_roles_have_a_colour_in_every_panel_and_a_name():
    figure = pbb.figures.attention(pattern(), TOKENS, {"<i>": 1, "answer": 3, "last": 3})
    legend = {trace.name: trace.marker.color for trace in figure.data if trace.type == "scatter"}
    assert list(legend) == ["&lt;i&gt;", "answer, last"]
    colour = legend["answer, last"]
    marks = [s for s in figure.layout.shapes if s.fillcolor == colour and s.xref == "x5"]
    below, left = sorted(marks, key=lambda s: s.x0, reverse=True)
    assert ((below.x0 + below.x1) / 2, (left.y0 + left.y1) / 2) == (3, 3)
    assert below.y0 >= 3.5  # beside the cells
    assert left.x1 <= -0.5
    assert figure.layout.yaxis.ticktext[3] == f'<span style="color:{colour}"><b>␣a</b></span>'
    assert figure.layout.yaxis.ticktext[0] == "&lt;script&gt;"


@pytest.mark.parametrize(("heads", "rows", "columns"), [(32, 4, 8), (12, 2, 6), (11, 2, 6), (1, 1, 1)])
def test_heads_go_on_in_further_rows(heads, rows, columns):
    data = pattern(1, heads)
    figure = pbb.figures.attention(data, TOKENS)
    drawn = panels(figure)
    assert list(drawn) == [f"1.{head}" for head in range(heads)]
    np.testing.assert_array_equal(drawn[f"1.{heads - 1}"].z, data[0, heads - 1])
    assert (labelled(figure, "xaxis"), labelled(figure, "yaxis")) == (columns, rows)


def test_six_layers_of_four_heads_are_a_grid_with_every_token_named():
    figure = pbb.figures.attention(pattern(6, 4, 12), [f" t{i}" for i in range(12)])
    assert (labelled(figure, "xaxis"), labelled(figure, "yaxis")) == (4, 6)
    assert len(figure.layout.xaxis21.ticktext) == len(figure.layout.yaxis.ticktext) == 12


def test_of_many_tokens_some_are_named_and_those_of_roles_always():
    ticks = pbb.figures.attention(pattern(1, 8, 90), ["t"] * 90, {"name": 41}).layout.yaxis.tickvals
    assert len(ticks) < 60
    assert 41 in ticks


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pattern": pattern().expand_dims(prompt=2)}, "of one prompt"),
        ({"tokens": TOKENS[:-1]}, "4 x 4 tokens, but the prompt has 3"),
        ({"roles": {"name": 4}}, "role 'name' is at position 4"),
        ({"pattern": pattern()[:, :0]}, "There are 0 heads"),
        ({"pattern": pattern(32, 32)}, "There are 1024 heads"),
        ({"scores": pattern()[:1, :, 0, 0]}, r"head 3.0 has no score"),
        ({"scores": pattern()}, r"scores have the dimensions"),
    ],
)
def test_patterns_that_it_cannot_draw_are_refused(change, said):
    with pytest.raises(pbb.PbbError, match=said):
        pbb.figures.attention(**{"pattern": pattern(), "tokens": TOKENS} | change)


EFFECTS = xr.DataArray([[0.1, -0.5, 0.0], [0.3, np.nan, -0.2]], dims=("layer", "head"), coords={"layer": [1, 4]})


@pytest.mark.parametrize("effects", [EFFECTS, EFFECTS.T, EFFECTS.rename(head="kv_head")])
def test_heads_are_ranked_by_the_size_of_their_effect(effects):
    (bars,) = (figure := pbb.figures.head_effects(effects, title="<b>b")).data
    assert list(bars.x) == [-0.5, 0.3, -0.2, 0.1, 0.0]
    assert list(figure.layout.yaxis.ticktext) == ["1.1", "4.0", "4.2", "1.0", "1.2"]
    assert list(bars.y) == list(figure.layout.yaxis.tickvals)
    assert len(set(bars.marker.color)) == 2
    assert bars.marker.color[0] == bars.marker.color[2] != bars.marker.color[1]
    assert figure.layout.title.text == "&lt;b&gt;b"
    assert list(pbb.figures.head_effects(effects, top=2).data[0].x) == [-0.5, 0.3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recovered": EFFECTS.expand_dims(position=2)}, "at one position"),
        ({"recovered": EFFECTS * np.nan}, "no head"),
        ({"top": 0}, "no head"),
    ],
)
def test_effects_at_several_places_and_of_no_head_are_refused(change, said):
    with pytest.raises(pbb.PbbError, match=said):
        pbb.figures.head_effects(**{"recovered": EFFECTS} | change)
