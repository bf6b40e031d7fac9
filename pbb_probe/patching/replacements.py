"""What is put in at a place: the donor's activation, a mean, zeros, or a control, whole or inside a subspace."""

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformer_lens.tools.analysis.interchange import SubspaceInterchange

    from pbb_probe.hooking.engines.protocol import States
    from pbb_probe.patching.grid import Grid

Means = dict[tuple[str, int, int], "torch.Tensor"]
"""A mean activation [width, (head,) d] by site, layer and index of the place."""


def mean_activations(grid: "Grid", recordings: "Iterable[tuple[torch.Tensor, States, States]]") -> Means:
    """The mean over pairs of the donor's activation at each place, or of what it has more than the base's.

    Args:
        grid: whose spans are equally long in all pairs.
        recordings: the indices of some pairs, and what was recorded of their base and donor prompts.
    """
    import torch

    sums: Means = {}
    for rows, base, donor in recordings:
        pair = torch.arange(len(rows))[:, None]
        for place, spans in enumerate(grid.spans):
            width = int(spans[0, 1] - spans[0, 0]) + 1
            at = spans[rows, :1] + torch.arange(width)  # [pair, width]
            for site in grid.sites:
                for layer in grid.layers:
                    activation = donor.at(site, layer)[pair, at]
                    if grid.replace_with == "mean_difference":
                        activation = activation - base.at(site, layer)[pair, at]
                    key = site, layer, place
                    sums[key] = sums.get(key, 0) + activation.sum(0)
        del base, donor
    return {key: total / len(grid.base) for key, total in sums.items()}


def replacement(
    grid: "Grid",
    means: Means,
    site: str,
    layer: int,
    place: int,
    pairs: "torch.Tensor",
    own: "torch.Tensor",
    donor: "torch.Tensor",
) -> "torch.Tensor":
    """What is put in at one site, layer and place of some pairs [pair, width, (head,) d].

    Args:
        grid: says what that is.
        means: from `mean_activations`, where it is one.
        site, layer, place: where; the place by its index.
        pairs: their indices [pair].
        own: what the base prompts have there [pair, width, (head,) d].
        donor: what the donor prompts have there.
    """
    import torch

    inside = _subspace(grid, site, layer, place)
    if inside is not None and grid.replace_with == "random":
        return _placebo(grid, inside, site, layer, place, own, donor)
    match grid.replace_with:
        case "other":
            put = donor
        case "own":
            put = own
        case "zero":
            put = torch.zeros_like(own)
        case "mean":
            put = means[site, layer, place].expand_as(own)
        case "mean_difference":
            put = own + means[site, layer, place]
        case "random":
            put = own + _random_change(grid, site, layer, place, pairs, own, donor)
    return put if inside is None else inside(own, put)


def _subspace(grid: "Grid", site: str, layer: int, place: int) -> "SubspaceInterchange | None":
    from transformer_lens.tools.analysis.interchange import SubspaceInterchange

    if site not in grid.subspaces:
        return None
    return SubspaceInterchange(grid.subspaces[site][grid.layers.index(layer), place])


def _placebo(
    grid: "Grid",
    inside: "SubspaceInterchange",
    site: str,
    layer: int,
    place: int,
    own: "torch.Tensor",
    donor: "torch.Tensor",
) -> "torch.Tensor":
    """As far as the donor's activation would move it inside the subspace, in a random one of the same rank."""
    from transformer_lens.tools.analysis.interchange import NormMatchedPlacebo, random_basis

    width, rank = grid.subspaces[site].shape[2:]
    basis = random_basis(width, rank, _number(_key(grid, site, layer, place)))
    placebo: torch.Tensor = NormMatchedPlacebo(inside, basis)(own, donor)
    return placebo


def _random_change(
    grid: "Grid", site: str, layer: int, place: int, pairs: "torch.Tensor", own: "torch.Tensor", donor: "torch.Tensor"
) -> "torch.Tensor":
    """A random vector of the norm of donor minus own; a pair has its direction however pairs are chunked."""
    import torch
    from einops import rearrange

    key = _key(grid, site, layer, place)
    drawn = torch.stack([_direction(own.shape[1:], f"{key} {int(pair)}") for pair in pairs]).to(own)
    norm, length = (
        rearrange(x, "pair width ... -> pair width (...)").norm(dim=-1, keepdim=True) for x in (donor - own, drawn)
    )
    unit = rearrange(drawn, "pair width ... -> pair width (...)") / length
    change: torch.Tensor = (norm * unit).view_as(own)
    return change


def _key(grid: "Grid", site: str, layer: int, place: int) -> str:
    return f"{grid.seed} {grid.sites.index(site)} {layer} {place}"


def _direction(shape: "torch.Size", key: str) -> "torch.Tensor":
    """A random direction, the same for the same key."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(_number(key)))


def _number(key: str) -> int:
    return random.Random(key).getrandbits(62)
