"""Figures in the dark: nothing black is left, what is given stays, and colours that tell things apart still do."""

import plotly.graph_objects as go

from pbb_probe.views.explorer.theme import themed


def test_what_is_black_becomes_white_and_what_is_given_stays():
    figure = go.Figure([go.Scatter(y=[1], mode="lines", line_color="#000000", fillcolor="#000000")])
    figure.add_hline(y=0, line_color="#666666")
    before = figure.to_json()
    dark = themed(figure, True)
    assert figure.to_json() == before
    assert (dark.data[0].line.color, dark.data[0].fillcolor) == ("#FFFFFF", "#FFFFFF")
    assert dark.layout.shapes[0].line.color == "#AAAAAA"
    assert dark.layout.font.color != figure.layout.font.color
    assert themed(figure, False) is figure


def test_bars_and_points_keep_the_colours_that_tell_them_apart():
    blues = ["#0072B2", "#56B4E9"]
    figure = go.Figure([go.Bar(y=[1], marker_color=blue) for blue in blues])
    figure.add_scattergl(y=[1], mode="markers", marker_color=blues[0])
    figure.add_scatter(y=[1], mode="lines", line_color=blues[0])
    bars, points, line = themed(figure, True).data[:2], themed(figure, True).data[2], themed(figure, True).data[3]
    assert [bar.marker.color for bar in bars] == blues
    assert points.marker.color == blues[0]
    assert line.line.color != blues[0]
