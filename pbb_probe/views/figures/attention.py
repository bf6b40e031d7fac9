"""Attention heads: where each looks in one prompt, and which of them matter."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.views.figures.panels import ranked_bars
from pbb_probe.views.figures.style import OTHER_COLOURS, above_all, finish, name_mark, plain
from pbb_probe.views.figures.tokens import WIDTH, roles_at, text_width, visible, with_room

if TYPE_CHECKING:
    import xarray as xr
    from plotly.graph_objects import Figure

MOST_BESIDE, MOST_HEADS = 8, 256
POSITIVE, NEGATIVE = "#2166AC", "#B2182B"  # the ends of RdBu, as in the heat maps of recovery


def attention(
    pattern: "xr.DataArray",
    tokens: Sequence[str],
    roles: Mapping[str, int] | None = None,
    title: str = "",
    scores: "xr.DataArray | None" = None,
) -> "Figure":
    """Where every head looks in one prompt: a panel query (down) x key (right); layers downwards, heads to the right.

    Heads of a layer that do not fit beside each other go on in a further row. Tokens are named at the left and at the
    bottom only; each panel has a mark in the colour of its role at the rows and columns of roles.

    Args:
        pattern: of one prompt, (layer, head, query, key), from `attention_patterns`.
        tokens: the texts of the prompt's tokens, with its padding.
        roles: positions to mark.
        title: of the figure; shown as it is, without markup.
        scores: numbers (layer, head), such as recovery, to show beside the heads' names.

    Raises:
        PbbError: other dimensions, other tokens, a role outside them, no heads or too many, or one without a score.

    Example:
        >>> import pbb_probe as pbb
        >>> from pbb_probe.hooking.attention import attention_patterns
        >>> model = pbb.load_model("nano")
        >>> prompts = pbb.Prompts.from_texts(model, ["fuxguk(3) ="])
        >>> pattern, tokens = attention_patterns(model, prompts, layers=[2]), pbb.prompts.token_texts(model, prompts)
        >>> [head.text for head in pbb.figures.attention(pattern.isel(prompt=0), tokens).layout.annotations]
        ['2.0', '2.1', '2.2', '2.3']
    """
    from plotly.subplots import make_subplots

    if set(pattern.dims) != {"layer", "head", "query", "key"}:
        raise PbbError(
            f"The pattern has the dimensions {_dims(pattern)}: give (layer, head, query, key) of one prompt."
        )
    pattern, n = pattern.transpose("layer", "head", "query", "key"), len(tokens)
    if pattern.shape[2:] != (n, n):
        raise PbbError(f"The pattern is of {' x '.join(map(str, pattern.shape[2:]))} tokens, but the prompt has {n}.")
    layers, heads = pattern["layer"].values.tolist(), pattern["head"].values.tolist()
    if not 0 < len(layers) * len(heads) <= MOST_HEADS:
        raise PbbError(f"There are {len(layers) * len(heads)} heads: select layers that have 1 to {MOST_HEADS} heads.")
    scored = _scored(scores, layers, heads)
    names = {position: ", ".join(at) for position, at in roles_at(roles, n).items()}
    colours = {at: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, at in enumerate(names)}

    rows_of_layer = ceil(len(heads) / MOST_BESIDE)
    n_columns = ceil(len(heads) / rows_of_layer)
    place = {
        (i, j): (i * rows_of_layer + j // n_columns + 1, j % n_columns + 1)
        for i, j in product(*map(range, pattern.shape[:2]))
    }
    n_rows, width = rows_of_layer * len(layers), WIDTH / n_columns
    height = min(width, max(130, min(240, 15 * n) if n_rows > 2 else min(480, 26 * n)))
    inner = n_rows * height + (n_rows - 1) * 28
    figure = make_subplots(
        n_rows,
        n_columns,
        specs=[
            [{} if (r, c) in place.values() else None for c in range(1, n_columns + 1)] for r in range(1, n_rows + 1)
        ],
        subplot_titles=[f"{layers[i]}.{heads[j]}{scored.get((layers[i], heads[j]), '')}" for i, j in place],
        horizontal_spacing=0.012,
        vertical_spacing=28 / inner if n_rows > 1 else 0,
    )
    figure.update_annotations(font_size=12)
    labels = [visible(token) for token in tokens]
    hover = [[(query, key) for key in labels] for query in labels]
    left, below = (8 * n / pixels if names else 0 for pixels in (width, height))  # for the marks, in tokens
    marks = []
    for (i, j), (r, c) in place.items():
        figure.add_heatmap(
            z=pattern.values[i, j],
            x=list(range(n)),
            y=list(range(n)),
            customdata=hover,
            coloraxis="coloraxis",
            hovertemplate="%{customdata[0]} (%{y}) looks at %{customdata[1]} (%{x}): %{z:.3f}"
            f"<extra>{layers[i]}.{heads[j]}</extra>",
            row=r,
            col=c,
        )
        panel = {"xref": figure.data[-1].xaxis, "yref": figure.data[-1].yaxis}
        for at, colour in colours.items():
            mark = {"type": "rect", "fillcolor": colour, "line": {"width": 0}, **panel}
            along = {"x0": at - 0.4, "x1": at + 0.4, "y0": n - 0.5 + 0.3 * below, "y1": n - 0.5 + 0.9 * below}
            beside = {"y0": at - 0.4, "y1": at + 0.4, "x0": -0.5 - 0.9 * left, "x1": -0.5 - 0.3 * left}
            marks += [mark | along, mark | beside]
    figure.update_layout(shapes=marks)  # at once: adding each by itself takes time in the square of their number
    for at, colour in colours.items():
        name_mark(figure, names[at], {"symbol": "square", "size": 10, "color": colour}, row=1, col=1)

    longest = max(text_width(label, 11) for label in labels)
    turned = width / n < longest + 4
    edge = {"showgrid": False, "zeroline": False, "showline": True, "mirror": True, "linecolor": "#BBBBBB"}
    figure.update_xaxes(range=[-0.5 - left, n - 0.5], showticklabels=False, **edge)
    figure.update_yaxes(range=[n - 0.5 + below, -0.5], showticklabels=False, **edge)
    named = {"tickfont_size": 12, "showticklabels": True}
    across, down = (with_room(n, pixels / n, list(colours)) for pixels in (width, height))
    for c in range(1, n_columns + 1):
        bottom = max(r for r, column in place.values() if column == c)
        texts = [_coloured(labels[at], colours.get(at)) for at in across]
        figure.update_xaxes(tickvals=across, ticktext=texts, tickangle=-90 if turned else 0, **named, row=bottom, col=c)
    texts = [_coloured(labels[at], colours.get(at)) for at in down]
    figure.update_yaxes(tickvals=down, ticktext=texts, **named, col=1)
    bar = {"title": "attention", "len": min(220, inner), "lenmode": "pixels", "y": 1, "yanchor": "top"}
    bottom_margin = 30 + (longest if turned else 15)
    return finish(
        figure,
        above_all(title),
        inner + 90 + bottom_margin,
        {"l": 25 + longest, "t": 90, "b": bottom_margin},
        coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1, "colorbar": bar},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yref": "container", "yanchor": "top"},
        showlegend=bool(names),
    )


def _dims(values: "xr.DataArray") -> str:
    return ", ".join(map(str, values.dims))


def _scored(scores: "xr.DataArray | None", layers: list[Any], heads: list[Any]) -> dict[tuple[Any, Any], str]:
    """The score of each head, as it follows the head's name; empty without scores.

    Raises:
        PbbError: other dimensions, or a head without a score.
    """
    if scores is None:
        return {}
    if set(scores.dims) != {"layer", "head"}:
        raise PbbError(f"The scores have the dimensions {_dims(scores)}: give (layer, head).")
    named = dict(
        zip(
            product(scores["layer"].values.tolist(), scores["head"].values.tolist()),
            scores.transpose("layer", "head").values.ravel(),
            strict=True,
        )
    )
    if lacking := [f"{layer}.{head}" for layer, head in product(layers, heads) if (layer, head) not in named]:
        raise PbbError(f"The head {lacking[0]} has no score: give the scores of all heads that are shown.")
    return {place: f": {round(score, 2) + 0.0:.2f}" for place, score in named.items()}  # without -0.00


def _coloured(label: str, colour: str | None) -> str:
    return label if colour is None else f'<span style="color:{colour}"><b>{label}</b></span>'


def head_effects(recovered: "xr.DataArray", title: str = "", top: int = 20) -> "Figure":
    """The heads that matter most, ranked by the size of their effect, as bars in the colour of its sign.

    Args:
        recovered: a number (layer, head | kv_head), such as the mean recovery at one position; missing ones are left
            out.
        title: of the figure; shown as it is, without markup.
        top: how many heads.

    Raises:
        PbbError: other dimensions, no heads, or a top below 1.

    Example:
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> coordinates = {"layer": [0, 1], "head": [0, 1]}
        >>> recovered = xr.DataArray([[0.1, -0.6], [0.3, 0.0]], coordinates, ("layer", "head"))
        >>> pbb.figures.head_effects(recovered, top=2).layout.yaxis.ticktext
        ('0.1', '1.0')
    """
    import numpy as np

    if {str(dim) for dim in recovered.dims} not in ({"layer", "head"}, {"layer", "kv_head"}):
        raise PbbError(f"The effects have the dimensions {_dims(recovered)}: give (layer, head), at one position.")
    head = next(dim for dim in recovered.dims if dim != "layer")
    stacked = recovered.stack(place=("layer", head)).dropna("place")
    if stacked.size == 0 or top < 1:
        raise PbbError("There is no head to show: give at least one effect, and a top of 1 or more.")
    order = np.argsort(-abs(stacked.values), kind="stable")[:top]
    values = stacked.values[order].tolist()
    names = [".".join(map(str, stacked["place"].values[i])) for i in order]
    figure = ranked_bars(
        values,
        names,
        marker_color=[POSITIVE if value >= 0 else NEGATIVE for value in values],
        text=[f"{round(value, 3) + 0.0:.3f}" for value in values],
        textposition="outside",
        customdata=names,
        hovertemplate="head %{customdata}: %{x:.3f}<extra></extra>",
    )
    ends = min(0.0, *values), max(0.0, *values)
    room = 0.12 * (ends[1] - ends[0]) or 1.0  # for the numbers beside the bars
    figure.update_xaxes(
        range=[ends[0] - room * (ends[0] < 0), ends[1] + room], title="recovery", zeroline=True, zerolinecolor="#444444"
    )
    figure.update_yaxes(title="layer.head")
    return finish(figure, plain(title), 24 * len(values) + 160, {"r": 60}, bargap=0.2)
