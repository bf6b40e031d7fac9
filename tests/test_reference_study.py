"""The reference study's own sums, by hand: universes counted, repairs beside luck, retrieval depths of few pairs."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

import multiverse
import retrieval_hypothesis
from reference_study import repaired
from sealed import seal

from pbb_probe.finetuning.curricula import CURRICULA
from pbb_probe.store.run import Run

NAN = float("nan")


def test_universes_are_counted_by_choice():
    rows = [
        ("probability", 0.3, "with_io", 3.0), ("probability", 0.3, "without_io", 4.0),
        ("probability", 0.5, "with_io", 3.0), ("probability", 0.5, "without_io", 3.0),
        ("negative KL", 0.3, "with_io", 2.0), ("negative KL", 0.3, "without_io", NAN),
        ("negative KL", 0.5, "with_io", 3.0), ("negative KL", 0.5, "without_io", 2.0),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["metric", "threshold", "group", "layer"]).assign(clusters=20)
    found = multiverse.summary(table.assign(steps=1, question="q", seed=0)).set_index(["choice", "value"])
    likely, kl = found.loc[("metric", "probability")], found.loc[("metric", "negative KL")]
    assert (likely["with_io"], likely["without_io"]) == ("block 3: 2", "block 3: 1, block 4: 1")
    assert (likely["same block"], likely["without_io later"], likely["earlier"]) == (1, 1, 0)
    assert kl["without_io"] == "block 2: 1, not found: 1"
    assert (kl["same block"], kl["without_io later"], kl["earlier"]) == (0, 0, 1)
    assert found.loc[("seed", 0), "universes"] == 4
    fewer = table.assign(steps=1, question="q", seed=0, clusters=[20] * 7 + [19])
    kl = multiverse.summary(fewer).set_index(["choice", "value"]).loc[("metric", "negative KL")]
    assert kl["without_io"] == "too few programs: 1, not found: 1"
    assert (kl["universes"], kl["same block"], kl["earlier"]) == (2, 0, 0)


def test_the_best_pair_of_layers_repairs_beside_what_luck_repairs(tmp_path):
    """Three wrong calls: of the right answers one cell gives two; of other calls' answers the best gives one."""
    right = np.zeros((3, 2, 1, 3), np.float32)
    right[2, 0, 0] = [1, 1, 0]
    luck = np.zeros_like(right)
    luck[1, 0, 0] = [0, 0, 1]
    never = (np.arange(3)[:, None] < np.arange(2))[:, :, None, None]  # a source below its target
    for group in ("with_io", "without_io"):
        effects = xr.Dataset(
            {
                "resid_pre": (
                    ("answer", "source_layer", "target_layer", "role", "prompt"),
                    np.where(never, np.nan, np.stack([right, luck])),
                )
            },
            coords={
                "answer": ["right", "another's"], "role": ["answer"],
                "source_layer": range(3), "target_layer": range(2),
                "program": ("prompt", ["a", "b", "c"]), "group": ("prompt", [group] * 3), "steps": ("prompt", [2] * 3),
            },
        )  # fmt: skip
        (tmp_path / "back_patching").mkdir(exist_ok=True)
        effects.to_netcdf(tmp_path / "back_patching" / f"{group}.nc")
    table = repaired({"0": Run(seal(tmp_path))}).set_index(["group", "answer"])
    row = table.loc[("without_io", "right")]
    assert (row["source_layer"], row["target_layer"], row["role"], row["wrong"]) == (2, 0, "answer", 3)
    assert row["mean"] == pytest.approx(2 / 3)
    assert table.loc[("without_io", "another's"), "mean"] == pytest.approx(1 / 3)


def carried(group: str, at_name: list[list[int]], base: list[int], donor: list[int]) -> xr.Dataset:
    """A transfer map whose name carries the program at the input of these layers, a list a pair."""
    n = len(at_name)
    program = np.array(at_name, np.float32).T  # [layer, pair]
    return xr.Dataset(
        {"resid_pre": (("role", "layer", "hypothesis", "pair"), program[None, :, None])},
        coords={
            "role": ["name"], "layer": range(program.shape[0]), "hypothesis": ["program"],
            "program": ("pair", ["the donor's"] * n), "corrupted_program": ("pair", [f"{group} {i}" for i in range(n)]),
            "corrupted_steps": ("pair", [1] * n), "corrupted_answered": ("pair", base), "answered": ("pair", donor),
        },
    )  # fmt: skip


def test_retrieval_depth_is_of_pairs_answered_right_in_all_runs(tmp_path):
    folder = tmp_path / "joint-seed0" / "transfer"
    folder.mkdir(parents=True)
    maps = {
        "with_io": ([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]], [1, 1, 0, 1], [1, 1, 1, 1]),
        "without_io": ([[1, 0, 0], [1, 1, 0], [1, 1, 1]], [1, 1, 1], [1, 1, 0]),
    }
    for group, given in maps.items():
        carried(group, *given).to_netcdf(folder / f"{group}.nc")
    seal(folder.parent)
    table = retrieval_hypothesis.depths("joint", [0], tmp_path)
    assert table[table["group"] == "with_io"]["depth"].tolist() == [2, 3]  # a base answered wrong, and a swapped call
    assert table[table["group"] == "without_io"]["depth"].tolist() == [1, 2]
    assert set(table["program"]) == {"with_io 0", "with_io 1", "without_io 0", "without_io 1"}
    found = retrieval_hypothesis.compare(table)
    row = found[found["seed"] == "all"].iloc[0]
    assert row["difference"] == pytest.approx(1.5 - 2.5)
    assert (row["mean_without_io"], row["mean_with_io"]) == pytest.approx((1.5, 2.5))
    assert (row["n_without_io"], row["n_with_io"]) == (2, 2)


def test_second_stages_change_what_they_say_and_nothing_else():
    default = {(p.group, p.kind): p.times for p in CURRICULA["proactive"][1].phases[0]}

    def ratio(name: str) -> dict:
        (phase,) = retrieval_hypothesis.SECOND_STAGES[name].phases
        return {(p.group, p.kind): p.times / default[p.group, p.kind] for p in phase}

    replayed = [key for key in default if key[0] != "without_io"]
    assert ratio("half the exposures") == {("without_io", "code"): 0.5, **dict.fromkeys(replayed, 1)}
    assert ratio("twice the replay") == {("without_io", "code"): 1, **dict.fromkeys(replayed, 2)}
    assert set(ratio("twice as long").values()) == {2}
    first, second = CURRICULA["proactive"]
    reads = {
        group: sum(p.times for stage in (first, second) for phase in stage.phases for p in phase if p.group == group)
        for group in ("with_io", "without_io")
    }
    assert reads == {"with_io": 78, "without_io": 50}  # what the experiment says of exposures
