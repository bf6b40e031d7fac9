"""The behaviour table: accuracy of several models by group, mode, steps and seen or unseen input, with intervals."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pbb_probe.schema import Draws, Seed, checks_arguments
from pbb_probe.statistics.groups import cluster_bootstrap

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CELL = ["mode", "group", "family", "steps", "seen"]


@checks_arguments
def accuracy_table(behaviours: "Mapping[str, xr.Dataset]", draws: Draws = 10_000, seed: Seed = 0) -> "pd.DataFrame":
    """Accuracy in every cell of mode x group x steps x seen, one after the other for each model.

    Args:
        behaviours: what `evaluate` returned, by the name the model shall have in the table.
        draws: bootstrap resamples of programs.
        seed: of the resamples.

    Returns:
        A row a model and cell: mean, lower and upper (95 %, cluster bootstrap over programs), forced (the mean of the
        forced choice, where there is one), n calls, programs, and chance, the share of the most common right answer.
    """
    import pandas as pd

    rows = []
    for model, behaviour in behaviours.items():
        for cell, calls in behaviour.to_dataframe().groupby(CELL):
            interval = cluster_bootstrap(calls["correct"].to_numpy(float), calls["program"], draws, seed)
            rows.append(
                {
                    "model": model,
                    **dict(zip(CELL, cell, strict=True)),
                    **{name: float(value) for name, value in interval._asdict().items()},
                    "forced": calls["forced"].mean() if "forced" in calls else float("nan"),
                    "n": len(calls),
                    "programs": calls["program"].nunique(),
                    "chance": calls["output"].value_counts(normalize=True).max(),
                }
            )
    return pd.DataFrame(rows)
