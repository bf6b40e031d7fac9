"""Groups side by side, layer by layer, and their differences two by two."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.views.figures.panels import add_curve, differing, distinct, grid, panels, require
from pbb_probe.views.figures.style import DASHES, finish, group_colours, name_mark, plain, wrapped
from pbb_probe.views.pairs import apart_from, by_pair, groups_of, in_order, minus, of_pair, once, pairs_of

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
    groups: Sequence[str] | None = None,
) -> "Figure":
    """The groups by layer with their 95 % bands, a panel for each value of two columns.

    A filled marker says that the group differs there from another one (adjusted p below 0.05).

    Args:
        table: from `compare_groups`, with a column `layer`.
        rows: the column whose values are the rows of panels.
        columns: the column whose values are the columns of panels.
        title: of the figure.
        y_title: of the vertical axis.
        reference: a second table of the same kind, drawn as thin dotted lines (a control).
        groups: those that are shown; all of the table when None.

    Raises:
        PbbError: the table lacks a column, or has several rows for one layer and pair of groups in a panel.

    Example:
        >>> import pbb_probe as pbb
        >>> table = pbb.open_run("runs/nano").table("comparison/lens").query("subset == 'all'")
        >>> figure = pbb.figures.layer_curves(table, rows="decode", columns="variable")
        >>> [title.text for title in figure.layout.annotations]  # of columns, rows and the axis
        ['state_1', 'output', 'logit', 'stripped', 'layer']
    """
    groups = groups_of(table) if groups is None else groups
    require(table, {rows, columns, "layer", *(f"mean_{group}" for group in groups)}, "the table of compare_groups")
    if any(cells.duplicated([rows, columns, "layer"]).any() for _, cells in by_pair(table, groups)):
        raise PbbError("The table has several rows for one layer of a panel: select one site, role and subset.")
    row_values, column_values = distinct(table, rows, columns)
    figure, colours = grid(row_values, column_values, y_title=y_title), group_colours(groups)
    for place, panel, other in panels(table, rows, columns, reference):
        for group in groups:
            _add_group(figure, panel, groups, group, colours[group], place, tested=True)
            if reference is not None:
                control = once(other, "layer")
                figure.add_scatter(
                    x=control["layer"],
                    y=control[f"mean_{group}"],
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
    groups: Sequence[str] | None = None,
    title: str = "",
    y_titles: Mapping[str, str] | None = None,
    margin: float | None = None,
) -> "Figure":
    """The groups by layer with their 95 % bands, and below them their differences two by two, a column a table.

    A filled marker says that groups differ there (adjusted p below 0.05); without a column `p_adjusted` there are no
    markers.

    Args:
        tables: from `compare_groups`, each of one place a layer, by heading.
        groups: those that are shown, two or more; all of the tables when None. Differences are those of
            `compare_groups`.
        title: of the figure.
        y_titles: of the upper panels' vertical axes, by heading.
        margin: within which differences count as none; shaded.

    Raises:
        PbbError: no tables, a single group, or a table that lacks a column, is empty or has several rows for one layer
            and pair of groups.

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
    shown = {heading: groups_of(table) if groups is None else list(groups) for heading, table in tables.items()}
    every = in_order(group for of_table in shown.values() for group in of_table) if groups is None else list(groups)
    for heading, table in tables.items():
        if (n := len(set(shown[heading]))) < 2:
            raise PbbError(f"Two groups have a difference, not {n}: name those of the tables.")
        _check_one_place(heading, table, shown[heading])
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
    colours, tested = group_colours(every), False
    pairs = list(dict.fromkeys(pair for heading, table in tables.items() for pair in pairs_of(table, shown[heading])))
    for c, (heading, table) in enumerate(tables.items(), start=1):
        cells, below = table.sort_values("layer"), {"row": 2, "col": c}
        for group in shown[heading]:
            _add_group(figure, cells, every, group, colours[group], {"row": 1, "col": c})
        tests = ["p_adjusted"] if "p_adjusted" in cells else []
        for pair, apart in by_pair(cells, shown[heading]):
            colour, dash = _DIFFERENCES[pairs.index(pair) % len(_DIFFERENCES)]
            add_curve(
                figure,
                apart,
                ["difference", "lower", "upper", *tests],
                minus(pair),
                colour,
                "<br>adjusted p = %{customdata[2]:.3g}" if tests else "",
                below,
                mode="lines+markers" if tests else "lines",
                line={"color": colour, "width": 2, "dash": dash},
                marker={"size": 8, "symbol": differing(apart["p_adjusted"])} if tests else None,
            )
        if margin is not None:
            figure.add_hrect(y0=-margin, y1=margin, fillcolor="#999999", opacity=0.15, line_width=0, **below)
        figure.add_hline(y=0, line={"color": "#444444", "width": 1}, **below)
        tested |= bool(tests)
        figure.update_yaxes(title=plain((y_titles or {}).get(heading, "")), row=1, col=c)
    if tested:
        name_mark(figure, "adjusted p < 0.05", {"size": 8, "color": _DIFFERENCES[0][0]}, row=2, col=1)
    if sum(table["layer"].nunique() for table in tables.values()) <= 60:  # else their numbers would overlap
        figure.update_xaxes(dtick=1)
    of = plain(minus(pairs[0])).replace(" minus", "<br>minus") if len(pairs) == 1 else "difference"
    figure.update_yaxes(title=of, row=2, col=1)
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
    """A group's curve: the first one of the groups is solid, markers say where it differs if that is shown here."""
    at_layer, hover, marker = once(cells, "layer"), "", None
    units = "programs" if f"programs_{group}" in cells else "clusters"
    columns = [f"{part}_{group}" for part in ("mean", "lower", "upper", "n", units)]
    if tested:
        tests = apart_from(cells, group, ["layer"], groups)
        said = [
            "".join(f"<br>from {plain(other)}: adjusted p = {p:.3g}" for other, p in row.items() if p == p)
            for row in tests.to_dict(orient="records")
        ]
        at_layer = at_layer.assign(said=said or "")
        columns, hover = [*columns, "said"], "%{customdata[4]}"
        marker = {"size": 7, "symbol": differing(tests.min(axis=1))}
    add_curve(
        figure,
        at_layer,
        columns,
        group,
        colour,
        "<br>n = %{customdata[2]}, %{customdata[3]} programs" + hover,
        place,
        mode="lines+markers" if tested else "lines",
        line={"color": colour, "width": 2, "dash": DASHES[list(groups).index(group) % len(DASHES)]},
        marker=marker,
    )


_DIFFERENCES = (("#000000", "solid"), ("#CC79A7", "dash"), ("#E69F00", "dashdot"), ("#56B4E9", "longdash"))
"""Colours and dashes of the pairs of groups, which are none of the groups' own."""


def _check_one_place(heading: str, table: "pd.DataFrame", groups: Sequence[str]) -> None:
    """Refuse a table that is not one place's row a layer and pair of groups.

    Raises:
        PbbError: it lacks a column, is empty, or has several rows for one layer and pair.
    """
    parts = {f"{part}_{group}" for part in ("mean", "lower", "upper", "n", "clusters") for group in groups}
    columns = {"layer", "difference", "lower", "upper", *parts}
    require(table, columns, "the table of compare_groups", heading)
    if table.empty:
        raise PbbError(f"The table {heading!r} has no rows: there is no difference to show.")
    if any(of_pair(table, pair)["layer"].duplicated().any() for pair in pairs_of(table, groups)):
        raise PbbError(f"The table {heading!r} has several rows for one layer: select one site and one role.")
