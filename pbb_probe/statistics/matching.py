"""Rows of two groups that match, so that the groups do not differ by what their rows happen to hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.labels import labels_of
from pbb_probe.statistics.resampling import in_order

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr


def matched_rows(
    labels: "pd.DataFrame | xr.Dataset | xr.DataArray", on: Sequence[str], group: str = "group", seed: int = 0
) -> "np.ndarray":
    """Rows drawn so that every combination of some labels' values is as frequent in one group as in any other.

    Where all groups have a combination, the group with the fewest rows of it keeps them all, and as many are drawn from
    the others, without replacement. Rows of combinations that a group lacks are left out.

    Args:
        labels: an array with labels, or a table with a row a prompt or pair, such as `prompts.labels`.
        on: the labels to match on; a missing value is a value.
        group: the label with two values or more.
        seed: of the draw.

    Returns:
        Positions of the rows drawn, ascending: `values.isel(prompt=rows)`.

    Raises:
        PbbError: less than two groups, no label or an unknown one, or nothing in common.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"group": list("aaab"), "steps": [1, 2, 2, 2]})
        >>> len(matched_rows(table, ["steps"]))
        2
    """
    import numpy as np
    import pandas as pd

    if not isinstance(labels, pd.DataFrame):
        labels = labels_of(labels)
    unknown = [name for name in (group, *on) if name not in labels]
    if unknown or not len(on):
        raise PbbError(f"Rows cannot be matched on {unknown or 'nothing'}: choose labels of {list(labels)}.")
    of_row = labels[group].to_numpy()
    names = in_order(of_row.tolist())
    if len(names) < 2:
        raise PbbError(f"Two groups or more are matched; these rows have {len(names)}: {names}.")
    rng = np.random.default_rng(seed)
    kind = labels.groupby(list(on), dropna=False, observed=True, sort=False).ngroup().to_numpy()
    drawn = []
    for number in range(kind.max() + 1):
        groups = [np.flatnonzero((kind == number) & (of_row == name)) for name in names]
        drawn += [rng.choice(rows, min(map(len, groups)), replace=False) for rows in groups]
    chosen: np.ndarray = np.sort(np.concatenate(drawn))
    if not len(chosen):
        raise PbbError(f"The groups have no combination of {list(on)} in common: match on fewer columns.")
    return chosen
