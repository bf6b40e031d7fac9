"""The explorer in a real browser: every page, its controls and address, live numbers, downloads, hostile text."""

import json
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import plotly.io
import pytest
from pages import HOSTILE, PATIENCE, data_of, dropdown, needs_browser, open_view, query_of, settled

import pbb_probe as pbb
from pbb_probe.views.explorer.app import PAGES


@needs_browser
@pytest.mark.parametrize("path", list(PAGES))
def test_every_page_opens_without_an_error(page, served, path):
    open_view(page, served("whole") + path)
    assert page.locator("h1").inner_text() == PAGES[path].TITLE
    assert page.locator("nav .here").inner_text() == PAGES[path].TITLE
    assert page.locator(".notice.missing").count() == 0
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 1280  # nothing to scroll for sideways
    assert query_of(page)  # what is shown is in the address


@needs_browser
def test_a_link_reproduces_the_view(page, served, browser):
    open_view(page, served("whole") + "/layers")
    page.get_by_label("answered right").check()
    page.get_by_label("state_1").check()
    settled(page)
    assert "answered right" in page.locator("#figure-layers .gtitle").text_content()
    assert query_of(page)["variable"] == "state_1"
    shown = data_of(page, "layers")
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    open_view(other, page.url)
    assert other.get_by_label("state_1").is_checked()
    assert data_of(other, "layers") == shown
    other.get_by_role("link", name="Activations").click()  # and the other views take along what they share
    other.wait_for_selector("#figure-activations .main-svg")
    assert query_of(other)["variable"] == "state_1"
    other.go_back()
    other.wait_for_selector("#figure-layers .main-svg")
    assert other.get_by_label("state_1").is_checked()
    other.close()


@needs_browser
def test_an_address_that_asks_for_what_there_is_not_shows_what_there_is(page, served):
    open_view(page, served("whole") + "/layers?role=nowhere&variable=..%2F..&layer=99")
    assert query_of(page)["role"] == "answer"


@needs_browser
def test_it_works_by_keyboard(page, served):
    open_view(page, served("whole"))
    page.keyboard.press("Alt+2")
    page.wait_for_selector("#figure-layers .main-svg")
    page.get_by_label("all calls").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.search.includes('subset=correct')")
    page.get_by_role("link", name="Program").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#figure-readings .main-svg")


@needs_browser
def test_a_typed_input_is_computed_live(page, served, runs):
    run = pbb.open_run(runs / "whole")
    entry = run.corpus.of("without_io")[1]
    open_view(page, f"{served('whole')}/program?program={entry.program.name}", figures=3)
    typed = page.locator("fieldset:has(legend:text-is('input (type any)')) input")
    trace = entry.traces[6]
    typed.fill("6")
    typed.press("Enter")
    settled(page)
    assert page.locator("#content h2").inner_text() == f"{entry.program.name}(6)"
    assert f"output: {trace.output}" in page.locator(".facts").inner_text()
    answers = data_of(page, "answer")[0]
    likeliest = int(np.argmax(answers["x"]))
    assert answers["x"][likeliest] > 0.9
    assert page.locator("#figure-answer + figcaption").inner_text().startswith(f"The answer {trace.output} has ")
    # the patched call differs in its input alone, which block 0 brings to the answer position
    (heat,) = [trace for trace in data_of(page, "patching") if trace["type"] == "heatmap"]
    z = np.array(heat["z"], dtype=float)
    place = {role: i for i, role in enumerate(["bos", "name", "(", "input", ")", "answer"])}
    assert z[0, place["input"]] > 0.9 > 0.1 > abs(z[0, place["answer"]])
    assert z[1, place["answer"]] > 0.9 > 0.1 > abs(z[1, place["input"]])
    typed.fill("import os")
    typed.press("Enter")
    page.wait_for_selector(".notice.missing")
    assert "must be Python values" in page.locator(".notice.missing").first.inner_text()


@needs_browser
def test_going_back_within_a_view_shows_what_its_address_says(page, served):
    open_view(page, served("whole") + "/layers?variable=input")
    open_view(page, served("whole") + "/layers?variable=state_1")
    page.evaluate("history.pushState(null, '', '/layers?variable=output')")
    page.evaluate("document.documentElement.mark = 1")
    page.go_back()
    page.wait_for_function("!document.documentElement.mark && document.querySelector('#figure-layers .main-svg')")
    assert page.get_by_label("state_1").is_checked()


@needs_browser
def test_groups_have_their_own_programs(page, served, runs):
    run = pbb.open_run(runs / "whole")
    names = {group: {e.program.name for e in run.corpus.of(group)} for group in ("with_io", "without_io")}
    open_view(page, served("whole") + "/program?group=with_io", figures=3)
    assert query_of(page)["program"] in names["with_io"]
    page.get_by_label("without_io", exact=True).check()
    settled(page)
    assert "without_io" in page.locator(".facts").inner_text()
    assert query_of(page)["program"] in names["without_io"]
    wanted = run.corpus.of("without_io")[9].program.name  # from the list, by typing a part of its name
    dropdown(page, "program").click()
    page.keyboard.type(wanted[:4])
    page.locator(f".dash-options-list label:has-text('{wanted}')").click()
    settled(page)
    assert page.locator("#content h2").inner_text().startswith(f"{wanted}(")
    assert query_of(page)["program"] == wanted


@needs_browser
def test_figures_and_numbers_can_be_taken_along(page, served, runs, tmp_path):
    open_view(page, served("whole") + "/layers")
    card = page.locator("figure.card:has(#figure-layers)")
    for kind, begins in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"")):
        with page.expect_download() as download:
            card.locator(".tool", has_text=kind).click()
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        assert saved.read_bytes().startswith(begins)
        assert saved.name == f"layers.{kind.lower()}"
    table = pd.read_csv(tmp_path / "layers.csv")
    probing = pbb.open_run(runs / "whole").table("comparison/probing")
    mine = probing.query("subset == 'all' and target == 'output' and role == 'answer'")
    drawn = table[table["curve"].str.startswith("read")]
    assert drawn["mean_with_io"].tolist() == mine["mean_with_io"].tolist()
    card.get_by_role("button", name="Copy as Python").click()
    page.wait_for_function("document.getElementById('said').textContent === 'Copied.'")
    scope: dict = {}
    exec(page.evaluate("navigator.clipboard.readText()"), scope)
    made = json.loads(plotly.io.to_json(scope["figure"]))["data"]
    assert [trace.get("name") for trace in made] == [trace.get("name") for trace in data_of(page, "layers")]


@needs_browser
def test_the_theme_follows_the_system_and_the_switch(browser, served):
    context = browser.new_context(color_scheme="dark")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    open_view(page, served("whole"))
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "document.querySelector('.js-plotly-plot')._fullLayout.font.color"
    dark = page.evaluate(ground), page.evaluate(ink)
    page.get_by_role("button", name="Light or dark").click()
    page.wait_for_function(f"{ink} !== '{dark[1]}'")
    assert page.evaluate(ground) != dark[0]
    page.reload()
    page.wait_for_selector(".main-svg")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    context.close()


@needs_browser
def test_hostile_text_is_shown_as_text(page, served, runs):
    run = pbb.open_run(runs / "hostile")
    entry = run.corpus.entries[0]
    name, group = entry.program.name, entry.group
    open_view(page, f"{served('hostile')}/program?group={group}&program={name}", figures=2)
    assert HOSTILE in page.locator("#content pre").first.inner_text()
    page.goto(f"{served('hostile')}/program?{urlencode({'program': HOSTILE, 'call': HOSTILE})}")
    page.wait_for_selector(".notice")
    assert "<img src=x" in page.locator(".notice").first.inner_text()
    assert HOSTILE.split(",")[0] in page.locator("header").inner_text()
    page.goto(f"{served('hostile')}/activations?colour=op_1")
    page.wait_for_selector("#figure-activations .legendtext")
    legend = page.locator("#figure-activations .legendtext").all_text_contents()
    assert any("<img src=x" in text for text in legend)
    page.goto(served("hostile") + "/prompt")
    page.wait_for_selector("#figure-clean .main-svg")
    for title in ("text", "text beside it"):
        area = page.locator(f"fieldset:has(legend:text-is('{title}')) textarea")
        area.fill(HOSTILE + (" =" if title == "text" else " ("))
        area.blur()
    settled(page)
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "harmed"


@needs_browser
def test_a_run_that_is_half_done_says_what_is_missing_and_shows_the_rest(page, served):
    open_view(page, served("half"))
    said = " ".join(page.locator(".notice.missing").all_inner_texts())
    assert "transfer, comparison are missing" in said
    assert "pbb-probe run --config" in said
    assert page.locator("#figure-behaviour .main-svg").count() > 0
    for path in PAGES:
        page.goto(served("half") + path)
        page.wait_for_selector("#content > *, #view > .notice")
        assert "could not be made" not in settled(page).locator("#view").inner_text(), path
    page.goto(served("half") + "/activations")
    page.wait_for_selector(".notice.missing")
    assert "not as its step wrote it: probing/activations.nc" in page.locator("#view").inner_text()


@needs_browser
def test_two_runs_stand_side_by_side(page, served):
    open_view(page, served("whole") + "/compare?run=half", figures=0)
    page.wait_for_selector(".notice.missing")
    page.goto(served("whole") + "/compare?run=hostile")
    page.wait_for_selector("#figure-transfer_map .main-svg")
    differing = page.locator(".card:has(caption:text-is('Settings that differ'))").inner_text()
    assert "seed" in differing
    assert HOSTILE in differing
    curves = {trace.get("name") for trace in data_of(page, "curves")}
    assert {"whole", "hostile"} <= curves


def test_looking_changes_nothing(runs, planted_run):
    """After all of the above the run is byte for byte the one that was copied."""
    for path in planted_run.rglob("*"):
        if path.is_file():
            assert (runs / "whole" / path.relative_to(planted_run)).read_bytes() == path.read_bytes()
    assert len(list(planted_run.rglob("*"))) == len(list((runs / "whole").rglob("*")))
