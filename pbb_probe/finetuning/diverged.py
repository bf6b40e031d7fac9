"""Training that diverges is stopped: a NaN or infinite loss or weight is an error, never a model."""

from math import isfinite
from typing import Any

from pbb_probe.errors import PbbError


class DivergedError(PbbError):
    """The loss or the weights became NaN or infinite."""

    def __init__(self, what: str):
        super().__init__(
            f"Training diverged: its {what} became NaN or infinite. Nothing of it is kept: lower train.learning_rate."
        )


def refuse_loss(loss: float) -> None:
    """Refuse a loss that is no finite number.

    Raises:
        DivergedError: it is none.
    """
    if not isfinite(loss):
        raise DivergedError("loss")


def refuse_weights(model: Any) -> None:
    """Refuse a trained model with weights that are no finite numbers.

    Raises:
        DivergedError: it has some.
    """
    if not has_finite_weights(model):
        raise DivergedError("weights")


def has_finite_weights(model: Any) -> bool:
    """Is every weight of a PyTorch module a finite number?"""
    return all(bool(weight.isfinite().all()) for weight in model.parameters() if weight.is_floating_point())
