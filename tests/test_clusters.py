"""Programs of one function go together: held out by one fold, resampled as one cluster, in each group that has them."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sealed import seal

import pbb_probe as pbb
from pbb_probe.evidence.comparison import leak_table
from pbb_probe.labels import AUTO, cluster_label
from pbb_probe.probing.folds import Split, assigned_folds
from pbb_probe.statistics.groups import compare_groups, interval_table
from pbb_probe.statistics.onset import locate_difference
from pbb_probe.store.disk import write_array
from pbb_probe.store.run import Run

PROGRAMS, FUNCTIONS = ["a", "b", "c", "d", "e", "f"], ["x", "x", "y", "y", "z", "z"]


def labelled(values, side: str = "", **labels) -> xr.DataArray:
    rows = {f"{side}{name}": ("pair" if side else "prompt", given) for name, given in labels.items()}
    return xr.DataArray(values, rows, dims=("layer", "pair" if side else "prompt"))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"program": ["a", "b"], "function": ["x", "x"]}, "function"),
        ({"program": ["a", "a"], "function": ["x", "x"]}, "program"),
        ({"program": ["a", "b"], "function": ["x", ""]}, "program"),
        ({"program": ["a", "b"]}, "program"),
    ],
)
@pytest.mark.parametrize("side", ["", "corrupted_"])
def test_functions_count_where_programs_share_them(labels: dict, expected: str, side: str):
    array = labelled([[0.0, 1.0]], side, **labels)
    assert cluster_label(array, AUTO, side) == side + expected
    assert cluster_label(array, "program", side) == "program"
    table = pd.DataFrame(labels).replace("", np.nan)
    assert cluster_label(table, AUTO) == expected


def test_intervals_resample_functions():
    values = labelled([[1.0, 1.0, 0.0, 0.0, 1.0, 1.0]], program=PROGRAMS, function=FUNCTIONS)
    table = interval_table(values, draws=5000)
    assert table[["n", "clusters", "programs"]].values.tolist() == [[6, 3, 6]]
    by_hand = interval_table(values, clusters=FUNCTIONS, draws=5000)
    assert table[["mean", "lower", "upper"]].equals(by_hand[["mean", "lower", "upper"]])
    of_programs = interval_table(values, clusters="program", draws=5000)
    assert "programs" not in of_programs
    assert of_programs["lower"][0] > table["lower"][0]


def test_a_function_is_a_cluster_in_each_group_that_has_it():
    group = ["with_io", "without_io"] * 3  # every function occurs in both
    values = labelled([[1.0, 0.0, 1.0, 0.0, 1.0, 1.0]], program=PROGRAMS, function=FUNCTIONS, group=group)
    table = compare_groups(values, draws=100)
    assert table[["clusters_with_io", "clusters_without_io"]].values.tolist() == [[3, 3]]
    assert table[["programs_with_io", "programs_without_io"]].values.tolist() == [[3, 3]]
    same = compare_groups(values, clusters="program", draws=100)  # a program is alone in its function and group
    assert table[list(same)].equals(same)
    later = locate_difference(values, draws=100)
    assert later["clusters_with_io"].tolist() == [3]


def test_folds_hold_out_functions_and_reads_of_other_rows_know_them():
    clusters = np.array([0, 0, 1, 1, 2, 2, 3])
    train = np.array([True, False, True, True, True, False, False])
    fold = assigned_folds(clusters, 3, train, seed=0)
    split = Split(fold, train)
    assert sorted(fold[[0, 2, 4]]) == [0, 1, 2]
    assert fold[[1, 5, 6]].tolist() == [fold[0], fold[4], -1]
    for k in range(3):
        assert not split.fitted(k)[~train].any()
        assert not set(clusters[split.fitted(k)]) & set(clusters[split.held_out(k)])
    assert split.others.tolist() == [False] * 6 + [True]


def planted(shared: bool) -> xr.Dataset:
    """Activations that are the names of functions: each has a direction, which says nothing of other functions."""
    rng = np.random.default_rng(0)
    n_functions, copies = 12, 4
    function = np.repeat(np.arange(n_functions), copies)
    constant = np.repeat(rng.permutation(np.arange(n_functions) % 2), copies)
    group = np.tile(["with_io", "with_io", "with_io", "without_io"], n_functions)
    acts = 4 * np.eye(n_functions)[function] + 0.1 * rng.normal(size=(len(function), n_functions))
    labels = {"constant_1": constant, "group": group, "program": [f"p{i}" for i in range(len(function))]}
    if shared:
        labels["function"] = [f"f{i}" for i in function]
    coords = {name: ("prompt", values) for name, values in labels.items()}
    dims = ("layer", "role", "prompt", "d_model")
    return xr.Dataset({"resid_post": (dims, acts[None, None])}, {"layer": [0], "role": ["name"], **coords})


def test_a_constant_that_is_read_off_its_function_is_not_read_in_held_out_functions():
    acts = planted(shared=True)
    train = (acts["group"] == "with_io").values
    settings = {"train": train, "folds": 3, "C": 0.1}
    by_function = pbb.fit_probes(acts, ["constant_1"], **settings)["correct"].values.ravel()
    by_program = pbb.fit_probes(acts, ["constant_1"], clusters="program", **settings)["correct"].values.ravel()
    assert by_program.mean() > 0.9  # wherever another program of the function was fitted on
    assert by_function[train].mean() < 0.6  # a function says nothing of others
    assert by_function[~train].mean() < 0.6  # programs of the other group, whose functions the folds hold out too
    old = pbb.fit_probes(planted(shared=False), ["constant_1"], **settings)["correct"].values.ravel()
    assert np.array_equal(old, by_program)


def test_kept_probes_read_a_program_by_those_that_have_not_seen_its_function():
    acts = planted(shared=True)
    train = (acts["group"] == "with_io").values
    probes = pbb.fit_probes(acts, ["constant_1"], train=train, folds=3, C=0.1, keep=True)
    scored = probes.scores["correct"].values.ravel()
    said = probes.read(acts)  # by the names of programs
    right = said["value"].to_numpy() == acts["constant_1"].values
    assert np.array_equal(right, scored.astype(bool))


def test_the_leak_is_what_folds_of_programs_read_more(tmp_path):
    acts = planted(shared=True)
    n = acts.sizes["prompt"]
    acts = acts.assign_coords(steps=("prompt", [1] * n), answered=("prompt", [True] * n))
    units, read = {"probes": "function", "probes_by_program": "program"}, {}
    (tmp_path / "probing").mkdir()
    for name, unit in units.items():
        probes = pbb.fit_probes(acts, ["constant_1"], clusters=unit, folds=3, C=0.1)
        write_array(probes, tmp_path / "probing" / f"{name}.nc")
        read[unit] = probes["correct"].values.ravel()
    table = leak_table(Run(seal(tmp_path)), draws=200, seed=0).set_index("group")
    for group, row in table.iterrows():
        here = (acts["group"] == group).values
        assert row["by_program"] == pytest.approx(read["program"][here].mean())
        assert row["by_function"] == pytest.approx(read["function"][here].mean())
        assert row["difference"] > 0.3
        assert row["lower"] > 0
        assert row["clusters"] == 12
