"""A sweep that can be stopped: each layer is kept in a folder as it is done, and found there the next time."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.patching.grid import Grid, measure
from pbb_probe.store.outputs import is_whole, write_recorded

if TYPE_CHECKING:
    import torch

    from pbb_probe.patching.grid import Engine, Measure


def measure_by_layer(
    folder: Path,
    names: Sequence[str],
    engine: "Engine",
    donor: "Engine",
    grid: Grid,
    measured: "Measure",
    progress: Any,
) -> "dict[str, torch.Tensor]":
    """As `grid.measure`, a safetensors file a layer.

    A metric is a function and cannot be compared; what it says of the unpatched runs can. It is kept with each layer.

    Raises:
        PbbError: the folder holds layers of another sweep, model or metric.
    """
    import torch
    from safetensors.torch import load_file, save

    folder.mkdir(parents=True, exist_ok=True)
    asked = _digest(grid, names)
    unpatched = measure(engine, donor, replace(grid, layers=grid.layers[:1], spans=grid.spans[:0]), measured)
    done = []
    for layer in grid.layers:
        path = folder / f"{asked}_layer{layer}.safetensors"
        if is_whole(path):
            found = load_file(path)
            progress.update(sum(v.shape[1:4].numel() for name, v in found.items() if name not in ("base", "other")))
        else:
            i = grid.layers.index(layer)
            alone = replace(
                grid,
                layers=[layer],
                subspaces={site: basis[i : i + 1] for site, basis in grid.subspaces.items()},
                only={site: chosen[i : i + 1] for site, chosen in grid.only.items()},
            )
            found = measure(engine, donor, alone, measured, progress)
            write_recorded(path, save({name: value.contiguous() for name, value in found.items()}))
        for end in ("base", "other"):
            if not torch.allclose(found[end], unpatched[end], rtol=1e-4, atol=1e-5):
                raise PbbError(
                    f"{path} is of another model or metric (its unpatched runs differ): give an empty folder to resume."
                )
        done.append(found)
    sites = {site: torch.cat([found[site] for found in done], dim=1) for site in grid.sites}
    return {"base": done[0]["base"], "other": done[0]["other"], **sites}


def _digest(grid: Grid, names: Sequence[str]) -> str:
    """Of everything a sweep is asked but its layers, its model and its metrics."""
    content = hashlib.sha256(repr((names, grid.sites, grid.replace_with, grid.seed)).encode())
    tensors = (grid.base, grid.other, grid.out, grid.spans)
    for tensor in (*tensors, *grid.subspaces.values(), *grid.only.values()):
        content.update(repr(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
