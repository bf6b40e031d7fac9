"""Probes: what is read by layer beside its controls, and what is read across groups."""

from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.views.figures.style import LAYOUT, add_band, grid, group_colours

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

_MEASURES = ("accuracy", "r2", "accuracy / r2")
_DASHES = {
    "chance": "dot",
    "selectivity": "dash",
    "permutation": "dashdot",
    "relabelled": "longdash",
    "untrained": "longdashdot",
    "base": "5px,2px",
    "embedding": "2px,2px",
}
_CONTROL_COLOURS = {
    "chance": "#999999",
    "shuffled": "#BBBBBB",
    "selectivity": "#E69F00",
    "permutation": "#CC79A7",
    "relabelled": "#8C564B",
    "untrained": "#56B4E9",
    "base": "#F0E442",
    "embedding": "#000000",
}


def probe_curves(
    table: "pd.DataFrame", title: str = "", group: str = "group", differences: "pd.DataFrame | None" = None
) -> "Figure":
    """What each place reads by layer, a panel a role (rows) and target (columns), with bands, beside the controls.

    Args:
        table: from `probe_table`, of one site.
        title: of the figure.
        group: the column of groups, if the table has one; each has a colour. Controls are thin lines of their own, of
            the first group alone.
        differences: from `compare_groups` of the same places: a filled marker says that the groups differ there
            (adjusted p below 0.05). All markers are open without.

    Raises:
        PbbError: the table lacks a column, or has several sites.
    """
    if lacking := {"run", "target", "site", "layer", "role", "score", "lower", "upper"} - set(table.columns):
        raise PbbError(f"The table has no column {min(lacking)!r}: give the table of probe_table.")
    if table["site"].nunique() > 1:
        raise PbbError("The table has several sites: select one.")
    if group not in table:
        table = table.assign(**{group: "all prompts"})
    roles, targets, groups = (list(dict.fromkeys(table[name])) for name in ("role", "target", group))
    controls = [run for run in dict.fromkeys(table["run"]) if run != "probe"]
    unnamed = set(controls)  # not in the legend yet: a control may be missing in the first panels
    figure = grid(roles, targets, " / ".join(dict.fromkeys(table["measure"])))
    colours = group_colours(groups)
    for r, role in enumerate(roles, start=1):
        for c, target in enumerate(targets, start=1):
            panel = table[(table["role"] == role) & (table["target"] == target)].sort_values("layer")
            place = {"row": r, "col": c}
            for run in controls:
                cells = panel[(panel["run"] == run) & (panel[group] == groups[0])]
                if cells.empty:
                    continue
                figure.add_scatter(
                    x=cells["layer"],
                    y=cells["score"],
                    mode="lines",
                    line={
                        "color": _CONTROL_COLOURS.get(run, "#7F7F7F"),
                        "width": 1.5,
                        "dash": _DASHES.get(run, "dot"),
                    },
                    name=f"{run} ({groups[0]})",
                    legendgroup=run,
                    showlegend=run in unnamed,
                    customdata=cells[["lower", "upper"]],
                    hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra>"
                    + run
                    + "</extra>",
                    **place,
                )
                unnamed.discard(run)
            for name in groups:
                cells = panel[(panel["run"] == "probe") & (panel[group] == name)]
                add_band(figure, cells["layer"], cells["lower"], cells["upper"], colours[name], str(name), **place)
                figure.add_scatter(
                    x=cells["layer"],
                    y=cells["score"],
                    mode="lines+markers",
                    line={"color": colours[name], "width": 2.5},
                    marker={"size": 7, "symbol": _symbols(cells, differences)},
                    name=str(name),
                    legendgroup=str(name),
                    showlegend=r == c == 1,
                    customdata=cells[["lower", "upper", "n", "clusters"]],
                    hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<br>"
                    "%{customdata[2]} prompts of %{customdata[3]} clusters<extra>" + str(name) + "</extra>",
                    **place,
                )
    figure.update_xaxes(dtick=max(1, table["layer"].nunique() // 8))
    figure.update_layout(title=title, height=190 * len(roles) + 160, **LAYOUT)
    return figure


def _symbols(cells: "pd.DataFrame", differences: "pd.DataFrame | None") -> list[str]:
    """A filled circle where the groups differ, an open one elsewhere."""
    if differences is None:
        return ["circle-open"] * len(cells)
    where = ["target", "site", "layer", "role"]
    p = cells[where].merge(differences[[*where, "p_adjusted"]], how="left")["p_adjusted"]
    return ["circle" if value < 0.05 else "circle-open" for value in p]


def probe_gains(table: "pd.DataFrame", control: str = "selectivity", title: str = "", group: str = "group") -> "Figure":
    """How much better than a control the probe reads, by layer with bands: zero is no better.

    Args:
        table: from `probe_table`, of one site.
        control: of its runs.
        title: of the figure.
        group: the column of groups, if the table has one.

    Raises:
        PbbError: the table has no such control, or lacks a column.
    """
    if "gain" not in table or control not in set(table["run"]):
        raise PbbError(f"The table has no control {control!r}: give it to fit_probes.")
    gains = table[table["run"] == control].drop(columns=["score", "lower", "upper"])
    renamed = {"gain": "score", "gain_lower": "lower", "gain_upper": "upper"}
    figure = probe_curves(gains.rename(columns=renamed).assign(run="probe"), title, group)
    figure.add_hline(y=0, line_width=1, line_color="#666666")
    return figure.for_each_annotation(
        lambda note: note.update(text=f"{note.text} minus that of {control}") if note.text in _MEASURES else None
    )


def across_heatmap(table: "pd.DataFrame", title: str = "") -> "Figure":
    """The transfer matrix by layer: what probes fitted on one group read in each, a panel a role and target.

    Args:
        table: `probe_table` of what `probe_groups` gives, with a column `fitted_on`, of one site.
        title: of the figure.

    Raises:
        PbbError: the table lacks a column.
    """
    import numpy as np

    if lacking := {"fitted_on", "group", "target", "layer", "role", "score"} - set(table.columns):
        raise PbbError(f"The table has no column {min(lacking)!r}: give the table of probes fitted on either group.")
    roles, targets = (list(dict.fromkeys(table[name])) for name in ("role", "target"))
    table = table.assign(pair=table["fitted_on"] + " → " + table["group"], other=table["fitted_on"] != table["group"])
    pairs = list(dict.fromkeys(table.sort_values(["group", "other"])["pair"]))  # what a group's own probes read first
    figure = grid(roles, targets)
    for r, role in enumerate(roles, start=1):
        for c, target in enumerate(targets, start=1):
            cells = table[(table["role"] == role) & (table["target"] == target)]
            grids = [
                cells.pivot(index="pair", columns="layer", values=v).loc[pairs] for v in ("score", "lower", "upper")
            ]
            figure.add_heatmap(
                z=grids[0].to_numpy(),
                x=list(grids[0].columns),
                y=pairs,
                text=grids[0].map("{:.2f}".format).to_numpy(),
                texttemplate="%{text}",
                textfont_size=10,
                customdata=np.stack([bounds.to_numpy() for bounds in grids[1:]], axis=-1),
                coloraxis="coloraxis",
                hovertemplate="layer %{x}, %{y}: %{z:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>",
                row=r,
                col=c,
            )
    figure.update_xaxes(dtick=max(1, table["layer"].nunique() // 8))
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(
        title=title,
        height=150 * len(roles) + 160,
        coloraxis={"colorscale": "Viridis", "cmin": 0, "cmax": 1, "colorbar_title": "accuracy"},
        **LAYOUT,
    )
    figure.update_layout(margin_l=190)
    return figure


def cosine_curves(table: "pd.DataFrame", title: str = "") -> "Figure":
    """Cosines of probe directions by layer: within each group (halves of its programs) and between the groups.

    Args:
        table: the cosines of `direction_cosines` as a table, of one site.
        title: of the figure.
    """
    renamed = table.rename(columns={"cosine": "score", "pair": "group"})
    renamed = renamed.assign(
        run="probe", measure="cosine", lower=renamed["score"], upper=renamed["score"], n="", clusters=""
    )
    figure = probe_curves(renamed, title)
    return figure.update_traces(hovertemplate="layer %{x}: %{y:.3f}", selector={"mode": "lines+markers"})
