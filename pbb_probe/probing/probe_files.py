"""Probes in a safetensors file: two arrays a target and site, and what they are of as JSON in its metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.schema import shown

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

PARTS = ("coefficients", "intercepts")
VALUE, SITE = "value", "activations"
"""What the target and the site are called of a file of version 0.8 or earlier, which held one probe and no names."""


class ProbeParts(NamedTuple):
    """What `Probes` is made of, field by field."""

    scores: "xr.Dataset"
    kinds: dict[str, Any]
    classes: dict[str, tuple[Any, ...]]
    coefficients: "dict[tuple[str, str], np.ndarray]"
    intercepts: "dict[tuple[str, str], np.ndarray]"
    dims: dict[str, tuple[str, ...]]
    fold: dict[Any, int]


def write_probes(probes: ProbeParts, path: Path) -> None:
    """What `Probes.save` does."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    about: dict[str, Any] = {"kinds": probes.kinds, "dims": probes.dims}
    about["classes"] = {name: list(map(_plain, values)) for name, values in probes.classes.items()}
    about |= {name: probes.scores[name].values.tolist() for name in ("layer", "role")}
    about["fold"] = [(_plain(cluster), k) for cluster, k in probes.fold.items()]
    arrays = {json.dumps([part, *key]): a.copy() for part in PARTS for key, a in getattr(probes, part).items()}
    try:
        save_file(arrays, path, metadata={"probes": json.dumps(about)})
    except (OSError, SafetensorError) as error:
        raise PbbError(
            f"The probes cannot be written to {path} ({error}): name a file in a folder that exists."
        ) from error


def read_probes(path: Path) -> ProbeParts:
    """What `Probes.load` does."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        return _probes(metadata, arrays) if "probes" in metadata else _one_probe(metadata, arrays)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise PbbError(f"{path} holds no probes ({error}): give a file that Probes.save wrote.") from error


def _probes(metadata: Mapping[str, str], arrays: "Mapping[str, np.ndarray]") -> ProbeParts:
    import xarray as xr

    about = json.loads(metadata["probes"])
    coords = {
        "target": list(about["kinds"]),
        "site": list(about["dims"]),
        "layer": about["layer"],
        "role": about["role"],
    }
    keys = [(target, site) for target in coords["target"] for site in coords["site"]]
    coefficients, intercepts = ({key: arrays[json.dumps([part, *key])] for key in keys} for part in PARTS)
    return ProbeParts(
        xr.Dataset(coords=coords),
        about["kinds"],
        {name: tuple(values) for name, values in about["classes"].items()},
        coefficients,
        intercepts,
        {name: tuple(dims) for name, dims in about["dims"].items()},
        dict(about["fold"]),
    )


def _one_probe(metadata: Mapping[str, str], arrays: "Mapping[str, np.ndarray]") -> ProbeParts:
    """The probe [class, feature] of a file of version 0.8 or earlier."""
    import xarray as xr
    from einops import rearrange

    kind: Any = metadata["kind"]
    return ProbeParts(
        xr.Dataset(coords={"target": [VALUE], "site": [SITE], "layer": [0], "role": ["all"]}),
        {VALUE: kind},
        {VALUE: tuple(json.loads(metadata["classes"]))},
        {(VALUE, SITE): rearrange(arrays["coefficients"], "value feature -> 1 1 1 value feature")},
        {(VALUE, SITE): rearrange(arrays["intercepts"], "value -> 1 1 1 value")},
        {SITE: ("feature",)},
        {},
    )


def _plain(value: Any) -> str | float | bool:
    """A value as a text or number of Python's own.

    Raises:
        PbbError: it is neither.
    """
    plain = value.item() if hasattr(value, "item") else value
    if not isinstance(plain, (str, int, float)):
        raise PbbError(f"The value {shown(value)} is neither a text nor a number, and cannot be saved.")
    return plain
