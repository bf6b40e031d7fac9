"""Activation patching: recovery at each place."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.evidence.verdict import ALPHA
from pbb_probe.views.figures.panels import distinct, interval, matrices, place_names, require
from pbb_probe.views.figures.style import RECOVERY_AXIS, finish, plain
from pbb_probe.views.pairs import by_pair, groups_of, minus, once

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def patching_heatmap(table: "pd.DataFrame", title: str = "", groups: Sequence[str] | None = None) -> "Figure":
    """Recovery at layer x role in each group and their differences two by two, a row of panels a site.

    In a difference a star marks an adjusted p below 0.05. Of three groups or more they stand in rows of their own.

    Args:
        table: from `compare_groups` on recovery, with the columns site, layer and role.
        title: of the figure.
        groups: those that are shown; all of the table when None.

    Raises:
        PbbError: the table lacks a column, or has several rows for one place and pair of groups.

    Example:
        >>> import pbb_probe as pbb
        >>> table = pbb.open_run("runs/nano").table("comparison/patching")
        >>> figure = pbb.figures.patching_heatmap(table.query("swap == 'program' and subset == 'all'"))
        >>> [title.text for title in figure.layout.annotations]  # of columns, then rows
        ['with_io', 'without_io', 'with_io minus without_io', 'resid_pre', 'mlp_out']
    """
    from plotly.subplots import make_subplots

    groups = groups_of(table) if groups is None else groups
    require(table, {"site", "layer", "role", *(f"mean_{group}" for group in groups)}, "the table of compare_groups")
    pairs = dict(by_pair(table, groups))
    if any(cells.duplicated(["site", "layer", "role"]).any() for cells in pairs.values()):
        raise PbbError("The table has several rows for one place: select one swap and one subset.")
    (sites,) = distinct(table, "site")
    means = [(group, f"mean_{group}", table) for group in groups]
    apart = [(minus(pair), "difference", cells) for pair, cells in pairs.items()]
    lines = [[*means, *apart]] if len(pairs) < 2 else [means, apart]
    width = max(map(len, lines))
    titles = [plain(line[c][0]) if c < len(line) else "" for line in lines for c in range(width)]
    figure = make_subplots(
        len(sites) * len(lines),
        width,
        subplot_titles=titles * len(sites) if len(lines) > 1 else None,
        column_titles=titles if len(lines) == 1 else None,
        row_titles=[plain(site) for site in sites for _ in lines],
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.06 if len(lines) == 1 else 0.3 / (len(sites) * len(lines)),
    )
    for (s, site), (r, line) in product(enumerate(sites), enumerate(lines, 1)):
        for c, (name, value, rows) in enumerate(line, 1):
            cells = once(rows[rows["site"] == site], "layer", "role")
            if cells.empty:
                continue
            text = cells[value].map("{:.2f}".format)
            if value == "difference":
                text += cells["p_adjusted"].map(lambda p: "*" if p < ALPHA else "")
            order = sorted(set(cells["layer"])), *distinct(cells, "role")
            z, written = matrices(cells.assign(text=text), "layer", "role", order, value, "text")
            figure.add_heatmap(
                z=z,
                x=list(map(plain, order[1])),
                y=order[0],
                text=written,
                texttemplate="%{text}",
                coloraxis="coloraxis2" if value == "difference" else "coloraxis",
                hovertemplate=f"layer %{{y}}, %{{x}}: %{{z:.3f}}<extra>{plain(name)}</extra>",
                row=s * len(lines) + r,
                col=c,
            )
    figure.update_yaxes(dtick=1)
    figure.update_yaxes(title="layer", col=1)
    bars = [{"title": name, "len": 0.45, "y": y} for name, y in (("recovery", 0.76), ("difference", 0.24))]
    return finish(
        figure,
        title,
        260 * len(sites) * len(lines) + 130,
        coloraxis={"colorscale": "Viridis", "cmin": 0, "cmax": 1, "colorbar": bars[0]},
        coloraxis2={"colorscale": "RdBu", "cmid": 0, "cmin": -0.5, "cmax": 0.5, "colorbar": bars[1]},
    )


def sweep_heatmap(table: "pd.DataFrame", title: str = "") -> "Figure":
    """Recovery at layer x place, a panel a site; heads have a row each.

    Args:
        table: from `tables.recovery`, of one metric.
        title: of the figure.

    Raises:
        PbbError: the table lacks a column, or has several rows for one place.

    Example:
        >>> import pbb_probe as pbb
        >>> effects = pbb.open_run("runs/nano").array("patching/program_with_io")
        >>> figure = pbb.figures.sweep_heatmap(pbb.tables.recovery(effects, by=()))
        >>> [panel.text for panel in figure.layout.annotations]
        ['resid_pre', 'mlp_out']
    """
    import numpy as np
    from plotly.subplots import make_subplots

    place = "role" if "role" in table else "position"
    require(table, {"site", "layer", place, "recovery"}, "that of tables.recovery")
    (sites,) = distinct(table, "site")
    figure = make_subplots(1, len(sites), column_titles=sites, horizontal_spacing=0.08 / len(sites) + 0.03)
    n_rows = 0
    for c, site in enumerate(sites, start=1):
        cells = table[table["site"] == site].dropna(axis="columns", how="all")
        cells = cells.assign(row=place_names(cells))
        if cells.duplicated(["row", place]).any():
            raise PbbError("The table has several rows for one place: select those of one metric.")
        order = distinct(cells, "row", place)
        z, *hover = matrices(cells, "row", place, order, "recovery", "lower", "upper", "n")
        figure.add_heatmap(
            z=z,
            x=list(map(plain, order[1])),
            y=order[0],
            customdata=np.stack(hover, axis=-1),
            coloraxis="coloraxis",
            hovertemplate=f"layer %{{y}}, %{{x}}: {interval('z')}<br>%{{customdata[2]}} pairs<extra>{site}</extra>",
            row=1,
            col=c,
        )
        n_rows = max(n_rows, len(order[0]))
    figure.update_xaxes(type="category", title=place)
    figure.update_yaxes(type="category")
    figure.update_yaxes(title="layer (and head)" if n_rows > table["layer"].nunique() else "layer", col=1)
    return finish(figure, title, max(300, 22 * n_rows) + 150, coloraxis=RECOVERY_AXIS)
