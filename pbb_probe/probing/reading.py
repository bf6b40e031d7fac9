"""What the probes of several folds say of prompts: each by those that have not seen it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.probing.readers import Kind

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr


def features_at(acts: "xr.Dataset", site: str, layers: Sequence[int], roles: Sequence[str], width: int) -> "np.ndarray":
    """Activations of one site at these layers and roles, heads flattened [layer, role, prompt, feature].

    Raises:
        PbbError: the site, a layer or a role is not there, or the activations have another width.
    """
    import numpy as np
    from einops import rearrange

    if site not in acts.data_vars:
        raise PbbError(f"The activations have no site {site!r}: capture those that the probes were fitted at.")
    wanted: dict[str, Sequence[Any]] = {"layer": layers, "role": roles}
    for name, entries in wanted.items():
        there = acts[site][name].values.tolist()
        if lacking := [entry for entry in entries if entry not in there]:
            raise PbbError(
                f"The activations have no {name} {lacking[0]!r}: capture those that the probes were fitted at."
            )
    values = acts[site].sel(wanted).values.astype(float)
    features = np.asarray(rearrange(values, "layer role prompt ... -> layer role prompt (...)"))
    if features.shape[-1] != width:
        raise PbbError(
            f"The probes read {width} features and the activations have {features.shape[-1]}: give those of the site "
            "that they were fitted at."
        )
    return features


def averaged(
    features: "np.ndarray", coefficients: "np.ndarray", intercepts: "np.ndarray", kind: Kind, unseen: "np.ndarray"
) -> "np.ndarray":
    """Probabilities, votes of nearest means, or numbers, averaged over folds [layer, role, prompt, class].

    Args:
        features: [layer, role, prompt, feature].
        coefficients: [fold, layer, role, class, feature].
        intercepts: [fold, layer, role, class].
        kind: of the probes.
        unseen: 1 where a fold's probe counts for a prompt, else 0 [fold, prompt].
    """
    import numpy as np
    from einops import einsum, rearrange
    from scipy.special import softmax

    slopes = rearrange(coefficients, "fold layer role value feature -> fold layer role feature value")
    said = features @ slopes + intercepts[..., None, :]  # [fold, layer, role, prompt, class]
    if kind == "logistic":
        said = softmax(said, -1)
    elif kind == "mean_difference":
        said = np.eye(said.shape[-1])[said.argmax(-1)]
    share = unseen / unseen.sum(0)
    return np.asarray(einsum(said, share, "fold layer role prompt value, fold prompt -> layer role prompt value"))
