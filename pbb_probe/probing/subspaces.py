"""From reading to use: the subspace that a probe reads, to be put from one run into another.

A direction that decodes a state need not be one that carries it. `patch_sweep` and `transfer_map` take these subspaces
and interchange nothing but what the probe sees (TransformerLens's interchange); their control `random` is a subspace of
the same rank, moved as far. If the answer follows the other run's state no more often than with a random one, the probe
reads what the model does not use, or what it uses elsewhere too.
"""

from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.probing.places import place_batches
from pbb_probe.probing.readers import fit_together
from pbb_probe.schema import Strength, checks_arguments

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    import xarray as xr


@checks_arguments
def probe_subspaces(acts: "xr.Dataset", values: "pd.Series", C: Strength = 1.0) -> "dict[str, torch.Tensor]":  # noqa: N803
    """What a logistic probe of `values` reads at each place, as orthonormal bases.

    Args:
        acts: from `capture`, of sites of width d_model; the rows that the probes are fitted on.
        values: classes, a row a prompt; rows where they are missing are left out.
        C: inverse regularisation strength, as in `fit_probes`.

    Returns:
        By site [layer, role, d_model, rank], the span of the classes' directions, whose rank is one less than there
        are classes: what `patch_sweep(subspaces=)` and `transfer_map(subspaces=)` take, for the same layers and roles.

    Raises:
        PbbError: another number of values than prompts, one class, sites that are split into heads, or a place where
            activations differ in fewer directions than a probe needs, such as the embedding of one token.
    """
    import numpy as np
    import torch

    if len(values) != acts.sizes["prompt"]:
        raise PbbError(f"There are {acts.sizes['prompt']} prompts and {len(values)} values: give one a prompt.")
    if split := [site for site, array in acts.data_vars.items() if array.dims[3:] != ("d_model",)]:
        raise PbbError(f"Subspaces are of sites of width d_model, and {split[0]} is not: leave it out.")
    known = np.flatnonzero(values.notna())
    column = values.to_numpy()[known].astype(str)
    if (n_classes := len(set(column.tolist()))) < 2:
        raise PbbError(f"The values {values.name!r} have fewer than two classes: a probe needs at least two.")
    if n_classes > (width := min(array.shape[-1] for array in acts.data_vars.values())):
        raise PbbError(
            f"The values {values.name!r} have {n_classes} classes and activations {width} features: no subspace."
        )
    bases = []
    for features in place_batches(acts, 1):
        (reader,) = fit_together(features[:, known], [column], ["logistic"], C)
        bases.append(_basis(reader.coefficients[0], str(values.name), n_classes - 1))
    shape = (acts.sizes["layer"], acts.sizes["role"], *bases[0].shape)
    n = shape[0] * shape[1]
    return {str(site): torch.stack(bases[i * n : (i + 1) * n]).view(shape) for i, site in enumerate(acts.data_vars)}


def _basis(coefficients: "np.ndarray", name: str, rank: int) -> "torch.Tensor":
    """The span [d_model, rank] of a probe's coefficients [class, d_model]."""
    import torch
    from transformer_lens.tools.analysis.interchange import probe_basis

    refusal = (
        f"The probes of {name!r} have no subspace of {rank} dimensions everywhere: leave out places where activations "
        "hardly differ, such as the embedding of one token."
    )
    try:
        basis = probe_basis(torch.from_numpy(coefficients).float())
    except (ValueError, RuntimeError) as error:  # of rank 0, or with no singular values to be had
        raise PbbError(refusal) from error
    if basis.shape[1] < rank:
        raise PbbError(refusal)
    return basis
