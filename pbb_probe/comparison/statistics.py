"""Means with intervals, and differences of groups with p values, where the unit that varies is the program.

Calls of one program are not independent, so whole programs are resampled and relabelled, never single rows.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

CONFIDENCE = 0.95
AT_ONCE = 1000
"""Places bootstrapped together; more would need much memory."""


class Interval(NamedTuple):
    """A mean with its 95 % interval; each is an array of the shape of the values without their last axis."""

    mean: "np.ndarray"
    lower: "np.ndarray"
    upper: "np.ndarray"


def cluster_bootstrap(
    values: "np.ndarray",
    clusters: Sequence[Hashable],
    draws: int = 10_000,
    seed: int = 0,
    weights: "np.ndarray | None" = None,
) -> Interval:
    """The mean over the last axis with a percentile interval from resampling whole clusters.

    Args:
        values: [..., row]; NaN counts as missing.
        clusters: what each row belongs to [row].
        draws: resamples.
        seed: of the resamples.
        weights: those of `compare_groups` [row].

    Raises:
        PbbError: no rows, or lengths that differ.
    """
    import numpy as np

    values = np.asarray(values, dtype=float)
    means = bootstrap_means(values, clusters, draws, np.random.default_rng(seed), weights)
    return Interval(weighted_mean(values, 1.0 if weights is None else weights), *percentiles(means))


def interval_table(
    values: "xr.DataArray",
    clusters: Sequence[Hashable],
    weights: "np.ndarray | None" = None,
    draws: int = 10_000,
    seed: int = 0,
) -> "pd.DataFrame":
    """Every place's mean with its interval from resampling whole clusters.

    Args:
        values: (..., row), in that order; NaN counts as missing.
        clusters: what each row belongs to [row].
        weights: those of `compare_groups` [row].
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row for each combination of the dimensions but the last in which there is a value: `mean` with `lower` and
        `upper`, `n` rows and `clusters`.
    """
    import numpy as np
    import pandas as pd

    dims = values.dims[:-1]
    flat = values.values.reshape(-1, values.shape[-1])
    there = np.isfinite(flat)
    table = pd.MultiIndex.from_product([values[dim].values for dim in dims], names=dims).to_frame(index=False)
    members = pd.get_dummies(pd.Series(list(clusters)), dtype=int).to_numpy()
    counts = {"n": there.sum(axis=1), "clusters": (there.astype(int) @ members > 0).sum(axis=1)}
    flat = flat[known := there.any(axis=1)]
    parts = [flat[start : start + AT_ONCE] for start in range(0, len(flat), AT_ONCE)]
    bounds = [np.stack(cluster_bootstrap(part, clusters, draws, seed, weights)) for part in parts]
    found = dict(zip(Interval._fields, np.concatenate([np.empty((3, 0)), *bounds], axis=1), strict=True))
    return table.assign(**counts)[known].reset_index(drop=True).assign(**found)


def each_kind(labels: "pd.DataFrame") -> "Iterator[tuple[dict[str, Any], np.ndarray]]":
    """Each combination of values that there is, in order, and the rows [row] that have it; all rows without columns."""
    import numpy as np

    everything = np.ones(len(labels), bool)
    if labels.columns.empty:
        yield {}, everything
        return
    for kind in labels.drop_duplicates().sort_values(list(labels.columns)).to_dict(orient="records"):
        yield kind, np.all([everything, *((labels[name] == value).to_numpy() for name, value in kind.items())], axis=0)


def compare_groups(
    values: "xr.DataArray",
    *,
    group: Sequence[Hashable],
    clusters: Sequence[Hashable],
    weights: Sequence[float] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> "pd.DataFrame":
    """Two groups side by side at every place.

    Args:
        values: (..., row), the last dimension being prompts or pairs; NaN counts as missing.
        group: the group of each row [row]; two values, the first in sorted order minus the second is the difference.
        clusters: what each row belongs to [row]; a cluster lies in one group.
        weights: the mean of rows is the sum of their values over the sum of their weights [row]; ones when None. With
            the weights of `recovery` it is a ratio of means, whose interval allows for numerator and denominator.
        draws: bootstrap resamples, and permutations.
        seed: of both.

    Returns:
        A row for each combination of the other dimensions: `mean_<group>` with `lower_`, `upper_` and the number of
        rows `n_` and of clusters `clusters_` of both groups; `difference` with `lower` and `upper` from the cluster
        bootstrap; `p` from permuting the groups of whole clusters (two-sided), and `p_adjusted` for all rows of the
        table (max-T, Westfall and Young 1993).

    Raises:
        PbbError: not two groups, lengths that differ, or a cluster in both groups.
    """
    import numpy as np
    import pandas as pd

    labels = np.asarray(list(group))
    names = sorted(set(labels.tolist()))
    codes = pd.factorize(pd.Series(list(clusters)))[0]
    n_rows = values.shape[-1]
    weight = np.ones(n_rows) if weights is None else np.asarray(list(weights), dtype=float)
    if not n_rows == len(labels) == len(codes) == len(weight):
        raise PbbError(
            f"There are {n_rows} rows, {len(labels)} groups, {len(codes)} clusters and {len(weight)} weights: "
            "these must be equal."
        )
    if len(names) != 2:
        raise PbbError(f"Two groups are compared; these rows have {len(names)}: {names}.")
    of_cluster = pd.Series(labels).groupby(codes).unique()
    if (of_cluster.str.len() > 1).any():
        raise PbbError("A cluster has rows in both groups: clusters are compared whole, so give each one group.")

    flat = np.asarray(values, dtype=float).reshape(-1, n_rows)
    dims = values.dims[:-1]
    index = pd.MultiIndex.from_product([values[dim].values for dim in dims], names=dims).to_frame(index=False)
    rng = np.random.default_rng(seed)
    resampled = []
    for name in names:
        rows = labels == name
        means = bootstrap_means(flat[:, rows], codes[rows], draws, rng, weight[rows])
        lower, upper = percentiles(means)
        resampled.append(means)
        index[f"mean_{name}"] = weighted_mean(flat[:, rows], weight[rows])
        index[f"lower_{name}"], index[f"upper_{name}"] = lower, upper
        index[f"n_{name}"] = np.isfinite(flat[:, rows]).sum(axis=1)
        index[f"clusters_{name}"] = len(set(codes[rows]))
    difference = index[f"mean_{names[0]}"] - index[f"mean_{names[1]}"]
    index["difference"] = difference
    index["lower"], index["upper"] = percentiles(resampled[0] - resampled[1])

    sums, counts = _cluster_sums(flat, codes, weight)
    first = (of_cluster.str[0] == names[0]).to_numpy(float)
    shuffled = rng.permuted(np.broadcast_to(first, (draws, len(first))), axis=1)  # [draw, cluster]
    with np.errstate(invalid="ignore", divide="ignore"):
        null = (shuffled @ sums) / (shuffled @ counts) - ((1 - shuffled) @ sums) / ((1 - shuffled) @ counts)
    index["p"], index["p_adjusted"] = _permutation_p(difference.to_numpy(), null)
    return index


def _permutation_p(observed: "np.ndarray", null: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Two-sided p values [place] of differences [place] under relabelings [draw, place], single and by max-T.

    Where there is no difference to test (NaN) there is no p, and relabelings that leave none there do not count.
    """
    import numpy as np

    spread = np.nanstd(null, axis=0)
    spread[spread == 0] = 1.0
    statistic, extreme = np.abs(observed) / spread, np.abs(null) / spread
    known = np.isfinite(statistic)
    at_least = statistic - 1e-12  # equal up to rounding counts as extreme
    single = (1 + (extreme >= at_least).sum(axis=0)) / (1 + np.isfinite(extreme).sum(axis=0))
    largest = np.fmax.reduce(extreme[:, known], axis=1, initial=-np.inf)
    largest = largest[np.isfinite(largest)]
    adjusted = (1 + (largest[:, None] >= at_least).sum(axis=0)) / (1 + len(largest))
    return np.where(known, single, np.nan), np.where(known, adjusted, np.nan)


def bootstrap_means(
    values: "np.ndarray", clusters: Sequence[Hashable], draws: int, rng, weights: "np.ndarray | None" = None
) -> "np.ndarray":
    """[draw, ...] means of resamples of whole clusters; the weights are those of `compare_groups`."""
    import numpy as np
    import pandas as pd

    values = np.asarray(values, dtype=float)
    codes = pd.factorize(pd.Series(list(clusters)))[0]
    if not len(codes) or values.shape[-1] != len(codes):
        raise PbbError(f"There are {values.shape[-1]} rows and {len(codes)} clusters: give a cluster a row, and a row.")
    weights = np.ones(len(codes)) if weights is None else weights
    sums, counts = _cluster_sums(values.reshape(-1, len(codes)), codes, weights)
    n = len(sums)
    times = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)  # [draw, cluster]
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((times @ sums) / (times @ counts)).reshape(draws, *values.shape[:-1])


def _cluster_sums(values: "np.ndarray", codes: "np.ndarray", weights: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Sums [cluster, place] of the values [place, row] that are not missing, and of their weights."""
    import numpy as np

    member = np.zeros((codes.max() + 1, len(codes)))
    member[codes, np.arange(len(codes))] = 1.0
    return member @ np.nan_to_num(values).T, member @ (np.isfinite(values) * weights).T


def weighted_mean(values: "np.ndarray", weights: "np.ndarray | float" = 1.0) -> "np.ndarray":
    """The sum of the values [..., row] that are not missing over the sum of their weights [row]."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(values).sum(axis=-1) / (np.isfinite(values) * weights).sum(axis=-1)


def percentiles(means: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """The bounds of the 95 % interval over the first axis."""
    import numpy as np

    tail = 100 * (1 - CONFIDENCE) / 2
    lower, upper = np.nanpercentile(means, [tail, 100 - tail], axis=0)
    return lower, upper
