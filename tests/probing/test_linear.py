"""A probe's numbers are those of a plain scikit-learn loop, and a cluster it was tested on never taught it."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from pbb_probe.errors import PbbError
from pbb_probe.labels import labels_of, with_labels
from pbb_probe.probing.controls import control_task, shuffled_values
from pbb_probe.probing.linear import fit_probes
from pbb_probe.probing.places import BYTES_A_FEATURE, BYTES_A_PAIR, BYTES_A_ROW

CLUSTERS, ROWS = 20, 8
N = CLUSTERS * ROWS
CLUSTER = np.repeat(np.arange(CLUSTERS), ROWS)


def dataset(layers=1, roles=("answer",), width=6, seed=0) -> xr.Dataset:
    """Activations of noise."""
    values = np.random.default_rng(seed).normal(size=(layers, len(roles), N, width)).astype(np.float32)
    return xr.Dataset(
        {"resid_post": (("layer", "role", "prompt", "d_model"), values)},
        coords={"layer": list(range(layers)), "role": list(roles)},
    )


class Rows:
    """Prompts of which labels are all there is."""

    unit = "prompt"

    def __init__(self, labels: pd.DataFrame):
        self.labels = labels


def labels(classes=3, seed=1) -> pd.DataFrame:
    return pd.DataFrame({"output": np.random.default_rng(seed).integers(classes, size=N)})


def fit(acts, targets, clusters=CLUSTER, **options) -> xr.Dataset:
    return fit_probes(acts, targets, clusters, **options)


def planted(classes=3, strength=1.5, **options):
    """Noise with a class written into it along random directions."""
    acts, targets = dataset(**options), labels(classes)
    directions = np.random.default_rng(2).normal(size=(classes, acts.sizes["d_model"]))
    acts["resid_post"][0, 0] += strength * directions[targets["output"]]
    return acts, targets


def fold_of(clusters, seed, folds):
    """The fold of each row: clusters are dealt out in a random order."""
    codes = pd.factorize(pd.Series(list(clusters)))[0]
    return np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % folds


@pytest.mark.parametrize("strength", [0.01, 10.0])
def test_numbers_are_those_of_a_plain_loop(strength):
    acts, targets = planted(strength=0.6)
    acts["resid_post"] *= np.array([1, 100, 0.01, 1, 1, 1])  # features of other scales: they are standardised
    names = [f"program {c % 7} {c}" for c in CLUSTER]
    probes = fit(acts, targets, names, C=strength, folds=4, seed=5)
    x, y = acts["resid_post"].values[0, 0].astype(float), targets["output"].to_numpy()
    fold = fold_of(names, 5, 4)
    correct, accuracy = np.zeros(N), []
    for k in range(4):
        mean, scale = x[fold != k].mean(0), x[fold != k].std(0)
        probe = LogisticRegression(C=strength, max_iter=5000, tol=1e-6)
        probe.fit((x[fold != k] - mean) / scale, y[fold != k])
        correct[fold == k] = probe.predict((x[fold == k] - mean) / scale) == y[fold == k]
        accuracy.append(correct[fold == k].mean())
    cell = {"target": "output", "site": "resid_post", "layer": 0, "role": "answer"}
    assert np.array_equal(probes["correct"].sel(cell), correct)
    assert np.allclose(probes["accuracy"].sel(cell), accuracy)
    assert 0.4 < correct.mean() < 0.95


def test_a_cluster_is_never_in_both_halves():
    acts = dataset(width=CLUSTERS)
    acts["resid_post"][0, 0] = 5 * np.eye(CLUSTERS)[CLUSTER]  # which cluster, and nothing else
    by_cluster = np.random.default_rng(3).permutation(np.arange(CLUSTERS) % 2)
    targets = pd.DataFrame({"output": by_cluster[CLUSTER]})
    assert float(fit(acts, targets)["correct"].mean()) < 0.65
    split = fit(acts, targets, clusters=np.arange(N))  # every row a cluster of its own: now it can be learned by heart
    assert float(split["correct"].mean()) == 1.0


def test_a_planted_direction_is_found_where_it_is_and_nowhere_else():
    acts = dataset(layers=3, roles=("name", "input"))
    acts["attn_out"] = dataset(layers=3, roles=("name", "input"), seed=9)["resid_post"]
    targets = labels(3).assign(other=labels(3, seed=8)["output"])
    acts["attn_out"][1, 1] += 3 * np.random.default_rng(2).normal(size=(3, 6))[targets["output"]]
    correct = fit(acts, targets)["correct"].mean("prompt")
    here = {"target": "output", "site": "attn_out", "layer": 1, "role": "input"}
    assert float(correct.sel(here)) > 0.95
    correct.loc[here] = np.nan
    assert float(correct.max()) < 0.55


def test_heads_are_read_together():
    acts = dataset(width=6)
    targets = pd.DataFrame({"output": 2 * (np.arange(N) // 2 % 2) + np.arange(N) % 2})
    bits = np.stack([targets["output"] // 2, targets["output"] % 2], axis=1)  # one bit a head
    values = acts["resid_post"].values.reshape(1, 1, N, 2, 3) + 6 * bits[None, None, :, :, None]
    heads = xr.Dataset({"z": (("layer", "role", "prompt", "head", "d_head"), values)}, coords=acts.coords)
    assert float(fit(heads, targets)["correct"].mean()) > 0.95
    assert float(fit(heads.isel(head=[0]), targets)["correct"].mean()) < 0.7


def test_rows_outside_train_are_read_by_every_probe_and_teach_none():
    acts, targets = planted()
    train = CLUSTER < 4
    options = {"train": train, "folds": 4, "seed": 9}
    probes = fit(acts, targets, **options)
    x, y = acts["resid_post"].values[0, 0].astype(float), targets["output"].to_numpy()
    shares = np.zeros(N)
    for held_out in range(4):  # as many folds as clusters: each probe lacks one of them, in whatever order
        fitted = train & (held_out != CLUSTER)
        mean, scale = x[fitted].mean(0), x[fitted].std(0)
        probe = LogisticRegression(max_iter=5000, tol=1e-6).fit((x[fitted] - mean) / scale, y[fitted])
        shares += (probe.predict((x - mean) / scale) == y) / 4
    assert np.allclose(probes["correct"].values.squeeze()[~train], shares[~train])
    assert len(set(shares[~train].round(2))) > 2  # the probes do not all agree

    changed, moved = targets.copy(), acts.copy(deep=True)
    changed.loc[~train, "output"] = (changed.loc[~train, "output"] + 1) % 3
    moved["resid_post"][0, 0, ~train] *= 1000
    for other in (fit(acts, changed, **options), fit(moved, targets, **options)):
        assert np.array_equal(other["correct"].values[..., train], probes["correct"].values[..., train])
        assert np.array_equal(other["accuracy"], probes["accuracy"])
    relabelled = fit(acts, changed, **options)["correct"].values[..., ~train]
    assert relabelled.mean() < 0.4 < probes["correct"].values[..., ~train].mean()


@pytest.mark.parametrize("seed", range(4))
def test_every_fold_holds_out_some_of_the_clusters_trained_on(seed):
    acts, targets = planted()
    probes = fit(acts, targets, train=CLUSTER < 5, folds=5, seed=seed)
    assert probes["accuracy"].notnull().all()


def test_missing_targets_are_left_out_of_that_target_only():
    acts, targets = planted()
    missing = np.arange(N) % 5 == 0
    targets = targets.assign(state_1=targets["output"].where(~missing))
    probes = fit(acts, targets)
    state = probes["correct"].sel(target="state_1").values.squeeze()
    assert np.array_equal(np.isnan(state), missing)
    assert not probes["correct"].sel(target="output").isnull().any()
    fold = fold_of(CLUSTER, 0, 5)
    expected = [state[(fold == k) & ~missing].mean() for k in range(5)]
    assert np.allclose(probes["accuracy"].sel(target="state_1").values.squeeze(), expected)
    kept = acts.isel(prompt=np.flatnonzero(~missing))
    without = fit_probes(kept, targets[~missing][["output"]], CLUSTER[~missing])
    assert np.array_equal(without["correct"].values.squeeze(), state[~missing])


def test_the_control_task_cannot_be_learned_when_its_types_are_clusters():
    acts, targets = planted(strength=5)
    acts = xr.concat([acts["resid_post"], 5 * xr.ones_like(acts["resid_post"])], dim="d_model").to_dataset()
    acts["resid_post"][0, 0, :, 6:] *= np.random.default_rng(4).normal(size=(CLUSTERS, 6))[CLUSTER]
    probes = fit(acts, targets, controls=("selectivity",))
    assert float(probes["correct"].sel(control="none").mean()) > 0.95
    control = probes.sel(control="selectivity")
    assert float(control["correct"].mean()) < 0.6
    assert np.allclose(control["accuracy"].mean(), control["correct"].mean())


def test_the_control_task_deals_one_class_a_type_from_the_targets_own():
    types = np.arange(3000) % 1000
    values = pd.Series(np.where(np.arange(3000) % 10 < 8, "often", "seldom")).where(np.arange(3000) % 3 > 0)
    table = control_task(pd.DataFrame({"output": values}), types)["output"]
    assert table.isna().equals(values.isna())
    known = pd.DataFrame({"dealt": table, "type": types}).dropna()
    assert (known.groupby("type")["dealt"].nunique() == 1).all()
    assert 0.7 < (known.groupby("type")["dealt"].first() == "often").mean() < 0.9
    assert not table.equals(values)


def test_shuffled_values_are_scored_and_not_fitted():
    """As a plain loop does it: the same probes, told right where they say another prompt's value."""
    acts, targets = planted(classes=3, width=8)
    missing = np.arange(N) % 5 == 0
    targets = targets.assign(
        output=targets["output"].where(~missing), number=acts["resid_post"].values[0, 0].sum(1), whole=CLUSTER % 3
    )
    train = CLUSTER < 15
    options = {"train": train, "folds": 3, "kinds": {"number": "ridge"}, "seed": 4}
    probes = fit(acts, targets, controls=("shuffled",), **options)
    xr.testing.assert_identical(probes.sel(control="none", drop=True), fit(acts, targets, **options))
    dealt = shuffled_values(targets, seed=4)
    pd.testing.assert_frame_equal(dealt[["output"]], shuffled_values(targets[["output"]], seed=4))
    for name in targets:
        assert sorted(dealt[name].dropna()) == sorted(targets[name].dropna())
    assert (dealt["output"].isna() == missing).all()
    assert (dealt["output"] == targets["output"])[~missing].mean() < 0.6
    x, fold = acts["resid_post"].values[0, 0].astype(float), np.full(N, -1)
    fold[train] = fold_of(CLUSTER[train], 4, 3)
    shares, r2 = np.zeros(N), []
    for k in range(3):
        fitted, held_out = train & (fold != k) & ~missing, fold == k
        scaler = StandardScaler().fit(x[fitted])
        probe = LogisticRegression(max_iter=5000, tol=1e-6).fit(scaler.transform(x[fitted]), targets["output"][fitted])
        said = probe.predict(scaler.transform(x)) == dealt["output"]
        shares[held_out] = said[held_out]
        shares[~train] += said[~train] / 3
        scaler = StandardScaler().fit(x[train & (fold != k)])
        ridge = Ridge(alpha=1.0).fit(scaler.transform(x[train & (fold != k)]), targets["number"][train & (fold != k)])
        r2.append(r2_score(dealt["number"][held_out], ridge.predict(scaler.transform(x[held_out]))))
    cell = {"site": "resid_post", "layer": 0, "role": "answer"}
    found = probes["correct"].sel(control="shuffled", target="output", **cell).values
    assert (np.isnan(found) == missing).all()
    assert np.allclose(found[~missing], shares[~missing])
    assert np.allclose(probes["r2"].sel(control="shuffled", target="number", **cell), r2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": labels()[:-1]}, "160 prompts and 159 rows of targets"),
        ({"targets": "output"}, "targets must be a list of one or more different names"),
        (
            {"targets": ["output"]},
            "targets names 'output', which is no label of these activations .they have no labels",
        ),
        ({"clusters": CLUSTER[:-1]}, "160 prompts and 159 values of clusters"),
        ({"clusters": "program"}, "clusters names 'program', which is no label"),
        ({"clusters": [None, *CLUSTER[1:]]}, "Prompt 0 has no value of clusters"),
        ({"train": np.ones(N - 1, bool)}, "for each of the 160 prompts"),
        ({"targets": labels(1)}, "'output' has fewer than two classes"),
        ({"targets": pd.DataFrame({"output": np.full(N, np.nan)})}, "fewer than two classes"),
        ({"targets": pd.DataFrame({"output": CLUSTER == 3})}, "fewer than two classes"),  # but in one fold
        ({"folds": CLUSTERS + 1}, "there are 20"),
        ({"train": CLUSTER < 4}, "there are 4"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"folds": [0] * N}, "folds must be at least 2"),
        ({"folds": 0}, "folds must be a whole number from 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    arguments = {"targets": labels(), "clusters": CLUSTER} | change
    with pytest.raises(PbbError, match=message):
        fit_probes(dataset(), **arguments)


def test_labels_are_named_and_stay_on_what_is_returned():
    acts, targets = planted()
    table = targets.assign(program=[f"p{c}" for c in CLUSTER], correct=CLUSTER % 2 == 0, state_1=targets["output"])
    table.loc[::5, "state_1"] = None
    labelled = with_labels(acts, Rows(table))
    probes = fit_probes(labelled, ["output", "state_1"], controls=["chance"])
    given = fit(acts, table[["output", "state_1"]], table["program"], controls=["chance"])
    for variable in ("accuracy", "correct"):
        assert np.array_equal(probes[variable], given[variable], equal_nan=True)
    expected = table.rename(columns={"correct": "prompt_correct"})
    pd.testing.assert_frame_equal(labels_of(probes), expected, check_like=True)
    pd.testing.assert_frame_equal(labels_of(probes["correct"]), labels_of(probes))
    pd.testing.assert_frame_equal(labels_of(given), table[["output", "state_1"]], check_like=True)  # what is scored
    with pytest.raises(
        PbbError, match=r"'input', which is no label of these activations \(their labels are output, pro"
    ):
        fit_probes(labelled, ["input"])


def test_targets_of_mixed_kinds_in_one_call():
    acts, targets = planted(classes=3, layers=2, width=8)
    x = acts["resid_post"].values.astype(float)
    missing = np.arange(N) % 7 == 0
    number = pd.Series(x[1, 0] @ np.arange(8) + 3).where(~missing)
    targets = targets.assign(number=number, nearest=targets["output"])
    kinds = {"number": "ridge", "nearest": "mean_difference"}
    train = CLUSTER < 15
    probes = fit(acts, targets, kinds=kinds, folds=3, C=2.0, train=train)
    assert probes["accuracy"].sel(target="number").isnull().all()
    assert probes["r2"].sel(target=["output", "nearest"]).isnull().all()
    fold = np.full(N, -1)
    fold[train] = fold_of(CLUSTER[train], 0, 3)
    predicted, nearest, r2 = np.zeros(N), np.zeros(N), []
    for k in range(3):
        fitted = train & (fold != k)
        scaler = StandardScaler().fit(x[1, 0, fitted & ~missing])
        ridge = Ridge(alpha=0.5).fit(scaler.transform(x[1, 0, fitted & ~missing]), number[fitted & ~missing])
        said = ridge.predict(scaler.transform(x[1, 0]))
        held_out = (fold == k) & ~missing
        predicted[held_out] = said[held_out]
        predicted[~train & ~missing] += said[~train & ~missing] / 3
        r2.append(r2_score(number[held_out], said[held_out]))
        scaler = StandardScaler().fit(x[0, 0, fitted])
        centroid = NearestCentroid().fit(scaler.transform(x[0, 0, fitted]), targets["output"][fitted])
        right = centroid.predict(scaler.transform(x[0, 0])) == targets["output"]
        nearest[fold == k] = right[fold == k]
        nearest[~train] += right[~train] / 3
    read = probes.sel(site="resid_post", role="answer")
    assert np.allclose(read["r2"].sel(target="number", layer=1), r2)
    found = read["predicted"].sel(target="number", layer=1).values
    assert np.isnan(found[missing]).all()
    assert np.allclose(found[~missing], predicted[~missing], rtol=1e-5)
    assert np.allclose(read["correct"].sel(target="nearest", layer=0), nearest)


def test_places_fitted_together_are_each_alone(monkeypatch):
    acts, targets = planted(layers=3)
    at_once = fit_probes(acts, targets, CLUSTER, controls=("selectivity",))
    one = (N * (6 * BYTES_A_FEATURE + BYTES_A_ROW) + 6 * 6 * BYTES_A_PAIR) / 2**30
    little = fit_probes(acts, targets, CLUSTER, controls=("selectivity",), memory_gib=1.5 * one)
    xr.testing.assert_allclose(little, at_once)
    monkeypatch.setattr("pbb_probe.probing.places.VALUES_AT_ONCE", 1)
    xr.testing.assert_allclose(fit_probes(acts, targets, CLUSTER, controls=("selectivity",)), at_once)
    with pytest.raises(PbbError, match="One place of 160 prompts and 6 features takes"):
        fit_probes(acts, targets, CLUSTER, memory_gib=0.9 * one)


def test_the_strength_that_does_best_on_held_out_clusters_is_chosen():
    """As a plain loop with scikit-learn chooses it, for classes and for numbers, at each place by itself."""
    acts, targets = planted(layers=2, width=30, strength=0.35)
    number = acts["resid_post"].values[0, 0].astype(float) @ np.random.default_rng(5).normal(size=30)
    number = number + 8 * np.random.default_rng(6).normal(size=N)
    targets = targets.assign(number=number)
    grid = [1.0, 0.001, 30.0, 0.03]
    probes = fit(acts, targets, C=grid, folds=3, kinds={"number": "ridge"}, seed=2)
    fold = fold_of(CLUSTER, 2, 3)
    chosen = probes["C"].sel(site="resid_post", role="answer")
    for layer in (0, 1):
        x = acts["resid_post"].values[layer, 0].astype(float)
        for k in range(3):
            rows = np.flatnonzero(fold != k)
            inner = fold_of(CLUSTER[rows], 2, 3)
            right, errors = [], []
            for c in sorted(grid):
                hits = error = 0.0
                for j in range(3):
                    fitted, new = rows[inner != j], rows[inner == j]
                    scaler = StandardScaler().fit(x[fitted])
                    here, there = scaler.transform(x[fitted]), scaler.transform(x[new])
                    probe = LogisticRegression(C=c, max_iter=10_000, tol=1e-8).fit(here, targets["output"][fitted])
                    hits += (probe.predict(there) == targets["output"][new]).sum()
                    said = Ridge(alpha=1 / c).fit(here, number[fitted]).predict(there)
                    error += ((said - number[new]) ** 2).sum()
                right.append(hits)
                errors.append(error)
            assert chosen.sel(target="output", layer=layer, fold=k) == sorted(grid)[int(np.argmax(right))]
            assert chosen.sel(target="number", layer=layer, fold=k) == sorted(grid)[int(np.argmin(errors))]
    assert len(np.unique(chosen)) > 1  # they do not all agree
    best = float(chosen.sel(target="output", layer=0, fold=0))
    alone = fit(acts, targets[["output"]], C=best, folds=3, seed=2)["accuracy"]
    here = {"target": "output", "site": "resid_post", "layer": 0, "role": "answer", "fold": 0}
    assert float(alone.sel(here)) == float(probes["accuracy"].sel(here))


def test_a_target_that_an_inner_fold_cannot_teach_leaves_the_choice_for_others_alone():
    acts, targets = planted(layers=3, width=30, strength=0.35)
    fold = fold_of(np.arange(CLUSTERS), 0, 3)
    some = [int(np.flatnonzero(fold == k)[0]) for k in (0, 1)]  # one cluster in each of two outer folds
    options = {"C": [0.001, 0.03, 1.0, 30.0], "folds": 3}
    alone = fit(acts, targets, **options)
    beside = fit(acts, targets.assign(rare=np.isin(CLUSTER, some)), **options)
    xr.testing.assert_identical(beside["C"].sel(target=["output"]), alone["C"])


def test_balanced_classes_count_alike():
    acts, _ = planted(classes=2, width=6, strength=0.8)
    rare = np.random.default_rng(2).random(N) < 0.15
    acts["resid_post"][0, 0, rare, 0] += 1.2
    targets = pd.DataFrame({"rare": rare, "number": acts["resid_post"].values[0, 0, :, 1]})
    found = {}
    for balanced in (False, True):
        probes = fit(acts, targets, folds=4, balanced=balanced, kinds={"number": "ridge"})
        x, fold, correct = acts["resid_post"].values[0, 0].astype(float), fold_of(CLUSTER, 0, 4), np.zeros(N)
        for k in range(4):
            scaler = StandardScaler().fit(x[fold != k])
            probe = LogisticRegression(class_weight="balanced" if balanced else None, tol=1e-8, max_iter=10_000)
            probe.fit(scaler.transform(x[fold != k]), rare[fold != k])
            correct[fold == k] = probe.predict(scaler.transform(x[fold == k])) == rare[fold == k]
        found[balanced] = probes["correct"].sel(target="rare").values.squeeze()
        assert np.array_equal(found[balanced], correct)
    assert found[True][rare].mean() > found[False][rare].mean() + 0.1


@pytest.mark.parametrize("strength", [0, -1.0, [1.0, 0.0], []])
def test_strengths_that_are_none_are_refused(strength):
    with pytest.raises(PbbError, match="C must be a number from 1e-06 to 100000"):
        fit(dataset(), labels(), C=strength)


def test_activations_that_are_no_numbers_are_named():
    acts, targets = planted(layers=3, roles=("name", "answer"))
    acts["resid_post"][2, 1, 17, 3] = np.inf
    with pytest.raises(PbbError, match="resid_post at layer 2 is NaN or infinite for prompt 17"):
        fit(acts, targets)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"nothing": "ridge"}, "names 'nothing', which is no target"),
        ({"output": "tree"}, "Unknown kind 'tree'"),
        ({"word": "ridge"}, "not all its values are finite numbers"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(kinds, said):
    targets = labels().assign(word=np.where(np.arange(N) % 2, "a", "b"))
    with pytest.raises(PbbError, match=said):
        fit(dataset(), targets, kinds=kinds)
