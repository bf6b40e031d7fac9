"""Behaviour: how often a model answers calls correctly."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pbb_probe.views.figures.style import LAYOUT, OTHER_COLOURS
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def behaviour(table: "pd.DataFrame", colours: Mapping[str, str] | None = None) -> "Figure":
    """Accuracy bars with intervals, a panel a mode and number of steps; the dotted line is chance.

    Args:
        table: from `accuracy_table`. Where a group has seen and unseen inputs, both are shown.
        colours: of the models; the figure's own when None.
    """
    from plotly.subplots import make_subplots

    modes, steps = list(dict.fromkeys(table["mode"])), sorted(set(table["steps"].tolist()))
    titles = [f"{mode}, {steps_words(n)}" for mode in modes for n in steps]
    figure = make_subplots(
        len(modes), len(steps), subplot_titles=titles, shared_yaxes=True, vertical_spacing=0.16, horizontal_spacing=0.04
    )
    if colours is None:
        colours = dict(zip(dict.fromkeys(table["model"]), ("#D55E00", *OTHER_COLOURS, "#999999"), strict=False))
    for r, mode in enumerate(modes, start=1):
        for c, n in enumerate(steps, start=1):
            panel = table[(table["mode"] == mode) & (table["steps"] == n)].sort_values(
                ["group", "seen"], ascending=[True, False]
            )
            for model, cells in panel.groupby("model", sort=False):
                figure.add_bar(
                    x=[_cell_name(cell) for cell in cells.itertuples()],
                    y=cells["mean"],
                    error_y={
                        "array": cells["upper"] - cells["mean"],
                        "arrayminus": cells["mean"] - cells["lower"],
                        "thickness": 1,
                    },
                    customdata=cells[["lower", "upper", "n", "programs"]],
                    hovertemplate="%{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>%{customdata[2]} calls of "
                    "%{customdata[3]} programs<extra>" + str(model) + "</extra>",
                    name=str(model),
                    marker_color=colours[model],
                    legendgroup=str(model),
                    showlegend=r == c == 1,
                    row=r,
                    col=c,
                )
            figure.add_hline(y=panel["chance"].mean(), line_dash="dot", line_color="#666666", row=r, col=c)  # type: ignore[arg-type]
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    figure.update_layout(
        title="Behaviour: calls answered correctly (dotted: chance)",
        height=330 * len(modes) + 80,
        width=400 * len(steps) if len(steps) > 3 else None,  # else as wide as the page
        **LAYOUT,
    )
    return figure


def _cell_name(cell) -> str:
    if cell.group == "without_io":
        return "without_io"
    return f"{cell.group}<br>{'seen' if cell.seen else 'unseen'} input"
