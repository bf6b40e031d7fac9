"""The transfer map: what each place carries."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.labels import CONTROL, NONE
from pbb_probe.programs.passes import MOST
from pbb_probe.views.evaluated import COLUMNS, closed
from pbb_probe.views.figures.panels import distinct, grid, interval, place_names, require
from pbb_probe.views.figures.style import finish, plain, wrapped
from pbb_probe.views.pairs import in_order

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def transfer_map(
    table: "pd.DataFrame",
    title: str = "",
    control: str = NONE,
    groups: Sequence[str] | None = None,
    gate: "pd.DataFrame | None" = None,
) -> "Figure":
    """What each place carries: stacked shares of pairs down the layers, the groups side by side at each role.

    A bar is as long as its share of all pairs of the group. A hypothesis that tells nothing in some of them (another
    predicts the same answer) is followed in the share of the others that its hover gives, and bars may not reach 1.

    Args:
        table: from `tables.transfer`, of pairs with as many steps.
        title: of the figure.
        control: `none` for the measurement itself, or one of its controls.
        groups: those that are shown, all when None; a group that is not in the table is left out.
        gate: a row a group, of pairs with as many steps, with `evaluated` and `sentence`: what is not evaluated has its
            sentence in place of bars. Everything is shown when None.

    Raises:
        PbbError: the table lacks a column, or has no rows for this control and these groups.

    Example:
        >>> import pbb_probe as pbb
        >>> carried = pbb.open_run("runs/nano").array("transfer/with_io")
        >>> figure = pbb.figures.transfer_map(pbb.tables.transfer(carried, draws=200))
        >>> [share.name for share in figure.data[2:9]]
        ['program', 'input', 'state 1', 'steps to 1', 'steps after 1', 'only step 1', 'only step 2']
    """
    columns = {"group", "site", CONTROL, "layer", "role", "hypothesis", "proportion"}
    require(table, columns, "that of tables.transfer")
    if gate is not None:
        require(gate, COLUMNS, "that of the evaluation gate")
    silent = closed(gate).set_index("group")["sentence"].to_dict()
    groups = in_order([*table["group"], *silent]) if groups is None else groups
    table = table[(table[CONTROL] == control) & table["group"].isin(groups)]
    if table.empty:
        raise PbbError(f"The table has no rows of the control {control!r} and the groups {', '.join(groups)}.")
    sites, roles, hypotheses = distinct(table, "site", "role", "hypothesis")
    headings = [(role, group) for role in roles for group in groups if group in {*table["group"], *silent}]
    crowded = len(headings) > 6
    n_pairs = table.groupby("group")["n"].max()
    numbers = {group: f"{'<br>' if crowded else ' '}({n})" for group, n in n_pairs.items() if group not in silent}
    figure = grid(
        sites,
        headings,
        column_titles=[f"{plain(role)}<br><b>{plain(group)}</b>{numbers.get(group, '')}" for role, group in headings],
        horizontal_spacing=0.015,
        vertical_spacing=0.04,
        x_title="share of pairs (their number above) whose answer follows each hypothesis",
        y_title="layer",
    )
    for (r, site), (c, (role, group)) in product(enumerate(sites, 1), enumerate(headings, 1)):
        if group in silent:
            figure.add_bar(x=[None], y=["0"], showlegend=False, row=r, col=c)  # without one there is no panel
            said = {"text": wrapped(silent[group], 1250 / len(headings)), "font_size": 11, "showarrow": False}
            figure.add_annotation(x=0.5, y=0.5, xref="x domain", yref="y domain", row=r, col=c, **said)
            continue
        panel = table[(table["site"] == site) & (table["role"] == role) & (table["group"] == group)]
        for hypothesis in hypotheses:
            cells = panel[panel["hypothesis"] == hypothesis]
            if cells.empty:  # a role that this site, or this group, was not measured at
                continue
            cells = cells.dropna(axis="columns", how="all")
            figure.add_bar(
                x=cells["proportion"] * cells["n"] / n_pairs[group],
                y=place_names(cells),
                orientation="h",
                name=hypothesis.replace("_", " "),
                marker={"color": _hypothesis_colour(hypothesis), "line_width": 0},
                legendgroup=hypothesis,
                customdata=cells[["lower", "upper", "proportion", "n", "programs"]],
                hovertemplate=f"layer %{{y}}: {interval('customdata[2]', '.1%')}<br>%{{customdata[3]}} pairs of "
                f"%{{customdata[4]}} programs<extra>{hypothesis}</extra>",
                row=r,
                col=c,
            )
    figure.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1], ticktext=["0", "½", "1"])
    figure.update_yaxes(autorange="reversed", type="category")
    height = max(200, 26 * table.groupby("site")["layer"].nunique().max()) * len(sites) + 170
    height = max(height, 22 * len(hypotheses) + 200)  # the legend is whole
    # the titles of the columns have two lines or three
    return finish(
        figure,
        title,
        height,
        {"t": 150 if crowded else 110},
        barmode="stack",
        bargap=0.08,
        legend={"traceorder": "normal"},
    )


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
    "only_step": ("#F0E442", "#D1C61F", "#A89F00"),
    "program_only_step": ("#000000", "#333333", "#555555"),
}


_PASS_SCALES = {"pass": "Purples", "passes_to": "Burg", "passes_after": "Teal"}
"""The later the pass, the darker."""


def _hypothesis_colour(hypothesis: str) -> str:
    from plotly.colors import sample_colorscale

    kind, _, k = hypothesis.rpartition("_")
    if kind in _PASS_SCALES:
        return str(sample_colorscale(_PASS_SCALES[kind], 0.35 + 0.65 * (int(k) - 1) / (MOST - 1))[0])
    if kind not in _STEP_COLOURS:
        return _WHOLE_COLOURS[hypothesis]
    return _STEP_COLOURS[kind][(int(k) - 1) % 3]
