"""Which forwards a set of metrics needs: one for all plain metrics, and one for each answer that is teacher-forced."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.choice import from_caller
from pbb_probe.patching.metrics import AnswerMetric, LogProbDifference, check_values
from pbb_probe.schema import shown

if TYPE_CHECKING:
    import torch

    from pbb_probe.patching.metrics import AnyMetric, Metric

Values = dict[str, "torch.Tensor"]
"""Of one metric: `base` and `donor` [pair], and each site [layer, head, place, pair]."""


class Forward(NamedTuple):
    """A forward pass of every cell, and the metrics that are read from it."""

    names: list[str]
    """Of the metrics; a difference of two answers is read from two forwards, each under a name of its own."""
    ids: "torch.Tensor | None"
    """The answers [pair, k] that are put behind the prompts; None where the answer position alone is read."""
    metrics: "Callable[[torch.Tensor], torch.Tensor]"
    """Logits [pair, k, d_vocab] -> [name, pair]."""


def forwards_of(metrics: "Mapping[str, AnyMetric]", n_pairs: int) -> list[Forward]:
    """The forwards that metrics by name need.

    Raises:
        PbbError: no metric, or something else.
    """
    if not metrics:
        raise PbbError("There is no metric: give at least one.")
    forwards, plain = [], {}
    for name, metric in metrics.items():
        if isinstance(metric, AnswerMetric):
            forwards.append(_forced(name, metric, n_pairs))
        elif isinstance(metric, LogProbDifference):
            forwards.append(_forced(f"{name} clean", metric.clean, n_pairs))
            forwards.append(_forced(f"{name} corrupted", metric.corrupted, n_pairs))
        elif callable(metric):
            plain[name] = metric
        else:
            raise PbbError(f"A metric must be a function of logits or one of whole answers, not {shown(metric)}.")
    return [_next_token(plain, n_pairs), *forwards] if plain else forwards


def combined(name: str, metric: "AnyMetric", measured: Mapping[str, Values]) -> Values:
    """The values of one metric, out of those of its forwards."""
    if not isinstance(metric, LogProbDifference):
        return measured[name]
    clean, corrupted = measured[f"{name} clean"], measured[f"{name} corrupted"]
    return {key: clean[key] - corrupted[key] for key in clean}


def _next_token(metrics: "Mapping[str, Metric]", n_pairs: int) -> Forward:
    import torch

    guarded = [from_caller(metric) for metric in metrics.values()]
    return Forward(
        list(metrics),
        None,
        lambda logits: torch.stack([_finite(metric(logits[:, 0]), n_pairs) for metric in guarded]),
    )


def _forced(name: str, metric: AnswerMetric, n_pairs: int) -> Forward:
    measure = from_caller(metric.measure)
    return Forward(
        [name], metric.ids, lambda logits: _finite(measure(logits, metric.ids.to(logits.device)), n_pairs)[None]
    )


def _finite(values: "torch.Tensor", n_pairs: int) -> "torch.Tensor":
    return check_values(values, n_pairs).float().cpu()
