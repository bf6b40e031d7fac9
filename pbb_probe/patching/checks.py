"""What a sweep refuses: models, sites, replacements and subspaces that do not fit the prompts or each other."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.sites import SITES, check_eval, check_sites
from pbb_probe.patching.alignment import AlignedTokens
from pbb_probe.patching.grid import REPLACEMENTS, Replacement
from pbb_probe.schema import refuse_unknown

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge


def check_sweep(
    model: "TransformerBridge",
    aligned: AlignedTokens,
    sites: Sequence[str],
    layers: Sequence[int],
    *,
    replace_with: Replacement = "other",
    donor_model: "TransformerBridge | None" = None,
    subspaces: "Mapping[str, torch.Tensor] | None" = None,
) -> None:
    """Refuse what `patch_sweep` would refuse of these arguments, before any forward pass.

    Args:
        model: that is patched.
        aligned: the prompts, from `align`, which refuses those that do not line up.
        sites, layers, replace_with, donor_model, subspaces: as for `patch_sweep`.

    Raises:
        PbbError: what `patch_sweep` refuses, but for prompts and metrics.
    """
    for each in (model, donor_model or model):
        check_sites(each, sites, layers)
        check_eval(each)
    refuse_unknown("replace_with", [replace_with], REPLACEMENTS)
    if donor_model is not None:
        _check_shapes(model, donor_model)
    elif replace_with == "other":
        _check_differing(aligned)
    for site, basis in (subspaces or {}).items():
        _check_subspace(site, basis, sites, (len(layers), len(aligned.places), model.cfg.d_model))
    _check_rotated(sites, replace_with, bool(subspaces))
    _check_widths(aligned, replace_with)


def _check_shapes(model: "TransformerBridge", donor_model: "TransformerBridge") -> None:
    own, donor = ((m.cfg.n_layers, m.cfg.d_model, m.cfg.n_heads) for m in (model, donor_model))
    if own != donor:
        raise PbbError(f"donor_model has other (layers, d_model, heads) than the model: {donor} and {own}.")


def _check_differing(aligned: AlignedTokens) -> None:
    same = (aligned.clean == aligned.corrupted).all(1)
    if bool(same.any()):
        raise PbbError(
            f"Pair {int(same.long().argmax())} has the same tokens on both sides, so there is nothing to patch: leave "
            'it out, or use replace_with="own" for the control that changes nothing.'
        )


def _check_rotated(sites: Sequence[str], replace_with: Replacement, in_subspaces: bool) -> None:
    mixes = replace_with in ("mean", "mean_difference", "random") or in_subspaces
    if mixes and (rotated := {"q", "k"} & set(sites)):
        raise PbbError(
            f"{min(rotated)} is patched with its position embedding, where means and random directions mean nothing: "
            "replace with something else, or patch other sites."
        )


def _check_widths(aligned: AlignedTokens, replace_with: Replacement) -> None:
    widths = aligned.spans[..., 1] - aligned.spans[..., 0]  # [place, pair]
    if replace_with not in ("mean", "mean_difference"):
        return
    if not bool(aligned.has_place.all()):
        raise PbbError(
            f"{replace_with} is a mean over pairs, and some pairs lack a role: replace with something else, or patch "
            "roles that all have."
        )
    if bool((widths != widths[:, :1]).any()):
        raise PbbError(
            f"{replace_with} is a mean over pairs, which needs spans of equal lengths: replace with something else, or "
            "patch last tokens only."
        )


def _check_subspace(site: str, basis: "torch.Tensor", sites: Sequence[str], shape: tuple[int, int, int]) -> None:
    import torch
    from einops import einsum

    if site not in sites or len(SITES[site]) > 1 or tuple(basis.shape[:-1]) != shape:
        raise PbbError(
            f"The subspace of {site!r} must be a basis {[*shape, 'rank']} of a swept site of width d_model; it is "
            f"{list(basis.shape)}."
        )
    gram = einsum(basis, basis, "layer place d_model row, layer place d_model column -> layer place row column")
    if not bool((gram - torch.eye(basis.shape[-1])).abs().max() < 1e-4):
        raise PbbError(f"The basis of {site!r} is not orthonormal: use one of TransformerLens's *_basis functions.")


def cells_to_run(
    only: "xr.Dataset | None", sites: Sequence[str], layers: Sequence[int], aligned: AlignedTokens
) -> "dict[str, torch.Tensor]":
    """The cells to run [layer, head, place] by site, of the booleans given; nothing where all are.

    Raises:
        PbbError: other dimensions than those of the effects, or other lengths.
    """
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
