"""The scatter of activations in a real browser: its slider, and selections of prompts."""

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pages import data_of, needs_browser, open_view, picked, query_of, settled

import pbb_probe as pbb
from pbb_probe.labels import labels_of
from pbb_probe.probing.projection import project
from pbb_probe.views.explorer.address import decode_selection


@needs_browser
def test_a_selection_is_drawn_in_three_dimensions_too(page, served):
    page.goto(served("whole") + "/activations?axes=3&colour=group")
    page.wait_for_function("document.querySelector('#figure-activations .js-plotly-plot')?.data?.length === 2")
    wanted = page.locator("#wanted")
    wanted.fill("output = 3")
    wanted.press("Enter")
    page.wait_for_function("document.querySelector('#figure-activations .js-plotly-plot').data.length === 4")


@needs_browser
def test_the_slider_moves_points_and_nothing_else(page, served, runs):
    open_view(page, served("whole") + "/activations")
    before = data_of(page, "activations")
    ranges = "document.querySelector('#figure-activations .js-plotly-plot')._fullLayout.xaxis.range"
    fixed = page.evaluate(ranges)
    page.evaluate("document.querySelector('#figure-activations').mark = 1")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("location.search.includes('layer=2')")
    settled(page)
    after = data_of(page, "activations")
    assert page.evaluate("document.querySelector('#figure-activations').mark") == 1  # not drawn anew
    assert page.evaluate(ranges) == fixed
    acts = pbb.open_run(runs / "whole").array("probing/activations")
    labels = labels_of(pbb.open_run(runs / "whole").array("probing/probes"), "prompt")
    points = project(acts, fit=(labels["group"] == "with_io").to_numpy())
    for traces, layer in ((before, 3), (after, 2)):
        for trace in traces:
            rows = [row[0] for row in trace["customdata"]]
            expected = points.sel(layer=layer).values[rows]
            assert np.array(trace["x"]) == pytest.approx(expected[:, 0], abs=1e-4)
    assert "layer=2," in page.locator("#figure-activations-code").text_content()
    assert "at layer 2" in page.locator("#figure-activations-words").inner_text()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("location.search.includes('layer=0')")
    page.wait_for_function("location.search.includes('layer=3')")


@needs_browser
def test_a_lasso_selects_prompts_for_this_view_and_the_others(page, served, runs, browser):
    open_view(page, served("whole") + "/activations")
    box = page.locator("#figure-activations .nsewdrag").first.bounding_box()
    left, right = box["x"] + 3, box["x"] + box["width"] * 0.5
    top, bottom = box["y"] + 3, box["y"] + box["height"] - 3
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 4)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    page.wait_for_selector("#selected table")
    settled(page)
    labels = labels_of(pbb.open_run(runs / "whole").array("probing/probes"), "prompt")
    selected = decode_selection(query_of(page)["selection"], len(labels))
    inside = {row[0] for trace in data_of(page, "activations") for row in picked(trace)}
    assert set(np.flatnonzero(selected)) == inside
    assert 0 < selected.sum() < len(labels)
    assert f"{selected.sum()} of {len(labels)} prompts" in page.locator("#selected h2").inner_text()
    assert page.locator("#selected tbody tr").count() == min(300, selected.sum())
    address = page.url
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")  # at another layer other points lie where the lasso was: the same stay selected
    page.wait_for_function("location.search.includes('layer=2')")
    settled(page)
    assert sum(len(trace["selectedpoints"]) for trace in data_of(page, "activations")) == selected.sum()
    assert query_of(page)["selection"] == parse_qs(urlsplit(address).query)["selection"][0]
    other = browser.new_page()
    open_view(other, page.url, figures=2)
    kept = sum(len(trace["selectedpoints"]) for trace in data_of(other, "activations"))
    assert kept == selected.sum()
    other.close()
    page.get_by_role("link", name="Layer by layer of these prompts").click()
    page.wait_for_function("document.querySelector('h1').textContent === 'Layer by layer'")
    page.wait_for_function("document.querySelector('#figure-layers .gtitle')?.textContent.includes('selected prompts')")
    names = {trace.get("name") for trace in data_of(page, "layers")}
    assert {"selected", "others"} <= names
    page.go_back()
    page.wait_for_selector("#selected table")
    page.get_by_role("button", name="Clear the selection").click()
    page.wait_for_selector("#selected .notice.hint")
    page.wait_for_function("!location.search.includes('selection')")
    page.wait_for_function("document.getElementById('figure-activations-code').textContent.includes('selected=None')")


@needs_browser
def test_prompts_are_selected_by_value_too_and_lead_to_their_programs(page, served, runs):
    labels = labels_of(pbb.open_run(runs / "whole").array("probing/probes"), "prompt")
    expected = np.flatnonzero((labels["output"] == 3) & (labels["group"] == "without_io"))
    open_view(page, served("whole") + "/activations?colour=output")
    wanted = page.locator("#wanted")
    wanted.fill("output = 3, group = without_io")
    wanted.press("Enter")
    page.wait_for_selector("#selected table")
    settled(page)
    assert np.flatnonzero(decode_selection(query_of(page)["selection"], len(labels))).tolist() == expected.tolist()
    shown = [row[0] for trace in data_of(page, "activations") for row in picked(trace)]
    assert sorted(shown) == expected.tolist()
    wanted.fill("__class__ = 3")
    wanted.press("Enter")
    page.wait_for_function("document.getElementById('refused').textContent.includes('template, call')")
    first = labels.iloc[expected[0]]
    page.locator("#selected tbody a").first.click()
    page.wait_for_selector("#figure-readings .main-svg")
    assert page.locator("#content h2").inner_text() == f"{first['program']}({first['call']})"
