"""Where variables are used is held to transfer maps and recoveries that can be read by eye."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from by_eye import FEW, NAN, layers, right

from pbb_probe.errors import PbbError
from pbb_probe.evidence.onsets import located_patching, located_use

SITES, ROLES = ("resid_pre", "attn_out", "mlp_out"), ("name", "input", "answer")
HYPOTHESES = ("nothing", "everything", "program", "input", "state_1", "steps_to_1", "other")
BY_EYE = {
    ("resid_pre", "name", "program"): [1, 0.25, 1, 0, 0],
    ("resid_pre", "input", "input"): [1, 1, 0, 0.25, 0],
    ("mlp_out", "answer", "state_1"): [0, 0, 1, 0, 0],
    ("attn_out", "answer", "state_1"): [0, 0.25, 0, 1, 0],
    ("attn_out", "answer", "everything"): [1, 0, 0, 0, 0],  # program and input arrive together
    ("mlp_out", "answer", "everything"): [0, 0, 0, 1, 0.25],
    # and what says nothing: the stream at the answer, components elsewhere, other hypotheses
    ("resid_pre", "answer", "everything"): [1, 1, 1, 1, 1],
    ("resid_pre", "answer", "state_1"): [1, 1, 1, 1, 1],
    ("mlp_out", "name", "state_1"): [1, 1, 1, 1, 1],
    ("attn_out", "input", "everything"): [1, 1, 1, 1, 1],
    ("mlp_out", "answer", "steps_to_1"): [1, 0, 0, 0, 1],
}


def transfer(
    curves=BY_EYE, sites=SITES, roles=ROLES, states: bool = True, group: str = "with_io", steps: int = 2, first: int = 0
) -> xr.Dataset:
    """A map of four pairs of four programs, whose shares by layer are those given, and 0 elsewhere."""
    n_layers = len(next(iter(curves.values())))
    arrays = {}
    for site in sites:
        zero = [0.0] * n_layers
        arrays[site] = (
            ("layer", "role", "hypothesis", "pair"),
            np.array(
                [
                    [[right(curves.get((site, role, hyp), zero)[at]) for hyp in HYPOTHESES] for role in roles]
                    for at in range(n_layers)
                ]
            ),
        )
    carried = xr.Dataset(
        arrays,
        coords={
            "layer": range(n_layers),
            "role": list(roles),
            "hypothesis": list(HYPOTHESES),
            "corrupted_program": ("pair", [f"program {first + i}" for i in range(4)]),
            "group": ("pair", [group] * 4),
            "steps": ("pair", [steps] * 4),
        },
    )
    return carried if states else carried.where(~carried["hypothesis"].isin(["state_1", "steps_to_1"]))


def test_each_variable_is_where_its_rule_says():
    table = located_use(transfer(), **FEW).set_index("variable")
    assert table["layer"].to_dict() == {"program": 2, "input": 1, "state_1": 2, "output": 3}
    assert table["role"].to_dict() == {"program": "name", "input": "input", "state_1": "answer", "output": "answer"}
    assert table["edge"].to_dict() == {"program": "last", "input": "last", "state_1": "once", "output": "last"}
    assert table["peak"].tolist() == [1.0] * 4
    assert (table["n"] == 4).all()
    assert (table["clusters"] == 4).all()
    assert table[["n", "clusters"]].dtypes.tolist() == [int, int]
    # one pair of four is two of four or more in every fourth resample
    assert table[["lower", "upper"]].T.to_dict("list") == {
        "program": [2, 2],
        "input": [1, 3],
        "state_1": [1, 2],
        "output": [3, 4],
    }
    assert (table["found"] == 1).all()


def test_the_threshold_is_a_share_of_pairs():
    curves = BY_EYE | {("resid_pre", "name", "program"): [1, 1, 0.75, 0.5, 0.25]}
    found = [layers(located_use(transfer(curves), threshold=share, **FEW))["program"] for share in (0.25, 0.5, 0.6, 1)]
    assert found == [4, 3, 2, 1]
    none = located_use(transfer({("mlp_out", "answer", "state_1"): [0.25, 0.5, 0.25]}), threshold=0.6, **FEW)
    assert none.set_index("variable").loc["state_1", "peak"] == 0.5
    assert none["layer"].isna().all()


def test_what_random_vectors_do_as_well_does_not_count():
    patched = transfer({("resid_pre", "name", "program"): [1, 1, 1, 0.25]})
    chance = transfer({("resid_pre", "name", "program"): [0, 0.25, 0.75, 1]})
    alike = xr.concat([patched, chance, patched], pd.Index(["none", "random", "self"], name="control"))
    with_random, without = (located_use(found, **FEW) for found in (alike, alike.drop_sel(control="random")))
    assert layers(with_random)["program"] == 1
    assert layers(without)["program"] == 2
    curves = {("resid_pre", "name", "program"): [0.75, 0.25]}
    less = xr.concat(
        [transfer(curves), transfer({next(iter(curves)): [0.25, 0]})], pd.Index(["none", "random"], name="control")
    )
    assert located_use(less, **FEW)["peak"][0] == 0.5


def test_groups_and_numbers_of_steps_stand_side_by_side():
    later = {place: [0, *curve[:-1]] for place, curve in BY_EYE.items()}
    both = xr.concat(
        [
            transfer(first=0),
            transfer(later, group="without_io", first=4),
            transfer(later, steps=1, states=False, first=8),
        ],
        "pair",
    )
    table = located_use(both, **FEW)
    assert layers(table, "group", "steps") == {
        ("with_io", 1, "program"): 3,
        ("with_io", 1, "input"): 2,
        ("with_io", 1, "output"): 4,  # and no state
        ("with_io", 2, "program"): 2,
        ("with_io", 2, "input"): 1,
        ("with_io", 2, "state_1"): 2,
        ("with_io", 2, "output"): 3,
        ("without_io", 2, "program"): 3,
        ("without_io", 2, "input"): 2,
        ("without_io", 2, "state_1"): 3,
        ("without_io", 2, "output"): 4,
    }
    together = located_use(both.isel(pair=both["group"].values == "with_io"), by=["group"], **FEW)
    assert together.set_index("variable")["n"].to_dict() == {"program": 8, "input": 8, "state_1": 4, "output": 8}
    assert layers(together)["state_1"] == 2
    assert set(located_use(both, by=(), **FEW)["n"]) == {12, 8}


def test_a_group_without_states_has_no_row_for_them():
    table = located_use(transfer(states=False), by=["group"], **FEW)
    assert table["variable"].tolist() == ["program", "input", "output"]


@pytest.mark.parametrize(
    ("sites", "roles", "expected"),
    [
        (SITES, ("name", "answer"), {"program": 2, "state_1": 2, "output": 3}),
        (SITES, ("name", "input"), {"program": 2, "input": 1}),
        (("resid_pre",), ROLES, {"program": 2, "input": 1}),
        (("attn_out",), ROLES, {"state_1": 3, "output": 0}),
        (("mlp_out", "attn_out"), ("answer",), {"state_1": 2, "output": 3}),
    ],
)
def test_variables_whose_site_or_role_is_lacking_are_left_out(sites, roles, expected):
    assert layers(located_use(transfer(sites=sites, roles=roles), **FEW)) == expected


def test_programs_are_the_unit():
    """Two programs of two pairs each, one carried at layer 1 and one not at all: half of the resamples are mixed."""
    carried = transfer({("resid_pre", "name", "program"): [0.5, 0.5]})
    carried = carried.assign_coords(corrupted_program=("pair", ["a", "a", "b", "b"]))
    row = located_use(carried, threshold=0.75, draws=2000).iloc[0]
    assert np.isnan(row["layer"])
    assert row["clusters"] == 2
    assert row["found"] == pytest.approx(1 / 4, abs=0.04)  # the carried one twice; of single pairs it would be 5/16
    named = located_use(carried.assign_coords(other=("pair", list("abcd"))), clusters="other", draws=2000)
    assert named["clusters"][0] == 4


def test_pairs_without_a_coordinate_are_refused():
    with pytest.raises(PbbError, match=r"no coordinate 'family': .*program"):
        located_use(transfer(), by=["family"])
    with pytest.raises(PbbError, match="no coordinate 'model'"):
        located_use(transfer(), clusters="model")


def test_recovery_is_located_at_the_variables_own_place_as_a_ratio_of_means():
    """Two pairs, of which the second is three times as far apart: (1 * 0 + 3 * 1) / 4 of it is recovered in layer 0."""
    weight = [0.5, 1.5]
    own = np.array([[0.0, 1.5], [0.25, 0.75], [0.0, 0.0]])  # means 3/4, 1/2, 0
    values = np.stack([np.ones((3, 2)), own])[None]  # at the answer everything is recovered everywhere
    recovered = xr.DataArray(
        values,
        dims=("site", "role", "layer", "pair"),
        coords={
            "site": ["resid_pre"], "role": ["answer", "name"], "layer": [0, 1, 2], "weight": ("pair", weight),
            "program": ("pair", ["a", "a"]), "group": ("pair", ["with_io"] * 2), "steps": ("pair", [2, 2]),
        },
    )  # fmt: skip
    for threshold, layer in ((0.5, 1), (0.6, 0)):
        row = located_patching(recovered, "program", threshold=threshold, **FEW).iloc[0]
        assert (row["layer"], row["role"], row["edge"]) == (layer, "name", "last")
        assert row["peak"] == pytest.approx(0.75)
    assert located_patching(recovered, "input", **FEW).empty  # whose place was not patched
    nowhere = located_patching(recovered * NAN, "program", **FEW).iloc[0]
    assert np.isnan([nowhere["layer"], nowhere["peak"]]).all()
