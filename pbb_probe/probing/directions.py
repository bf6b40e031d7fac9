"""What a probe reads, as unit directions and as an orthonormal basis, from its coefficients."""

from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np
    import torch


def unit_directions(coefficients: "np.ndarray") -> "np.ndarray":
    """Unit vectors [..., class, feature] along which each class's score grows most against the mean of the others.

    Of coefficients [..., class, feature]. Of two classes there is one, towards the second, and of one row that row.
    """
    import numpy as np

    rows = coefficients
    if rows.shape[-2] == 2:
        rows = rows[..., 1:, :] - rows[..., :1, :]
    elif rows.shape[-2] > 2:
        rows = rows - rows.mean(-2, keepdims=True)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))


def subspace(coefficients: "np.ndarray", name: str) -> "torch.Tensor":
    """The span [d_model, rank] of the directions of coefficients [class, d_model], of one dimension less than classes.

    Args:
        coefficients: of a probe that tells classes apart.
        name: of what it reads, for the sentence of an error.

    Raises:
        PbbError: more classes than features, or coefficients that span fewer dimensions.
    """
    import torch
    from transformer_lens.tools.analysis.interchange import probe_basis

    n_classes, width = coefficients.shape
    if n_classes > width:
        raise PbbError(f"The values {name!r} have {n_classes} classes and activations {width} features: no subspace.")
    refusal = (
        f"The probes of {name!r} have no subspace of {n_classes - 1} dimensions everywhere: leave out places where "
        "activations hardly differ, such as the embedding of one token."
    )
    try:
        basis = probe_basis(torch.from_numpy(coefficients).float())
    except (ValueError, RuntimeError) as error:  # of rank 0, or with no singular values to be had
        raise PbbError(refusal) from error
    if basis.shape[1] < n_classes - 1:
        raise PbbError(refusal)
    return basis
