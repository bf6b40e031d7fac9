"""Brewing by group: how often each outcome and how late each layer, with intervals over programs, beside a control."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.evidence.layers import subsets
from pbb_probe.probing.brewing import LAYERS, OUTCOMES
from pbb_probe.probing.controls import SHUFFLED
from pbb_probe.statistics.groups import compare_groups, each_kind, interval_table
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def brewing_table(
    outcomes: "pd.DataFrame",
    labels: "pd.DataFrame",
    by: Sequence[str] = ("group",),
    cluster: str = "program",
    control: "pd.DataFrame | None" = None,
    draws: int = 10_000,
    seed: int = 0,
) -> "pd.DataFrame":
    """The share of prompts with each outcome and the mean layers of brewing, of each group.

    Args:
        outcomes: from `brewing`.
        labels: of the same prompts, with the columns `by` and `cluster`.
        by: columns such as group and steps; each combination of their values has rows of its own.
        cluster: the column that says which prompts belong together; these are resampled whole.
        control: `brewing` of the same probes and lens scored against other prompts' values: `shuffled_correct` of
            `fit_probes(..., controls=["shuffled"])`, and `correct` of the lens of `shuffled_values`, of the same seed;
            `answered` and `candidates` stay. What it shows comes by chance.
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row a group and measure: `mean` with `lower` and `upper` of its 95 % interval, `n` prompts and `clusters`, and
        with a control its mean, `control`. The measures are the `OUTCOMES`, whose means are shares of the prompts that
        have the value (the paper's shares leave out `no_brewing`), and the `LAYERS`, whose means are over the prompts
        in which there is such a layer: `n` of them, which may be few and are no random sample.

    Raises:
        PbbError: lengths that differ, or a column that the labels do not have.
    """
    import pandas as pd

    if lacking := [name for name in (*by, cluster) if name not in labels]:
        raise PbbError(f"The labels have no column {lacking[0]!r}: {', '.join(map(str, labels.columns))} are there.")
    tables = [outcomes] if control is None else [outcomes, control]
    if wrong := [len(table) for table in tables if len(table) != len(labels)]:
        raise PbbError(f"There are {wrong[0]} outcomes and {len(labels)} rows of labels: give a row a prompt to both.")
    measured = [brewing_measures(table) for table in tables]
    parts = []
    for kind, rows in each_kind(labels[list(by)]):
        programs = labels[cluster][rows].tolist()
        part = interval_table(measured[0].isel(prompt=rows), programs, draws=draws, seed=seed)
        if control is not None:
            chance = measured[1].isel(prompt=rows).mean("prompt").to_series()
            part["control"] = part["measure"].map(chance).astype(float)
        parts.append(part.assign(**kind))
    table = pd.concat(parts, ignore_index=True)
    numbers = ["mean", "lower", "upper", "n", "clusters", *(["control"] if control is not None else [])]
    return table[[*by, "measure", *numbers]]


def brewing_measures(outcomes: "pd.DataFrame") -> "xr.DataArray":
    """(measure, prompt): 1 for a prompt's outcome and 0 for the others, and its layers; NaN where there is none.

    With `compare_groups` it says where groups differ.
    """
    import numpy as np
    import xarray as xr

    known = outcomes["outcome"].notna()
    rows = [(outcomes["outcome"] == name).where(known).astype(float) for name in OUTCOMES]
    rows += [outcomes[name] for name in LAYERS]
    return xr.DataArray(
        np.stack(rows).astype(float), dims=("measure", "prompt"), coords={"measure": [*OUTCOMES, *LAYERS]}
    )


def lens_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """`compare_groups` of a study's lens by decode, variable, role and layer, with the column `subset` (all, correct).

    `shuffled` is the share right when prompts are judged by the values of others. No lens, no rows.
    """
    import pandas as pd

    if not run.holds("probing/lens.nc"):
        return pd.DataFrame(columns=["decode", "variable", "role", "layer", "subset"])
    looked, prompts = run.array("probing/lens")["correct"], run.table("probing/prompts")
    names = [name for name in looked["variable"].values if not name.startswith(SHUFFLED)]
    tables = []
    for subset, rows in subsets(prompts["correct"]):
        chosen = prompts[rows]
        if chosen["group"].nunique() < 2:
            continue
        some = looked.isel(prompt=rows).transpose("decode", "variable", "role", "layer", "prompt")
        table = compare_groups(some.sel(variable=names), group=chosen["group"], clusters=chosen["program"], **settings)
        control = some.sel(variable=[SHUFFLED + name for name in names]).mean("prompt").assign_coords(variable=names)
        luck = control.rename("shuffled").to_dataframe().reset_index()
        tables.append(table.merge(luck, how="left").assign(subset=subset))
    return pd.concat(tables, ignore_index=True)


def outcome_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """`brewing_table` of each variable of a study by group and steps, beside its control. No brewing, no rows."""
    import pandas as pd

    if not run.holds("probing/brewing.csv"):
        return pd.DataFrame(columns=["variable", "group", "steps", "measure", "mean"])
    brewed, prompts = run.table("probing/brewing"), run.table("probing/prompts")
    tables = []
    for variable, found in brewed.groupby("variable", sort=False):
        own, control = (found[found["control"] == is_control].reset_index(drop=True) for is_control in (False, True))
        known = own["outcome"].notna().to_numpy()
        table = brewing_table(own[known], prompts[known], by=("group", "steps"), control=control[known], **settings)
        tables.append(table.assign(variable=variable))
    return pd.concat(tables, ignore_index=True)
