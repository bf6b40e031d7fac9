"""Figures of the lens: what becomes of values that can be read. Trajectories are drawn by `figures.layer_curves`."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.probing.brewing import OUTCOMES
from pbb_probe.views.figures.panels import interval, require
from pbb_probe.views.figures.style import finish
from pbb_probe.views.pairs import in_order

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too
_COLOURS = dict(zip(OUTCOMES, ("#009E73", "#E69F00", "#D55E00", "#56B4E9", "#D9D9D9"), strict=True))


def outcomes(
    table: "pd.DataFrame", columns: str | None = None, title: str = "", groups: Sequence[str] | None = None
) -> "Figure":
    """The shares of the brewing outcomes as stacked bars, each group's above its control's, which is paler.

    Args:
        table: from `tables.outcomes`; with a control, that is drawn too.
        columns: a column of the table, such as steps, whose values are the columns of panels.
        title: of the figure.
        groups: those that are shown, all when None; a group that is not in the table is left out.

    Raises:
        PbbError: the table lacks a column, has no rows of these groups, or several for one outcome.

    Example:
        >>> import pbb_probe as pbb
        >>> brewed = pbb.open_run("runs/nano").array("probing/brewing").sel(variable="output")
        >>> figure = pbb.figures.outcomes(pbb.tables.outcomes(brewed, draws=200))
        >>> [bar.name for bar in figure.data[::2]]
        ['resolved', 'overprocessed', 'misresolved', 'unresolved', 'no brewing']
    """
    from plotly.subplots import make_subplots

    by = [columns] if columns else []
    require(table, {"group", "measure", "mean", "lower", "upper", "n", *by}, "that of tables.outcomes")
    groups = in_order(table["group"]) if groups is None else groups
    table = table[table["measure"].isin(OUTCOMES) & table["group"].isin(groups)]
    if table.empty:
        raise PbbError(f"The table has no outcomes of the groups {', '.join(groups)}.")
    if table.duplicated(["group", "measure", *by]).any():
        raise PbbError("The table has several rows for one outcome: select some, or name the column of the panels.")
    shown = [group for group in groups if group in set(table["group"])]
    kinds = {"mean": "", "shuffled": "<br>shuffled values"} if "shuffled" in table else {"mean": ""}
    panels = {f"{columns}: {value}": cells for value, cells in table.groupby(columns)} if columns else {"": table}
    numbers = [cells.groupby("group")["n"].max().reindex(shown, fill_value=0) for cells in panels.values()]
    figure = make_subplots(
        1,
        len(panels),
        shared_yaxes=True,
        column_titles=[
            f"{name} ({', '.join(map(str, n))} prompts)".strip() for name, n in zip(panels, numbers, strict=True)
        ],
        horizontal_spacing=0.03,
        x_title="share of prompts",
    )
    for (c, cells), outcome, (kind, behind) in product(enumerate(panels.values(), 1), OUTCOMES, kinds.items()):
        shares = cells[cells["measure"] == outcome].set_index("group")
        shares, measured = shares.loc[[group for group in shown if group in shares.index]], kind == "mean"
        bounds = interval("x", ".1%") + "<br>%{customdata[2]} prompts" if measured else "%{x:.1%}"
        figure.add_bar(
            x=shares[kind],
            y=[group + behind for group in shares.index],
            orientation="h",
            name=outcome.replace("_", " "),
            legendgroup=outcome,
            showlegend=measured and c == 1,
            marker={"color": _COLOURS[outcome], "opacity": 1.0 if measured else 0.45, "line_width": 0},
            text=[f"{share:.0%}" if share >= 0.04 else "" for share in shares[kind]],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": "black"},
            customdata=shares[["lower", "upper", "n"]],
            hovertemplate=f"{bounds}<extra>{outcome}</extra>",
            row=1,
            col=c,
        )
    rows = [group + behind for group in shown for behind in kinds.values()]
    figure.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%")
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5], categoryorder="array", categoryarray=rows)
    bars = {"barmode": "stack", "bargap": 0.25, "legend": {"traceorder": "normal"}}
    return finish(figure, title, 70 * len(rows) + 180, {"l": 150}, **bars)
