"""The table of a transfer map is held to shares counted by hand and to a slow bootstrap over programs."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.evidence import tables

NAN = float("nan")
PROGRAMS = ["a", "a", "b", "b", "c", "d"]
STEPS = [1, 1, 1, 1, 2, 2]


@pytest.fixture
def by_hand() -> xr.Dataset:
    """Two layers, one place; only the two-step pairs have the hypothesis `state_1`."""
    values = [
        [[1, 1, 1, 0, 0, 0], [NAN, NAN, NAN, NAN, 1, 0], [0, 0, 0, 1, 0, 1]],
        [[1, 1, 1, 1, 1, 1], [NAN, NAN, NAN, NAN, 0, 0], [0, 0, 0, 0, 0, 0]],
    ]
    return xr.Dataset(
        {"resid_pre": (("control", "layer", "role", "hypothesis", "pair"), np.array(values)[None, :, None])},
        coords={
            "control": ["none"],
            "layer": [3, 7],
            "role": ["answer"],
            "hypothesis": ["nothing", "state_1", "other"],
            "corrupted_program": ("pair", PROGRAMS),
            "steps": ("pair", STEPS),
        },
    )


def large(seed: int = 0) -> xr.Dataset:
    """Random shares that differ by program, at a site with heads and one without."""
    rng = np.random.default_rng(seed)
    programs = np.repeat(np.arange(40), rng.integers(1, 6, size=40))
    chance = rng.random(40)[programs]
    heads, rest = (
        (rng.random((*shape, len(programs))) < chance).astype(float) for shape in ((2, 3, 4, 2, 5), (2, 3, 2, 5))
    )
    dims = ("control", "layer", "role", "hypothesis", "pair")
    return xr.Dataset(
        {"z": ((*dims[:2], "head", *dims[2:]), heads), "mlp_out": (dims, rest)},
        coords={
            "control": ["none", "random"],
            "layer": range(3),
            "role": ["name", "answer"],
            "hypothesis": list("vwxyz"),
            "corrupted_program": ("pair", programs),
            "group": ("pair", np.where(programs < 25, "with_io", "without_io")),
        },
    )


def test_shares_and_counts_by_hand(by_hand):
    table = tables.transfer(by_hand, by=(), draws=200)
    assert list(table.columns) == [
        *("site", "control", "layer", "role", "hypothesis"),
        *("proportion", "lower", "upper", "n", "programs", "clusters"),
    ]
    found = table.set_index(["layer", "hypothesis"])
    expected = {
        (3, "nothing"): (3 / 6, 6, 4),
        (3, "state_1"): (1 / 2, 2, 2),
        (3, "other"): (2 / 6, 6, 4),
        (7, "nothing"): (1, 6, 4),
        (7, "state_1"): (0, 2, 2),
        (7, "other"): (0, 6, 4),
    }
    assert {where: tuple(row) for where, row in found[["proportion", "n", "programs"]].iterrows()} == expected
    certain = found.loc[7, ["proportion", "lower", "upper"]]
    assert (certain.nunique(axis=1) == 1).all()
    assert (found["lower"][3] < found["proportion"][3]).all()
    assert (found["upper"][3] > found["proportion"][3]).all()


def test_pairs_may_be_split(by_hand):
    table = tables.transfer(by_hand, by=["steps"], draws=200)
    assert list(table.columns[:2]) == ["steps", "site"]
    found = table[table["layer"] == 3].set_index(["steps", "hypothesis"])[["proportion", "n", "programs"]]
    assert {where: tuple(row) for where, row in found.iterrows()} == {
        (1, "nothing"): (3 / 4, 4, 2),
        (1, "other"): (1 / 4, 4, 2),  # and no row for state_1
        (2, "nothing"): (0, 2, 2),
        (2, "state_1"): (1 / 2, 2, 2),
        (2, "other"): (1 / 2, 2, 2),
    }
    both = tables.transfer(by_hand, by=["steps", "corrupted_program"], draws=10)
    assert set(zip(both["steps"], both["corrupted_program"], strict=True)) == {(1, "a"), (1, "b"), (2, "c"), (2, "d")}


def test_every_cell_is_a_slow_bootstrap_over_programs():
    carried = large()
    table = tables.transfer(carried, by=(), draws=4000)
    assert len(table) == 2 * 3 * 4 * 2 * 5 + 2 * 3 * 2 * 5
    assert table["head"].notna().sum() == 2 * 3 * 4 * 2 * 5
    rng = np.random.default_rng(1)
    names = np.unique(carried["corrupted_program"])
    rows = {name: np.flatnonzero(carried["corrupted_program"] == name) for name in names}
    draws = [np.concatenate([rows[name] for name in rng.choice(names, len(names))]) for _ in range(4000)]
    for row in table.sample(30, random_state=0).to_dict(orient="records"):
        head = {} if np.isnan(row["head"]) else {"head": int(row["head"])}
        where = {name: row[name] for name in ("control", "layer", "role", "hypothesis")}
        values = carried[row["site"]].isel(head).sel(where).values
        lower, upper = np.percentile([values[drawn].mean() for drawn in draws], [2.5, 97.5])
        assert row["proportion"] == values.mean()
        assert row["lower"] == pytest.approx(lower, abs=0.02)
        assert row["upper"] == pytest.approx(upper, abs=0.02)
        assert (row["n"], row["programs"]) == (len(values), 40)


def test_the_unit_is_the_cluster():
    carried = large().assign_coords(row=("pair", range(large().sizes["pair"])))
    width = {
        cluster: tables.transfer(carried[["mlp_out"]], by=(), clusters=cluster, draws=2000).eval("upper - lower").mean()
        for cluster in ("corrupted_program", "row")
    }
    assert width["corrupted_program"] > 1.2 * width["row"]


def test_a_selection_will_do(by_hand):
    pd.testing.assert_frame_equal(
        tables.transfer(by_hand.sel(control="none"), by=(), draws=10), tables.transfer(by_hand, by=(), draws=10)
    )
    some = tables.transfer(by_hand.isel(pair=[0, 4]), by=(), draws=10)
    assert set(some["n"]) == {1, 2}
    both = tables.transfer(large(), by=["group"], draws=10)
    assert list(dict.fromkeys(both["group"])) == ["with_io", "without_io"]
    alone = tables.transfer(large().isel(pair=large()["group"].values == "without_io"), by=(), draws=10)
    expected = both[both["group"] == "without_io"].drop(columns="group").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected)


def test_many_cells_are_bootstrapped_in_parts(monkeypatch):
    whole = tables.transfer(large(), by=(), draws=50)
    monkeypatch.setattr("pbb_probe.statistics.groups.AT_ONCE", 7)
    pd.testing.assert_frame_equal(tables.transfer(large(), by=(), draws=50), whole)


def test_what_cannot_be_grouped_is_refused(by_hand):
    with pytest.raises(PbbError, match="no coordinate 'group'"):
        tables.transfer(by_hand, by=["group"])
    with pytest.raises(PbbError, match="no coordinate 'layer'"):
        tables.transfer(by_hand, by=["layer"])
    with pytest.raises(PbbError, match="no coordinate 'source'"):
        tables.transfer(by_hand, by=(), clusters="source")
    with pytest.raises(PbbError, match="no pairs"):
        tables.transfer(by_hand.isel(pair=[]), by=())
