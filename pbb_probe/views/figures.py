"""Figures of labelled tables. Each function returns a plotly Figure and shows nothing.

The tables are those of `comparison`: `accuracy_table` for behaviour, `compare_groups` for everything by layer.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import GROUPS

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too
GROUP_COLOURS = {"with_io": "#0072B2", "without_io": "#D55E00"}
_OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LAYOUT = {"template": "plotly_white", "font": {"size": 13}, "margin": {"l": 70, "r": 20, "t": 70, "b": 60}}


def behaviour(table: "pd.DataFrame") -> "Figure":
    """Accuracy bars with intervals, a panel a mode and number of steps; the dotted line is chance.

    Args:
        table: from `accuracy_table`. Where a group has seen and unseen inputs, both are shown.
    """
    from plotly.subplots import make_subplots

    modes, steps = list(dict.fromkeys(table["mode"])), sorted(set(table["steps"].tolist()))
    titles = [f"{mode}, {n} step{'s' * (n > 1)}" for mode in modes for n in steps]
    figure = make_subplots(
        len(modes), len(steps), subplot_titles=titles, shared_yaxes=True, vertical_spacing=0.16, horizontal_spacing=0.04
    )
    colours = dict(zip(dict.fromkeys(table["model"]), ("#D55E00", *_OTHER_COLOURS, "#999999"), strict=False))
    for r, mode in enumerate(modes, start=1):
        for c, n in enumerate(steps, start=1):
            panel = table[(table["mode"] == mode) & (table["steps"] == n)].sort_values(
                ["group", "seen"], ascending=[True, False]
            )
            for model, cells in panel.groupby("model", sort=False):
                figure.add_bar(
                    x=[_cell_name(cell) for cell in cells.itertuples()],
                    y=cells["mean"],
                    error_y={
                        "array": cells["upper"] - cells["mean"],
                        "arrayminus": cells["mean"] - cells["lower"],
                        "thickness": 1,
                    },
                    customdata=cells[["lower", "upper", "n", "programs"]],
                    hovertemplate="%{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>%{customdata[2]} calls of "
                    "%{customdata[3]} programs<extra>" + str(model) + "</extra>",
                    name=str(model),
                    marker_color=colours[model],
                    legendgroup=str(model),
                    showlegend=r == c == 1,
                    row=r,
                    col=c,
                )
            figure.add_hline(y=panel["chance"].mean(), line_dash="dot", line_color="#666666", row=r, col=c)  # type: ignore[arg-type]
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    figure.update_layout(
        title="Behaviour: calls answered correctly (dotted: chance)",
        height=330 * len(modes) + 80,
        width=400 * len(steps) if len(steps) > 3 else None,  # else as wide as the page
        **_LAYOUT,
    )
    return figure


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
    from plotly.subplots import make_subplots

    if lacking := {rows, columns, "layer", *(f"mean_{group}" for group in groups)} - set(table.columns):
        raise PbbError(f"The table has no column {min(lacking)!r}: give the table of compare_groups.")
    row_values, column_values = list(dict.fromkeys(table[rows])), list(dict.fromkeys(table[columns]))
    figure = make_subplots(
        len(row_values),
        len(column_values),
        shared_xaxes=True,
        shared_yaxes=True,
        column_titles=[str(value) for value in column_values],
        row_titles=[str(value) for value in row_values],
        horizontal_spacing=0.02,
        vertical_spacing=0.05,
        x_title="layer",
        y_title=y_title,
    )
    for r, row in enumerate(row_values, start=1):
        for c, column in enumerate(column_values, start=1):
            place = {"row": r, "col": c}
            panel = table[(table[rows] == row) & (table[columns] == column)].sort_values("layer")
            for group in groups:
                colour = GROUP_COLOURS.get(group, _OTHER_COLOURS[0])
                layers = list(panel["layer"])
                band = [*panel[f"upper_{group}"], *panel[f"lower_{group}"][::-1]]
                figure.add_scatter(
                    x=layers + layers[::-1],
                    y=band,
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
    figure.update_layout(title=title, height=190 * len(row_values) + 150, **_LAYOUT)
    return figure


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
                x=roles,
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
        **_LAYOUT,
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
            x=[str(label) for label in order[1]],
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
        **_LAYOUT,
    )
    return figure


def transfer_map(
    table: "pd.DataFrame", title: str = "", run: str = "patched", groups: Sequence[str] = GROUPS
) -> "Figure":
    """What each place carries: stacked shares of pairs down the layers, the groups side by side at each role.

    Args:
        table: from `carried_table` by group, of pairs with as many steps.
        title: of the figure.
        run: of the table: `patched`, or one of the controls.
        groups: those that are shown; a group that is not in the table is left out.

    Raises:
        PbbError: the table lacks a column, or has no rows for this run and these groups.
    """
    from plotly.subplots import make_subplots

    if lacking := {"group", "site", "run", "layer", "role", "hypothesis", "proportion"} - set(table.columns):
        raise PbbError(f"The table has no column {min(lacking)!r}: give carried_table(carried, by=['group']).")
    table = table[(table["run"] == run) & table["group"].isin(groups)]
    if table.empty:
        raise PbbError(f"The table has no rows of the run {run!r} and the groups {', '.join(groups)}.")
    sites, roles, hypotheses = (list(dict.fromkeys(table[name])) for name in ("site", "role", "hypothesis"))
    panels = [(role, group) for role in roles for group in groups if group in set(table["group"])]
    n_pairs = table.groupby("group")["n"].max()
    figure = make_subplots(
        len(sites),
        len(panels),
        shared_xaxes=True,
        shared_yaxes=True,
        row_titles=sites,
        column_titles=[f"{role}<br><b>{group}</b> ({n_pairs[group]})" for role, group in panels],
        horizontal_spacing=0.015,
        vertical_spacing=0.04,
        x_title="share of pairs (their number above) whose answer follows each hypothesis",
        y_title="layer",
    )
    heads = [name for name in ("head", "kv_head") if name in table]
    for r, site in enumerate(sites, start=1):
        for c, (role, group) in enumerate(panels, start=1):
            panel = table[(table["site"] == site) & (table["role"] == role) & (table["group"] == group)]
            for hypothesis in hypotheses:
                cells = panel[panel["hypothesis"] == hypothesis].dropna(axis="columns", how="all")
                of_heads = [name for name in heads if name in cells]
                y = [".".join(str(int(v)) for v in row) for row in cells[["layer", *of_heads]].to_numpy()]
                figure.add_bar(
                    x=cells["proportion"],
                    y=y,
                    orientation="h",
                    name=hypothesis.replace("_", " "),
                    marker={"color": _hypothesis_colour(hypothesis), "line_width": 0},
                    legendgroup=hypothesis,
                    showlegend=r == c == 1,
                    customdata=cells[["lower", "upper", "n", "programs"]],
                    hovertemplate="layer %{y}: %{x:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>"
                    "%{customdata[2]} pairs of %{customdata[3]} programs<extra>" + hypothesis + "</extra>",
                    row=r,
                    col=c,
                )
    figure.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1], ticktext=["0", "½", "1"])
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(
        title=title,
        barmode="stack",
        bargap=0.08,
        height=max(200, 26 * table.groupby("site")["layer"].nunique().max()) * len(sites) + 170,
        legend={"traceorder": "normal"},
        **_LAYOUT,
    )
    figure.update_layout(margin_t=110)  # the titles of the columns have two lines
    return figure


_WHOLE_COLOURS = {
    "nothing": "#E6E6E6",
    "everything": "#009E73",
    "program": "#0072B2",
    "input": "#E69F00",
    "other": "#7F7F7F",
}
_STEP_COLOURS = {
    "state": ("#D55E00", "#A33F00", "#6E2A00"),
    "steps_to": ("#CC79A7", "#A64F82", "#7A2F5C"),
    "steps_after": ("#56B4E9", "#8FD0F5", "#BFE5FA"),
}


def _hypothesis_colour(hypothesis: str) -> str:
    kind, _, k = hypothesis.rpartition("_")
    if kind not in _STEP_COLOURS:
        return _WHOLE_COLOURS[hypothesis]
    return _STEP_COLOURS[kind][(int(k) - 1) % 3]


def _cell_name(cell) -> str:
    if cell.group == "without_io":
        return "without_io"
    return f"{cell.group}<br>{'seen' if cell.seen else 'unseen'} input"
