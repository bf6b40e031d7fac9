"""Activations on disk: safetensors shards, written batch by batch and read slice by slice.

A shard holds the activations of consecutive prompts. It appears under its name only once it is complete, so that a
capture may be stopped at any moment and resumed. Reading gives an ordinary xarray Dataset whose values stay on disk
until they are used.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.labels import Labelled, storable, with_labels
from pbb_probe.store.disk import read_sealed, write_sealed
from pbb_probe.store.outputs import ALWAYS, forget, is_whole, write_recorded

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

_INDEX = "capture.json"
_LABELS = "labels.json"


def write_shards(
    folder: str | Path,
    asked: Mapping[str, Any],
    content: "Sequence[np.ndarray]",
    starts: Sequence[int],
    make: "Callable[[int], dict[str, np.ndarray]]",
    again: "Callable[[int], dict[str, np.ndarray]]",
) -> None:
    """Write a shard for each start, except where it is there already.

    Args:
        folder: created if necessary.
        asked: what was asked for, as JSON values: dims, layers, roles and the number of prompts among them.
        content: further arrays on which the activations depend.
        starts: the first prompt of each shard.
        make: from a start to the arrays [layer, role, prompt, ...] of its shard by site.
        again: the same for that first prompt alone, to see whether existing shards are of this model.

    Raises:
        PbbError: the folder holds another capture, or one of another model.
    """
    import numpy as np
    from safetensors.numpy import load_file, save
    from tqdm import tqdm

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PbbError(f"{folder} cannot be made ({error.strerror}): give a folder that can be written to.") from error
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for array in content:
        digest.update(repr((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    index = {**asked, "starts": list(starts), "digest": digest.hexdigest()[:16]}
    if (there := read_sealed(folder / _INDEX)) not in (None, index):
        raise PbbError(f"{folder} holds another capture, of other prompts or places: give an empty folder.")
    paths = {start: folder / _shard(start) for start in starts}
    if there is None:  # shards found here belong to no known capture
        for path in paths.values():
            forget(path)
        write_sealed(folder / _INDEX, index)
    hashed = _bytes(paths.values()) <= ALWAYS
    compared = False
    for start in tqdm(starts, desc="activations", unit="shard", delay=2):
        path = paths[start]
        if is_whole(path, hashed):
            if not compared:
                there = load_file(path)
                for site, values in again(start).items():
                    if not np.allclose(there[site][:, :, :1], values, rtol=1e-3, atol=1e-4 * np.abs(values).max()):
                        raise PbbError(f"{path} holds activations of another model: give an empty folder.")
                compared = True
            continue
        write_recorded(path, save({site: np.ascontiguousarray(values) for site, values in make(start).items()}))


def write_labels(folder: str | Path, prompts: Labelled) -> None:
    """Store the labels of the prompts beside their shards, replacing any that are there."""
    columns = {str(name): storable(column) for name, column in prompts.labels.items()}
    write_sealed(Path(folder) / _LABELS, {"labels": [[name, v.dtype.str, v.tolist()] for name, v in columns.items()]})


@dataclass(frozen=True)
class _Stored:
    """The labels of prompts as stored beside their shards."""

    labels: "pd.DataFrame"
    unit: str = "prompt"

    @classmethod
    def read(cls, folder: Path, n: int) -> "_Stored | None":
        """The labels of `n` prompts; None if they are missing or were changed."""
        import numpy as np
        import pandas as pd

        if (stored := read_sealed(folder / _LABELS)) is None:
            return None
        columns = {name: np.array(values, dtype) for name, dtype, values in stored["labels"]}
        return cls(pd.DataFrame(columns, index=range(n)))


def open_capture(folder: str | Path) -> "xr.Dataset":
    """What `capture` wrote into a folder, without reading more than its index and the labels of the prompts.

    Selecting (`acts["resid_post"].sel(layer=3, role="answer")`) reads nothing either; `.values` reads what was
    selected, and `.load()` keeps it.

    Raises:
        PbbError: there is no capture, or one that is not finished or was changed. Of one above `outputs.ALWAYS` bytes
            only sizes are compared.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=6), pbb.load_model("nano")
        >>> _ = pbb.capture(model, pbb.make_prompts(corpus, model, n=8), out="activations")
        >>> acts = pbb.open_capture("activations")
        >>> acts["resid_post"].sel(layer=3, role="answer").shape
        (16, 128)
    """
    import xarray as xr
    from xarray.core.indexing import LazilyIndexedArray

    folder = Path(folder)
    if (index := read_sealed(folder / _INDEX)) is None:
        raise PbbError(f"There is no capture in {folder}: give a folder that `capture` wrote.")
    starts = index["starts"]
    paths = [folder / _shard(start) for start in starts]
    hashed = _bytes(paths) <= ALWAYS
    if missing := [path for path in paths if not is_whole(path, hashed)]:
        raise PbbError(
            f"The capture in {folder} is not finished or damaged ({len(missing)} of {len(starts)} shards are missing "
            "or were changed): call `capture` with the same arguments again."
        )
    if (prompts := _Stored.read(folder, index["prompts"])) is None:
        raise PbbError(
            f"The labels of the capture in {folder} are missing or were changed: call `capture` with the same "
            "arguments again."
        )
    variables = {
        site: (dims, LazilyIndexedArray(_array(folder, site, starts, index["prompts"])))
        for site, dims in index["sites"].items()
    }
    return with_labels(xr.Dataset(variables, coords={"layer": index["layers"], "role": index["roles"]}), prompts)


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


def _shard(start: int) -> str:
    return f"{start:08}.safetensors"


def _array(folder: Path, site: str, starts: list[int], n_prompts: int) -> Any:
    """The array of one site as xarray's lazy arrays want it."""
    import numpy as np
    from safetensors import safe_open
    from xarray.backends import BackendArray
    from xarray.core import indexing

    ends = [*starts[1:], n_prompts]
    with safe_open(folder / _shard(starts[0]), framework="numpy") as first:
        of_first = first.get_slice(site).get_shape()

    class Shards(BackendArray):
        shape = (*of_first[:2], n_prompts, *of_first[3:])
        dtype = np.dtype("float32")

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

        def _read(self, key: tuple[Any, ...]) -> "np.ndarray":
            """Numbers and slices, one a dimension; only the layers, roles and prompts among them leave the disk."""
            layers, roles, prompts = (
                range(n)[one if isinstance(one, slice) else slice(one, one + 1)]
                for n, one in zip(self.shape[:3], key[:3], strict=True)
            )
            found = np.empty((len(layers), len(roles), len(prompts), *self.shape[3:]), np.float32)
            wanted = np.array(prompts, dtype=int)
            for start, end in zip(starts, ends, strict=True):
                here = np.flatnonzero((wanted >= start) & (wanted < end))
                if not len(here):
                    continue
                rows = wanted[here] - start
                with safe_open(folder / _shard(start), framework="numpy") as shard:
                    stored = shard.get_slice(site)
                    for i, layer in enumerate(layers):
                        for j, role in enumerate(roles):
                            values = stored[layer : layer + 1, role : role + 1, rows.min() : rows.max() + 1]
                            found[i, j, here] = values[0, 0, rows - rows.min()]
            whole = tuple(0 if not isinstance(one, slice) else slice(None) for one in key[:3])
            return found[(*whole, *key[3:])]

    return Shards()
