"""Figures of one prompt show its own numbers in their cells, every token apart, and text as it is."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.views.figures.tokens import visible

CLEAN = ["<script>", " of", " a", " of", " 7\n", " is"]
CORRUPTED = ["<script>", " of", " <b>b", " of", " 7\n", " is"]
HOSTILE = ("<script>", "<b>b", "<i>")


@pytest.mark.parametrize(
    ("token", "label"),
    [("  ", "␣␣"), (" a  b ", "␣a  b␣"), ("\n\t", "↵⇥"), ("</b>&amp;", "&lt;/b&gt;&amp;amp;"), (7, "7"), ("", "")],
)
def test_white_space_is_seen_and_markup_is_text(token, label):
    assert visible(token) == label


def recovered(heads: int = 0, positions=range(6)) -> xr.Dataset:
    """Recovery that differs at every place."""
    shape = (3, heads, len(positions)) if heads else (3, len(positions))
    dims = ("layer", "head", "position") if heads else ("layer", "position")
    values = np.linspace(-1, 1, np.prod(shape)).reshape(shape)
    coords = {"layer": [0, 1, 2], "position": list(positions)}
    return xr.Dataset({"resid_pre": (dims, values), "mlp_out": (dims, -values)}, coords=coords)


def assert_shown_as_it_is(figure) -> None:
    """No hostile text is left in what plotly would take for markup."""
    shown = figure.to_json().encode().decode("unicode_escape")
    assert not [text for text in HOSTILE if text in shown]


def test_recovery_stands_at_its_layer_and_token():
    data = recovered()
    first, second = pbb.figures.token_heatmap(data, CLEAN, CORRUPTED).data
    for trace, site in ((first, "resid_pre"), (second, "mlp_out")):
        np.testing.assert_array_equal(trace.z, data[site].values)
        assert (list(trace.x), list(trace.y)) == ([0, 1, 2, 3, 4, 5], ["0", "1", "2"])  # equal tokens apart
        assert f"<extra>{site}" in trace.hovertemplate
    assert first.customdata[2][2].tolist() == [2, "␣a", "␣&lt;b&gt;b", "-"]
    assert first.customdata[1][4].tolist() == [4, "␣7↵", "␣7↵", "-"]


def test_tokens_are_labels_and_both_where_they_differ():
    axis = pbb.figures.token_heatmap(recovered()[["mlp_out"]], CLEAN, CORRUPTED).layout.xaxis
    assert list(axis.tickvals) == [0, 1, 2, 3, 4, 5]
    assert list(axis.ticktext) == ["&lt;script&gt;", "␣of", "␣a<br>/ ␣&lt;b&gt;b", "␣of", "␣7↵", "␣is"]


def test_roles_stand_over_their_tokens_in_every_panel():
    roles = {"name": 2, "<i>": 5, "answer": 5}
    figure = pbb.figures.token_heatmap(recovered(), CLEAN, CORRUPTED, roles, title="<i>")
    over = [(note.xref, note.x, note.text) for note in figure.layout.annotations if note.xref != "paper"]
    names = [(2, "<b>name</b>"), (5, "<b>&lt;i&gt;</b><br><b>answer</b>")]
    assert over == [(x, at, name) for x in ("x", "x2") for at, name in names]
    assert figure.data[0].customdata[0][5][3] == "&lt;i&gt;, answer"
    assert_shown_as_it_is(figure)


def test_heads_have_a_row_each():
    data = recovered(heads=2)
    trace = pbb.figures.token_heatmap(data.transpose("head", "position", "layer"), CLEAN, CORRUPTED).data[0]
    assert list(trace.y) == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    np.testing.assert_array_equal(trace.z[3], data["resid_pre"].sel(layer=1, head=1))


def test_some_positions_keep_their_tokens_and_roles():
    figure = pbb.figures.token_heatmap(recovered(positions=[4, 2]), CLEAN, CORRUPTED, {"name": 2, "answer": 5})
    assert list(figure.layout.xaxis.ticktext) == ["␣7↵", "␣a<br>/ ␣&lt;b&gt;b"]
    assert [note.x for note in figure.layout.annotations if note.xref == "x"] == [1]
    assert figure.data[0].customdata[0][1][0] == 2


def test_many_tokens_make_panels_one_below_the_other():
    tokens = [f" t{i}" for i in range(60)]
    figure = pbb.figures.token_heatmap(recovered(positions=range(60)), tokens, tokens, {"answer": 59})
    assert figure.layout.yaxis.domain[0] > figure.layout.yaxis2.domain[1]
    assert figure.layout.xaxis.tickangle == -90


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"corrupted": CORRUPTED[:-1]}, "6 and 5 tokens"),
        ({"clean": CLEAN[:-1], "corrupted": CORRUPTED[:-1]}, "at position 5"),
        ({"roles": {"name": 6}}, "role 'name' is at position 6"),
        ({"recovered": recovered().expand_dims(pair=2)}, "of one pair"),
        ({"recovered": recovered().rename(position="role")}, "give \\(layer, position\\)"),
        ({"recovered": xr.Dataset()}, "no site"),
        ({"recovered": recovered(positions=[])}, "no place"),
    ],
)
def test_pairs_that_do_not_line_up_are_refused(change, said):
    with pytest.raises(pbb.PbbError, match=said):
        pbb.figures.token_heatmap(**{"recovered": recovered(), "clean": CLEAN, "corrupted": CORRUPTED} | change)


def read(ways=("probe", "logit lens"), layers=range(3)) -> pd.DataFrame:
    """Readings that differ in every cell; the lens does not read state_1."""
    truths = {"state_1": "7", "<i>": "<b>b and more of it"}
    cells = [
        (way, role, variable, layer)
        for way in ways
        for role in ("name", "answer")
        for variable in truths
        for layer in layers
        if (way, variable) != ("logit lens", "state_1")
    ]
    table = pd.DataFrame(cells, columns=["way", "role", "variable", "layer"])
    table["truth"] = table["variable"].map(truths)
    table["right"] = table["layer"] == 2
    table["value"] = table["truth"].where(table["right"], "<script>")
    return table.assign(probability=np.linspace(0, 1, len(table)))


def test_each_reading_stands_in_its_cell():
    table = read()
    figure = pbb.figures.readings(table, title="<i>")
    panels = [trace for trace in figure.data if trace.type == "heatmap"]
    order = [(way, role) for role in ("name", "answer") for way in ("probe", "logit lens")]
    for panel, (way, role) in zip(panels, order, strict=True):
        assert f"<extra>{way}, at {role}" in panel.hovertemplate
        for i, variable in enumerate(("state_1", "<i>")):
            cells = table[(table["way"] == way) & (table["role"] == role) & (table["variable"] == variable)]
            expected = cells.sort_values("layer")["probability"] if len(cells) else [np.nan] * 3
            np.testing.assert_allclose(panel.z[i], expected)
    assert panels[0].text[0].tolist() == ["&lt;script&gt;", "&lt;script&gt;", "7"]
    assert panels[1].text[0].tolist() == ["", "", ""]
    assert panels[1].customdata[1][2].tolist() == [2, "&lt;i&gt;", *["&lt;b&gt;b and more of it"] * 2, "right"]
    assert list(figure.layout.yaxis.ticktext) == ["state_1 = 7", "&lt;i&gt; = &lt;b&gt;b and more of it"]
    assert_shown_as_it_is(figure)


def test_right_readings_have_an_outline():
    shapes = pbb.figures.readings(read()).layout.shapes
    middles = [(s.xref, s.yref, (s.x0 + s.x1) / 2, (s.y0 + s.y1) / 2) for s in shapes]
    expected = [(x, row) for x, rows in (("x", (0, 1)), ("x2", (1,))) for row in rows]
    assert middles[:3] == [(x, x.replace("x", "y"), 2, row) for x, row in expected]
    assert len(shapes) == 6


def test_many_layers_make_panels_one_below_the_other_without_empty_rows():
    figure = pbb.figures.readings(read(layers=range(30)))
    assert figure.layout.yaxis.domain[0] > figure.layout.yaxis2.domain[1]
    assert len(figure.data[1].z) == 1
    assert list(figure.layout.yaxis2.ticktext) == ["&lt;i&gt; = &lt;b&gt;b and more of it"]
    assert figure.data[0].text[0][0].endswith("…")  # cells have less room


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="truth"), "no column 'truth'"),
        (lambda t: t[:0], "no rows"),
        (lambda t: pd.concat([t, t]), "several rows for one way"),
        (lambda t: t.assign(truth=range(len(t))), "several true values"),
        (lambda t: t.assign(probability=np.nan), "no probability"),
    ],
)
def test_readings_of_several_prompts_and_other_tables_are_refused(change, said):
    with pytest.raises(pbb.PbbError, match=said):
        pbb.figures.readings(change(read()))


PROBABILITIES = pd.Series({"7": 0.2, "<script>": 0.5, " 8": 0.25, "<b>b": 0.0001})


def test_answers_are_ranked_and_the_right_one_is_marked():
    figure = pbb.figures.answers(PROBABILITIES, right=" 8", title="<i>")
    (bars,) = figure.data
    assert list(bars.x) == [0.5, 0.25, 0.2, 0.0001]
    assert list(figure.layout.yaxis.ticktext) == ["&lt;script&gt;", "<b>✓ ␣8</b>", "7", "&lt;b&gt;b"]
    assert list(bars.text) == ["50.0%", "25.0%", "20.0%", "&lt;0.1%"]
    assert [colour == bars.marker.color[1] for colour in bars.marker.color] == [False, True, False, False]
    assert tuple(figure.layout.xaxis.range) == (0, 1)
    assert_shown_as_it_is(figure)


def test_a_right_answer_that_is_unlikely_is_shown_with_its_rank():
    figure = pbb.figures.answers(PROBABILITIES, right="<b>b", top=2)
    assert list(figure.data[0].x) == [0.5, 0.25, 0.0001]
    assert figure.layout.yaxis.ticktext[2] == "<b>✓ &lt;b&gt;b</b> (rank 4)"
    assert len(pbb.figures.answers(PROBABILITIES, top=2).data[0].x) == 2


def test_a_right_answer_that_was_not_given_is_said():
    figure = pbb.figures.answers(PROBABILITIES, right="<i>")
    assert "the right answer, &lt;i&gt;, is not among" in figure.layout.xaxis.title.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probabilities": PROBABILITIES * 10}, "between 0 and 1"),
        ({"probabilities": pd.concat([PROBABILITIES, PROBABILITIES])}, "'7' is there twice"),
        ({"probabilities": PROBABILITIES[:0]}, "no answer"),
        ({"top": 0}, "no answer"),
    ],
)
def test_what_are_no_probabilities_of_answers_is_refused(change, said):
    with pytest.raises(pbb.PbbError, match=said):
        pbb.figures.answers(**{"probabilities": PROBABILITIES} | change)
