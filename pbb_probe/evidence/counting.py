"""Which rows of tables count most, and whether they rest on enough programs."""

from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.gate import ENOUGH
from pbb_probe.evidence.subsets import DECISIVE

if TYPE_CHECKING:
    import pandas as pd


def best_subset(table: "pd.DataFrame", kind: list[str]) -> "pd.DataFrame":
    """Of each kind the rows that count most: of decisive calls, which are none where nothing is evaluated.

    Where the table tells no decisive calls apart, those of matched pairs, or of those answered right where there are no
    matched ones.

    Args:
        table: with the column `subset`.
        kind: the columns that name a kind.
    """
    if table.empty:
        return table
    if (table["subset"] == DECISIVE).any():
        return table[table["subset"] == DECISIVE]
    best = table[table["subset"] != "all"].groupby(kind)["subset"].transform("max")  # correct comes before matched
    return table[table["subset"] == best.reindex(table.index)]


def programs_of(onsets: "pd.DataFrame") -> int:
    """How many programs a kind's onsets rest on: those of its pairs or of its prompts, whichever are fewer.

    Args:
        onsets: rows of one kind and subset of `onsets`. Where programs were not counted, pairs and prompts are.
    """
    counts = []
    for way in ("used", "read", "lens"):
        n, *units = (
            onsets[name].max() if (name := f"{way}_{of}") in onsets else 0 for of in ("n", "programs", "clusters")
        )
        if n > 0:
            counts.append(next((count for count in units if count > 0), n))
    return int(min(counts, default=0))


def with_pairs(differences: "pd.DataFrame") -> "pd.DataFrame":
    """A table of differences with its columns `first` and `second`, which earlier releases left to be understood."""
    return differences if "first" in differences else differences.assign(first="with_io", second="without_io")


def programs_in(differences: "pd.DataFrame") -> "pd.DataFrame":
    """How many programs the pair of groups of each row of `compare_groups` has: the columns `first` and `second`."""
    import pandas as pd

    rows = with_pairs(differences).to_dict(orient="records")
    counts = {side: [programs_behind(row, row[side]) for row in rows] for side in ("first", "second")}
    return pd.DataFrame(counts, index=differences.index, dtype=float)


def programs_behind(row: dict[str, Any], group: str) -> float:
    """How many programs of a group a row rests on: its clusters, where it does not say."""
    programs = row.get(f"programs_{group}", float("nan"))
    return float(programs if programs == programs else row[f"clusters_{group}"])


def enough_programs(differences: "pd.DataFrame") -> "pd.Series":
    """Of each row of `compare_groups`: do both groups of its pair have `ENOUGH` programs?"""
    return programs_in(differences).min(axis=1) >= ENOUGH


def too_few(*n: int) -> str:
    """What is said of so many programs, in one group or in each of both."""
    return f"too few programs (n = {' and '.join(map(str, n))})"
