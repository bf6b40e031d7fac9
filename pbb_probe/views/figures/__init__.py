"""Figures of labelled tables. Each function returns a plotly Figure and shows nothing.

The tables are those of `comparison`: `accuracy_table` for behaviour, `probe_table` for probes, `recovery_table` and
`carried_table` for patching, `brewing_table` for the lens, `side_by_side` for onsets, and `compare_groups` for two
groups by layer.
"""

from pbb_probe.views.figures.behaviour import behaviour
from pbb_probe.views.figures.layers import layer_curves
from pbb_probe.views.figures.lens import outcomes
from pbb_probe.views.figures.onsets import differences, onsets
from pbb_probe.views.figures.patching import patching_heatmap, sweep_heatmap
from pbb_probe.views.figures.probes import across_heatmap, cosine_curves, probe_curves, probe_gains
from pbb_probe.views.figures.transfer import transfer_map

__all__ = [
    "across_heatmap",
    "behaviour",
    "cosine_curves",
    "differences",
    "layer_curves",
    "onsets",
    "outcomes",
    "patching_heatmap",
    "probe_curves",
    "probe_gains",
    "sweep_heatmap",
    "transfer_map",
]
