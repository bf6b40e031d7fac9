"""What patching measures: metrics of logits or of whole answers, and recovery, which sets them in relation."""

from pbb_probe.patching.metrics import (
    answer_difference,
    greedy_match,
    log_prob,
    log_prob_difference,
    logit_difference,
    negative_kl,
    probability,
    recovery,
)

__all__ = [
    "answer_difference",
    "greedy_match",
    "log_prob",
    "log_prob_difference",
    "logit_difference",
    "negative_kl",
    "probability",
    "recovery",
]
