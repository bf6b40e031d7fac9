"""A sweep is a brute force of plain torch hooks on a bare model, where each pair is run alone and unpadded."""

import functools

import brute
import numpy as np
import pytest
import torch
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching.attribution import attribution_scores
from pbb_probe.patching.metrics import log_prob_difference, logit_difference, recovery
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import patch_sweep

CLEAN = torch.tensor([[5, 17, 200, 31, 90], [340, 8, 8, 77, 120], [61, 62, 63, 64, 65]])
CORRUPTED = torch.tensor([[5, 18, 200, 31, 90], [340, 8, 250, 77, 121], [99, 62, 163, 64, 66]])
LENGTHS = [3, 5, 4]
ANSWERS = (torch.tensor([7, 300, 45]), torch.tensor([11, 20, 46]))
METRIC = logit_difference(*ANSWERS)
LONG = ([[7, 12, 99], [300], [45, 46]], [[11], [20, 21, 22, 23], [46, 45]])  # of several tokens and unequal lengths
SITES = ("resid_pre", "resid_post", "attn_out", "mlp_out", "z")


def of_pair(logits, pair):
    """The metric [...] of a pair's logits [..., d_vocab]."""
    return logits[..., ANSWERS[0][pair]] - logits[..., ANSWERS[1][pair]]


def brute_force(model, site, lengths=(5, 5, 5)):
    """[layer, head, position, pair]; NaN at the positions a short pair does not have."""
    return brute.sweep(model, CLEAN, CORRUPTED, of_pair, site, lengths)


def alone(model, rows, lengths=(5, 5, 5)):
    """The metric [pair] of the bare model on each row alone."""
    with torch.inference_mode():
        return np.array([of_pair(model(rows[i, :length][None]).logits[0, -1], i) for i, length in enumerate(lengths)])


def padded(rows, side):
    return brute.padded(rows, LENGTHS, side)


def close(values, expected) -> bool:
    expected = np.asarray(expected).reshape(values.shape)
    return bool(np.nanmax(np.abs(values - expected)) < 1e-5 * np.nanstd(expected))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_every_cell_is_the_brute_force(family, site, bridge, bare):
    effects = patch_sweep(bridge(family), clean=CLEAN, corrupted=CORRUPTED, metric=METRIC, sites=(site,))
    expected = brute_force(bare(family), site)
    assert close(effects[site].values, expected)
    assert close(effects["clean"].values, alone(bare(family), CLEAN))
    assert close(effects["corrupted"].values, alone(bare(family), CORRUPTED))
    spread = expected.std()
    assert all(np.abs(expected[layer] - effects["corrupted"].values).max() > 0.01 * spread for layer in range(2))


@pytest.mark.parametrize("site", ["q", "k", "v"])
def test_heads_of_the_projections_are_the_brute_force(site, bridge, bare):
    effects = patch_sweep(bridge("llama"), clean=CLEAN, corrupted=CORRUPTED, metric=METRIC, sites=(site,))
    head = "head" if site == "q" else "kv_head"
    assert effects[site].dims == ("layer", head, "position", "pair")
    assert effects.sizes[head] == brute.HEADS[site]
    assert close(effects[site].values, brute_force(bare("llama"), site))


@pytest.mark.parametrize("given", ["tensors", "prompts"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("site", ["resid_pre", "z"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_padding_on_either_side_is_harmless(family, site, side, given, bridge, bare):
    model = bridge(family)
    (clean, mask), (corrupted, _) = padded(CLEAN, side), padded(CORRUPTED, side)
    if given == "tensors":
        runs = {"clean": clean, "corrupted": corrupted, "attention_mask": mask}
    else:
        runs = {"pairs": Pairs(brute.prompts(model, clean, mask), brute.prompts(model, corrupted, mask))}
    effects = patch_sweep(model, **runs, metric=METRIC, sites=(site,))
    expected = brute_force(bare(family), site, LENGTHS)  # [layer, head, position, pair]
    values = effects[site].values.reshape(expected.shape)
    spread = np.nanstd(expected)
    for pair, length in enumerate(LENGTHS):
        start = 0 if side == "right" else 5 - length
        mine = values[..., start : start + length, pair]
        assert np.abs(mine - expected[..., :length, pair]).max() < 1e-5 * spread
        beside = np.delete(values[..., pair], range(start, start + length), axis=2)
        assert beside.size == 0 or np.abs(beside - effects["corrupted"].values[pair]).max() < 1e-5 * spread
    assert close(effects["clean"].values, alone(bare(family), CLEAN, LENGTHS))
    assert close(effects["corrupted"].values, alone(bare(family), CORRUPTED, LENGTHS))


def test_a_boolean_mask_is_a_mask(bridge, bare):
    (clean, mask), (corrupted, _) = padded(CLEAN, "left"), padded(CORRUPTED, "left")
    runs = {"clean": clean, "corrupted": corrupted, "attention_mask": mask.bool()}
    effects = patch_sweep(bridge("llama"), **runs, metric=METRIC, layers=[0])
    assert close(effects["clean"].values, alone(bare("llama"), CLEAN, LENGTHS))


@pytest.mark.parametrize("side", ["right", "left"])
def test_roles_are_patched_where_they_stand_in_each_pair(side, bridge):
    model = bridge("llama")
    (clean, mask), (corrupted, _) = padded(CLEAN, side), padded(CORRUPTED, side)
    words = mask.argmax(1) + torch.tensor([1, 3, 2])
    runs = {"pairs": Pairs(brute.prompts(model, clean, mask, words), brute.prompts(model, corrupted, mask, words))}
    sweep = {"metric": METRIC, "sites": ("resid_pre", "z")}
    by_role = patch_sweep(model, **runs, **sweep, positions=["word", "answer"])
    by_position = patch_sweep(model, **runs, **sweep)
    assert list(by_role["role"]) == ["word", "answer"]
    for site in ("resid_pre", "z"):
        for role, places in runs["pairs"].clean.roles.items():
            for pair, place in enumerate(places.tolist()):
                mine, other = by_role[site].sel(role=role, pair=pair), by_position[site].sel(position=place, pair=pair)
                assert np.allclose(mine, other, rtol=0, atol=1e-5)
    assert float(np.ptp(by_position["resid_pre"].values)) > 0.1


def test_chosen_layers_and_positions_are_slices_of_everything(bridge):
    runs = {"clean": CLEAN, "corrupted": CORRUPTED, "metric": METRIC, "sites": ("mlp_out", "v")}
    everything = patch_sweep(bridge("llama"), **runs)
    some = patch_sweep(bridge("llama"), **runs, layers=[2, 0], positions=[4, 1])
    xr.testing.assert_allclose(some, everything.sel(layer=[2, 0], position=[4, 1]), atol=1e-5)


def test_the_answer_may_stand_elsewhere(bridge, bare):
    answer = torch.tensor([2, 4, 3])
    effects = patch_sweep(bridge("llama"), clean=CLEAN, corrupted=CORRUPTED, metric=METRIC, answer=answer)
    expected = brute_force(bare("llama"), "resid_pre", (answer + 1).tolist())
    assert close(effects["resid_pre"].values, expected)
    assert close(effects["clean"].values, alone(bare("llama"), CLEAN, (answer + 1).tolist()))


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox"])
def test_patching_a_run_with_itself_changes_nothing(family, bridge):
    sites = ("resid_pre", "attn_out", "mlp_out", "z", "v")
    effects = patch_sweep(
        bridge(family), clean=CLEAN, corrupted=CORRUPTED, metric=METRIC, sites=sites, replace_with="own"
    )
    for site in sites:
        assert np.allclose(effects[site], effects["corrupted"], rtol=0, atol=1e-5)
    assert float(effects["corrupted"].std()) > 0.1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_only_token_that_differs_carries_everything(family, bridge):
    corrupted = CLEAN.clone()
    corrupted[:, 2] = torch.tensor([9, 10, 12])
    effects = patch_sweep(bridge(family), clean=CLEAN, corrupted=corrupted, metric=METRIC, layers=[0])
    assert close(effects["resid_pre"].sel(layer=0, position=2), effects["clean"])
    assert np.array_equal(effects["resid_pre"].sel(layer=0, position=0), effects["corrupted"])
    assert np.abs(effects["clean"] - effects["corrupted"]).min() > 0.01


def test_a_logit_difference_takes_each_pairs_own_answers():
    logits = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    assert logit_difference(torch.tensor([2, 0]), torch.tensor([0, 1]))(logits).tolist() == [3.0, -8.0]


def ids_of(answers):
    """[pair, k], padded with -1."""
    return torch.tensor([row + [-1] * (max(map(len, answers)) - len(row)) for row in answers])


def log_prob(logits, length, answer):
    """[...] of the answer's tokens behind a prompt of this length, from logits [..., position, d_vocab] of both."""
    return sum(logits[..., length - 1 + i, :].log_softmax(-1)[..., token] for i, token in enumerate(answer))


@functools.cache
def forced_brute_force(bare, family, site, lengths):
    """[layer, head, position, pair] and the unpatched prompts, clean [pair] and corrupted [pair]."""
    model = bare(family)
    effects = np.full((3, brute.n_heads(model, site), max(lengths), len(lengths)), np.nan)
    unpatched = np.zeros((2, len(lengths)))
    for pair, length in enumerate(lengths):
        effects[:, :, :length, pair] = 0
        for sign, answers in zip((1, -1), LONG, strict=True):
            answer = answers[pair]
            clean, corrupted = (torch.cat([rows[pair, :length], torch.tensor(answer)]) for rows in (CLEAN, CORRUPTED))
            for side, ids in enumerate((clean, corrupted)):
                with torch.inference_mode():
                    unpatched[side, pair] += sign * log_prob(model(ids[None]).logits[0], length, answer)
            for layer in range(3):
                put = brute.activation(model, clean, site, layer)
                spans = [(position, position) for position in range(length)]
                logits = brute.patched_logits(model, corrupted, put, site, layer, spans)
                effects[layer, :, :length, pair] += sign * log_prob(logits, length, answer).T.numpy()
    return effects, *unpatched


@pytest.mark.parametrize("given", ["tensors", "prompts"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("family", "site"),
    [
        ("llama", "resid_pre"),
        ("gpt2", "resid_pre"),
        ("qwen3", "resid_pre"),
        ("mistral", "resid_pre"),
        ("gemma2", "resid_pre"),
        ("gpt2", "z"),
        ("llama", "v"),
    ],
)
def test_whole_answers_are_the_teacher_forced_brute_force(family, site, side, given, bridge, bare):
    model = bridge(family)
    (clean, mask), (corrupted, _) = padded(CLEAN, side), padded(CORRUPTED, side)
    if given == "tensors":
        runs = {"clean": clean, "corrupted": corrupted, "attention_mask": mask}
    else:
        runs = {"pairs": Pairs(brute.prompts(model, clean, mask), brute.prompts(model, corrupted, mask))}
    effects = patch_sweep(model, **runs, metric=log_prob_difference(*map(ids_of, LONG)), sites=(site,))
    expected, clean_alone, corrupted_alone = forced_brute_force(bare, family, site, tuple(LENGTHS))
    values = effects[site].values.reshape(expected.shape)
    for pair, length in enumerate(LENGTHS):
        start = 0 if side == "right" else 5 - length
        mine = values[..., start : start + length, pair]
        assert np.abs(mine - expected[..., :length, pair]).max() < 1e-5 * np.nanstd(expected)
        beside = np.delete(values[..., pair], range(start, start + length), axis=2)  # where answers stand, in part
        assert beside.size == 0 or np.abs(beside - effects["corrupted"].values[pair]).max() < 1e-5
    assert close(effects["clean"].values, clean_alone)
    assert close(effects["corrupted"].values, corrupted_alone)
    assert np.nanmax(np.abs(expected[:2] - corrupted_alone)) > 0.1


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "mistral", "neox"])
def test_whole_answers_of_one_token_are_the_logit_difference(family, bridge):
    model = bridge(family)
    (clean, mask), (corrupted, _) = padded(CLEAN, "left"), padded(CORRUPTED, "left")
    runs = {"clean": clean, "corrupted": corrupted, "attention_mask": mask, "sites": ("resid_pre", "mlp_out", "z")}
    logits = patch_sweep(model, **runs, metric=METRIC)
    probabilities = patch_sweep(model, **runs, metric=log_prob_difference(*(ids[:, None] for ids in ANSWERS)))
    xr.testing.assert_allclose(probabilities, logits, rtol=0, atol=1e-5)


def test_whole_answers_may_stand_elsewhere(bridge, bare):
    """They overwrite what is behind the answer position; nothing there is patched."""
    answer = torch.tensor(LENGTHS) - 1
    metric = log_prob_difference(*map(ids_of, LONG))
    effects = patch_sweep(bridge("llama"), clean=CLEAN, corrupted=CORRUPTED, metric=metric, answer=answer)
    expected, clean_alone, corrupted_alone = forced_brute_force(bare, "llama", "resid_pre", tuple(LENGTHS))
    assert close(effects["clean"].values, clean_alone)
    assert close(effects["corrupted"].values, corrupted_alone)
    expected = np.where(np.isnan(expected), corrupted_alone, expected)
    assert close(effects["resid_pre"].values, expected)


def greedy(model, rows, n):
    """The n tokens [pair, n] that the bare model writes behind rows of equal length."""
    for _ in range(n):
        with torch.inference_mode():
            rows = torch.cat([rows, model(rows).logits[:, -1:].argmax(-1)], dim=1)
    return rows[:, -n:]


def test_the_only_token_that_differs_carries_whole_answers(bridge, bare):
    corrupted = CLEAN.clone()
    corrupted[:, 2] = torch.tensor([9, 10, 12])
    metric = log_prob_difference(greedy(bare("llama"), CLEAN, 3), greedy(bare("llama"), corrupted, 2))
    effects = patch_sweep(bridge("llama"), clean=CLEAN, corrupted=corrupted, metric=metric, layers=[0])
    assert close(effects["resid_pre"].sel(layer=0, position=2), effects["clean"])
    assert np.array_equal(effects["resid_pre"].sel(layer=0, position=0), effects["corrupted"])
    assert np.abs(effects["clean"] - effects["corrupted"]).min() > 0.01
    shares = recovery(effects)["resid_pre"].sel(layer=0).mean("pair")
    assert np.allclose(shares.sel(position=[0, 1, 2]), [0, 0, 1], rtol=0, atol=1e-6)


def test_recovery_by_hand():
    effects = xr.Dataset(
        {
            "clean": ("pair", [3.0, 6.0]),
            "corrupted": ("pair", [1.0, 0.0]),
            "resid_pre": (("layer", "pair"), [[1.0, 0.0], [3.0, 6.0], [2.0, -4.0]]),
        }
    )
    shares = recovery(effects)
    assert list(shares.data_vars) == ["resid_pre"]
    assert shares["resid_pre"].values.tolist() == [[0.0, 0.0], [0.5, 1.5], [0.25, -1.0]]  # over (2 + 6) / 2
    assert shares["resid_pre"].mean("pair").values.tolist() == [0.0, 1.0, -0.375]
    for clean in ([1.0, 0.0], [0.0, 0.5]):
        with pytest.raises(PbbError, match="no higher"):
            recovery(effects.assign(clean=("pair", clean)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": CLEAN[:2]}, "same shape"),
        ({"clean": CLEAN[:, :4]}, "same shape"),
        ({"sites": ("residual",)}, "Unknown site 'residual'"),
        ({"layers": [3]}, "layers must be between 0 and 2"),
        ({"layers": []}, "layers must be"),
        ({"positions": [5]}, "positions must be between 0 and 4"),
        ({"positions": [-1]}, "positions must be"),
        ({"positions": []}, "positions must be"),
        ({"positions": ["answer"]}, "Roles as positions need Pairs"),
        ({"metric": lambda logits: logits.mean()}, "one a pair"),
        ({"metric": lambda logits: logits}, "one a pair"),
        ({"metric": lambda logits: logits[:2, 0]}, "one a pair"),
        ({"metric": lambda logits: logits[:, 0] * float("nan")}, "finite"),
        ({"metric": lambda logits: logits[:, 0] / 0}, "finite"),
        ({"metric": log_prob_difference(ids_of(LONG[0])[:2], ids_of(LONG[1]))}, r"\[3, k\].*answer_ids"),
        ({"metric": log_prob_difference(ids_of(LONG[0]), ids_of(LONG[1]).flip(1))}, "at the end only"),
        ({"metric": log_prob_difference(*ANSWERS)}, "answer_ids"),
        ({"attention_mask": torch.ones(3, 4, dtype=torch.long)}, "attention_mask"),
        ({"attention_mask": torch.tensor([[1, 1, 0, 1, 1]] * 3)}, "one unbroken stretch"),
        ({"attention_mask": torch.tensor([[1] * 5, [0] * 5, [1] * 5])}, "one unbroken stretch"),
        ({"attention_mask": torch.tensor([[1, 1, 1, 0, 0]] * 3), "answer": torch.tensor([2, 2, 3])}, "in the padding"),
        ({"answer": torch.tensor([4, 4])}, "answer"),
        ({"answer": torch.tensor([4, 4, 5])}, "answer"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message, bridge):
    arguments = {"clean": CLEAN, "corrupted": CORRUPTED, "metric": METRIC} | change
    with pytest.raises(PbbError, match=message):
        patch_sweep(bridge("llama"), **arguments)


def test_prompts_that_do_not_fit_are_refused(bridge):
    model = bridge("llama")
    (right, right_mask), (left, left_mask) = padded(CLEAN, "right"), padded(CORRUPTED, "left")
    clean, corrupted = brute.prompts(model, right, right_mask), brute.prompts(model, left, left_mask)
    with pytest.raises(PbbError, match="padded differently"):
        patch_sweep(model, Pairs(clean, corrupted), metric=METRIC)
    with pytest.raises(PbbError, match="Unknown role 'subject'"):
        patch_sweep(model, Pairs(clean, clean), metric=METRIC, positions=["subject"])
    with pytest.raises(PbbError, match="There are no pairs"):
        patch_sweep(model, Pairs(clean, clean).select([]), metric=METRIC)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Give pairs, or clean and corrupted"),
        ({"clean": CLEAN}, "Give pairs, or clean and corrupted"),
        ({"pairs": CLEAN}, "pairs must be Pairs"),
        ({"pairs": CLEAN, "clean": CLEAN, "corrupted": CORRUPTED}, "not both"),
        ({"clean": "prompts", "corrupted": CORRUPTED}, r"give Prompts as pairs, Pairs\(clean, corrupted\)"),
    ],
)
def test_either_pairs_or_bare_tokens_are_given(given, message, bridge):
    model = bridge("llama")
    if "prompts" in given.values():
        given = given | {"clean": brute.prompts(model, *padded(CLEAN, "right"))}
    for function in (patch_sweep, attribution_scores):
        with pytest.raises(PbbError, match=message):
            function(model, **given, metric=METRIC)


def test_the_labels_of_the_pairs_stand_in_the_effects(bridge):
    model = bridge("llama")
    right, mask = padded(CLEAN, "right")
    clean, corrupted = brute.prompts(model, right, mask), brute.prompts(model, padded(CORRUPTED, "right")[0], mask)
    clean.labels["program"], corrupted.labels["program"] = ["a", "b", "c"], ["d", "e", "f"]
    pairs = Pairs(clean, corrupted).select([2, 0])
    metric = lambda logits: logits[:, 7]  # noqa: E731
    for effects in (patch_sweep(model, pairs, metric=metric), attribution_scores(model, pairs, metric=metric)):
        assert effects["program"].values.tolist() == ["c", "a"]
        assert effects["corrupted_program"].values.tolist() == ["f", "d"]
        assert effects["program"].dims == ("pair",)


def test_prompts_that_do_not_line_up_are_named(bridge):
    model = bridge("llama")
    texts = ["flimp on 3 :", "flimp on 12 :"]
    starts = [{"value": [(9, 10)] * 2}, {"value": [(9, 10), (9, 11)]}, {"value": [(6, 8), (9, 10)]}]
    one, longer, elsewhere = (
        Prompts.from_texts(model, given, roles)
        for given, roles in zip((texts[:1] * 2, texts, texts[:1] * 2), starts, strict=True)
    )
    metric = logit_difference(*(ids[:2] for ids in ANSWERS))
    n_tokens = [int(longer.attention_mask[i].sum()) for i in (0, 1)]
    with pytest.raises(PbbError, match=f"Pair 1 has {n_tokens[0]} clean and {n_tokens[1]} corrupted tokens"):
        patch_sweep(model, Pairs(one, longer), metric=metric)
    with pytest.raises(PbbError, match=r"'value' stands at different tokens .* of pair 0"):
        patch_sweep(model, Pairs(one, elsewhere), metric=metric, positions=["value"])


def test_a_site_the_model_lacks_is_refused(bridge):
    with pytest.raises(PbbError, match="no site 'resid_mid'"):
        patch_sweep(bridge("neox"), clean=CLEAN, corrupted=CORRUPTED, metric=METRIC, sites=("resid_mid",))
