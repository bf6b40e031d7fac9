"""Probes as a table: how well each place is read, by the target's own probe and by each control."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from pbb_probe.comparison.statistics import interval_table
from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

PROBE = "probe"
"""The `run` of the targets' own probes."""


def probe_table(
    probes: "xr.Dataset",
    targets: "pd.DataFrame",
    clusters: Sequence[Hashable],
    by: "Mapping[str, Sequence[Hashable]] | None" = None,
    draws: int = 10_000,
    seed: int = 0,
) -> "pd.DataFrame":
    """Accuracy, or of numbers R squared, at each place on prompts whose cluster the probe did not see.

    Args:
        probes: from `fit_probes`.
        targets: what it was given.
        clusters: what each prompt belongs to [prompt]; these are resampled whole.
        by: labels of the prompts by name, such as group, whose values get rows of their own [prompt].
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row a run (`probe`, and each control), target, site, layer, role and combination of the values of `by`:
        `measure` (accuracy or r2), `score` with `lower` and `upper` of its 95 % interval, `n` prompts and `clusters`.
        R squared is 1 - (squared errors) / (squared deviations from the mean of these prompts), as a ratio of sums.

    Raises:
        PbbError: lengths that differ.
    """
    import numpy as np
    import pandas as pd
    import xarray as xr

    n = probes.sizes["prompt"]
    labels = pd.DataFrame({name: list(values) for name, values in (by or {}).items()}, index=range(n))
    if len(targets) != n or len(clusters) != n:
        raise PbbError(f"There are {n} prompts, {len(targets)} rows of targets and {len(clusters)} clusters.")
    kinds = (
        labels.drop_duplicates().sort_values(list(labels)).to_dict(orient="records") if len(labels.columns) else [{}]
    )
    tables = []
    for variable, measure in (("correct", "accuracy"), ("predicted", "r2")):
        if variable not in probes:
            continue
        own = probes[variable].expand_dims(run=[PROBE])
        control = f"control_{variable}"
        every = xr.concat([own, probes[control].rename(control="run")], "run") if control in probes else own
        for kind in kinds:
            rows = np.flatnonzero(
                np.logical_and.reduce([labels[name] == v for name, v in kind.items()] or [np.ones(n, bool)])
            )
            belongs = [list(clusters)[i] for i in rows]
            for target in probes["target"].values:
                values = every.sel(target=[target]).isel(prompt=rows).transpose(..., "prompt")
                if not np.isfinite(values).any():
                    continue
                weights = None
                if measure == "r2":
                    right = pd.to_numeric(targets[target]).to_numpy(float)[rows]
                    weights = np.nan_to_num((right - np.nanmean(right)) ** 2)
                    values = weights - (values - right) ** 2
                found = interval_table(values, belongs, weights, draws, seed)
                tables.append(found.rename(columns={"mean": "score"}).assign(measure=measure, **kind))
    table = pd.concat(tables, ignore_index=True)
    first = [*labels.columns, "run", "target", "site", "layer", "role", "measure"]
    return table[[*first, "score", "lower", "upper", "n", "clusters"]]
