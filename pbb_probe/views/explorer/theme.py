"""Figures in the dark: the same data and hues on a dark ground."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_DARK_FOR = {"#000000": "#FFFFFF", "black": "#FFFFFF", "#444444": "#BBBBBB", "#666666": "#AAAAAA", "#0072B2": "#3D9BDC"}
INK, GRID = "#E4E7EB", "#3A414B"


def themed(figure: "Figure", dark: bool) -> "Figure":
    """The figure itself in the light; in the dark a copy with light text and lines on no ground of its own."""
    import plotly.graph_objects as go

    if not dark:
        return figure
    figure = go.Figure(figure)
    figure.update_layout(
        template="plotly_dark", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font_color=INK
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID)
    for shape in figure.layout.shapes:
        if shape.line.color in _DARK_FOR:
            shape.line.color = _DARK_FOR[shape.line.color]
    for trace in figure.data:
        if getattr(trace, "fillcolor", None) in _DARK_FOR:
            trace.fillcolor = _DARK_FOR[trace.fillcolor]
        if getattr(trace, "line", None) is not None and trace.line.color in _DARK_FOR:
            trace.line.color = _DARK_FOR[trace.line.color]
        if isinstance(getattr(getattr(trace, "marker", None), "color", None), str) and trace.marker.color in _DARK_FOR:
            trace.marker.color = _DARK_FOR[trace.marker.color]
    return figure
