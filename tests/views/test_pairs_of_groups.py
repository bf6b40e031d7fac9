"""Groups and pairs are read from the table, whichever and however many they are."""

import numpy as np
import pandas as pd
from three_groups import GROUPS, PAIRS, compared, earlier, mean, p_adjusted

from pbb_probe.views.pairs import apart_from, by_pair, groups_of, once, pairs_of


def test_groups_come_in_their_order_and_others_after_them():
    assert groups_of(compared()) == list(GROUPS)
    assert groups_of(pd.DataFrame(columns=["mean_b", "mean_io_only", "mean_a", "mean_with_io", "mean"])) == [
        "with_io", "io_only", "b", "a",
    ]  # fmt: skip
    assert groups_of(pd.DataFrame(columns=["layer_without_io", "layer_with_io", "layer"]), "layer") == [
        "with_io", "without_io",
    ]  # fmt: skip


def test_pairs_are_those_of_the_table_and_of_an_earlier_one_the_first_in_sorted_order_comes_first():
    table = compared()
    assert pairs_of(table.iloc[::-1]) == list(PAIRS)
    assert pairs_of(table, ["io_only", "with_io"]) == [("with_io", "io_only")]
    assert pairs_of(compared(pairs=PAIRS[2:])) == [("without_io", "io_only")]
    assert pairs_of(earlier(table)) == [("with_io", "without_io")]
    assert pairs_of(pd.DataFrame(columns=["mean_b", "mean_a"])) == [("a", "b")]
    assert pairs_of(pd.DataFrame(columns=["mean_a"])) == []
    assert [len(cells) for _, cells in by_pair(table)] == [12, 12, 12]
    ((pair, cells),) = by_pair(earlier(table))
    assert (pair, len(cells)) == (("with_io", "without_io"), 12)


def test_what_is_said_of_groups_stands_once_a_place():
    table = compared()
    single = once(table, "site", "layer", "role")
    assert len(single) == 12
    for group in GROUPS:
        np.testing.assert_allclose(single[f"mean_{group}"], [mean(group, n) for n in range(12)])
    # a group that is known in the rows of one pair alone is still known
    table.loc[table["second"] != "io_only", "mean_io_only"] = np.nan
    assert once(table, "site", "layer", "role")["mean_io_only"].notna().all()
    assert len(once(earlier(compared()), "site", "layer", "role")) == 12


def test_the_tests_of_a_group_are_those_of_its_pairs():
    tests = apart_from(compared(layer=(0, 1, 2)), "without_io", ["layer"], GROUPS)
    assert list(tests) == ["with_io", "io_only"]
    assert tests.index.tolist() == [0, 1, 2]
    assert tests["with_io"].tolist() == [p_adjusted(PAIRS[0], layer) for layer in range(3)] == [0.5, 0.01, 0.5]
    assert tests["io_only"].tolist() == [0.5, 0.5, 0.01]
    alone = apart_from(compared(pairs=PAIRS[:1], layer=(0, 1)), "io_only", ["layer"], GROUPS)
    assert alone.shape == (2, 0)
