"""Two groups side by side, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import GROUPS
from pbb_probe.views.figures.style import LAYOUT, add_band, grid, group_colours, plain, wrapped

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def layer_curves(
    table: "pd.DataFrame",
    rows: str,
    columns: str,
    title: str = "",
    y_title: str = "",
    reference: "pd.DataFrame | None" = None,
    groups: Sequence[str] = GROUPS,
) -> "Figure":
    """Both groups by layer with their 95 % bands, a panel for each value of two columns.

    A filled marker says that the groups differ there (adjusted p below 0.05).

    Args:
        table: from `compare_groups`, with a column `layer`.
        rows: the column whose values are the rows of panels.
        columns: the column whose values are the columns of panels.
        title: of the figure.
        y_title: of the vertical axis.
        reference: a second table of the same kind, drawn as thin dotted lines (a control).
        groups: the two groups.

    Raises:
        PbbError: the table lacks a column.
    """
    if lacking := {rows, columns, "layer", *(f"mean_{group}" for group in groups)} - set(table.columns):
        raise PbbError(f"The table has no column {min(lacking)!r}: give the table of compare_groups.")
    row_values, column_values = list(dict.fromkeys(table[rows])), list(dict.fromkeys(table[columns]))
    figure, colours = grid(row_values, column_values, y_title), group_colours(groups)
    for r, row in enumerate(row_values, start=1):
        for c, column in enumerate(column_values, start=1):
            place = {"row": r, "col": c}
            panel = table[(table[rows] == row) & (table[columns] == column)].sort_values("layer")
            for group in groups:
                colour = colours[group]
                bounds = panel[f"lower_{group}"], panel[f"upper_{group}"]
                add_band(figure, panel["layer"], *bounds, colour, group, **place)
                figure.add_scatter(
                    x=panel["layer"],
                    y=panel[f"mean_{group}"],
                    mode="lines+markers",
                    line={"color": colour, "width": 2, "dash": "solid" if group == groups[0] else "dash"},
                    marker={
                        "size": 7,
                        "symbol": ["circle" if p < 0.05 else "circle-open" for p in panel["p_adjusted"]],
                    },
                    customdata=panel[
                        [f"lower_{group}", f"upper_{group}", f"n_{group}", f"clusters_{group}", "p_adjusted"]
                    ],
                    hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<br>"
                    "n = %{customdata[2]}, %{customdata[3]} programs<br>"
                    "groups differ: adjusted p = %{customdata[4]:.3g}<extra>" + group + "</extra>",
                    name=group,
                    legendgroup=group,
                    showlegend=r == c == 1,
                    **place,
                )
                if reference is not None:
                    other = reference[(reference[rows] == row) & (reference[columns] == column)].sort_values("layer")
                    figure.add_scatter(
                        x=other["layer"],
                        y=other[f"mean_{group}"],
                        mode="lines",
                        line={"color": colour, "width": 1, "dash": "dot"},
                        name=f"{group}, control",
                        legendgroup=f"{group}, control",
                        showlegend=r == c == 1,
                        **place,
                    )
    figure.update_xaxes(dtick=1)
    figure.update_layout(title=title, height=190 * len(row_values) + 150, **LAYOUT)
    return figure


def curves_with_difference(
    tables: "Mapping[str, pd.DataFrame]",
    groups: Sequence[str] = GROUPS,
    title: str = "",
    y_titles: Mapping[str, str] | None = None,
    margin: float | None = None,
) -> "Figure":
    """Both groups by layer with their 95 % bands, and below them their difference with its own, a column a table.

    A filled marker says that the groups differ there (adjusted p below 0.05); without a column `p_adjusted` there are
    no markers.

    Args:
        tables: from `compare_groups`, each of one place a layer, by heading.
        groups: the two groups; the difference is that of `compare_groups`, the first in sorted order minus the second.
        title: of the figure.
        y_titles: of the upper panels' vertical axes, by heading.
        margin: within which differences count as none; shaded.

    Raises:
        PbbError: no tables, not two groups, or a table that lacks a column, is empty or has several rows for one layer.
    """
    from plotly.subplots import make_subplots

    if not tables:
        raise PbbError("There are no tables to draw: give at least one of compare_groups.")
    if len(set(groups)) != 2:
        raise PbbError(f"Two groups have a difference, not {len(set(groups))}: name the two of the tables.")
    for heading, table in tables.items():
        _check_one_place(heading, table, groups)
    headings = [wrapped(heading, 1000 / len(tables)) for heading in tables]
    figure = make_subplots(
        2,
        len(tables),
        shared_xaxes=True,
        column_titles=headings,
        row_heights=[0.6, 0.4],
        horizontal_spacing=0.2 / (len(tables) + 1),
        vertical_spacing=0.07,
        x_title="layer",
    )
    colours = group_colours(groups)
    of_first, of_second = (plain(group) for group in sorted(groups))
    tested = False
    for c, (heading, table) in enumerate(tables.items(), start=1):
        cells = table.sort_values("layer")
        for group in groups:
            bounds = cells[f"lower_{group}"], cells[f"upper_{group}"]
            add_band(figure, cells["layer"], *bounds, colours[group], group, row=1, col=c)
            figure.add_scatter(
                x=cells["layer"],
                y=cells[f"mean_{group}"],
                mode="lines",
                line={"color": colours[group], "width": 2, "dash": "solid" if group == groups[0] else "dash"},
                customdata=cells[[f"lower_{group}", f"upper_{group}", f"n_{group}", f"clusters_{group}"]],
                hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<br>"
                f"n = %{{customdata[2]}}, %{{customdata[3]}} programs<extra>{plain(group)}</extra>",
                name=plain(group),
                legendgroup=group,
                showlegend=c == 1,
                row=1,
                col=c,
            )
        add_band(figure, cells["layer"], cells["lower"], cells["upper"], _DIFFERENCE, "difference", row=2, col=c)
        p = cells.get("p_adjusted")
        figure.add_scatter(
            x=cells["layer"],
            y=cells["difference"],
            mode="lines" if p is None else "lines+markers",
            line={"color": _DIFFERENCE, "width": 2},
            marker=None if p is None else {"size": 8, "symbol": ["circle" if v < 0.05 else "circle-open" for v in p]},
            customdata=cells[["lower", "upper", *([] if p is None else ["p_adjusted"])]],
            hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]"
            + ("" if p is None else "<br>adjusted p = %{customdata[2]:.3g}")
            + f"<extra>{of_first} minus {of_second}</extra>",
            name=f"{of_first} minus {of_second}",
            legendgroup="difference",
            showlegend=c == 1,
            row=2,
            col=c,
        )
        if margin is not None:
            figure.add_hrect(y0=-margin, y1=margin, fillcolor="#999999", opacity=0.15, line_width=0, row=2, col=c)  # type: ignore[arg-type]
        figure.add_hline(y=0, line={"color": "#444444", "width": 1}, row=2, col=c)  # type: ignore[arg-type]
        tested |= p is not None
        figure.update_yaxes(title=plain((y_titles or {}).get(heading, "")), row=1, col=c)
    if tested:
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"size": 8, "color": _DIFFERENCE},
            name="adjusted p < 0.05",
            legendgroup="difference",
            row=2,
            col=1,
        )
    if sum(table["layer"].nunique() for table in tables.values()) <= 60:  # else their numbers would overlap
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(title=f"{of_first}<br>minus {of_second}", row=2, col=1)
    lines = max(heading.count("<br>") for heading in headings)
    figure.update_layout(title=title, height=560 + 18 * lines, **LAYOUT)
    figure.update_layout(
        legend={"orientation": "h", "y": -0.14, "yanchor": "top", "traceorder": "normal"},
        margin={"l": 90, "t": 92 + 18 * lines},
    )
    return figure


_DIFFERENCE = "#000000"


def _check_one_place(heading: str, table: "pd.DataFrame", groups: Sequence[str]) -> None:
    """Refuse a table that is not one place's row a layer.

    Raises:
        PbbError: it lacks a column, is empty, or has several rows for one layer.
    """
    parts = {f"{part}_{group}" for part in ("mean", "lower", "upper", "n", "clusters") for group in groups}
    if lacking := {"layer", "difference", "lower", "upper", *parts} - set(table.columns):
        raise PbbError(f"The table {heading!r} has no column {min(lacking)!r}: give the table of compare_groups.")
    if table.empty:
        raise PbbError(f"The table {heading!r} has no rows: there is no difference to show.")
    if table["layer"].duplicated().any():
        raise PbbError(f"The table {heading!r} has several rows for one layer: select one site and one role.")
