"""The recovery of a sweep as a table: how much of the clean answer each place restores, with intervals."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from pbb_probe.patching.metrics import recovery
from pbb_probe.schema import Draws, Seed, checks_arguments
from pbb_probe.statistics.groups import interval_table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@checks_arguments
def recovery_table(
    effects: "xr.Dataset", clusters: Sequence[Hashable], draws: Draws = 10_000, seed: Seed = 0
) -> "pd.DataFrame":
    """The recovery at each place of a sweep, as a ratio of means over the pairs.

    Args:
        effects: from `patch_sweep`.
        clusters: what each pair belongs to, such as its program [pair]; these are resampled whole.
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row a site and combination of its dimensions ([metric,] layer, [head | kv_head,] role | position): `recovery`
        with `lower` and `upper` of its 95 % interval, `n` pairs and `clusters`. Cells that were not patched have none.

    Raises:
        PbbError: what `recovery` refuses, of any metric.
    """
    import pandas as pd

    several = "metric" in effects.dims
    metrics = [effects.isel(metric=[i]) for i in range(effects.sizes["metric"])] if several else [effects]
    tables = []
    for one in metrics:
        recovered = recovery(one)
        weights = recovered["weight"].values.ravel()
        for site, values in recovered.items():
            found = interval_table(values.transpose(..., "pair"), clusters, weights, draws, seed)
            tables.append(found.rename(columns={"mean": "recovery"}).assign(site=site))
    table = pd.concat(tables, ignore_index=True)
    numbers = ["recovery", "lower", "upper", "n", "clusters"]
    return table[["site", *table.columns.drop(["site", *numbers]), *numbers]]
