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


def transfer(states: dict[str, float]) -> pd.DataFrame:
    """The name carries the program up to block 1, the answer position everything from block 2, and a state somewhat."""
    columns = ["run", "site", "layer", "role", "hypothesis", "proportion"]
    cells = [
        *[("patched", "resid_pre", layer, "name", "program", 0.9 * (layer < 2)) for layer in range(3)],
        *[("patched", "resid_pre", layer, "answer", "input", 0.8 * (layer == 1)) for layer in range(3)],
        *[("patched", "resid_pre", layer, "answer", "everything", 0.7 * (layer == 2)) for layer in range(3)],
        *[(run, "mlp_out", 1, "answer", "state_1", share) for run, share in states.items()],
    ]
    table = pd.DataFrame(cells, columns=columns).assign(subset="correct", steps=2, n=40, programs=9)
    table["lower"], table["upper"] = table["proportion"] - 0.05, table["proportion"] + 0.05
    return pd.concat([table.assign(group=group) for group in GROUPS])


STATES = {"patched": 0.1, "random": 0.08}


def words(direct=0.6, lower=0.5, state=float("nan"), p=0.01, states=STATES) -> str:
    tables = (behaviour(direct, lower), located(state), compared(p, "swap"), compared(p, "target"), transfer(states))
    return " ".join(describe(*tables, 0.5))


def test_what_is_carried_is_named_with_interval_and_n():
    text = words()
    assert "2 steps (40 pairs of 9 programs): the name carries the program up to the input of block 1" in text
    assert (
        "the answer position carries the input from the input of block 1 (80% [75%, 85%]) and everything from" in text
    )
    assert "everything from the input of block 2 (70% [65%, 75%])" in text


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ({"patched": 0.1, "random": 0.08}, "up to 8% [3%, 13%]: no sign of an evaluation step by step"),
        ({"patched": 0.9, "random": 0.08}, "at most 90% [85%, 95%], at mlp_out of layer 1, answer"),
        ({"patched": 0.9, "random": 0.08}, "the program is evaluated step by step"),
        ({"patched": 0.19, "random": 0.08}, "the program is evaluated step by step"),
        ({"patched": 0.17, "random": 0.08}, "no sign of an evaluation step by step"),
        ({"patched": 0.9}, "without a control"),
    ],
)
def test_a_state_counts_as_carried_only_where_it_is_above_random_vectors(states, said):
    assert said in words(states=states)


def test_a_run_without_a_transfer_map_says_so():
    tables = (behaviour(0.6, 0.5), located(1.0), compared(0.2, "swap"), compared(0.2, "target"))
    text = " ".join(describe(*tables, transfer(STATES).iloc[:0], 0.5))
    assert text.count("transfer map: there is none") == 2


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
