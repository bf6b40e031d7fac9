"""Which rows of a table of behaviour stand beside the headline, `evidence.gate.headline`.

Known functions pass for new programs, and half an evaluation for a whole one: all calls and known functions are further
rows. A table of an earlier release tells neither apart, and all of it is the headline.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

EVERY, DECISIVE, NEW, KNOWN = "all", "decisive", "new functions", "known functions"
"""Values of the columns `calls` and `programs`, which say of which calls and programs a row is."""


def tells_apart(behaviour: "pd.DataFrame") -> bool:
    """Does the table say which of its rows are of decisive calls?"""
    return "calls" in behaviour


def beside(behaviour: "pd.DataFrame", calls: str = EVERY, programs: str = EVERY) -> "pd.DataFrame":
    """The rows of these calls and programs; none of a table that does not tell them apart."""
    if not tells_apart(behaviour):
        return behaviour[:0]
    return behaviour[(behaviour["calls"] == calls) & (behaviour["programs"] == programs)]
