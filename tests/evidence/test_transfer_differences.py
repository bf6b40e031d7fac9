"""Differences of two groups' transfer maps, held to shares counted by hand and to all permutations of programs."""

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.evidence.differences import transfer_differences
from pbb_probe.labels import join

FEW = {"draws": 200, "seed": 0}


def both(maps: dict[str, xr.Dataset]) -> xr.Dataset:
    """Maps of groups, by the name of the group, as one."""
    return join([one.assign_coords(group=("pair", [name] * one.sizes["pair"])) for name, one in maps.items()], "pair")


def carried(values, first: int = 0, steps=1, hypotheses=("program", "other"), layers=(0, 1)) -> xr.Dataset:
    """A map whose `program` share at the first layer is given by pair, two pairs a program, and complements elsewhere.

    With the control `random` everything follows the program.
    """
    values = np.array(values, float)
    shares = np.stack([np.stack([values, 1 - values]), np.stack([1 - values, values])])[: len(layers)]
    both = np.stack([shares, np.ones_like(shares)])[:, :, None]
    return xr.Dataset(
        {"resid_pre": (("control", "layer", "role", "hypothesis", "pair"), both)},
        {
            "control": ["none", "random"],
            "layer": list(layers),
            "role": ["name"],
            "hypothesis": list(hypotheses),
            "corrupted_program": ("pair", [f"program {first + i // 2}" for i in range(len(values))]),
            "steps": ("pair", np.broadcast_to(steps, len(values))),
            "program": ("pair", [f"other {first + i}" for i in range(len(values))]),
        },
    )


def test_shares_and_their_differences_by_hand():
    maps = {"with_io": carried([1, 1, 1, 0, 0, 0]), "without_io": carried([1, 0, 0, 0], first=3)}
    table = transfer_differences(both(maps), **FEW).set_index(["layer", "hypothesis"])
    assert table.loc[(0, "program"), ["mean_with_io", "mean_without_io", "difference"]].tolist() == [
        1 / 2,
        1 / 4,
        1 / 4,
    ]
    assert table.loc[(0, "other"), "difference"] == pytest.approx(-1 / 4)
    assert table.loc[(1, "program"), "difference"] == pytest.approx(-1 / 4)
    assert table["n_with_io"].tolist() == [6] * 4
    assert table["clusters_without_io"].tolist() == [2] * 4
    assert (table["site"] == "resid_pre").all()
    assert (table["role"] == "name").all()
    assert (table["steps"] == 1).all()


def test_p_is_that_of_all_ways_to_call_programs_with_io():
    first, second = [1, 1, 1, 1, 1, 0, 1, 1], [0, 0, 1, 0, 0, 0, 1, 0]
    table = transfer_differences(both({"a": carried(first), "b": carried(second, first=4)}), by=(), draws=4000, seed=0)
    program = np.array(first + second).reshape(-1, 2).mean(axis=1)
    chosen = np.array(list(itertools.combinations(range(8), 4)))
    apart = np.abs([program[c].mean() - np.delete(program, c).mean() for c in chosen])
    exact = (apart >= apart[0] - 1e-12).mean()
    assert table["p"].to_numpy() == pytest.approx([exact] * 4, abs=0.015)
    assert table["p_adjusted"].tolist() == pytest.approx(table["p"].tolist())  # all four are one number
    assert "steps" not in table


def test_numbers_of_steps_are_compared_apart_and_only_where_both_groups_have_them():
    one = carried([1, 1, 1, 1, 0, 0, 0, 0, 1, 1], steps=[1] * 4 + [2] * 4 + [3] * 2)
    two = carried([0, 0, 1, 1, 1, 1, 1, 0], first=5, steps=[1, 1, 1, 1, 2, 2, 2, 2])
    table = transfer_differences(both({"with_io": one, "without_io": two}), **FEW)
    cell = table[(table["layer"] == 0) & (table["hypothesis"] == "program")].set_index("steps")
    assert cell["difference"].to_dict() == {1: 1 - 1 / 2, 2: 0 - 3 / 4}
    assert len(table) == 8
    whole = transfer_differences(both({"with_io": one, "without_io": two}), by=[], **FEW)
    assert whole["difference"][0] == pytest.approx(6 / 10 - 5 / 8)


def test_another_coordinate_may_be_the_unit_and_maps_may_be_one_run():
    one, two = carried([1, 1, 1, 0]).sel(control="none"), carried([0, 0, 0, 0], first=4)
    table = transfer_differences(both({"a": one, "b": two}), clusters="program", **FEW)
    assert table["clusters_a"].tolist() == [4] * 4
    assert table["difference"].tolist() == pytest.approx([3 / 4, -3 / 4, -3 / 4, 3 / 4])


@pytest.mark.filterwarnings("error")
def test_what_only_one_group_has_is_no_difference():
    one, two = carried([1, 1], hypotheses=("program", "state_1")), carried([1, 0], first=2, layers=(0,))
    table = transfer_differences(both({"a": one, "b": two}), **FEW).set_index(["layer", "hypothesis"])
    assert table.loc[(0, "program"), "difference"] == 1 / 2
    assert table["difference"].notna().sum() == 1
    assert table.loc[(1, "program"), ["mean_a", "n_b"]].tolist() == [0, 0]


def test_a_site_without_heads_is_compared_once():
    """Heads stand beside whole outputs: these have no head, and are not repeated for every one."""
    maps = {}
    for name, first, values in (("a", 0, [1, 1, 0, 0]), ("b", 2, [0, 0, 0, 0])):
        found = carried(values, first=first)
        heads = xr.concat([0 * found["resid_pre"], found["resid_pre"]], pd.Index([0, 1], name="head"))
        maps[name] = found.assign(z=heads.transpose("control", "layer", "head", ...))
    table = transfer_differences(both(maps), **FEW)
    assert table.groupby("site").size().to_dict() == {"resid_pre": 4, "z": 8}
    assert table[table["site"] == "resid_pre"]["head"].isna().all()
    found = table[(table["layer"] == 0) & (table["hypothesis"] == "program")].set_index(["site", "head"])
    assert found["difference"].tolist() == [1 / 2, 0, 1 / 2]
    assert found.loc[("z", 1), "difference"] == 1 / 2


def test_what_cannot_be_compared_is_refused():
    one = carried([1, 1, 0, 0])
    with pytest.raises(PbbError, match="Two groups or more are compared"):
        transfer_differences(both({"a": one}))
    with pytest.raises(PbbError, match="no values of steps that two groups have"):
        transfer_differences(both({"a": one, "b": carried([1, 1], first=4, steps=2)}))
    with pytest.raises(PbbError, match="no coordinate 'family'"):
        transfer_differences(both({"a": one, "b": one}), by=["family"])
    with pytest.raises(PbbError, match="no coordinate 'model'"):
        transfer_differences(both({"a": one, "b": one}), clusters="model")
