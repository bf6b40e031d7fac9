"""Nothing is located that is not there: fabricated behaviour whose answer is known, and what the gate makes of it."""

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sealed import seal

import pbb_probe as pbb
from pbb_probe.evidence.behaviour import behaviour_table
from pbb_probe.evidence.code_adds import code_adds
from pbb_probe.evidence.gate import headline
from pbb_probe.evidence.subsets import decisive, decisive_calls, passing, subsets
from pbb_probe.labels import storable
from pbb_probe.runs.opened import OpenedRun
from pbb_probe.store.disk import write_array

GROUPS = ("with_io", "without_io", "io_only")
DRAWN = {"draws": 300, "seed": 0}


def fabricated(right, programs: int = 30, seed: int = 0, **changed) -> xr.Dataset:
    """Ten calls of each program; `right(call)` is the share answered right of calls like this one.

    Half of the calls are decisive, half of the inputs shown where there are examples, every other program without
    examples new, and outputs are digits.
    """
    rng, rows = np.random.default_rng(seed), []
    for group, i, place in itertools.product(GROUPS, range(programs), range(10)):
        call = {
            "group": group, "mode": "direct", "steps": 2, "family": "arithmetic", "program": f"{group}{i}",
            "function": f"{group} of {i}", "decisive": place % 4 < 2, "seen": group != "without_io" and place < 5,
            "novelty": "" if group != "without_io" else ("same_function", "new_function")[i % 2],
            "output": int(rng.integers(10)),
        }  # fmt: skip
        rows.append(call | {"correct": rng.random() < right(call), "forced": 1.0, "answer": ""})
    table = pd.DataFrame(rows).assign(**changed)
    values = {name: ("call", table[name].to_numpy()) for name in ("correct", "forced", "answer")}
    labels = table.columns.difference(list(values))
    return xr.Dataset(values, {name: ("call", storable(table[name])) for name in labels})


def of(table: pd.DataFrame) -> dict[str, dict]:
    return {row["group"]: row for row in table.to_dict(orient="records")}


def test_accuracy_on_all_calls_at_chance_on_decisive_ones_is_refused():
    behaviour = fabricated(lambda call: 0.1 if call["decisive"] else 1.0, programs=60)
    every = of(pbb.tables.accuracy(behaviour, by=("group",), **DRAWN))
    assert min(row["lower"] for row in every.values()) > 0.4  # which would have passed
    for group, row in of(pbb.tables.gate(behaviour, **DRAWN)).items():
        assert row["state"] == ("not evaluated" if group == "without_io" else "not answered")
        assert not row["evaluated"]
        assert row["lower"] <= row["chance"] < 0.3
    assert not pbb.tables.gate(behaviour, by=["group"], **DRAWN)["evaluated"].any()


def test_known_functions_and_shown_answers_are_refused():
    def right(call) -> float:
        return 1.0 if call["seen"] or call["novelty"] == "same_function" else 0.1

    assert not pbb.tables.gate(fabricated(right, programs=60), **DRAWN)["evaluated"].any()


def test_what_is_evaluated_is_let_through_with_its_numbers():
    behaviour = fabricated(lambda call: 0.6 if call["group"] == "without_io" else 0.1, programs=60)
    table = of(pbb.tables.gate(behaviour, **DRAWN))
    row = table["without_io"]
    calls = behaviour.to_dataframe().query("group == 'without_io' and decisive and novelty == 'new_function'")
    assert row["evaluated"]
    assert row["mean"] == calls["correct"].mean()
    assert [row["n"], row["programs"]] == [len(calls), 30] == [180, 30]
    assert row["chance"] == calls["output"].value_counts().max() / 180
    numbers = f"{100 * row['mean']:.0f} % [{100 * row['lower']:.0f}, {100 * row['upper']:.0f}]"
    assert row["sentence"] == f"evaluated ({numbers} on 180 decisive calls, chance {100 * row['chance']:.0f} %)"
    assert table["with_io"]["sentence"].startswith("not answered (")


def test_few_programs_and_no_decisive_calls_leave_it_undetermined():
    always = fabricated(lambda _: 1.0, programs=19)
    assert set(pbb.tables.gate(always, **DRAWN)["sentence"]) == {
        "undetermined (too few programs, n = 19)",  # of without_io every other function is new
        "undetermined (too few programs, n = 9)",
    }
    none = pbb.tables.gate(fabricated(lambda _: 1.0, decisive=False), **DRAWN)
    assert set(none["sentence"]) == {"undetermined (no decisive calls)"}
    assert not none["evaluated"].any()


def test_calls_without_these_labels_all_count():
    behaviour = fabricated(lambda call: 0.3 if call["decisive"] else 1.0).drop_vars(["decisive", "novelty", "function"])
    table = of(pbb.tables.gate(behaviour, **DRAWN))
    assert [table[group]["n"] for group in GROUPS] == [150, 300, 150]
    assert all(row["evaluated"] for row in table.values())


def prompts(**labels) -> xr.Dataset:
    n = len(labels["group"])
    coords = {name: ("prompt", values) for name, values in labels.items()}
    return xr.Dataset({"correct": ("prompt", np.ones(n))}, {"answered": ("prompt", [True] * n), **coords})


def test_decisive_rows_are_right_decisive_and_new():
    array = prompts(
        group=["with_io", "with_io", "without_io", "without_io", "io_only"],
        decisive=[True, False, True, True, True],
        novelty=["", "", "same_body", "new_step", ""],
        steps=[1, 1, 1, 1, 2],
    )
    assert decisive(array).tolist() == [True, False, False, True, True]
    array["answered"][3] = False
    assert decisive(array).tolist() == [True, False, False, False, True]
    assert not decisive(array.drop_vars("decisive")).any()  # which cannot tell
    assert decisive_calls(array.drop_vars(["decisive", "novelty"])).all()
    gate = pd.DataFrame({"group": ["with_io", "io_only"], "steps": [1, 2], "evaluated": [True, False]})
    assert passing(array, gate).tolist() == [True, True, False, False, False]
    rows = dict(subsets(array, gate))
    assert list(rows) == ["all", "correct", "decisive"]
    assert rows["decisive"].tolist() == [True, False, False, False, False]
    assert "decisive" not in dict(subsets(array, gate.assign(evaluated=False)))


def test_both_sides_of_a_pair_are_decisive_and_new():
    sides = {"decisive": [True, True, False], "novelty": ["new_step", "new_step", "new_step"]}
    corrupted = {"decisive": [True, True, True], "novelty": ["new_step", "same_body", "new_step"]}
    labels = {**sides, "group": ["without_io"] * 3, "answered": [True] * 3}
    labels |= {f"corrupted_{name}": values for name, values in corrupted.items()}
    labels |= {"corrupted_group": ["without_io"] * 3, "corrupted_answered": [True] * 3}
    array = xr.Dataset({"x": ("pair", np.ones(3))}, {name: ("pair", values) for name, values in labels.items()})
    assert decisive(array).tolist() == [True, False, False]


def test_the_table_of_behaviour_counts_all_and_decisive_calls_of_all_new_and_known_functions():
    behaviour = fabricated(lambda call: 0.2 + 0.6 * call["decisive"])
    table, calls = behaviour_table(behaviour, **DRAWN), behaviour.to_dataframe()
    kinds = table.groupby(["calls", "programs"])["group"].unique().map(sorted).to_dict()
    split = itertools.product(("all", "decisive"), ("new functions", "known functions"))
    new = {kind: ["without_io"] for kind in split}
    assert kinds == {("all", "all"): sorted(GROUPS), ("decisive", "all"): sorted(GROUPS)} | new
    for row in table.to_dict(orient="records"):
        chosen = calls[(calls["group"] == row["group"]) & (calls["seen"] == row["seen"])]
        chosen = chosen[chosen["decisive"]] if row["calls"] == "decisive" else chosen
        if row["programs"] != "all":
            chosen = chosen[(chosen["novelty"] == "new_function") == (row["programs"] == "new functions")]
        assert [row["n"], row["n_programs"]] == [len(chosen), chosen["program"].nunique()]
        assert row["mean"] == pytest.approx(chosen["correct"].mean())
    shown = headline(table[~table["seen"]])
    assert shown[["group", "calls", "programs"]].values.tolist() == [
        ["io_only", "decisive", "all"],
        ["with_io", "decisive", "all"],
        ["without_io", "decisive", "new functions"],
    ]
    plain = behaviour.drop_vars(["decisive", "novelty"])
    pd.testing.assert_frame_equal(behaviour_table(plain, **DRAWN), pbb.tables.accuracy(plain, **DRAWN))


def test_accuracy_by_novelty_and_decisiveness():
    behaviour = fabricated(lambda call: float(call["decisive"]))
    table = pbb.tables.accuracy(behaviour, by=("group", "mode", "steps", "seen", "decisive", "novelty"), **DRAWN)
    assert table["n"].sum() == behaviour.sizes["call"]
    assert (table["mean"] == table["decisive"]).all()


def test_what_the_code_adds_is_with_io_minus_io_only_beside_the_ceiling(tmp_path):
    (tmp_path / "behaviour").mkdir()
    share = {"with_io": 0.9, "io_only": 0.4, "without_io": 0.1}
    files = {
        "finetuned": fabricated(lambda call: share[call["group"]] if call["decisive"] else 0.0),
        "base_code_in_context": fabricated(lambda _: 1.0),
        "stage1_code_in_context": fabricated(lambda call: float(call["novelty"] == "same_function")),
    }
    for name, behaviour in files.items():
        write_array(behaviour, tmp_path / "behaviour" / f"{name}.nc")
    table = code_adds(OpenedRun(seal(tmp_path)), **DRAWN).set_index("what")
    assert list(table.index) == [
        "with_io", "io_only", "with_io minus io_only", "base, code in context", "stage1, code in context",
    ]  # fmt: skip
    calls = files["finetuned"].to_dataframe().query("decisive and not seen")
    means = calls.groupby("group")["correct"].mean()
    row = table.loc["with_io minus io_only"]
    assert row["mean"] == pytest.approx(means["with_io"] - means["io_only"])
    assert 0 < row["lower"] < row["mean"] < row["upper"]
    assert row["p"] < 0.05
    assert [row["n"], row["programs"]] == [len(calls[calls["group"] != "without_io"]), 60]
    assert table.loc["io_only", "mean"] == pytest.approx(means["io_only"])
    assert table.loc["base, code in context", "mean"] == 1
    assert table.loc["stage1, code in context", "mean"] == 0  # which answers known functions alone
    alone = {name: each.isel(call=(each["group"] != "io_only").values) for name, each in files.items()}
    for name, behaviour in alone.items():
        write_array(behaviour, tmp_path / "behaviour" / f"{name}.nc")
    assert "with_io minus io_only" not in set(code_adds(OpenedRun(seal(tmp_path)), **DRAWN)["what"])
