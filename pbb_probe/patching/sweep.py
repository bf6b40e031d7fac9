"""Activation patching: one activation of another run put into a run, at every site, layer and place.

effect = metric of the corrupted run with that one activation taken from the clean run
recovery = (effect - corrupted) / (clean - corrupted)

The numbers are those of one full forward pass a cell; they are computed from the smallest part of the network that can
change (`hooking.engines.tail`). Where a model's blocks cannot be taken apart like that, the next exact way is taken
(`hooking.engines.choice`), with a warning. Before each sweep a cell of every site is checked against a full forward
pass.

A high recovery says that this place is sufficient to restore the clean answer in this context. It does not say
that the model stores the fact there, nor that no other place would do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.choice import first_exact, from_caller
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.protocol import UnsupportedError
from pbb_probe.hooking.readable import check_readable
from pbb_probe.hooking.sites import SITES, check_eval, check_layers, check_sites, n_heads
from pbb_probe.labels import with_labels
from pbb_probe.models.parity import spread_between, spread_of, tolerance
from pbb_probe.patching.alignment import AlignedTokens, align
from pbb_probe.patching.grid import REPLACEMENTS, Grid, Replacement, measure
from pbb_probe.patching.metrics import AnswerMetric, LogProbDifference, check_values
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.resume import measure_by_layer
from pbb_probe.schema import (
    AnyPlace,
    Gibibytes,
    LayerList,
    NameList,
    PositionList,
    Seed,
    checks_arguments,
    refuse_unknown,
    shown,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.patching.metrics import Metric


@checks_arguments
def patch_sweep(
    model: "TransformerBridge",
    pairs: Pairs | None = None,
    *,
    metric: "Metric | AnswerMetric | LogProbDifference | Mapping[str, Metric | AnswerMetric | LogProbDifference]",
    sites: NameList = ("resid_pre",),
    layers: LayerList | None = None,
    positions: NameList | PositionList | None = None,
    clean: "torch.Tensor | None" = None,
    corrupted: "torch.Tensor | None" = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
    noising: bool = False,
    replace_with: Replacement = "other",
    donor_model: "TransformerBridge | None" = None,
    whole_spans: bool = True,
    subspaces: "Mapping[str, torch.Tensor] | None" = None,
    only: "xr.Dataset | None" = None,
    seed: Seed = 0,
    memory_gib: Gibibytes = 2.0,
    resume: AnyPlace | None = None,
) -> "xr.Dataset":
    """Patch every pair at every site, layer and place, keeping a value a pair.

    Args:
        model: an opened model in eval mode.
        pairs: the prompts; or bare tokens as `clean` and `corrupted`.
        metric: logits [pair, d_vocab] at the answer position -> [pair]; or a metric of whole answers, such as
            `log_prob_difference`, whose tokens are put behind the answer position in both runs. Several in one pass
            when a mapping by name.
        sites: keys of `SITES`; per head for z, q, k and v.
        layers: all when None.
        positions: positions in the row as given; or, of pairs, names of roles, whose tokens are patched together
            wherever they stand in each pair; all positions when None. Nothing is patched behind the answer position:
            the effect there is that of the unpatched prompt.
        clean: bare token ids [pair, position] in place of pairs.
        corrupted: token ids of the same shape, padded alike.
        attention_mask: 1 at tokens, 0 at padding [pair, position]; when None that of the pairs, or ones.
        answer: position [pair] at which the answer is predicted; when None that of the pairs, or the last attended one.
        noising: patch the clean prompts with activations of the corrupted ones (is this place necessary?), instead of
            the corrupted prompts with those of the clean ones (is it sufficient?).
        replace_with: what is put in. `other`: the activation of the pair's other prompt. `mean`: its mean over the
            pairs, and `zero`: zeros (ablations). `mean_difference`: what is there already plus the mean over pairs of
            other minus own, the same vector for all pairs, a null for effects of a constant vector (arXiv 2507.08218).
            `random`: what is there plus a random vector of the norm of other minus own (in a subspace,
            TransformerLens's placebo: as far as `other` would move it, in a random subspace of the same rank). `own`:
            what is there already (a control).
        donor_model: the model that activations are taken from, of the same shape; the model itself when None. With it,
            the clean and the corrupted prompts may be the same.
        whole_spans: patch all tokens of a role; its last one when False.
        subspaces: patch only the component in a subspace: orthonormal bases [layer, place, d_model, rank] by site, such
            as those of `transformer_lens.tools.analysis.interchange` (of a probe, of means, or learned by DAS).
        only: booleans by site with the dimensions of the effects, without `pair`: the other cells are NaN.
        seed: of `random`.
        memory_gib: what recorded and running activations may take, besides the model and the result.
        resume: folder where each layer is kept as it is done; the same call goes on from there.

    Returns:
        `effects[site]` ([metric,] layer, [head | kv_head,] position | role, pair), with `clean` and `corrupted` (pair),
        the metric of the two unpatched prompts. The labels of the pairs are coordinates. Attributes: `method`, the
        engine it took; `passed_over`, why not a quicker one, where that is so; `replace_with`; `direction`.

    Raises:
        PbbError: pairs that do not line up or do not differ, or that the model cannot read together, an unknown site,
            layer, role or position, a site whose activation has other axes than `SITES` says, a model in train mode, or
            a metric of the wrong shape or with NaN, or with answers that are not a pair each.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pairs = pbb.read_pairs("experiments/pairs.jsonl", model)
        >>> metric = pbb.answer_difference(*pairs.answer_ids(model))
        >>> effects = pbb.patch_sweep(model, pairs, metric=metric, positions=["name", "answer"])
    """
    import xarray as xr
    from tqdm import tqdm

    layers = check_layers(model, layers)
    aligned = check_sweep(
        model,
        pairs,
        sites,
        layers,
        positions,
        clean=clean,
        corrupted=corrupted,
        attention_mask=attention_mask,
        answer=answer,
        replace_with=replace_with,
        donor_model=donor_model,
        whole_spans=whole_spans,
        subspaces=subspaces,
    )
    by_name = metric if isinstance(metric, Mapping) else {"": metric}
    if not by_name:
        raise PbbError("There is no metric: give at least one.")
    for kind in by_name.values():
        if not callable(kind) and not isinstance(kind, (AnswerMetric, LogProbDifference)):
            raise PbbError(f"A metric must be a function of logits or one of whole answers, not {shown(kind)}.")
    settings = {
        "sites": tuple(sites),
        "layers": layers,
        "replace_with": replace_with,
        "subspaces": dict(subspaces or {}),
        "only": _check_only(only, sites, layers, aligned),
        "one_model": donor_model is None,
        "seed": seed,
        "memory": int(memory_gib * 2**30),
    }

    passed_over: Mapping[str, str] = {}
    passes = _passes(by_name, len(aligned))
    n_cells = sum(_n_heads(model, site) for site in sites) * len(layers) * len(aligned.places) * len(passes)
    done: dict[str, dict[str, torch.Tensor]] = {}
    with tqdm(total=n_cells, desc="patching", unit="cell", delay=2, bar_format=BAR) as progress:
        for names, ids, measured in passes:
            forced = aligned if ids is None else aligned.with_answers(ids)
            for tokens in (forced.clean, forced.corrupted):
                check_readable(model, tokens, forced.lengths)
            grid = _grid(forced, 1 if ids is None else ids.shape[1], noising, settings)
            measured_by = _measured(model, donor_model, grid, measured, progress, resume, names)
            chosen = first_exact(model, measured_by, passed_over)
            passed_over = chosen.passed_over
            for i, name in enumerate(names):
                done[name] = {key: value[i] for key, value in chosen.result.items()}
    values = {name: _combined(name, kind, done) for name, kind in by_name.items()}
    ends = ("base", "other") if noising else ("other", "base")
    unpatched = zip(("clean", "corrupted"), ends, strict=True)
    variables = {end: _stacked(values, key, ("pair",), metric) for end, key in unpatched}
    for site in sites:
        heads = SITES[site][:-1]
        array = {name: {site: v[site] if heads else v[site][:, 0]} for name, v in values.items()}
        variables[site] = _stacked(array, site, ("layer", *heads, aligned.place_dim, "pair"), metric)
    coords = {"layer": layers, aligned.place_dim: aligned.places}
    if metric is by_name:
        coords["metric"] = list(by_name)
    attributes = {
        **chosen.attributes,
        "replace_with": replace_with,
        "direction": "noising" if noising else "denoising",
    }
    effects = xr.Dataset(variables, coords=coords, attrs=attributes)
    return effects if pairs is None else with_labels(effects, pairs)


BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} {unit}s [{elapsed}<{remaining}]"


def _grid(aligned: AlignedTokens, k: int, noising: bool, settings: dict) -> Grid:
    import torch

    base, other = (aligned.clean, aligned.corrupted) if noising else (aligned.corrupted, aligned.clean)
    out = aligned.answer[:, None] + torch.arange(k)
    out = out.clamp(max=base.shape[1] - 1)  # behind the end only where ids are -1
    return Grid(base, other, out, aligned.spans, **settings)


def _passes(by_name: Mapping, n_pairs: int) -> list:
    """(names, ids of an answer or None, logits [pair, k, d_vocab] -> [name, pair]) of each forward that is needed."""
    import torch

    def checked(values: "torch.Tensor") -> "torch.Tensor":
        return check_values(values, n_pairs).float().cpu()

    def forced(kind: AnswerMetric):
        return lambda logits: checked(from_caller(kind.measure)(logits, kind.ids.to(logits.device)))[None]

    passes: list = []
    plain = {
        name: from_caller(kind)
        for name, kind in by_name.items()
        if not isinstance(kind, (AnswerMetric, LogProbDifference))
    }
    if plain:
        passes.append(
            (
                list(plain),
                None,
                lambda logits: torch.stack([checked(f(logits[:, 0])) for f in plain.values()]),
            )
        )
    for name, kind in by_name.items():
        if isinstance(kind, AnswerMetric):
            passes.append(([name], kind.ids, forced(kind)))
        elif isinstance(kind, LogProbDifference):
            passes.append(([f"{name} clean"], kind.clean.ids, forced(kind.clean)))
            passes.append(([f"{name} corrupted"], kind.corrupted.ids, forced(kind.corrupted)))
    return passes


def _combined(name: str, kind, done: dict) -> dict:
    """The values of one metric, out of those of its passes."""
    if not isinstance(kind, LogProbDifference):
        return done[name]
    first, second = done[f"{name} clean"], done[f"{name} corrupted"]
    return {key: first[key] - second[key] for key in first}


def _stacked(values: dict, key: str, dims: tuple, metric) -> "tuple[tuple[str, ...], np.ndarray]":
    import numpy as np

    arrays = [value[key].numpy() for value in values.values()]
    return (("metric", *dims), np.stack(arrays)) if isinstance(metric, Mapping) else (dims, arrays[0])


# Engines


def _measured(model, donor_model, grid: Grid, measured, progress, resume, names):
    """The values of a grid as a function of the engine that runs it."""

    def by(engine):
        donor_engine = engine if donor_model is None else type(engine)(donor_model)
        if not isinstance(engine, FullForward):
            _check_against_full_forward(engine, donor_engine, model, donor_model, grid)
        if resume is None:
            return measure(engine, donor_engine, grid, measured, progress)
        return measure_by_layer(Path(resume), names, engine, donor_engine, grid, measured, progress)

    return by


def _check_against_full_forward(engine, donor_engine, model, donor_model, grid: Grid) -> None:
    """A few cells of every site, for one pair, by this engine and by a full forward pass.

    One is at a place in the middle and the layer in the middle; the others are at the place nearest to the answer, in
    the lowest and the highest layer: a cell behind a sliding window changes nothing and would show nothing.

    Raises:
        UnsupportedError: they differ; the message says by how much.
    """
    import torch

    places, pair = _typical(grid)
    chosen = sorted({0, len(grid.layers) // 2, len(grid.layers) - 1})
    one_head = {}
    for site in grid.sites:
        n_heads = _n_heads(model, site)
        one_head[site] = torch.zeros(len(chosen), n_heads, len(places), dtype=torch.bool)
        for i in range(len(chosen)):
            one_head[site][i, -1, 0 if i == len(chosen) // 2 else -1] = True
    small = replace(
        grid,
        base=grid.base[pair : pair + 1],
        other=grid.other[pair : pair + 1],
        out=grid.out[pair : pair + 1],
        spans=grid.spans[places][:, pair : pair + 1],
        layers=[grid.layers[i] for i in chosen],
        subspaces={site: basis[chosen][:, places] for site, basis in grid.subspaces.items()},
        only=one_head,
    )
    full = FullForward(model)
    full_donor = full if donor_model is None else FullForward(donor_model)
    # each logit counts as a metric [logit, pair]
    found, expected = (
        measure(a, b, small, lambda logits: logits.float().flatten(1).T.cpu())
        for a, b in ((engine, donor_engine), (full, full_donor))
    )
    dtype, spread = next(model.original_model.parameters()).dtype, spread_of(expected["base"])
    for name, reference in expected.items():
        there = ~reference.isnan()
        if found[name].isnan()[there].any():
            raise UnsupportedError(f"{name} is NaN")
        difference = spread_between(found[name][there], reference[there], dtype, spread)
        if not difference <= tolerance(dtype):
            raise UnsupportedError(f"{name} differs by {difference:.2g}")


def _typical(grid: Grid) -> tuple[list[int], int]:
    """Of the places that can change something in a pair, one in the middle and the last; and that pair."""
    import torch

    every = torch.arange(len(grid.base))
    able = {place: rows.tolist() for place in range(len(grid.spans)) if len(rows := grid.active(place, every))}
    if not able:
        return [0], 0
    pair = able[max(able, key=lambda place: len(able[place]))][0]
    here = sorted((place for place in able if pair in able[place]), key=lambda place: int(grid.spans[place, pair, 0]))
    return list(dict.fromkeys([here[len(here) // 2], here[-1]])), pair


# Bad input


def check_sweep(
    model: "TransformerBridge",
    pairs: Pairs | None,
    sites: Sequence[str],
    layers: Sequence[int],
    positions: Sequence[int] | Sequence[str] | None = None,
    *,
    clean: "torch.Tensor | None" = None,
    corrupted: "torch.Tensor | None" = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
    replace_with: Replacement = "other",
    donor_model: "TransformerBridge | None" = None,
    whole_spans: bool = True,
    subspaces: "Mapping[str, torch.Tensor] | None" = None,
) -> AlignedTokens:
    """The prompts aligned, after everything in these arguments that `patch_sweep` would refuse has been refused.

    Raises:
        PbbError: what `patch_sweep` refuses, but for metrics.
    """
    for each in (model, donor_model or model):
        check_sites(each, sites, layers)
    refuse_unknown("replace_with", [replace_with], REPLACEMENTS)
    _check_models(model, donor_model)
    aligned = align(
        pairs,
        positions,
        clean=clean,
        corrupted=corrupted,
        attention_mask=attention_mask,
        answer=answer,
        whole_spans=whole_spans,
    )
    if replace_with == "other" and donor_model is None:
        _check_differing(aligned)
    _check_subspaces(model, subspaces or {}, sites, layers, aligned)
    _check_rotated(sites, replace_with, bool(subspaces))
    _check_widths(aligned, replace_with)
    return aligned


def _check_models(model, donor_model) -> None:
    for each in (model, donor_model or model):
        check_eval(each)
    shapes = [(m.cfg.n_layers, m.cfg.d_model, m.cfg.n_heads) for m in (model, donor_model or model)]
    if shapes[0] != shapes[1]:
        raise PbbError(f"donor_model has other (layers, d_model, heads) than the model: {shapes[1]} and {shapes[0]}.")


def _check_differing(aligned: AlignedTokens) -> None:
    same = (aligned.clean == aligned.corrupted).all(1)
    if bool(same.any()):
        raise PbbError(
            f"Pair {int(same.long().argmax())} has the same tokens on both sides, so there is nothing to patch: leave "
            'it out, or use replace_with="own" for the control that changes nothing.'
        )


def _check_rotated(sites: Sequence[str], replace_with: Replacement, subspaces: bool) -> None:
    mixed = replace_with in ("mean", "mean_difference", "random") or subspaces
    if mixed and (rotated := {"q", "k"} & set(sites)):
        raise PbbError(
            f"{min(rotated)} is patched with its position embedding, where means and random directions mean nothing: "
            "replace with something else, or patch other sites."
        )


def _check_widths(aligned: AlignedTokens, replace_with: Replacement) -> None:
    widths = aligned.spans[..., 1] - aligned.spans[..., 0]
    if replace_with in ("mean", "mean_difference") and bool((widths != widths[:, :1]).any()):
        raise PbbError(
            f"{replace_with} is a mean over pairs, which needs spans of equal lengths: replace with something else, or "
            "patch last tokens only."
        )


def _check_subspaces(model, subspaces: Mapping, sites, layers, aligned: AlignedTokens) -> None:
    import torch

    for site, basis in subspaces.items():
        shape = (len(layers), len(aligned.places), model.cfg.d_model)
        if site not in sites or len(SITES[site]) > 1 or tuple(basis.shape[:-1]) != shape:
            raise PbbError(
                f"The subspace of {site!r} must be a basis {[*shape, 'rank']} of a swept site of width d_model; it is "
                f"{list(basis.shape)}."
            )
        gram = basis.transpose(-1, -2) @ basis
        if not bool((gram - torch.eye(basis.shape[-1])).abs().max() < 1e-4):
            raise PbbError(f"The basis of {site!r} is not orthonormal: use one of TransformerLens's *_basis functions.")


def _check_only(only: "xr.Dataset | None", sites, layers, aligned: AlignedTokens) -> "dict[str, torch.Tensor]":
    import torch

    chosen: dict[str, torch.Tensor] = {}
    if only is None:
        return chosen
    for site in sites:
        dims = ("layer", *SITES[site][:-1], aligned.place_dim)
        if site not in only or set(only[site].dims) != set(dims):
            raise PbbError(f"only[{site!r}] must be booleans with the dimensions {', '.join(dims)}.")
        mask = torch.as_tensor(only[site].transpose(*dims).values.astype(bool))
        mask = mask if len(dims) == 3 else mask[:, None]
        if mask.shape[0] != len(layers) or mask.shape[2] != len(aligned.places):
            raise PbbError(f"only[{site!r}] must have {len(layers)} layers and {len(aligned.places)} places.")
        chosen[site] = mask
    return chosen


def _n_heads(model, site: str) -> int:
    return 1 if len(SITES[site]) == 1 else n_heads(model, SITES[site][0])
