"""Where: the layer at which a measure crosses a threshold, for each group, with its interval over programs."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from pbb_probe.comparison.statistics import bootstrap_means, percentiles, weighted_mean
from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

Edge = Literal["first", "last", "once"]
EDGES: tuple[Edge, ...] = get_args(Edge)


def locate(
    values: "xr.DataArray",
    *,
    group: Sequence[Hashable],
    clusters: Sequence[Hashable],
    weights: Sequence[float] | None = None,
    threshold: float = 0.5,
    edge: Edge = "first",
    draws: int = 10_000,
    seed: int = 0,
) -> "pd.DataFrame":
    """The layer where a measure sets in or dies away, in each group.

    Args:
        values: (layer, row), such as recovery or probe correctness.
        group: the group of each row [row].
        clusters: what each row belongs to [row]; resampled whole.
        weights: as in `compare_groups` [row].
        threshold: on the mean over rows.
        edge: `first` is the first layer from which the mean stays at or above the threshold up to the last layer;
            `last` is the last layer at which it is, `once` the first one, whether or not it stays there.
        draws: bootstrap resamples.
        seed: of the resamples.

    Returns:
        A row a group: `layer` with `lower` and `upper` (95 %, cluster bootstrap), `found` (the share of resamples in
        which there is such a layer), n rows and clusters. `layer` is missing where nothing crosses, and so are the
        bounds where fewer than half of the resamples have a layer.

    Raises:
        PbbError: an unknown edge, or lengths that differ.
    """
    import numpy as np
    import pandas as pd

    if edge not in EDGES:
        raise PbbError(f"Unknown edge {edge!r}: choose from {', '.join(EDGES)}.")
    labels, belongs = np.asarray(list(group)), np.asarray(list(clusters))
    weight = np.ones(len(labels)) if weights is None else np.asarray(list(weights), dtype=float)
    if not values.shape[-1] == len(labels) == len(belongs) == len(weight):
        raise PbbError(
            f"There are {values.shape[-1]} rows, {len(labels)} groups, {len(belongs)} clusters and {len(weight)} "
            "weights: these must be equal."
        )
    layers = values["layer"].values.astype(float)
    rows = []
    for name in sorted(set(labels.tolist())):
        here = labels == name
        chosen = np.asarray(values, dtype=float)[:, here]
        found = _cross(weighted_mean(chosen, weight[here])[None], layers, threshold, edge)[0]
        means = bootstrap_means(chosen, belongs[here], draws, np.random.default_rng(seed), weight[here])
        resampled = _cross(means, layers, threshold, edge)
        share = float(np.isfinite(resampled).mean())
        lower, upper = percentiles(resampled) if share >= 0.5 else (np.nan, np.nan)
        rows.append(
            {
                "group": name,
                "layer": found,
                "lower": lower,
                "upper": upper,
                "found": share,
                "n": chosen.shape[1],
                "clusters": len(set(belongs[here].tolist())),
            }
        )
    return pd.DataFrame(rows)


def _cross(means: "np.ndarray", layers: "np.ndarray", threshold: float, edge: Edge) -> "np.ndarray":
    """The layer [draw] of each curve [draw, layer], NaN where there is none."""
    import numpy as np

    above = means >= threshold
    if edge == "first":  # stays above from there on: counted from the top
        above = np.logical_and.accumulate(above[:, ::-1], axis=1)[:, ::-1]
    if edge == "last":
        position = means.shape[1] - 1 - above[:, ::-1].argmax(axis=1)
    else:
        position = above.argmax(axis=1)
    return np.where(above.any(axis=1), layers[position], np.nan)
