"""Onsets are held to curves that can be read by eye, and to a planted model whose blocks are known."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.calibration.trials import Design, Instrument, try_design
from pbb_probe.comparison.onsets import how_evaluated, located_lens, located_reading, located_use, side_by_side
from pbb_probe.errors import PbbError

NAN = float("nan")
FEW = {"draws": 50, "seed": 0}
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


def right(share: float, n: int = 4) -> list[float]:
    """Rows of which this share, the first ones, are 1."""
    return [float(row < share * n) for row in range(n)]


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
            "program": ("pair", [f"program {first + i}" for i in range(4)]),
            "group": ("pair", [group] * 4),
            "steps": ("pair", [steps] * 4),
        },
    )
    return carried if states else carried.where(~carried["hypothesis"].isin(["state_1", "steps_to_1"]))


def layers(table: pd.DataFrame, *by: str) -> dict:
    return table.set_index([*by, "variable"])["layer"].to_dict()


# by use


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
    alike = xr.concat([patched, chance, patched], pd.Index(["patched", "random", "self"], name="run"))
    with_random, without = (located_use(found, **FEW) for found in (alike, alike.drop_sel(run="random")))
    assert layers(with_random)["program"] == 1
    assert layers(without)["program"] == 2
    curves = {("resid_pre", "name", "program"): [0.75, 0.25]}
    less = xr.concat(
        [transfer(curves), transfer({next(iter(curves)): [0.25, 0]})], pd.Index(["patched", "random"], name="run")
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
    carried = carried.assign_coords(program=("pair", ["a", "a", "b", "b"]))
    row = located_use(carried, threshold=0.75, draws=2000).iloc[0]
    assert np.isnan(row["layer"])
    assert row["clusters"] == 2
    assert row["found"] == pytest.approx(1 / 4, abs=0.04)  # the carried one twice; of single pairs it would be 5/16
    named = located_use(carried.assign_coords(other=("pair", list("abcd"))), cluster="other", draws=2000)
    assert named["clusters"][0] == 4


def test_pairs_without_a_coordinate_are_refused():
    with pytest.raises(PbbError, match=r"no coordinate 'family': .*program"):
        located_use(transfer(), by=["family"])
    with pytest.raises(PbbError, match="no coordinate 'model'"):
        located_use(transfer(), cluster="model")


# by reading

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

    dims = ("target", "site", "layer", "role", "prompt")
    own = np.array([rows(correct[target]) for target in targets])[:, None, :, None]
    other = np.array([[rows(of(curve, target)) for target in targets] for curve in controls.values()])
    return xr.Dataset(
        {"correct": (dims, own), "control_correct": (("control", *dims), other[:, :, None, :, None])},
        coords={
            "target": targets,
            "site": ["resid_post"],
            "layer": range(own.shape[2]),
            "role": [role],
            "control": list(controls),
        },
    )


def test_a_value_is_read_from_where_it_stays_read():
    probes = probed({"state_1": [1, 0.25, 0.75, 1], "output": [0, 0.25, 0.25, 1]}, {"chance": [0.25] * 4})
    table = located_reading(probes, LABELS, **FEW)
    assert layers(table) == {"state_1": 2, "output": 3}
    assert table["role"].tolist() == ["answer"] * 2
    assert table["edge"].tolist() == ["first"] * 2
    assert table["n"].tolist() == [N, N]
    assert table["clusters"].tolist() == [N // 2, N // 2]
    assert table["peak"].tolist() == [1.0, 1.0]


def test_the_margin_is_on_the_gain_over_the_control():
    probes = probed({"output": [0.5, 0.625, 0.75, 1]}, {"chance": [0.5] * 4})  # gains 0, 1/4, 1/2, 1
    assert [layers(located_reading(probes, LABELS, margin=m, **FEW))["output"] for m in (0.2, 0.3, 0.6)] == [1, 2, 3]
    lower = probed({"output": [0.5, 0.625]}, {"chance": [0.5] * 2})
    assert located_reading(lower, LABELS, **FEW)["peak"].tolist() == [pytest.approx(0.25)]


def test_a_layer_is_named_only_where_nearly_all_resamples_have_one():
    """Gains of 1/4 and 1/2 at the only layer: resamples of 40 programs reach 0.2 in three of four cases, and in all."""
    for share, named in ((0.625, False), (0.75, True)):
        row = located_reading(probed({"output": [share]}, {"chance": [0.5]}), LABELS, draws=400).iloc[0]
        assert (row["layer"] == row["layer"]) == named
        assert (row["found"] >= 0.95) == named


def test_the_strongest_control_is_chosen_layer_by_layer():
    """By either control alone, or by the one that is stronger on average, the onset or the peak would be another."""
    controls = {"chance": [0.5, 0.25, 0, 0], "shuffled": [0, 0.25, 0.5, 0.5]}
    row = located_reading(probed({"output": [0.5, 0.5, 0.75, 0.75]}, controls), LABELS, margin=0.3, **FEW).iloc[0]
    assert row["layer"] == 1  # gains 0, 1/3, 1/2, 1/2
    assert row["peak"] == pytest.approx(0.5)


def test_a_control_that_is_always_right_leaves_nothing_to_gain():
    table = located_reading(probed({"output": [1, 1]}, {"chance": [0, 0], "relabelled": [1, 1]}), LABELS, **FEW)
    assert table["layer"].isna().all()
    assert table["peak"].tolist() == [0.0]


def test_a_control_that_some_prompts_lack_is_compared_on_the_others():
    """Relabelled values are missing where the target has no such value: the probe is right wherever it is not."""
    probes = probed({"output": [0.5, 1]}, {"relabelled": [0.5, 0.5]})
    known = np.array([True, True, False, False] * (N // 4))
    probes = probes.assign(control_correct=probes["control_correct"].where(xr.DataArray(known, dims="prompt")))
    row = located_reading(probes, LABELS, margin=0.55, **FEW).iloc[0]
    assert row["layer"] == 1
    assert row["peak"] == 1.0


def test_a_control_that_a_target_lacks_does_not_count():
    controls = {"chance": [0.25] * 2, "relabelled": {"output": [0.75, 0.75], "op_1": [NAN, NAN]}}
    table = located_reading(probed({"output": [0.5, 1], "op_1": [0.75, 0.75]}, controls), LABELS, margin=0.3, **FEW)
    assert layers(table) == {"output": 1, "program": 0}
    without = probed({"op_1": [1, 1], "output": [1, 1]}, {"relabelled": {"output": [0, 0], "op_1": [NAN, NAN]}})
    table = located_reading(without, LABELS, **FEW)
    assert table["layer"].isna().tolist() == [True, False]  # nothing is read without anything to compare with


def test_the_embedding_is_no_control_of_what_may_stand_in_the_tokens():
    targets = ("op_1", "op_2", "constant_1", "input", "state_1", "output")
    probes = probed({name: [1, 1] for name in targets}, {"chance": [0.25] * 2, "embedding": [1, 1]})
    table = located_reading(probes, LABELS, **FEW).set_index("variable")
    assert table["layer"].notna().to_dict() == {
        **{"program": True, "op_2": True, "constant_1": True, "input": True},
        **{"state_1": False, "output": False},
    }


def test_the_program_is_also_read_off_the_embeddings_where_they_are_a_control():
    """Three of four right, a quarter of them by chance: two thirds of what is left; permutation is no objection."""
    controls = {"chance": [0.25] * 2, "embedding": [0.75] * 2, "permutation": [1, 1]}
    table = located_reading(probed({"op_1": [0, 0], "output": [0, 0]}, controls), LABELS, **FEW)
    row = table[table["role"] == "embedding"].iloc[0]
    assert (row["variable"], row["layer"], row["edge"]) == ("program", -1, "once")
    assert row["peak"] == pytest.approx(2 / 3)
    used = onsets(("program", 1, 1, 1), ("state_1", NAN, NAN, NAN))
    assert how_evaluated(used, table.assign(group="with_io"), by=["group"])["evaluation"].tolist() == ["compiled"]
    elsewhere = table[table["role"] != "embedding"].assign(group="with_io")
    assert how_evaluated(used, elsewhere, by=["group"])["evaluation"].tolist() == ["looked up"]


def test_a_state_that_equals_the_input_or_the_output_does_not_count():
    """Else the one would be read for the other: right in these four prompts at layer 0, in others from layer 1 on."""
    probes = probed({"state_1": [0.5, 1], "output": [0.5, 1]}, {"chance": [0, 0]})
    labels = LABELS.assign(state_1=[3.0, 1.0] * (N // 4) + [2.0] * (N // 2))
    table = located_reading(probes, labels, **FEW)
    assert layers(table) == {"state_1": 1, "output": 0}
    assert table["n"].tolist() == [N // 2, N]
    found = looked(state_1=[0.5, 1], shuffled_state_1=[0, 0])
    assert located_lens(found, labels, **FEW)[["layer", "n"]].to_numpy().tolist() == [[1, N // 2]]


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
    table = located_reading(probes, LABELS, **FEW).set_index("variable")
    named = {"program" if name == "op_1" else name: not there for name, there in counts.items()}
    assert table["layer"].notna().to_dict() == named


def test_the_program_is_read_at_the_answer_and_at_the_name_and_need_not_stay():
    at = {role: probed({"op_1": curve}, {"chance": [0] * 4}, role) for role, curve in ROLE_CURVES.items()}
    table = located_reading(xr.concat(at.values(), "role"), LABELS, **FEW)
    assert table["variable"].tolist() == ["program", "program"]
    assert table.set_index("role")["layer"].to_dict() == {"answer": 2, "name": 0}
    assert table["edge"].tolist() == ["once", "once"]
    assert located_reading(at["name"], LABELS, **FEW)["role"].tolist() == ["name"]


def test_the_first_site_counts():
    curves = {"resid_post": [0, 1], "resid_pre": [1, 1]}
    both = xr.concat(
        [probed({"output": c}, {"chance": [0, 0]}).assign_coords(site=[s]) for s, c in curves.items()], "site"
    )
    assert layers(located_reading(both, LABELS, **FEW)) == {"output": 1}


def test_prompts_without_the_value_are_left_out():
    one = np.arange(N) < N // 2
    labels = LABELS.assign(steps=np.where(one, 1, 2), state_1=np.where(one, NAN, 2.0))
    probes = probed({"state_1": [0.5, 1], "output": [1, 1]}, {"chance": [0, 0]})  # the first half is right at layer 0
    table = located_reading(probes, labels, **FEW)
    assert layers(table, "steps") == {(1, "output"): 0, (2, "state_1"): 1, (2, "output"): 0}
    assert table["n"].tolist() == [N // 2] * 3
    assert layers(located_reading(probes, labels, by=[], **FEW)) == {"state_1": 1, "output": 0}


def test_what_cannot_be_read_is_refused():
    probes = probed({"output": [1, 1]}, {"chance": [0, 0]})
    with pytest.raises(PbbError, match="no controls"):
        located_reading(probes.drop_vars("control_correct"), LABELS)
    for labels in (LABELS.drop(columns="steps"), LABELS.drop(columns="program"), LABELS.drop(columns="output")):
        with pytest.raises(PbbError, match=r"no column '(steps|program|output)'"):
            located_reading(probes, labels)


# by the lens


def looked(**curves: list[float]) -> xr.Dataset:
    own = np.array([[right(share, N) for share in curve] for curve in curves.values()])
    return xr.Dataset(
        {"correct": (("variable", "layer", "role", "prompt"), own[:, :, None])},
        coords={"variable": list(curves), "layer": range(own.shape[1]), "role": ["answer"]},
    )


def test_the_lens_is_held_to_values_of_other_prompts():
    found = looked(
        state_1=[1, 1, 1, 0], shuffled_state_1=[0, 0, 0, 0], output=[0.5, 0.75, 1, 1], shuffled_output=[0.5, 0.5, 0, 1]
    )
    table = located_lens(found, LABELS, margin=0.4, **FEW)
    assert table["layer"].isna().tolist() == [True, True]  # at the top one is wrong, and the other no better
    table = located_lens(found.isel(layer=[0, 1, 2]), LABELS, margin=0.4, **FEW)
    assert layers(table) == {"state_1": 0, "output": 1}  # gains 0, 1/2, 1
    assert table["role"].tolist() == ["answer", "answer"]


def test_prompts_without_the_value_are_no_prompts_of_the_lens():
    found = looked(state_1=[0.5, 1], shuffled_state_1=[0, 0])
    found = found.where(xr.DataArray(np.arange(N) >= N // 2, dims="prompt"))
    labels = LABELS.assign(steps=np.where(np.arange(N) < N // 2, 1, 2))
    table = located_lens(found, labels, **FEW)
    assert layers(table, "steps") == {(2, "state_1"): 1}
    assert table["n"].tolist() == [N // 2]


def test_a_lens_without_its_control_is_refused():
    with pytest.raises(PbbError, match="lacks the control 'shuffled_output'"):
        located_lens(looked(output=[1, 1]), LABELS)
    with pytest.raises(PbbError, match="no column 'group'"):
        located_lens(looked(output=[1, 1], shuffled_output=[0, 0]), LABELS.drop(columns="group"))


# side by side


def onsets(*rows, group: str = "with_io") -> pd.DataFrame:
    """Of variables: layer, lower, upper[, role]."""
    columns = ["variable", "layer", "lower", "upper", "role"]
    full = [(*row, "answer")[:5] if len(row) == 4 else row for row in rows]
    return pd.DataFrame(full, columns=columns).assign(group=group, peak=0.9, n=7)


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
    "compiled": ({"program": 1, "state_1": NAN, "output": 4}, {"answer": 2}),
    "compiled, and read at the name": ({"program": 1, "state_1": NAN, "output": 4}, {"name": 0, "answer": NAN}),
    "looked up": ({"program": 1, "state_1": NAN, "output": 4}, {"name": NAN, "answer": NAN}),
    "not found": ({"program": NAN, "state_1": NAN, "output": NAN}, {"answer": 2}),
    "one step": ({"program": 1, "output": 4}, {"answer": 2}),
    "looked up, of one step": ({"program": 1, "output": 4}, {}),
    "step by step, by the second state": ({"program": 1, "state_1": NAN, "state_2": 3, "output": 4}, {"answer": 2}),
    "compiled, though the program was not located": (
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


def test_evaluations_are_named_and_the_groups_told_apart(planted):
    found = planted.groupby("group")["found_evaluation"].unique().map(list).to_dict()
    assert found == {"with_io": ["step by step"], "without_io": ["looked up"]}
    assert found == planted.groupby("group")["evaluation"].unique().map(list).to_dict()
    assert (planted["p"] < 0.05).all()
