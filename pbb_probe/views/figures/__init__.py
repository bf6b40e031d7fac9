"""Figures of labelled tables. Each function returns a plotly Figure and shows nothing.

The tables are those of `pbb_probe.tables`: `accuracy` for behaviour, `probes` for probes, `recovery` and `transfer` for
patching, `outcomes` for the lens, `side_by_side` for onsets, `effective` for effective programs, and `compare_groups`
for groups by layer, two by two. `activations` draws the points of `project`; what a single
prompt or pair does is drawn from its own numbers.
"""

from pbb_probe.views.figures.activations import activations as activations
from pbb_probe.views.figures.attention import attention as attention
from pbb_probe.views.figures.attention import head_effects as head_effects
from pbb_probe.views.figures.behaviour import behaviour as behaviour
from pbb_probe.views.figures.effective import effective as effective
from pbb_probe.views.figures.layers import curves_with_difference as curves_with_difference
from pbb_probe.views.figures.layers import layer_curves as layer_curves
from pbb_probe.views.figures.lens import outcomes as outcomes
from pbb_probe.views.figures.onsets import differences as differences
from pbb_probe.views.figures.onsets import onsets as onsets
from pbb_probe.views.figures.pair import token_heatmap as token_heatmap
from pbb_probe.views.figures.patching import patching_heatmap as patching_heatmap
from pbb_probe.views.figures.patching import sweep_heatmap as sweep_heatmap
from pbb_probe.views.figures.probes import across_heatmap as across_heatmap
from pbb_probe.views.figures.probes import cosine_curves as cosine_curves
from pbb_probe.views.figures.probes import probe_curves as probe_curves
from pbb_probe.views.figures.probes import probe_gains as probe_gains
from pbb_probe.views.figures.single import answers as answers
from pbb_probe.views.figures.single import readings as readings
from pbb_probe.views.figures.transfer import transfer_map as transfer_map
