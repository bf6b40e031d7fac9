"""What is read, by probes and by the lens, is held to accuracies and controls that can be read by eye."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from by_eye import FEW, NAN, layers, onsets, right

from pbb_probe.errors import PbbError
from pbb_probe.evidence.onsets import how_evaluated, located_lens, located_reading

N = 80
ROLE_CURVES = {"name": [1, 0, 0, 0], "answer": [0, 0, 1, 0]}
LABELS = pd.DataFrame(
    {
        "program": [f"program {i // 2}" for i in range(N)],
        "group": "with_io",
        "steps": 2,
        **dict.fromkeys(("op_1", "op_2", "constant_1", "input"), 1.0),
        "state_1": 2.0,
        "output": 3,
    }
)


def probed(
    correct: dict[str, list[float]], controls: dict[str, list[float] | dict[str, list[float]]], role: str = "answer"
) -> xr.Dataset:
    """Probes of one site and role, with accuracies by layer; of controls those of every target or of some."""
    targets = list(correct)

    def rows(curve: list[float]) -> list[list[float]]:
        return [right(share, N) if share == share else [NAN] * N for share in curve]

    def of(control, target: str) -> list[float]:
        return control[target] if isinstance(control, dict) else control

    dims = ("control", "target", "site", "layer", "role", "prompt")
    every = {"none": correct, **controls}
    values = np.array([[rows(of(curve, target)) for target in targets] for curve in every.values()])
    probes = xr.Dataset(
        {"correct": (dims, values[:, :, None, :, None])},
        coords={
            "control": list(every),
            "target": targets,
            "site": ["resid_post"],
            "layer": range(values.shape[2]),
            "role": [role],
        },
    )
    return labelled(probes)


def labelled(array: xr.Dataset, labels: pd.DataFrame = LABELS) -> xr.Dataset:
    """The array with these labels of its prompts in place of those it has."""
    there = [name for name in array.coords if array[name].dims == ("prompt",)]
    return array.drop_vars(there).assign_coords({name: ("prompt", labels[name].to_numpy()) for name in labels})


def test_a_value_is_read_from_where_it_stays_read():
    probes = probed({"state_1": [1, 0.25, 0.75, 1], "output": [0, 0.25, 0.25, 1]}, {"chance": [0.25] * 4})
    table = located_reading(probes, **FEW)
    assert layers(table) == {"state_1": 2, "output": 3}
    assert table["role"].tolist() == ["answer"] * 2
    assert table["edge"].tolist() == ["first"] * 2
    assert table["n"].tolist() == [N, N]
    assert table["clusters"].tolist() == [N // 2, N // 2]
    assert table["peak"].tolist() == [1.0, 1.0]


def test_the_margin_is_on_the_gain_over_the_control():
    probes = probed({"output": [0.5, 0.625, 0.75, 1]}, {"chance": [0.5] * 4})  # gains 0, 1/4, 1/2, 1
    assert [layers(located_reading(probes, margin=m, **FEW))["output"] for m in (0.2, 0.3, 0.6)] == [1, 2, 3]
    lower = probed({"output": [0.5, 0.625]}, {"chance": [0.5] * 2})
    assert located_reading(lower, **FEW)["peak"].tolist() == [pytest.approx(0.25)]


def test_a_layer_is_named_only_where_nearly_all_resamples_have_one():
    """Gains of 1/4 and 1/2 at the only layer: resamples of 40 programs reach 0.2 in three of four cases, and in all."""
    for share, named in ((0.625, False), (0.75, True)):
        row = located_reading(probed({"output": [share]}, {"chance": [0.5]}), draws=400).iloc[0]
        assert (row["layer"] == row["layer"]) == named
        assert (row["found"] >= 0.95) == named


def test_the_strongest_control_is_chosen_layer_by_layer():
    """By either control alone, or by the one that is stronger on average, the onset or the peak would be another."""
    controls = {"chance": [0.5, 0.25, 0, 0], "shuffled": [0, 0.25, 0.5, 0.5]}
    row = located_reading(probed({"output": [0.5, 0.5, 0.75, 0.75]}, controls), margin=0.3, **FEW).iloc[0]
    assert row["layer"] == 1  # gains 0, 1/3, 1/2, 1/2
    assert row["peak"] == pytest.approx(0.5)


def test_a_control_that_is_always_right_leaves_nothing_to_gain():
    table = located_reading(probed({"output": [1, 1]}, {"chance": [0, 0], "relabelled": [1, 1]}), **FEW)
    assert table["layer"].isna().all()
    assert table["peak"].tolist() == [0.0]


def test_a_control_that_some_prompts_lack_is_compared_on_the_others():
    """Relabelled values are missing where the target has no such value: the probe is right wherever it is not."""
    probes = probed({"output": [0.5, 1]}, {"relabelled": [0.5, 0.5]})
    known = np.array([True, True, False, False] * (N // 4))
    kept = (probes["control"] == "none") | xr.DataArray(known, dims="prompt")
    probes = probes.assign(correct=probes["correct"].where(kept))
    row = located_reading(probes, margin=0.55, **FEW).iloc[0]
    assert row["layer"] == 1
    assert row["peak"] == 1.0


def test_a_control_that_a_target_lacks_does_not_count():
    controls = {"chance": [0.25] * 2, "relabelled": {"output": [0.75, 0.75], "op_1": [NAN, NAN]}}
    table = located_reading(probed({"output": [0.5, 1], "op_1": [0.75, 0.75]}, controls), margin=0.3, **FEW)
    assert layers(table) == {"output": 1, "program": 0}
    without = probed({"op_1": [1, 1], "output": [1, 1]}, {"relabelled": {"output": [0, 0], "op_1": [NAN, NAN]}})
    table = located_reading(without, **FEW)
    assert table["layer"].isna().tolist() == [True, False]  # nothing is read without anything to compare with


def test_the_embedding_is_no_control_of_what_may_stand_in_the_tokens():
    targets = ("op_1", "op_2", "constant_1", "input", "state_1", "output")
    probes = probed({name: [1, 1] for name in targets}, {"chance": [0.25] * 2, "embedding": [1, 1]})
    table = located_reading(probes, **FEW).set_index("variable")
    assert table["layer"].notna().to_dict() == {
        **{"program": True, "op_2": True, "constant_1": True, "input": True},
        **{"state_1": False, "output": False},
    }


def test_the_program_is_also_read_off_the_embeddings_where_they_are_a_control():
    """Three of four right, a quarter of them by chance: two thirds of what is left; permutation is no objection."""
    controls = {"chance": [0.25] * 2, "embedding": [0.75] * 2, "permutation": [1, 1]}
    table = located_reading(probed({"op_1": [0, 0], "output": [0, 0]}, controls), **FEW)
    row = table[table["role"] == "embedding"].iloc[0]
    assert (row["variable"], row["layer"], row["edge"]) == ("program", -1, "once")
    assert row["peak"] == pytest.approx(2 / 3)
    used = onsets(("program", 1, 1, 1))
    assert how_evaluated(used, table.assign(group="with_io"), by=["group"])["evaluation"].tolist() == ["one step"]
    elsewhere = table[table["role"] != "embedding"].assign(group="with_io")
    assert how_evaluated(used, elsewhere, by=["group"])["evaluation"].tolist() == ["undetermined"]


def test_a_state_that_equals_the_input_or_the_output_does_not_count():
    """Else the one would be read for the other: right in these four prompts at layer 0, in others from layer 1 on."""
    probes = probed({"state_1": [0.5, 1], "output": [0.5, 1]}, {"chance": [0, 0]})
    labels = LABELS.assign(state_1=[3.0, 1.0] * (N // 4) + [2.0] * (N // 2))
    table = located_reading(labelled(probes, labels), **FEW)
    assert layers(table) == {"state_1": 1, "output": 0}
    assert table["n"].tolist() == [N // 2, N]
    found = looked(state_1=[0.5, 1], shuffled_state_1=[0, 0])
    assert located_lens(labelled(found, labels), **FEW)[["layer", "n"]].to_numpy().tolist() == [[1, N // 2]]


@pytest.mark.parametrize(
    ("control", "counts"),
    [
        ("permutation", {"op_1": False, "constant_1": False, "input": False, "state_1": True}),
        ("base", {"op_1": True, "constant_1": True, "input": False, "state_1": True}),
        ("untrained", {"op_1": True, "constant_1": True, "input": False, "state_1": True}),
    ],
)
def test_controls_that_are_no_objection_to_a_target_do_not_count(control: str, counts: dict[str, bool]):
    probes = probed({name: [1, 1] for name in counts}, {"chance": [0.25] * 2, control: [1, 1]})
    table = located_reading(probes, **FEW).set_index("variable")
    named = {"program" if name == "op_1" else name: not there for name, there in counts.items()}
    assert table["layer"].notna().to_dict() == named


def test_the_program_is_read_at_the_answer_and_at_the_name_and_need_not_stay():
    at = {role: probed({"op_1": curve}, {"chance": [0] * 4}, role) for role, curve in ROLE_CURVES.items()}
    table = located_reading(xr.concat(at.values(), "role"), **FEW)
    assert table["variable"].tolist() == ["program", "program"]
    assert table.set_index("role")["layer"].to_dict() == {"answer": 2, "name": 0}
    assert table["edge"].tolist() == ["once", "once"]
    assert located_reading(at["name"], **FEW)["role"].tolist() == ["name"]


def test_the_first_site_counts():
    curves = {"resid_post": [0, 1], "resid_pre": [1, 1]}
    both = xr.concat(
        [probed({"output": c}, {"chance": [0, 0]}).assign_coords(site=[s]) for s, c in curves.items()], "site"
    )
    assert layers(located_reading(both, **FEW)) == {"output": 1}


def test_prompts_without_the_value_are_left_out():
    one = np.arange(N) < N // 2
    labels = LABELS.assign(steps=np.where(one, 1, 2), state_1=np.where(one, NAN, 2.0))
    probes = probed({"state_1": [0.5, 1], "output": [1, 1]}, {"chance": [0, 0]})  # the first half is right at layer 0
    table = located_reading(labelled(probes, labels), **FEW)
    assert layers(table, "steps") == {(1, "output"): 0, (2, "state_1"): 1, (2, "output"): 0}
    assert table["n"].tolist() == [N // 2] * 3
    assert layers(located_reading(labelled(probes, labels), by=[], **FEW)) == {"state_1": 1, "output": 0}


def test_what_cannot_be_read_is_refused():
    probes = probed({"output": [1, 1]}, {"chance": [0, 0]})
    with pytest.raises(PbbError, match="no controls"):
        located_reading(probes.sel(control="none"))
    for labels in (LABELS.drop(columns="steps"), LABELS.drop(columns="program"), LABELS.drop(columns="output")):
        with pytest.raises(PbbError, match=r"no coordinate '(steps|program|output)'"):
            located_reading(labelled(probes, labels))


def looked(**curves: list[float]) -> xr.Dataset:
    """A lens of variables, beside their control: the curves whose names begin with `shuffled_`."""
    names = [name for name in curves if not name.startswith("shuffled_")]
    values = np.array(
        [[[right(share, N) for share in curves[before + name]] for name in names] for before in ("", "shuffled_")]
    )
    lens = xr.Dataset(
        {"correct": (("control", "variable", "layer", "role", "prompt"), values[:, :, :, None])},
        coords={
            "control": ["none", "shuffled"],
            "variable": names,
            "layer": range(values.shape[2]),
            "role": ["answer"],
        },
    )
    return labelled(lens)


def test_the_lens_is_held_to_values_of_other_prompts():
    found = looked(
        state_1=[1, 1, 1, 0], shuffled_state_1=[0, 0, 0, 0], output=[0.5, 0.75, 1, 1], shuffled_output=[0.5, 0.5, 0, 1]
    )
    table = located_lens(found, margin=0.4, **FEW)
    assert table["layer"].isna().tolist() == [True, True]  # at the top one is wrong, and the other no better
    table = located_lens(found.isel(layer=[0, 1, 2]), margin=0.4, **FEW)
    assert layers(table) == {"state_1": 0, "output": 1}  # gains 0, 1/2, 1
    assert table["role"].tolist() == ["answer", "answer"]


def test_prompts_without_the_value_are_no_prompts_of_the_lens():
    found = looked(state_1=[0.5, 1], shuffled_state_1=[0, 0])
    found = found.where(xr.DataArray(np.arange(N) >= N // 2, dims="prompt"))
    labels = LABELS.assign(steps=np.where(np.arange(N) < N // 2, 1, 2))
    table = located_lens(labelled(found, labels), **FEW)
    assert layers(table, "steps") == {(2, "state_1"): 1}
    assert table["n"].tolist() == [N // 2]


def test_a_lens_without_its_control_is_refused():
    lens = looked(output=[1, 1], shuffled_output=[0, 0])
    with pytest.raises(PbbError, match=r"The lens has no control: call it with controls="):
        located_lens(lens.sel(control="none"))
    with pytest.raises(PbbError, match="no coordinate 'group'"):
        located_lens(lens.drop_vars("group"))
