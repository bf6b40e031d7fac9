"""Means with intervals, and differences of groups with p values, where the unit that varies is the program.

Calls of one program are not independent, so whole programs are resampled and relabelled, never single rows. Nor are
programs of one finetuned model, so where there are several, models are resampled first and their programs within them.
"""

import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.labels import AUTO, cluster_label, label
from pbb_probe.schema import Draws, Margin, Seed, checks_arguments
from pbb_probe.statistics.pvalues import centred, equivalence_p, holm, permutation_p
from pbb_probe.statistics.resampling import (
    Labels,
    bootstrap_groups,
    bootstrap_means,
    cluster_sums,
    groups_of,
    numbered,
    of_rows,
    percentiles,
    programs_of,
    read_rows,
    read_weights,
    relabelled_pair,
    weighted_mean,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

AT_ONCE = 1000
"""Places bootstrapped together; more would need much memory."""

EQUIVALENT_BELOW = 0.05


class Interval(NamedTuple):
    """A mean with its 95 % interval; each is an array of the shape of the values without their last axis."""

    mean: "np.ndarray"
    lower: "np.ndarray"
    upper: "np.ndarray"


@checks_arguments
def cluster_bootstrap(
    values: "np.ndarray",
    clusters: Sequence[Hashable],
    draws: Draws = 10_000,
    seed: Seed = 0,
    weights: "np.ndarray | None" = None,
    models: Sequence[Hashable] | None = None,
) -> Interval:
    """The mean over the last axis with a percentile interval from resampling whole clusters.

    Args:
        values: [..., row]; NaN counts as missing.
        clusters: what each row belongs to [row].
        draws: resamples.
        seed: of the resamples.
        weights: those of `compare_groups` [row].
        models: those of `compare_groups` [row].

    Raises:
        PbbError: no rows, lengths that differ, or a row without a cluster or a model.

    Example:
        >>> import numpy as np
        >>> import pbb_probe as pbb
        >>> interval = pbb.tables.cluster_bootstrap(np.array([1.0, 1.0, 0.0, 0.0]), clusters=["f", "f", "g", "g"])
        >>> interval.mean.item(), interval.lower.item(), interval.upper.item()  # there are but two clusters
        (0.5, 0.0, 1.0)
    """
    import numpy as np

    try:
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise PbbError(f"values must be numbers [..., row] ({error}).") from error
    if not values.ndim:
        raise PbbError("values must be numbers [..., row], and not a single one.")
    weights = None if weights is None else read_weights(weights)
    means = bootstrap_means(values, clusters, draws, np.random.default_rng(seed), weights, models)
    return Interval(weighted_mean(values, 1.0 if weights is None else weights), *percentiles(means))


def interval_table(
    values: "xr.DataArray",
    by: Sequence[str] = (),
    clusters: Labels | None = AUTO,
    models: Labels | None = None,
    draws: int = 10_000,
    seed: int = 0,
    weights: Labels | None = None,
) -> "pd.DataFrame":
    """Every place's mean with its interval from resampling whole clusters.

    Args:
        values: (..., row), in that order; NaN counts as missing. Clusters, models and weights are names of coordinates
            of the rows, or their values [row].
        by: coordinates of the rows; each combination of their values gets rows of its own.
        clusters: what each row belongs to; each is one of its own when None. `auto` is `function` where programs share
            one, else `program` (`labels.cluster_label`).
        models: as in `compare_groups`.
        draws: resamples.
        seed: of the resamples.
        weights: as in `compare_groups`.

    Returns:
        A row for each combination of the values of `by` and of the dimensions but the last in which there is a value:
        the columns `by` and the dimensions, `mean` with `lower` and `upper`, `n` rows and `clusters`, `models`
        where they are given, and `programs` where clusters are functions.

    Raises:
        PbbError: a coordinate that the rows do not have, lengths that differ, or a row without a cluster or a model.

    Example:
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> correct = xr.DataArray([[1, 1, 0, 0]], dims=("layer", "prompt"))
        >>> table = pbb.tables.interval_table(correct, clusters=["f", "f", "g", "g"])
        >>> table[["mean", "lower", "upper", "n", "clusters"]].to_dict("records")
        [{'mean': 0.5, 'lower': 0.0, 'upper': 1.0, 'n': 4, 'clusters': 2}]
    """
    import numpy as np
    import pandas as pd

    row, name = str(values.dims[-1]), cluster_label(values, clusters)
    clusters, programs = range(values.sizes[row]) if name is None else name, programs_of(values, name)
    of_each = {
        name: np.asarray(of_rows(values, given))
        for name, given in {"clusters": clusters, "models": models, "weights": weights}.items()
        if given is not None
    }
    tables = []
    for kind, rows in each_kind(
        pd.DataFrame({name: label(values, name, row) for name in by}, range(values.sizes[row]))
    ):
        table = _intervals(values.isel({row: rows}), draws=draws, seed=seed, **{k: v[rows] for k, v in of_each.items()})
        for place, (column, value) in enumerate(kind.items()):
            table.insert(place, column, value)
        if programs is not None:
            table["programs"] = len(set(programs[rows].tolist()))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _intervals(
    values: "xr.DataArray",
    clusters: Sequence[Hashable],
    draws: int,
    seed: int,
    models: Sequence[Hashable] | None = None,
    weights: "np.ndarray | None" = None,
) -> "pd.DataFrame":
    """`interval_table` of one kind of rows."""
    import numpy as np
    from einops import rearrange

    flat = rearrange(values.values, "... row -> (...) row")
    there = np.isfinite(flat)
    cluster, model = numbered(flat.shape[1], clusters, models)
    held = cluster_sums(there.astype(float), cluster, np.ones(len(cluster)))[0] > 0  # [cluster, place]
    counts = {"n": there.sum(axis=1), "clusters": held.sum(axis=0)}
    if models is not None:
        counts["models"] = np.sum([held[model == number].any(axis=0) for number in range(model.max() + 1)], axis=0)
    flat = flat[known := there.any(axis=1)]
    parts = [flat[start : start + AT_ONCE] for start in range(0, len(flat), AT_ONCE)]
    bounds = [np.stack(cluster_bootstrap(part, clusters, draws, seed, weights, models)) for part in parts]
    intervals = dict(zip(Interval._fields, np.concatenate([np.empty((3, 0)), *bounds], axis=1), strict=True))
    return places(values, values.dims[:-1]).assign(**counts)[known].reset_index(drop=True).assign(**intervals)


def places(values: "xr.DataArray", dims: Sequence[Hashable]) -> "pd.DataFrame":
    """A row for each combination of some dimensions' coordinates, the last changing fastest; one row without any."""
    import pandas as pd

    if not dims:
        return pd.DataFrame(index=[0])
    return pd.MultiIndex.from_product([values[dim].values for dim in dims], names=dims).to_frame(index=False)


def each_kind(labels: "pd.DataFrame") -> "Iterator[tuple[dict[str, Any], np.ndarray]]":
    """Each combination of values that there is, in order, and the rows [row] that have it; all rows without columns."""
    import numpy as np
    import pandas as pd

    everything = np.ones(len(labels), bool)
    if labels.columns.empty:
        yield {}, everything
        return
    for kind in labels.drop_duplicates().sort_values(list(labels.columns)).to_dict(orient="records"):
        alike = [labels[name].isna() if pd.isna(value) else labels[name] == value for name, value in kind.items()]
        yield kind, np.all([everything, *(column.to_numpy() for column in alike)], axis=0)


@checks_arguments
def compare_groups(
    values: "xr.DataArray",
    group: Labels = "group",
    clusters: Labels = AUTO,
    *,
    weights: Labels | None = None,
    models: Labels | None = None,
    margin: Margin | None = None,
    adjust: Literal["max_t", "holm"] = "max_t",
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """Groups side by side at every place, two by two.

    Intervals say what to expect of other programs than these, and with `models` of other finetunings, too; p says how
    often chance would part these very programs, or models, into groups as far apart.

    Models that hold both groups are drawn with both; models that hold one group only are drawn among their like, so
    that groups of runs are resampled apart. Likewise for p: groups of clusters are permuted within each model, and the
    difference is taken from its mean over all permutations, which is not zero where models differ both in level and in
    their shares of the groups. Where no model holds both groups, it is whole models that are permuted, in all ways if
    these are no more than the draws: 3 models against 3 cannot have a p below 0.1, 5 against 5 none below 0.008.
    Percentile intervals over few models are too narrow: resampling 5 models understates their variance by a fifth, and
    a normal quantile stands in for that of t with 4 degrees of freedom; with one model that variance is left out.

    Args:
        values: (..., row), the last dimension being prompts or pairs; NaN counts as missing. Group, clusters, weights
            and models are names of coordinates of the rows, or their values [row].
        group: of each row; two values or more. Each is compared with each after it: program groups in the order of
            `GROUPS`, others sorted.
        clusters: what each row belongs to; a cluster lies in one group. `auto` is `function` where programs share one,
            else `program` (`labels.cluster_label`); a function counts as a cluster in each group that has it.
        weights: the mean of rows is the sum of their values over the sum of their weights; ones when None. With
            the weights of `recovery` it is a ratio of means, whose interval allows for numerator and denominator.
        models: the finetuned model (the seed) of each row; one for all when None. Models are drawn with
            replacement, and then clusters within each. A name that two models share is two clusters, taken as
            independent: give models programs of their own, or what these have in common is not in the interval.
        margin: the smallest difference that would matter, in the unit of the values; tested when given.
        adjust: of p for all places of one pair of groups: `max_t` (Westfall and Young 1993) allows for how places go
            together, `holm` (1979) for any way that they may.
        draws: bootstrap resamples, and permutations.
        seed: of both.

    Returns:
        A row for each pair of groups and combination of the other dimensions: `mean_<group>` with `lower_`, `upper_`
        and the number of rows `n_`, of clusters `clusters_` and, where models are given, of models `models_` and, where
        clusters are functions, of programs `programs_` of every group, which are the same for each pair; the pair's
        `first` and `second` group, and of the first minus the second `difference` with `lower` and `upper` from the
        cluster bootstrap; `p` from permuting the two groups of whole clusters (two-sided), and `p_adjusted` for all
        places of this pair, not for there being several. With a margin, `p_equivalent` is that of two one-sided tests
        (TOST, Schuirmann 1987) that the difference lies beyond the margin on either side, from the same resamples, and
        `equivalent` is p_equivalent < 0.05 (the 90 % interval lies within the margin). That holds of several places at
        once if it holds of each, without adjustment (intersection-union test).

    Raises:
        PbbError: a coordinate that the rows do not have, less than two groups, lengths that differ, a cluster in
            several, a row without a cluster or a model, a margin that is not above zero, or an unknown adjustment.

    Example:
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> correct = xr.DataArray([[1, 1, 1, 1, 1, 1, 0, 0]], dims=("layer", "prompt"))
        >>> groups = ["with_io"] * 4 + ["without_io"] * 4
        >>> table = pbb.compare_groups(correct, groups, clusters=range(8))
        >>> table[["mean_with_io", "mean_without_io", "first", "difference"]].values.tolist()
        [[1.0, 0.5, 'with_io', 0.5]]
    """
    import numpy as np
    import pandas as pd
    from einops import rearrange

    if adjust not in ("max_t", "holm"):
        raise PbbError(f"Unknown adjustment {adjust!r}: choose max_t or holm.")
    rows = read_rows(values, group, clusters, weights, models)
    groups = groups_of(rows)

    for name in groups:
        if (total := rows.weights[rows.labels == name].sum()) <= 0:
            raise PbbError(f"The weights of {name} add up to {total:g}: a mean needs a sum above 0.")
    try:
        flat = rearrange(np.asarray(values, dtype=float), "... row -> (...) row")
    except (TypeError, ValueError) as error:
        raise PbbError(f"values must be numbers (..., row), and some are not ({error}).") from error
    if np.isinf(flat).any():
        raise PbbError("A value is infinite: leave its row out, or make it missing (NaN).")
    table = places(values, values.dims[:-1])
    rng = np.random.default_rng(seed)
    sums = cluster_sums(flat, rows.cluster, rows.weights)
    resampled = dict(zip(groups, bootstrap_groups(sums, list(groups.values()), rows.model, draws, rng), strict=True))
    for name, means in resampled.items():
        here = rows.labels == name
        table[f"mean_{name}"] = weighted_mean(flat[:, here], rows.weights[here])
        table[f"lower_{name}"], table[f"upper_{name}"] = percentiles(means)
        table[f"n_{name}"] = np.isfinite(flat[:, here]).sum(axis=1)
        for unit, count in rows.counts(here).items():
            table[f"{unit}_{name}"] = count
    pairs = []
    for first, second in itertools.combinations(groups, 2):
        pair = table.assign(first=first, second=second)
        apart = resampled[first] - resampled[second]
        observed = (table[f"mean_{first}"] - table[f"mean_{second}"]).to_numpy()
        pair["difference"] = observed
        pair["lower"], pair["upper"] = percentiles(apart)
        relabelled, n_models = relabelled_pair(sums, groups[first], groups[second], rows.model, draws, rng)
        null = relabelled[0] - relabelled[1]
        tested = (observed, null) if n_models == 1 else centred(observed, null)
        pair["p"], pair["p_adjusted"] = permutation_p(*tested)
        if adjust == "holm":
            pair["p_adjusted"] = holm(pair["p"].to_numpy())
        if margin is not None:
            pair["p_equivalent"] = equivalence_p(observed, apart, margin)
            pair["equivalent"] = pair["p_equivalent"] < EQUIVALENT_BELOW
        pairs.append(pair)
    return pd.concat(pairs, ignore_index=True)
