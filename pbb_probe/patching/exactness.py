"""An engine held to a full forward pass: a few cells of every site, for one pair, by both ways."""

from dataclasses import replace
from typing import TYPE_CHECKING

from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.protocol import UnsupportedError
from pbb_probe.hooking.sites import SITES, n_heads
from pbb_probe.models.parity import spread_between, spread_of, tolerance
from pbb_probe.patching.grid import Grid
from pbb_probe.patching.measurement import measure

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.engines.protocol import Engine


def check_against_full_forward(
    engine: "Engine",
    donor_engine: "Engine",
    model: "TransformerBridge",
    donor_model: "TransformerBridge | None",
    grid: Grid,
) -> None:
    """Measure a few cells by an engine and by a full forward pass.

    One is at a place in the middle and the layer in the middle; the others are at the place nearest to the answer, in
    the lowest and the highest layer: a cell behind a sliding window changes nothing and would show nothing.

    Raises:
        UnsupportedError: they differ; the message says by how much.
    """
    full = FullForward(model)
    full_donor = full if donor_model is None else FullForward(donor_model)
    few = _few_cells(grid, model)
    values, expected = measure(engine, donor_engine, few, _every_logit), measure(full, full_donor, few, _every_logit)
    dtype, spread = next(model.original_model.parameters()).dtype, spread_of(expected["base"])
    for name, reference in expected.items():
        run = ~reference.isnan()
        if values[name].isnan()[run].any():
            raise UnsupportedError(f"{name} is NaN")
        difference = spread_between(values[name][run], reference[run], dtype, spread)
        if not difference <= tolerance(dtype):
            raise UnsupportedError(f"{name} differs by {difference:.2g}")


def heads_of(model: "TransformerBridge", site: str) -> int:
    """How many heads a site is patched by; 1 where it has none."""
    return 1 if len(SITES[site]) == 1 else n_heads(model, SITES[site][0])


def _every_logit(logits: "torch.Tensor") -> "torch.Tensor":
    """Each logit as a metric of its own."""
    from einops import rearrange

    return rearrange(logits.float(), "pair k d_vocab -> (k d_vocab) pair").cpu()


def _few_cells(grid: Grid, model: "TransformerBridge") -> Grid:
    import torch

    places, pair = _typical(grid)
    chosen = sorted({0, len(grid.layers) // 2, len(grid.layers) - 1})
    only = {}
    for site in grid.sites:
        only[site] = torch.zeros(len(chosen), heads_of(model, site), len(places), dtype=torch.bool)
        for i in range(len(chosen)):
            only[site][i, -1, 0 if i == len(chosen) // 2 else -1] = True
    return replace(
        grid,
        base=grid.base[pair : pair + 1],
        donor=grid.donor[pair : pair + 1],
        out=grid.out[pair : pair + 1],
        spans=grid.spans[places][:, pair : pair + 1],
        layers=[grid.layers[i] for i in chosen],
        subspaces={site: basis[chosen][:, places] for site, basis in grid.subspaces.items()},
        only=only,
    )


def _typical(grid: Grid) -> tuple[list[int], int]:
    """Of the places that can change something in a pair, one in the middle and the last; and that pair."""
    import torch

    pairs = torch.arange(len(grid.base))
    active = {place: rows.tolist() for place in range(len(grid.spans)) if len(rows := grid.active(place, pairs))}
    if not active:
        return [0], 0
    pair = active[max(active, key=lambda place: len(active[place]))][0]
    here = sorted(
        (place for place in active if pair in active[place]), key=lambda place: int(grid.spans[place, pair, 0])
    )
    return list(dict.fromkeys([here[len(here) // 2], here[-1]])), pair
