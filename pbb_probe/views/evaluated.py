"""What is not evaluated is not located: a sentence that says so stands in place of a map."""

from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.counting import programs_of, too_few
from pbb_probe.evidence.gate import ENOUGH
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd

GATE = "comparison/evaluation_gate"

COLUMNS = ("group", "evaluated", "sentence")
"""Of the gate, a table with a row a group and number of steps: are its decisive calls answered above chance?"""


def read_gate(run: Run) -> "pd.DataFrame | None":
    """The gate of a run; None of one of an earlier release, which has none."""
    return run.table(GATE) if run.holds(f"{GATE}.csv") else None


def closed(gate: "pd.DataFrame | None", **of: Any) -> "pd.DataFrame":
    """The rows of the gate that are not evaluated, of those with these values; none without a gate."""
    import pandas as pd

    if gate is None:
        return pd.DataFrame(columns=[*COLUMNS, *of])
    here = gate[~gate["evaluated"].astype(bool)]
    for name, value in of.items():
        here = here[here[name] == value]
    return here


def also_closed(gate: "pd.DataFrame | None", onsets: "pd.DataFrame") -> "pd.DataFrame | None":
    """The gate, closed too where the onsets of one subset of calls rest on fewer than `ENOUGH` programs."""
    if gate is None:
        return None
    gate = gate.copy()
    for (group, steps), here in onsets.groupby(["group", "steps"]) if len(onsets) else ():
        kind = (gate["group"] == group) & (gate["steps"] == steps) & gate["evaluated"].astype(bool)
        if kind.any() and (n := programs_of(here)) < ENOUGH:
            gate.loc[kind, list(COLUMNS[1:])] = [False, too_few(n)]
    return gate
