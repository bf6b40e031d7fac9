"""Intervals and p values are held to analytic formulas, to slow loops, to all relabelings, and to simulated nulls."""

import itertools
from statistics import NormalDist

import numpy as np
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.statistics.groups import cluster_bootstrap, compare_groups
from pbb_probe.statistics.pvalues import equivalence_p, holm

NAN = float("nan")


def clustered(seed: int, sizes: list[int], between: float = 1.0, within: float = 0.5):
    """Rows that share an offset within their cluster, and the cluster of each row."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = between * rng.normal(size=len(sizes))[clusters] + within * rng.normal(size=len(clusters))
    return values, clusters


def rows(*places: list[float]) -> xr.DataArray:
    return xr.DataArray(np.array(places, float), dims=("layer", "prompt"), coords={"layer": range(len(places))})


def slow_bootstrap(values, clusters, draws: int, seed: int) -> np.ndarray:
    """Whole clusters drawn with replacement, one at a time; all their present rows averaged."""
    rng = np.random.default_rng(seed)
    names = sorted(set(clusters.tolist()))
    present = {name: [v for v, c in zip(values, clusters, strict=True) if c == name and v == v] for name in names}
    means = []
    for _ in range(draws):
        drawn = []
        for pick in rng.integers(len(names), size=len(names)):
            drawn += present[names[pick]]
        means.append(sum(drawn) / len(drawn))
    return np.array(means)


def test_interval_has_the_width_of_the_standard_error_of_cluster_means():
    values, clusters = clustered(0, [5] * 400)
    of_clusters = values.reshape(400, 5).mean(axis=1)
    error = of_clusters.std(ddof=1) / np.sqrt(400)
    interval = cluster_bootstrap(values, clusters, draws=4000)
    assert interval.mean == pytest.approx(of_clusters.mean())
    assert (interval.upper - interval.mean) / 1.96 == pytest.approx(error, rel=0.08)
    assert (interval.mean - interval.lower) / 1.96 == pytest.approx(error, rel=0.08)
    as_if_independent = values.std(ddof=1) / np.sqrt(len(values))
    assert error > 1.5 * as_if_independent  # or else the test could not tell rows from clusters


def test_interval_of_singletons_has_the_width_of_the_usual_standard_error():
    values = np.random.default_rng(1).normal(size=500)
    interval = cluster_bootstrap(values, [f"program {i}" for i in range(500)], draws=4000)
    assert (interval.upper - interval.lower) / (2 * 1.96) == pytest.approx(values.std(ddof=1) / np.sqrt(500), rel=0.06)


def test_interval_agrees_with_a_slow_bootstrap_on_unequal_clusters_with_gaps():
    values, clusters = clustered(2, [1, 9, 2, 7, 4, 1, 12, 3, 5, 6, 2, 8])
    values[[3, 11, 20, 44, 45]] = NAN
    slow = np.percentile(slow_bootstrap(values, clusters, 4000, seed=7), [2.5, 97.5])
    interval = cluster_bootstrap(values, clusters, draws=10_000, seed=3)
    width = slow[1] - slow[0]
    assert interval.mean == pytest.approx(values[~np.isnan(values)].mean())
    assert interval.lower == pytest.approx(slow[0], abs=0.06 * width)
    assert interval.upper == pytest.approx(slow[1], abs=0.06 * width)


def test_missing_rows_count_as_absent():
    values, clusters = clustered(3, [4] * 10)
    gaps = np.zeros(40, bool)
    gaps[[1, 5, 6, 39]] = True
    with_gaps = cluster_bootstrap(np.where(gaps, NAN, values), clusters, draws=500)
    without = cluster_bootstrap(values[~gaps], clusters[~gaps], draws=500)
    assert np.allclose(with_gaps, without)


def test_one_cluster_has_no_width_and_two_have_all_of_it():
    assert tuple(cluster_bootstrap(np.array([1.0, 2.0, 6.0]), ["a"] * 3, draws=50)) == pytest.approx((3.0, 3.0, 3.0))
    assert tuple(cluster_bootstrap(np.array([0.0, 1.0, 1.0]), list("abb"), draws=2000)) == pytest.approx((2 / 3, 0, 1))


def test_places_are_resampled_alike_and_keep_their_shape():
    values, clusters = clustered(4, [3] * 12)
    stacked = np.stack([values, values + 1, 2 * values]).reshape(3, 1, 36)
    interval = cluster_bootstrap(stacked, clusters, draws=300)
    assert interval.lower.shape == (3, 1)
    assert interval.lower[1, 0] == pytest.approx(interval.lower[0, 0] + 1)
    assert interval.upper[2, 0] == pytest.approx(2 * interval.upper[0, 0])
    assert interval.lower[0, 0] == pytest.approx(float(cluster_bootstrap(values, clusters, draws=300).lower))


def test_cluster_names_do_not_matter_and_the_seed_does():
    values, clusters = clustered(5, [3] * 12)
    first = cluster_bootstrap(values, clusters, draws=200)
    assert cluster_bootstrap(values, [f"name {c}" for c in clusters], draws=200) == first
    assert cluster_bootstrap(values, clusters, draws=200, seed=1).lower != first.lower


def test_bootstrap_refuses_no_rows_and_unequal_lengths():
    with pytest.raises(PbbError, match="0 rows"):
        cluster_bootstrap(np.zeros(0), [])
    with pytest.raises(PbbError, match="3 rows and 2 clusters"):
        cluster_bootstrap(np.zeros(3), [0, 1])


def test_means_and_differences_by_hand():
    values = rows([1.0, 0.0, 1.0, 0.0, 0.0, 1.0], [2.0, NAN, 4.0, 1.0, 1.0, NAN])
    group = ["with_io"] * 3 + ["without_io"] * 3
    table = compare_groups(values, group=group, clusters=list("aabcdd"), draws=200)
    assert list(table["layer"]) == [0, 1]
    assert list(table["mean_with_io"]) == pytest.approx([2 / 3, 3.0])
    assert list(table["mean_without_io"]) == pytest.approx([1 / 3, 1.0])
    assert list(table["difference"]) == pytest.approx([1 / 3, 2.0])
    assert list(table["n_with_io"]) == [3, 2]
    assert list(table["n_without_io"]) == [3, 2]
    assert list(table["clusters_with_io"]) == [2, 2]
    assert list(table["clusters_without_io"]) == [2, 2]


def relabelled_p(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of a difference of means over every way to call as many of both the first."""
    values, n = np.concatenate([first, second]), len(first)
    of_first = [values[list(chosen)].sum() for chosen in itertools.combinations(range(len(values)), n)]
    apart = np.abs([total / n - (values.sum() - total) / (len(values) - n) for total in of_first])
    return float((apart >= abs(first.mean() - second.mean()) - 1e-12).mean())


def test_three_groups_are_compared_two_by_two():
    rng = np.random.default_rng(0)
    sizes = {"io_only": 4, "with_io": 5, "without_io": 6}  # rows in any order: the order of groups is their own
    of = {name: rng.normal(size=(2, n)) + shift for (name, n), shift in zip(sizes.items(), (0, 1, 3), strict=True)}
    group = [name for name, n in sizes.items() for _ in range(n)]
    table = compare_groups(rows(*np.hstack(list(of.values()))), group=group, clusters=range(15), draws=4000)
    pairs = [("with_io", "without_io"), ("with_io", "io_only"), ("without_io", "io_only")]
    assert list(zip(table["first"], table["second"], strict=True)) == [pair for pair in pairs for _ in range(2)]
    assert list(table["layer"]) == [0, 1] * 3
    for row in table.to_dict("records"):
        values = {name: of[name][row["layer"]] for name in of}
        assert [row[f"mean_{name}"] for name in of] == pytest.approx([each.mean() for each in values.values()])
        assert [row[f"clusters_{name}"] for name in of] == [4, 5, 6]
        first, second = values[row["first"]], values[row["second"]]
        assert row["difference"] == pytest.approx(first.mean() - second.mean())
        error = np.sqrt(first.var() / len(first) + second.var() / len(second))
        assert row["upper"] - row["lower"] == pytest.approx(2 * 1.96 * error, rel=0.1)
        assert row["p"] == pytest.approx(relabelled_p(first, second), abs=0.025)
        assert row["p_adjusted"] >= row["p"]


def test_p_is_adjusted_within_a_pair_of_groups():
    rng = np.random.default_rng(1)
    values, group = rng.normal(size=(5, 24)), np.repeat(list("abc"), 8)
    both = group != "c"
    table = compare_groups(rows(*values), group=group, clusters=range(24), draws=300, adjust="holm")
    two = compare_groups(rows(*values[:, both]), group=group[both], clusters=range(16), draws=300, adjust="holm")
    pair = table[(table["first"] == "a") & (table["second"] == "b")]
    assert list(pair["p_adjusted"]) == pytest.approx(list(two["p_adjusted"]), abs=0.25)
    for _, part in table.groupby(["first", "second"]):
        assert part["p_adjusted"].max() <= min(1, 5 * part["p"].max())
        assert part["p_adjusted"].min() == pytest.approx(min(1, 5 * part["p"].min()))


def test_models_of_a_third_group_are_not_relabelled_in_a_pair():
    values, group = np.arange(9.0), np.repeat(list("abc"), 3)
    table = compare_groups(rows(values), group=group, clusters=range(9), models=range(9), draws=100)
    two = compare_groups(rows(values[:6]), group=group[:6], clusters=range(6), models=range(6), draws=100)
    assert table["p"].tolist() == [0.1] * 3 == two["p"].tolist() * 3  # 2 of the 20 ways to choose 3 models of 6


def test_places_of_several_dimensions_stay_with_their_labels():
    values = xr.DataArray(
        np.arange(2 * 3 * 4, dtype=float).reshape(2, 3, 4),
        dims=("site", "layer", "pair"),
        coords={"site": ["q", "k"], "layer": [4, 5, 6]},
    )
    table = compare_groups(values, group=[0, 1, 0, 1], clusters=[0, 1, 2, 3], draws=20)
    for row in table.to_dict("records"):
        place = values.sel(site=row["site"], layer=row["layer"]).values
        assert row["mean_0"] == (place[0] + place[2]) / 2
        assert row["mean_1"] == (place[1] + place[3]) / 2
    assert len(table) == 6


def test_intervals_of_groups_and_difference_have_analytic_widths():
    values, clusters = clustered(6, [4] * 300)
    group = np.where(clusters < 100, "a", "b")
    table = compare_groups(rows(values), group=group, clusters=clusters, draws=4000).iloc[0]
    of_clusters = values.reshape(300, 4).mean(axis=1)
    errors = [part.std(ddof=1) / np.sqrt(len(part)) for part in (of_clusters[:100], of_clusters[100:])]
    assert (table["upper_a"] - table["lower_a"]) / 3.92 == pytest.approx(errors[0], rel=0.08)
    assert (table["upper_b"] - table["lower_b"]) / 3.92 == pytest.approx(errors[1], rel=0.08)
    assert (table["upper"] - table["lower"]) / 3.92 == pytest.approx(np.hypot(*errors), rel=0.08)
    assert table["lower"] < table["difference"] < table["upper"]


def test_p_values_agree_with_all_relabelings_of_clusters():
    sizes = [1, 4, 2, 3, 1, 5, 2]
    rng = np.random.default_rng(737)
    clusters = np.repeat(np.arange(7), sizes)
    values = rng.normal(size=(3, len(clusters))) + rng.normal(size=(3, 7))[:, clusters]
    values[1, :3] += 1.5
    values[2, [1, 9]] = NAN
    group = np.where(clusters < 3, "a", "b")

    def difference(first: tuple[int, ...]) -> list[float]:
        chosen = np.isin(clusters, first)
        return [np.nanmean(place[chosen]) - np.nanmean(place[~chosen]) for place in values]

    every = np.array([difference(first) for first in itertools.combinations(range(7), 3)])  # [35, place]
    spread = every.std(axis=0)
    every, observed = np.abs(every) / spread, np.abs(difference((0, 1, 2))) / spread
    p = (every >= observed - 1e-9).mean(axis=0)
    distance = np.abs(every.max(axis=1)[:, None] - observed)
    assert distance[distance > 1e-9].min() > 0.02  # no near tie that the estimated spread could turn over
    p_adjusted = (every.max(axis=1)[:, None] >= observed - 1e-9).mean(axis=0)
    table = compare_groups(rows(*values), group=group, clusters=clusters, draws=20_000)
    assert list(table["p"]) == pytest.approx(p, abs=0.015)
    assert list(table["p_adjusted"]) == pytest.approx(p_adjusted, abs=0.015)


def test_family_wise_error_is_five_percent_under_the_null():
    clusters = np.repeat(np.arange(16), 3)
    group = np.where(clusters % 2 == 0, "a", "b")
    adjusted, single, anywhere, simulations = 0, 0, 0, 200
    for seed in range(simulations):
        rng = np.random.default_rng(1000 + seed)
        values = rng.normal(size=(4, 16))[:, clusters] + 0.3 * rng.normal(size=(4, 48))
        table = compare_groups(rows(*values), group=group, clusters=clusters, draws=199, seed=seed)
        assert (table["p_adjusted"] >= table["p"]).all()
        adjusted += (table["p_adjusted"] <= 0.05).any()
        single += table["p"].iloc[0] <= 0.05
        anywhere += (table["p"] <= 0.05).any()
    tolerance = 3 * np.sqrt(simulations * 0.05 * 0.95)
    assert abs(adjusted - 0.05 * simulations) < tolerance
    assert abs(single - 0.05 * simulations) < tolerance
    assert anywhere > 0.05 * simulations + tolerance  # without adjustment it would not be five percent


def test_a_planted_difference_is_found_where_it_is():
    values, clusters = clustered(9, [4] * 30)
    noise, _ = clustered(10, [4] * 30)
    group = np.where(clusters < 15, "a", "b")
    table = compare_groups(rows(values + 3.0 * (group == "a"), noise), group=group, clusters=clusters, draws=999)
    assert table["p_adjusted"].iloc[0] < 0.01
    assert table["lower"].iloc[0] > 0
    assert table["difference"].iloc[0] == pytest.approx(3.0, abs=1.2)
    assert table["p_adjusted"].iloc[1] > 0.05
    assert table["lower"].iloc[1] < 0 < table["upper"].iloc[1]


def test_swapping_the_groups_changes_the_sign_only():
    values, clusters = clustered(11, [2] * 20)
    group = np.where(clusters < 8, 0, 1)
    one = compare_groups(rows(values), group=group, clusters=clusters, draws=2000).iloc[0]
    other = compare_groups(rows(values), group=1 - group, clusters=clusters, draws=2000).iloc[0]
    assert one["difference"] == pytest.approx(-other["difference"])
    assert one["p"] == pytest.approx(other["p"], abs=0.05)


def test_a_place_without_values_in_a_group_is_no_finding():
    values, clusters = clustered(12, [2] * 12)
    group = np.where(clusters < 6, "a", "b")
    gone = np.where(group == "a", values, NAN)
    table = compare_groups(rows(values, gone), group=group, clusters=clusters, draws=199)
    assert np.isnan(table["difference"].iloc[1])
    assert not table["p"].iloc[1] < 0.05
    assert not table["p_adjusted"].iloc[1] < 0.05
    alone = compare_groups(rows(values), group=group, clusters=clusters, draws=199)
    assert table["p"].iloc[0] == alone["p"].iloc[0]


def test_relabelings_without_a_difference_do_not_count_towards_p():
    # only one cluster a group has values here: every relabeling that leaves a difference leaves the same one
    values = rows([1.0, NAN, NAN, 0.0, NAN, NAN])
    table = compare_groups(values, group=list("aaabbb"), clusters=range(6), draws=400)
    assert table["p"].iloc[0] == pytest.approx(1.0)


def test_equal_values_everywhere_are_no_finding():
    table = compare_groups(rows([1.0] * 6), group=list("aaabbb"), clusters=range(6), draws=99)
    assert (table["difference"].iloc[0], table["p"].iloc[0], table["p_adjusted"].iloc[0]) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("group", "clusters", "message"),
    [
        ("aaaa", "pqrs", "Two groups"),
        ("aab", "pqrs", "must be equal"),
        ("aabb", "pqr", "must be equal"),
        ("aabb", "pqqr", "several groups"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(group: str, clusters: str, message: str):
    with pytest.raises(PbbError, match=message):
        compare_groups(rows([1.0, 2.0, 3.0, 4.0]), group=list(group), clusters=list(clusters), draws=10)


def test_weights_make_a_ratio_of_means_whose_interval_allows_for_both():
    """A measure that is 0.7 of its weight in every row is 0.7 without any uncertainty; without weights it is not."""
    rng = np.random.default_rng(5)
    weights = rng.uniform(0.5, 3.0, size=60)
    values = xr.DataArray((0.7 * weights)[None], dims=("layer", "row"), coords={"layer": [0]})
    group, clusters = ["a"] * 30 + ["b"] * 30, list(range(60))
    exact = compare_groups(values, group=group, clusters=clusters, weights=weights.tolist(), draws=300).iloc[0]
    for column in ("mean_a", "lower_a", "upper_a", "mean_b", "lower_b", "upper_b"):
        assert exact[column] == pytest.approx(0.7)
    loose = compare_groups(values, group=group, clusters=clusters, draws=300).iloc[0]
    assert loose["mean_a"] == pytest.approx(0.7 * weights[:30].mean())
    assert loose["upper_a"] - loose["lower_a"] > 0.1
    with pytest.raises(PbbError, match="weights"):
        compare_groups(values, group=group, clusters=clusters, weights=[1.0], draws=10)


def test_holm_by_hand_and_by_loop():
    assert holm(np.array([0.01, 0.04, NAN, 0.03, 0.005])) == pytest.approx([0.03, 0.06, NAN, 0.06, 0.02], nan_ok=True)
    assert list(holm(np.array([0.9, 0.6]))) == [1.0, 1.0]
    values, clusters = clustered(20, [2] * 20)
    group = np.where(clusters < 8, "a", "b")
    noise = np.random.default_rng(21).normal(size=(4, 40))
    array = rows(*(noise + np.outer([0.0, 0.3, 0.8, 1.2], group == "a")), np.where(group == "a", values, NAN))
    settings = {"group": group, "clusters": clusters, "draws": 999}
    table, default = compare_groups(array, adjust="holm", **settings), compare_groups(array, **settings)
    p, expected, largest = table["p"].tolist()[:4], [0.0] * 4, 0.0
    for rank, one in enumerate(sorted(range(4), key=p.__getitem__)):
        expected[one] = largest = min(1.0, max(largest, (4 - rank) * p[one]))
    assert list(table["p_adjusted"])[:4] == pytest.approx(expected)
    assert np.isnan(table["p_adjusted"].iloc[4])
    assert table.drop(columns="p_adjusted").equals(default.drop(columns="p_adjusted"))
    assert (table["p_adjusted"] > default["p_adjusted"]).any()  # max-T knows how places go together


def test_equivalence_agrees_with_two_one_sided_z_tests():
    values, clusters = clustered(22, [3] * 240)
    group = np.where(clusters < 120, "a", "b")
    of_clusters = values.reshape(240, 3).mean(axis=1)
    halves = of_clusters[:120], of_clusters[120:]
    difference = halves[0].mean() - halves[1].mean()
    error = np.sqrt(sum(half.var() / 120 for half in halves))
    for beyond in (-1.0, 0.3, 1.2, 1.645, 2.2):  # the margin in standard errors from the difference
        margin = abs(difference) + beyond * error
        table = compare_groups(rows(values), group=group, clusters=clusters, margin=margin).iloc[0]
        sides = (margin - difference) / error, (margin + difference) / error
        assert table["p_equivalent"] == pytest.approx(1 - NormalDist().cdf(min(sides)), abs=0.015)
        assert table["equivalent"] == (table["p_equivalent"] < 0.05)


def test_equivalence_is_a_ninety_percent_interval_within_the_margin():
    values, clusters = clustered(23, [1, 9, 2, 7, 4, 1, 12, 3, 5, 6, 2, 8])
    group = np.where(clusters < 6, "a", "b")
    drawn = [
        slow_bootstrap(values[group == name], clusters[group == name], 4000, seed=i) for i, name in enumerate("ab")
    ]
    lower, upper = np.percentile(drawn[0] - drawn[1], [5, 95])
    edge, slack = max(-lower, upper), 0.05 * (upper - lower)
    equivalent = [
        compare_groups(rows(values), group=group, clusters=clusters, margin=margin)["equivalent"].iloc[0]
        for margin in (edge - slack, edge + slack)
    ]
    assert equivalent == [False, True]


def test_groups_as_far_apart_as_the_margin_are_called_equivalent_five_times_in_a_hundred():
    clusters, simulations, called = np.arange(60), 300, 0
    group = np.where(clusters < 30, "a", "b")
    for seed in range(simulations):
        values = np.random.default_rng(seed).normal(size=60) + 1.0 * (group == "a")
        table = compare_groups(rows(values), group=group, clusters=clusters, margin=1.0, draws=299, seed=seed)
        called += table["equivalent"].iloc[0]
    assert abs(called - 0.05 * simulations) < 3 * np.sqrt(simulations * 0.05 * 0.95)


def test_equivalence_needs_values_on_both_sides_and_resamples_that_have_them():
    # in group a only one of 3 clusters has values in the second place: 8 of 27 resamples have none
    array = rows([0.0] * 6, [0.0, NAN, NAN, 0.0, 0.0, 0.0], [NAN, NAN, NAN, 0.0, 0.0, 0.0])
    table = compare_groups(array, group=list("aaabbb"), clusters=range(6), margin=0.1, draws=4999)
    assert list(table["p_equivalent"]) == pytest.approx([1 / 5000, 8 / 27, NAN], abs=0.02, nan_ok=True)
    assert table["p_equivalent"].iloc[0] == 1 / 5000
    assert list(table["equivalent"]) == [True, False, False]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_resample_at_the_margin_or_without_a_difference_is_beyond_it_on_either_side(sign: float):
    drawn = sign * np.array([[0.0], [0.5], [1.0], [2.0], [NAN]])
    assert list(equivalence_p(np.array([0.0]), drawn, margin=1.0)) == [(1 + 3) / (1 + 5)]
    assert np.isnan(equivalence_p(np.array([NAN]), drawn, margin=1.0)).all()


@pytest.mark.parametrize(
    ("setting", "message"), [({"margin": 0.0}, "above 0"), ({"margin": NAN}, "finite"), ({"adjust": "none"}, "none")]
)
def test_margins_and_adjustments_that_say_nothing_are_refused(setting, message: str):
    with pytest.raises(PbbError, match=message):
        compare_groups(rows([0.0] * 4), group=list("aabb"), clusters=range(4), draws=10, **setting)


def test_rows_without_places_are_one_place():
    array = xr.DataArray([3.0, 1.0, 1.0, 0.0], dims="prompt")
    table = compare_groups(array, group=list("aabb"), clusters=range(4), draws=10)
    assert (len(table), table["difference"].iloc[0]) == (1, 1.5)
