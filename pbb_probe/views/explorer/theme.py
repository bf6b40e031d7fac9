"""Figures in the dark: the same data and hues on a dark ground."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_DARK_FOR = {"#000000": "#FFFFFF", "black": "#FFFFFF", "#444444": "#BBBBBB", "#666666": "#AAAAAA"}
_THIN = {"#0072B2": "#3D9BDC"}  # of lines and bands: as bars and points it would be like another colour of theirs
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
        shape.line.color = _DARK_FOR.get(shape.line.color, shape.line.color)
    for trace in figure.data:
        lighter = _DARK_FOR | (_THIN if "lines" in (getattr(trace, "mode", None) or "") else {})
        for part, name in (
            (trace, "fillcolor"),
            (getattr(trace, "line", None), "color"),
            (getattr(trace, "marker", None), "color"),
        ):
            if isinstance(colour := getattr(part, name, None), str) and colour in lighter:
                setattr(part, name, lighter[colour])
    return figure
