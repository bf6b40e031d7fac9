"""Tables of a run: each is asked for here and nowhere else in the report and its figures."""

from typing import TYPE_CHECKING, Any

from pbb_probe.labels import CONTROL, NONE
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd


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
    return rows(table, **{CONTROL: NONE}, **values)


def control_rows(table: "pd.DataFrame", control: str, **values: Any) -> "pd.DataFrame":
    """The rows of one control."""
    return rows(table, **{CONTROL: control}, **values)
