"""A run's probes and patching as tables by layer: both groups, on all prompts and on those answered right."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.patching.pairs import SWAPS
from pbb_probe.programs.corpus import GROUPS
from pbb_probe.statistics.groups import compare_groups
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr


def probing_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """`compare_groups` of probe correctness by target, site, role and layer, with the column `subset` (all, correct).

    `chance` is the share of the target's most common value.
    """
    import pandas as pd

    probes, prompts = run.array("probing/probes"), run.table("probing/prompts")
    tables = []
    for subset, rows in subsets(prompts["correct"]):
        chosen = prompts[rows]
        if chosen["group"].nunique() < 2:
            continue
        values = probes["correct"].isel(prompt=rows).transpose("target", "site", "role", "layer", "prompt")
        table = compare_groups(values, group=chosen["group"], clusters=chosen["program"], **settings)
        chance = {name: chosen[name].value_counts(normalize=True).max() for name in probes["target"].values}
        tables.append(table.assign(subset=subset, chance=table["target"].map(chance)))
    return pd.concat(tables, ignore_index=True)


def patching_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """`compare_groups` of recovery by swap, site, role and layer, with the column `subset` (all, correct)."""
    import pandas as pd

    tables = []
    for swap in SWAPS:
        for subset, values, pairs in _recoveries(run, swap):
            table = compare_groups(
                values,
                group=pairs["group"],
                clusters=pairs["program"],
                weights=values["weight"].values.tolist(),
                **settings,
            )
            tables.append(table.assign(swap=swap, subset=subset))
    return pd.concat(tables, ignore_index=True)


def _recoveries(run: Run, swap: str) -> "Iterator[tuple[str, xr.DataArray, pd.DataFrame]]":
    """For each subset that both groups have pairs in: its name, recovery (site, role, layer, pair), and the pairs."""
    import pandas as pd
    import xarray as xr

    effects = {group: run.array(f"patching/{swap}_{group}") for group in GROUPS}
    pairs = {group: run.table(f"patching/{swap}_{group}") for group in GROUPS}
    for subset in ("all", "correct"):
        chosen = {group: dict(subsets(pairs[group]["correct"])).get(subset) for group in GROUPS}
        if any(rows is None for rows in chosen.values()):
            continue
        parts = [recovery_or_nothing(effects[group].isel(pair=chosen[group])).to_array("site") for group in GROUPS]
        values = xr.concat(parts, dim="pair").transpose("site", "role", "layer", "pair")
        yield subset, values, pd.concat([pairs[group][chosen[group]] for group in GROUPS], ignore_index=True)


def recovery_or_nothing(effects: "xr.Dataset") -> "xr.Dataset":
    """Recovery, missing throughout where the model does not tell clean from corrupted: nothing will be located."""
    from pbb_probe.patching.metrics import recovery

    try:
        return recovery(effects)
    except PbbError:
        nothing = effects.drop_vars(["clean", "corrupted"]) * float("nan")
        return nothing.assign_coords(weight=("pair", [1.0] * effects.sizes["pair"]))


def subsets(correct: "pd.Series | np.ndarray") -> "Iterator[tuple[str, np.ndarray]]":
    """Rows of all prompts, and of those answered correctly where there are any."""
    import numpy as np

    right = np.asarray(correct, dtype=bool)
    yield "all", np.ones(len(right), bool)
    if right.any():
        yield "correct", right
