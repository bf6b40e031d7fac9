"""Resampling and relabelling of whole clusters (programs), and of whole models where rows come from several.

A mean of rows is the sum of their values over the sum of their weights. So all that a draw needs to know of the rows
are these two sums in each cluster: a resample counts how often it takes each cluster, a relabelling which it takes.
"""

import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.labels import cluster_label, is_function, label
from pbb_probe.programs.program import GROUPS

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

Labels = str | Sequence[Hashable]
"""The name of a coordinate of the rows, or its values, an entry a row."""

CONFIDENCE = 0.95
DRAWN_AT_ONCE = 10_000_000
"""Draws times clusters held in memory together."""


class Rows(NamedTuple):
    """What the rows belong to, checked: names and weights by row, clusters and models as numbers."""

    labels: "np.ndarray"  # [row] the group
    weights: "np.ndarray"  # [row]
    cluster: "np.ndarray"  # [row]
    model: "np.ndarray"  # [cluster]
    named: bool  # whether models are given, or one is taken for all
    program: "np.ndarray | None"  # [row] where clusters are functions

    def counts(self, here: "np.ndarray") -> dict[str, int]:
        """How many clusters some rows [row] have, and how many models and programs if there is word of these."""
        clusters = set(self.cluster[here].tolist())
        models = {"models": len(set(self.model[list(clusters)].tolist()))} if self.named else {}
        programs = {} if self.program is None else {"programs": len(set(self.program[here].tolist()))}
        return {"clusters": len(clusters), **models, **programs}


def read_rows(
    values: "xr.DataArray", group: Labels, clusters: Labels, weights: Labels | None, models: Labels | None
) -> Rows:
    """The arguments of `compare_groups` and `locate` that have an entry a row, of values (..., row).

    A function is a cluster in each group that has it: what two groups share is not resampled together, which makes the
    interval of their difference wider.

    Raises:
        PbbError: a coordinate that the rows do not have, lengths that differ, or a row without a cluster or a model.
    """
    import numpy as np
    import pandas as pd

    n_rows = values.shape[-1]
    labels, name = np.asarray(list(of_rows(values, group))), cluster_label(values, clusters)
    clusters, programs = of_rows(values, name), programs_of(values, name)
    weight = np.ones(n_rows) if weights is None else read_weights(of_rows(values, weights))
    models = None if models is None else of_rows(values, models)
    if pd.isna(labels).any():
        raise PbbError("A row has no group: name one for every row.")
    if not n_rows == len(labels) == len(clusters) == len(weight):
        raise PbbError(
            f"There are {n_rows} rows, {len(labels)} groups, {len(clusters)} clusters and {len(weight)} weights: "
            "these must be equal."
        )
    if is_function(name):
        clusters = [None if pd.isna(each) else f"{of} {each}" for of, each in zip(labels, clusters, strict=True)]
    return Rows(labels, weight, *numbered(n_rows, clusters, models), models is not None, programs)


def programs_of(values: "xr.DataArray", clusters: Labels | None) -> "np.ndarray | None":
    """The program of each row [row] where clusters are functions; None where each is a cluster itself."""
    import numpy as np

    if not is_function(clusters) or (name := str(clusters).replace("function", "program")) not in values.coords:
        return None
    return np.asarray(label(values, name, str(values.dims[-1])))


def of_rows(values: "xr.DataArray", given: Labels) -> Sequence[Any]:
    """What is said of each row of values (..., row): the coordinate of that name, or an entry a row as given.

    Raises:
        PbbError: the rows have no such coordinate.
    """
    return list(label(values, given, str(values.dims[-1]))) if isinstance(given, str) else given


def read_weights(weights: "Sequence[float] | np.ndarray") -> "np.ndarray":
    """The weights [row] of means.

    Raises:
        PbbError: what is given is no weight.
    """
    import numpy as np

    try:
        weight = np.asarray(list(weights), dtype=float)
    except (TypeError, ValueError) as error:
        raise PbbError(f"weights must be numbers, one a row ({error}).") from error
    if weight.ndim != 1 or not np.isfinite(weight).all():  # below 0 where it is a distance, as of recoveries
        raise PbbError("weights must be finite numbers, one a row.")
    return weight


def numbered(
    n_rows: int, clusters: Sequence[Hashable], models: Sequence[Hashable] | None
) -> "tuple[np.ndarray, np.ndarray]":
    """The number of each row's cluster [row], a cluster being of one model, and of each cluster's model [cluster].

    Raises:
        PbbError: no rows, lengths that differ, or a row without a cluster or a model.
    """
    import numpy as np
    import pandas as pd

    if not n_rows or n_rows != len(clusters):
        raise PbbError(f"There are {n_rows} rows and {len(clusters)} clusters: give a cluster a row, and a row.")
    if models is not None and n_rows != len(models):
        raise PbbError(f"There are {n_rows} rows and {len(models)} models: give a model a row.")
    try:
        cluster = pd.factorize(pd.Series(list(clusters)))[0]
        model = np.zeros_like(cluster) if models is None else pd.factorize(pd.Series(list(models)))[0]
    except TypeError as error:
        raise PbbError(f"Clusters and models must be names or numbers, one a row ({error}).") from error
    if (cluster < 0).any() or (model < 0).any():
        raise PbbError("A row has no cluster or no model: name them for every row.")
    numbers = pd.factorize(model * (cluster.max() + 1) + cluster)[0]
    return numbers, model[np.unique(numbers, return_index=True)[1]]


def in_order(names: "Iterable[Hashable]") -> list[Any]:
    """Different groups: those of programs in the order of `GROUPS`, then others sorted."""
    return sorted(set(names), key=lambda name: (GROUPS.index(name) if name in GROUPS else len(GROUPS), name))


def groups_of(rows: Rows) -> "dict[Hashable, np.ndarray]":
    """The groups in order, and whether each cluster is of them [cluster].

    Raises:
        PbbError: less than two groups, or a cluster in several.
    """
    import numpy as np

    names = in_order(rows.labels.tolist())
    if len(names) < 2:
        raise PbbError(f"Two groups or more are compared; these rows have {len(names)}: {names}.")
    size = np.bincount(rows.cluster)
    held = {name: np.bincount(rows.cluster, weights=rows.labels == name) for name in names}
    if any(((count > 0) & (count < size)).any() for count in held.values()):
        raise PbbError("A cluster has rows in several groups: clusters are compared whole, so give each one group.")
    return {name: count > 0 for name, count in held.items()}


def relabelled_pair(
    sums: "np.ndarray",
    first: "np.ndarray",
    second: "np.ndarray",
    model: "np.ndarray",
    draws: int,
    rng: "np.random.Generator",
) -> "tuple[np.ndarray, int]":
    """`relabelled_means` of two groups among others [cluster], and how many models these two have."""
    import numpy as np

    pair = first | second
    models, own = np.unique(model[pair], return_inverse=True)
    return relabelled_means(sums[:, pair], first[pair], own, draws, rng), len(models)


def cluster_sums(values: "np.ndarray", cluster: "np.ndarray", weights: "np.ndarray") -> "np.ndarray":
    """[2, cluster, place]: sums of the values [place, row] that are not missing, and of their weights [row]."""
    import numpy as np

    order = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[order], np.arange(cluster.max() + 1))
    there = np.isfinite(values) * weights
    return np.stack([np.add.reduceat(part[:, order], starts, axis=1).T for part in (np.nan_to_num(values), there)])


def bootstrap_means(
    values: "np.ndarray",
    clusters: Sequence[Hashable],
    draws: int,
    rng: "np.random.Generator",
    weights: "np.ndarray | None" = None,
    models: Sequence[Hashable] | None = None,
) -> "np.ndarray":
    """[draw, ...] means of resamples of whole clusters, drawn as `cluster_bootstrap` says, of values [..., row].

    Raises:
        PbbError: no rows, lengths that differ, or a row without a cluster or a model.
    """
    import numpy as np
    from einops import rearrange

    n_rows = values.shape[-1]
    cluster, model = numbered(n_rows, clusters, models)
    sums = cluster_sums(
        rearrange(values, "... row -> (...) row"), cluster, np.ones(n_rows) if weights is None else weights
    )
    (means,) = bootstrap_groups(sums, [np.ones(len(model), bool)], model, draws, rng)
    return means.reshape(draws, *values.shape[:-1])


def bootstrap_groups(
    sums: "np.ndarray",
    groups: "Sequence[np.ndarray]",
    model: "np.ndarray",
    draws: int,
    rng: "np.random.Generator",
) -> "list[np.ndarray]":
    """The means [draw, place] of each group in resamples of models, and of each drawn model's clusters.

    Args:
        sums: those of `cluster_sums` [2, cluster, place].
        groups: for each group, the clusters it has [cluster].
        model: of each cluster [cluster]; models that hold the same groups are drawn among themselves, and with all
            that they hold.
        draws: resamples.
        rng: drawn from: once a model if there are several, then once a cluster, group by group.
    """
    import numpy as np

    taken = np.zeros((draws, model.max() + 1), dtype=int)  # [draw, model]
    _, kind = np.unique(_holders(groups, model), axis=1, return_inverse=True)
    for number in range(kind.max() + 1):
        alike = np.flatnonzero(kind == number)
        taken[:, alike] = rng.multinomial(len(alike), np.full(len(alike), 1 / len(alike)), size=draws)
    means = []
    for group in groups:
        of_group, of_model = sums[:, group], model[group]
        columns = [np.flatnonzero(of_model == number) for number in np.unique(of_model)]
        parts = []
        for block in _blocks(draws, len(of_model)):
            times = np.empty((block.stop - block.start, len(of_model)))  # [draw, cluster]
            for number, here in zip(np.unique(of_model), columns, strict=True):
                times[:, here] = rng.multinomial(len(here) * taken[block, number], np.full(len(here), 1 / len(here)))
            parts.append(_ratio(times, of_group))
        means.append(np.concatenate(parts))
    return means


def relabelled_means(
    sums: "np.ndarray", first: "np.ndarray", model: "np.ndarray", draws: int, rng: "np.random.Generator"
) -> "np.ndarray":
    """[2, relabelling, place]: both groups' means when whole clusters [cluster] change their group.

    Labels change places within each model. Where no model holds both groups, it is whole models that change them: in
    every other way that there is if these are no more than the draws, else at random.
    """
    import numpy as np

    parts = [[_ratio(chosen, sums), _ratio(1 - chosen, sums)] for chosen in _relabelings(first, model, draws, rng)]
    return np.concatenate(parts, axis=1)


def _relabelings(
    first: "np.ndarray", model: "np.ndarray", draws: int, rng: "np.random.Generator"
) -> "Iterator[np.ndarray]":
    """Blocks [relabelling, cluster] of which clusters are called the first group: 1, else 0."""
    import numpy as np
    from einops import repeat

    of_first, of_second = _holders([first, ~first], model)
    n_models, n_first = len(of_first), int(of_first.sum())
    if (of_first & of_second).any():
        for block in _blocks(draws, len(first)):
            labels = repeat(first.astype(float), "cluster -> draw cluster", draw=block.stop - block.start)
            for number in range(n_models):
                labels[:, model == number] = rng.permuted(labels[:, model == number], axis=1)
            yield labels
        return
    if math.comb(n_models, n_first) <= draws + 1:
        chosen = np.array(list(itertools.combinations(range(n_models), n_first)))
        of_models = (chosen[..., None] == np.arange(n_models)).any(axis=1)
        of_models = of_models[(of_models != of_first).any(axis=1)]  # what was observed is counted apart
    else:
        of_models = rng.permuted(repeat(of_first, "model -> draw model", draw=draws), axis=1)
    for block in _blocks(len(of_models), len(first)):
        yield of_models[block][:, model].astype(float)


def _holders(groups: "Sequence[np.ndarray]", model: "np.ndarray") -> "np.ndarray":
    """Whether each group has clusters in each model [group, model]."""
    import numpy as np

    return np.stack([np.bincount(model[group], minlength=model.max() + 1) > 0 for group in groups])


def _blocks(draws: int, n_clusters: int) -> Iterator[slice]:
    at_once = max(1, DRAWN_AT_ONCE // n_clusters)
    for start in range(0, draws, at_once):
        yield slice(start, min(start + at_once, draws))


def _ratio(times: "np.ndarray", sums: "np.ndarray") -> "np.ndarray":
    """Means [draw, place] of clusters taken so many times [draw, cluster]; NaN where nothing is left."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: np.ndarray = (times @ sums[0]) / (times @ sums[1])
    return ratio


def weighted_mean(values: "np.ndarray", weights: "np.ndarray | float" = 1.0) -> "np.ndarray":
    """The sum of the values [..., row] that are not missing over the sum of their weights [row]."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        mean: np.ndarray = np.nan_to_num(values).sum(axis=-1) / (np.isfinite(values) * weights).sum(axis=-1)
    return mean


def percentiles(means: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """The bounds of the 95 % interval over the first axis, NaN where there is nothing."""
    import numpy as np

    tail = 100 * (1 - CONFIDENCE) / 2
    bounds, known = np.full((2, *means.shape[1:]), np.nan), np.isfinite(means).any(axis=0)
    bounds[:, known] = np.nanpercentile(means[:, known], [tail, 100 - tail], axis=0)
    lower, upper = bounds
    return lower, upper
