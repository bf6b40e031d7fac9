"""Activation patching: one activation of the clean run put into the corrupted run, at every site, layer and place.

effect = metric of the corrupted run with that one activation taken from the clean run
recovery = (effect - corrupted) / (clean - corrupted)

An answer of several tokens is put behind the prompt in both runs (teacher forcing), and only the prompt is patched.
TransformerLens does the patching (`transformer_lens.patching.generic_activation_patch`), one full forward pass a cell
(two with such answers).
A high recovery says that this place is sufficient to restore the clean answer in this context. It does not say
that the model stores the fact there, nor that no other place would do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.capture import SITES, check_ids, check_layers, check_roles, hook_name, log_probs
from pbb_probe.hooking.prompts import Prompts, put_behind

if TYPE_CHECKING:
    import numpy as np
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge

    Metric = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class LogProbDifference:
    """A metric of whole answers, from `log_prob_difference`: log p(clean answer) - log p(corrupted answer)."""

    clean_ids: "torch.Tensor"
    """Token ids [pair, k], padded with -1 at the end."""
    corrupted_ids: "torch.Tensor"
    """The same of the corrupted answers, with a k of their own."""


def patch_sweep(
    model: "TransformerBridge",
    *,
    clean: "torch.Tensor | Prompts",
    corrupted: "torch.Tensor | Prompts",
    metric: "Metric | LogProbDifference",
    sites: Sequence[str] = ("resid_pre",),
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | Sequence[str] | None = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
) -> "xr.Dataset":
    """Patch every pair at every site, layer and place, keeping a value a pair.

    Args:
        model: an opened model in eval mode.
        clean: token ids [pair, position], or `Prompts`.
        corrupted: the same for the run that is patched; padded alike.
        metric: logits [pair, d_vocab] at the answer position -> [pair]; or `log_prob_difference` for answers of several
            tokens, which are put behind the answer position in both runs.
        sites: keys of `SITES`; per head for z, q, k and v.
        layers: all when None.
        positions: positions in the row as given; or role names when `Prompts` are given, whose last token is
            patched in each pair where it stands; all positions when None. Behind the answer position nothing is
            patched: the effect there is that of the corrupted run.
        attention_mask: 1 at tokens, 0 at padding [pair, position]; from the `Prompts` when they are given, else ones.
        answer: position [pair] at which the answer is predicted; the last attended one when None.

    Returns:
        `effects[site]` (layer, [head | kv_head,] position | role, pair), with `clean` and `corrupted` (pair), the
        metric of the two unpatched runs.

    Raises:
        PbbError: pairs that do not line up, unknown site, layer, role or position, or a metric of the wrong shape or
            with NaN, or with answers that are not a pair each.
    """
    import torch
    import xarray as xr

    layers = check_layers(model, layers)
    for site in sites:
        hook_name(model, site, layers[0])
    places, place_name, place_labels = _places(clean, positions)
    if isinstance(clean, Prompts) and isinstance(corrupted, Prompts):
        if not torch.equal(clean.attention_mask, corrupted.attention_mask):
            raise PbbError("The clean and the corrupted prompts are padded differently: use pairs of equal lengths.")
        attention_mask = clean.attention_mask if attention_mask is None else attention_mask
        answer = clean.roles["answer"] if answer is None else answer
        clean, corrupted = clean.tokens, corrupted.tokens
    if isinstance(clean, Prompts) or isinstance(corrupted, Prompts) or clean.shape != corrupted.shape:
        raise PbbError("clean and corrupted must be two tensors, or two Prompts, of the same shape [pair, position].")
    n_pairs, width = clean.shape
    mask = torch.ones_like(clean) if attention_mask is None else attention_mask.long()
    if mask.shape != clean.shape:
        raise PbbError(
            f"attention_mask must have the shape of the tokens {tuple(clean.shape)}, not {tuple(mask.shape)}."
        )
    if answer is None:
        answer = width - 1 - mask.flip(1).argmax(1)
    if answer.shape != (n_pairs,) or not bool(((answer >= 0) & (answer < width)).all()):
        raise PbbError(f"answer must hold a position between 0 and {width - 1} for each of the {n_pairs} pairs.")

    # Padding is moved behind the tokens, where causal attention makes it harmless and no mask is needed.
    shift = mask.argmax(1)  # [pair]: padding before the first token
    order = (torch.arange(width) + shift[:, None]) % width
    runs = (clean.gather(1, order), corrupted.gather(1, order))
    places = (places - shift) % width  # [place, pair]
    at_answer = (answer - shift) % width
    pair = torch.arange(n_pairs)

    def at_once(logits: "torch.Tensor") -> "torch.Tensor":
        return metric(logits[pair, at_answer])  # type: ignore[operator]

    def forced(ids: "torch.Tensor") -> "Metric":
        steps = at_answer[:, None] + torch.arange(ids.shape[1])
        return lambda logits: log_probs(logits[pair[:, None], steps], ids.to(logits.device)).sum(1)

    rest = (at_answer, places, sites, layers)
    if isinstance(metric, LogProbDifference):
        of_clean, of_corrupted = (
            _effects(model, *_with_answers(runs, at_answer, ids), forced(ids), *rest)
            for ids in (metric.clean_ids, metric.corrupted_ids)
        )
        values = {name: of_clean[name] - of_corrupted[name] for name in of_clean}
    else:
        values = _effects(model, *runs, at_once, *rest)
    dims = {site: ("layer", *SITES[site][:-1], place_name, "pair") for site in sites}
    effects = {name: (dims.get(name, "pair"), found) for name, found in values.items()}
    return xr.Dataset(effects, coords={"layer": layers, place_name: place_labels})


def logit_difference(clean_answers: "torch.Tensor", corrupted_answers: "torch.Tensor") -> "Metric":
    """The logit of the clean answer minus that of the corrupted one; both are token ids [pair]."""

    def metric(logits: "torch.Tensor") -> "torch.Tensor":
        pair = range(len(logits))
        return logits[pair, clean_answers.tolist()] - logits[pair, corrupted_answers.tolist()]

    return metric


def log_prob_difference(clean_ids: "torch.Tensor", corrupted_ids: "torch.Tensor") -> LogProbDifference:
    """The log-probability of the clean answer minus that of the corrupted one, each summed over its tokens.

    Both are token ids [pair, k], padded with -1 at the end, as `answer_ids` makes them; a pair's answers may differ in
    length. With one token each this is `logit_difference`: the normaliser is the same and cancels.
    """
    return LogProbDifference(clean_ids, corrupted_ids)


def recovery(effects: "xr.Dataset") -> "xr.Dataset":
    """Effects as the share of the mean distance from the corrupted to the clean run; 0 is corrupted and 1 clean.

    The distance is averaged over the pairs first, so that a pair whose two runs hardly differ does not dominate: the
    mean over pairs is a ratio of means. The coordinate `weight` (pair) is each pair's own distance over that mean: with
    it as the `weights` of `compare_groups`, intervals allow for the distance being an estimate too.

    Raises:
        PbbError: the clean runs are no better than the corrupted ones on average; there is nothing to recover.
    """
    distances = effects["clean"] - effects["corrupted"]
    distance = float(distances.mean())
    if distance <= 0:
        raise PbbError(
            "The clean runs score no higher than the corrupted ones: the model does not tell the answers apart."
        )
    recovered = (effects.drop_vars(["clean", "corrupted"]) - effects["corrupted"]) / distance
    return recovered.assign_coords(weight=("pair", (distances / distance).values))


def _places(prompts: "torch.Tensor | Prompts", positions: Sequence[int] | Sequence[str] | None):
    """Positions [place, pair], the name of their dimension and their labels."""
    import torch

    if positions is not None and len(positions) and isinstance(positions[0], str):
        if not isinstance(prompts, Prompts):
            raise PbbError("Roles as positions need Prompts: give token positions, or clean and corrupted as Prompts.")
        roles = check_roles(prompts, [str(role) for role in positions])
        return torch.stack([prompts.roles[role] for role in roles]), "role", roles
    n_pairs, width = (prompts.tokens if isinstance(prompts, Prompts) else prompts).shape
    chosen = list(range(width)) if positions is None else [int(p) for p in positions]
    if not chosen or min(chosen) < 0 or max(chosen) >= width:
        raise PbbError(f"positions must be between 0 and {width - 1}, not {chosen}.")
    return torch.tensor(chosen)[:, None].expand(-1, n_pairs), "position", chosen


def _with_answers(runs, at_answer, ids) -> "tuple[torch.Tensor, torch.Tensor]":
    """The tokens of both runs with all but the last token of each answer behind them."""
    import torch

    check_ids(ids, len(at_answer))
    clean, corrupted = (put_behind(tokens, torch.ones_like(tokens), at_answer, ids[:, :-1])[0] for tokens in runs)
    return clean, corrupted


def _effects(model, clean, corrupted, metric: "Metric", at_answer, places, sites, layers) -> "dict[str, np.ndarray]":
    """`clean` and `corrupted` [pair] and each site [layer, (head,) place, pair]: metric(all logits), run by run."""
    import torch

    clean, corrupted = clean.to(model.cfg.device), corrupted.to(model.cfg.device)

    def measure(logits: "torch.Tensor") -> "torch.Tensor":
        values = metric(logits)
        if values.shape != (len(clean),) or not bool(values.isfinite().all()):
            raise PbbError(f"The metric must return {len(clean)} finite numbers, one a pair; it returned {values}.")
        return values

    with torch.inference_mode():
        wanted = {hook_name(model, site, layer) for site in sites for layer in layers}
        logits, cache = model.run_with_cache(clean, names_filter=lambda name: name in wanted)
        return {
            "clean": measure(logits).float().cpu().numpy(),
            "corrupted": measure(model(corrupted)).float().cpu().numpy(),
            **{site: _patch_site(model, site, layers, corrupted, cache, places, at_answer, measure) for site in sites},
        }


def _patch_site(model, site: str, layers: list[int], corrupted, cache, places, at_answer, measure):
    """[layer, (head,) place, pair]; a place behind the answer position is left alone."""
    import itertools

    import pandas as pd
    from transformer_lens.patching import generic_activation_patch

    n_pairs = corrupted.shape[0]
    by_head = len(SITES[site]) == 2
    heads = range(cache[hook_name(model, site, layers[0])].shape[2]) if by_head else (None,)
    cells = pd.DataFrame(
        list(itertools.product(layers, range(len(places)), heads)), columns=["layer", "place", "head"], dtype=object
    )
    fired = 0

    def put(activation, index, clean_activation):
        nonlocal fired
        fired += 1
        _, place, head = index
        pair = (places[place] <= at_answer).nonzero()[:, 0]
        where = (pair, places[place, pair]) if head is None else (pair, places[place, pair], head)
        activation[where] = clean_activation[where]
        return activation

    result = generic_activation_patch(model, corrupted, cache, measure, put, site, index_df=cells, reduce="none")
    if fired != len(cells):
        raise PbbError(
            f"The hooks of {site!r} fired {fired} times for {len(cells)} cells: this site cannot be patched."
        )
    values = result.values.reshape(len(layers), len(places), len(heads), n_pairs).float().cpu().numpy()
    return values.swapaxes(1, 2) if by_head else values[:, :, 0]
