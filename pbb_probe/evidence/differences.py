"""Where the transfer maps of groups differ, two by two: which places carry other things in one than in another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.evidence.subsets import label_rows
from pbb_probe.labels import AUTO, CORRUPTED, cluster_label, label, measurement
from pbb_probe.statistics.groups import compare_groups, each_kind

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def transfer_differences(
    carried: "xr.Dataset",
    by: Sequence[str] = ("steps",),
    group: str = "group",
    clusters: str = AUTO,
    **settings: Any,
) -> "pd.DataFrame":
    """Where do the places of groups' transfer maps carry different things?

    Args:
        carried: from `transfer_map`, of two groups or more (`labels.join` puts maps together); of maps with controls
            the measurement counts.
        by: coordinates of the pairs whose values are compared apart.
        group: coordinate of the pairs with two values or more.
        clusters: coordinate that says which pairs belong together; `auto` is the function or program of the base, which
            is patched, as in `located_use`.
        settings: those of `compare_groups`.

    Returns:
        `compare_groups` of the shares of pairs, a row a combination of the values of `by` that two groups or more
        have, pair of these groups, site, layer, [head | kv_head,] role and hypothesis; p is adjusted over the places of
        such a combination and pair of groups.

    Raises:
        PbbError: less than two groups, a coordinate that the pairs do not have, or no combination that two groups have.

    Example:
        >>> import pbb_probe as pbb
        >>> from pbb_probe.labels import join
        >>> run = pbb.open_run("runs/nano")
        >>> both = join([run.array("transfer/with_io"), run.array("transfer/without_io")], "pair").sel(role=["answer"])
        >>> table = pbb.tables.transfer_differences(both, draws=200).query("hypothesis == 'everything'")
        >>> table[["layer", "mean_with_io", "mean_without_io", "difference"]]
            layer  mean_with_io  mean_without_io  difference
        1       0           0.0              0.0         0.0
        13      1           0.0              0.0         0.0
        25      2           1.0              1.0         0.0
        37      3           1.0              1.0         0.0
    """
    import pandas as pd

    groups = sorted(set(label(carried, group)))
    if len(groups) < 2:
        raise PbbError(f"Two groups or more are compared; there are {len(groups)}: {', '.join(groups)}.")
    both, clusters = by_site(measurement(carried)), cluster_label(carried, clusters, CORRUPTED)
    tables = []
    for kind, rows in each_kind(label_rows(both, by)):
        chosen = both.isel(pair=rows)
        if label(chosen, group).nunique() < 2:
            continue
        table = compare_groups(places := flat_places(chosen, "pair"), group, clusters, **settings)
        tables.append(named_places(table, places, [str(name) for name in both.dims if name != "pair"]).assign(**kind))
    if not tables:
        raise PbbError(f"There are no values of {', '.join(by)} that two groups have: take another `by`, or add pairs.")
    return pd.concat(tables, ignore_index=True)


def by_site(carried: "xr.Dataset") -> "xr.DataArray":
    """(site, ..., pair): the sites of a map as one array. Those without heads have values at head NaN alone."""
    import numpy as np
    import pandas as pd
    import xarray as xr

    dims = dict.fromkeys(dim for values in carried.data_vars.values() for dim in values.dims)
    parts = [
        values.expand_dims({dim: [np.nan] for dim in dims if dim not in values.dims})
        for values in carried.data_vars.values()
    ]
    sites = pd.Index(list(carried.data_vars), name="site")
    joined = xr.concat(parts, sites, join="outer", coords="minimal", compat="override")
    return joined.transpose("site", ..., "pair")


def flat_places(values: "xr.DataArray", row: str = "prompt") -> "xr.DataArray":
    """(place, row): every combination of the other dimensions in which there is a value, named by its coordinates."""
    import numpy as np

    stacked = values.stack(place=[name for name in values.dims if name != row], create_index=False).transpose(
        "place", row
    )
    measured = stacked.isel(place=np.isfinite(stacked.values).any(axis=1))
    return measured.assign_coords(place=range(measured.sizes["place"]))


def named_places(table: "pd.DataFrame", places: "xr.DataArray", names: Sequence[str]) -> "pd.DataFrame":
    """A table with a column `place` of `flat_places`, whose rows say what these are in its stead."""
    import pandas as pd

    where = pd.DataFrame({name: places[name].values for name in names}).loc[table["place"]].reset_index(drop=True)
    return pd.concat([where, table.drop(columns="place")], axis=1)
