"""Which engine runs a model: the fastest that can, and that agrees with a full forward pass.

An engine cannot when it raises anything but bad input, a lack of memory or what the caller's own function raised:
models are built in more ways than can be foreseen. The next exact one is taken then, with a warning that says why.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from pbb_probe.errors import PbbError, first_line
from pbb_probe.hooking.engines.blocks import WholeBlocks
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.protocol import Engine
from pbb_probe.hooking.engines.tail import Tail

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge

T = TypeVar("T")
P = ParamSpec("P")

ENGINES: tuple[type[Tail] | type[WholeBlocks] | type[FullForward], ...] = (Tail, WholeBlocks, FullForward)
"""In the order in which they are tried."""


class CallerError(Exception):
    """What a caller's own function raised, on its way out through an engine."""


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """An engine that passed its check."""

    engine: Engine
    result: T
    """What the check returned."""
    passed_over: Mapping[str, str]
    """The methods of faster engines, and why each was not taken."""

    @property
    def attributes(self) -> dict[str, str]:
        """For a result: `method`, the engine's, and `passed_over`, why not a faster one, where that is so."""
        passed = "; ".join(f"{method}: {reason}" for method, reason in self.passed_over.items())
        return {"method": self.engine.method} | ({"passed_over": passed} if passed else {})


def first_exact(
    model: "TransformerBridge", check: Callable[[Engine], T], passed_over: Mapping[str, str] | None = None
) -> Chosen[T]:
    """The fastest engine whose check passes, with what the check returned.

    Of each one passed over a warning says why, once.

    Args:
        model: an opened model.
        check: raises where an engine cannot run the model or is not exact; it may go on to measure with it.
        passed_over: `Chosen.passed_over` of an earlier call: those are not tried again.

    Raises:
        PbbError: not even a full forward pass can.
    """
    reasons = dict(passed_over or {})
    left = [kind for kind in ENGINES if kind.method not in reasons]
    for kind, slower in zip(left, [*left[1:], None], strict=True):
        try:
            engine = kind(model)
            return Chosen(engine, check(engine), reasons)
        except CallerError as error:
            raise error.args[0] from None
        except Exception as error:
            if isinstance(error, PbbError) or _out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {first_line(error)}"
            if slower is None:
                raise PbbError(f"This model cannot be patched, even by full forward passes ({reason}).") from error
            reasons[kind.method] = reason
            warnings.warn(
                f"This model is patched by {slower.method!r}, as exact but slower than {kind.method!r}, which cannot "
                f"run it ({reason}).",
                stacklevel=4,
            )
    raise AssertionError("the last engine either passes or raises")


def from_caller(function: Callable[P, T]) -> Callable[P, T]:
    """A caller's function whose own exceptions are told apart from those of an engine."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except PbbError:
            raise
        except Exception as error:
            raise CallerError(error) from error

    return guarded


def _out_of_memory(error: BaseException) -> bool:
    """Is it a lack of memory, which a slower engine would not mend?"""
    import torch

    words = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)
    )
