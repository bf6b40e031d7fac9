"""The behaviour table is held to means, counts and chance worked out by hand on a dozen calls."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.evidence import tables

CALLS = [  # program, group, mode, steps, seen, input, output, correct
    ("f", "with_io", "direct", 1, True, 0, 4, True),
    ("f", "with_io", "direct", 1, True, 1, 4, True),
    ("g", "with_io", "direct", 1, True, 2, 7, True),
    ("f", "with_io", "direct", 1, False, 3, 2, True),
    ("g", "with_io", "direct", 1, False, 3, 5, False),
    ("h", "without_io", "direct", 2, False, 0, 1, False),
    ("h", "without_io", "direct", 2, False, 1, 1, True),
    ("h", "without_io", "direct", 2, False, 2, 1, False),
    ("h", "without_io", "direct", 2, False, 3, 6, False),
    ("h", "without_io", "trace", 2, False, 0, 1, False),
    ("k", "without_io", "trace", 2, False, 0, 8, True),
    ("k", "without_io", "trace", 2, False, 1, 9, True),
]


def behaviour(calls=CALLS) -> xr.Dataset:
    columns = ["program", "group", "mode", "steps", "seen", "input", "output", "correct"]
    table = pd.DataFrame(calls, columns=columns).rename_axis("call")
    table["family"] = np.where(table["program"] == "k", "composed", "arithmetic")
    table["answer"] = np.where(table["correct"], table["output"], -1).astype(str)
    table["forced"] = table["correct"].where(table["mode"] == "direct").astype(float)
    return xr.Dataset.from_dataframe(table).set_coords([*columns[:-1], "family"])


def cells(table: pd.DataFrame) -> dict[tuple, dict]:
    return table.set_index(list(tables.CELL)).to_dict("index")


def test_every_cell_by_hand():
    table = cells(tables.accuracy(behaviour(), draws=2000))
    seen = table["direct", "with_io", "arithmetic", 1, True]
    unseen = table["direct", "with_io", "arithmetic", 1, False]
    direct = table["direct", "without_io", "arithmetic", 2, False]
    trace = table["trace", "without_io", "arithmetic", 2, False]
    composed = table["trace", "without_io", "composed", 2, False]
    every = (seen, unseen, direct, trace, composed)
    assert len(table) == 5
    assert [cell["mean"] for cell in every] == pytest.approx([1, 1 / 2, 1 / 4, 0, 1])
    assert [cell["n"] for cell in every] == [3, 2, 4, 1, 2]
    assert [cell["programs"] for cell in every] == [2, 2, 1, 1, 1]
    assert [cell["chance"] for cell in every] == pytest.approx([2 / 3, 1 / 2, 3 / 4, 1, 1 / 2])


def test_intervals_by_hand():
    table = cells(tables.accuracy(behaviour(), draws=2000))
    bounds = {key: (cell["lower"], cell["upper"]) for key, cell in table.items()}
    assert bounds["direct", "with_io", "arithmetic", 1, True] == (1, 1)  # all right
    assert bounds["direct", "with_io", "arithmetic", 1, False] == (0, 1)  # one program right, one wrong: 1/4 of draws
    assert bounds["direct", "without_io", "arithmetic", 2, False] == (0.25, 0.25)  # a single program
    assert bounds["trace", "without_io", "composed", 2, False] == (1, 1)


def test_the_forced_choice_is_averaged_where_there_is_one():
    table = cells(tables.accuracy(behaviour(), draws=50))
    assert table["direct", "with_io", "arithmetic", 1, False]["forced"] == 1 / 2
    assert np.isnan(table["trace", "without_io", "composed", 2, False]["forced"])


def test_models_of_several_finetunings_are_resampled_with_their_programs():
    """One model is right throughout and the other wrong: half of the resamples of two models hold but one."""
    right, wrong = (behaviour([(*call[:-1], value) for call in CALLS]) for value in (True, False))
    both = xr.concat(
        [right.assign_coords(model=("call", ["a"] * 12)), wrong.assign_coords(model=("call", ["b"] * 12))], "call"
    )
    row = tables.accuracy(both, by=("mode",), models="model", draws=500).set_index("mode").loc["direct"]
    assert row[["mean", "lower", "upper", "models", "n", "programs"]].tolist() == [0.5, 0, 1, 2, 18, 6]
