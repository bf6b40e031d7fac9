"""The figures of probes show the numbers of their tables where the tables have them."""

import numpy as np
import pandas as pd
import pytest

from pbb_probe.errors import PbbError
from pbb_probe.views import figures

LAYERS = (0, 1, 2)
ROWS = [
    {
        "group": group,
        "control": control,
        "target": target,
        "site": "resid_post",
        "layer": layer,
        "role": role,
        "measure": "accuracy",
        "score": 0.1 * layer + 0.05 * (group == "without_io") + 0.02 * (control != "none"),
        "lower": 0.0,
        "upper": 0.9,
        "n": 10,
        "clusters": 5,
        "gain": np.nan if control == "none" else 0.3 + 0.1 * layer,
        "gain_lower": np.nan if control == "none" else 0.1,
        "gain_upper": np.nan if control == "none" else 0.7,
    }
    for group in ("with_io", "without_io")
    for control in ("none", "selectivity", "relabelled")
    for target in ("input", "state_1")
    if (control, target) != ("relabelled", "input")
    for role in ("name", "answer")
    for layer in LAYERS
]
TABLE = pd.DataFrame(ROWS)


def drawn(figure, name: str) -> list:
    return [trace for trace in figure.data if trace.name == name]


def test_each_panel_has_both_groups_and_the_controls_of_the_first():
    figure = figures.probe_curves(TABLE, "probes")
    assert len(drawn(figure, "with_io")) == len(drawn(figure, "without_io")) == 4
    assert len(drawn(figure, "selectivity (with_io)")) == 4
    (first, second) = drawn(figure, "relabelled (with_io)")  # of state_1 alone
    assert (first.showlegend, second.showlegend) == (True, False)
    for trace in drawn(figure, "without_io"):
        assert list(trace.y) == pytest.approx([0.05, 0.15, 0.25])
        assert list(trace.x) == list(LAYERS)
    assert list(drawn(figure, "selectivity (with_io)")[0].y) == pytest.approx([0.02, 0.12, 0.22])
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert all(list(band.y) == [0.9] * 3 + [0.0] * 3 for band in bands)


def test_a_filled_marker_says_that_the_groups_differ():
    places = TABLE[["target", "site", "layer", "role"]].drop_duplicates()
    differences = places.assign(p_adjusted=[0.01 if layer == 2 else 0.3 for layer in places["layer"]])
    figure = figures.probe_curves(TABLE, differences=differences)
    assert list(drawn(figure, "with_io")[0].marker.symbol) == ["circle-open", "circle-open", "circle"]
    plain = figures.probe_curves(TABLE)
    assert set(drawn(plain, "with_io")[0].marker.symbol) == {"circle-open"}


def test_groups_are_optional():
    one = TABLE[TABLE["group"] == "with_io"].drop(columns="group")
    assert len(drawn(figures.probe_curves(one), "all prompts")) == 4


def test_gains_are_over_the_control_asked_for():
    figure = figures.probe_gains(TABLE, "relabelled")
    assert {trace.name for trace in figure.data if trace.name} == {"with_io", "without_io"}
    assert list(drawn(figure, "with_io")[0].y) == pytest.approx([0.3, 0.4, 0.5])
    assert "accuracy minus that of relabelled" in [note.text for note in figure.layout.annotations]
    with pytest.raises(PbbError, match="no control 'colour'"):
        figures.probe_gains(TABLE, "colour")


def test_the_transfer_matrix_has_each_pair_of_groups_at_each_layer():
    own = TABLE[TABLE["control"] == "none"]
    table = pd.concat([own.assign(fitted_on="with_io"), own.assign(fitted_on="without_io", score=own["score"] + 0.5)])
    figure = figures.across_heatmap(table)
    assert len(figure.data) == 4
    first = figure.data[0]
    assert list(first.y) == [
        "with_io → with_io",
        "without_io → with_io",
        "without_io → without_io",
        "with_io → without_io",
    ]
    assert np.allclose(first.z, [[0, 0.1, 0.2], [0.5, 0.6, 0.7], [0.55, 0.65, 0.75], [0.05, 0.15, 0.25]])


def test_the_transfer_matrix_leaves_room_for_what_was_not_read():
    """A target that only one group has, since the other's programs of two steps are not evaluated."""
    table = TABLE[TABLE["control"] == "none"].assign(fitted_on="with_io")
    only = sorted(table["target"].unique())[0]
    table = table[(table["group"] == "with_io") | (table["target"] == only)]
    panels = figures.across_heatmap(table).data
    missing = [np.isnan(panel.z).all(axis=1).tolist() for panel in panels]
    assert sorted(missing) == [[False, False]] * 2 + [[False, True]] * 2
    assert all((np.isnan(panel.z) == (panel.text == "")).all() for panel in panels)


def test_cosines_are_drawn_by_halves():
    cosines = pd.DataFrame(
        [
            {
                "halves": halves,
                "target": "state_1",
                "site": "resid_post",
                "layer": layer,
                "role": "answer",
                "cosine": value,
            }
            for halves, value in (("with_io", 0.9), ("without_io", 0.8), ("between", 0.7))
            for layer in LAYERS
        ]
    )
    figure = figures.cosine_curves(cosines)
    assert list(drawn(figure, "between")[0].y) == [0.7] * 3


def test_tables_of_something_else_are_refused():
    with pytest.raises(PbbError, match="no column 'score'"):
        figures.probe_curves(TABLE.drop(columns="score"))
    with pytest.raises(PbbError, match="several sites"):
        figures.probe_curves(pd.concat([TABLE, TABLE.assign(site="z")]))
    with pytest.raises(PbbError, match="no column 'fitted_on'"):
        figures.across_heatmap(TABLE)
