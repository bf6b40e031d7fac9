"""The tables in results/, as they are written today whatever release wrote them."""

from pathlib import Path

import pandas as pd

MEASUREMENT = {"patched": "none", "probe": "none"}
"""What stood for the measurement itself beside its controls, when the column `control` was called `run`."""


def read_published(path: Path) -> pd.DataFrame:
    """A table, with its controls in the column `control`."""
    table = pd.read_csv(path)
    if "run" not in table:
        return table
    return table.assign(run=table["run"].replace(MEASUREMENT)).rename(columns={"run": "control"})
