"""Two groups side by side, layer by layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import GROUPS
from pbb_probe.views.figures.style import GROUP_COLOURS, LAYOUT, OTHER_COLOURS, add_band, grid

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
    figure = grid(row_values, column_values, y_title)
    for r, row in enumerate(row_values, start=1):
        for c, column in enumerate(column_values, start=1):
            place = {"row": r, "col": c}
            panel = table[(table[rows] == row) & (table[columns] == column)].sort_values("layer")
            for group in groups:
                colour = GROUP_COLOURS.get(group, OTHER_COLOURS[0])
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
