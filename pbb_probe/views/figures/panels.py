"""From tables to panels: which columns there must be, a panel for each value, curves with bands, rows with labels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.evidence.verdict import ALPHA
from pbb_probe.views.figures.style import plain

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from plotly.graph_objects import Figure


def require(table: "pd.DataFrame", columns: Iterable[str], give: str, name: str = "") -> None:
    """Refuse a table, of several the one of this name, that lacks a column; `give` says which to give instead.

    Raises:
        PbbError: it lacks one.
    """
    if lacking := set(columns) - set(table.columns):
        which = f" {name!r}" if name else ""
        raise PbbError(f"The table{which} has no column {min(lacking)!r}: give {give}.")


def distinct(table: "pd.DataFrame", *names: str) -> list[list[Any]]:
    """The values of columns, each once, in the order of the table."""
    return [list(dict.fromkeys(table[name])) for name in names]


def place_names(cells: "pd.DataFrame") -> list[str]:
    """`layer`, or `layer.head` in a table of heads, of each row."""
    columns = [name for name in ("layer", "head", "kv_head") if name in cells]
    return [".".join(str(int(part)) for part in place) for place in cells[columns].to_numpy()]


def grid(rows: Sequence[Any], columns: Sequence[Any], **settings: Any) -> "Figure":
    """An empty figure with a panel for each row and column, named on the right and on top, over a shared layer axis."""
    from plotly.subplots import make_subplots

    names = {"row_titles": list(map(plain, rows)), "column_titles": list(map(plain, columns))}
    spacing = {"horizontal_spacing": 0.02, "vertical_spacing": 0.05}
    given = {"shared_xaxes": True, "shared_yaxes": True, "x_title": "layer", **names, **spacing, **settings}
    return make_subplots(len(rows), len(columns), **given)


def panels(
    table: "pd.DataFrame", rows: str, columns: str, beside: "pd.DataFrame | None" = None
) -> "Iterator[tuple[dict[str, int], pd.DataFrame, pd.DataFrame]]":
    """The place of each panel of such a grid, its cells by layer, and those of a second table if there is one."""
    for (r, row), (c, column) in product(*(enumerate(values, 1) for values in distinct(table, rows, columns))):
        cells, others = (
            each[(each[rows] == row) & (each[columns] == column)].sort_values("layer")
            for each in (table, table[:0] if beside is None else beside)
        )
        yield {"row": r, "col": c}, cells, others


def matrices(
    cells: "pd.DataFrame", rows: str, columns: str, order: Sequence[Sequence[Any]], *values: str
) -> "list[np.ndarray]":
    """Columns of a table as matrices [row, column], whose rows and columns have the orders given; missing is NaN."""
    pivoted = (cells.pivot(index=rows, columns=columns, values=name) for name in values)
    return [matrix.reindex(index=order[0], columns=order[1]).to_numpy() for matrix in pivoted]


def interval(axis: str = "y", digits: str = ".3f") -> str:
    """A value and its bounds, the first two columns of customdata, in a hover's template."""
    return f"%{{{axis}:{digits}}} [%{{customdata[0]:{digits}}}, %{{customdata[1]:{digits}}}]"


def error_bars(middle: Any, lower: Any, upper: Any, thickness: float = 1.5) -> dict[str, Any]:
    """An interval around each of some marks."""
    bars = {"array": upper - middle, "arrayminus": middle - lower, "thickness": thickness}
    return {"type": "data", "symmetric": False, **bars}


def differing(p: "pd.Series") -> list[str]:
    """A filled mark where an adjusted p is below 0.05, an open one elsewhere."""
    return ["circle" if value < ALPHA else "circle-open" for value in p]


def add_curve(
    figure: "Figure",
    cells: "pd.DataFrame",
    columns: Sequence[str],
    name: str,
    colour: str,
    hover: str = "",
    place: Mapping[str, int] | None = None,
    legendgroup: str | None = None,
    **settings: Any,
) -> None:
    """A curve by layer in one panel, over a shaded band.

    Args:
        figure: that gets it.
        cells: a row a layer, in order.
        columns: of the curve, its lower and its upper bound; further ones are customdata behind the bounds.
        name: of the curve.
        colour: of both.
        hover: what is said below the value and its interval.
        place: row and column of the panel.
        legendgroup: shown and hidden together; the name when None.
        settings: of the trace.
    """
    place, group = place or {}, name if legendgroup is None else legendgroup
    layers, (middle, lower, upper, *_) = cells["layer"], (cells[column] for column in columns)
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
        legendgroup=group,
        **place,
    )
    figure.add_scatter(
        x=layers,
        y=middle,
        name=plain(name),
        legendgroup=group,
        customdata=cells[list(columns[1:])],
        hovertemplate=f"layer %{{x}}: {interval()}{hover}<extra>{plain(name)}</extra>",
        **settings,
        **place,
    )


def name_rows(figure: "Figure", labels: Sequence[str], **settings: Any) -> None:
    """Rows numbered downwards from 0, each with its label."""
    ticks = {"tickvals": list(range(len(labels))), "ticktext": list(labels), "range": [len(labels) - 0.5, -0.5]}
    figure.update_yaxes(**ticks | settings)


def ranked_bars(values: Sequence[float], labels: Sequence[str], **settings: Any) -> "Figure":
    """Bars to the right, one below the other, each with its label; `settings` are of the trace."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_bar(x=list(values), y=list(range(len(values))), orientation="h", cliponaxis=False, **settings)
    name_rows(figure, labels, ticklabelstandoff=4)
    return figure
