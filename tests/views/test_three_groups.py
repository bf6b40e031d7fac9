"""Three groups in every figure: the numbers drawn are those of a table made by hand."""

import numpy as np
import pandas as pd
import pytest
from three_groups import GROUPS, PAIRS, compared, earlier, mean, p_adjusted

import pbb_probe as pbb
from pbb_probe.views.figures.style import GROUP_COLOURS, group_colours

FILLED = {  # by the p values of the pairs: layer 1 between the first two, layer 2 with io_only
    "with_io": ["circle-open", "circle", "circle"],
    "without_io": ["circle-open", "circle", "circle"],
    "io_only": ["circle-open", "circle-open", "circle"],
}


@pytest.fixture(scope="module")
def table():
    return compared()


def one_place(table, site="resid_pre", role="name"):
    return table[(table["site"] == site) & (table["role"] == role)]


def lines(figure, name: str, panel: int = 0):
    found = [trace for trace in figure.data if trace.name == name and trace.fill is None]
    return found[panel]


def test_each_group_has_a_colour_of_its_own_and_others_none_of_theirs():
    assert len(set(GROUP_COLOURS.values())) == 3
    colours = group_colours([*GROUPS, "a", "b", "c"])
    assert len(set(colours.values())) == 6


def test_curves_have_every_group_once_and_a_filled_mark_where_it_differs_from_another(table):
    figure = pbb.figures.layer_curves(table, rows="site", columns="role")
    assert [t.name for t in figure.data if t.name and t.showlegend] == list(GROUPS)
    assert len({lines(figure, group).line.dash for group in GROUPS}) == 3
    for group in GROUPS:
        line = lines(figure, group)
        assert list(line.x) == [0, 1, 2]
        np.testing.assert_allclose(line.y, [mean(group, n) for n in (0, 2, 4)])
        assert list(line.marker.symbol) == FILLED[group]
    said = [row[4] for row in lines(figure, "io_only").customdata]
    assert said[2] == "<br>from with_io: adjusted p = 0.01<br>from without_io: adjusted p = 0.01"
    assert lines(figure, "io_only").line.color == GROUP_COLOURS["io_only"]
    with pytest.raises(pbb.PbbError, match="several rows for one layer"):
        pbb.figures.layer_curves(table.assign(swap="input"), rows="swap", columns="role")


def test_below_the_curves_stands_a_difference_for_each_pair(table):
    figure = pbb.figures.curves_with_difference({"here": one_place(table), "there": one_place(table, "mlp_out")})
    for place, first in enumerate((0, 6)):  # the first place of the site
        for pair in PAIRS:
            line = lines(figure, f"{pair[0]} minus {pair[1]}", place)
            apart = [mean(pair[0], n) - mean(pair[1], n) for n in range(first, first + 6, 2)]
            np.testing.assert_allclose(line.y, apart)
            assert list(line.marker.symbol) == [
                "circle" if p_adjusted(pair, layer) < 0.05 else "circle-open" for layer in range(3)
            ]
            (band, *_) = [t for t in figure.data if t.legendgroup == line.legendgroup and t.yaxis == line.yaxis]
            np.testing.assert_allclose(band.y, [*(a + 0.2 for a in apart), *(a - 0.1 for a in apart[::-1])])
        for group in GROUPS:
            np.testing.assert_allclose(lines(figure, group, place).y, [mean(group, first + n) for n in (0, 2, 4)])
    assert figure.layout.yaxis3.title.text == "difference"
    colours = {lines(figure, f"{a} minus {b}").line.color for a, b in PAIRS}
    assert len(colours) == 3
    assert not colours & set(GROUP_COLOURS.values())


def test_two_of_three_groups_can_be_chosen_and_a_table_may_lack_a_group(table):
    chosen = pbb.figures.curves_with_difference({"": one_place(table)}, groups=("with_io", "io_only"))
    assert [t.name for t in chosen.data if t.name] == [
        "with_io", "io_only", "with_io minus io_only", "adjusted p < 0.05",
    ]  # fmt: skip
    assert chosen.layout.yaxis2.title.text == "with_io<br>minus io_only"
    both = pbb.figures.curves_with_difference({"a": one_place(table), "b": one_place(earlier(table))})
    assert [t.name for t in both.data if t.name].count("io_only") == 1
    assert [t.name for t in both.data if t.name].count("with_io minus without_io") == 2
    twice = pd.concat([one_place(table)] * 2)
    with pytest.raises(pbb.PbbError, match="several rows for one layer"):
        pbb.figures.curves_with_difference({"twice": twice})


def test_heat_maps_have_the_groups_and_below_them_their_differences(table):
    figure = pbb.figures.patching_heatmap(table)
    assert len(figure.data) == 2 * (3 + 3)
    maps = {(trace.hovertemplate.split("<extra>")[1][:-8], trace.yaxis): np.array(trace.z) for trace in figure.data}
    drawn = [list(maps.values())[k] for k in range(6)]
    for group, z in zip(GROUPS, drawn, strict=False):  # [layer, role] of the first site
        np.testing.assert_allclose(z, [[mean(group, 2 * layer + role) for role in range(2)] for layer in range(3)])
    for (first, second), z, trace in zip(PAIRS, drawn[3:], figure.data[3:6], strict=True):
        apart = mean(first, 0) - mean(second, 0)
        np.testing.assert_allclose(z, np.full((3, 2), apart))
        starred = [row[0].endswith("*") for row in trace.text]
        assert starred == [p_adjusted((first, second), layer) < 0.05 for layer in range(3)]
        assert f"{first} minus {second}" in trace.hovertemplate
    two = pbb.figures.patching_heatmap(earlier(table))
    assert len(two.data) == 2 * (2 + 1)
    with pytest.raises(pbb.PbbError, match="several rows for one place"):
        pbb.figures.patching_heatmap(pd.concat([table, table]))


def test_probes_are_marked_where_their_group_differs_from_another():
    of = {"target": "output", "site": "resid_post", "role": "answer"}
    scores = pd.DataFrame(
        {**of, "group": group, "control": "none", "layer": layer, "score": mean(group, layer), "measure": "accuracy",
         "lower": 0, "upper": 1, "n": 9, "clusters": 3}
        for group in ("io_only", "without_io", "with_io") for layer in range(3)
    )  # fmt: skip
    differences = compared(layer=(0, 1, 2)).assign(**of)
    figure = pbb.figures.probe_curves(scores, differences=differences)
    assert [t.name for t in figure.data if t.name] == list(GROUPS)
    for group in GROUPS:
        assert list(lines(figure, group).y) == [mean(group, layer) for layer in range(3)]
        assert list(lines(figure, group).marker.symbol) == FILLED[group]


def test_what_probes_of_each_group_read_in_each_comes_in_the_order_of_the_groups():
    rows = [(by, group) for by in GROUPS for group in GROUPS]
    table = pd.DataFrame(rows, columns=["fitted_on", "group"]).assign(target="output", layer=0, role="answer")
    table = table.assign(score=np.arange(9) / 10, lower=0, upper=1)
    (heat,) = pbb.figures.across_heatmap(table).data
    assert list(heat.y)[:4] == [
        "with_io → with_io", "without_io → with_io", "io_only → with_io", "without_io → without_io",
    ]  # fmt: skip
    np.testing.assert_allclose(np.array(heat.z)[:4, 0], [0.0, 0.3, 0.6, 0.4])


SENTENCE = "not evaluated (15 % [11, 20] on 212 decisive calls, chance 13 %)"
GATE = pd.DataFrame(
    [(g, n, not (g == "without_io" and n == 2), SENTENCE) for g in GROUPS for n in (1, 2)],
    columns=["group", "steps", "evaluated", "sentence"],
)


def said(figure) -> list:
    return [note for note in figure.layout.annotations if note.text.startswith("not evaluated")]


def test_what_is_not_evaluated_has_its_sentence_in_place_of_bars():
    rows = [(g, layer, h) for g in GROUPS for layer in (0, 1) for h in ("nothing", "program")]
    table = pd.DataFrame(rows, columns=["group", "layer", "hypothesis"]).assign(
        site="resid_pre", control="none", role="name", n=8, programs=4, lower=0, upper=1, steps=2
    )
    level = table["group"].map({"with_io": 0.75, "without_io": 0.5, "io_only": 0.25})
    table = table.assign(proportion=np.where(table["hypothesis"] == "program", level, 1 - level))
    figure = pbb.figures.transfer_map(table, gate=GATE[GATE["steps"] == 2])
    bars = {(bar.xaxis, bar.name): list(bar.x) for bar in figure.data if bar.name}
    assert bars == {
        ("x", "nothing"): [0.25] * 2, ("x", "program"): [0.75] * 2,
        ("x3", "nothing"): [0.75] * 2, ("x3", "program"): [0.25] * 2,
    }  # fmt: skip
    (note,) = said(figure)
    assert (note.text.replace("<br>", " "), note.xref) == (SENTENCE, "x2 domain")
    whole = pbb.figures.transfer_map(table, gate=GATE[GATE["steps"] == 1])
    assert not said(whole)
    assert len(whole.data) == len(pbb.figures.transfer_map(table).data) == 6
    # a group of which there are no pairs at all is not left out silently
    gone = pbb.figures.transfer_map(table[table["group"] != "without_io"], gate=GATE[GATE["steps"] == 2])
    assert len(said(gone)) == 1
    with pytest.raises(pbb.PbbError, match="no column 'sentence'"):
        pbb.figures.transfer_map(table, gate=GATE.drop(columns="sentence"))


def test_onsets_that_are_not_evaluated_are_not_shown():
    table = pd.DataFrame(
        {"group": group, "steps": steps, "variable": variable, "used_layer": k + steps, "used_lower": k,
         "used_upper": 5, "used_peak": 0.9, "used_n": 40, "read_layer": np.nan, "read_lower": np.nan,
         "read_upper": np.nan, "read_peak": 0.5, "read_n": 70}
        for k, group in enumerate(GROUPS) for steps in (1, 2) for variable in ("program", "output")
    )  # fmt: skip
    figure = pbb.figures.onsets(table, gate=GATE)
    marks = {(mark.name.rpartition(" ")[2], mark.xaxis): list(mark.x) for mark in figure.data}
    assert marks == {
        ("with_io", "x"): [1, 1], ("without_io", "x"): [2, 2], ("io_only", "x"): [3, 3],
        ("with_io", "x2"): [2, 2], ("io_only", "x2"): [4, 4],
    }  # fmt: skip
    full, short = said(figure)
    assert (full.text.replace("<br>", " "), short.text) == (SENTENCE, "not evaluated")
    rows = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    assert [rows[note.y] for note in (full, short)] == ["program, without_io", "output, without_io"]
    assert full.xref == short.xref == "x2"
    every = pbb.figures.onsets(table)
    assert len(every.data) == 6
    # nothing was located, as it is not looked for: the sentence stands all the same
    looked = table[~((table["group"] == "without_io") & (table["steps"] == 2))]
    assert len(said(pbb.figures.onsets(looked, gate=GATE))) == 2
