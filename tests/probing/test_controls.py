"""Each control shows nothing where there is nothing but what it allows, and shows what it allows."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import r2_score

from pbb_probe.errors import PbbError
from pbb_probe.hooking.calls import make_prompts
from pbb_probe.probing.controls import embeddings, permuted_within, relabelled_targets
from pbb_probe.probing.linear import fit_probes
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.program import Program, trace_programs
from pbb_probe.programs.relabel import relabelled

CLUSTERS, ROWS = 30, 6
N = CLUSTERS * ROWS
CLUSTER = np.repeat(np.arange(CLUSTERS), ROWS)
RNG = np.random.default_rng(0)


def written(*columns, noise=0.1, layers=1) -> xr.Dataset:
    """Activations in which each column of classes has directions of its own."""
    values = np.concatenate([4 * np.eye(10)[column] for column in columns], axis=1)
    values = values + noise * RNG.normal(size=(layers, 1, *values.shape))
    return xr.Dataset(
        {"resid_post": (("layer", "role", "prompt", "d_model"), values.astype(np.float32))},
        coords={"layer": range(layers), "role": ["answer"]},
    )


def test_permutation_keeps_what_follows_from_the_cluster_and_nothing_else():
    of_program = RNG.integers(3, size=CLUSTERS)[CLUSTER]
    of_input = RNG.integers(3, size=N)
    targets = pd.DataFrame({"op_1": of_program, "state_1": of_input})
    probes = fit_probes(written(of_program, of_input), targets, CLUSTER, controls=("permutation", "chance"))
    control = probes["accuracy"].mean("fold").squeeze()
    assert (control.sel(control="none") > 0.95).all()
    assert float(control.sel(control="permutation", target="op_1")) > 0.95
    assert float(control.sel(control="permutation", target="state_1")) < 0.5
    assert probes["correct"].dims == ("control", "target", "site", "layer", "role", "prompt")


def test_permutation_deals_each_clusters_own_values():
    table = pd.DataFrame({"a": pd.Series(RNG.integers(10, size=N)).where(RNG.random(N) < 0.8), "b": np.arange(N)})
    dealt = permuted_within(table, CLUSTER.tolist(), seed=3)
    for name in table:
        assert (dealt[name].isna() >= table[name].isna()).all()
        for cluster in range(CLUSTERS):
            mine = cluster == CLUSTER
            if table[name][mine].notna().sum() > 1:
                assert Counter(dealt[name][mine].dropna()) == Counter(table[name][mine].dropna())
    moved = (dealt["b"] != table["b"]).mean()
    assert 0.7 < moved < 0.95  # of six in a cluster one stays by chance
    order = RNG.permutation(N)  # clusters need not stand together
    scattered = permuted_within(table.iloc[order], CLUSTER[order].tolist())
    assert (scattered["b"].groupby(CLUSTER[order]).sum() == table["b"].groupby(CLUSTER).sum()).all()


def test_rows_alone_in_their_cluster_cannot_be_permuted():
    clusters = [0, 0, 0, 1, 2, 2, 3]
    table = pd.DataFrame({"a": [1, 2, 3, 4, 5, None, 7], "b": [None, None, 3, 4, 5, None, 7]})
    dealt = permuted_within(table, clusters)
    assert list(dealt) == ["a"]  # of b every known value is alone
    assert set(dealt["a"][:3]) == {1, 2, 3}
    assert dealt["a"][3:].isna().all()
    classes = RNG.integers(3, size=N)
    alone = fit_probes(written(classes), pd.DataFrame({"output": classes}), range(N), controls=("permutation",))
    assert np.isnan(alone["accuracy"].sel(control="permutation")).all()


def test_chance_is_scikit_learns_dummy():
    values = pd.Series(RNG.choice(3, p=[0.6, 0.3, 0.1], size=N)).where(RNG.random(N) < 0.9)
    number = RNG.normal(size=N) + 3
    train = CLUSTER < 22
    fold = CLUSTER % 4
    probes = fit_probes(
        written(RNG.integers(3, size=N)),
        pd.DataFrame({"class": values, "number": number}),
        CLUSTER,
        train=train,
        folds=fold,
        kinds={"number": "ridge"},
        controls=("chance",),
    ).squeeze(["site", "layer", "role"])
    known = values.notna().to_numpy()
    for k in range(4):
        fitted, held_out = train & (fold != k), train & (fold == k)
        guess = DummyClassifier().fit(np.zeros((N, 1))[fitted & known], values[fitted & known])
        expected = guess.score(np.zeros((N, 1))[held_out & known], values[held_out & known])
        assert probes["accuracy"].sel(control="chance", target="class", fold=k).item() == pytest.approx(expected)
        mean = DummyRegressor().fit(np.zeros((N, 1))[fitted], number[fitted]).predict(np.zeros((N, 1))[held_out])
        found = probes["r2"].sel(control="chance", target="number", fold=k).item()
        assert found == pytest.approx(r2_score(number[held_out], mean), abs=1e-6)
    others = probes["correct"].sel(control="chance", target="class").values.squeeze()[~train & known]
    assert set(np.round(others, 6)) <= {0.0, 1.0}
    assert others.mean() == pytest.approx((values[~train & known] == 0).mean())


def test_other_activations_are_read_in_the_same_folds():
    classes = RNG.integers(3, size=N)
    targets = pd.DataFrame({"output": classes})
    empty, full = written(RNG.integers(3, size=N), layers=2), written(classes, layers=2)
    controls = {"untrained": empty, "selectivity": None, "base": full}
    probes = fit_probes(full, targets, CLUSTER, controls=controls)
    assert probes["control"].values.tolist() == ["none", *controls]
    measured = probes["correct"].sel(control="none")
    assert np.array_equal(probes["correct"].sel(control="base"), measured)
    assert np.array_equal(fit_probes(full, targets, CLUSTER)["correct"], measured)
    alone = fit_probes(empty, targets, CLUSTER)
    assert np.array_equal(probes["accuracy"].sel(control="untrained"), alone["accuracy"])
    place = full.isel(layer=[0]).rename(resid_post="embed")
    of_tokens = fit_probes(empty, targets, CLUSTER, controls={"embedding": place})["correct"].sel(control="embedding")
    for layer in (0, 1):
        assert np.array_equal(of_tokens.isel(layer=layer), measured.isel(layer=0))


def test_a_reader_of_states_does_not_read_relabelled_ones():
    state, other = RNG.integers(5, size=N), RNG.integers(5, size=N)
    targets = pd.DataFrame({"input": RNG.integers(5, size=N), "state_1": state})
    controls = {"relabelled": pd.DataFrame({"state_1": other})}
    probes = fit_probes(written(state), targets, CLUSTER, controls=controls)["accuracy"].mean("fold").squeeze()
    assert float(probes.sel(control="none", target="state_1")) > 0.95
    assert float(probes.sel(control="relabelled", target="state_1")) < 0.4
    assert np.isnan(probes.sel(control="relabelled", target="input"))
    both = fit_probes(written(state, other), targets, CLUSTER, controls=controls)["accuracy"]
    assert float(both.sel(control="relabelled", target="state_1").mean()) > 0.95  # it can fail


@pytest.mark.parametrize("given", ["types", np.arange(N) % 10])
def test_the_types_of_the_control_task_are_a_label_or_values(given):
    acts = written(np.arange(N) % 10).assign_coords(types=("prompt", [f"type {k % 10}" for k in range(N)]))
    targets = pd.DataFrame({"output": RNG.integers(3, size=N)})
    probes = fit_probes(acts, targets, CLUSTER, controls={"selectivity": given})["accuracy"].mean("fold")
    assert float(probes.sel(control="selectivity").mean()) > 0.95
    assert float(probes.sel(control="none").mean()) < 0.55


ACTS, OUTPUT = written(RNG.integers(3, size=N), layers=2), pd.DataFrame({"output": RNG.integers(3, size=N)})


@pytest.mark.parametrize(
    ("controls", "said"),
    [
        ({"base": ACTS.isel(layer=[1, 0])}, "'base' have other sites, layers or roles"),
        ({"base": ACTS.isel(prompt=slice(5))}, "There are 180 prompts, and the control 'base' has 5"),
        ({"relabelled": OUTPUT[:7]}, "There are 180 prompts, and the control 'relabelled' has 7"),
        ({"chance": ACTS}, "'chance' is a name that controls have already"),
        ({"none": OUTPUT}, "'none' is a name that controls have already"),
        ({"untrained": None}, "'untrained' needs a table of other values or a Dataset of activations, not null"),
        ({"permutation": CLUSTER}, "'permutation' needs nothing"),
        ({"selectivity": CLUSTER[:-1]}, "180 prompts and 179 values of selectivity"),
        ({"selectivity": [None, *CLUSTER[1:]]}, "Prompt 0 has no value of selectivity"),
        ({"selectivity": "type"}, "selectivity names 'type', which is no label of these activations"),
        ({3: ACTS}, "The name of a control must be a name"),
        (("relabelled",), "controls must be a list of different controls out of selectivity"),
        (("chance", "chance"), "controls must be a list of different controls"),
        ("chance", "controls must be a list of different controls"),
        (None, "controls must be a list of different controls"),
    ],
)
def test_controls_that_lack_what_they_need_are_refused(controls, said):
    with pytest.raises(PbbError, match=said):
        fit_probes(ACTS, OUTPUT, CLUSTER, controls=controls)


def test_relabelled_targets_are_traces_of_relabelled_programs(corpus):
    labels = corpus.calls()
    names = ["input", "op_1", "state_1", "output"]
    table = relabelled_targets(labels, names, seed=1)
    assert list(table) == ["state_1", "output"]
    for i in range(0, len(labels), 7):
        row = labels.iloc[i]
        program = Program(row["program"], "", relabelled(row["source"], 1))
        ((trace,),) = trace_programs([program], [[int(row["input"])]])
        expected = trace.output if trace.output in range(10) else None
        assert table["output"][i] == expected or (expected is None and pd.isna(table["output"][i]))
        first = trace.states[0] if trace.states and trace.states[0] in range(10) else None
        assert table["state_1"][i] == first or (first is None and pd.isna(table["state_1"][i]))
    assert 0.05 < (table["output"] == labels["output"]).mean() < 0.5
    with pytest.raises(PbbError, match="no column 'call'"):
        relabelled_targets(labels.drop(columns="call"), names)


def test_relabelled_passes_are_those_of_relabelled_loops():
    labels = make_corpus("arithmetic", with_io=12, without_io=0, shapes=("loop",)).calls()
    table = relabelled_targets(labels, ["pass_2", "output"], seed=1)
    assert "pass_2" in table
    told = 0
    for i, row in enumerate(labels.to_dict(orient="records")):
        step = relabelled(row["source"], 1).splitlines()[2].strip()
        scope = {"x": row["input"]}
        for _ in range(2):
            exec(step, scope)
        if pd.notna(table["pass_2"][i]):
            assert table["pass_2"][i] == scope["x"]
            told += scope["x"] != row["pass_2"]
    assert told > 20


def test_embeddings_are_those_of_the_roles_tokens(corpus, bridge, bare):
    model = bridge("llama")
    prompts = make_prompts(corpus, model, n=10)
    acts = embeddings(model, prompts, ("input", "answer"))
    table = bare("llama").get_input_embeddings().weight.detach()
    expected = torch.cat([table[prompts.tokens[range(20), prompts.roles[role]]] for role in ("input", "answer")], dim=1)
    assert acts["embed"].dims == ("layer", "role", "prompt", "d_model")
    assert np.allclose(acts["embed"].values[0, 0], expected)


def test_folds_may_be_given_and_no_cluster_lies_in_two():
    classes = RNG.integers(3, size=N)
    acts, targets = written(classes), pd.DataFrame({"output": classes})
    given = fit_probes(acts, targets, CLUSTER, folds=CLUSTER % 3)
    assert given.sizes["fold"] == 3
    assert float(given["accuracy"].min()) > 0.9
    with pytest.raises(PbbError, match="A cluster has rows in two folds"):
        fit_probes(acts, targets, CLUSTER, folds=np.arange(N) % 3)
    for wrong in (CLUSTER % 3 + 1, CLUSTER[:-1] % 3, CLUSTER % 3 / 1):
        with pytest.raises(PbbError, match="folds must be a "):
            fit_probes(acts, targets, CLUSTER, folds=wrong)
