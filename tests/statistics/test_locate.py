"""Onset layers are held to curves drawn by hand, and their intervals to resamples that can be counted."""

import itertools

import numpy as np
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.statistics.onset import locate, locate_difference


def curves(*columns: list[float], layers=None) -> xr.DataArray:
    """(layer, prompt) from a curve over layers for each prompt."""
    layers = range(len(columns[0])) if layers is None else layers
    return xr.DataArray(np.array(columns, float).T, dims=("layer", "prompt"), coords={"layer": list(layers)})


def found(values: xr.DataArray, clusters=None, **settings):
    """The only row of a table of one group."""
    n = values.sizes["prompt"]
    table = locate(values, group=["g"] * n, clusters=range(n) if clusters is None else clusters, draws=2000, **settings)
    assert len(table) == 1
    return table.iloc[0]


def test_first_is_where_the_curve_stays_above():
    row = found(curves([0.1, 0.2, 0.9, 1.0]))
    assert (row["layer"], row["lower"], row["upper"], row["found"]) == (2, 2, 2, 1)


def test_first_ignores_a_bump_that_falls_again():
    assert found(curves([0.9, 0.1, 0.2, 0.8]))["layer"] == 3
    assert found(curves([0.9, 0.9, 0.2, 0.8, 0.8, 0.8]))["layer"] == 3


def test_first_finds_nothing_when_the_top_is_below():
    row = found(curves([0.9, 0.9, 0.4]))
    assert np.isnan([row["layer"], row["lower"], row["upper"]]).all()
    assert row["found"] == 0


def test_last_is_the_highest_layer_above():
    assert found(curves([0.9, 0.9, 0.4, 0.1]), edge="last")["layer"] == 1
    assert found(curves([0.9, 0.1, 0.8, 0.1]), edge="last")["layer"] == 2
    assert found(curves([0.1, 0.1, 0.9]), edge="last")["layer"] == 2


@pytest.mark.parametrize("edge", ["first", "last"])
def test_nothing_above_is_missing(edge: str):
    row = found(curves([0.1, 0.2, 0.3]), edge=edge)
    assert np.isnan([row["layer"], row["lower"], row["upper"]]).all()
    assert row["found"] == 0


def test_everything_above_is_the_first_layer_or_the_last():
    assert found(curves([0.9, 0.8, 0.7]))["layer"] == 0
    assert found(curves([0.9, 0.8, 0.7]), edge="last")["layer"] == 2


def test_the_threshold_itself_counts_and_can_be_moved():
    assert found(curves([0.0, 0.25, 0.5, 0.75]))["layer"] == 2
    assert found(curves([0.0, 0.25, 0.5, 0.75]), threshold=0.25)["layer"] == 1
    assert found(curves([0.0, 0.25, 0.5, 0.75]), threshold=0.6)["layer"] == 3


def test_layers_are_named_by_their_coordinate():
    assert found(curves([0.0, 1.0, 1.0], layers=[4, 8, 12]))["layer"] == 8


def test_the_mean_over_rows_decides_and_missing_rows_are_absent():
    nan = float("nan")
    assert found(curves([0.0, 0.2, 1.0], [0.0, 1.0, 1.0]))["layer"] == 1
    assert found(curves([0.0, nan, 1.0], [0.0, 0.4, 1.0]))["layer"] == 2


def test_interval_spans_clusters_that_disagree():
    # resamples: early twice (1/4), one of each (1/2), late twice (1/4)
    early, late = [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    row = found(curves(early, late), threshold=0.5)
    assert (row["layer"], row["lower"], row["upper"], row["found"]) == (1, 1, 3, 1)
    row = found(curves(early, late), threshold=0.6)
    assert (row["layer"], row["lower"], row["upper"], row["found"]) == (3, 1, 3, 1)


def test_rows_of_one_cluster_are_resampled_together():
    early, late = [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    row = found(curves(early, late, early, late), clusters=["p"] * 4, threshold=0.5)
    assert (row["layer"], row["lower"], row["upper"]) == (1, 1, 1)
    assert (row["n"], row["clusters"]) == (4, 1)


def test_resamples_without_a_layer_are_counted_and_bounds_need_half_of_them():
    early, never = [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    row = found(curves(early, never), threshold=0.5)  # missing only when `never` is drawn twice
    assert row["found"] == pytest.approx(0.75, abs=0.04)
    assert (row["layer"], row["lower"], row["upper"]) == (1, 1, 1)
    row = found(curves(early, never), threshold=0.6)  # there only when `early` is drawn twice
    assert row["found"] == pytest.approx(0.25, abs=0.04)
    assert np.isnan([row["layer"], row["lower"], row["upper"]]).all()


def test_groups_are_located_apart():
    values = curves([0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0])
    group = ["without_io", "with_io", "without_io", "with_io", "with_io"]
    table = locate(values, group=group, clusters=list("pqpqr"), draws=100).set_index("group")
    assert list(table.index) == ["with_io", "without_io"]
    assert (table.loc["with_io", "layer"], table.loc["without_io", "layer"]) == (2, 1)
    assert (table.loc["with_io", "n"], table.loc["without_io", "n"]) == (3, 2)
    assert (table.loc["with_io", "clusters"], table.loc["without_io", "clusters"]) == (2, 1)


def test_an_unknown_edge_is_refused():
    with pytest.raises(PbbError, match="middle"):
        found(curves([0.0, 1.0]), edge="middle")


def test_other_dimensions_are_located_one_by_one_wherever_the_layer_stands():
    rng = np.random.default_rng(0)
    array = xr.DataArray(
        np.cumsum(rng.random((2, 5, 3, 40)) < 0.25, axis=1) > 0,
        dims=("site", "layer", "role", "prompt"),
        coords={"site": ["q", "k"], "layer": [0, 2, 4, 6, 8], "role": ["name", "input", "answer"]},
    ).astype(float)
    settings = {"group": list("ab") * 20, "clusters": np.arange(40) // 2 * 2 + np.arange(40) % 2, "draws": 200}
    table = locate(array, **settings)
    assert list(table.columns[:4]) == ["site", "role", "group", "layer"]
    assert len(table) == 12
    for (site, role), part in table.groupby(["site", "role"]):
        alone = locate(array.sel(site=site, role=role), **settings)
        assert part[alone.columns].reset_index(drop=True).equals(alone)
    assert table["layer"].nunique() > 1
    assert locate(array.transpose("layer", "site", "role", "prompt"), **settings).equals(table)


def test_models_that_disagree_span_the_interval():
    # resamples of models: early twice (1/4), one of each (1/2), late twice (1/4); all programs of a model agree
    early, late = [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    values = curves(*[early] * 4, *[late] * 4)
    row = found(values, clusters=list("pqrspqrs"), models=list("xxxxyyyy"), threshold=0.9)
    assert (row["layer"], row["lower"], row["upper"], row["clusters"], row["models"]) == (3, 1, 3, 8, 2)
    row = found(values, threshold=0.9)  # of 8 programs hardly ever are all early
    assert (row["layer"], row["lower"], row["upper"], row["clusters"]) == (3, 3, 3, 8)


def test_a_weight_is_as_so_many_equal_rows():
    group = np.repeat(["a", "b"], 10)
    values, times = steps(8, 20, later=group == "b"), np.random.default_rng(10).integers(1, 6, size=20)
    for function in (locate, locate_difference):
        weighted = function(values * times, group=group, clusters=range(20), weights=times, draws=300)
        often = np.repeat(np.arange(20), times)
        repeated = function(values.isel(prompt=often), group=group[often], clusters=often, draws=300)
        n = [column for column in repeated if column.split("_")[0] == "n"]
        assert weighted.drop(columns=n).equals(repeated.drop(columns=n))
        unweighted = function(values, group=group, clusters=range(20), draws=300)
        assert not weighted.equals(unweighted)  # or weights would not matter here


def test_a_difference_of_layers_by_counted_resamples():
    # with_io: early twice (1/4) or one of each (1/2) is layer 1, late twice (1/4) layer 3; without_io is always at 3
    early, late = [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    settings = {"group": ["with_io"] * 2 + ["without_io"] * 2, "clusters": list("pqrs")}
    rows = [locate_difference(curves(early, late, late, late), margin=m, **settings).iloc[0] for m in (1, 2.5)]
    for row in rows:
        assert (row["layer_with_io"], row["layer_without_io"], row["difference"]) == (1, 3, -2)
        assert (row["lower"], row["upper"], row["found"]) == (-2, 0, 1)
        assert (row["n_with_io"], row["clusters_without_io"]) == (2, 2)
        assert row["p"] == 1  # of one early and three late, any two against two are 2 layers apart
    assert rows[0]["p_equivalent"] == pytest.approx(0.75, abs=0.02)
    assert rows[1]["p_equivalent"] == 1 / 10_001


def test_resamples_without_a_layer_are_no_evidence_of_equivalence():
    early, never = [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    settings = {"group": list("aabb"), "clusters": list("pqrs"), "threshold": 0.5}
    row = locate_difference(curves(early, never, early, early), margin=10, **settings).iloc[0]
    assert (row["difference"], row["lower"], row["upper"]) == (0, 0, 0)
    assert row["found"] == pytest.approx(0.75, abs=0.02)
    assert row["p_equivalent"] == pytest.approx(0.25, abs=0.02)
    row = locate_difference(curves(never, never, early, early), **settings).iloc[0]
    assert np.isnan(row[["layer_a", "difference", "lower", "upper", "p", "p_equivalent"]].astype(float)).all()
    assert (row["layer_b"], row["found"]) == (1, 0)


def slow_onset(layers: list[float], curve: list[float], threshold: float) -> float | None:
    onset = None
    for layer, value in zip(reversed(layers), reversed(curve), strict=True):
        if value < threshold:
            break
        onset = layer
    return onset


def slow_p(values, labelings: list[np.ndarray], observed: np.ndarray, threshold: float) -> tuple[float, int]:
    """The share of labelings as far apart as the one observed, and how many leave a group without a layer."""

    def apart(first: np.ndarray) -> float:
        means = (values.values[:, here].mean(axis=1).tolist() for here in (first, ~first))
        one, other = (slow_onset(values["layer"].values.tolist(), mean, threshold) for mean in means)
        return float("inf") if one is None or other is None else abs(one - other)

    distances = [apart(first) for first in labelings]
    return sum(one >= apart(observed) for one in distances) / len(distances), distances.count(float("inf"))


def steps(seed: int, n: int, later: np.ndarray, layers: int = 6) -> xr.DataArray:
    """Each row is 0 up to a layer of its own and 1 from there, with noise; those told so start two layers later."""
    rng = np.random.default_rng(seed)
    start = rng.integers(1, layers - 2, size=n) + 2 * later
    return curves(*((np.arange(layers) >= start[:, None]) + 0.2 * rng.normal(size=(n, layers))))


def test_p_of_a_difference_agrees_with_all_relabelings_of_clusters():
    group = np.array(list("aaabbbb"))
    values = steps(25, 7, later=group == "b").isel(layer=slice(4))
    labelings = [np.isin(range(7), chosen) for chosen in itertools.combinations(range(7), 3)]
    p, without = slow_p(values, labelings, group == "a", threshold=0.7)
    assert 0.02 < p < 0.6
    assert without > 0  # the rule for these is put to the test
    row = locate_difference(values, group=group, clusters=range(7), threshold=0.7, draws=20_000).iloc[0]
    assert row["p"] == pytest.approx(p, abs=0.015)


def test_p_of_a_difference_agrees_with_all_relabelings_within_models():
    group, models = np.array(list("aabb" + "abbb")), list("xxxxyyyy")
    values = steps(5, 8, later=(group == "b"))
    halves = itertools.product(itertools.combinations(range(4), 2), range(4, 8))
    labelings = [np.isin(range(8), [*chosen, last]) for chosen, last in halves]
    p, _ = slow_p(values, labelings, group == "a", threshold=0.5)
    row = locate_difference(values, group=group, clusters=list("pqrspqrs"), models=models, draws=20_000).iloc[0]
    assert row["p"] == pytest.approx(p, abs=0.015)
    assert (row["models_a"], row["models_b"]) == (2, 2)
    elsewhere = [np.isin(range(8), chosen) for chosen in itertools.combinations(range(8), 3)]
    assert abs(slow_p(values, elsewhere, group == "a", threshold=0.5)[0] - p) > 0.03  # or models would not matter


def test_p_of_a_difference_between_models_counts_every_relabelling_once():
    models = np.repeat(range(6), 2)
    values = steps(6, 12, later=models >= 3)
    labelings = [np.isin(models, chosen) for chosen in itertools.combinations(range(6), 3)]
    p, _ = slow_p(values, labelings, models < 3, threshold=0.5)
    row = locate_difference(values, group=np.where(models < 3, "a", "b"), clusters=[0, 1] * 6, models=models).iloc[0]
    assert row["p"] == pytest.approx(p, abs=1e-12)


def test_no_difference_is_found_five_times_in_a_hundred_and_a_planted_one_always():
    group, simulations, places = np.repeat(["a", "b"], 40), 60, 4
    later = np.zeros(80, bool)
    found_null = found_planted = called = 0
    for seed in range(simulations):
        null = xr.concat([steps(1000 * seed + i, 80, later) for i in range(places)], dim="site")
        table = locate_difference(null, group=group, clusters=range(80), margin=1.5, draws=199, seed=seed)
        found_null += (table["p"] <= 0.05).sum()
        planted = steps(seed, 80, group == "a")
        row = locate_difference(planted, group=group, clusters=range(80), margin=1.5, draws=199, seed=seed).iloc[0]
        found_planted += row["p"] <= 0.05
        called += row["p_equivalent"] < 0.05
        assert row["difference"] > 0
    n = simulations * places
    assert found_null <= 0.05 * n + 3 * np.sqrt(n * 0.05 * 0.95)  # p is coarse, as layers are, and errs to the large
    assert found_planted > 0.9 * simulations
    assert called <= 0.05 * simulations


def test_a_difference_in_other_dimensions_is_that_of_each():
    group = np.repeat(["a", "b"], 10)
    array = xr.concat([steps(i, 20, group == "b") for i in range(3)], dim="role").assign_coords(role=list("nia"))
    settings = {"group": group, "clusters": range(20), "draws": 300}
    table = locate_difference(array, **settings)
    assert list(table["role"]) == list("nia")
    for role, part in table.groupby("role"):
        alone = locate_difference(array.sel(role=role), **settings)
        assert part[alone.columns].reset_index(drop=True).equals(alone)
    last = locate_difference(1 - array.transpose("layer", "role", "prompt"), edge="last", **settings)
    assert list(last["difference"]) == list(table["difference"])  # below up to there is above from the next layer on


def test_layers_of_three_groups_are_compared_two_by_two():
    values = curves(*[[0.0, 0.0, 1.0, 1.0]] * 4, *[[0.0, 1.0, 1.0, 1.0]] * 4, *[[0.0, 0.0, 0.0, 1.0]] * 4)
    groups = [name for name in ("with_io", "io_only", "without_io") for _ in range(4)]
    table = locate_difference(values, groups, range(12), draws=200)
    said = table[["first", "second", "difference"]].values.tolist()
    assert said == [["with_io", "without_io", -1.0], ["with_io", "io_only", 1.0], ["without_io", "io_only", 2.0]]
    assert table[["layer_with_io", "layer_without_io", "layer_io_only"]].values.tolist() == [[2.0, 3.0, 1.0]] * 3
    alone = locate_difference(values[..., :8], groups[:8], range(8), draws=200)
    assert table["p"][1] == pytest.approx(alone["p"][0], abs=0.03)  # 2 of 70 ways, however drawn


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"edge": "middle"}, "middle"),
        ({"margin": 0.0}, "above 0"),
        ({"group": list("aaaa")}, "Two groups"),
        ({"clusters": list("pqqr")}, "several groups"),
        ({"models": list("xyz")}, "3 models"),
    ],
)
def test_what_cannot_be_compared_is_refused(setting, message: str):
    settings = {"group": list("aabb"), "clusters": list("pqrs"), "draws": 10} | setting
    with pytest.raises(PbbError, match=message):
        locate_difference(curves(*[[0.0, 1.0]] * 4), **settings)


def test_values_without_layers_are_refused():
    with pytest.raises(PbbError, match="layer"):
        locate(xr.DataArray(np.zeros((2, 3)), dims=("site", "prompt")), group=list("aaa"), clusters=range(3))
