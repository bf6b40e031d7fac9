"""Every outcome from a trajectory written by hand; layers counted as one would on paper."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.probing.brewing import brewing

NONE = np.nan


def trajectories(*rows, layers=None) -> xr.DataArray:
    """(layer, prompt) of one row of digits a prompt; `h` is 0.5 and `-` missing."""
    number = {"0": 0.0, "1": 1.0, "h": 0.5, "t": 2 / 3, "-": NONE}
    values = np.array([[number[letter] for letter in row] for row in rows]).T
    return xr.DataArray(values, dims=("layer", "prompt"), coords={"layer": layers or range(len(values))})


def confidence(*tails) -> xr.DataArray:
    """(layer, value, prompt) of 8 layers and 3 values: sure of another value below the tail, of the last one in it."""
    values = np.zeros((8, 3, len(tails)))
    values[:6, 0] = 1.0
    values[6:, 2] = tails
    values[6:, 1] = 1 - np.array(tails)
    return xr.DataArray(values, dims=("layer", "value", "prompt"), coords={"layer": range(8)})


def outcomes(probe, said, answered, tails, **settings) -> xr.Dataset:
    return brewing(trajectories(*probe), trajectories(*said), np.array(answered), confidence(*tails), **settings)


def test_every_outcome_by_hand():
    table = outcomes(
        probe=["00111111", "01000111", "00110000", "00001111", "10000001", "00000000", "-0000000", "00hhtttt"],
        said=["00000111", "11100000", "00100000", "11110000", "01111110", "11111111", "11111111", "00000011"],
        answered=[True, False, False, False, True, True, True, True],
        tails=[1.0, 1.0, 0.1, 0.7, 0.6, 0.9, 0.9, 0.9],
        threshold=0.75,
    )
    expected = [
        # first decodable, self-decodable, joint, brewing, stable decodable, stable self-decodable
        ("resolved", 2, 5, 5, 3, 2, 5),
        ("overprocessed", 1, 0, 1, 0, 5, NONE),
        ("overprocessed", 2, 2, 2, 0, NONE, NONE),
        ("unresolved", 4, 0, NONE, NONE, 4, NONE),  # 0.7 is below the threshold
        ("unresolved", 0, 1, NONE, NONE, 7, NONE),  # although it is answered right
        ("no_brewing", NONE, 0, NONE, NONE, NONE, 0),
        (None, NONE, NONE, NONE, NONE, NONE, NONE),  # there is no value
        ("resolved", 4, 6, 6, 2, 4, 6),  # half of the probes are not most of them
    ]
    columns = ["first_decodable", "first_self_decodable", "first_joint", "brewing"]
    columns += ["stable_decodable", "stable_self_decodable"]
    assert [row[0] for row in expected] == [value or None for value in table["outcome"].values]
    found = table[columns].to_dataframe().reset_index(drop=True)
    pd.testing.assert_frame_equal(
        found, pd.DataFrame([row[1:] for row in expected], columns=columns), check_dtype=False
    )


def test_confidence_is_that_of_one_value_over_the_tail():
    probe, said = ["00001111"] * 3, ["11110000"] * 3
    table = outcomes(probe, said, [False] * 3, [0.5, 0.3, 0.6])
    assert table["tail_confidence"].values.tolist() == pytest.approx([0.5, 0.7, 0.6])  # the likelier of two values
    assert (table["outcome"] == "misresolved").all()
    whole = outcomes(probe, said, [False] * 3, [0.5, 0.3, 0.6], tail=0.0)
    assert whole["tail_confidence"].values.tolist() == pytest.approx([0.75] * 3)  # 6 of 8 layers are sure of the first
    undecided = confidence(1.0, 1.0, 1.0)
    undecided[7, [1, 2], :] = undecided[7, [2, 1], :].values  # one value at layer 6 and the other at layer 7
    table = brewing(trajectories(*probe), trajectories(*said), np.zeros(3), undecided, threshold=0.51)
    assert table["tail_confidence"].values.tolist() == pytest.approx([0.5] * 3)
    assert (table["outcome"] == "unresolved").all()


def test_layers_have_their_own_numbers_and_any_order():
    layers = [2, 4, 7, 11]
    probe, said = trajectories("0111", layers=layers), trajectories("0011", layers=layers)
    sure = xr.DataArray(
        np.array([0.0, 0.0, 0.0, 0.9])[:, None, None],
        dims=("layer", "value", "prompt"),
        coords={"layer": layers},
    )
    expected = brewing(probe, said, np.array([True]), sure)
    assert [expected[name].item() for name in ("first_decodable", "first_joint", "brewing")] == [4, 7, 3]
    assert expected["brewing_share"].item() == 3 / 12
    assert expected["tail_confidence"].item() == 0.9  # of the layers from 9 on, as there are 12
    mixed = brewing(
        probe.isel(layer=[3, 1, 0, 2]).T, said, np.array([True]), sure.isel(layer=[1, 0, 3, 2]).transpose(..., "value")
    )
    xr.testing.assert_identical(mixed, expected)


def test_chance_alone_decodes_as_often_as_the_docstring_says():
    rng = np.random.default_rng(0)
    noise = xr.DataArray(rng.random((6, 4000)) < 0.1, dims=("layer", "prompt"), coords={"layer": range(6)})
    other = noise.copy(data=rng.random((6, 4000)) < 0.1)
    sure = xr.DataArray(np.full((6, 1, 4000), 0.1), dims=("layer", "value", "prompt"), coords={"layer": range(6)})
    table = brewing(noise, other, np.zeros(4000), sure)
    assert table["first_decodable"].notnull().mean() == pytest.approx(1 - 0.9**6, abs=0.03)
    assert table["stable_decodable"].notnull().mean() == pytest.approx(0.1, abs=0.02)
    assert table["first_joint"].notnull().mean() == pytest.approx(1 - 0.99**6, abs=0.02)


def test_controls_that_both_have_stand_beside_it_and_labels_stay():
    probe, said = trajectories("0111", "0011"), trajectories("0011", "0000")
    sure = xr.DataArray(np.ones((4, 1, 2)), dims=("layer", "value", "prompt"), coords={"layer": range(4)})
    labelled = probe.assign_coords(program=("prompt", ["dax", "lug"]), prompt_correct=("prompt", [True, False]))
    probes = xr.concat([labelled, 1 - labelled, 0 * labelled], "control").assign_coords(
        control=["none", "chance", "shuffled"]
    )
    looks = xr.concat([said, 1 - said], "control").assign_coords(control=["none", "shuffled"])
    found = brewing(probes, looks, "prompt_correct", sure)
    assert found["control"].values.tolist() == ["none", "shuffled"]
    for control, read, looked in (("none", probe, said), ("shuffled", 0 * probe, 1 - said)):
        alone = brewing(read, looked, np.array([True, False]), sure)
        xr.testing.assert_identical(
            found.sel(control=control, drop=True).drop_vars(["program", "prompt_correct"]), alone
        )
    assert found["outcome"].sel(control="none").values.tolist() == ["resolved", "misresolved"]
    assert found["program"].values.tolist() == ["dax", "lug"]
    assert "control" not in brewing(probe, looks, np.array([True, False]), sure).dims


PROBE, SURE = trajectories("00000001", "00000011"), confidence(1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decodable": PROBE.expand_dims("site")}, "decodable has the dimensions site, layer, prompt"),
        ({"confidence": SURE.isel(value=0)}, "confidence has the dimensions layer, prompt and needs"),
        ({"self_decodable": PROBE.isel(layer=[0, 1])}, "same layers"),
        ({"self_decodable": PROBE.isel(prompt=[0])}, r"\[2, 1, 2\] prompts"),
        ({"answered": np.array([True])}, "2 prompts and 1 answers"),
        ({"tail": 1.0}, "share of the depth"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    given = {"decodable": PROBE, "self_decodable": PROBE, "answered": np.array([True, False]), "confidence": SURE}
    with pytest.raises(PbbError, match=message):
        brewing(**(given | change))
