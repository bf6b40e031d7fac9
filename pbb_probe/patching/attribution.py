"""Attribution patching: the effect of every cell of a sweep estimated from one gradient, and a sweep of the best only.

estimate = (clean activation - corrupted activation) . gradient of the metric at the corrupted prompt

It is the first-order term of what `patch_sweep` measures, the change of the metric when one activation of the clean
prompt is put into the forward of the corrupted one (Nanda 2023, neelnanda.io/attribution-patching; Syed et al.
2310.10348). TransformerLens takes the gradients (`transformer_lens.tools.analysis.attribution_patching`).

It is good at small changes and at single heads, and bad where the network bends in between: at whole residual streams,
in early layers, and where attention is saturated (Kramar et al. 2403.00745). A small estimate does not say that a place
is unused, and what screening leaves out was not measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.recording import row_bytes
from pbb_probe.hooking.readable import check_readable
from pbb_probe.hooking.sites import SITES, check_eval, check_layers, check_sites, hook_name
from pbb_probe.labels import with_labels
from pbb_probe.patching.alignment import AlignedTokens, align
from pbb_probe.patching.metrics import AnswerMetric, LogProbDifference, check_values
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import SweepSettings, patch_sweep
from pbb_probe.schema import Gibibytes, LayerList, NameList, PositionList, checks_arguments, whole

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge
    from transformer_lens.tools.analysis.attribution_patching import GradientCache

    from pbb_probe.patching.metrics import Metric


@checks_arguments
def attribution_scores(
    model: "TransformerBridge",
    pairs: Pairs | None = None,
    *,
    metric: "Metric",
    sites: NameList = ("resid_pre",),
    layers: LayerList | None = None,
    positions: NameList | PositionList | None = None,
    clean: "torch.Tensor | None" = None,
    corrupted: "torch.Tensor | None" = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
    whole_spans: bool = True,
    memory_gib: Gibibytes = 2.0,
) -> "xr.Dataset":
    """Estimate how much patching each cell would change the metric, with a value a pair.

    Args:
        model: an opened model in eval mode.
        pairs: the prompts; the gradient is taken at the corrupted ones. Or bare tokens as `clean` and `corrupted`.
        metric: logits [pair, d_vocab] at the answer position -> [pair], differentiable, each pair from its own logits.
        sites: keys of `SITES`; per head for z, q, k and v.
        layers: all when None.
        positions, clean, corrupted, attention_mask, answer: as for `patch_sweep`.
        whole_spans: as for `patch_sweep`; the estimate of a span is the sum of those of its tokens.
        memory_gib: what the activations kept for the gradient may take.

    Returns:
        `scores[site]` (layer, [head | kv_head,] position | role, pair): the estimated change, that is `patch_sweep`'s
        effect minus its `corrupted`; 0 behind the answer position, NaN where a pair lacks the role. The labels of the
        pairs are coordinates.

    Raises:
        PbbError: what `patch_sweep` refuses; a metric of whole answers, several metrics, or one without a gradient.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", model)
        >>> metric = pbb.metrics.answer_difference(*pairs.answer_ids(model))
        >>> scores = attribution_scores(model, pairs, metric=metric, sites=["z"])
    """
    import torch
    import xarray as xr

    if isinstance(metric, (AnswerMetric, LogProbDifference, Mapping)):
        raise PbbError(
            "Attribution takes one metric of the logits at the answer position, such as logit_difference: metrics of "
            "whole answers, and several at once, need patch_sweep."
        )
    check_eval(model)
    layers = check_layers(model, layers)
    check_sites(model, sites, layers)
    names = {site: [hook_name(model, site, layer) for layer in layers] for site in sites}
    aligned = align(
        pairs,
        positions,
        clean=clean,
        corrupted=corrupted,
        attention_mask=attention_mask,
        answer=answer,
        whole_spans=whole_spans,
    )
    for tokens in (aligned.clean, aligned.corrupted):
        check_readable(model, tokens, aligned.lengths)
    at_once = _pairs_at_once(model, aligned, len(sites) * len(layers), memory_gib)
    chunks = torch.split(torch.arange(len(aligned)), at_once)
    with torch.enable_grad():
        slopes = _logit_gradient(model, aligned, metric, chunks)
        by_chunk = [
            _chunk_scores(model, aligned, rows, slopes[rows.to(slopes.device)], names, layers) for rows in chunks
        ]
    arrays = {}
    for site in sites:
        values = torch.cat([scores[site] for scores in by_chunk], dim=-1)  # [layer, (head,) place, pair]
        values = values.where(aligned.has_place, torch.nan)
        arrays[site] = (("layer", *SITES[site][:-1], aligned.place_dim, "pair"), values.numpy())
    scores = xr.Dataset(arrays, coords={"layer": layers, aligned.place_dim: aligned.places})
    return scores if pairs is None else with_labels(scores, pairs)


@checks_arguments
def screen_patches(
    model: "TransformerBridge",
    pairs: Pairs | None = None,
    *,
    metric: "Metric",
    top: Annotated[int, whole(2, 10**7)],
    sites: NameList = ("resid_pre",),
    layers: LayerList | None = None,
    positions: NameList | PositionList | None = None,
    clean: "torch.Tensor | None" = None,
    corrupted: "torch.Tensor | None" = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
    whole_spans: bool = True,
    memory_gib: Gibibytes = 2.0,
) -> "xr.Dataset":
    """Estimate every cell and patch only those that promise most.

    Args:
        top: how many cells are patched: those of the largest absolute estimate, averaged over pairs first, out of all
            sites together.
        model, pairs, metric, sites, layers, positions, clean, corrupted, attention_mask, answer, whole_spans,
            memory_gib: as for `attribution_scores` and `patch_sweep`.

    Returns:
        `effects[site]`, `clean` and `corrupted` of `patch_sweep`, NaN at the cells that were not patched, and
        `<site>_estimate`, the estimated change of every cell (a change and no effect).
        Attributes, besides those of `patch_sweep`: `rank_agreement`, Spearman's rho between the absolute estimates and
        the absolute changes (both averaged over pairs first) of the patched cells; `n_patched` and `n_cells`, how many
        these were and out of how many. The cells are chosen by their estimates, which makes the agreement lower than it
        would be over all cells.

    Raises:
        PbbError: what `attribution_scores` and `patch_sweep` refuse, or fewer than 2 cells.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", model)
        >>> metric = pbb.metrics.answer_difference(*pairs.answer_ids(model))
        >>> effects = screen_patches(model, pairs, metric=metric, sites=["z"], top=20)
    """
    import numpy as np
    from scipy.stats import spearmanr

    arguments: dict[str, Any] = {
        "pairs": pairs,
        "clean": clean,
        "corrupted": corrupted,
        "metric": metric,
        "sites": sites,
        "layers": layers,
        "positions": positions,
        "attention_mask": attention_mask,
        "answer": answer,
    }
    scores = attribution_scores(model, **arguments, whole_spans=whole_spans, memory_gib=memory_gib)
    expected = abs(scores.mean("pair"))
    sizes = np.concatenate([expected[site].values.ravel() for site in sites])
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[np.argsort(-sizes, kind="stable")[:top]] = True
    ends = np.cumsum([expected[site].size for site in sites])[:-1]
    only = expected.copy()
    for site, cells in zip(sites, np.split(chosen, ends), strict=True):
        only[site] = expected[site].copy(data=cells.reshape(expected[site].shape))
    effects = patch_sweep(model, **arguments, settings=SweepSettings(whole_spans, only, memory_gib))
    changes = abs((effects[list(sites)] - effects["corrupted"]).mean("pair"))
    measured = np.concatenate([changes[site].values.ravel() for site in sites])
    agreement = spearmanr(sizes[chosen], measured[chosen]).statistic
    counts = {"n_patched": int(chosen.sum()), "n_cells": len(chosen)}
    return effects.assign({f"{site}_estimate": scores[site] for site in sites}).assign_attrs(
        rank_agreement=float(agreement), **counts
    )


def _pairs_at_once(model: "TransformerBridge", aligned: AlignedTokens, n_hooks: int, memory_gib: float) -> int:
    """Pairs whose activations, in all layers and at all hooks, fit into the memory."""
    cfg, hf_model, width = model.cfg, model.original_model, aligned.clean.shape[1]
    hooked = 3 * n_hooks * width * cfg.d_model * hf_model.dtype.itemsize  # clean, corrupted and gradient
    logits = 3 * width * cfg.d_vocab * hf_model.dtype.itemsize
    a_pair = cfg.n_layers * row_bytes(hf_model, width, width) + hooked + logits
    return max(1, int(memory_gib * 2**30 / a_pair))


def _logit_gradient(
    model: "TransformerBridge", aligned: AlignedTokens, metric: "Metric", chunks: "Sequence[torch.Tensor]"
) -> "torch.Tensor":
    """The gradient [pair, d_vocab] of each pair's metric with respect to the logits of its corrupted prompt.

    By the chain rule the gradient further down is that of (this gradient . logits), which can be taken for some pairs
    at a time though the metric needs all of them.
    """
    import torch

    with torch.no_grad():
        by_chunk = [_at_answer(model(aligned.corrupted[rows].to(model.cfg.device)), aligned, rows) for rows in chunks]
    logits = torch.cat(by_chunk).requires_grad_()
    values = check_values(metric(logits), len(aligned))
    if not values.requires_grad:
        raise PbbError("The metric has no gradient: use a differentiable one, such as logit_difference.")
    return torch.autograd.grad(values.sum(), logits)[0]


def _at_answer(logits: "torch.Tensor", aligned: AlignedTokens, rows: "torch.Tensor") -> "torch.Tensor":
    """[row, d_vocab] of logits [row, position, d_vocab]."""
    import torch

    return logits[torch.arange(len(rows)), aligned.answer[rows]]


def _chunk_scores(
    model: "TransformerBridge",
    aligned: AlignedTokens,
    rows: "torch.Tensor",
    slopes: "torch.Tensor",
    names: dict[str, list[str]],
    layers: Sequence[int],
) -> "dict[str, torch.Tensor]":
    """The scores [layer, (head,) place, row] of some pairs at each site, on the CPU.

    Args:
        model, aligned: as in `attribution_scores`.
        rows: the indices of these pairs [row].
        slopes: the gradient [row, d_vocab] with respect to their logits.
        names: the hooks of each site, one a layer.
        layers: those of the hooks.
    """
    import torch
    from einops import einsum
    from transformer_lens.tools.analysis.attribution_patching import cache_activation_and_gradient

    def linearised(logits: "torch.Tensor") -> "torch.Tensor":
        return (_at_answer(logits, aligned, rows) * slopes).sum()

    # The gradient is taken down to a point that all others are above: without one, hooks within attention get none.
    wanted = {name for at_layers in names.values() for name in at_layers} | {hook_name(model, "resid_pre", min(layers))}
    if "resid_mid" in names:
        wanted |= {hook_name(model, site, layer) for site in ("resid_post", "mlp_out") for layer in layers}
    clean, corrupted = (tokens[rows].to(model.cfg.device) for tokens in (aligned.clean, aligned.corrupted))
    with torch.no_grad():
        of_clean = cache_activation_and_gradient(model, clean, linearised, wanted.__contains__, compute_gradient=False)
    with _differentiable(model):
        of_corrupted = cache_activation_and_gradient(model, corrupted, linearised, wanted.__contains__)
    position = torch.arange(aligned.clean.shape[1])
    first, last = aligned.spans[:, rows, None].unbind(-1)  # [place, row, 1]
    inside = ((position >= first) & (position <= last)).float()  # [place, row, position]
    scores = {}
    for site, at_layers in names.items():
        products = []
        for name, layer in zip(at_layers, layers, strict=True):
            gradient = _gradient(of_corrupted, name)
            if site == "resid_mid":
                # its hook is the MLP's input, whose gradient leaves out the residual stream that goes past the MLP
                _refuse_unless_a_sum(model, of_corrupted, layer)
                gradient = gradient + _gradient(of_corrupted, hook_name(model, "resid_post", layer))
            change = of_clean.activations[name] - of_corrupted.activations[name]
            products.append((change.float() * gradient.float()).sum(-1).cpu())  # [row, position, (head)]
        by_token = torch.stack(products)  # [layer, row, position, (head)]
        if by_token.ndim == 4:
            axes = "layer row position head, place row position -> layer head place row"
        else:
            axes = "layer row position, place row position -> layer place row"
        scores[site] = einsum(by_token, inside, axes)
    return scores


def _refuse_unless_a_sum(model: "TransformerBridge", cache: "GradientCache", layer: int) -> None:
    """Refuse blocks that put out something else than their resid_mid and what the MLP adds to it."""
    middle, added, out = (
        cache.activations[hook_name(model, site, layer)].float() for site in ("resid_mid", "mlp_out", "resid_post")
    )
    if not float((middle + added - out).abs().max()) <= 0.01 * float(out.std()):
        raise PbbError(
            f"Block {layer} of this model puts out more than resid_mid and mlp_out together, so that resid_mid cannot "
            "be estimated: use patch_sweep, or another site."
        )


def _gradient(cache: "GradientCache", name: str) -> "torch.Tensor":
    gradient: torch.Tensor | None = cache.gradients.get(name)
    if gradient is None:
        raise PbbError(f"No gradient reached the hook {name}: this site cannot be estimated on this model.")
    return gradient


@contextmanager
def _differentiable(model: "TransformerBridge") -> Iterator[None]:
    """A context in which gradients reach every activation, though the weights may be frozen."""
    weights = list(model.original_model.get_input_embeddings().parameters())
    frozen = [weight for weight in weights if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
