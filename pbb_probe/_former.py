"""Functions of the previous release that others have replaced: the old calls, made with the new ones."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    import xarray as xr

    from pbb_probe.probing.probes import Probes


def fit_held_out(acts: "xr.Dataset", targets: Any, clusters: Any = "program", *args: Any, **settings: Any) -> "Probes":
    """`fit_probes(acts, targets, clusters, folds=2, keep=True)`: probes that read what they did not see."""
    from pbb_probe.probing.linear import fit_probes

    names = ("train", "C", "folds", "seed")
    return fit_probes(
        acts, targets, clusters, **{"folds": 2, **dict(zip(names, args, strict=False)), **settings}, keep=True
    )


def fit_probe(
    features: "np.ndarray",
    values: Any,
    kind: Any = "logistic",
    C: float = 1.0,  # noqa: N803 (scikit-learn's name)
) -> "Probes":
    """`fit_probes(acts, targets, folds=1, keep=True)`: one probe on all rows of activations [row, ...]."""
    import numpy as np
    import pandas as pd
    import xarray as xr

    from pbb_probe.probing.linear import fit_probes

    flat = np.asarray(features, dtype=float)
    acts = xr.Dataset({"features": (("prompt", "d_model"), flat.reshape(len(flat), -1))})
    table = pd.DataFrame({"value": list(values)})
    return fit_probes(acts, table, range(len(flat)), C=C, folds=1, kinds={"value": kind}, keep=True)


def probe_subspaces(acts: "xr.Dataset", values: "pd.Series", C: float = 1.0) -> "dict[str, torch.Tensor]":  # noqa: N803
    """`fit_probes(acts, [name], folds=1, keep=True).subspaces()`: what a probe reads at each place, as bases."""
    from pbb_probe.probing.linear import fit_probes

    table = values.rename(values.name or "value").reset_index(drop=True).to_frame()
    return fit_probes(acts, table, range(len(table)), C=C, folds=1, keep=True).subspaces()
