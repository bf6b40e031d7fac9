"""Probes: what is read by layer beside its controls, and what is read across groups."""

from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.views.figures.style import GROUP_COLOURS, LAYOUT, OTHER_COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

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
    "selectivity": "#E69F00",
    "permutation": "#CC79A7",
    "relabelled": "#009E73",
    "untrained": "#56B4E9",
    "base": "#F0E442",
    "embedding": "#000000",
}


def probe_curves(table: "pd.DataFrame", title: str = "", group: str = "group") -> "Figure":
    """What each place reads by layer, a panel a role (rows) and target (columns), with bands, beside the controls.

    Args:
        table: from `probe_table`, of one site.
        title: of the figure.
        group: the column of groups, if the table has one; each has a colour. Controls are thin lines of their own, of
            the first group alone.

    Raises:
        PbbError: the table lacks a column, or has several sites.
    """
    from plotly.subplots import make_subplots

    if lacking := {"run", "target", "site", "layer", "role", "score", "lower", "upper"} - set(table.columns):
        raise PbbError(f"The table has no column {min(lacking)!r}: give the table of probe_table.")
    if table["site"].nunique() > 1:
        raise PbbError("The table has several sites: select one.")
    if group not in table:
        table = table.assign(**{group: "all prompts"})
    roles, targets, groups = (list(dict.fromkeys(table[name])) for name in ("role", "target", group))
    controls = [run for run in dict.fromkeys(table["run"]) if run != "probe"]
    figure = make_subplots(
        len(roles),
        len(targets),
        shared_xaxes=True,
        shared_yaxes=True,
        column_titles=[str(target) for target in targets],
        row_titles=[str(role) for role in roles],
        horizontal_spacing=0.02,
        vertical_spacing=0.05,
        x_title="layer",
        y_title=" / ".join(dict.fromkeys(table["measure"])),
    )
    others = iter(OTHER_COLOURS * len(groups))
    colours = {name: GROUP_COLOURS.get(str(name)) or next(others) for name in groups}
    for r, role in enumerate(roles, start=1):
        for c, target in enumerate(targets, start=1):
            panel = table[(table["role"] == role) & (table["target"] == target)].sort_values("layer")
            place = {"row": r, "col": c}
            for run in controls:
                cells = panel[(panel["run"] == run) & (panel[group] == groups[0])]
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
                    showlegend=r == c == 1,
                    customdata=cells[["lower", "upper"]],
                    hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra>"
                    + run
                    + "</extra>",
                    **place,
                )
            for name in groups:
                cells = panel[(panel["run"] == "probe") & (panel[group] == name)]
                layers = list(cells["layer"])
                figure.add_scatter(
                    x=layers + layers[::-1],
                    y=[*cells["upper"], *cells["lower"][::-1]],
                    fill="toself",
                    mode="lines",
                    fillcolor=colours[name],
                    opacity=0.18,
                    line_width=0,
                    hoverinfo="skip",
                    showlegend=False,
                    legendgroup=str(name),
                    **place,
                )
                figure.add_scatter(
                    x=layers,
                    y=cells["score"],
                    mode="lines+markers",
                    line={"color": colours[name], "width": 2.5},
                    marker_size=6,
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
