"""Use and reading side by side, by hand and on a planted model whose blocks are known."""

import numpy as np
import pandas as pd
import pytest
from by_eye import NAN, onsets

from pbb_probe.calibration.trials import Design, Instrument, try_design
from pbb_probe.evidence.onsets import how_evaluated, side_by_side

CASES = {
    "agree": ((2, 2, 2), (2, 2, 2)),
    "agree: they meet": ((3, 2, 4), (1, 1, 2)),
    "agree: one within the other": ((4, 0, 6), (5, 5, 5)),
    "disagree": ((3, 3, 4), (1, 1, 2)),
    "disagree: used earlier": ((1, 0, 1), (3, 2, 4)),
    "only used": ((3, 3, 4), (NAN, NAN, NAN)),
    "only used: what is read is found in few resamples": ((0, 0, 0), (5, NAN, NAN)),
    "only read": ((NAN, NAN, NAN), (1, 1, 2)),
    "only read: what is used is found in few resamples": ((0, NAN, NAN), (5, 5, 5)),
    "neither": ((NAN, NAN, NAN), (NAN, NAN, NAN)),
}


@pytest.mark.parametrize("case", CASES)
def test_agreement_in_words(case: str):
    used, read = CASES[case]
    both = side_by_side(onsets(("output", *used)), onsets(("output", *read)), by=["group"])
    assert both["agreement"].tolist() == [case.split(":")[0]]
    assert both[["used_layer", "read_layer"]].equals(pd.DataFrame({"used_layer": used[:1], "read_layer": read[:1]}))


def test_passes_stand_beside_states_by_number():
    names = ("output", "pass_10", "pass_2", "state_2", "state_1", "program", "pass_1")
    used = onsets(*((name, 1, 1, 1) for name in names))
    order = ["program", "pass_1", "state_1", "pass_2", "state_2", "pass_10", "output"]
    assert side_by_side(used, used, by=["group"])["variable"].tolist() == order


def test_a_row_a_kind_and_variable_in_the_order_of_use():
    used = pd.concat(
        [
            onsets(("program", 2, 2, 2), ("state_1", 3, 3, 3), ("output", 4, 4, 4), group=group)
            for group in ("without_io", "with_io")
        ]
    )
    read = pd.concat(
        [
            onsets(("output", 4, 4, 4), ("program", 0, 0, 0, "name"), ("program", 2, 2, 2), ("constant_1", 1, 1, 1)),
            onsets(("state_1", 1, 1, 1), group="without_io"),
        ]
    )
    lens = onsets(("output", 5, 5, 5))
    both = side_by_side(used, read, lens, by=["group"])
    assert list(zip(both["group"], both["variable"], strict=True)) == [
        (group, variable) for group in ("with_io", "without_io") for variable in ("program", "state_1", "output")
    ]
    found = both.set_index(["group", "variable"])
    assert found.loc[("with_io", "program"), ["used_layer", "read_layer"]].tolist() == [2, 2]  # not that at the name
    assert found["lens_layer"].dropna().to_dict() == {("with_io", "output"): 5}
    assert found["agreement"].tolist() == ["agree", "only used", "agree", "only used", "disagree", "only used"]
    assert found.loc[("without_io", "state_1"), ["used_n", "read_peak"]].tolist() == [7, 0.9]
    without = side_by_side(used, read, by=["group"])
    pd.testing.assert_frame_equal(without, both.drop(columns=[name for name in both if name.startswith("lens")]))
    alone = side_by_side(used.iloc[3:], read.iloc[:2], by=[])
    assert alone["variable"].tolist() == ["program", "state_1", "output"]


def test_states_stand_by_number_before_the_output_even_if_the_first_kind_has_none():
    one = onsets(("program", 1, 1, 1), ("input", 0, 0, 0), ("output", 4, 4, 4), group="a")
    names = ("program", "input", *(f"state_{k}" for k in range(1, 11)), "output")
    more = onsets(*((name, 1, 1, 1) for name in names), group="b")
    both = side_by_side(pd.concat([one, more]), pd.concat([more, one]), by=["group"])
    assert both["variable"].tolist() == ["program", "input", "output", *names]


EVALUATIONS = {
    "step by step": ({"program": 1, "state_1": 3, "output": 4}, {}),
    "undetermined": ({"program": 1, "state_1": NAN, "output": 4}, {"answer": 2}),
    "undetermined, though read at the name": ({"program": 1, "state_1": NAN, "output": 4}, {"name": 0, "answer": NAN}),
    "undetermined, and not read": ({"program": 1, "state_1": NAN, "output": 4}, {"name": NAN, "answer": NAN}),
    "not found": ({"program": NAN, "state_1": NAN, "output": NAN}, {"answer": 2}),
    "one step": ({"program": 1, "output": 4}, {"answer": 2}),
    "undetermined, of one step": ({"program": 1, "output": 4}, {}),
    "step by step, by the second state": ({"program": 1, "state_1": NAN, "state_2": 3, "output": 4}, {"answer": 2}),
    "undetermined, and the program was not located": (
        {"program": NAN, "state_1": NAN, "output": 4},
        {"answer": 2},
    ),
}


@pytest.mark.parametrize("by", [["group"], []])
def test_how_programs_are_evaluated(by: list[str]):
    for case, (used, read) in EVALUATIONS.items():
        use = onsets(*((name, layer, layer, layer) for name, layer in used.items()))
        reading = onsets(*(("program", layer, layer, layer, role) for role, layer in read.items()), ("output", 4, 4, 4))
        other = onsets(("program", 1, 1, 1), ("state_1", 1, 1, 1), group="without_io")  # of other programs
        if by:
            use, reading = pd.concat([use, other]), pd.concat([reading, other])
        told = how_evaluated(use, reading, by)
        assert told["evaluation"].tolist() == [case.split(",")[0], "step by step"][: 1 + len(by)], case
        assert list(told.columns) == [*by, "evaluation"]


# end to end


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    """State 1 can be read from block 1 on and is used in block 3; without_io programs are looked up."""
    design = Design(5, 0, (3,), 4, "answer", ("early_state", "lookup"), 0, seed=0)
    return try_design(design, Instrument(pairs=20, prompts=120, draws=100, folds=2)).set_index(["group", "variable"])


def test_use_names_the_planted_blocks(planted):
    truth = {"program": 0.0, "input": 0.0, "state_1": 3.0, "output": 4.0}
    assert planted.loc["with_io", "layer"].to_dict() == truth
    assert planted.loc["with_io", "used_layer"].to_dict() == truth
    looked_up = planted.loc["without_io", "used_layer"].to_dict()
    assert np.isnan(looked_up.pop("state_1"))
    assert looked_up == {"program": 0, "input": 0, "output": 4}


def test_a_state_that_is_read_before_it_is_used_is_flagged(planted):
    state = planted.loc["with_io", "state_1"]
    assert state["read_layer"] == 1
    assert state["read_upper"] < state["used_lower"] == 3
    assert state["agreement"] == "disagree"
    assert planted.loc["without_io", "state_1"]["agreement"] == "neither"
    assert planted.loc["with_io", "output"]["agreement"] == "agree"
    assert planted["lens_layer"].dropna().to_dict() == {("with_io", "output"): 4, ("without_io", "output"): 4}


def test_step_by_step_is_named_a_look_up_left_undetermined_and_the_groups_told_apart(planted):
    found, truth = (
        planted.groupby("group")[name].unique().map(list).to_dict() for name in ("found_evaluation", "evaluation")
    )
    assert found == {"with_io": ["step by step"], "without_io": ["undetermined"]}
    assert truth == {"with_io": ["step by step"], "without_io": ["looked up"]}
    assert (planted["p"] < 0.05).all()
