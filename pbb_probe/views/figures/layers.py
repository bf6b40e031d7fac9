"""Two groups side by side, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import GROUPS
from pbb_probe.views.figures.panels import add_curve, differing, distinct, grid, panels, require
from pbb_probe.views.figures.style import finish, group_colours, name_mark, plain, wrapped

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

    Example:
        >>> import pbb_probe as pbb
        >>> table = pbb.open_run("runs/nano").table("comparison/lens").query("subset == 'all'")
        >>> figure = pbb.figures.layer_curves(table, rows="decode", columns="variable")
        >>> [title.text for title in figure.layout.annotations]  # of columns, rows and the axis
        ['state_1', 'output', 'logit', 'stripped', 'layer']
    """
    require(table, {rows, columns, "layer", *(f"mean_{group}" for group in groups)}, "the table of compare_groups")
    row_values, column_values = distinct(table, rows, columns)
    figure, colours = grid(row_values, column_values, y_title=y_title), group_colours(groups)
    for place, panel, other in panels(table, rows, columns, reference):
        for group in groups:
            _add_group(figure, panel, groups, group, colours[group], place, tested=True)
            if reference is not None:
                figure.add_scatter(
                    x=other["layer"],
                    y=other[f"mean_{group}"],
                    mode="lines",
                    line={"color": colours[group], "width": 1, "dash": "dot"},
                    name=f"{group}, control",
                    legendgroup=f"{group}, control",
                    **place,
                )
    figure.update_xaxes(dtick=1)
    return finish(figure, title, 190 * len(row_values) + 150)


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

    Example:
        >>> import pbb_probe as pbb
        >>> table = pbb.open_run("runs/nano").table("comparison/probing")
        >>> output = table.query("target == 'output' and role == 'answer' and subset == 'all'")
        >>> figure = pbb.figures.curves_with_difference({"output": output})
        >>> [curve.name for curve in figure.data if curve.name]
        ['with_io', 'without_io', 'with_io minus without_io', 'adjusted p < 0.05']
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
    colours, first_minus_second = group_colours(groups), " minus ".join(sorted(groups))
    tested = False
    for c, (heading, table) in enumerate(tables.items(), start=1):
        cells, below = table.sort_values("layer"), {"row": 2, "col": c}
        for group in groups:
            _add_group(figure, cells, groups, group, colours[group], {"row": 1, "col": c})
        tests = ["p_adjusted"] if "p_adjusted" in cells else []
        add_curve(
            figure,
            cells,
            ["difference", "lower", "upper", *tests],
            first_minus_second,
            _DIFFERENCE,
            "<br>adjusted p = %{customdata[2]:.3g}" if tests else "",
            below,
            legendgroup="difference",
            mode="lines+markers" if tests else "lines",
            line={"color": _DIFFERENCE, "width": 2},
            marker={"size": 8, "symbol": differing(cells["p_adjusted"])} if tests else None,
        )
        if margin is not None:
            figure.add_hrect(y0=-margin, y1=margin, fillcolor="#999999", opacity=0.15, line_width=0, **below)
        figure.add_hline(y=0, line={"color": "#444444", "width": 1}, **below)
        tested |= bool(tests)
        figure.update_yaxes(title=plain((y_titles or {}).get(heading, "")), row=1, col=c)
    if tested:
        mark = {"size": 8, "color": _DIFFERENCE}
        name_mark(figure, "adjusted p < 0.05", mark, legendgroup="difference", row=2, col=1)
    if sum(table["layer"].nunique() for table in tables.values()) <= 60:  # else their numbers would overlap
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(title=plain(first_minus_second).replace(" minus", "<br>minus"), row=2, col=1)
    lines = max(heading.count("<br>") for heading in headings)
    legend = {"orientation": "h", "y": -0.14, "yanchor": "top", "traceorder": "normal"}
    return finish(figure, title, 560 + 18 * lines, {"l": 90, "t": 92 + 18 * lines}, legend=legend)


def _add_group(
    figure: "Figure",
    cells: "pd.DataFrame",
    groups: Sequence[str],
    group: str,
    colour: str,
    place: Mapping[str, int],
    tested: bool = False,
) -> None:
    """A group's curve: the first one of the groups is solid, markers say where they differ if that is shown here."""
    add_curve(
        figure,
        cells,
        [f"{part}_{group}" for part in ("mean", "lower", "upper", "n", "clusters")] + ["p_adjusted"] * tested,
        group,
        colour,
        "<br>n = %{customdata[2]}, %{customdata[3]} programs"
        + "<br>groups differ: adjusted p = %{customdata[4]:.3g}" * tested,
        place,
        mode="lines+markers" if tested else "lines",
        line={"color": colour, "width": 2, "dash": "solid" if group == groups[0] else "dash"},
        marker={"size": 7, "symbol": differing(cells["p_adjusted"])} if tested else None,
    )


_DIFFERENCE = "#000000"


def _check_one_place(heading: str, table: "pd.DataFrame", groups: Sequence[str]) -> None:
    """Refuse a table that is not one place's row a layer.

    Raises:
        PbbError: it lacks a column, is empty, or has several rows for one layer.
    """
    parts = {f"{part}_{group}" for part in ("mean", "lower", "upper", "n", "clusters") for group in groups}
    columns = {"layer", "difference", "lower", "upper", *parts}
    require(table, columns, "the table of compare_groups", heading)
    if table.empty:
        raise PbbError(f"The table {heading!r} has no rows: there is no difference to show.")
    if table["layer"].duplicated().any():
        raise PbbError(f"The table {heading!r} has several rows for one layer: select one site and one role.")
