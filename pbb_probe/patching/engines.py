"""Which engine runs a model: the quickest that can and that agrees with a full forward pass.

An engine cannot when it raises anything but bad input, a lack of memory or what the caller's own metric raised: models
are built in more ways than can be foreseen. The next exact one is taken then, with a warning that says why.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from pbb_probe.errors import PbbError, first_line
from pbb_probe.hooking.engines.slower import FullForward, WholeBlocks
from pbb_probe.hooking.engines.tail import Tail

T = TypeVar("T")

METHODS: dict[Any, str] = {Tail: "fewer layers and positions", WholeBlocks: "fewer layers", FullForward: "full forward"}
"""The engines in the order in which they are tried, and how a result names them."""


class MetricError(Exception):
    """What a caller's metric raised, on its way out through an engine."""


class Engines:
    """The engines that are left for a model, and why others were passed over."""

    def __init__(self) -> None:
        self.left = list(METHODS)
        self.reasons: dict[str, str] = {}

    def first_exact(self, attempt: Callable[[Any], T]) -> T:
        """What `attempt` returns for the first engine class with which it can be done.

        Raises:
            PbbError: not even a full forward pass can.
        """
        while True:
            engine = self.left[0]
            try:
                return attempt(engine)
            except MetricError as error:
                raise error.args[0] from None
            except Exception as error:
                if isinstance(error, PbbError) or out_of_memory(error):
                    raise
                reason = f"{type(error).__name__}: {first_line(error)}"
                if len(self.left) == 1:
                    raise PbbError(f"This model cannot be patched, even by full forward passes ({reason}).") from error
                self.left = self.left[1:]
                self.reasons[METHODS[engine]] = reason
                warnings.warn(
                    f"This model is patched by {METHODS[self.left[0]]!r}, as exact but slower than "
                    f"{METHODS[engine]!r}, which cannot run it ({reason}).",
                    stacklevel=4,
                )

    @property
    def attributes(self) -> dict[str, str]:
        """For a result: `method`, the engine it took, and `passed_over`, why not a quicker one, where that is so."""
        passed = "; ".join(f"{method}: {reason}" for method, reason in self.reasons.items())
        return {"method": METHODS[self.left[0]]} | ({"passed_over": passed} if passed else {})


def from_metric(measure: Callable[..., T]) -> Callable[..., T]:
    """A metric whose own exceptions are told apart from those of an engine."""

    @functools.wraps(measure)
    def measured(*args: Any) -> T:
        try:
            return measure(*args)
        except PbbError:
            raise
        except Exception as error:
            raise MetricError(error) from error

    return measured


def out_of_memory(error: BaseException) -> bool:
    """Is it a lack of memory, which a slower engine would not mend?"""
    import torch

    words = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)
    )
