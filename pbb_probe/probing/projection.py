"""Activations as points in two or three dimensions, each layer rotated to lie as near as it can to the one below.

What is shown is not all there is. Two axes show a share of the variance (`explained`). LDA shows the directions that
separate the classes best, which makes them look separate, less so on rows that it was not fitted on. Of UMAP only the
neighbourhoods can be trusted. To measure, use `fit_probes`.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.probing.arguments import values_of, with_labels_of
from pbb_probe.schema import Seed, checks_arguments, whole

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

Method = Literal["pca", "lda", "umap"]
_NARROW = 1000
"""Features up to which decomposing their whole covariance is quickest."""


@checks_arguments
def project(
    acts: "xr.Dataset",
    site: str = "resid_post",
    role: str = "answer",
    method: Method = "pca",
    axes: Annotated[int, whole(2, 3)] = 2,
    target: str | Sequence[Hashable] | None = None,
    fit: "np.ndarray | None" = None,
    seed: Seed = 0,
) -> "xr.DataArray":
    """The activations of one site and role in two or three dimensions.

    Each layer is projected on its own, centred, and rotated or reflected (never scaled) to lie as near as it can to the
    layer below: orthogonal Procrustes (Schönemann 1966). Distances within a layer are those of its projection.

    Args:
        acts: from `capture`, in memory or on disk; heads are taken together.
        site: of `acts`.
        role: of `acts`.
        method: `pca`, the plane of the greatest variance; `lda`, the one that separates the values of `target` best
            (scikit-learn's, with Ledoit and Wolf's shrinkage, so that there may be more features than rows), in units
            of the spread within a value; `umap`, neighbourhoods, with the package umap-learn.
        axes: 2 or 3.
        target: of `lda` alone, a label of `acts` or values [prompt]. A row without one is not fitted on, nor is one
            whose value no other row has.
        fit: rows that may be fitted on [prompt]; all when None. The others are projected by the same fit.
        seed: of what is random in the method.

    Returns:
        Points (layer, prompt, axis) in float32, with the method, site and role as attributes and for `pca` the share
        of the fitted rows' variance that each layer's plane has as the coordinate `explained` (layer); and with the
        labels of `acts`. A layer whose
        fitted rows are all the same (the embedding of one token, say) has all points at zero.

    Raises:
        PbbError: an unknown site, role or method, another number of axes, lengths that differ, too few rows or values
            of the target, activations that are NaN or infinite, or UMAP where it is not installed.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=6), pbb.load_model("nano")
        >>> acts = pbb.capture(model, pbb.make_prompts(corpus, model, n=8), layers=[0, 1], roles=["name"])
        >>> project(acts, role="name").shape
        (2, 16, 2)
    """
    import numpy as np
    import xarray as xr

    values = _place(acts, site, role)
    n = values.sizes["prompt"]
    if method not in get_args(Method):
        raise PbbError(f"Unknown method {method!r}: choose from {', '.join(get_args(Method))}.")
    rows = np.ones(n, bool) if fit is None else np.asarray(fit)
    if rows.shape != (n,) or rows.dtype != bool:
        raise PbbError(f"fit must be true or false for each of the {n} prompts; it is {rows.shape} of {rows.dtype}.")
    classes = _classes(method, values_of(acts, target, "target") if isinstance(target, str) else target, rows, axes)
    rows = rows & (classes >= 0)
    if rows.sum() < axes + 2:
        raise PbbError(f"{rows.sum()} rows to fit on are too few for {axes} axes: give at least {axes + 2}.")

    points, explained = np.zeros((values.sizes["layer"], n, axes), np.float32), []
    for i, layer in enumerate(values["layer"].values):
        features = _features(values.isel(layer=i), rows, f"{site} at layer {layer}, role {role!r},")
        if features.shape[1] < axes:
            raise PbbError(f"{site} has {features.shape[1]} features, fewer than the {axes} axes asked for.")
        share = 0.0
        if features.any():
            points[i], share = _FITS[method](features, rows, classes, axes, seed)
            points[i] -= points[i].mean(0, dtype=float)
        if i:
            points[i] = turned(points[i], points[i - 1])
        explained.append(share)
    coords = {"layer": values["layer"].values, "axis": [f"axis {k + 1}" for k in range(axes)]}
    projected = xr.DataArray(points, coords, ("layer", "prompt", "axis"), "points")
    projected.attrs = {"method": method, "site": site, "role": role}
    projected = with_labels_of(projected, acts)
    return projected.assign_coords(explained=("layer", explained)) if method == "pca" else projected


def _place(acts: "xr.Dataset", site: str, role: str) -> "xr.DataArray":
    """The activations (layer, prompt, ...) of one site and role, still on disk if they are there."""
    if site not in acts:
        raise PbbError(f"There is no site {site!r} in these activations: they have {', '.join(map(str, acts))}.")
    if lacking := {"layer", "role", "prompt"} - set(acts[site].dims):
        raise PbbError(f"{site!r} has no dimension {min(lacking)!r}: give the Dataset of capture.")
    if role not in (roles := acts["role"].values.tolist()):
        raise PbbError(f"There is no role {role!r} in these activations: they have {', '.join(roles)}.")
    return acts[site].sel(role=role).transpose("layer", "prompt", ...)


def _classes(method: Method, target: Sequence[Hashable] | None, rows: "np.ndarray", axes: int) -> "np.ndarray":
    """The class [prompt] of each row, -1 for a row that LDA cannot be fitted on; all 0 for the other methods."""
    import numpy as np
    import pandas as pd

    if (method == "lda") != (target is not None):
        raise PbbError("LDA needs a target, a value for each prompt, and the other methods take none.")
    if target is None:
        return np.zeros(len(rows), int)
    if len(target) != len(rows):
        raise PbbError(f"There are {len(rows)} prompts and {len(target)} values of the target: give one a prompt.")
    classes = pd.factorize(pd.Series(list(target)))[0]
    fitted = np.bincount(classes[rows & (classes >= 0)], minlength=classes.max() + 1)
    classes = np.where(fitted[classes] > 1, classes, -1) if len(fitted) else classes
    if (n := int((fitted > 1).sum())) <= axes:
        raise PbbError(
            f"LDA of {n} values has at most {max(n - 1, 0)} axes: choose a target with at least {axes + 1} values that "
            "occur twice, fewer axes, or the method 'pca'."
        )
    return classes


def _features(values: "xr.DataArray", rows: "np.ndarray", where: str) -> "np.ndarray":
    """One layer's activations [prompt, feature], less the mean of the rows fitted on; zeros where those are all alike.

    The mean goes first, in double precision: where it is much larger than what differs, as in residual streams, the
    covariance of what is left would drown in float32.
    """
    import numpy as np
    from einops import rearrange

    raw = rearrange(values.to_numpy(), "prompt ... -> prompt (...)")
    if not (finite := np.isfinite(raw)).all():
        row = np.argwhere(~finite.all(1))[0][0]
        raise PbbError(f"The activation {where} is NaN or infinite for prompt {row}: look for NaN in the weights.")
    mean = raw.mean(0, dtype=float, where=rows[:, None])
    features = (raw - mean).astype(np.float32)
    alike = np.abs(_only(features, rows)).max(0) <= 1e-6 * np.abs(mean)  # up to rounding
    return np.zeros_like(features) if alike.all() else features


def _pca(
    features: "np.ndarray", rows: "np.ndarray", classes: "np.ndarray", axes: int, seed: int
) -> "tuple[np.ndarray, float]":
    from sklearn.decomposition import PCA

    fitted = _only(features, rows)
    # both are exact; scikit-learn's own choice, a randomized one, is far off where the spectrum falls slowly
    solver = "covariance_eigh" if fitted.shape[1] <= min(len(fitted), _NARROW) else "arpack"
    pca = PCA(axes, svd_solver=solver, random_state=seed).fit(fitted)
    return pca.transform(features), float(pca.explained_variance_ratio_.sum())


def _lda(
    features: "np.ndarray", rows: "np.ndarray", classes: "np.ndarray", axes: int, seed: int
) -> "tuple[np.ndarray, float]":
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=axes)
    return lda.fit(_only(features, rows), classes[rows]).transform(features), 0.0


def _umap(
    features: "np.ndarray", rows: "np.ndarray", classes: "np.ndarray", axes: int, seed: int
) -> "tuple[np.ndarray, float]":
    import numpy as np
    import torch

    try:
        from umap import UMAP
    except ImportError as error:
        raise PbbError("UMAP is not installed: pip install 'pbb-probe[umap]', or choose 'pca'.") from error
    fitted, points = _only(features, rows), np.empty((len(features), axes), np.float32)
    threads = torch.get_num_threads()
    try:
        umap = UMAP(n_components=axes, n_neighbors=min(15, len(fitted) - 1), random_state=seed, n_jobs=1).fit(fitted)
        points[rows] = umap.embedding_
        if not rows.all():
            points[~rows] = umap.transform(features[~rows])
    finally:
        torch.set_num_threads(threads)  # which its numba sets to all cores
    return points, 0.0


_FITS = {"pca": _pca, "lda": _lda, "umap": _umap}


def _only(features: "np.ndarray", rows: "np.ndarray") -> "np.ndarray":
    return features if rows.all() else features[rows]  # no copy where there is nothing to leave out


def turned(points: "np.ndarray", towards: "np.ndarray") -> "np.ndarray":
    """Points [point, axis] rotated or reflected about the origin to lie as near as they can to others."""
    import numpy as np
    from scipy.linalg import orthogonal_procrustes

    return np.asarray(points @ orthogonal_procrustes(points, towards)[0].astype(points.dtype))
