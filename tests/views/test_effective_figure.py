"""The figure of effective programs shows the shares of its table, a bar a group and novelty."""

import pandas as pd
import pytest

from pbb_probe.errors import PbbError
from pbb_probe.views.figures import effective

KINDS = [("io_only", ""), ("without_io", "new_function"), ("without_io", "same_function"), ("with_io", "")]
SHARES = {"unclear": 0.1, "none": 0.2, "a step left out": 0.3, "another program": 0.4}
TABLE = pd.DataFrame(
    [
        (group, steps, novelty, mode, difference, round(share + 0.01 * k * (-1 if share > 0.2 else 1), 3))
        for mode in ("direct", "trace")
        for steps in (2, 1)
        for k, (group, novelty) in enumerate(KINDS)
        for difference, share in SHARES.items()
    ],
    columns=["group", "steps", "novelty", "mode", "difference", "share"],
).assign(lower=0.05, upper=0.6, n=30)


def test_bars_stack_the_shares_in_the_order_of_the_groups():
    figure = effective(TABLE)
    assert figure.layout.barmode == "stack"
    assert [note.text for note in figure.layout.annotations] == [
        "direct, 1 step", "direct, 2 steps", "trace, 1 step", "trace, 2 steps",
    ]  # fmt: skip
    names = ["with_io", "without_io<br>new function", "without_io<br>same function", "io_only"]
    assert list(figure.layout.yaxis.categoryarray) == names
    first = figure.data[:4]
    assert [bar.name for bar in first] == ["none: the program itself", "a step left out", "another program", "unclear"]
    shares = {bar.legendgroup: dict(zip(bar.y, bar.x, strict=True)) for bar in first}
    assert shares["none"] == {names[3]: 0.2, names[1]: 0.21, names[2]: 0.22, names[0]: 0.23}
    assert shares["another program"] == {names[3]: 0.4, names[1]: 0.39, names[2]: 0.38, names[0]: 0.37}
    for name in names:
        assert sum(of[name] for of in shares.values()) == pytest.approx(1)
    assert len({bar.marker.color for bar in first}) == 4
    assert sum(bool(bar.showlegend) for bar in figure.data) == 4


def test_a_missing_novelty_is_none_and_an_unknown_difference_is_drawn():
    table = TABLE.assign(novelty=TABLE["novelty"].replace("", float("nan")))
    assert "io_only" in effective(table).data[0].y
    odd = effective(TABLE.replace({"difference": {"unclear": "<b>odd"}}))
    assert odd.data[3].name == "&lt;b&gt;odd"


def test_steps_and_novelty_may_be_left_out_and_recall_stands_in_place_of_differences():
    one = TABLE[(TABLE["group"] == "with_io") & (TABLE["steps"] == 1) & (TABLE["mode"] == "direct")]
    figure = effective(one.drop(columns=["steps", "novelty"]))
    assert [note.text for note in figure.layout.annotations] == ["direct"]
    assert [bar.x.tolist() for bar in figure.data] == [[0.23], [0.27], [0.37], [0.13]]
    words = {"none": "recalled and computed", "unclear": "not recalled"}
    recalled = one[one["difference"].isin(list(words))].rename(columns={"difference": "outcome"}).replace(words)
    figure = effective(recalled)
    assert [bar.name for bar in figure.data] == ["recalled and computed", "not recalled"]
    assert "recalled" in figure.layout.title.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop(columns="share"), "no column 'share'"),
        (TABLE[:0], "no rows"),
        (pd.concat([TABLE, TABLE]), "several rows for one share"),
    ],
)
def test_tables_that_it_cannot_draw_are_refused(table, message):
    with pytest.raises(PbbError, match=message):
        effective(table)
