"""What one prompt does: what is read of it at each layer, and the answers it may have."""

from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.views.figures.panels import distinct, ranked_bars, require
from pbb_probe.views.figures.style import above_all, finish, name_mark, plain
from pbb_probe.views.figures.tokens import WIDTH, text_width, visible

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

RIGHT, OTHER = "#D55E00", "#56B4E9"


def readings(table: "pd.DataFrame", title: str = "") -> "Figure":
    """What is read of each variable at each layer: the value in the cell, its probability as colour.

    A cell whose value is right has an outline. A row of panels a role, a column a way; where there are many layers, all
    panels are one below the other.

    Args:
        table: a row a cell, with `way` (such as probe or logit lens), `role`, `variable`, `layer`, `value` that is
            read, its `probability`, whether it is `right`, and the `truth`.
        title: of the figure; shown as it is, without markup.

    Raises:
        PbbError: the table lacks a column, is empty, has several rows for a cell or several truths for a variable, or
            a probability that is none.

    Example:
        >>> import pbb_probe as pbb
        >>> run = pbb.open_run("runs/nano")
        >>> model, name = run.model(), run.corpus.entries[0].program.name
        >>> call = pbb.prompts.prompts_of_calls(model, run.call(name, "3"), answers=run.corpus.outputs)
        >>> figure = pbb.figures.readings(run.readings(model, call))
        >>> [panel.text for panel in figure.layout.annotations]
        ['probe, resid_post, at name', 'probe, resid_post, at input', 'probe, resid_post, at answer',
         'logit lens, at answer']
    """
    from plotly.subplots import make_subplots

    place = ["way", "role", "variable", "layer"]
    require(table, {*place, "value", "probability", "right", "truth"}, "what was read, a row a cell")
    if table.empty:
        raise PbbError("The table has no rows: nothing was read.")
    if table.duplicated(place).any():
        raise PbbError("The table has several rows for one way, role, variable and layer: select one prompt.")
    if not table["probability"].between(0, 1 + 1e-6).all():
        raise PbbError("A reading has no probability between 0 and 1: give that of the value read, from a softmax.")
    if (table.groupby("variable")["truth"].nunique(dropna=False) > 1).any():
        raise PbbError("A variable has several true values: give the readings of one prompt.")
    ways, roles = distinct(table, "way", "role")
    layers = sorted(set(table["layer"].tolist()))
    beside = len(ways) * len(layers) <= 26
    panels = [[(way, role) for way in ways] for role in roles]
    there = set(zip(table["way"], table["role"], strict=True))
    if not beside:  # one below the other, where panels that would be empty are not needed to keep others in line
        panels = [[panel] for row in panels for panel in row if panel in there]
    variables = [
        list(dict.fromkeys(table.loc[table["role"].eq(row[0][1]) & table["way"].isin([w for w, _ in row]), "variable"]))
        for row in panels
    ]
    n_rows = list(map(len, variables))
    inner = 30 * sum(n_rows) + 62 * (len(n_rows) - 1)
    figure = make_subplots(
        len(panels),
        len(panels[0]),
        subplot_titles=[
            f"{plain(way)}, at {plain(role)}" if (way, role) in there else "" for row in panels for way, role in row
        ],
        row_heights=n_rows,
        shared_yaxes=True,
        vertical_spacing=62 / inner if len(panels) > 1 else 0,
        horizontal_spacing=0.03,
    )
    for r, row in enumerate(panels):
        for c, (way, role) in enumerate(row):
            cells = table[(table["way"] == way) & (table["role"] == role)]
            if cells.empty:
                figure.update_xaxes(visible=False, row=r + 1, col=c + 1)
                figure.update_yaxes(visible=False, row=r + 1, col=c + 1)
                continue
            where = f"{plain(way)}, at {plain(role)}"
            _draw_readings(figure, cells, variables[r], layers, len(row), where, row=r + 1, col=c + 1)
    labels = {name: f"{name} = {truth}" for name, truth in zip(table["variable"], table["truth"], strict=True)}
    for r, names in enumerate(variables, start=1):
        figure.update_yaxes(ticktext=[_short(labels[name], 34) for name in names], row=r, col=1)
    outline = {"symbol": "square-open", "size": 14, "color": RIGHT, "line_width": 3}
    name_mark(figure, "right", outline, row=1, col=1)
    figure.update_xaxes(title="layer", row=len(panels))
    widest = max(text_width(_short(label, 34)) for label in labels.values())
    return finish(
        figure,
        above_all(title),
        inner + 150,
        {"l": 20 + widest, "t": 90},
        coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1, "colorbar_title": "probability"},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 0.98, "yref": "container", "yanchor": "top"},
    )


def _draw_readings(
    figure: "Figure",
    cells: "pd.DataFrame",
    variables: list[Any],
    layers: list[int],
    beside: int,
    where: str,
    **panel: int,
) -> None:
    """One panel of so many beside each other: layers x variables, downwards in the order of the table."""
    import numpy as np

    shape = len(variables), len(layers)
    z, text, hover = np.full(shape, np.nan), np.full(shape, "", dtype=object), np.full((*shape, 5), "", dtype=object)
    most = max(2, int(0.8 * WIDTH / beside / len(layers) / 8))  # characters that a cell has room for
    outlines = []
    for cell in cells.itertuples():
        at = variables.index(cell.variable), layers.index(cell.layer)
        z[at], text[at] = cell.probability, _short(cell.value, most)
        judged = "right" if cell.right else "wrong"
        hover[at] = cell.layer, plain(cell.variable), visible(cell.value), visible(cell.truth), judged
        if cell.right:
            outlines.append({"x0": at[1] - 0.46, "x1": at[1] + 0.46, "y0": at[0] - 0.44, "y1": at[0] + 0.44})
    figure.add_heatmap(
        z=z,
        x=list(range(len(layers))),
        y=list(range(len(variables))),
        text=text,
        texttemplate="%{text}",
        textfont_size=12,
        customdata=hover,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        coloraxis="coloraxis",
        hovertemplate="layer %{customdata[0]}, %{customdata[1]}: read %{customdata[2]} with probability %{z:.3f}<br>"
        "truth %{customdata[3]}: %{customdata[4]}<extra>" + where + "</extra>",
        **panel,
    )
    line = {"color": RIGHT, "width": 2.5}
    where_drawn = {"type": "rect", "line": line, "xref": figure.data[-1].xaxis, "yref": figure.data[-1].yaxis}
    # at once: adding each by itself takes time in the square of their number
    figure.update_layout(shapes=[*figure.layout.shapes, *(outline | where_drawn for outline in outlines)])
    bare = {"showgrid": False, "zeroline": False, **panel}
    figure.update_xaxes(tickvals=list(range(len(layers))), ticktext=list(map(str, layers)), **bare)
    rows = {"tickvals": list(range(len(variables))), "range": [len(variables) - 0.5, -0.5], "ticklabelstandoff": 4}
    figure.update_yaxes(**rows, **bare)


def _short(text: Any, most: int) -> str:
    """The beginning of a text where there is room for so many characters, escaped."""
    text = str(text)
    return visible(text if len(text) <= most else text[: most - 1] + "…")


def answers(probabilities: "pd.Series", right: str | None = None, title: str = "", top: int = 10) -> "Figure":
    """The likeliest answers of one prompt as bars; the right one has another colour and a tick before its text.

    Args:
        probabilities: of answers, by their texts, in any order.
        right: the right answer, shown even if it is not among the likeliest; nothing is marked when None.
        title: of the figure; shown as it is, without markup.
        top: how many.

    Raises:
        PbbError: no answers, one that is there twice, a probability that is none, or a top below 1.

    Example:
        >>> import pandas as pd
        >>> import pbb_probe as pbb
        >>> figure = pbb.figures.answers(pd.Series({"7": 0.1, "3": 0.6, "9": 0.3}), right="9")
        >>> figure.layout.yaxis.ticktext
        ('3', '<b>✓ 9</b>', '7')
    """
    if probabilities.empty or top < 1:
        raise PbbError("There is no answer to show: give at least one probability, and a top of 1 or more.")
    if probabilities.index.duplicated().any():
        raise PbbError(f"The answer {probabilities.index[probabilities.index.duplicated()][0]!r} is there twice.")
    if not probabilities.between(0, 1 + 1e-6).all():
        raise PbbError("Probabilities lie between 0 and 1: give those of a softmax, not logits.")
    ordered = probabilities.sort_values(ascending=False, kind="stable")
    ranks = {str(answer): rank for rank, answer in enumerate(ordered.index, start=1)}
    shown = list(ranks)[:top] + [str(right)] * (right is not None and ranks.get(str(right), 0) > top)
    values = [float(ordered.iloc[ranks[answer] - 1]) for answer in shown]
    is_right = [right is not None and answer == str(right) for answer in shown]
    labels = [
        ("<b>✓ " if good else "") + _short(answer, 30) + ("</b>" if good else "")
        for answer, good in zip(shown, is_right, strict=True)
    ]
    if len(shown) > top:
        labels[-1] += f" (rank {ranks[shown[-1]]})"
    figure = ranked_bars(
        values,
        labels,
        marker_color=[RIGHT if good else OTHER for good in is_right],
        text=[f"{value:.1%}" if value >= 0.0005 else "&lt;0.1%" for value in values],
        textposition="auto",
        textangle=0,
        customdata=[
            (visible(answer), ranks[answer], ", the right one" if good else "")
            for answer, good in zip(shown, is_right, strict=True)
        ],
        hovertemplate="%{customdata[0]}: %{x:.2%}, rank %{customdata[1]}%{customdata[2]}<extra></extra>",
    )
    x_title = "probability"
    if right is not None and str(right) not in ranks:
        x_title += f" (the right answer, {_short(right, 30)}, is not among those given)"
    figure.update_xaxes(range=[0, 1], tickformat=".0%", title=x_title)
    margin = {"l": 40 + max(map(text_width, labels)), "r": 60}
    return finish(figure, plain(title), 30 * len(shown) + 150, margin, bargap=0.2)
