"""What measurements are compared with: other values of the targets, other activations, another model."""

from pbb_probe.hooking.load import untrained_model
from pbb_probe.probing.controls import control_task, embeddings, permuted_within, relabelled_targets, shuffled_values

__all__ = [
    "control_task",
    "embeddings",
    "permuted_within",
    "relabelled_targets",
    "shuffled_values",
    "untrained_model",
]
