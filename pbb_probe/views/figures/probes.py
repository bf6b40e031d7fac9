"""Probes: what is read by layer beside its controls, and what is read across groups."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.labels import CONTROL, NONE
from pbb_probe.views.figures.panels import (
    add_curve,
    differing,
    distinct,
    grid,
    interval,
    matrices,
    panels,
    require,
)
from pbb_probe.views.figures.style import finish, group_colours
from pbb_probe.views.pairs import apart_from, in_order
from pbb_probe.views.run_tables import control_rows, measured_rows

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

_MEASURES = ("accuracy", "r2", "accuracy / r2")
_CONTROL_LINES = {
    "chance": ("#999999", "dot"),
    "shuffled": ("#BBBBBB", "dot"),
    "selectivity": ("#E69F00", "dash"),
    "permutation": ("#CC79A7", "dashdot"),
    "relabelled": ("#8C564B", "longdash"),
    "untrained": ("#56B4E9", "longdashdot"),
    "base": ("#F0E442", "5px,2px"),
    "embedding": ("#000000", "2px,2px"),
}


def probe_curves(
    table: "pd.DataFrame", title: str = "", group: str = "group", differences: "pd.DataFrame | None" = None
) -> "Figure":
    """What each place reads by layer, a panel a role (rows) and target (columns), with bands, beside the controls.

    Args:
        table: from `tables.probes`, of one site.
        title: of the figure.
        group: the column of groups, if the table has one; each has a colour. Controls are thin lines of their own, of
            the first group alone.
        differences: from `compare_groups` of the same places: a filled marker says that the group differs there from
            another one (adjusted p below 0.05). All markers are open without.

    Raises:
        PbbError: the table lacks a column, or has several sites.

    Example:
        >>> import pbb_probe as pbb
        >>> table = pbb.tables.probes(pbb.open_run("runs/nano").array("probing/probes"), draws=200)
        >>> figure = pbb.figures.probe_curves(table)
        >>> sorted({curve.name for curve in figure.data if curve.name})
        ['chance (with_io)', 'embedding (with_io)', 'shuffled (with_io)', 'with_io', 'without_io']
    """
    columns = {CONTROL, "target", "site", "layer", "role", "score", "lower", "upper"}
    require(table, columns, "that of tables.probes")
    if table["site"].nunique() > 1:
        raise PbbError("The table has several sites: select one.")
    if group not in table:
        table = table.assign(**{group: "all prompts"})
    roles, targets, kinds = distinct(table, "role", "target", CONTROL)
    groups, units = in_order(table[group]), "programs" if "programs" in table else "clusters"
    figure = grid(roles, targets, y_title=" / ".join(dict.fromkeys(table["measure"])))
    colours = group_colours(groups)
    for place, panel, _ in panels(table, "role", "target"):
        for control in (name for name in kinds if name != NONE):
            cells = control_rows(panel, control, **{group: groups[0]})
            if cells.empty:
                continue
            colour, dash = _CONTROL_LINES.get(control, ("#7F7F7F", "dot"))
            figure.add_scatter(
                x=cells["layer"],
                y=cells["score"],
                mode="lines",
                line={"color": colour, "width": 1.5, "dash": dash},
                name=f"{control} ({groups[0]})",
                legendgroup=control,
                customdata=cells[["lower", "upper"]],
                hovertemplate=f"layer %{{x}}: {interval()}<extra>{control}</extra>",
                **place,
            )
        for name in groups:
            cells = measured_rows(panel, **{group: name})
            add_curve(
                figure,
                cells,
                ["score", "lower", "upper", "n", units],
                str(name),
                colours[name],
                "<br>%{customdata[2]} prompts of %{customdata[3]} " + units,
                place,
                mode="lines+markers",
                line={"color": colours[name], "width": 2.5},
                marker={"size": 7, "symbol": _symbols(cells, differences, name, groups)},
            )
    figure.update_xaxes(dtick=max(1, table["layer"].nunique() // 8))
    return finish(figure, title, 190 * len(roles) + 160)


def _symbols(cells: "pd.DataFrame", differences: "pd.DataFrame | None", group: Any, groups: Sequence[Any]) -> list[str]:
    """A filled circle where the group differs from another one, an open one elsewhere."""
    if differences is None:
        return ["circle-open"] * len(cells)
    where = ["target", "site", "layer", "role"]
    least = apart_from(differences, group, where, groups).min(axis=1).rename("p_adjusted").reset_index()
    return differing(cells[where].merge(least, how="left")["p_adjusted"])


def probe_gains(table: "pd.DataFrame", control: str = "selectivity", title: str = "", group: str = "group") -> "Figure":
    """How much better than a control the probe reads, by layer with bands: zero is no better.

    Args:
        table: from `tables.probes`, of one site.
        control: one of those of the table.
        title: of the figure.
        group: the column of groups, if the table has one.

    Raises:
        PbbError: the table has no such control, or lacks a column.

    Example:
        >>> import pbb_probe as pbb
        >>> table = pbb.open_run("runs/nano").table("comparison/probing_controls").query("subset == 'all'")
        >>> figure = pbb.figures.probe_gains(table, control="shuffled")
        >>> figure.layout.annotations[-1].text
        'accuracy minus that of shuffled'
    """
    if "gain" not in table or control_rows(table, control).empty:
        raise PbbError(f"The table has no control {control!r}: give it to fit_probes.")
    gains = control_rows(table, control).drop(columns=["score", "lower", "upper"])
    renamed = {"gain": "score", "gain_lower": "lower", "gain_upper": "upper"}
    figure = probe_curves(gains.rename(columns=renamed).assign(**{CONTROL: NONE}), title, group)
    figure.add_hline(y=0, line_width=1, line_color="#666666")
    return figure.for_each_annotation(
        lambda note: note.update(text=f"{note.text} minus that of {control}") if note.text in _MEASURES else None
    )


def across_heatmap(table: "pd.DataFrame", title: str = "") -> "Figure":
    """The transfer matrix by layer: what probes fitted on one group read in each, a panel a role and target.

    Args:
        table: `tables.probes` of what `probe_groups` gives, with a column `fitted_on`, of one site.
        title: of the figure.

    Raises:
        PbbError: the table lacks a column.

    Example:
        >>> import pbb_probe as pbb
        >>> table = pbb.open_run("runs/nano").table("comparison/probing_across").query("subset == 'all'")
        >>> figure = pbb.figures.across_heatmap(table)
        >>> [title.text for title in figure.layout.annotations]  # targets, then roles
        ['input', 'op_1', 'state_1', 'output', 'name', 'input', 'answer', 'layer']
    """
    import numpy as np

    columns = {"fitted_on", "group", "target", "layer", "role", "score"}
    require(table, columns, "the table of probes fitted on each group")
    table = table.assign(pair=table["fitted_on"] + " → " + table["group"])
    roles, targets = distinct(table, "role", "target")
    fitted, read = in_order(table["fitted_on"]), in_order(table["group"])
    # what a group's own probes read first
    order = [f"{by} → {group}" for group in read for by in sorted(fitted, key=lambda name: name != group)]
    there = set(table["pair"])
    pairs = [pair for pair in order if pair in there]
    figure = grid(roles, targets)
    for place, cells, _ in panels(table, "role", "target"):
        layers = sorted(set(cells["layer"]))
        z, *bounds = matrices(cells, "pair", "layer", (pairs, layers), "score", "lower", "upper")
        figure.add_heatmap(
            z=z,
            x=layers,
            y=pairs,
            text=np.where(np.isnan(z), "", np.vectorize("{:.2f}".format)(z)),
            texttemplate="%{text}",
            textfont_size=10,
            customdata=np.stack(bounds, axis=-1),
            coloraxis="coloraxis",
            hovertemplate=f"layer %{{x}}, %{{y}}: {interval('z')}<extra></extra>",
            hoverongaps=False,
            **place,
        )
    figure.update_xaxes(dtick=max(1, table["layer"].nunique() // 8))
    figure.update_yaxes(autorange="reversed")
    colours = {"colorscale": "Viridis", "cmin": 0, "cmax": 1, "colorbar_title": "accuracy"}
    return finish(figure, title, max(150, 24 * len(pairs)) * len(roles) + 160, {"l": 190}, coloraxis=colours)


def cosine_curves(table: "pd.DataFrame", title: str = "") -> "Figure":
    """Cosines of probe directions by layer: within each group (halves of its programs) and between the groups.

    Args:
        table: the cosines of `direction_cosines` as a table, of one site.
        title: of the figure.

    Example:
        >>> import pbb_probe as pbb
        >>> figure = pbb.figures.cosine_curves(pbb.open_run("runs/nano").table("comparison/cosines"))
        >>> [title.text for title in figure.layout.annotations]  # targets, then roles, then axes
        ['input', 'op_1', 'state_1', 'output', 'name', 'input', 'answer', 'layer', 'cosine']
    """
    renamed = table.rename(columns={"cosine": "score", "halves": "group"})
    renamed = renamed.assign(
        measure="cosine", lower=renamed["score"], upper=renamed["score"], n="", clusters="", **{CONTROL: NONE}
    )
    figure = probe_curves(renamed, title)
    return figure.update_traces(hovertemplate="layer %{x}: %{y:.3f}", selector={"mode": "lines+markers"})
