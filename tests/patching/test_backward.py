"""Back-patching is a brute force of plain torch hooks on a bare model, where each prompt is run alone and unpadded."""

import functools
import itertools

import brute
import numpy as np
import pytest
import torch
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines import choice
from pbb_probe.hooking.engines.blocks import WholeBlocks
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.protocol import UnsupportedError
from pbb_probe.hooking.engines.tail import Tail
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching.backward import back_patch
from pbb_probe.patching.metrics import log_prob, logit_difference

FAMILIES = ("llama", "gpt2", "gemma2", "neox")
LENGTHS = (4, 12, 9, 12, 7)
WIDTH = max(LENGTHS)
TOKENS = torch.randint(3, 340, (len(LENGTHS), WIDTH), generator=torch.Generator().manual_seed(1))
WORDS = torch.tensor([0, 6, 5, 2, 6])  # a position within each prompt, counted from its first token
ANSWERS = (torch.tensor([7, 300, 45, 12, 90]), torch.tensor([11, 20, 46, 13, 91]))
METRIC = logit_difference(*ANSWERS)
ROLES = ("word", "answer")
N_LAYERS = 3


@functools.cache
def brute_force(bare, family, early=0):
    """[source, target, role, prompt] and the unpatched metric [prompt]; read `early` positions before the end."""
    model = bare(family)
    effects = np.full((N_LAYERS + 1, N_LAYERS, len(ROLES), len(LENGTHS)), np.nan)
    unpatched = np.zeros(len(LENGTHS))
    for prompt, length in enumerate(LENGTHS):
        ids = TOKENS[prompt, : length - early]  # what stands behind the answer is not read
        first, second = (answers[prompt] for answers in ANSWERS)
        resid = [brute.activation(model, ids, "resid_pre", layer) for layer in range(N_LAYERS)]
        resid.append(brute.activation(model, ids, "resid_post", N_LAYERS - 1))
        with torch.inference_mode():
            logits = model(ids[None]).logits[0, -1]
        unpatched[prompt] = logits[first] - logits[second]
        for role, place in enumerate((int(WORDS[prompt]), length - 1)):
            for source, target in itertools.product(range(N_LAYERS + 1), range(N_LAYERS)):
                if source >= target and place < len(ids):
                    span = [(place, place)]
                    logits = brute.patched_logits(model, ids, resid[source], "resid_pre", target, span)[0, 0, -1]
                    effects[source, target, role, prompt] = logits[first] - logits[second]
                elif source >= target:
                    effects[source, target, role, prompt] = unpatched[prompt]
    return effects, unpatched


def padded(side):
    """The prompts cut to their lengths and padded on a side, their mask, and where `word` ends in each row."""
    tokens, mask = brute.padded(TOKENS, LENGTHS, side)
    return tokens, mask, WORDS + mask.argmax(1)


def prompts(model, side="right") -> Prompts:
    return brute.prompts(model, *padded(side), width=2)


def off(values, expected) -> float:
    """The largest difference, in standard deviations of what is expected; infinite where NaN do not agree."""
    values, expected = np.asarray(values), np.asarray(expected)
    if not np.array_equal(np.isnan(values), np.isnan(expected)):
        return float("inf")
    return float(np.nanmax(np.abs(values - expected)) / np.nanstd(expected))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_pair_of_layers_is_the_brute_force(family, side, bridge, bare):
    model = bridge(family)
    effects = back_patch(model, prompts(model, side), metric=METRIC, roles=ROLES)
    expected, unpatched = brute_force(bare, family)
    assert effects["resid_pre"].dims == ("source_layer", "target_layer", "role", "prompt")
    assert off(effects["resid_pre"], expected) < 1e-5
    assert off(effects["unpatched"], unpatched) < 1e-5
    assert effects.attrs["method"] == "fewer layers and positions"
    changed = np.abs(expected - unpatched).max(axis=(2, 3))  # [source, target]
    assert (changed[[1, 2, 3, 2, 3, 3], [0, 0, 0, 1, 1, 2]] > 0.1).all()  # every pair of layers has something to find


def test_the_labels_of_the_prompts_stand_in_the_effects(bridge):
    model = bridge("llama")
    given = prompts(model, "left").select([1, 0])
    given.labels["program"] = ["b", "a"]
    effects = back_patch(model, given, metric=lambda logits: logits[:, 7], roles=ROLES)
    assert effects["program"].dims == ("prompt",)
    assert effects["program"].values.tolist() == ["b", "a"]


@pytest.mark.parametrize("engine", [WholeBlocks, FullForward])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_slower_ways_are_the_brute_force(family, engine, bridge, bare, monkeypatch):
    monkeypatch.setattr(choice, "ENGINES", (engine,))
    model = bridge(family)
    effects = back_patch(model, prompts(model, "left"), metric=METRIC, roles=ROLES)
    assert off(effects["resid_pre"], brute_force(bare, family)[0]) < 1e-5
    assert effects.attrs["method"] == engine.method


def test_an_engine_that_cannot_gives_way(bridge, bare, monkeypatch):
    def cannot(*_, **__):
        raise UnsupportedError("no")

    monkeypatch.setattr(Tail, "record", cannot)
    monkeypatch.setattr(WholeBlocks, "finish", cannot)
    model = bridge("llama")
    effects = back_patch(model, prompts(model), metric=METRIC, roles=ROLES)
    assert effects.attrs["method"] == "full forward"
    assert off(effects["resid_pre"], brute_force(bare, "llama")[0]) < 1e-5


def test_an_engine_that_is_wrong_gives_way(bridge, bare, monkeypatch):
    right = Tail.finish
    monkeypatch.setattr(Tail, "finish", lambda *args: right(*args) * 1.01 + 0.01)
    model = bridge("llama")
    effects = back_patch(model, prompts(model), metric=METRIC, roles=ROLES)
    assert effects.attrs["method"] == "fewer layers"
    assert off(effects["resid_pre"], brute_force(bare, "llama")[0]) < 1e-5


def test_equal_layers_are_the_unpatched_run_and_lower_sources_nothing(bridge):
    effects = back_patch(bridge("llama"), TOKENS, metric=METRIC)
    for layer in range(N_LAYERS):
        same = effects["resid_pre"].sel(source_layer=layer, target_layer=layer, role="answer")
        assert np.array_equal(same, effects["unpatched"])
    below = effects["source_layer"] < effects["target_layer"]
    assert effects["resid_pre"].isnull().where(below, True).all()
    assert effects["resid_pre"].notnull().where(~below, True).all()
    assert int(below.sum()) == 3


@pytest.mark.parametrize("side", ["right", "left"])
def test_token_ids_have_an_answer(side, bridge):
    model = bridge("gpt2")
    tokens, mask, _ = padded(side)
    by_tokens = back_patch(model, tokens, attention_mask=mask, metric=METRIC)
    by_prompts = back_patch(model, prompts(model, side), metric=METRIC)
    xr.testing.assert_identical(by_tokens, by_prompts)
    assert float(by_tokens["resid_pre"].std()) > 0.1


@pytest.mark.parametrize("side", ["right", "left"])
def test_roles_behind_the_answer_change_nothing(side, bridge, bare):
    """The answer is read early, before some of the roles."""
    model = bridge("llama")
    given = prompts(model, side)
    effects = back_patch(model, given, metric=METRIC, roles=ROLES, answer=given.roles["answer"] - 2)
    expected, unpatched = brute_force(bare, "llama", early=2)
    assert off(effects["resid_pre"], expected) < 1e-5
    by_answer = effects["resid_pre"].sel(role="answer")
    assert (by_answer.isnull() | (by_answer == effects["unpatched"])).all()
    changed = np.abs(expected[3, 0, 0] - unpatched)
    assert changed[1] > 0.1
    assert changed[4] < 1e-5  # its word stands at the same position as that of prompt 1, but behind the answer


def test_chosen_layers_are_slices_of_everything(bridge):
    model = bridge("gemma2")
    everything = back_patch(model, prompts(model), metric=METRIC, roles=ROLES)
    chosen = {"source_layers": [3, 1], "target_layers": [2, 0, 1]}
    some = back_patch(model, prompts(model), metric=METRIC, roles=["answer"], **chosen)
    expected = everything.sel(source_layer=[3, 1], target_layer=[2, 0, 1], role=["answer"])
    xr.testing.assert_allclose(some, expected, atol=1e-5)


def test_no_way_back_leaves_the_unpatched_run(bridge):
    effects = back_patch(bridge("llama"), TOKENS, metric=METRIC, source_layers=[0], target_layers=[0, 1])
    assert np.array_equal(effects["resid_pre"].sel(source_layer=0, target_layer=0, role="answer"), effects["unpatched"])
    assert effects["resid_pre"].sel(target_layer=1).isnull().all()


@pytest.mark.parametrize("family", ["llama", "neox"])
def test_little_memory_changes_nothing(family, bridge, monkeypatch):
    """Prompts are recorded one by one, and a metric still sees them all."""
    model = bridge(family)
    whole = back_patch(model, prompts(model), metric=METRIC, roles=ROLES)
    widths = []
    record = Tail.record
    monkeypatch.setattr(Tail, "record", lambda self, ids, *args: widths.append(len(ids)) or record(self, ids, *args))
    seen = []
    metric = lambda logits: seen.append(logits) or METRIC(logits)  # noqa: E731
    pieces = back_patch(model, prompts(model), metric=metric, roles=ROLES, memory_gib=1e-6)
    assert set(widths) == {1}
    others = [int((logits != seen[0]).any(1).sum()) for logits in seen[1:]]
    assert set(others) == {1}  # the other prompts are left unpatched
    xr.testing.assert_allclose(whole, pieces, atol=1e-4)
    assert float(whole["resid_pre"].std()) > 0.1


def test_the_model_is_left_as_it_was(bridge):
    model = bridge("llama")
    with torch.inference_mode():
        before = model(TOKENS)
        back_patch(model, prompts(model), metric=METRIC, roles=ROLES)
        assert torch.equal(model(TOKENS), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": log_prob(ANSWERS[0][:, None])}, "one metric of the logits"),
        ({"metric": {"difference": METRIC}}, "one metric of the logits"),
        ({"metric": lambda logits: logits.mean()}, "one a pair or prompt"),
        ({"metric": lambda logits: logits[:, 0] / 0}, "finite"),
        ({"roles": ["subject"]}, "Unknown role 'subject'"),
        ({"source_layers": [4]}, "source_layers must be between 0 and 3"),
        ({"source_layers": []}, "source_layers must be"),
        ({"target_layers": [3]}, "layers must be between 0 and 2"),
        ({"prompts": TOKENS, "roles": ["word"]}, "no role but `answer`"),
        ({"prompts": TOKENS, "attention_mask": torch.ones(2, 2)}, "attention_mask"),
        ({"answer": torch.tensor([0, 0])}, "answer must hold a position"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message, bridge):
    model = bridge("llama")
    with pytest.raises(PbbError, match=message):
        back_patch(model, **{"prompts": prompts(model), "metric": METRIC} | change)


def test_a_model_in_train_mode_is_refused(small_model):
    with pytest.raises(PbbError, match="train mode"):
        back_patch(load_model(small_model("llama")).train(), TOKENS, metric=METRIC)
