"""The words follow from the tables: what was found with its interval and n, "not found" where nothing was."""

import pandas as pd
import pytest

from pbb_probe.comparison.verdict import describe

GROUPS = ("with_io", "without_io")


def behaviour(direct: float, lower: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": "finetuned", "mode": "direct", "group": group, "steps": 1, "seen": False,
            "mean": direct, "lower": lower, "upper": direct + 0.1, "n": 50, "programs": 10, "chance": 0.12,
        }
        for group in GROUPS
    )  # fmt: skip


def located(state: float) -> pd.DataFrame:
    places = [
        ("patching", "program", "name", 3), ("patching", "program", "answer", 4), ("patching", "input", "input", 0),
        ("patching", "input", "answer", 1), ("probing", "op_1", "answer", 2), ("probing", "state_1", "answer", state),
        ("probing", "output", "answer", 5),
    ]  # fmt: skip
    return pd.DataFrame(
        {"measure": m, "variable": v, "role": r, "layer": layer, "lower": layer, "upper": layer, "n": 40, "clusters": 9,
         "subset": "correct", "group": group}
        for m, v, r, layer in places for group in GROUPS
    )  # fmt: skip


def compared(p: float, variable: str) -> pd.DataFrame:
    return pd.DataFrame(
        {"subset": ["correct"], "site": "resid_pre", "layer": 2, "role": "name", variable: "x", "p_adjusted": p,
         "mean_with_io": 0.9, "mean_without_io": 0.4, "difference": 0.5, "lower": 0.3, "upper": 0.7}
    )  # fmt: skip


def words(direct=0.6, lower=0.5, state=float("nan"), p=0.01) -> str:
    return " ".join(describe(behaviour(direct, lower), located(state), compared(p, "swap"), compared(p, "target"), 0.5))


def test_places_are_named_with_interval_and_n():
    text = words(state=3.0)
    assert "its name up to the input of block 3 [3, 3]" in text
    assert "the intermediate state after block 3 [3, 3]" in text
    assert "40 pairs with the program swapped" in text
    assert "not found" not in text


def test_what_was_not_found_is_said():
    assert words().count("the intermediate state nowhere (not found)") == 2


@pytest.mark.parametrize(("p", "said"), [(0.01, "at 1 of 1 places"), (0.2, "no difference was found")])
def test_a_difference_needs_an_adjusted_p(p, said):
    assert said in words(p=p)


def test_without_behaviour_nothing_is_located():
    text = words(direct=0.13, lower=0.08)
    assert "locate nothing" in text
    assert "block" not in text
