"""Behaviour: how often a model answers calls correctly."""

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

from pbb_probe.evidence.gate import headline
from pbb_probe.views.figures.panels import distinct, error_bars, interval
from pbb_probe.views.figures.style import OTHER_COLOURS, finish, name_mark
from pbb_probe.views.headline import beside, tells_apart
from pbb_probe.views.pairs import in_order
from pbb_probe.views.words import titles as titles_of
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def behaviour(table: "pd.DataFrame", colours: Mapping[str, str] | None = None) -> "Figure":
    """Accuracy bars with intervals, a panel a mode and number of steps; the dotted line is chance.

    Where the table tells decisive calls apart, the bars are of these, of programs without examples those of new
    functions, and a pale bar behind each is of all calls of all programs.

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
    groups, cells = in_order(table["group"]), list(zip(table["group"], table["seen"], strict=True))
    order = sorted(range(len(cells)), key=lambda row: (groups.index(cells[row][0]), not cells[row][1]))
    table = table.assign(cell=[_cell_name(*cell) for cell in cells]).iloc[order]
    models = [model for model in colours if model in set(table["model"])]
    for (r, mode), (c, n) in product(enumerate(modes, 1), enumerate(steps, 1)):
        panel, place = table[(table["mode"] == mode) & (table["steps"] == n)], {"row": r, "col": c}
        for model in models:
            of_model = panel[panel["model"] == model]
            for rows, is_headline in ((beside(of_model), False), (headline(of_model), True)):
                if len(rows):
                    shape = _shape(models.index(model), len(models), is_headline) if tells_apart(table) else {}
                    _add_bars(figure, rows, str(model), colours[model], is_headline, shape, place)
        figure.add_hline(y=headline(panel)["chance"].mean(), line_dash="dot", line_color="#666666", **place)
    if tells_apart(table):
        name_mark(figure, "all calls", {"symbol": "square", "size": 12, "color": "#999999", "opacity": _PALE})
        figure.update_xaxes(categoryorder="array", categoryarray=distinct(table, "cell")[0])
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    width = 400 * len(steps) if len(steps) > 3 else None  # else as wide as the page
    title = titles_of.DECISIVE_BEHAVIOUR if tells_apart(table) else titles_of.BEHAVIOUR
    return finish(figure, title, 330 * len(modes) + 80, width=width)


_PALE = 0.3


def _shape(place: int, of: int, is_headline: bool) -> dict[str, float]:
    """Where a model's bar stands among those of a group, and how wide it is: the headline within all calls."""
    width = 0.8 / of
    share = 0.56 if is_headline else 0.92
    return {"width": share * width, "offset": -0.4 + (place + (1 - share) / 2) * width}


def _add_bars(
    figure: "Figure",
    cells: "pd.DataFrame",
    model: str,
    colour: str,
    is_headline: bool,
    shape: Mapping[str, float],
    place: Mapping[str, int],
) -> None:
    """The bars of a model in a panel, those of all calls paler and without intervals."""
    programs = "n_programs" if tells_apart(cells) else "programs"  # which name them where they are told apart
    counts = f"%{{customdata[2]}} calls of %{{customdata[3]}} programs<extra>{model}{', all calls' * (not is_headline)}"
    figure.add_bar(
        x=cells["cell"].tolist(),
        y=cells["mean"],
        error_y=error_bars(cells["mean"], cells["lower"], cells["upper"], 1) if is_headline else None,
        customdata=cells.reindex(columns=["lower", "upper", "n", programs]),
        hovertemplate=f"{interval(digits='.1%')}<br>{counts}</extra>",
        name=model,
        marker_color=colour,
        opacity=1 if is_headline else _PALE,
        legendgroup=model,
        showlegend=is_headline,
        **shape,
        **place,
    )


def _cell_name(group: str, seen: bool) -> str:
    return group if group == "without_io" else f"{group}<br>{'seen' if seen else 'unseen'} input"
