"""Values and inputs of several tokens: the lens by the bare model, probes by probes of the prompts that have a role."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from spelled import spelling_model

from pbb_probe.errors import PbbError
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.items import with_items
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.probing.groups import direction_cosines
from pbb_probe.probing.lens import lens
from pbb_probe.probing.linear import fit_probes

TEXTS = ("of [3, 10] is", "the value of [7] is", "'oz' gives")
CALLS = ("[3, 10]", "[7]", "'oz'")
OUTPUTS = ("[12, 3]", "[15]", "[7, 7, 7]")


def prompts_of(model, outputs=OUTPUTS, side="right", **more) -> Prompts:
    spans = [(text.index(call), text.index(call) + len(call)) for text, call in zip(TEXTS, CALLS, strict=True)]
    labels = {"call": CALLS, "output": outputs}
    return with_items(model, Prompts.from_texts(model, TEXTS, {"input": spans}, labels, side, **more))


def says(hf, tokenizer, text: str, layer: int, at: int = -1) -> torch.Tensor:
    """The logit lens of the bare model at a position of one text."""
    with torch.inference_mode():
        states = hf(torch.tensor([tokenizer(text)["input_ids"]]), output_hidden_states=True).hidden_states
        body = hf.model.norm if hf.config.model_type == "llama" else hf.transformer.ln_f
        last = layer == hf.config.num_hidden_layers - 1  # of which Hugging Face has the normed states
        return hf.lm_head(states[-1][0, at] if last else body(states[layer + 1][0, at]))


@pytest.mark.parametrize("known_start", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_lens_looks_for_the_first_token_that_tells_values_apart(architecture, side, known_start):
    """All outputs begin with a bracket, so it is read behind that; 12 and 15 both begin with 1, and are one candidate.

    Whether the prompts knew that all answers begin with it makes no difference.
    """
    hf, model = spelling_model(architecture)
    prompts = prompts_of(model, side=side, **({"answers": OUTPUTS} if known_start else {}))
    seen = lens(model, prompts, ["output"], roles=["answer", "item_2"])
    assert seen["value"].values.tolist() == ["1", "7"]
    assert seen.attrs["first_token"] == 1
    tokens = model.tokenizer.convert_tokens_to_ids(["1", "7"])
    second = (6, None, 2)  # o ##f [ 3 , 1 ##0, of which the last token is read, and ' o ##z
    for i, text in enumerate(TEXTS):
        for layer in range(3):
            for role, read in (("answer", -1), ("item_2", second[i])):
                found = seen.isel(variable=0, prompt=i).sel(layer=layer, role=role)
                if read is None:
                    assert all(np.isnan(found[name]) for name in ("log_prob", "rank", "probability", "correct"))
                    continue
                logits = says(hf, model.tokenizer, text + " [", layer, read)
                right = int(OUTPUTS[i][1] == "7")
                assert np.isclose(found["log_prob"], logits.log_softmax(0)[tokens[right]], atol=1e-4)
                assert found["rank"] == int((logits > logits[tokens[right]]).sum())
                assert np.isclose(found["probability"], logits[tokens].softmax(0)[right], atol=1e-4)
                assert found["correct"] == (int(logits[tokens].argmax()) == right)


def test_values_that_begin_alike_are_refused_and_single_tokens_stay():
    _, model = spelling_model("llama")
    with pytest.raises(PbbError, match="'12', and none is told by its first token"):
        lens(model, prompts_of(model), pd.DataFrame({"output": [1, 12, 13]}), values=[12, 1, 13])
    prompts = prompts_of(model, outputs=["1", "7", "7"])
    assert "first_token" not in lens(model, prompts, ["output"]).attrs


N, CLUSTERS = 60, [i // 5 for i in range(60)]


def acts_of(seed=0) -> tuple[xr.Dataset, np.ndarray]:
    """Activations of two roles, the second of which every third prompt lacks, and which prompts have it."""
    values = np.random.default_rng(seed).normal(size=(2, 2, N, 6)).astype("float32")
    has = np.arange(N) % 3 != 0
    values[:, 1, ~has] = np.nan
    dims = ("layer", "role", "prompt", "d_model")
    return xr.Dataset({"resid_post": (dims, values)}, coords={"layer": [0, 1], "role": ["answer", "item_2"]}), has


def test_prompts_without_a_role_are_neither_fitted_nor_read():
    acts, has = acts_of()
    rng = np.random.default_rng(1)
    targets = pd.DataFrame({"output_1": rng.integers(2, size=N), "output_length": rng.normal(size=N)})
    folds = [cluster % 3 for cluster in CLUSTERS]
    train = np.arange(N) < 45
    settings = {"kinds": {"output_length": "ridge"}, "controls": ["chance", "shuffled"]}
    found = fit_probes(acts, targets, CLUSTERS, train=train, folds=folds, **settings)
    whole = fit_probes(acts.isel(role=[0]), targets, CLUSTERS, train=train, folds=folds, **settings)
    here = acts.isel(role=[1], prompt=has)
    alone = fit_probes(
        here,
        targets[has].reset_index(drop=True),
        np.array(CLUSTERS)[has].tolist(),
        train=train[has],
        folds=np.array(folds)[has].tolist(),
        kinds=settings["kinds"],
    )
    for name in ("correct", "predicted"):
        assert np.array_equal(found[name].isel(role=0), whole[name].isel(role=0), equal_nan=True)
        measured = found[name].sel(control="none", role="item_2")
        assert np.array_equal(measured[..., has], alone[name].isel(role=0), equal_nan=True)
        assert np.isnan(found[name].sel(role="item_2")[..., ~has]).all()
    for name in ("accuracy", "r2"):
        assert np.allclose(found[name].sel(control="none", role="item_2"), alone[name].isel(role=0), equal_nan=True)
    group = np.where(np.arange(N) < 30, "a", "b")
    cosines = direction_cosines(acts, targets[["output_1"]], range(N), group=group)
    of_role = direction_cosines(
        here, targets[["output_1"]][has].reset_index(drop=True), np.arange(N)[has].tolist(), group=group[has]
    )
    assert cosines["cosine"].sel(role="item_2").shape == of_role["cosine"].isel(role=0).shape
    assert not cosines["cosine"].isnull().any()


def test_kept_probes_of_a_role_that_some_lack_are_those_of_the_others():
    acts, has = acts_of()
    targets = pd.DataFrame({"output_1": np.random.default_rng(1).integers(3, size=N)})
    folds = [cluster % 3 for cluster in CLUSTERS]
    kept = fit_probes(acts, targets, CLUSTERS, folds=folds, keep=True)
    rows = np.flatnonzero(has)
    alone = fit_probes(
        acts.isel(role=[1], prompt=rows),
        targets.iloc[rows].reset_index(drop=True),
        [CLUSTERS[i] for i in rows],
        folds=[folds[i] for i in rows],
        keep=True,
    )
    key = ("output_1", "resid_post")
    assert np.allclose(kept.coefficients[key][:, :, 1], alone.coefficients[key][:, :, 0])


def test_a_target_that_nothing_is_left_of_names_the_role():
    acts, has = acts_of()
    with pytest.raises(PbbError, match=r"'output_1' has fewer than two classes .* 40 prompts .* role 'item_2'"):
        fit_probes(acts, pd.DataFrame({"output_1": np.where(has, 0, np.arange(N) % 2)}), CLUSTERS, folds=3)
    broken = acts.copy(deep=True)
    broken["resid_post"][1, 1, 4, 2] = np.nan
    with pytest.raises(PbbError, match="resid_post at layer 1 is NaN or infinite for prompt 4"):
        fit_probes(broken, pd.DataFrame({"output_1": np.arange(N) % 2}), CLUSTERS, folds=3)


def test_whole_lists_are_warned_of_and_what_programs_share_is_not():
    acts, _ = acts_of()
    acts = acts.isel(role=[0])
    with pytest.warns(UserWarning, match=r"'output' has 60 classes, and in 100% of the prompts .* output_length"):
        fit_probes(acts, pd.DataFrame({"output": [f"[{i}]" for i in range(N)]}), CLUSTERS, folds=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half = [i if i % 2 else -1 for i in range(N)]  # half of the prompts share a class
        fit_probes(acts, pd.DataFrame({"output": half}), CLUSTERS, folds=3)


def test_items_are_read_from_activations_of_a_model():
    """The first letter of a word can be read from its own token's embedding, on words that were held out."""
    _, model = spelling_model("llama")
    words = [f"{first}{rest}" for first in "abc" for rest in ("xy", "z", "pqr", "q")]
    texts = [f"f('{word}') =" for word in words]
    labels = {"call": [f"'{word}'" for word in words], "input_1": [word[0] for word in words], "program": words}
    spans = [(2, 4 + len(word)) for word in words]
    prompts = with_items(model, Prompts.from_texts(model, texts, {"input": spans}, labels))
    acts = capture(model, prompts, ["resid_pre"], layers=[0], roles=["item_1", "item_3"])
    probes = fit_probes(acts.sel(role=["item_1"]), ["input_1"], folds=4, C=10.0)
    assert probes["correct"].mean() == 1
