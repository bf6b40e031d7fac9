"""Linear readers of several columns of values from the same rows, at several places at once."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from pbb_probe.models.bases import available_device

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["logistic", "mean_difference", "ridge"]
"""Of a probe: multinomial logistic regression, the nearest class mean, or ridge regression of numbers."""
KINDS: tuple[Kind, ...] = get_args(Kind)


class Readers(NamedTuple):
    """One column's probes at several places."""

    classes: "np.ndarray"
    """The values told apart [class]; none for ridge."""
    coefficients: "np.ndarray"
    """[place, class, feature], in the units of the features."""
    intercepts: "np.ndarray"
    """[place, class]"""

    def read(self, features: "np.ndarray") -> "np.ndarray":
        """The likeliest classes, or numbers [place, row], of features [place, row, feature]."""
        import numpy as np
        from einops import rearrange

        coefficients = rearrange(self.coefficients, "place value feature -> place feature value")
        scores = features @ coefficients + self.intercepts[:, None]
        return np.asarray(self.classes[scores.argmax(2)] if len(self.classes) else scores[..., 0])


def fit_together(
    features: "np.ndarray",
    columns: Sequence["np.ndarray"],
    kinds: Sequence[Kind],
    strengths: "np.ndarray | float",
    balanced: bool = False,
) -> list[Readers]:
    """Probes of several columns of values [row] on the same rows of features [place, row, feature].

    Args:
        features: of the rows that are fitted on.
        columns: class values, or numbers for ridge.
        kinds: of each column's probe.
        strengths: C of each place and column [place, column], or of all.
        balanced: weigh a logistic probe's rows so that all classes count alike, as scikit-learn's class_weight does.
    """
    import numpy as np

    mean, scale = features.mean(1, keepdims=True), features.std(1, keepdims=True)
    scale[scale <= 1e-12 * np.abs(mean)] = 1.0  # constant up to rounding
    standard = (features - mean) / scale
    strengths = np.broadcast_to(strengths, (len(features), len(columns)))
    coded = [np.unique(column, return_inverse=True) for column in columns]
    weights: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # coefficients and intercepts on standardised features
    if logistic := [i for i, kind in enumerate(kinds) if kind == "logistic"]:
        fitted = _logistic(standard, [coded[i] for i in logistic], strengths[:, logistic], balanced)
        weights |= dict(zip(logistic, fitted, strict=True))
    for i, kind in enumerate(kinds):
        if kind == "ridge":
            numbers = columns[i].astype(float)
            slopes = [_ridge(*at, numbers - numbers.mean()) for at in zip(standard, 1 / strengths[:, i], strict=True)]
            weights[i] = np.stack(slopes)[:, None], np.full((len(features), 1), numbers.mean())
        if kind == "mean_difference":
            classes, codes = coded[i]
            means = np.stack([standard[:, codes == k].mean(1) for k in range(len(classes))], axis=1)
            weights[i] = means, -(means**2).sum(2) / 2  # the largest score is that of the nearest mean
    readers = []
    for i, kind in enumerate(kinds):
        coefficients = weights[i][0] / scale
        intercepts = weights[i][1] - (coefficients * mean).sum(2)
        readers.append(Readers(coded[i][0][:0] if kind == "ridge" else coded[i][0], coefficients, intercepts))
    return readers


def _logistic(
    standard: "np.ndarray", coded: "list[tuple[np.ndarray, np.ndarray]]", strengths: "np.ndarray", balanced: bool
) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
    """Coefficients [place, class, feature] and intercepts [place, class] of each coded column."""
    import numpy as np
    import torch

    from pbb_probe.probing.logistic import fit_logistic

    n, device = len(standard), available_device()
    sizes = [len(classes) for classes, _ in coded]
    codes = torch.from_numpy(np.stack([codes for _, codes in coded], axis=1))
    counts = [np.bincount(codes) for _, codes in coded]
    weights = np.stack(
        [(len(codes) / len(count) / count)[codes] for (_, codes), count in zip(coded, counts, strict=True)], axis=1
    )
    fitted = fit_logistic(
        torch.from_numpy(standard).to(device),
        codes.expand(n, -1, -1),
        sizes,
        torch.from_numpy(np.array(strengths, dtype=float)),
        torch.from_numpy(weights).expand(n, -1, -1) if balanced else None,
    )
    for of_column in fitted:
        yield of_column.coefficients.cpu().numpy(), of_column.intercepts.cpu().numpy()


def _ridge(features: "np.ndarray", alpha: float, numbers: "np.ndarray") -> "np.ndarray":
    """[feature]: the minimum of |numbers - features w|^2 + alpha |w|^2, in the smaller of its two forms."""
    import numpy as np
    from scipy.linalg import solve

    n_rows, width = features.shape
    if n_rows < width:
        dual = solve(features @ features.T + alpha * np.eye(n_rows), numbers, assume_a="pos")
        return np.asarray(features.T @ dual)
    return np.asarray(solve(features.T @ features + alpha * np.eye(width), features.T @ numbers, assume_a="pos"))
