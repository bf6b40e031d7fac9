"""Rows of two groups that match, so that the groups do not differ by what their rows happen to hold."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def matched_rows(labels: "pd.DataFrame", group: Sequence[Hashable], on: Sequence[str], seed: int = 0) -> "np.ndarray":
    """Rows drawn so that every combination of some columns' values is as frequent in one group as in the other.

    Where both groups have a combination, the group with fewer rows of it keeps them all, and as many are drawn from the
    other, without replacement. Rows of combinations that only one group has are left out.

    Args:
        labels: a row a prompt or pair, such as `prompts.labels`.
        group: the group of each row [row]; two values.
        on: the columns to match on; a missing value is a value.
        seed: of the draw.

    Returns:
        Positions of the rows drawn, ascending: `values.isel(prompt=rows)`, with `group` and `clusters` cut likewise.

    Raises:
        PbbError: not two groups, lengths that differ, no column or an unknown one, or nothing in common.
    """
    import numpy as np

    of_row = np.asarray(list(group))
    names = sorted(set(of_row.tolist()))
    if len(of_row) != len(labels):
        raise PbbError(f"There are {len(labels)} rows and {len(of_row)} groups: these must be equal.")
    if len(names) != 2:
        raise PbbError(f"Two groups are matched; these rows have {len(names)}: {names}.")
    unknown = [name for name in on if name not in labels]
    if unknown or not len(on):
        raise PbbError(f"Rows cannot be matched on {unknown or 'nothing'}: choose columns of {list(labels)}.")
    rng = np.random.default_rng(seed)
    kind = labels.groupby(list(on), dropna=False, observed=True, sort=False).ngroup().to_numpy()
    drawn = []
    for one in range(kind.max() + 1):
        first, second = (np.flatnonzero((kind == one) & (of_row == name)) for name in names)
        n = min(len(first), len(second))
        drawn += [rng.choice(rows, n, replace=False) for rows in (first, second)]
    chosen = np.sort(np.concatenate(drawn))
    if not len(chosen):
        raise PbbError(f"The groups have no combination of {list(on)} in common: match on fewer columns.")
    return chosen
