"""Onset layers: where a measure crosses a threshold, in each group and between groups, with intervals."""

import itertools
from typing import TYPE_CHECKING, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.labels import AUTO
from pbb_probe.schema import Draws, Finite, Margin, Seed, checks_arguments
from pbb_probe.statistics.groups import places
from pbb_probe.statistics.pvalues import equivalence_p
from pbb_probe.statistics.resampling import (
    Labels,
    bootstrap_groups,
    bootstrap_means,
    cluster_sums,
    groups_of,
    in_order,
    percentiles,
    read_rows,
    relabelled_pair,
    weighted_mean,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

Edge = Literal["first", "last", "once"]
EDGES: tuple[Edge, ...] = get_args(Edge)


@checks_arguments
def locate(
    values: "xr.DataArray",
    group: Labels = "group",
    clusters: Labels = AUTO,
    *,
    weights: Labels | None = None,
    models: Labels | None = None,
    threshold: Finite = 0.5,
    edge: Edge = "first",
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """The layer where a measure sets in or dies away, in each group.

    Args:
        values: (..., row), one dimension being `layer`, such as recovery or probe correctness by role and layer; the
            last dimension is prompts or pairs.
        group: of each row, as in `compare_groups`.
        clusters: what each row belongs to; resampled whole. `auto` as in `compare_groups`.
        weights: as in `compare_groups`.
        models: as in `compare_groups`.
        threshold: on the mean over rows.
        edge: `first` is the first layer from which the mean stays at or above the threshold up to the last layer;
            `last` is the last layer at which it is, `once` the first one, whether or not it stays there.
        draws: bootstrap resamples.
        seed: of the resamples.

    Returns:
        A row for each combination of the other dimensions and group: `layer` with `lower` and `upper` (95 %, cluster
        bootstrap), `found` (the share of resamples in which there is such a layer), `n` rows of the group, its
        `clusters` and, where given, `models`, and `programs` where clusters are functions. `layer` is missing where
        nothing crosses, and so are the bounds where fewer than half of the resamples have a layer.

    Raises:
        PbbError: an unknown edge, no layers, lengths that differ, or a row without a cluster or a model.

    Example:
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> correct = xr.DataArray([[0, 0], [1, 0], [1, 1]], dims=("layer", "prompt"))
        >>> table = pbb.locate(correct, group=["with_io", "with_io"], clusters=["f", "g"])
        >>> table[["group", "layer", "lower", "upper"]].values.tolist()  # half are right from layer 1 on
        [['with_io', 1.0, 1.0, 2.0]]
    """
    import numpy as np
    import pandas as pd

    stacked, layers, table = _by_layer(values, edge)
    rows = read_rows(values, group, clusters, weights, models)
    located = []
    for name in in_order(rows.labels.tolist()):
        here = rows.labels == name
        chosen, weight, cluster = stacked[..., here], rows.weights[here], rows.cluster[here]
        means = bootstrap_means(chosen, cluster, draws, np.random.default_rng(seed), weight, rows.model[cluster])
        onset = _cross(weighted_mean(chosen, weight), layers, threshold, edge)
        bounds = _bounds(_cross(means, layers, threshold, edge))
        located.append(table.assign(group=name, layer=onset, **bounds, n=chosen.shape[-1], **rows.counts(here)))
    return pd.concat(located).sort_index(kind="stable").reset_index(drop=True)  # groups next to each other


@checks_arguments
def locate_difference(
    values: "xr.DataArray",
    group: Labels = "group",
    clusters: Labels = AUTO,
    *,
    weights: Labels | None = None,
    models: Labels | None = None,
    threshold: Finite = 0.5,
    edge: Edge = "first",
    margin: Margin = 0.5,
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """How many layers later a measure sets in or dies away in one group than in another.

    Groups are resampled and relabelled as in `compare_groups`, which says what the interval and p mean.

    Args:
        values: those of `locate`.
        group: of each row; two values or more, compared as in `compare_groups`.
        clusters: as in `compare_groups`.
        weights: as in `compare_groups`.
        models: as in `compare_groups`.
        threshold: that of `locate`.
        edge: that of `locate`.
        margin: the smallest difference that would matter, in layers.
        draws: bootstrap resamples, and permutations.
        seed: of both.

    Returns:
        A row for each pair of groups and combination of the other dimensions: `layer_<group>`, rows `n_`, clusters
        `clusters_` and, where given, models `models_` of every group; the pair's `first` and `second` group, and the
        `difference` of their layers with `lower` and `upper` (95 %, cluster bootstrap), and `found`, the share of
        resamples in which both have a layer. `p` is from permuting the two groups of whole clusters (two-sided, not
        adjusted): a permutation that leaves either group without a layer counts as one that sets them further apart,
        which makes p larger. `p_equivalent` is that of two one-sided tests that the difference lies beyond the margin
        on either side, as in `compare_groups`: a resample that leaves either group without a layer counts as beyond
        both. Where either group has no layer the difference, its bounds and both p are missing, and so are the bounds
        where fewer than half of the resamples have both layers.

    Raises:
        PbbError: an unknown edge, no layers, less than two groups, lengths that differ, a cluster in several, a row
            without a cluster or a model, or a margin that is not above zero.

    Example:
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> correct = xr.DataArray([[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dims=("layer", "prompt"))
        >>> groups = ["with_io", "with_io", "without_io", "without_io"]
        >>> table = pbb.tables.locate_difference(correct, groups, clusters=range(4))
        >>> table[["layer_with_io", "layer_without_io", "difference"]].values.tolist()
        [[1.0, 2.0, -1.0]]
    """
    import numpy as np
    import pandas as pd
    from einops import rearrange

    stacked, layers, table = _by_layer(values, edge)
    rows = read_rows(values, group, clusters, weights, models)
    groups = groups_of(rows)
    for name in groups:
        here = rows.labels == name
        means = weighted_mean(stacked[..., here], rows.weights[here])
        table[f"layer_{name}"] = _cross(means, layers, threshold, edge)
        table[f"n_{name}"] = int(here.sum())
        for unit, count in rows.counts(here).items():
            table[f"{unit}_{name}"] = count

    def layer_of(means: "np.ndarray") -> "np.ndarray":
        """The layer [draw, place] of a group's means [draw, place * layer]."""
        curves = rearrange(means, "draw (place layer) -> draw place layer", layer=len(layers))
        return _cross(curves, layers, threshold, edge)

    rng = np.random.default_rng(seed)
    sums = cluster_sums(rearrange(stacked, "place layer row -> (place layer) row"), rows.cluster, rows.weights)
    drawn = bootstrap_groups(sums, list(groups.values()), rows.model, draws, rng)
    resampled = {name: layer_of(means) for name, means in zip(groups, drawn, strict=True)}
    pairs = []
    for first, second in itertools.combinations(groups, 2):
        observed = (table[f"layer_{first}"] - table[f"layer_{second}"]).to_numpy()
        apart = resampled[first] - resampled[second]
        relabelled, _ = relabelled_pair(sums, groups[first], groups[second], rows.model, draws, rng)
        null = layer_of(relabelled[0]) - layer_of(relabelled[1])
        known, bounds = np.isfinite(observed), _bounds(apart)
        # equal up to rounding counts as extreme, and so does one without a difference
        extreme = ~(np.abs(null) < np.abs(observed) - 1e-12)
        pairs.append(
            table.assign(
                first=first,
                second=second,
                difference=observed,
                lower=np.where(known, bounds["lower"], np.nan),
                upper=np.where(known, bounds["upper"], np.nan),
                found=bounds["found"],
                p=np.where(known, (1 + extreme.sum(axis=0)) / (1 + len(null)), np.nan),
                p_equivalent=equivalence_p(observed, apart, margin),
            )
        )
    return pd.concat(pairs, ignore_index=True)


def _by_layer(values: "xr.DataArray", edge: Edge) -> "tuple[np.ndarray, np.ndarray, pd.DataFrame]":
    """The values [place, layer, row], the names of the layers, and a row a place: what its other dimensions are."""
    import numpy as np
    from einops import rearrange

    if edge not in EDGES:
        raise PbbError(f"Unknown edge {edge!r}: choose from {', '.join(EDGES)}.")
    *dims, row = values.dims
    if "layer" not in dims:
        raise PbbError(f"The values have the dimensions {values.dims}: one before the last must be `layer`.")
    dims.remove("layer")
    ordered = np.asarray(values.transpose(*dims, "layer", row), dtype=float)
    layers = values["layer"].values.astype(float)
    return rearrange(ordered, "... layer row -> (...) layer row"), layers, places(values, dims)


def _bounds(resampled: "np.ndarray") -> "dict[str, np.ndarray]":
    """The interval of layers, or of their difference, over draws [draw, place], and the share of draws with one."""
    import numpy as np

    share = np.isfinite(resampled).mean(axis=0)  # of the draws that have a layer
    lower, upper = np.full((2, len(share)), np.nan)
    enough = share >= 0.5
    if enough.any():
        lower[enough], upper[enough] = percentiles(resampled[:, enough])
    return {"lower": lower, "upper": upper, "found": share}


def _cross(means: "np.ndarray", layers: "np.ndarray", threshold: float, edge: Edge) -> "np.ndarray":
    """The layer [...] of each curve [..., layer], NaN where there is none."""
    import numpy as np

    above = means >= threshold
    if edge == "first":  # stays above from there on: counted from the top
        above = np.logical_and.accumulate(above[..., ::-1], axis=-1)[..., ::-1]
    from_top = means.shape[-1] - 1 - above[..., ::-1].argmax(axis=-1)
    position = from_top if edge == "last" else above.argmax(axis=-1)
    return np.where(above.any(axis=-1), layers[position], np.nan)
