"""The behaviour table is held to means, counts and chance worked out by hand on a dozen calls."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.evidence.behaviour import accuracy_table

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
    return xr.Dataset.from_dataframe(table).set_coords([*columns[:-1], "family"])


def cells(table: pd.DataFrame) -> dict[tuple, dict]:
    keys = ["model", "mode", "group", "family", "steps", "seen"]
    return table.set_index(keys).to_dict("index")


def test_every_cell_by_hand():
    table = cells(accuracy_table({"finetuned": behaviour()}, draws=2000))
    seen = table["finetuned", "direct", "with_io", "arithmetic", 1, True]
    unseen = table["finetuned", "direct", "with_io", "arithmetic", 1, False]
    direct = table["finetuned", "direct", "without_io", "arithmetic", 2, False]
    trace = table["finetuned", "trace", "without_io", "arithmetic", 2, False]
    composed = table["finetuned", "trace", "without_io", "composed", 2, False]
    every = (seen, unseen, direct, trace, composed)
    assert len(table) == 5
    assert [cell["mean"] for cell in every] == pytest.approx([1, 1 / 2, 1 / 4, 0, 1])
    assert [cell["n"] for cell in every] == [3, 2, 4, 1, 2]
    assert [cell["programs"] for cell in every] == [2, 2, 1, 1, 1]
    assert [cell["chance"] for cell in every] == pytest.approx([2 / 3, 1 / 2, 3 / 4, 1, 1 / 2])


def test_intervals_by_hand():
    table = cells(accuracy_table({"finetuned": behaviour()}, draws=2000))
    bounds = {key[1:]: (cell["lower"], cell["upper"]) for key, cell in table.items()}
    assert bounds["direct", "with_io", "arithmetic", 1, True] == (1, 1)  # all right
    assert bounds["direct", "with_io", "arithmetic", 1, False] == (0, 1)  # one program right, one wrong: 1/4 of draws
    assert bounds["direct", "without_io", "arithmetic", 2, False] == (0.25, 0.25)  # a single program
    assert bounds["trace", "without_io", "composed", 2, False] == (1, 1)


def test_models_stand_one_after_the_other():
    wrong = behaviour([(*call[:-1], False) for call in CALLS])
    table = accuracy_table({"finetuned": behaviour(), "base": wrong}, draws=50)
    assert list(table["model"]) == ["finetuned"] * 5 + ["base"] * 5
    assert (table.loc[table["model"] == "base", ["mean", "lower", "upper"]] == 0).all(axis=None)
    chance = table.pivot(index=["mode", "group", "family", "steps", "seen"], columns="model", values="chance")
    assert (chance["base"] == chance["finetuned"]).all()
