"""What a patched forward is measured by: functions of the logits at the answer, and the share of the answer recovered.

A plain metric takes logits [pair, d_vocab] at the answer position and returns [pair]. A metric of whole answers puts
the answer's tokens behind both prompts (teacher forcing) and reads the logits that predict each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pbb_probe.errors import PbbError
from pbb_probe.models.scoring import token_log_probs

if TYPE_CHECKING:
    import torch
    import xarray as xr

    Metric = Callable[[torch.Tensor], torch.Tensor]
    AnyMetric: TypeAlias = "Metric | AnswerMetric | LogProbDifference"


@dataclass(frozen=True, eq=False)
class AnswerMetric:
    """A metric of one whole answer a pair, such as `log_prob` and `greedy_match` make."""

    ids: "torch.Tensor"
    """Token ids [pair, k], padded with -1 at the end."""
    measure: "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
    """(logits [pair, k, d_vocab] that predict the ids, ids) -> [pair]"""


@dataclass(frozen=True, eq=False)
class LogProbDifference:
    """A metric of two whole answers, from `log_prob_difference`."""

    clean: AnswerMetric
    corrupted: AnswerMetric


def logit_difference(clean_answers: "torch.Tensor", corrupted_answers: "torch.Tensor") -> "Metric":
    """The logit of the clean answer minus that of the corrupted one.

    Args:
        clean_answers: token ids [pair].
        corrupted_answers: token ids [pair].

    Returns:
        A metric: it takes logits [pair, d_vocab] at the answer position and returns a number a pair.

    Raises:
        PbbError: a pair with the same token for both answers.

    Example:
        >>> import torch
        >>> import pbb_probe as pbb
        >>> metric = pbb.metrics.logit_difference(torch.tensor([0]), torch.tensor([2]))
        >>> metric(torch.tensor([[3.0, 0.0, 1.0]]))
        tensor([2.])
    """
    if bool((same := clean_answers == corrupted_answers).any()):
        raise PbbError(
            f"Both answers of pair {int(same.long().argmax())} begin with the same token: leave the pair out, or use "
            "log_prob_difference, which takes whole answers."
        )

    def metric(logits: "torch.Tensor") -> "torch.Tensor":
        both = (answers.to(logits.device)[:, None] for answers in (clean_answers, corrupted_answers))
        clean, corrupted = (logits.gather(1, answers)[:, 0] for answers in both)
        return clean - corrupted

    return metric


def probability(answers: "torch.Tensor") -> "Metric":
    """The probability of one token a pair.

    Args:
        answers: token ids [pair].

    Returns:
        A metric: it takes logits [pair, d_vocab] at the answer position and returns a number a pair.

    Example:
        >>> import torch
        >>> import pbb_probe as pbb
        >>> metric = pbb.metrics.probability(torch.tensor([1]))
        >>> metric(torch.tensor([[0.0, 0.0, 0.0, 0.0]]))
        tensor([0.2500])
    """
    return lambda logits: logits.softmax(-1).gather(1, answers.to(logits.device)[:, None])[:, 0]


def negative_kl(reference: "torch.Tensor") -> "Metric":
    """Minus the KL divergence of what is predicted from a reference: 0 where both are the same distribution.

    Args:
        reference: logits [pair, d_vocab], such as the clean prompts' `answer_logits`.

    Returns:
        A metric: it takes logits [pair, d_vocab] at the answer position and returns -KL(reference || prediction) in
        nats, a number a pair.

    Example:
        >>> import torch
        >>> import pbb_probe as pbb
        >>> metric = pbb.metrics.negative_kl(torch.tensor([[0.0, 0.0]]))
        >>> metric(torch.tensor([[1.0, 1.0]]))  # the same distribution
        tensor([0.])
    """

    def metric(logits: "torch.Tensor") -> "torch.Tensor":
        expected = reference.to(logits.device).log_softmax(-1)
        return (expected.exp() * (logits.log_softmax(-1) - expected)).sum(-1)

    return metric


def log_prob(ids: "torch.Tensor") -> AnswerMetric:
    """The log-probability of a whole answer a pair, summed over its tokens.

    Args:
        ids: token ids of the answers [pair, k], padded with -1 at the end, as `answer_ids` makes them.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", model).select(range(8))
        >>> metric = pbb.metrics.log_prob(pairs.answer_ids(model)[0])  # of the clean answers
        >>> effects = pbb.patch_sweep(model, pairs, metric=metric, layers=[0], positions=["input"])
        >>> (effects["clean"] > effects["corrupted"]).all().item()
        True
    """
    return AnswerMetric(ids, lambda logits, ids: token_log_probs(logits, ids).sum(1))


def greedy_match(ids: "torch.Tensor") -> AnswerMetric:
    """1 where the model, decoding greedily, gives the whole answer, else 0.

    Args:
        ids: token ids of the answers [pair, k], padded with -1 at the end, as `answer_ids` makes them.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", model).select(range(8))
        >>> metric = pbb.metrics.greedy_match(pairs.answer_ids(model)[0])  # of the clean answers
        >>> effects = pbb.patch_sweep(model, pairs, metric=metric, layers=[0], positions=["input"])
        >>> effects["clean"].mean().item(), effects["corrupted"].mean().item()
        (1.0, 0.0)
    """
    return AnswerMetric(ids, lambda logits, ids: ((logits.argmax(-1) == ids) | (ids < 0)).all(1).float())


def log_prob_difference(clean_ids: "torch.Tensor", corrupted_ids: "torch.Tensor") -> LogProbDifference:
    """The log-probability of the clean answer minus that of the corrupted one, each summed over its tokens.

    With one token each this is `logit_difference`: the normaliser is the same and cancels.

    Args:
        clean_ids: token ids [pair, k], padded with -1 at the end, as `answer_ids` makes them.
        corrupted_ids: likewise; a pair's answers may differ in length.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", model).select(range(8))
        >>> metric = pbb.metrics.log_prob_difference(*pairs.answer_ids(model))
        >>> effects = pbb.patch_sweep(model, pairs, metric=metric, layers=[0], positions=["input"])
        >>> (effects["clean"] > 0).all().item(), (effects["corrupted"] < 0).all().item()
        (True, True)
    """
    return LogProbDifference(log_prob(clean_ids), log_prob(corrupted_ids))


def answer_difference(clean_ids: "torch.Tensor", corrupted_ids: "torch.Tensor") -> "Metric | LogProbDifference":
    """`log_prob_difference` in the fewest forward passes: one, as `logit_difference`, where all answers have one token.

    Args:
        clean_ids: token ids [pair, k], padded with -1 at the end, as `answer_ids` makes them.
        corrupted_ids: likewise; a pair's answers may differ in length.

    Raises:
        PbbError: a pair whose answers are the same single token.

    Example:
        >>> import torch
        >>> import pbb_probe as pbb
        >>> metric = pbb.metrics.answer_difference(torch.tensor([[0]]), torch.tensor([[2]]))  # one token each
        >>> metric(torch.tensor([[3.0, 0.0, 1.0]]))
        tensor([2.])
    """
    if clean_ids.shape[1] == corrupted_ids.shape[1] == 1:
        return logit_difference(clean_ids[:, 0], corrupted_ids[:, 0])
    return log_prob_difference(clean_ids, corrupted_ids)


def check_values(values: "torch.Tensor", n: int) -> "torch.Tensor":
    """What a metric returned, if it is a finite number a pair.

    Raises:
        PbbError: it is not.
    """
    if values.shape != (n,) or not bool(values.isfinite().all()):
        raise PbbError(f"The metric must return {n} finite numbers, one a pair or prompt; it returned {values}.")
    return values


def recovery(effects: "xr.Dataset") -> "xr.Dataset":
    """Effects as shares of the mean distance from the corrupted prompts to the clean ones: 0 is corrupted, 1 clean.

    The distance is averaged over the pairs first, so that a pair whose prompts hardly differ does not dominate: the
    mean over pairs is a ratio of means. The coordinate `weight` (pair) is each pair's own distance over that mean: with
    it as the `weights` of `compare_groups`, intervals allow for the distance being an estimate too.

    Of a noising sweep it says how much of the clean answer is left.

    Args:
        effects: from `patch_sweep`. The estimates of `screen_patches`, which are no effects, are left out.

    Returns:
        The sites of `effects` with the dimensions they have there, and the coordinate `weight` (pair).

    Raises:
        PbbError: the clean prompts score no higher than the corrupted ones on average: there is nothing to recover.

    Example:
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> effects = xr.Dataset({"clean": ("pair", [4.0, 2.0]), "corrupted": ("pair", [0.0, 0.0])})
        >>> effects["resid_pre"] = ("layer", "pair"), [[3.0, 0.0]]
        >>> pbb.metrics.recovery(effects)["resid_pre"].mean("pair").values.tolist()  # 3 of 6
        [0.5]
    """
    effects = effects.drop_vars([name for name in effects if str(name).endswith("_estimate")])
    distances = effects["clean"] - effects["corrupted"]
    distance = distances.mean("pair")
    if bool((distance <= 0).any()):
        raise PbbError(
            "The clean prompts score no higher than the corrupted ones: the model does not tell the answers apart."
        )
    recovered = (effects.drop_vars(["clean", "corrupted"]) - effects["corrupted"]) / distance
    return recovered.assign_coords(weight=distances / distance)
