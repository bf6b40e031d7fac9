"""Where variables set in, by use and by reading, and differences between groups with their intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.evidence.onsets import when
from pbb_probe.views.evaluated import COLUMNS, closed
from pbb_probe.views.figures.panels import distinct, error_bars, interval, name_rows, require
from pbb_probe.views.figures.style import OTHER_COLOURS, finish, group_colours, plain, wrapped
from pbb_probe.views.pairs import in_order

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

WAYS = {
    "used": ("used (transfer map)", "circle"),
    "patched": ("used (recovery)", "diamond"),
    "read": ("read (probes)", "square-open"),
    "lens": ("read (logit lens)", "triangle-up-open"),
}


def onsets(
    table: "pd.DataFrame",
    columns: str = "steps",
    title: str = "",
    groups: Sequence[str] | None = None,
    gate: "pd.DataFrame | None" = None,
) -> "Figure":
    """The block of each variable with its interval: a row a variable and group, a mark for each way that found it.

    Args:
        table: from `side_by_side`, one subset.
        columns: its column whose values are the panels.
        title: of the figure.
        groups: those that are shown, in this order; all of the table when None.
        gate: a row a group and panel, with `evaluated` and `sentence`: what is not evaluated has its sentence in place
            of marks. Everything is shown when None.

    Raises:
        PbbError: the table lacks a column, or has no rows of these groups.

    Example:
        >>> import pbb_probe as pbb
        >>> table = pbb.open_run("runs/nano").table("comparison/onsets").query("subset == 'all'")
        >>> figure = pbb.figures.onsets(table, groups=["with_io"])
        >>> [mark.name.partition(",")[0] for mark in figure.data]
        ['used (transfer map)', 'used (recovery)', 'read (probes)', 'read (logit lens)']
    """
    from plotly.subplots import make_subplots

    require(table, {"group", "variable", "used_layer", "read_layer", columns}, "that of side_by_side")
    if gate is not None:
        require(gate, {*COLUMNS, columns}, "that of the evaluation gate")
    silent = closed(gate)
    groups = in_order([*table["group"], *silent["group"]]) if groups is None else groups
    table, silent = (rows[rows["group"].isin(groups)] for rows in (table, silent))
    if table.empty:
        raise PbbError(f"The table has no rows of the groups {', '.join(groups)}.")
    not_evaluated = {} if gate is None else silent.set_index(["group", columns])["sentence"].to_dict()
    values = sorted({*table[columns], *(value for _, value in not_evaluated)})
    of_kind = zip(table["group"], table[columns], strict=True)
    shown = table[[kind not in not_evaluated for kind in of_kind]]
    panels = [(value, shown[shown[columns] == value]) for value in values]
    variables = sorted(set(table["variable"]), key=when)
    rows = [f"{variable}, {group}" for variable in variables for group in groups]
    figure = make_subplots(
        1, len(panels), shared_yaxes=True, column_titles=[f"{columns}: {value}" for value, _ in panels], x_title="block"
    )
    ways = {way: kind for way, kind in WAYS.items() if f"{way}_layer" in table}
    colours = group_colours(groups)
    for c, (panel, cells) in enumerate(panels, start=1):
        for (way, (words, symbol)), group in ((w, g) for w in ways.items() for g in groups):
            here = cells[(cells["group"] == group) & cells[f"{way}_layer"].notna()]
            if here.empty:
                continue
            shift = 0.18 * (list(ways).index(way) - (len(ways) - 1) / 2)  # marks of one row beside each other
            bounds = here[[f"{way}_layer", f"{way}_lower", f"{way}_upper"]].to_numpy()
            figure.add_scatter(
                x=bounds[:, 0],
                y=[rows.index(f"{variable}, {group}") + shift for variable in here["variable"]],
                mode="markers",
                marker={"symbol": symbol, "size": 10, "color": colours[group]},
                error_x=error_bars(*bounds.T),
                name=f"{words}, {group}",
                legendgroup=f"{words}, {group}",
                customdata=here[["variable", f"{way}_peak", f"{way}_n"]].assign(variable=here["variable"].map(plain)),
                hovertemplate="%{customdata[0]}: block %{x}<br>peak %{customdata[1]:.2f}, n %{customdata[2]:.0f}"
                f"<extra>{words}, {group}</extra>",
                row=1,
                col=c,
            )
        notes = {
            (variable, group): ("not found", 0.0)
            for (group, variable), of in cells.groupby(["group", "variable"], sort=False)
            if of[[f"{way}_layer" for way in ways]].isna().all(axis=None)
        }
        for group in groups:
            if sentence := not_evaluated.get((group, panel)):  # in full once, which is at the first variable
                said = wrapped(sentence, 760 / len(panels)), *[sentence.partition(" (")[0]] * (len(variables) - 1)
                notes |= {(variable, group): (text, -0.4) for variable, text in zip(variables, said, strict=True)}
        for (variable, group), (text, x) in notes.items():
            note = {"text": text, "font_size": 11, "showarrow": False, "xanchor": "left" if x else "center"}
            figure.add_annotation(x=x, y=rows.index(f"{variable}, {group}"), align="left", row=1, col=c, **note)
    name_rows(figure, list(map(plain, rows)), range=[len(rows) - 0.4, -0.6])
    top = shown[[f"{way}_upper" for way in ways]].max().max()
    figure.update_xaxes(range=[-0.5, (top if top == top else 0) + 0.5], dtick=1)
    return finish(figure, title, 52 * len(rows) + 200, {"l": 170}, legend={"orientation": "h", "y": -0.22})


def differences(
    table: "pd.DataFrame",
    rows: str,
    colour: str | None = None,
    margin: float | None = None,
    predicted: float | None = None,
    title: str = "",
    x_title: str = "difference",
) -> "Figure":
    """Differences with their intervals, one below the other, around no difference.

    Args:
        table: with `difference`, `lower` and `upper`, as from `compare_groups` or `onset_differences`.
        rows: the column that names the rows.
        colour: a column whose values have colours of their own.
        margin: within which differences count as none; shaded.
        predicted: a difference that was expected; a dashed line.
        title: of the figure.
        x_title: of its axis.

    Raises:
        PbbError: the table lacks a column, or is empty.

    Example:
        >>> import pandas as pd
        >>> import pbb_probe as pbb
        >>> rows = [("state_1", 1.0, 0.5, 1.5), ("output", 0.0, -0.5, 0.5)]
        >>> table = pd.DataFrame(rows, columns=["variable", "difference", "lower", "upper"])
        >>> figure = pbb.figures.differences(table, rows="variable", margin=0.5)
        >>> figure.layout.yaxis.ticktext
        ('state_1', 'output')
    """
    import plotly.graph_objects as go

    columns = {"difference", "lower", "upper", rows, *([colour] if colour else [])}
    require(table, columns, "differences with their intervals")
    if table.empty:
        raise PbbError("The table has no rows: there is no difference to show.")
    (names,) = distinct(table, rows)
    kinds = list(table.groupby(colour, sort=False)) if colour else [("", table)]
    figure = go.Figure()
    for k, (kind, cells) in enumerate(kinds):
        shift = 0.2 * (k - (len(kinds) - 1) / 2)
        figure.add_scatter(
            x=cells["difference"],
            y=[names.index(name) + shift for name in cells[rows]],
            mode="markers",
            marker={"size": 9, "color": OTHER_COLOURS[k % len(OTHER_COLOURS)]},
            error_x=error_bars(*(cells[name] for name in ("difference", "lower", "upper"))),
            name=str(kind),
            showlegend=colour is not None,
            customdata=cells[["lower", "upper", rows]],
            hovertemplate=f"%{{customdata[2]}}: {interval('x', '.2f')}<extra></extra>",
        )
    if margin is not None:
        figure.add_vrect(x0=-margin, x1=margin, fillcolor="#999999", opacity=0.15, line_width=0)
    if predicted is not None:
        figure.add_vline(x=predicted, line={"dash": "dash", "color": "#666666"}, annotation_text="predicted")
    figure.add_vline(x=0, line={"color": "#444444", "width": 1})
    name_rows(figure, names)
    return finish(figure, title, 44 * len(names) + 180, {"l": 230}, xaxis_title=x_title)
