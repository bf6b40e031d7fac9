"""Where the transfer maps of two groups differ: which places carry other things in the one than in the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.evidence.subsets import label_rows
from pbb_probe.labels import label, measurement
from pbb_probe.statistics.groups import compare_groups, each_kind

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def transfer_differences(
    carried: "xr.Dataset",
    by: Sequence[str] = ("steps",),
    group: str = "group",
    clusters: str = "corrupted_program",
    **settings: Any,
) -> "pd.DataFrame":
    """Where do the places of two groups' transfer maps carry different things?

    Args:
        carried: from `transfer_map`, of both groups (`labels.join` puts two maps together); of maps with controls the
            measurement counts.
        by: coordinates of the pairs whose values are compared apart.
        group: coordinate of the pairs with two values.
        clusters: coordinate that says which pairs belong together: the program of the base, which is patched.
        settings: those of `compare_groups`.

    Returns:
        `compare_groups` of the shares of pairs, a row a combination of the values of `by` that both groups have, site,
        layer, [head | kv_head,] role and hypothesis; p is adjusted over the rows of such a combination.

    Raises:
        PbbError: not two groups, a coordinate that the pairs do not have, or no combination that both groups have.

    Example:
        >>> import pbb_probe as pbb
        >>> from pbb_probe.labels import join
        >>> run = pbb.open_run("runs/nano")
        >>> both = join([run.array("transfer/with_io"), run.array("transfer/without_io")], "pair").sel(role=["answer"])
        >>> table = pbb.tables.transfer_differences(both, draws=200).query("hypothesis == 'everything'")
        >>> table[["layer", "mean_with_io", "mean_without_io", "difference"]]
            layer  mean_with_io  mean_without_io  difference
        1       0           0.0              0.0         0.0
        9       1           0.0              0.0         0.0
        17      2           1.0              1.0         0.0
        25      3           1.0              1.0         0.0
    """
    import pandas as pd

    groups = sorted(set(label(carried, group)))
    if len(groups) != 2:
        raise PbbError(f"Two groups are compared; there are {len(groups)}: {', '.join(groups)}.")
    both = by_site(measurement(carried))
    tables = []
    for kind, rows in each_kind(label_rows(both, by)):
        chosen = both.isel(pair=rows)
        if label(chosen, group).nunique() < 2:
            continue
        places = flat_places(chosen, "pair")
        table = compare_groups(places, group, clusters, **settings)
        where = pd.DataFrame({str(name): places[name].values for name in both.dims if name != "pair"})
        tables.append(pd.concat([where, table.drop(columns="place")], axis=1).assign(**kind))
    if not tables:
        raise PbbError(
            f"There are no values of {', '.join(by)} that both groups have: take another `by`, or add pairs."
        )
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
