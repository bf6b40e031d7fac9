"""Probes as a table: how well each place is read, by the target's own probe and by each control."""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.evidence.layers import subsets
from pbb_probe.schema import Draws, Seed, checks_arguments
from pbb_probe.statistics.groups import each_kind, interval_table
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

PROBE = "probe"
"""The `run` of the targets' own probes."""


@checks_arguments
def probe_table(
    probes: "xr.Dataset",
    targets: "pd.DataFrame",
    clusters: Sequence[Hashable],
    by: "Mapping[str, Sequence[Hashable]] | None" = None,
    draws: Draws = 10_000,
    seed: Seed = 0,
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
        `measure` (accuracy or r2), `score` with `lower` and `upper` of its 95 % interval, `n` prompts and `clusters`;
        of controls also `gain`, the probe's score minus the control's on the prompts that both read, with `gain_lower`
        and `gain_upper`. The gain over `selectivity` is Hewitt and Liang's selectivity. R squared is
        1 - (squared errors) / (squared deviations from the mean of these prompts), as a ratio of sums.

    Raises:
        PbbError: lengths that differ.
    """
    import numpy as np
    import pandas as pd
    import xarray as xr

    n = probes.sizes["prompt"]
    if len(targets) != n or len(clusters) != n:
        raise PbbError(f"There are {n} prompts, {len(targets)} rows of targets and {len(clusters)} clusters.")
    labels = pd.DataFrame({name: list(values) for name, values in (by or {}).items()}, index=range(n))
    tables = []
    for variable, measure in (("correct", "accuracy"), ("predicted", "r2")):
        if variable not in probes:
            continue
        own, control = probes[variable].expand_dims(run=[PROBE]), f"control_{variable}"
        every = xr.concat([own, probes[control].rename(control="run")], "run") if control in probes else own
        for kind, rows in each_kind(labels):
            belongs = list(itertools.compress(clusters, rows))
            for target in probes["target"].values:
                values, weights = every.sel(target=[target]).isel(prompt=rows).transpose(..., "prompt"), None
                if not np.isfinite(values).any():
                    continue
                if measure == "r2":
                    right = pd.to_numeric(targets[target]).to_numpy(float)[rows]
                    weights = np.nan_to_num((right - np.nanmean(right)) ** 2)
                    values = weights - (values - right) ** 2
                settings: dict[str, Any] = {"clusters": belongs, "weights": weights, "draws": draws, "seed": seed}
                found = interval_table(values, **settings).rename(columns={"mean": "score"})
                above = values.isel(run=0, drop=True) - values.isel(run=slice(1, None))
                gains = interval_table(above.transpose(*values.dims), **settings).drop(columns=["n", "clusters"])
                gains = gains.rename(columns={"mean": "gain", "lower": "gain_lower", "upper": "gain_upper"})
                found = found.merge(gains, how="left") if len(gains) else found
                tables.append(found.assign(measure=measure, **kind))
    table = pd.concat(tables, ignore_index=True)
    first = [*labels.columns, "run", "target", "site", "layer", "role", "measure"]
    last = [name for name in ("gain", "gain_lower", "gain_upper") if name in table]
    return table[[*first, "score", "lower", "upper", "n", "clusters", *last]]


def control_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """`probe_table` of a study's probes by group, with the column `subset` (all, correct)."""
    return _by_subset(run, lambda rows: [(run.array("probing/probes").isel(prompt=rows), {})], settings)


def across_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """The same of the probes that were fitted on either group, which `fitted_on` names."""

    def parts(rows: "np.ndarray") -> list:
        found = run.array("probing/groups").isel(prompt=rows)
        return [(found.sel(fitted_on=name), {"fitted_on": name}) for name in found["fitted_on"].values]

    return _by_subset(run, parts, settings).drop(columns="run")


def cosine_table(run: Run) -> "pd.DataFrame":
    """The cosines of a study's probe directions, a row a pair, target, site, layer and role."""
    return run.array("probing/cosines")["cosine"].to_dataframe().reset_index()


def _by_subset(run: Run, parts: "Callable[[np.ndarray], list]", settings: dict) -> "pd.DataFrame":
    """The table of each part of all prompts, and of those answered correctly where there are any."""
    import pandas as pd

    prompts, tables = run.table("probing/prompts"), []
    for subset, rows in subsets(prompts["correct"]):
        chosen = prompts[rows]
        for probes, names in parts(rows):
            by = {"group": chosen["group"].tolist()}
            table = probe_table(probes, chosen, chosen["program"].tolist(), by, **settings)
            tables.append(table.assign(subset=subset, **names))
    return pd.concat(tables, ignore_index=True)
