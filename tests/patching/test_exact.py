"""Every cell of a sweep is that of plain torch hooks and of TransformerLens's own patching, on every architecture."""

import itertools

import brute
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CONFIGS
from transformer_lens.patching import generic_activation_patch

from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.sites import hook_name
from pbb_probe.patching.metrics import logit_difference
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import patch_sweep

LENGTHS = (12, 9, 11)  # longer than the sliding windows of Gemma 2 and Mistral here
WIDTH = max(LENGTHS)
FAMILIES = ("llama", "qwen2", "qwen3", "gpt2", "neox", "mistral", "gemma2")
GENERATOR = torch.Generator().manual_seed(5)
CLEAN = torch.randint(2, 340, (3, WIDTH), generator=GENERATOR)
CORRUPTED = torch.where(torch.rand(3, WIDTH, generator=GENERATOR) < 0.5, CLEAN, (CLEAN + 7) % 338 + 2)
CORRUPTED[:, 2] = (CLEAN[:, 2] + 11) % 338 + 2
ANSWERS = (torch.tensor([70, 31, 145]), torch.tensor([211, 120, 46]))
METRIC = logit_difference(*ANSWERS)
FEWER = "fewer layers and positions"


def of_pair(logits, pair):
    return logits[..., ANSWERS[0][pair]] - logits[..., ANSWERS[1][pair]]


def padded(rows, side):
    return brute.padded(rows, LENGTHS, side)


def unpadded(values, side):
    """Effects [..., position, pair] with every pair's first token at position 0, NaN behind its last."""
    moved = np.full(values.shape, np.nan)
    for pair, length in enumerate(LENGTHS):
        start = 0 if side == "right" else WIDTH - length
        moved[..., :length, pair] = values[..., start : start + length, pair]
    return moved


def same(effects, values, expected) -> bool:
    """To 1e-5 of the metric's spread over the patched and the unpatched runs."""
    values = values.reshape(expected.shape)
    assert (np.isnan(values) == np.isnan(expected)).all()
    spread = np.nanstd(np.concatenate([effects["clean"], effects["corrupted"], expected.ravel()]))
    return bool(np.nanmax(np.abs(values - expected)) < 1e-5 * spread)


def test_windows_are_shorter_than_the_prompts():
    for family in ("mistral", "gemma2"):
        assert CONFIGS[family][1]["sliding_window"] < min(LENGTHS)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("family", "site"),
    [pair for pair in itertools.product(FAMILIES, brute.SITES) if pair != ("neox", "resid_mid")],
)
def test_plain_hooks_on_the_bare_model(family, site, side, bridge, bare):
    (clean, mask), (corrupted, _) = padded(CLEAN, side), padded(CORRUPTED, side)
    runs = {"clean": clean, "corrupted": corrupted, "attention_mask": mask}
    effects = patch_sweep(bridge(family), **runs, metric=METRIC, sites=(site,))
    expected = brute.sweep(bare(family), CLEAN, CORRUPTED, of_pair, site, LENGTHS)
    values = effects[site].values if site in brute.HEADS else effects[site].values[:, None]
    assert effects.attrs["method"] == FEWER
    assert same(effects, unpadded(values, side), expected)
    moved = np.abs(expected - effects["corrupted"].values)  # the reference itself must be about something
    assert np.nanmax(moved[0]) > 0.05 * np.nanstd(expected)


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "mlp_out", "z", "k"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_transformer_lens_patching(family, site, bridge):
    model = bridge(family)
    effects = patch_sweep(model, clean=CLEAN, corrupted=CORRUPTED, metric=METRIC, sites=(site,))
    with torch.inference_mode():
        _, cache = model.run_with_cache(CLEAN)
        heads = cache[hook_name(model, site, 0)].shape[2] if site in brute.HEADS else 1

        def put(found, index, clean):
            where = (slice(None), index[1]) if site not in brute.HEADS else (slice(None), index[1], index[2])
            found[where] = clean[where]
            return found

        table = np.array(list(itertools.product(range(3), range(WIDTH), range(heads))))
        cells = pd.DataFrame(table, columns=["layer", "pos", "head"])
        expected = generic_activation_patch(
            model, CORRUPTED, cache, lambda logits: METRIC(logits[:, -1]), put, site, index_df=cells, reduce="none"
        )
    expected = expected.values.reshape(3, WIDTH, heads, 3).permute(0, 2, 1, 3).numpy()
    assert same(effects, effects[site].values, expected)


@pytest.mark.parametrize("site", brute.SITES)
def test_whole_spans(site, bridge, bare):
    spans = torch.tensor([[1, 4], [2, 3], [5, 5]])
    model = bridge("qwen3")
    base = Prompts.from_texts(model, ["x"] * 3)
    (clean, mask), (corrupted, _) = padded(CLEAN, "right"), padded(CORRUPTED, "right")
    last = torch.tensor(LENGTHS) - 1
    roles = {"word": spans, "answer": torch.stack([last, last], 1)}
    pairs = Pairs(*(Prompts(side, mask, roles, base.labels, base.texts) for side in (clean, corrupted)))
    effects = patch_sweep(model, pairs, metric=METRIC, sites=(site,), positions=["word"])
    for pair, length in enumerate(LENGTHS):
        for layer in range(3):
            put = brute.activation(bare("qwen3"), CLEAN[pair, :length], site, layer)
            span = tuple(spans[pair].tolist())
            logits = brute.patched_logits(bare("qwen3"), CORRUPTED[pair, :length], put, site, layer, [span])
            found = effects[site].sel(layer=layer, role="word", pair=pair).values
            assert np.allclose(found, of_pair(logits[0, :, -1], pair).squeeze(), rtol=0, atol=2e-5)
