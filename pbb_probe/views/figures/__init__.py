"""Figures of labelled tables. Each function returns a plotly Figure and shows nothing.

The tables are those of `comparison`: `accuracy_table` for behaviour, `probe_table` for probes, `recovery_table` and
`carried_table` for patching, `brewing_table` for the lens, `side_by_side` for onsets, and `compare_groups` for two
groups by layer. `activations` draws the points of `project`; what a single prompt or pair does is drawn from its own
numbers.
"""

from pbb_probe.views.figures.activations import activations
from pbb_probe.views.figures.attention import attention, head_effects
from pbb_probe.views.figures.behaviour import behaviour
from pbb_probe.views.figures.layers import curves_with_difference, layer_curves
from pbb_probe.views.figures.lens import outcomes
from pbb_probe.views.figures.onsets import differences, onsets
from pbb_probe.views.figures.pair import token_heatmap
from pbb_probe.views.figures.patching import patching_heatmap, sweep_heatmap
from pbb_probe.views.figures.probes import across_heatmap, cosine_curves, probe_curves, probe_gains
from pbb_probe.views.figures.single import answers, readings
from pbb_probe.views.figures.transfer import transfer_map

__all__ = [
    "across_heatmap",
    "activations",
    "answers",
    "attention",
    "behaviour",
    "cosine_curves",
    "curves_with_difference",
    "differences",
    "head_effects",
    "layer_curves",
    "onsets",
    "outcomes",
    "patching_heatmap",
    "probe_curves",
    "probe_gains",
    "readings",
    "sweep_heatmap",
    "token_heatmap",
    "transfer_map",
]
