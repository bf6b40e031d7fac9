"""Which groups a table has, and which two of them each of its rows compares: nothing assumes that there are two.

A table of `compare_groups` has a row a place and pair of groups. What is said of a group alone (`mean_GROUP` and the
like) stands in the rows of every pair. Tables of earlier releases have two groups and do not name the pair.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.programs.program import GROUPS

if TYPE_CHECKING:
    import pandas as pd

Pair = tuple[Any, Any]
"""Two groups, of which the second is taken from the first."""
FIRST, SECOND = "first", "second"


def in_order(groups: Iterable[Any]) -> list[Any]:
    """Each once: those of programs in the order of `GROUPS`, then others as they come."""
    there = list(dict.fromkeys(groups))
    return [*(group for group in GROUPS if group in there), *(group for group in there if group not in GROUPS)]


def groups_of(table: "pd.DataFrame", of: str = "mean") -> list[str]:
    """The groups whose columns `OF_GROUP` a table of comparisons has; those that have a value, if any has."""
    named = [name for name in map(str, table) if name.startswith(f"{of}_")]
    valued = [name for name in named if table[name].notna().any()]
    return in_order(name.removeprefix(f"{of}_") for name in valued or named)


def pairs_of(table: "pd.DataFrame", groups: Sequence[Any] | None = None, of: str = "mean") -> list[Pair]:
    """The pairs of these groups, or of all, that a table compares.

    In tables that do not name them the difference is the first in sorted order minus the second.
    """
    known = groups_of(table, of) if groups is None else list(groups)
    if FIRST not in table:
        return [(min(known), max(known))] if len(known) == 2 else []
    there = set(zip(table[FIRST], table[SECOND], strict=True))
    order = in_order([*known, *(group for pair in there for group in pair)])
    chosen = [pair for pair in there if set(pair) <= set(known)]
    return sorted(chosen, key=lambda pair: [order.index(group) for group in pair])


def of_pair(table: "pd.DataFrame", pair: Pair) -> "pd.DataFrame":
    """The rows that compare these two; all rows of a table that does not name them."""
    return table if FIRST not in table else table[(table[FIRST] == pair[0]) & (table[SECOND] == pair[1])]


def by_pair(
    table: "pd.DataFrame", groups: Sequence[Any] | None = None, of: str = "mean"
) -> "Iterator[tuple[Pair, pd.DataFrame]]":
    """Each pair that a table compares, with its rows."""
    return ((pair, of_pair(table, pair)) for pair in pairs_of(table, groups, of))


def once(table: "pd.DataFrame", *place: str) -> "pd.DataFrame":
    """A row a place in place of one a place and pair: what is said of the groups, and not of pairs of them."""
    if FIRST not in table or table.empty:
        return table
    return table.groupby(list(place), sort=False, dropna=False, as_index=False).first()


def apart_from(table: "pd.DataFrame", group: Any, place: Sequence[str], groups: Sequence[Any]) -> "pd.DataFrame":
    """The adjusted p of a group and each of the others [place, other], missing where they were not compared."""
    import pandas as pd

    columns = {}
    for pair, cells in by_pair(table, groups):
        if group in pair:
            (other,) = (each for each in pair if each != group)
            columns[other] = cells.drop_duplicates(list(place)).set_index(list(place))["p_adjusted"]
    index = table.set_index(list(place)).index.unique()
    return pd.DataFrame({other: p.reindex(index) for other, p in columns.items()}, index=index)


def minus(pair: Pair) -> str:
    """What a difference is of, in words."""
    return f"{pair[0]} minus {pair[1]}"
