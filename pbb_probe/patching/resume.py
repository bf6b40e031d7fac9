"""A sweep that can be stopped: each layer is kept in a folder once it is done, and read from there the next time."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.patching.grid import Grid
from pbb_probe.patching.measurement import measure
from pbb_probe.store.outputs import is_whole, write_recorded

if TYPE_CHECKING:
    import torch

    from pbb_probe.hooking.engines.protocol import Engine
    from pbb_probe.patching.measurement import Measure, Progress

SIDES = ("base", "donor")


def measure_by_layer(
    folder: Path,
    names: Sequence[str],
    engine: "Engine",
    donor_engine: "Engine",
    grid: Grid,
    metrics: "Measure",
    progress: "Progress",
) -> "dict[str, torch.Tensor]":
    """As `measurement.measure`, with a safetensors file a layer.

    A metric is a function and cannot be compared; what it says of the unpatched prompts can. It is kept with each
    layer.

    Raises:
        PbbError: the folder holds layers of another sweep, model or metric.
    """
    import torch
    from safetensors.torch import load_file, save

    folder.mkdir(parents=True, exist_ok=True)
    digest = _digest(grid, names)
    no_cells = replace(grid, layers=grid.layers[:1], spans=grid.spans[:0])
    unpatched = measure(engine, donor_engine, no_cells, metrics)
    by_layer = []
    for i, layer in enumerate(grid.layers):
        path = folder / f"{digest}_layer{layer}.safetensors"
        if is_whole(path):
            values = load_file(path)
            progress.update(sum(v.shape[1:4].numel() for name, v in values.items() if name not in SIDES))
        else:
            one_layer = replace(
                grid,
                layers=[layer],
                subspaces={site: basis[i : i + 1] for site, basis in grid.subspaces.items()},
                only={site: chosen[i : i + 1] for site, chosen in grid.only.items()},
            )
            values = measure(engine, donor_engine, one_layer, metrics, progress)
            write_recorded(path, save({name: value.contiguous() for name, value in values.items()}))
        for side in SIDES:
            if not torch.allclose(values[side], unpatched[side], rtol=1e-4, atol=1e-5):
                raise PbbError(
                    f"{path} is of another model or metric (its unpatched prompts differ): give an empty folder to "
                    "resume."
                )
        by_layer.append(values)
    sites = {site: torch.cat([values[site] for values in by_layer], dim=1) for site in grid.sites}
    return {side: by_layer[0][side] for side in SIDES} | sites


def _digest(grid: Grid, names: Sequence[str]) -> str:
    """Of everything that a sweep is asked but its layers, its model and its metrics."""
    asked = {"metrics": names, "sites": grid.sites, "replace_with": grid.replace_with, "seed": grid.seed}
    content = hashlib.sha256(repr(asked).encode())
    tensors = (grid.base, grid.donor, grid.out, grid.spans)
    for tensor in (*tensors, *grid.subspaces.values(), *grid.only.values()):
        content.update(repr(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
