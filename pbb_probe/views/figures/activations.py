"""Projected activations as points: a colour a value, a frame a layer, what is selected in front of the rest.

A frame holds coordinates alone, so that a page can show another layer by `Plotly.animate(figure, ["3"])` without
sending anything again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import GROUPS
from pbb_probe.views.figures.style import GROUP_COLOURS, LAYOUT, OTHER_COLOURS, plain

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from plotly.graph_objects import Figure

_MOST = 12  # values that get a colour each
# Okabe and Ito's palette, then dark and muted colours of Tol's
_PALETTE = (*GROUP_COLOURS.values(), *OTHER_COLOURS[1:], "#882255", "#999933", "#332288", "#44AA99", "#F0E442")
# in space symbols are letters of a font, and not every font has the others
_SYMBOLS = {2: ("circle", "diamond", "square", "cross", "x", "triangle-up"), 3: ("circle", "diamond", "square")}
_SHAPED = 5000  # more points are drawn so small that their shapes cannot be told apart
_OTHER, _MISSING = "#999999", "#CCCCCC"
_DIMMED = 0.07
_STILL = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}


def activations(
    points: "xr.DataArray",
    labels: "pd.DataFrame",
    colour: str,
    hover: Sequence[str] = (),
    title: str = "",
    layer: int | None = None,
    selected: "np.ndarray | None" = None,
    slider: bool = True,
) -> "Figure":
    """The prompts as points of a plane or of space that can be turned, over the layers.

    Args:
        points: from `project` (layer, prompt, axis), of 2 or 3 axes.
        labels: a row a prompt, such as the labels of `Prompts`.
        colour: a column of `labels`. Up to 12 values get a colour each, more numbers a colour bar, of more texts the
            11 most common a colour each and the others one; prompts without a value are grey. Where
            points lie upon one another, those of a later value are on top: hide values in the legend.
        hover: further columns that are shown where the pointer is.
        title: of the figure.
        layer: the one shown first; the last when None.
        selected: prompts that are drawn full, while the others are dimmed [prompt]; all are drawn full when None.
        slider: draw a slider over the layers, with Play and Pause, and in the plane Keep selected: the prompts in a
            lasso stay selected in other layers, wherever they go.

    Returns:
        A figure with a frame a layer, named after it. The first column of each trace's customdata is the prompt's row.
        `write_html(path, auto_play=False)` writes it so that it does not start to play when it is opened.

    Raises:
        PbbError: points of another kind, lengths that differ, an unknown column or layer.

    Example:
        >>> import pbb_probe as pbb
        >>> from pbb_probe.probing.projection import project
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=6), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=8)
        >>> figure = pbb.figures.activations(project(pbb.capture(model, prompts)), prompts.labels, colour="output")
        >>> [frame.name for frame in figure.frames]
        ['0', '1', '2', '3', '4', '5']
    """
    import numpy as np
    from plotly.graph_objects import Figure

    layers, axes = _checked(points, labels, (colour, *hover), selected)
    shown = layers[-1] if layer is None else layer
    if shown not in layers:
        raise PbbError(f"There is no layer {shown} among these points: they have {', '.join(map(str, layers))}.")
    chosen = np.ones(len(labels), bool) if selected is None else np.asarray(selected)
    values = points.transpose("layer", "axis", "prompt").to_numpy().astype(np.float32, copy=False)
    parts = _parts(labels[colour], axes)
    if axes == 3:  # no trace in space knows selected points: those that are not are traces of their own, behind
        parts = [part for kept in (False, True) for part in _divided(parts, chosen, kept)]
    text = _hover_text(labels, hover)
    crowd = (len(labels) > 2000) + (len(labels) > 10_000)
    size, opacity = {2: (7, 5, 3), 3: (4, 3, 2)}[axes][crowd], (0.85, 0.7, 0.55)[crowd]
    figure = Figure()
    for part in parts:
        figure.add_trace(
            _coordinates(values[layers.index(shown)], part.rows)
            | {
                "mode": "markers",
                "name": plain(part.name),
                "legendgroup": plain(part.name),
                "showlegend": part.in_legend,
                "legendrank": part.rank,
                "marker": {"size": size, "line": {"width": 0}, **part.marker},
                "opacity": _DIMMED if part.dimmed else opacity,
                "customdata": text[part.rows],
                "hovertemplate": _template(part, colour, hover),
            }
            | ({} if axes == 3 or selected is None else _selection(chosen[part.rows]))
        )
    figure.frames = [
        {
            "name": str(one),
            "data": [_coordinates(values[i], part.rows) for part in parts],
            "traces": [*range(len(parts))],
        }
        for i, one in enumerate(layers)
    ]
    figure.update_layout(title=title, height=640, legend={"title": plain(colour), "itemsizing": "constant"}, **LAYOUT)
    _fix_axes(figure, values, f"{points.attrs.get('method', '')}".upper())
    if slider:
        _add_slider(figure, layers, layers.index(shown), points)
    return figure


class _Part(NamedTuple):
    """The prompts of one trace."""

    name: str
    rows: "np.ndarray"
    """Their rows in the labels."""
    marker: dict[str, Any]
    dimmed: bool = False
    in_legend: bool = True
    rank: int = 1000
    """Where it stands in the legend: the greatest last."""


def _checked(
    points: "xr.DataArray", labels: "pd.DataFrame", columns: Sequence[str], selected: "np.ndarray | None"
) -> tuple[list[int], int]:
    """The layers and the number of axes of points that can be drawn with these labels."""
    import numpy as np

    if set(points.dims) != {"layer", "prompt", "axis"} or points.sizes["axis"] not in (2, 3):
        raise PbbError(
            f"points must be (layer, prompt, axis) with 2 or 3 axes, as of project: they are {dict(points.sizes)}."
        )
    if 0 in points.shape or not np.isfinite(points).all():
        raise PbbError("There are no points, or some are NaN or infinite: give those of project.")
    if len(labels) != points.sizes["prompt"]:
        raise PbbError(f"There are {points.sizes['prompt']} points and {len(labels)} rows of labels: give one a point.")
    if unknown := [name for name in columns if name not in labels]:
        raise PbbError(f"The labels have no column {unknown[0]!r}: they have {', '.join(map(str, labels))}.")
    if selected is not None and (np.shape(selected) != (len(labels),) or np.asarray(selected).dtype != bool):
        raise PbbError(f"selected must be true or false for each of the {len(labels)} prompts.")
    return points["layer"].values.tolist(), points.sizes["axis"]


def _parts(column: "pd.Series", axes: int) -> list[_Part]:
    """The prompts divided by value, each once: one trace of many numbers, or one for each value.

    The grey ones come first, and so behind the others, but last in the legend.
    """
    import numpy as np
    import pandas as pd

    # numbers kept as objects, for the sake of missing ones, are numbers again
    values = pd.Series(column.astype(object).where(column.notna(), None).tolist())
    rows, numbers = np.arange(len(values)), pd.api.types.is_numeric_dtype(values)
    missing = ~np.isfinite(values.to_numpy()) if numbers else values.isna().to_numpy()
    if not numbers:
        values = values.map(_text, na_action="ignore")
    parts = [_Part("missing", rows[missing], {"color": _MISSING}, rank=1002)]
    if numbers and values.nunique() > _MOST:
        shade = values.to_numpy(np.float32)[~missing]
        bar = {"title": {"text": plain(column.name), "side": "right"}, "thickness": 14}
        marker = {"colorscale": "Viridis", "cmin": shade.min(), "cmax": shade.max(), "colorbar": bar}
        parts.append(_Part(str(column.name), rows[~missing], marker | {"color": shade}, in_legend=False))
    else:
        common = values[~missing].value_counts()  # the most common first, and of equals the one that comes first
        named = sorted(common.index[: _MOST if len(common) <= _MOST else _MOST - 1])
        shaped = len(values) <= _SHAPED
        taken = {GROUP_COLOURS[value] for value in named if value in GROUPS}
        others = (code for code in _PALETTE if code not in taken)
        rest = ~missing & ~values.isin(named).to_numpy()
        parts.append(_Part("other", rows[rest], {"color": _OTHER}, rank=1001))
        for i, value in enumerate(named):
            marker = {"color": GROUP_COLOURS.get(str(value)) or next(others)}
            marker["symbol"] = _SYMBOLS[axes][i % len(_SYMBOLS[axes])] if shaped else "circle"
            parts.append(_Part(_text(value), rows[(values == value).to_numpy()], marker))
    return [part for part in parts if len(part.rows)]


def _divided(parts: list[_Part], chosen: "np.ndarray", kept: bool) -> list[_Part]:
    """Of each part the prompts that are selected, or those that are not, dimmed; the legend names each part once."""
    divided = []
    for part in parts:
        here = chosen[part.rows] == kept
        if not here.any():
            continue
        marker = dict(part.marker)
        if "colorscale" in marker:
            marker["color"] = marker["color"][here]
        half = part._replace(rows=part.rows[here], marker=marker)
        if not kept:
            marker.pop("colorbar", None)
            half = half._replace(dimmed=True, in_legend=part.in_legend and not chosen[part.rows].any())
        divided.append(half)
    return divided


def _text(value: Any) -> str:
    """A value as a reader would write it: 3 and not 3.0, which is what a column with a missing number makes of it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _hover_text(labels: "pd.DataFrame", hover: Sequence[str]) -> "np.ndarray":
    """What a point knows of its prompt [prompt, 1 + column]: the row, and the columns as text that is no markup.

    Objects and not typed arrays: JSON lists are what readers of a click's customdata expect.
    """
    import numpy as np
    import pandas as pd

    table = np.empty((len(labels), 1 + len(hover)), object)
    table[:, 0] = range(len(labels))
    for k, name in enumerate(hover, start=1):
        codes, distinct = pd.factorize(labels[name].map(_text, na_action="ignore"))
        table[:, k] = np.array([*(plain(text).replace("\n", "<br>") for text in distinct), "missing"], object)[codes]
    return table


def _template(part: _Part, colour: str, hover: Sequence[str]) -> str:
    lines = ["prompt %{customdata[0]}"]
    if "colorscale" in part.marker:
        lines.append(f"{_no_field(colour)}: %{{marker.color:.6~g}}")
    lines += [f"{_no_field(name)}: %{{customdata[{k}]}}" for k, name in enumerate(hover, start=1)]
    return "<br>".join(lines) + f"<extra>{'' if 'colorscale' in part.marker else _no_field(part.name)}</extra>"


def _no_field(text: str) -> str:
    """Plain text in a hover's template, where braces would be taken for a field."""
    return plain(text).replace("{", "&#123;")


def _selection(chosen: "np.ndarray") -> dict[str, Any]:
    import numpy as np

    return {"selectedpoints": np.flatnonzero(chosen).tolist(), "unselected": {"marker": {"opacity": _DIMMED}}}


def _coordinates(values: "np.ndarray", rows: "np.ndarray") -> dict[str, Any]:
    """One layer's coordinates [axis, prompt] of some prompts, as a trace."""
    kind = "scattergl" if len(values) == 2 else "scatter3d"
    return {"type": kind, **{name: numbers[rows] for name, numbers in zip("xyz", values, strict=False)}}


def _fix_axes(figure: "Figure", values: "np.ndarray", method: str) -> None:
    """The same ranges for all layers of values [layer, axis, prompt], and the same scale on all axes.

    The axes of a layer are turned towards the layer below, so that none of them means anything of its own.
    """
    low, high = values.min((0, 2)).astype(float), values.max((0, 2)).astype(float)
    margin = 0.04 * max((high - low).max(), 1e-6)
    settings = [
        {"title": f"{method} axis {k + 1}".strip(), "range": [low[k] - margin, high[k] + margin], "zeroline": False}
        for k in range(len(low))
    ]
    if len(settings) == 2:
        figure.update_layout(xaxis=settings[0], yaxis={**settings[1], "scaleanchor": "x"}, dragmode="lasso")
    else:
        scene = {f"{name}axis": setting for name, setting in zip("xyz", settings, strict=True)}
        camera = {"eye": {"x": 1.4, "y": 1.4, "z": 1.1}, "center": {"x": 0, "y": 0, "z": -0.15}}
        figure.update_layout(scene={**scene, "aspectmode": "data", "camera": camera})


def _add_slider(figure: "Figure", layers: list[int], active: int, points: "xr.DataArray") -> None:
    shares = points["explained"].values if "explained" in points.coords else None
    names = [str(layer) if shares is None else f"{layer}: {shares[i]:.0%}" for i, layer in enumerate(layers)]
    steps = [
        {"method": "animate", "label": name, "args": [[str(layer)], _STILL]}
        for name, layer in zip(names, layers, strict=True)
    ]
    current = {"prefix": "layer ", "suffix": "" if shares is None else " of the variance", "xanchor": "left"}
    play = {"fromcurrent": True, "frame": {"duration": 900, "redraw": True}, "transition": {"duration": 0}}
    buttons = [
        {"method": "animate", "label": "Play", "args": [None, play]},
        {"method": "animate", "label": "Pause", "args": [[None], _STILL]},
    ]
    if points.sizes["axis"] == 2:  # until its outline is gone, a lasso selects anew in each layer what lies in it
        buttons.append({"method": "relayout", "label": "Keep selected", "args": [{"selections": []}]})
    figure.update_layout(
        sliders=[{"active": active, "steps": steps, "currentvalue": current, "y": -0.09, "pad": {"t": 8}}],
        updatemenus=[
            {"type": "buttons", "buttons": buttons, "direction": "left", "showactive": False}
            | {"x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"}
        ],
        margin_b=130,
    )
