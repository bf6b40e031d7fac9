"""Prompts too long for a model, and lengths whose rotary embedding differs, are refused; all others are as alone."""

import numpy as np
import pytest
import torch
from architectures import D_VOCAB, recorded, small
from test_architectures import close, metric, prompts

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.hooking.load import load_model

LIMIT = 16  # of both rotary embeddings
GENERATOR = torch.Generator().manual_seed(2)
LONG, LONGER, SHORT, SHORTER = (torch.randint(3, D_VOCAB, (n,), generator=GENERATOR) for n in (24, 20, 10, LIMIT))


def asks(model, given):
    """Everything that runs prompts."""
    other = prompts([torch.where(torch.arange(len(row)) == 1, (row + 7) % 90 + 3, row) for row in rows_of(given)])
    return (
        lambda: pbb.capture(model, given, ("resid_pre",)),
        lambda: pbb.answer_logits(model, given),
        lambda: pbb.attention_patterns(model, given),
        lambda: pbb.patch_sweep(model, pbb.Pairs(given, other), metric=metric),
        lambda: pbb.attribution_scores(model, pbb.Pairs(given, other), metric=metric),
        lambda: pbb.back_patch(model, given, metric=metric),
    )


def rows_of(given):
    return [tokens[mask.bool()] for tokens, mask in zip(given.tokens, given.attention_mask, strict=True)]


def test_longrope_is_refused_on_both_sides_of_its_limit_and_right_on_each():
    model, bare = load_model(small("longrope")), small("longrope")
    both = prompts([SHORT, LONG, LONGER])
    assert not close(recorded(bare, LONG)[1][: len(SHORT)], recorded(bare, LONG[: len(SHORT)])[1], 0.1)
    for ask in asks(model, both):
        with pytest.raises(PbbError, match=r"10 and 24 tokens .*longrope"):
            ask()
    for rows, kept in (([SHORT, SHORTER], [0, 2]), ([LONG, LONGER], [1, 3])):
        apart = prompts([SHORT, LONG, SHORTER, LONGER]).select(kept)  # as wide as the longest still
        logits = pbb.answer_logits(model, apart)
        acts = pbb.capture(model, apart, ("resid_pre",), roles=["early"])["resid_pre"]
        for i, row in enumerate(rows):
            inputs, expected = recorded(bare, row)
            assert close(logits[i], expected[-1])
            assert close(acts.isel(prompt=i, role=0), inputs[:, 1])


def test_an_answer_that_reaches_over_the_limit_is_refused():
    model = load_model(small("longrope"))
    clean, corrupted = (prompts([row, SHORT[:4]]) for row in (SHORTER, (SHORTER + 1) % 90 + 3))
    corrupted = prompts([(SHORTER + 1) % 90 + 3, (SHORT[:4] + 1) % 90 + 3])
    whole = pbb.log_prob(torch.tensor([[5, 6, 7], [5, 6, 7]]))
    with pytest.raises(PbbError, match="longrope"):
        pbb.patch_sweep(model, pbb.Pairs(clean, corrupted), metric=whole)


def test_dynamic_scaling_is_refused_beyond_its_limit_and_right_below():
    model, bare = load_model(small("dynamic")), small("dynamic")
    for ask in asks(model, prompts([SHORT, LONG])):
        with pytest.raises(PbbError, match=r"24 tokens: beyond 16 .*dynamic"):
            ask()
    logits = pbb.answer_logits(model, prompts([SHORT, SHORTER]))
    for found, row in zip(logits, (SHORT, SHORTER), strict=True):
        assert close(found, recorded(bare, row)[1][-1])


@pytest.mark.parametrize("family", ["gpt2", "gptj", "opt", "mpt", "gpt1"])
def test_more_tokens_than_positions_are_refused(family):
    model = load_model(small(family))
    rows = [torch.randint(3, D_VOCAB, (n,), generator=GENERATOR) for n in (70, 5)]
    for ask in asks(model, prompts(rows)):
        with pytest.raises(PbbError, match="70 tokens, and the model has 64 positions"):
            ask()


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_positions_that_are_computed_have_no_end(family):
    row = torch.randint(3, D_VOCAB, (70,), generator=GENERATOR)
    logits = pbb.answer_logits(load_model(small(family)), prompts([row, row[:7]]))
    assert close(logits[0], recorded(small(family), row)[1][-1])


def test_patterns_of_attention_stand_at_the_prompts_own_positions():
    model = load_model(small("llama"))
    right, left = (
        pbb.attention_patterns(model, prompts([SHORT, SHORTER], side, spare=1)) for side in ("right", "left")
    )
    for i, n in enumerate((len(SHORT), len(SHORTER))):
        alone = pbb.attention_patterns(model, prompts([(SHORT, SHORTER)[i]])).values[:, :, 0]
        assert np.allclose(right.values[:, :, i, :n, :n], alone, atol=1e-6)
        assert np.allclose(left.values[:, :, i, -n:, -n:], alone, atol=1e-6)
        assert float(right.values[:, :, i, n:].sum()) == float(left.values[:, :, i, :-n].sum()) == 0
