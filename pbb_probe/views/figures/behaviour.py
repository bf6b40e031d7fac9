"""Behaviour: how often a model answers calls correctly."""

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

from pbb_probe.views.figures.panels import distinct, error_bars, interval
from pbb_probe.views.figures.style import OTHER_COLOURS, finish
from pbb_probe.views.words import titles as titles_of
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def behaviour(table: "pd.DataFrame", colours: Mapping[str, str] | None = None) -> "Figure":
    """Accuracy bars with intervals, a panel a mode and number of steps; the dotted line is chance.

    Args:
        table: from `tables.accuracy`. Where a group has seen and unseen inputs, both are shown.
        colours: of the models; the figure's own when None.

    Example:
        >>> import pbb_probe as pbb
        >>> figure = pbb.figures.behaviour(pbb.open_run("runs/nano").table("behaviour/behaviour"))
        >>> [panel.text for panel in figure.layout.annotations]
        ['direct, 2 steps', 'trace, 2 steps']
    """
    from plotly.subplots import make_subplots

    (modes,), steps = distinct(table, "mode"), sorted(set(table["steps"].tolist()))
    titles = [f"{mode}, {steps_words(n)}" for mode in modes for n in steps]
    figure = make_subplots(
        len(modes), len(steps), subplot_titles=titles, shared_yaxes=True, vertical_spacing=0.16, horizontal_spacing=0.04
    )
    if colours is None:
        colours = dict(zip(*distinct(table, "model"), ("#D55E00", *OTHER_COLOURS, "#999999"), strict=False))
    table = table.sort_values(["group", "seen"], ascending=[True, False])
    table = table.assign(
        cell=[_cell_name(group, seen) for group, seen in zip(table["group"], table["seen"], strict=True)]
    )
    for (r, mode), (c, n) in product(enumerate(modes, 1), enumerate(steps, 1)):
        panel, place = table[(table["mode"] == mode) & (table["steps"] == n)], {"row": r, "col": c}
        for model in colours:
            if (cells := panel[panel["model"] == model]).empty:
                continue
            figure.add_bar(
                x=cells["cell"].tolist(),
                y=cells["mean"],
                error_y=error_bars(cells["mean"], cells["lower"], cells["upper"], 1),
                customdata=cells[["lower", "upper", "n", "programs"]],
                hovertemplate=interval(digits=".1%") + "<br>%{customdata[2]} calls of %{customdata[3]} programs"
                f"<extra>{model}</extra>",
                name=str(model),
                marker_color=colours[model],
                legendgroup=str(model),
                **place,
            )
        figure.add_hline(y=panel["chance"].mean(), line_dash="dot", line_color="#666666", **place)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    width = 400 * len(steps) if len(steps) > 3 else None  # else as wide as the page
    return finish(figure, titles_of.BEHAVIOUR, 330 * len(modes) + 80, width=width)


def _cell_name(group: str, seen: bool) -> str:
    return group if group == "without_io" else f"{group}<br>{'seen' if seen else 'unseen'} input"
