"""Two groups with the same code read one another and share directions; with another code they do neither."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.labels import labels_of
from pbb_probe.probing.groups import direction_cosines, probe_groups
from pbb_probe.probing.linear import fit_probes

CLUSTERS, ROWS, WIDTH, CLASSES = 40, 10, 24, 4
N = CLUSTERS * ROWS
CLUSTER = np.repeat(np.arange(CLUSTERS), ROWS)
GROUP = np.where(CLUSTER % 2, "without_io", "with_io")
RNG = np.random.default_rng(0)
STATE = RNG.integers(CLASSES, size=N)
TARGETS = pd.DataFrame({"state_1": STATE})


def activations(same: bool, noise=0.5) -> xr.Dataset:
    """The state written along directions of both groups, or of each group's own; nothing in the second layer."""
    codes = RNG.normal(size=(2, CLASSES, WIDTH))
    of_group = np.zeros(N, int) if same else (GROUP == "with_io").astype(int)
    written = codes[of_group, STATE] + noise * RNG.normal(size=(N, WIDTH))
    values = np.stack([written, RNG.normal(size=(N, WIDTH))])[:, None]
    return xr.Dataset(
        {"resid_post": (("layer", "role", "prompt", "d_model"), values.astype(np.float32))},
        coords={"layer": [0, 1], "role": ["answer"]},
    )


@pytest.mark.parametrize("same", [True, False])
def test_what_is_fitted_on_a_group_reads_the_other_if_it_has_the_same_code(same):
    found = probe_groups(activations(same), TARGETS, CLUSTER, GROUP)["correct"].sel(layer=0).squeeze()
    matrix = found.groupby("group").mean("prompt")
    for fitted in ("with_io", "without_io"):
        for read in ("with_io", "without_io"):
            accuracy = float(matrix.sel(fitted_on=fitted, group=read))
            assert accuracy > 0.95 if same or fitted == read else accuracy < 0.6


def test_each_group_is_what_fit_probes_makes_of_it():
    acts = activations(True, noise=3)
    found = probe_groups(acts, TARGETS, CLUSTER, GROUP, folds=4, seed=3, C=0.1)
    for name in ("with_io", "without_io"):
        alone = fit_probes(acts, TARGETS, CLUSTER, train=name == GROUP, folds=4, seed=3, C=0.1)
        assert np.array_equal(found["correct"].sel(fitted_on=name), alone["correct"])


def test_groups_are_a_label_or_values():
    acts = activations(True, noise=3)
    labelled = acts.assign_coords(
        program=("prompt", CLUSTER), half=("prompt", GROUP), state_1=("prompt", STATE), correct=("prompt", STATE > 1)
    )
    named, given = (
        probe_groups(labelled, ["state_1"], group="half", C=0.1),
        probe_groups(acts, TARGETS, CLUSTER, GROUP, C=0.1),
    )
    assert np.array_equal(named["correct"], given["correct"])
    assert {name: named[name].values.tolist() for name in labels_of(named)} == {
        "program": CLUSTER.tolist(),
        "half": GROUP.tolist(),
        "state_1": STATE.tolist(),
        "prompt_correct": (STATE > 1).tolist(),
    }
    assert given["group"].values.tolist() == GROUP.tolist()
    cosines = direction_cosines(labelled, ["state_1"], group="half", C=0.1)
    xr.testing.assert_identical(cosines, direction_cosines(acts, TARGETS, CLUSTER, GROUP, C=0.1))


@pytest.mark.parametrize("same", [True, False])
def test_cosines_between_groups_are_those_within_only_if_the_code_is_the_same(same):
    found = direction_cosines(activations(same), TARGETS, CLUSTER, GROUP)["cosine"].sel(target="state_1").squeeze()
    within, between = found.sel(halves=["with_io", "without_io"], layer=0), found.sel(halves="between", layer=0)
    assert float(within.min()) > 0.8
    assert float(between) > 0.8 if same else abs(float(between)) < 0.4
    assert float(np.abs(found.sel(layer=1)).max()) < 0.3  # there is nothing


def test_cosines_are_those_of_probes_fitted_one_by_one():
    acts = activations(True, noise=2)
    two = pd.DataFrame({"even": STATE % 2 == 0, "number": STATE + RNG.normal(size=N)})
    found = direction_cosines(acts, two, CLUSTER, GROUP, C=0.3, kinds={"number": "ridge"}, seed=5)["cosine"]
    half = np.full(N, -1)
    for name in ("with_io", "without_io"):
        mine = name == GROUP
        order = np.random.default_rng(5).permutation(CLUSTERS // 2)
        half[mine] = order[pd.factorize(CLUSTER[mine])[0]] % 2
    for target, kind in (("even", "logistic"), ("number", "ridge")):
        direction = {
            (name, k): fit_probes(
                acts.isel(prompt=rows, layer=[0]),
                two[[target]][rows],
                range(rows.sum()),
                C=0.3,
                folds=1,
                keep=True,
                kinds={target: kind},
            )
            .directions()
            .values.ravel()
            for name in ("with_io", "without_io")
            for k in (0, 1)
            for rows in [(name == GROUP) & (half == k)]
        }
        within = direction["with_io", 0] @ direction["with_io", 1]
        between = np.mean([direction["with_io", i] @ direction["without_io", j] for i in (0, 1) for j in (0, 1)])
        cell = found.sel(target=target, layer=0).squeeze()
        assert float(cell.sel(halves="with_io")) == pytest.approx(within, abs=1e-4)
        assert float(cell.sel(halves="between")) == pytest.approx(between, abs=1e-4)


def test_one_group_is_refused():
    with pytest.raises(PbbError, match="of the group 'with_io' alone: give two groups"):
        probe_groups(activations(True), TARGETS, CLUSTER, ["with_io"] * N)
    with pytest.raises(PbbError, match="400 prompts and 3 values of group"):
        direction_cosines(activations(True), TARGETS, CLUSTER, ["a", "b", "a"])
    with pytest.raises(PbbError, match="Half of the with_io prompts have one value"):
        direction_cosines(activations(True), TARGETS.where(GROUP[:, None] == "without_io", 1), CLUSTER, GROUP)
