"""A fitted linear probe: reads new activations, gives its directions, and goes to files and to scikit-learn."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["logistic", "mean_difference", "ridge"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """score of a class = coefficients . activation + intercept, in the units of the activations.

    A `ridge` probe has one row, which gives a number.
    """

    kind: Kind
    classes: tuple[Any, ...]
    """The values that it tells apart, one a row; none for a ridge probe."""
    coefficients: "np.ndarray"
    """[class, feature]"""
    intercepts: "np.ndarray"
    """[class]"""

    def decision_function(self, activations: "np.ndarray") -> "np.ndarray":
        """Scores [row, class] of activations [row, feature]; heads are flattened.

        Raises:
            PbbError: activations of another width.
        """
        import numpy as np

        flat = np.asarray(activations, dtype=float)
        flat = flat.reshape(len(flat), -1)
        if flat.shape[1] != self.coefficients.shape[1]:
            raise PbbError(
                f"The probe reads {self.coefficients.shape[1]} features and the activations have {flat.shape[1]}: "
                "give those of the site that it was fitted at."
            )
        return flat @ self.coefficients.T + self.intercepts

    def predict(self, activations: "np.ndarray") -> "np.ndarray":
        """The likeliest class, or the number, of each activation [row]."""
        import numpy as np

        scores = self.decision_function(activations)
        return scores[:, 0] if self.kind == "ridge" else np.array(self.classes)[scores.argmax(1)]

    def predict_proba(self, activations: "np.ndarray") -> "np.ndarray":
        """Probabilities [row, class].

        Raises:
            PbbError: the probe is not logistic, so that its scores are no log-odds.
        """
        from scipy.special import softmax

        if self.kind != "logistic":
            raise PbbError(f"A {self.kind} probe has no probabilities: fit a logistic one.")
        return softmax(self.decision_function(activations), axis=1)

    def score(self, activations: "np.ndarray", values: Sequence[Any]) -> float:
        """The share of right classes, or of a ridge probe R squared, as scikit-learn's `score`."""
        import numpy as np

        predicted, right = self.predict(activations), np.asarray(values)
        if self.kind != "ridge":
            return float((predicted == right).mean())
        return float(1 - ((right - predicted) ** 2).sum() / ((right - right.mean()) ** 2).sum())

    def directions(self) -> "np.ndarray":
        """Unit vectors [class, feature] along which each class's score grows most against the mean of the others.

        Of two classes there is one, towards the second; of a ridge probe one, towards larger numbers.
        """
        return unit_directions(self.coefficients)

    def to_sklearn(self) -> Any:
        """A fitted scikit-learn estimator that predicts the same: LogisticRegression, or Ridge for numbers."""
        import numpy as np
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.kind == "ridge":
            estimator: Any = Ridge()
            estimator.coef_, estimator.intercept_ = self.coefficients[0], float(self.intercepts[0])
        else:
            estimator = LogisticRegression()
            estimator.classes_ = np.array(self.classes)
            estimator.coef_, estimator.intercept_ = self.coefficients, self.intercepts
            if len(self.classes) == 2:
                estimator.coef_ = estimator.coef_[1:] - estimator.coef_[:1]
                estimator.intercept_ = estimator.intercept_[1:] - estimator.intercept_[:1]
        estimator.n_features_in_ = self.coefficients.shape[1]
        return estimator

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        from safetensors.numpy import save_file

        said = {"kind": self.kind, "classes": json.dumps([_plain(value) for value in self.classes])}
        save_file({"coefficients": self.coefficients.copy(), "intercepts": self.intercepts.copy()}, path, metadata=said)

    @classmethod
    def load(cls, path: str | Path) -> "LinearProbe":
        """Read what `save` wrote.

        Raises:
            PbbError: no such file, or one of something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                said = file.metadata() or {}
                arrays = [file.get_tensor(name) for name in ("coefficients", "intercepts")]
            return cls(said["kind"], tuple(json.loads(said["classes"])), *arrays)
        except (OSError, KeyError, SafetensorError) as error:
            raise PbbError(f"{path} holds no probe ({error}): give a file that LinearProbe.save wrote.") from error


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own."""
    return value.item() if hasattr(value, "item") else value


def unit_directions(coefficients: "np.ndarray") -> "np.ndarray":
    """What `LinearProbe.directions` says, of coefficients [..., class, feature]."""
    import numpy as np

    rows = coefficients
    if rows.shape[-2] == 2:
        rows = rows[..., 1:, :] - rows[..., :1, :]
    elif rows.shape[-2] > 2:
        rows = rows - rows.mean(-2, keepdims=True)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
