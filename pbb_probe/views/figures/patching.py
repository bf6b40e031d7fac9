"""Activation patching: recovery at each place."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import GROUPS
from pbb_probe.views.figures.style import LAYOUT, plain

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def patching_heatmap(table: "pd.DataFrame", title: str = "", groups: Sequence[str] = GROUPS) -> "Figure":
    """Recovery at layer x role for both groups and their difference, a row of panels a site.

    In the difference a star marks an adjusted p below 0.05.

    Args:
        table: from `compare_groups` on recovery, with the columns site, layer and role.
        title: of the figure.
        groups: the two groups.
    """
    from plotly.subplots import make_subplots

    sites = list(dict.fromkeys(table["site"]))
    panels = [f"mean_{groups[0]}", f"mean_{groups[1]}", "difference"]
    figure = make_subplots(
        len(sites),
        3,
        shared_yaxes=True,
        shared_xaxes=True,
        row_titles=sites,
        horizontal_spacing=0.04,
        vertical_spacing=0.06,
        column_titles=[groups[0], groups[1], f"{groups[0]} minus {groups[1]}"],
    )
    for r, site in enumerate(sites, start=1):
        for c, value in enumerate(panels, start=1):
            cells = table[table["site"] == site].copy()
            cells["text"] = cells[value].map("{:.2f}".format)
            if value == "difference":
                cells["text"] += cells["p_adjusted"].map(lambda p: "*" if p < 0.05 else "")
            roles = list(dict.fromkeys(cells["role"]))
            grid = cells.pivot(index="layer", columns="role", values=value)[roles]
            text = cells.pivot(index="layer", columns="role", values="text")[roles]
            figure.add_heatmap(
                z=grid.to_numpy(),
                x=list(map(plain, roles)),
                y=list(grid.index),
                text=text.to_numpy(),
                texttemplate="%{text}",
                coloraxis="coloraxis2" if value == "difference" else "coloraxis",
                hovertemplate="layer %{y}, %{x}: %{z:.3f}<extra>" + value.removeprefix("mean_") + "</extra>",
                row=r,
                col=c,
            )
    figure.update_yaxes(dtick=1)
    figure.update_yaxes(title="layer", col=1)
    figure.update_layout(
        title=title,
        height=260 * len(sites) + 130,
        coloraxis={
            "colorscale": "Viridis",
            "cmin": 0,
            "cmax": 1,
            "colorbar": {"title": "recovery", "len": 0.45, "y": 0.76},
        },
        coloraxis2={
            "colorscale": "RdBu",
            "cmid": 0,
            "cmin": -0.5,
            "cmax": 0.5,
            "colorbar": {"title": "difference", "len": 0.45, "y": 0.24},
        },
        **LAYOUT,
    )
    return figure


def sweep_heatmap(table: "pd.DataFrame", title: str = "") -> "Figure":
    """Recovery at layer x place, a panel a site; heads have a row each.

    Args:
        table: from `recovery_table`, of one metric.
        title: of the figure.

    Raises:
        PbbError: the table lacks a column, or has several rows for one place.
    """
    import numpy as np
    from plotly.subplots import make_subplots

    place = "role" if "role" in table else "position"
    if lacking := {"site", "layer", place, "recovery"} - set(table.columns):
        raise PbbError(f"The table has no column {min(lacking)!r}: give the table of recovery_table.")
    sites = list(dict.fromkeys(table["site"]))
    figure = make_subplots(1, len(sites), column_titles=sites, horizontal_spacing=0.08 / len(sites) + 0.03)
    n_rows = 0
    for c, site in enumerate(sites, start=1):
        cells = table[table["site"] == site].dropna(axis="columns", how="all")
        rows = [name for name in ("layer", "head", "kv_head") if name in cells]
        if cells.duplicated([*rows, place]).any():
            raise PbbError("The table has several rows for one place: select those of one metric.")
        cells = cells.assign(row=[".".join(str(int(value)) for value in row) for row in cells[rows].to_numpy()])
        order = [list(dict.fromkeys(cells[name])) for name in ("row", place)]
        values = [
            cells.pivot(index="row", columns=place, values=name).loc[order[0], order[1]].to_numpy()
            for name in ("recovery", "lower", "upper", "n")
        ]
        figure.add_heatmap(
            z=values[0],
            x=list(map(plain, order[1])),
            y=order[0],
            customdata=np.stack(values[1:], axis=-1),
            coloraxis="coloraxis",
            hovertemplate="layer %{y}, %{x}: %{z:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<br>"
            "%{customdata[2]} pairs<extra>" + site + "</extra>",
            row=1,
            col=c,
        )
        n_rows = max(n_rows, len(order[0]))
    figure.update_xaxes(type="category", title=place)
    figure.update_yaxes(type="category")
    figure.update_yaxes(title="layer (and head)" if n_rows > table["layer"].nunique() else "layer", col=1)
    figure.update_layout(
        title=title,
        height=max(300, 22 * n_rows) + 150,
        coloraxis={
            "colorscale": "RdBu",
            "cmin": -1,
            "cmid": 0,
            "cmax": 1,
            "colorbar": {"title": "recovery"},
        },
        **LAYOUT,
    )
    return figure
