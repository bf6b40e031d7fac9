"""Measurements as tables with intervals, and what they say: onsets, differences, several runs."""

from pbb_probe.evidence.differences import transfer_differences
from pbb_probe.evidence.effective import effective
from pbb_probe.evidence.gate import gate
from pbb_probe.evidence.nodes import by_node
from pbb_probe.evidence.onsets import (
    how_evaluated,
    located_lens,
    located_patching,
    located_reading,
    located_use,
    side_by_side,
)
from pbb_probe.evidence.runs import compare_runs, gather
from pbb_probe.evidence.tables import accuracy, outcome_measures, outcomes, probes, recovery, transfer
from pbb_probe.labels import join
from pbb_probe.statistics.groups import cluster_bootstrap, interval_table
from pbb_probe.statistics.matching import matched_rows
from pbb_probe.statistics.onset import locate_difference

__all__ = [
    "accuracy",
    "by_node",
    "cluster_bootstrap",
    "compare_runs",
    "effective",
    "gate",
    "gather",
    "how_evaluated",
    "interval_table",
    "join",
    "locate_difference",
    "located_lens",
    "located_patching",
    "located_reading",
    "located_use",
    "matched_rows",
    "outcome_measures",
    "outcomes",
    "probes",
    "recovery",
    "side_by_side",
    "transfer",
    "transfer_differences",
]
