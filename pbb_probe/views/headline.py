"""Which rows of behaviour are the headline: decisive calls, and of programs without examples those of new functions.

Known functions pass for new programs, and half an evaluation for a whole one: all calls and known functions are further
rows. A table of an earlier release tells neither apart, and all of it is the headline.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

CALLS, PROGRAMS = "calls", "programs"
"""The columns that say which calls, and of which programs, a row counts."""
EVERY, DECISIVE, NEW, KNOWN = "all", "decisive", "new functions", "known functions"


def tells_apart(behaviour: "pd.DataFrame") -> bool:
    """Does the table say which of its rows are of decisive calls?"""
    return CALLS in behaviour


def headline(behaviour: "pd.DataFrame") -> "pd.DataFrame":
    """Decisive calls: of new functions in groups that have rows of them, of all programs in the others."""
    if not tells_apart(behaviour):
        return behaviour
    decisive = behaviour[behaviour[CALLS] == DECISIVE]
    if not _named(decisive):
        return decisive
    new = set(decisive.loc[decisive[PROGRAMS] == NEW, "group"])
    wanted = [NEW if group in new else EVERY for group in decisive["group"]]
    return decisive[decisive[PROGRAMS] == wanted]


def beside(behaviour: "pd.DataFrame", calls: str = EVERY, programs: str = EVERY) -> "pd.DataFrame":
    """The rows of these calls and programs, which stand beside the headline; none where the table has none."""
    if not tells_apart(behaviour):
        return behaviour[:0]
    chosen = behaviour[behaviour[CALLS] == calls]
    return chosen[chosen[PROGRAMS] == programs] if _named(chosen) else chosen[: None if programs == EVERY else 0]


def _named(behaviour: "pd.DataFrame") -> bool:
    """Does `programs` name them? It is their number in tables that do not tell them apart."""
    programs: Any = behaviour.get(PROGRAMS)
    return programs is not None and programs.map(lambda value: isinstance(value, str)).all()
