"""Matched rows are counted by hand; which of a surplus are drawn is held to chance."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.statistics.groups import compare_groups
from pbb_probe.statistics.matching import matched_rows

NAN = float("nan")
LABELS = pd.DataFrame(
    {
        "operation": ["+", "+", "+", "+", "-", "-", "-", None, None, None, "*", "%"],
        "digits": [1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1],
    },
    index=range(100, 112),  # positions are wanted, not labels
)
GROUP = list("aab" + "a" + "abb" + "aab" + "a" + "b")


def test_every_combination_is_as_frequent_in_both_groups():
    for seed in range(20):
        rows = matched_rows(LABELS.assign(group=GROUP), ["operation", "digits"], seed=seed)
        kept = Counter((GROUP[i], LABELS["operation"].fillna("none").iloc[i], LABELS["digits"].iloc[i]) for i in rows)
        assert kept == {(name, operation, 1): 1 for name in "ab" for operation in ("+", "-", "none")}
        assert list(rows) == sorted(set(rows.tolist()))


def test_fewer_columns_match_more_rows():
    assert len(matched_rows(LABELS.assign(group=GROUP), ["digits"])) == 2 * 5  # one digit: 6 rows of a, 5 of b
    assert set(np.flatnonzero(np.array(GROUP) == "b")) <= set(
        matched_rows(LABELS.assign(group=GROUP), ["digits"]).tolist()
    )


def test_a_missing_value_is_a_value_however_it_is_written():
    labels = pd.DataFrame({"state": [1.0, NAN, NAN, 2.0], "kind": pd.Categorical([None, "x", "x", "x"])})
    assert list(matched_rows(labels.assign(group=list("abab")), ["state"])) == [1, 2]
    labels = pd.DataFrame({"state": [None, 1, NAN, 2]}, dtype=object)
    assert list(matched_rows(labels.assign(group=list("aabb")), ["state"])) == [0, 2]


def test_all_rows_of_a_surplus_are_as_likely_and_the_seed_decides():
    labels = pd.DataFrame({"digits": [1] * 7, "group": list("aaaaabb")})
    draws = 2000
    drawn = Counter(i for seed in range(draws) for i in matched_rows(labels, ["digits"], seed=seed).tolist())
    assert drawn[5] == drawn[6] == draws
    for row in range(5):
        assert drawn[row] / draws == pytest.approx(2 / 5, abs=4 * np.sqrt(0.24 / draws))
    same = [matched_rows(labels, ["digits"], seed=3).tolist() for _ in range(2)]
    assert same[0] == same[1]


def test_a_difference_of_what_rows_hold_is_gone():
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b"], 200)
    digits = np.where(rng.random(400) < np.where(group == "a", 0.8, 0.3), 1, 2)
    coords = {"digits": ("prompt", digits), "group": ("prompt", group), "row": ("prompt", range(400))}
    values = xr.DataArray([digits == 1], coords, dims=("layer", "prompt")).astype(float)
    rows = matched_rows(values, ["digits"])
    before = compare_groups(values, clusters="row", draws=99)
    after = compare_groups(values.isel(prompt=rows), clusters="row", draws=99)
    assert before["difference"].iloc[0] > 0.3
    assert after["difference"].iloc[0] == 0
    n = [min((digits[group == name] == one).sum() for name in "ab") for one in (1, 2)]
    assert len(rows) == 2 * sum(n)


def test_three_groups_have_as_many_rows_of_what_all_have():
    table = pd.DataFrame({"group": list("aaabbccc"), "steps": [1, 1, 2, 1, 2, 1, 1, 3]})
    drawn = table.iloc[matched_rows(table, ["steps"])]
    assert sorted(drawn["group"]) == list("abc")
    assert set(drawn["steps"]) == {1}


@pytest.mark.parametrize(
    ("group", "on", "message"),
    [
        ("aabb", ["digits"], "in common"),
        ("abab", ["length"], "length.*digits"),
        ("abab", [], "nothing"),
        ("aaaa", ["digits"], "Two groups"),
        ("abcc", ["digits"], "in common"),
    ],
)
def test_what_cannot_be_matched_is_refused(group: str, on: list[str], message: str):
    with pytest.raises(PbbError, match=message):
        matched_rows(pd.DataFrame({"digits": [1, 1, 2, 2], "group": list(group)}), on)
