"""The figures of onsets and differences show the numbers of their tables, and nothing where nothing was found."""

import pandas as pd
import pytest

from pbb_probe.errors import PbbError
from pbb_probe.views import figures

NAN = float("nan")
ONSETS = pd.DataFrame(
    {
        "group": group, "steps": 2, "variable": variable, "used_layer": used, "used_lower": used - 1,
        "used_upper": used + 2, "used_peak": 0.9, "used_n": 40.0, "read_layer": read, "read_lower": read,
        "read_upper": read, "read_peak": 0.5, "read_n": 70.0,
    }
    for group in ("with_io", "without_io")
    for variable, used, read in (("output", NAN, 4.0), ("state_1", NAN, NAN), ("program", 3.0, 0.0))
)  # fmt: skip


def rows_of(figure) -> dict[float, str]:
    return dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))


def test_every_onset_stands_in_its_row_with_its_interval():
    figure = figures.onsets(ONSETS)
    marks = {trace.name: trace for trace in figure.data}
    assert set(marks) == {
        f"{way}, {g}" for way in ("used (transfer map)", "read (probes)") for g in ("with_io", "without_io")
    }
    used = marks["used (transfer map), without_io"]
    assert list(used.x) == [3.0]
    assert (used.error_x.array[0], used.error_x.arrayminus[0]) == (2.0, 1.0)
    assert rows_of(figure)[round(used.y[0])] == "program, without_io"
    read = marks["read (probes), with_io"]
    assert {rows_of(figure)[round(y)]: x for x, y in zip(read.x, read.y, strict=True)} == {
        "program, with_io": 0.0,
        "output, with_io": 4.0,
    }


def test_variables_stand_in_the_order_in_which_they_come_to_be_and_what_was_not_found_is_said():
    figure = figures.onsets(ONSETS)
    assert list(rows_of(figure).values()) == [
        f"{variable}, {group}" for variable in ("program", "state_1", "output") for group in ("with_io", "without_io")
    ]
    said = [(note.text, rows_of(figure)[note.y]) for note in figure.layout.annotations if note.text == "not found"]
    assert said == [("not found", "state_1, with_io"), ("not found", "state_1, without_io")]


def test_differences_have_their_intervals_their_margin_and_their_prediction():
    table = pd.DataFrame(
        {"condition": ["a", "b", "a"], "steps": ["1", "1", "2"], "difference": [0.1, -0.2, 0.3],
         "lower": [0.0, -0.3, 0.1], "upper": [0.3, 0.1, 0.4]}
    )  # fmt: skip
    figure = figures.differences(table, rows="condition", colour="steps", margin=0.5, predicted=1.0)
    one, two = figure.data
    assert (one.name, list(one.x), two.name, list(two.x)) == ("1", [0.1, -0.2], "2", [0.3])
    assert list(one.error_x.array) == pytest.approx([0.2, 0.3])
    assert list(one.error_x.arrayminus) == pytest.approx([0.1, 0.1])
    assert [round(y) for y in one.y] == [0, 1]
    shapes = [(shape.type, shape.x0, shape.x1) for shape in figure.layout.shapes]
    assert ("rect", -0.5, 0.5) in shapes
    assert ("line", 1.0, 1.0) in shapes


def test_tables_that_lack_something_are_refused():
    with pytest.raises(PbbError, match="no column 'used_layer'"):
        figures.onsets(ONSETS.drop(columns="used_layer"))
    with pytest.raises(PbbError, match="no rows of the groups other"):
        figures.onsets(ONSETS, groups=["other"])
    with pytest.raises(PbbError, match="no column 'lower'"):
        figures.differences(pd.DataFrame({"a": ["x"], "difference": [1.0], "upper": [1.0]}), rows="a")
    with pytest.raises(PbbError, match="no rows"):
        figures.differences(pd.DataFrame(columns=["a", "difference", "lower", "upper"]), rows="a")
