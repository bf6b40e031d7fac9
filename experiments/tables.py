"""Tables for the summaries in results/."""

import pandas as pd


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table; numbers to two digits, missing ones empty."""

    def cell(value) -> str:
        if isinstance(value, float):
            return "" if value != value else f"{value:.2f}".rstrip("0").rstrip(".")
        return str(value)

    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)
