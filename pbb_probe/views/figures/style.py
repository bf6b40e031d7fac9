"""What all figures share: colours, fonts, margins, grids of panels, bands, text as it is."""

import html
import textwrap
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too
GROUP_COLOURS = {"with_io": "#0072B2", "without_io": "#D55E00"}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LAYOUT = {"template": "plotly_white", "font": {"size": 13}, "margin": {"l": 70, "r": 20, "t": 70, "b": 60}}


def group_colours(groups: Sequence[Any]) -> dict[Any, str]:
    """A colour for each group: its own where it has one in `GROUP_COLOURS`, else the next of the others, in turn."""
    others = cycle(OTHER_COLOURS)
    return {group: GROUP_COLOURS.get(str(group)) or next(others) for group in groups}


def plain(text: Any) -> str:
    """Text of programs, prompts and tokens for labels and hovers: plotly would take what looks like HTML for markup."""
    return html.escape(str(text), quote=False)


def wrapped(text: Any, width: float) -> str:
    """Text as it is, in lines of about so many pixels."""
    return "<br>".join(map(plain, textwrap.wrap(str(text), max(8, int(width / 7.5)))))


def grid(rows: Sequence[Any], columns: Sequence[Any], y_title: str = "") -> "Figure":
    """An empty figure with a panel for each row and column, named on the right and on top, over a shared layer axis."""
    from plotly.subplots import make_subplots

    return make_subplots(
        len(rows),
        len(columns),
        shared_xaxes=True,
        shared_yaxes=True,
        column_titles=list(map(plain, columns)),
        row_titles=list(map(plain, rows)),
        horizontal_spacing=0.02,
        vertical_spacing=0.05,
        x_title="layer",
        y_title=y_title,
    )


def add_band(
    figure: "Figure",
    layers: "pd.Series",
    lower: "pd.Series",
    upper: "pd.Series",
    colour: str,
    legendgroup: str,
    **place: int,
) -> None:
    """Shade an interval by layer in one panel."""
    figure.add_scatter(
        x=[*layers, *layers[::-1]],
        y=[*upper, *lower[::-1]],
        fill="toself",
        mode="lines",
        fillcolor=colour,
        opacity=0.18,
        line_width=0,
        hoverinfo="skip",
        showlegend=False,
        legendgroup=legendgroup,
        **place,
    )
