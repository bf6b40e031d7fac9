"""An attribution is a directional derivative: finite differences by torch hooks on a bare model, each pair alone."""

import copy
import functools

import brute
import numpy as np
import pytest
import torch
import xarray as xr
from transformer_lens.tools.analysis.attribution_patching import attribution_patch

from pbb_probe.errors import PbbError
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.sites import SITES
from pbb_probe.patching.attribution import attribution_scores, screen_patches
from pbb_probe.patching.metrics import log_prob, log_prob_difference, logit_difference, negative_kl
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import patch_sweep

CLEAN = torch.tensor([[5, 17, 200, 31, 90], [340, 8, 8, 77, 120], [61, 62, 63, 64, 65]])
CORRUPTED = torch.tensor([[5, 18, 200, 31, 90], [340, 8, 250, 77, 121], [99, 62, 163, 64, 66]])
LENGTHS = (3, 5, 4)
ANSWERS = (torch.tensor([7, 300, 45]), torch.tensor([11, 20, 46]))
METRIC = logit_difference(*ANSWERS)
RUNS = {"clean": CLEAN, "corrupted": CORRUPTED, "metric": METRIC}
STEP = 0.003  # of the way from corrupted to clean: transformers' norms and softmax are float32, which forbids less
STENCIL = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}  # a derivative up to the fourth power of the step


@functools.cache
def precise(bare, family):
    return copy.deepcopy(bare(family)).double()


@functools.cache
def derivatives(bare, family, site, lengths=(5, 5, 5)):
    """[layer, head, position, pair]; NaN at the positions a short pair does not have."""
    model = precise(bare, family)
    heads = brute.n_heads(model, site)
    found = np.full((3, heads, max(lengths), len(lengths)), np.nan)
    for pair, length in enumerate(lengths):
        for layer in range(3):
            kept = [brute.activation(model, rows[pair, :length], site, layer) for rows in (CLEAN, CORRUPTED)]
            step = STEP * (kept[0] - kept[1])  # [position, head, d_head]
            for position, head in np.ndindex(length, heads):

                def shift(activation):  # [n, position, head, d_head]
                    for n, steps in enumerate(STENCIL):
                        activation[n, position, head] += steps * step[position, head]

                rows = CORRUPTED[pair, :length].repeat(len(STENCIL), 1)
                logits = brute.run(model, rows, site, layer, shift)[:, -1]
                values = logits[:, ANSWERS[0][pair]] - logits[:, ANSWERS[1][pair]]
                found[layer, head, position, pair] = np.dot(list(STENCIL.values()), values)
    return found / STEP


def padded(rows, side):
    return brute.padded(rows, LENGTHS, side)


def off(values, expected) -> float:
    """The largest difference, in standard deviations of what is expected."""
    return float(np.nanmax(np.abs(values.reshape(expected.shape) - expected)) / np.nanstd(expected))


@pytest.mark.parametrize(
    ("family", "site"),
    [
        *(("llama", site) for site in SITES),
        *(("gemma2", site) for site in SITES),
        *(("gpt2", site) for site in ("resid_pre", "resid_mid", "mlp_out", "z", "v")),
        *(("neox", site) for site in ("resid_post", "attn_out", "mlp_out", "q")),
    ],
)
def test_every_score_is_the_directional_derivative(family, site, bridge, bare):
    scores = attribution_scores(bridge(family), **RUNS, sites=(site,))
    expected = derivatives(bare, family, site)
    assert off(scores[site].values, expected) < 1e-3
    assert np.nanmin(np.abs(expected).max(axis=(1, 2, 3))) > 0.01  # every layer has something to find


@pytest.mark.parametrize("site", SITES)
def test_dimensions_are_those_of_the_effects(site, bridge):
    model = bridge("llama")
    some = {"sites": (site,), "layers": [2, 1], "positions": [4, 2, 0]}
    scores, effects = attribution_scores(model, **RUNS, **some), patch_sweep(model, **RUNS, **some)
    assert scores[site].dims == effects[site].dims
    assert scores[site].coords.to_dataset().identical(effects[site].coords.to_dataset())
    assert list(scores) == [site]


@pytest.mark.parametrize("site", ["resid_post", "z", "v"])
def test_chosen_layers_and_positions_are_slices_of_everything(site, bridge):
    """Also where no residual stream below the chosen layers is asked for."""
    model = bridge("llama")
    everything = attribution_scores(model, **RUNS, sites=(site,))
    some = attribution_scores(model, **RUNS, sites=(site,), layers=[2, 1], positions=[4, 1])
    xr.testing.assert_allclose(some, everything.sel(layer=[2, 1], position=[4, 1]), atol=1e-6)
    assert float(abs(some[site]).max()) > 0.01


@pytest.mark.parametrize("given", ["tensors", "prompts"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("family", "site"), [("llama", "resid_pre"), ("gpt2", "z"), ("gemma2", "k")])
def test_padding_on_either_side_is_harmless(family, site, side, given, bridge, bare):
    model = bridge(family)
    (clean, mask), (corrupted, _) = padded(CLEAN, side), padded(CORRUPTED, side)
    if given == "tensors":
        runs = {"clean": clean, "corrupted": corrupted, "attention_mask": mask}
    else:
        runs = {"pairs": Pairs(brute.prompts(model, clean, mask), brute.prompts(model, corrupted, mask))}
    scores = attribution_scores(model, **runs, metric=METRIC, sites=(site,))
    expected = np.zeros((3, brute.n_heads(bare(family), site), 5, 3))  # nothing at the padding
    alone = derivatives(bare, family, site, LENGTHS)
    for pair, length in enumerate(LENGTHS):
        start = 0 if side == "right" else 5 - length
        expected[:, :, start : start + length, pair] = alone[:, :, :length, pair]
    assert off(scores[site].values, expected) < 1e-3


def test_the_answer_may_stand_elsewhere(bridge, bare):
    scores = attribution_scores(bridge("llama"), **RUNS, answer=torch.tensor(LENGTHS) - 1)
    expected = np.nan_to_num(derivatives(bare, "llama", "resid_pre", LENGTHS))  # nothing behind the answer
    assert off(scores["resid_pre"].values, expected) < 1e-3
    assert not scores["resid_pre"].isel(pair=0, position=[3, 4]).any()


@pytest.mark.parametrize("side", ["right", "left"])
def test_roles_are_estimated_over_their_tokens_or_where_they_end(side, bridge):
    model = bridge("llama")
    (clean, mask), (corrupted, _) = padded(CLEAN, side), padded(CORRUPTED, side)
    words = mask.argmax(1) + torch.tensor([1, 3, 2])
    pairs = Pairs(*(brute.prompts(model, tokens, mask, words, width=2) for tokens in (clean, corrupted)))
    given = {"pairs": pairs, "metric": METRIC, "sites": ("v",)}
    by_role = attribution_scores(model, **given, positions=["word", "answer"])
    by_end = attribution_scores(model, **given, positions=["word", "answer"], whole_spans=False)
    by_position = attribution_scores(model, **given)
    assert by_role["v"].dims == ("layer", "kv_head", "role", "pair")
    widths = set()
    for role, spans in pairs.clean.spans.items():
        for pair, (first, last) in enumerate(spans.tolist()):
            tokens = by_position["v"].sel(position=slice(first, last), pair=pair)
            widths.add(tokens.sizes["position"])
            assert np.allclose(by_role["v"].sel(role=role, pair=pair), tokens.sum("position"), rtol=0, atol=1e-5)
            assert np.allclose(by_end["v"].sel(role=role, pair=pair), tokens[..., -1], rtol=0, atol=1e-6)
    assert max(widths) > 1
    assert float(abs(by_role["v"]).min("pair").max()) > 1e-3


def test_scores_are_those_of_transformer_lens(bridge):
    """Its own attribution of heads and MLPs, pair by pair; it needs weights that are not frozen."""
    model = bridge("llama")
    scores = attribution_scores(model, **RUNS, sites=("z", "mlp_out"))
    weight = next(model.original_model.get_input_embeddings().parameters())
    weight.requires_grad_(True)
    try:
        for pair in range(3):

            def metric(logits):
                return logits[0, -1, ANSWERS[0][pair]] - logits[0, -1, ANSWERS[1][pair]]

            nodes = attribution_patch(model, CLEAN[[pair]], CORRUPTED[[pair]], metric).node_scores
            for node, score in nodes.items():
                where = {"layer": node.layer, "position": node.position, "pair": pair}
                if node.kind == "attn_head_out":
                    mine = scores["z"].sel(**where, head=node.head)
                elif node.kind == "mlp_out":
                    mine = scores["mlp_out"].sel(**where)
                else:
                    continue
                assert abs(float(mine) - score) < 1e-4
            assert len(nodes) == 5 * (1 + 3 * (4 + 1))
    finally:
        weight.requires_grad_(False)
    assert float(scores["z"].std()) > 0.05


def test_a_nonlinear_metric_keeps_its_pairs_apart(bridge):
    """Each pair as if it were alone, under a metric whose gradient depends on the logits."""
    model = bridge("llama")
    with torch.inference_mode():
        reference = model(CLEAN)[:, -1]
    together = attribution_scores(model, clean=CLEAN, corrupted=CORRUPTED, metric=negative_kl(reference))
    for pair in range(3):
        one = {"clean": CLEAN[[pair]], "corrupted": CORRUPTED[[pair]], "metric": negative_kl(reference[[pair]])}
        alone = attribution_scores(model, **one)["resid_pre"]
        assert np.allclose(alone, together["resid_pre"].isel(pair=[pair]), rtol=0, atol=1e-4)
    assert float(together["resid_pre"].std()) > 0.1


def test_little_memory_changes_nothing(bridge):
    model = bridge("llama")
    whole = attribution_scores(model, **RUNS, sites=("resid_mid", "q"))
    widths = []
    handle = model.register_forward_pre_hook(lambda _, args: widths.append(len(args[0])))
    pieces = attribution_scores(model, **RUNS, sites=("resid_mid", "q"), memory_gib=1e-6)
    handle.remove()
    assert set(widths) == {1}
    xr.testing.assert_allclose(whole, pieces, atol=1e-5)


def test_the_model_is_left_as_it_was(bridge):
    model = bridge("llama")
    before = {name: (value.requires_grad, value.clone()) for name, value in model.named_parameters()}
    hooks = sum(len(hook.fwd_hooks) + len(hook.bwd_hooks) for hook in model.hook_dict.values())
    with torch.no_grad():
        attribution_scores(model, **RUNS)
    with pytest.raises(PbbError):
        attribution_scores(model, **RUNS | {"metric": lambda logits: logits.argmax(-1).float()})
    for name, value in model.named_parameters():
        assert value.requires_grad == before[name][0] is False
        assert value.grad is None
        assert torch.equal(value, before[name][1])
    assert hooks == sum(len(hook.fwd_hooks) + len(hook.bwd_hooks) for hook in model.hook_dict.values()) == 0


def ranks(values):
    """1 for the smallest; ties share their mean rank."""
    values = np.asarray(values)
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_screening_patches_the_top_cells_and_no_others(side, bridge):
    model, sites = bridge("gpt2"), ("resid_post", "z", "v")
    (clean, mask), (corrupted, _) = padded(CLEAN, side), padded(CORRUPTED, side)
    runs = {"clean": clean, "corrupted": corrupted, "attention_mask": mask, "metric": METRIC, "sites": sites}
    screened = screen_patches(model, **runs, top=20)
    effects, scores = patch_sweep(model, **runs), attribution_scores(model, **runs)
    estimates, changes, cells = [], [], []
    for site in sites:
        assert screened[site].dims == effects[site].dims
        assert screened[f"{site}_estimate"].identical(scores[site].rename(f"{site}_estimate"))
        patched = screened[site].notnull()
        assert (patched.all("pair") == patched.any("pair")).all()
        cells.append(patched.all("pair").values.ravel())
        assert np.allclose(screened[site].values[patched], effects[site].values[patched], rtol=0, atol=1e-5)
        estimates.append(abs(scores[site].mean("pair")).values.ravel())
        changes.append(abs((effects[site] - effects["corrupted"]).mean("pair")).values.ravel())
    cells, estimates, changes = (np.concatenate(x) for x in (cells, estimates, changes))
    assert cells.sum() == 20 == screened.attrs["n_patched"]
    assert len(cells) == 3 * 5 * (1 + 4 + 4) == screened.attrs["n_cells"]
    assert estimates[cells].min() >= estimates[~cells].max()
    rho = np.corrcoef(ranks(estimates[cells]), ranks(changes[cells]))[0, 1]
    assert abs(screened.attrs["rank_agreement"] - rho) < 1e-6
    assert 0.2 < rho < 0.999  # neither noise nor trivial
    for end in ("clean", "corrupted"):
        assert np.allclose(screened[end], effects[end], rtol=0, atol=1e-5)


def test_a_screening_of_everything_is_the_sweep(bridge):
    model = bridge("gpt2")
    screened = screen_patches(model, **RUNS, sites=("mlp_out",), top=1000)
    xr.testing.assert_allclose(screened[["mlp_out"]], patch_sweep(model, **RUNS, sites=("mlp_out",))[["mlp_out"]])
    assert screened.attrs["n_patched"] == screened.attrs["n_cells"] == 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": log_prob_difference(ANSWERS[0][:, None], ANSWERS[1][:, None])}, "whole answers.*patch_sweep"),
        ({"metric": log_prob(ANSWERS[0][:, None])}, "whole answers.*patch_sweep"),
        ({"metric": {"difference": METRIC}}, "several at once.*patch_sweep"),
        ({"metric": lambda logits: logits.argmax(-1).float()}, "no gradient"),
        ({"metric": lambda logits: logits.mean()}, "one a pair"),
        ({"metric": lambda logits: logits[:, 0] / 0}, "finite"),
        ({"sites": ("residual",)}, "Unknown site 'residual'"),
        ({"layers": [3]}, "layers must be between 0 and 2"),
        ({"positions": [5]}, "positions must be between 0 and 4"),
        ({"clean": CLEAN[:2]}, "same shape"),
        ({"answer": torch.tensor([4, 4, 5])}, "answer"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message, bridge):
    with pytest.raises(PbbError, match=message):
        attribution_scores(bridge("llama"), **RUNS | change)
    with pytest.raises(PbbError, match=message):
        screen_patches(bridge("llama"), **RUNS | change, top=3)


@pytest.mark.parametrize("top", [-1, 0, 1])
def test_a_screening_of_less_than_two_cells_is_refused(top, bridge):
    with pytest.raises(PbbError, match="top must be at least 2"):
        screen_patches(bridge("llama"), **RUNS, top=top)


def test_a_model_in_train_mode_is_refused(small_model):
    with pytest.raises(PbbError, match="train mode"):
        attribution_scores(load_model(small_model("llama")).train(), **RUNS)
