"""What a person has opened stays open while its view is drawn, and a list takes what is typed, in a real browser."""

import threading

import pytest
from pages import dropdown, needs_browser, open_view, settled
from playwright.sync_api import expect

import pbb_probe as pbb
from pbb_probe.views.explorer import activations, attention, compare, layers, program

OPTIONS = ".dash-dropdown-content"


@pytest.fixture
def held(monkeypatch):
    """`held(view)`: what is in a view is made once the event is set that is returned, and no sooner."""
    events = []

    def hold(view) -> threading.Event:
        may_draw, content = threading.Event(), view.content
        events.append(may_draw)
        monkeypatch.setattr(view, "content", lambda asked: may_draw.wait() and content(asked))
        return may_draw

    yield hold
    for event in events:
        event.set()


@needs_browser
@pytest.mark.parametrize("view", [layers, program, activations, attention, compare], ids=lambda view: view.PATH)
def test_a_list_stays_open_while_its_view_is_drawn(page, served, held, view):
    may_draw = held(view)
    page.goto(served("whole") + view.PATH)
    page.locator(".dash-dropdown").first.click()
    expect(page.locator(OPTIONS)).to_be_visible()
    assert page.locator(".dash-graph").count() == 0
    may_draw.set()
    page.wait_for_selector("#content .main-svg")
    expect(settled(page).locator(OPTIONS)).to_be_visible()


@needs_browser
def test_what_is_open_stays_open_when_its_view_is_drawn_anew(page, served, held):
    open_view(page, served("whole") + "/program", figures=3)
    page.locator("#figure-patching ~ .tools summary").click()
    page.evaluate("document.getElementById('figure-patching').old = true")
    may_draw = held(program)
    page.get_by_label("another program").check()
    dropdown(page, "program").click()
    may_draw.set()
    settled(page)
    assert not page.evaluate("document.getElementById('figure-patching').old")
    expect(page.locator(OPTIONS)).to_be_visible()
    expect(page.locator("#figure-patching-code")).to_be_visible()


@needs_browser
def test_what_is_folded_again_stays_folded(page, served):
    open_view(page, served("whole"))
    table = page.locator("details:has(summary:text-is('Settings')) table")
    for unfolded in (True, False):
        page.locator("summary:text-is('Settings')").click()
        expect(table).to_be_visible(visible=unfolded)
        page.get_by_role("button", name="Light or dark").click()
        settled(page)
        expect(table).to_be_visible(visible=unfolded)


@needs_browser
@pytest.mark.parametrize("ready", [True, False], ids=["at leisure", "at once"])
def test_an_open_list_is_searched_by_typing(page, served, runs, ready):
    """The option that is chosen gets the focus of a list that opens, where letters would be lost."""
    wanted = pbb.open_run(runs / "whole").corpus.of("without_io")[9].program.name
    open_view(page, served("whole") + "/program?group=without_io", figures=3)
    dropdown(page, "program").click()
    if ready:
        page.wait_for_function("document.activeElement.matches('.dash-options-list-option-checkbox')")
    page.keyboard.type(wanted)
    expect(page.locator(".dash-dropdown-search")).to_have_value(wanted)
    expect(page.locator(f"{OPTIONS} label")).to_have_count(1)
    page.locator(f"{OPTIONS} label").click()
    expect(settled(page).locator("#content h2")).to_contain_text(f"{wanted}(")
