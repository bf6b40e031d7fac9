"""What one pair of prompts does: recovery at each of its tokens."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.views.figures.style import RECOVERY_AXIS, above_all, finish, plain
from pbb_probe.views.figures.tokens import WIDTH, roles_at, text_width, visible, with_room

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from plotly.graph_objects import Figure


def token_heatmap(
    recovered: "xr.Dataset",
    clean: Sequence[str],
    corrupted: Sequence[str],
    roles: Mapping[str, int] | None = None,
    title: str = "",
) -> "Figure":
    """Recovery at layer x token of one pair of prompts, a panel a site; heads have a row each.

    Args:
        recovered: of one pair, from `recovery`: each site is (layer, position) or (layer, head | kv_head, position).
        clean: the texts of the clean prompt's tokens [position].
        corrupted: those of the corrupted one; where they differ, both are shown.
        roles: positions to name above their tokens.
        title: of the figure; shown as it is, without markup.

    Raises:
        PbbError: prompts of different lengths, positions or roles outside them, other dimensions, or no site.

    Example:
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> places = {"layer": [0, 1], "position": [0, 1]}
        >>> recovered = xr.Dataset({"resid_pre": (("layer", "position"), [[0.0, 1.0], [0.0, 0.5]])}, places)
        >>> figure = pbb.figures.token_heatmap(recovered, clean=["fuxguk", "3"], corrupted=["fuxguk", "5"])
        >>> figure.layout.xaxis.ticktext
        ('fuxguk', '3<br>/ 5')
    """
    import numpy as np
    from plotly.subplots import make_subplots

    if len(clean) != len(corrupted):
        raise PbbError(f"The prompts have {len(clean)} and {len(corrupted)} tokens: give a pair that lines up.")
    if not recovered.data_vars or not all(values.size for values in recovered.data_vars.values()):
        raise PbbError("There is no site or no place to show: give the recovery of patch_sweep.")
    panels = {str(site): _by_row(str(site), values) for site, values in recovered.data_vars.items()}
    positions = [int(position) for position in recovered["position"].values]
    if outside := [position for position in positions if not 0 <= position < len(clean)]:
        raise PbbError(f"There is recovery at position {outside[0]}, but the prompts have {len(clean)} tokens.")
    named = roles_at(roles, len(clean))
    roles_of = [named.get(position, []) for position in positions]
    names = {i: "<br>".join(f"<b>{role}</b>" for role in at) for i, at in enumerate(roles_of) if at}
    texts = [(visible(clean[position]), visible(corrupted[position])) for position in positions]

    n_columns = max(1, min(len(panels), int(WIDTH / 13 / len(positions))))
    room = WIDTH / n_columns / len(positions)  # pixels of a token
    break_ = "<br>" if room > 26 else " "
    labels = [one if one == other else f"{one}{break_}/ {other}" for one, other in texts]
    below = max(text_width(label, 11) for label in labels)
    turned = room < below + 6
    width = max([text_width(name, 12) for name in names.values()], default=0)
    roles_turned = any(0 < j - i < (width + 6) / room for i in names for j in names)
    above = width if roles_turned else 15 * max([name.count("<br>") + 1 for name in names.values()], default=0)
    heights = [
        max(200, *(24 * len(rows) for rows, _ in list(panels.values())[start : start + n_columns]))
        for start in range(0, len(panels), n_columns)
    ]
    label_room = below if turned else 30
    between = above + 50 + label_room
    inner = sum(heights) + between * (len(heights) - 1)
    figure = make_subplots(
        len(heights),
        n_columns,
        subplot_titles=[plain(site) + ("" if recovered[site].ndim == 2 else " (layer.head)") for site in panels],
        row_heights=heights,
        vertical_spacing=between / inner if len(heights) > 1 else 0,
        horizontal_spacing=0.08 / n_columns + 0.02,
    )
    figure.update_annotations(yshift=above + 4)  # the titles of the panels stand above the roles
    hover = [(at, *text, ", ".join(here) or "-") for at, text, here in zip(positions, texts, roles_of, strict=True)]
    for i, (site, (rows, values)) in enumerate(panels.items()):
        place = {"row": i // n_columns + 1, "col": i % n_columns + 1}
        figure.add_heatmap(
            z=values,
            x=list(range(len(positions))),
            y=rows,
            xgap=1,
            ygap=1,
            customdata=np.array([hover] * len(rows), dtype=object),  # [row, position, 4]
            coloraxis="coloraxis",
            hovertemplate="layer %{y}, position %{customdata[0]}<br>clean %{customdata[1]}, corrupted %{customdata[2]}"
            "<br>role %{customdata[3]}<br>recovery %{z:.3f}<extra>" + plain(site) + "</extra>",
            **place,
        )
        for at, name in names.items():
            style = {"showarrow": False, "textangle": -90 if roles_turned else 0, "font_size": 11}
            figure.add_annotation(text=name, x=at, y=1, yref="y domain", yanchor="bottom", **style, **place)
    written = with_room(len(labels), room, list(names)) if turned else range(len(labels))
    figure.update_xaxes(
        tickvals=list(written),
        ticktext=[labels[i] for i in written],
        tickangle=-90 if turned else 0,
        tickfont_size=11,
        ticklabelstandoff=3,
        range=[-0.5, len(positions) - 0.5],
    )
    figure.update_yaxes(type="category", showgrid=False)
    figure.update_yaxes(title="layer", col=1)
    height = inner + above + label_room + 110
    return finish(figure, above_all(title), height, {"t": 90 + above, "b": 20 + label_room}, coloraxis=RECOVERY_AXIS)


def _by_row(site: str, values: "xr.DataArray") -> "tuple[list[str], np.ndarray]":
    """The names of the rows, `layer` or `layer.head` from the first layer on, and the values [row, position].

    Raises:
        PbbError: other dimensions.
    """
    dims = [str(dim) for dim in values.dims if dim != "position"]
    if "position" not in values.dims or sorted(dims) not in (["layer"], ["head", "layer"], ["kv_head", "layer"]):
        raise PbbError(
            f"The site {site!r} has the dimensions {', '.join(map(str, values.dims))}: give (layer, position) or "
            "(layer, head, position), of one pair and one metric."
        )
    dims.sort(key=lambda dim: dim != "layer")
    places = product(*(values[dim].values.tolist() for dim in dims))
    rows = [".".join(map(str, place)) for place in places]
    return rows, values.transpose(*dims, "position").values.reshape(len(rows), -1)
