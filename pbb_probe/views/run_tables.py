"""Tables of a run: each is asked for here and nowhere else in the report and its figures."""

from typing import TYPE_CHECKING, Any

from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd

CONTROL, MEASURED = "run", ("patched", "probe")
"""The column that tells a measurement from its controls, and what it holds for the measurement itself."""


def read_table(run: Run, name: str, step: str = "comparison") -> "pd.DataFrame":
    """A table of a finished step."""
    return run.table(f"{step}/{name}")


def rows(table: "pd.DataFrame", **values: Any) -> "pd.DataFrame":
    """The rows with these values; none where the table lacks such a column."""
    for name, value in values.items():
        table = table[table[name] == value] if name in table else table.iloc[:0]
    return table


def measured_rows(table: "pd.DataFrame", **values: Any) -> "pd.DataFrame":
    """The rows of the measurement itself, and of none of its controls."""
    cells = rows(table, **values)
    return cells[cells[CONTROL].isin(MEASURED)] if CONTROL in cells else cells.iloc[:0]


def control_rows(table: "pd.DataFrame", control: str, **values: Any) -> "pd.DataFrame":
    """The rows of one control."""
    return rows(table, **{CONTROL: control}, **values)
