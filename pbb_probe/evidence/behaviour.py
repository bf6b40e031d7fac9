"""The table of behaviour: of all calls and of decisive ones, of all programs and of new and of known functions."""

from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.subsets import DECISIVE
from pbb_probe.evidence.tables import CELL, accuracy
from pbb_probe.labels import label
from pbb_probe.programs.meaning import NEW

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def behaviour_table(behaviour: "xr.Dataset", **settings: Any) -> "pd.DataFrame":
    """`tables.accuracy` of each cell, of more and more telling calls.

    Args:
        behaviour: from `evaluate`.
        settings: `draws` and `seed`.

    Returns:
        The columns of `accuracy`, with `calls` (all, or decisive) and `programs` (all; of those without examples also
        new functions and known functions) after the cell's own, and the number of programs as `n_programs`. `accuracy`
        itself where calls do not say whether they are decisive.
    """
    import numpy as np
    import pandas as pd

    if DECISIVE not in behaviour.coords:
        return accuracy(behaviour, **settings)
    every = np.ones(behaviour.sizes["call"], bool)
    of_calls = {"all": every, DECISIVE: label(behaviour, DECISIVE).eq(True).to_numpy(bool)}
    of_programs = {"all": every}
    if "novelty" in behaviour.coords:
        novelty = label(behaviour, "novelty")
        new = novelty.isin(NEW).to_numpy(bool)
        of_programs |= {"new functions": new, "known functions": novelty.notna().to_numpy(bool) & ~new}
    parts = []
    for calls, chosen in of_calls.items():
        for programs, known in of_programs.items():
            if not (rows := chosen & known).any():
                continue
            table = accuracy(behaviour.isel(call=rows), **settings).rename(columns={"programs": "n_programs"})
            table.insert(len(CELL), "calls", calls)
            table.insert(len(CELL) + 1, "programs", programs)
            parts.append(table)
    return pd.concat(parts, ignore_index=True)
