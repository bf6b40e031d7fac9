"""The figure of outcomes shows the numbers of its table, each group's above its control's."""

import pandas as pd
import pytest

from pbb_probe.errors import PbbError
from pbb_probe.probing.brewing import OUTCOMES
from pbb_probe.views.figures import outcomes

SHARES = {"with_io": [0.5, 0.1, 0.2, 0.0, 0.2], "without_io": [0.3, 0.1, 0.1, 0.1, 0.4]}
TABLE = pd.DataFrame(
    [
        (group, steps, measure, share, 0.0, 1.0, 10 * steps, 1 - share)
        for group, shares in SHARES.items()
        for steps in (1, 2)
        for measure, share in zip((*OUTCOMES, "brewing"), (*shares, 2.5), strict=True)
    ],
    columns=["group", "steps", "measure", "mean", "lower", "upper", "n", "shuffled"],
)
ONE = TABLE[TABLE["steps"] == 1]


def test_bars_stack_the_shares_with_the_control_below():
    figure = outcomes(ONE)
    assert figure.layout.barmode == "stack"
    assert len(figure.data) == 5 * 2
    for bar, control, name, *shares in zip(
        figure.data[::2], figure.data[1::2], OUTCOMES, *SHARES.values(), strict=True
    ):
        assert bar.name == name.replace("_", " ")
        assert list(bar.x) == shares
        assert list(control.x) == pytest.approx([1 - share for share in shares])
        assert list(bar.y) == ["with_io", "without_io"]
        assert (bar.marker.color, control.marker.opacity < bar.marker.opacity) == (control.marker.color, True)
    rows = ["with_io", "with_io<br>shuffled values", "without_io", "without_io<br>shuffled values"]
    assert list(figure.layout.yaxis.categoryarray) == rows
    assert figure.layout.yaxis.range == (3.5, -0.5)
    assert len(outcomes(ONE.drop(columns="shuffled")).data) == 5


def test_panels_are_named_with_their_numbers():
    figure = outcomes(TABLE, columns="steps", groups=("without_io", "nothing"))
    assert [note.text for note in figure.layout.annotations[:2]] == ["steps: 1 (10 prompts)", "steps: 2 (20 prompts)"]
    assert len(figure.data) == 5 * 2 * 2
    assert sum(bar.showlegend for bar in figure.data) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": ONE.drop(columns="lower")}, "no column 'lower'"),
        ({"columns": "family"}, "no column 'family'"),
        ({"groups": ("others",)}, "no outcomes of the groups others"),
        ({"table": TABLE}, "several rows for one outcome"),
    ],
)
def test_tables_that_it_cannot_draw_are_refused(change, message):
    with pytest.raises(PbbError, match=message):
        outcomes(**({"table": ONE} | change))
