"""Resampling and relabelling within models is held to analytic variances, slow loops, all relabelings, and a null."""

import itertools

import numpy as np
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.statistics.groups import cluster_bootstrap, compare_groups, interval_table

NAN = float("nan")
BOTH, APART, MIXED = [0.5] * 5, [1.0, 1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 1.0, 0.0]


def rows(*places) -> xr.DataArray:
    return xr.DataArray(np.array(places, float), dims=("layer", "prompt"), coords={"layer": range(len(places))})


def nested(seed: int, sizes: list[int], per_cluster: int, between: float = 1.0):
    """Rows that share an offset within their model and one within their cluster; each model names its clusters 0, 1."""
    rng = np.random.default_rng(seed)
    models = np.repeat(np.arange(len(sizes)), np.array(sizes) * per_cluster)
    clusters = np.concatenate([np.repeat(np.arange(size), per_cluster) for size in sizes])
    of_cluster = rng.normal(size=(len(sizes), max(sizes)))
    noise = 0.5 * rng.normal(size=len(models))
    return between * rng.normal(size=len(sizes))[models] + of_cluster[models, clusters] + noise, clusters, models


def split(clusters, models, shares: list[float]) -> np.ndarray:
    """The first clusters of each model are group a: such a share of them."""
    sizes = [len(set(clusters[models == model].tolist())) for model in range(len(shares))]
    return np.array(
        [
            "a" if c < round(shares[m] * sizes[m]) else "b"
            for c, m in zip(clusters.tolist(), models.tolist(), strict=True)
        ]
    )


def slow_difference(values, clusters, models, group, draws: int, seed: int) -> list[float]:
    """Models drawn one at a time among those holding the same groups; each time, clusters of each group they hold."""
    rng = np.random.default_rng(seed)
    held: dict[tuple[int, str], dict[int, list[float]]] = {}
    for value, cluster, model, name in zip(
        values.tolist(), clusters.tolist(), models.tolist(), group.tolist(), strict=True
    ):
        held.setdefault((model, name), {}).setdefault(cluster, []).extend([value] if value == value else [])
    kinds: dict[tuple[str, ...], list[int]] = {}
    for model in sorted(set(models.tolist())):
        kinds.setdefault(tuple(name for name in "ab" if (model, name) in held), []).append(model)
    differences = []
    for _ in range(draws):
        drawn: dict[str, list[float]] = {"a": [], "b": []}
        for names, alike in kinds.items():
            for pick in rng.integers(len(alike), size=len(alike)):
                for name in names:
                    own = list(held[alike[pick], name].values())
                    for one in rng.integers(len(own), size=len(own)):
                        drawn[name] += own[one]
        differences.append(sum(drawn["a"]) / len(drawn["a"]) - sum(drawn["b"]) / len(drawn["b"]))
    return differences


def test_interval_over_models_has_the_variance_of_a_mean_of_two_levels():
    values, clusters, models = nested(0, [10] * 40, per_cluster=3)
    of_clusters = values.reshape(40, 10, 3).mean(axis=2)
    variance = (of_clusters.mean(axis=1).var() + of_clusters.var(axis=1).mean() / 10) / 40
    interval = cluster_bootstrap(values, clusters, models=models)
    assert interval.mean == pytest.approx(of_clusters.mean())
    assert (interval.upper - interval.lower) / 3.92 == pytest.approx(np.sqrt(variance), rel=0.04)
    own_names = models * 10 + clusters
    programs_only = cluster_bootstrap(values, own_names)
    assert programs_only.upper - programs_only.lower < 0.5 * (interval.upper - interval.lower)


def test_interval_over_models_covers_the_mean_of_all_models():
    covered, simulations = {"models": 0, "programs": 0}, 150
    for seed in range(simulations):
        values, clusters, models = nested(seed, [6] * 25, per_cluster=1)
        own_names = models * 6 + clusters
        settings = {"models": {"clusters": clusters, "models": models}, "programs": {"clusters": own_names}}
        for name, setting in settings.items():
            interval = cluster_bootstrap(values, draws=400, **setting)
            covered[name] += interval.lower <= 0 <= interval.upper
    assert abs(covered["models"] / simulations - 0.95) < 3 * np.sqrt(0.05 * 0.95 / simulations)
    assert covered["programs"] / simulations < 0.8


@pytest.mark.parametrize("shares", [BOTH, APART, MIXED])
def test_difference_agrees_with_a_slow_bootstrap_of_two_levels(shares: list[float]):
    values, clusters, models = nested(1, [6, 4, 8, 5, 7], per_cluster=2)
    values[[3, 11, 20, 44]] = NAN
    group = split(clusters, models, shares)
    slow = np.percentile(slow_difference(values, clusters, models, group, 4000, seed=7), [2.5, 97.5])
    table = compare_groups(rows(values), group=group, clusters=clusters, models=models).iloc[0]
    assert table["difference"] == pytest.approx(np.nanmean(values[group == "a"]) - np.nanmean(values[group == "b"]))
    assert list(table[["lower", "upper"]]) == pytest.approx(slow, abs=0.06 * (slow[1] - slow[0]))


def test_what_a_model_adds_to_both_its_groups_is_not_in_the_interval_of_their_difference():
    values, clusters, models = nested(2, [8] * 12, per_cluster=2, between=0.0)
    group = split(clusters, models, [0.5] * 12)
    offset = 50.0 * np.random.default_rng(3).normal(size=12)[models]
    settings = {"group": group, "clusters": clusters, "models": models, "draws": 2000}
    plain, lifted = (compare_groups(rows(one), **settings).iloc[0] for one in (values, values + offset))
    assert (lifted["upper_a"] - lifted["lower_a"]) > 10 * (plain["upper_a"] - plain["lower_a"])
    assert list(lifted[["lower", "upper", "p"]]) == pytest.approx(list(plain[["lower", "upper", "p"]]), abs=1e-9)


def test_models_that_hold_one_group_each_add_theirs_to_the_interval():
    values, clusters, models = nested(4, [8] * 24, per_cluster=2)
    group = np.where(models < 12, "a", "b")
    of_clusters = values.reshape(24, 8, 2).mean(axis=2)
    parts = [
        (half.mean(axis=1).var() + half.var(axis=1).mean() / 8) / 12 for half in (of_clusters[:12], of_clusters[12:])
    ]
    table = compare_groups(rows(values), group=group, clusters=clusters, models=models).iloc[0]
    assert (table["upper"] - table["lower"]) / 3.92 == pytest.approx(np.sqrt(sum(parts)), rel=0.05)


def test_one_model_is_as_none():
    values, clusters, _ = nested(5, [12], per_cluster=3)
    group = np.where(clusters < 5, "a", "b")
    settings = {"group": group, "clusters": clusters, "draws": 300}
    none, one = compare_groups(rows(values), **settings), compare_groups(rows(values), models=["m"] * 36, **settings)
    assert list(one["models_a"]) == list(one["models_b"]) == [1]
    assert one.drop(columns=["models_a", "models_b"]).equals(none)


def test_a_name_in_two_models_is_two_clusters():
    values, clusters, models = nested(6, [5, 7], per_cluster=2)
    values[models == 1] = NAN
    values[0] = NAN
    table = interval_table(rows(values), clusters=clusters, models=models, draws=300)
    assert (table["n"][0], table["clusters"][0], table["models"][0]) == (9, 5, 1)
    values, clusters, models = nested(6, [5, 7], per_cluster=2)
    own_names = [f"{m}, {c}" for m, c in zip(models, clusters, strict=True)]
    assert cluster_bootstrap(values, clusters, models=models) == cluster_bootstrap(values, own_names, models=models)
    table = interval_table(rows(values), clusters=clusters, models=models, draws=300)
    assert (table["n"][0], table["clusters"][0], table["models"][0]) == (24, 12, 2)
    # program 0 is in group a of one model and in group b of the other
    table = compare_groups(
        rows(values), group=np.where(models == 0, "a", "b"), clusters=clusters, models=models, draws=9
    )
    assert list(table.iloc[0][["clusters_a", "clusters_b", "models_a", "models_b"]]) == [5, 7, 1, 1]


def relabelings_within(clusters, models, group) -> list[np.ndarray]:
    """Every way to give as many clusters of each model to group a: which rows are then in it."""
    per_model = []
    for model in sorted(set(models.tolist())):
        own = sorted(set(clusters[models == model].tolist()))
        n = len(set(clusters[(models == model) & (group == "a")].tolist()))
        per_model.append([[(model, one) for one in chosen] for chosen in itertools.combinations(own, n)])
    pairs = list(zip(models.tolist(), clusters.tolist(), strict=True))
    return [
        np.array([any(pair in own for own in chosen) for pair in pairs]) for chosen in itertools.product(*per_model)
    ]


def relabelings_of_models(models, group) -> list[np.ndarray]:
    n = len(set(models[group == "a"].tolist()))
    return [np.isin(models, chosen) for chosen in itertools.combinations(sorted(set(models.tolist())), n)]


def differences(values, chosen: list[np.ndarray]) -> np.ndarray:
    """[relabelling, place]"""
    return np.array([[np.nanmean(one[here]) - np.nanmean(one[~here]) for one in values] for here in chosen])


def test_p_values_agree_with_all_relabelings_within_models():
    values, clusters, models = nested(7, [4, 5, 1], per_cluster=2)  # the last holds one group: it keeps its label
    values = np.stack([values, np.random.default_rng(8).normal(size=len(values))])
    group = split(clusters, models, [0.5, 0.4, 1.0])
    values[0] += 1.5 * (group == "a")
    values[1, [0, 9]] = NAN
    chosen = relabelings_within(clusters, models, group)
    assert len(chosen) == 6 * 10
    every, observed = differences(values, chosen), differences(values, [group == "a"])[0]
    observed, every = observed - every.mean(axis=0), every - every.mean(axis=0)
    every, observed = np.abs(every) / every.std(axis=0), np.abs(observed) / every.std(axis=0)
    p = (every >= observed - 1e-9).mean(axis=0)
    distance = np.abs(every[:, :, None] - observed)
    assert distance[distance > 1e-9].min() > 0.005  # no near tie that the estimated mean and spread could turn over
    adjusted = (every.max(axis=1)[:, None] >= observed - 1e-9).mean(axis=0)
    table = compare_groups(rows(*values), group=group, clusters=clusters, models=models, draws=20_000)
    assert list(table["p"]) == pytest.approx(p, abs=0.015)
    assert list(table["p_adjusted"]) == pytest.approx(adjusted, abs=0.015)


def test_whole_models_are_relabelled_in_every_way_where_each_holds_one_group():
    values, clusters, models = nested(9, [3, 5, 2, 4, 6, 3, 2, 4, 5, 3], per_cluster=2)
    values += 1.2 * (models < 5)
    group = np.where(models < 5, "a", "b")
    chosen = relabelings_of_models(models, group)
    assert len(chosen) == 252
    every = differences([values], chosen)[:, 0]
    observed = np.mean(values[group == "a"]) - np.mean(values[group == "b"])
    p = (np.abs(every - every.mean()) >= abs(observed - every.mean()) - 1e-9).mean()
    settings = {"group": group, "clusters": clusters, "models": models}
    table = compare_groups(rows(values), draws=251, **settings).iloc[0]
    assert table["p"] == pytest.approx(p, abs=1e-12)  # exact: every relabelling once
    assert table["p"] != pytest.approx(compare_groups(rows(values), draws=250, **settings).iloc[0]["p"], abs=1e-9)
    assert compare_groups(rows(values), draws=250, **settings).iloc[0]["p"] == pytest.approx(p, abs=0.08)


def test_three_models_against_three_cannot_tell_however_far_apart():
    values, clusters, models = nested(10, [20] * 6, per_cluster=1, between=0.0)
    table = compare_groups(
        rows(values + 100.0 * (models < 3)), group=np.where(models < 3, "a", "b"), clusters=clusters, models=models
    )
    assert table["p"].iloc[0] == pytest.approx(0.1)


def uneven(seed: int, effect: float = 0.0):
    """Models that differ much in level, and in how many of their clusters are of group a."""
    values, clusters, models = nested(seed, [12] * 4, per_cluster=2, between=0.0)
    group = split(clusters, models, [0.75, 0.75, 0.25, 0.25])
    return values - 4.0 * np.array([1, 2, -1, -2])[models] + effect * (group == "a"), clusters, models, group


def test_false_positives_are_five_percent_where_models_differ_in_level_and_in_shares():
    within, naive, simulations = 0, 0, 200
    for seed in range(simulations):
        values, clusters, models, group = uneven(seed)
        settings = {"group": group, "draws": 199, "seed": seed}
        table = compare_groups(rows(values), clusters=clusters, models=models, **settings)
        within += table["p"].iloc[0] <= 0.05
        naive += compare_groups(rows(values), clusters=models * 12 + clusters, **settings)["p"].iloc[0] <= 0.05
    tolerance = 3 * np.sqrt(simulations * 0.05 * 0.95)
    assert abs(within - 0.05 * simulations) < tolerance
    assert naive > 0.9 * simulations


@pytest.mark.parametrize("effect", [-1.5, 1.5])
def test_an_effect_within_models_is_found_whichever_way_their_levels_pull(effect: float):
    values, clusters, models, group = uneven(11, effect)
    table = compare_groups(rows(values), group=group, clusters=clusters, models=models, draws=999)
    assert table["p"].iloc[0] < 0.01
    assert table["difference"].iloc[0] < 0  # pooled rows follow the levels


def test_draws_in_blocks_are_the_same_draws(monkeypatch):
    values, clusters, models = nested(12, [4] * 6, per_cluster=2)
    group = np.where(models < 3, "a", "b")
    programs = {"group": group, "clusters": models * 4 + clusters, "draws": 500}
    nested_programs = {"group": group, "clusters": clusters, "models": models, "draws": 5000}
    at_once = [compare_groups(rows(values), **settings) for settings in (programs, nested_programs)]
    monkeypatch.setattr("pbb_probe.statistics.resampling.DRAWN_AT_ONCE", 24 * 7)
    in_blocks = [compare_groups(rows(values), **settings) for settings in (programs, nested_programs)]
    assert in_blocks[0].equals(at_once[0])
    assert in_blocks[1]["p"].equals(at_once[1]["p"])
    # models take turns within a block, so with them the draws are others, and as many
    width = (at_once[1]["upper"] - at_once[1]["lower"])[0]
    assert list(in_blocks[1]["lower"]) == pytest.approx(list(at_once[1]["lower"]), abs=0.06 * width)
    assert list(in_blocks[1]["upper"]) == pytest.approx(list(at_once[1]["upper"]), abs=0.06 * width)


@pytest.mark.parametrize(
    ("clusters", "models", "message"),
    [
        ("pqrs", list("xyz"), "4 rows and 3 models"),
        ("pqrs", [0, 1, None, 1], "no model"),
        (["p", None, "q", "r"], None, "no cluster"),
        ("pqpr", list("xxxx"), "several groups"),
    ],
)
def test_what_cannot_be_resampled_is_refused(clusters, models, message: str):
    with pytest.raises(PbbError, match=message):
        compare_groups(rows([0.0] * 4), group=list("aabb"), clusters=list(clusters), models=models, draws=10)
