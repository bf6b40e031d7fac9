"""What all figures share: colours, fonts, margins, legends, text as it is."""

import html
import textwrap
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too
GROUP_COLOURS = {"with_io": "#0072B2", "without_io": "#D55E00", "io_only": "#009E73"}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("solid", "dash", "dashdot", "longdash")
"""Of the first group, the second, and so on: dotted lines are controls."""
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"size": 13},
    "margin": {"l": 70, "r": 20, "t": 70, "b": 60},
}
RECOVERY_AXIS = {"colorscale": "RdBu", "cmin": -1, "cmid": 0, "cmax": 1, "colorbar": {"title": "recovery"}}
"""Colours of recovery: red below, blue above."""


def group_colours(groups: Sequence[Any]) -> dict[Any, str]:
    """A colour for each group: its own where it has one in `GROUP_COLOURS`, else the next that none has, in turn."""
    others = cycle([colour for colour in OTHER_COLOURS if colour not in GROUP_COLOURS.values()])
    return {group: GROUP_COLOURS.get(str(group)) or next(others) for group in groups}


def plain(text: Any) -> str:
    """Text of programs, prompts and tokens for labels and hovers: plotly would take what looks like HTML for markup."""
    return html.escape(str(text), quote=False)


def wrapped(text: Any, width: float) -> str:
    """Text as it is, in lines of about so many pixels."""
    return "<br>".join(map(plain, textwrap.wrap(str(text), max(8, int(width / 7.5)))))


def finish(
    figure: "Figure", title: Any, height: float, margin: dict[str, float] | None = None, **layout: Any
) -> "Figure":
    """The figure with its title, its height and what all share, with another margin at the sides that are given one.

    What a legend names is in it once.
    """
    named: set[tuple[str, str]] = set()
    for trace in figure.data:
        if trace.legendgroup and trace.showlegend is not False:
            trace.showlegend = (trace.legendgroup, trace.name) not in named
            named.add((trace.legendgroup, trace.name))
    shared = LAYOUT | {"margin": LAYOUT["margin"] | (margin or {})}
    return figure.update_layout(title=title, height=height, **shared | layout)


def name_mark(figure: "Figure", name: str, marker: dict[str, Any], **settings: Any) -> None:
    """Say in the legend what a mark means that no trace of its own has."""
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, showlegend=True, **settings)


def above_all(title: str) -> dict[str, Any]:
    """A title, shown without markup, at the top of the figure, however much stands above its panels."""
    return {"text": plain(title), "y": 1, "yref": "container", "yanchor": "top", "pad_t": 20}
