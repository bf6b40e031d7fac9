"""Attention patterns are those that the bare model returns, each prompt run alone and unpadded."""

import numpy as np
import pytest
import torch

import pbb_probe as pbb
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.prompts import Prompts

TEXTS = ("run dolvik(7) :", "the value of zabrutim(4) is", "7", "what is dolvik(12345) ?")


def make(model, side: str) -> Prompts:
    return Prompts.from_texts(model, TEXTS, {}, padding_side=side)


def alone(model, prompts: Prompts) -> np.ndarray:
    """[layer, head, prompt, query, key] from the model itself, put where the padded prompts stand, zero elsewhere."""
    n, length = prompts.tokens.shape
    rows = []
    for i in range(n):
        at = prompts.attention_mask[i].nonzero()[:, 0]
        with torch.inference_mode():
            found = model(prompts.tokens[i, at][None], output_attentions=True).attentions
        row = torch.zeros(len(found), found[0].shape[1], length, length)
        row[:, :, at[:, None], at] = torch.cat(found)
        rows.append(row)
    return torch.stack(rows, dim=2).numpy()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gpt2", "neox", "gemma2"])
def test_patterns_are_those_of_the_bare_model(family, side, bridge, bare):
    prompts = make(bridge(family), side)
    assert len(set(prompts.attention_mask.sum(1).tolist())) > 2
    pattern = pbb.attention_patterns(bridge(family), prompts, batch_size=3)
    expected = alone(bare(family), prompts)
    assert pattern.dims == ("layer", "head", "prompt", "query", "key")
    assert pattern.shape == expected.shape
    assert pattern.sizes["head"] == 4  # also where two share keys and values
    np.testing.assert_allclose(pattern.values, expected, atol=1e-5)
    assert not np.allclose(pattern.values[:, ::-1], expected, atol=1e-2)  # heads swapped: the comparison can fail
    there = prompts.attention_mask.numpy().astype(bool)
    np.testing.assert_allclose(pattern.sum("key"), np.broadcast_to(there, pattern.shape[:4]), atol=1e-5)
    behind = ~np.tril(np.ones(pattern.shape[3:], bool))
    assert (pattern.values[..., behind] == 0).all()
    assert (pattern.values.transpose(0, 1, 3, 2, 4)[:, :, :, ~there] == 0).all()


def test_some_layers_are_slices_of_all(bridge):
    model = bridge("llama")
    prompts = make(model, "left")
    everything = pbb.attention_patterns(model, prompts)
    some = pbb.attention_patterns(model, prompts, layers=[2, 0], batch_size=1)
    assert list(some["layer"]) == [2, 0]
    np.testing.assert_allclose(some, everything.sel(layer=[2, 0]), atol=1e-6)


def test_layers_and_models_without_a_pattern_are_refused(bridge, small_model):
    prompts = make(bridge("llama"), "right")
    with pytest.raises(pbb.PbbError, match="layers must be between 0 and 2"):
        pbb.attention_patterns(bridge("llama"), prompts, layers=[3])
    model = load_model(small_model("llama"))
    model.train()
    with pytest.raises(pbb.PbbError, match="train mode"):
        pbb.attention_patterns(model, prompts)
    model.eval()
    del model._hook_registry["blocks.1.attn.hook_pattern"]
    with pytest.raises(pbb.PbbError, match=r"no hook blocks.1.attn.hook_pattern"):
        pbb.attention_patterns(model, prompts)


def test_a_hook_that_does_not_fire_is_noticed(small_model, monkeypatch):
    model = load_model(small_model("llama"))
    attention = model.blocks[1].attn
    monkeypatch.setattr(attention, "hook_pattern", torch.nn.Identity())
    with pytest.raises(pbb.PbbError, match=r"blocks.1.attn.hook_pattern never fired"):
        pbb.attention_patterns(model, make(model, "right"))


def test_nan_is_refused(small_model):
    model = load_model(small_model("llama"))
    projection = next(m for n, m in model.named_modules() if n.endswith("q_proj") and hasattr(m, "weight"))
    projection.weight.data[0, 0] = float("nan")
    with pytest.raises(pbb.PbbError, match=r"blocks.0.attn.hook_pattern is NaN"):
        pbb.attention_patterns(model, make(model, "right"))
