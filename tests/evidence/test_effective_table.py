"""Tables of effective programs, on arrays whose shares are counted by hand."""

import numpy as np
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.evidence.effective import OUTCOMES

NAMES = list("abcdefgh")
DIFFERENCES = ["none", "none", "unclear", "a constant", "none", "unclear", "unclear", "the order"]


def computed(mode: str = "direct", differences=DIFFERENCES) -> xr.Dataset:
    labels = {
        "group": ["with_io"] * 4 + ["without_io"] * 4,
        "steps": [1, 1, 2, 2] * 2,
        "novelty": [""] * 4 + ["new_function", "same_body"] * 2,
        "function": ["f1", "f1", "f2", "f2", "f3", "f3", "f4", "f4"],
        "mode": [mode] * 8,
    }
    coordinates = {name: ("program", np.array(values, object)) for name, values in labels.items()}
    coordinates["steps"] = ("program", np.array(labels["steps"]))
    return xr.Dataset({"difference": ("program", np.array(differences, object))}, {"program": NAMES, **coordinates})


def recitations(correct) -> xr.Dataset:
    labels = {"program": ("call", np.array(NAMES[: len(correct)], object))}
    mode = {"mode": ("call", np.array(["recite"] * len(correct), object))}
    return xr.Dataset({"correct": ("call", np.array(correct, bool))}, labels | mode)


def shares(table, what="difference"):
    return {tuple(row[:-1]): row[-1] for row in table[["group", what, "share"]].values.tolist()}


def test_shares_of_each_difference_are_those_counted_by_hand():
    table = pbb.tables.effective(computed(), by=("group",), draws=500)
    assert table.columns.tolist() == ["group", "mode", "difference", "share", "lower", "upper", "n"]
    assert shares(table) == {
        ("with_io", "none"): 0.5,
        ("with_io", "the order"): 0.0,
        ("with_io", "a constant"): 0.25,
        ("with_io", "unclear"): 0.25,
        ("without_io", "none"): 0.25,
        ("without_io", "the order"): 0.25,
        ("without_io", "a constant"): 0.0,
        ("without_io", "unclear"): 0.5,
    }
    assert set(table["n"]) == {4}
    assert (table["lower"] <= table["share"]).all()
    assert (table["share"] <= table["upper"]).all()


def test_functions_can_be_resampled_whole():
    array = computed()
    table = pbb.tables.effective(array, by=(), clusters="function", draws=500, seed=3)
    right = (array["difference"] == "none").values.astype(float)
    interval = pbb.tables.cluster_bootstrap(right, array["function"].values.tolist(), draws=500, seed=3)
    assert table.columns.tolist() == ["mode", "difference", "share", "lower", "upper", "n"]
    assert table.loc[0, ["share", "lower", "upper"]].tolist() == [float(bound) for bound in interval]
    assert table.loc[0, "n"] == 8


def test_modes_stand_beside_each_other():
    both = xr.concat([computed(), computed("trace", ["none"] * 8)], "program")
    table = pbb.tables.effective(both, by=("group", "steps", "novelty"), draws=50)
    assert table.columns.tolist()[:5] == ["group", "steps", "novelty", "mode", "difference"]
    assert table[(table["mode"] == "trace") & (table["difference"] == "none")]["share"].tolist() == [1.0] * 6
    assert set(table["n"]) == {1, 2}


def test_what_becomes_of_programs_that_are_recited():
    recited = recitations([True, False, True, True, True, False, True, False])
    table = pbb.tables.effective(computed(), recited, by=("group",), draws=50)
    assert shares(table, "outcome") == {
        ("with_io", "recalled and computed"): 0.25,
        ("with_io", "recalled and computed wrongly"): 0.25,
        ("with_io", "recalled and not computed"): 0.25,
        ("with_io", "computed and not recalled"): 0.25,
        ("with_io", "not recalled"): 0.0,
        ("without_io", "recalled and computed"): 0.25,
        ("without_io", "recalled and computed wrongly"): 0.0,
        ("without_io", "recalled and not computed"): 0.25,
        ("without_io", "computed and not recalled"): 0.0,
        ("without_io", "not recalled"): 0.5,
    }
    assert table["outcome"].tolist()[:5] == list(OUTCOMES)


def test_finetunings_of_the_same_names_are_not_mixed():
    first, second = (computed().assign_coords(seed=("program", [seed] * 8)) for seed in (0, 1))
    recited = [
        recitations([right] * 8).assign_coords(seed=("call", [seed] * 8)) for seed, right in ((0, True), (1, False))
    ]
    table = pbb.tables.effective(
        xr.concat([first, second], "program"), xr.concat(recited, "call"), by=("seed",), models="seed", draws=50
    )
    by_seed = table.pivot(index="seed", columns="outcome", values="share")
    assert by_seed["recalled and computed"].tolist() == [3 / 8, 0]
    assert by_seed["computed and not recalled"].tolist() == [0, 3 / 8]


def test_what_is_missing_is_named():
    with pytest.raises(PbbError, match="h was not recited: evaluate"):
        pbb.tables.effective(computed(), recitations([True] * 7))
    with pytest.raises(PbbError, match="no coordinate 'colour'"):
        pbb.tables.effective(computed(), by=("colour",))
    with pytest.raises(PbbError, match="There are no programs"):
        pbb.tables.effective(computed().isel(program=[]))
