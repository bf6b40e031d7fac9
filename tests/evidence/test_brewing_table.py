"""The table of brewing: shares and means counted by hand, intervals from whole programs, the control beside them."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.evidence import tables
from pbb_probe.labels import with_controls
from pbb_probe.probing.brewing import LAYERS, OUTCOMES
from pbb_probe.statistics.groups import cluster_bootstrap, compare_groups

LABELS = pd.DataFrame({"group": ["b", "b", "a", "a", "a", "a"], "program": list("xxyyzw"), "steps": [1, 2, 1, 2, 2, 2]})


def prompts(outcomes, firsts, labels=LABELS) -> xr.Dataset:
    measures = {"outcome": [outcome or "" for outcome in outcomes]}
    measures |= {name: [float(x) for x in firsts] for name in LAYERS}
    return xr.Dataset(
        {name: ("prompt", values) for name, values in measures.items()},
        {name: ("prompt", labels[name].to_numpy()) for name in labels},
    )


BREWED = prompts(
    ["resolved", "misresolved", "resolved", "overprocessed", "no_brewing", None],
    [1, 2, 3, 5, np.nan, np.nan],
)
SHUFFLED = prompts(["no_brewing"] * 3 + ["resolved", "unresolved", None], [np.nan] * 3 + [4, 2, np.nan])
BOTH = with_controls({"none": BREWED, "shuffled": SHUFFLED})


def test_shares_and_means_by_hand():
    table = tables.outcomes(BOTH, draws=200)
    assert list(table.columns) == ["group", "measure", "mean", "lower", "upper", "n", "clusters", "shuffled"]
    assert list(table["group"]) == ["a"] * 12 + ["b"] * 12
    assert list(table["measure"][:12]) == [*OUTCOMES, *LAYERS]
    cells = table.set_index(["group", "measure"])
    assert cells["mean"].loc["a"][list(OUTCOMES)].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 0, 1 / 3])
    assert cells["shuffled"].loc["a"][list(OUTCOMES)].tolist() == pytest.approx([1 / 3, 0, 0, 1 / 3, 1 / 3])
    assert cells["mean"].loc["b"][list(OUTCOMES)].tolist() == [0.5, 0, 0.5, 0, 0]
    assert cells.loc[("a", "resolved"), ["n", "clusters"]].tolist() == [3, 2]  # w has no value
    assert cells.loc[("a", "first_joint"), ["mean", "n", "clusters", "shuffled"]].tolist() == [4.0, 2, 1, 3.0]
    assert np.isnan(cells.loc[("b", "first_joint"), "shuffled"])


def test_intervals_resample_programs():
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"program": np.repeat(np.arange(30), 4)})
    outcomes = rng.choice(["resolved", "unresolved"], 30)[labels["program"]]
    table = tables.outcomes(prompts(outcomes, rng.random(120), labels), by=(), draws=1000, seed=3)
    expected = cluster_bootstrap((outcomes == "resolved")[None], labels["program"].tolist(), 1000, 3)
    row = table.set_index("measure").loc["resolved", ["mean", "lower", "upper"]]
    assert row.tolist() == pytest.approx([float(value[0]) for value in expected])
    assert "shuffled" not in table


def test_several_columns_split_and_groups_without_values_have_no_rows():
    some = BREWED.assign(outcome=("prompt", ["", *BREWED["outcome"].values[1:]]))
    table = tables.outcomes(some, by=("group", "steps"), draws=50)
    assert list(table.columns[:3]) == ["group", "steps", "measure"]
    kept = table[table["measure"] == "resolved"][["group", "steps", "n"]].to_numpy().tolist()
    assert kept == [["a", 1, 1], ["a", 2, 2], ["b", 2, 1]]


def test_measures_go_to_a_comparison_of_groups():
    measures = tables.outcome_measures(BREWED)
    assert measures.sel(measure="resolved").values.tolist()[:5] == [1, 0, 1, 0, 0]
    assert measures.isel(prompt=5).isnull().all()
    table = compare_groups(measures, draws=50)
    assert table.set_index("measure").loc["resolved", "difference"] == pytest.approx(1 / 3 - 1 / 2)


@pytest.mark.parametrize("odd", [{"by": ("family",)}, {"clusters": "family"}, {"models": "family"}])
def test_a_label_that_is_not_there_is_refused(odd):
    with pytest.raises(PbbError, match="no coordinate 'family'"):
        tables.outcomes(BOTH, **odd)
