"""The page: text shown as text, numbered in order, drawn by a real browser from a file with the network blocked."""

import json
import os
import re
import shutil
import struct

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from pbb_probe.views.images import save_pngs
from pbb_probe.views.report import Report, Section, Shown, Table, number, write_report

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="no Chromium on this machine"
)
TALL = 1400


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, tmp_path):
    """`opened(scheme)`: a page of three figures, the last one folded, opened from its file; nothing else is loaded."""
    figures = [
        Shown(f"bars_{n}", go.Figure(go.Bar(x=["a", "b"], y=[1, n]), {"height": TALL}), f"Bars {n}", "See.", n == 3)
        for n in (1, 2, 3)
    ]
    sections = [Section("One", figures=figures[:1]), Section("Two", figures=figures[1:])]
    path = tmp_path / "report.html"
    write_report(path, Report("Title", "Subtitle", ["Verdict. More."], sections))
    contexts = []

    def open_page(scheme: str = "light", path=path):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.trouble = []
        page.on("console", lambda message: page.trouble.append(message.text))
        page.on("pageerror", lambda error: page.trouble.append(str(error)))

        def block(route):
            if route.request.url.startswith(("file:", "data:", "blob:")):
                return route.continue_()
            page.trouble.append(route.request.url)
            return route.abort()

        context.route("**/*", block)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def drawn(page) -> int:
    return page.locator(".plot[data-drawn]").count()


def test_text_is_escaped_and_the_page_loads_nothing(tmp_path):
    hostile = "<script>alert(1)</script>"
    figure = go.Figure(go.Scatter(x=[0, 1], y=[2.5, 3.5], text=[hostile, "b"]))
    table = pd.DataFrame({hostile: [hostile], "value": [0.25], "none": [float("nan")]})
    section = Section(
        hostile, hostile, [(hostile, hostile)], [Shown("a", figure, hostile, hostile)], [Table(hostile, table)]
    )
    path = tmp_path / "report.html"
    write_report(path, Report(hostile, hostile, [hostile], [section], table))
    page = path.read_text()
    assert hostile not in page
    # title twice, contents, subtitle, words, section, text, term, meaning, caption twice, table, two heads, two cells
    assert page.count("&lt;script&gt;") == 16
    assert page.count("<td>-</td>") == 2
    assert not re.search(r"<(script|img|link|iframe)[^>]* (src|href)=(?!\"data:)", page)
    assert list(tmp_path.iterdir()) == [path]
    spec = json.loads(re.search(r'id="spec-1">(.*?)</script>', page)[1])
    assert spec["data"][0]["text"] == [hostile, "b"]


def test_figures_keep_what_they_say_in_fewer_digits(tmp_path):
    values = np.array([1 / 3, np.nan, 12345.678, 1e-9])
    figure = go.Figure(go.Scatter(x=np.arange(4), y=values), {"title": "Long", "height": 400, "margin_t": 70})
    figure.add_heatmap(z=np.array([[1, 2, 3], [4, 5, 6.5]]))
    write_report(
        tmp_path / "report.html", Report("", "", [], [Section("One", figures=[Shown("a", figure, "Long", "See.")])])
    )
    page = (tmp_path / "report.html").read_text()
    spec = json.loads(re.search(r'id="spec-1">(.*?)</script>', page)[1])
    assert spec["data"][0] == {"type": "scatter", "x": [0, 1, 2, 3], "y": [0.33333, None, 12346.0, 1e-9]}
    assert spec["data"][1]["z"] == [[1, 2, 3], [4, 5, 6.5]]
    assert spec["layout"] == {"height": 365, "margin": {"t": 35}}  # the title stands in the caption
    assert 'style="height:365px"' in page


def test_numbers_go_through_all_sections_and_folded_ones_come_last():
    frame, figure = pd.DataFrame({"a": [1]}), go.Figure()
    first = Section("One", figures=[Shown("a", figure, "A", "", folded=True), Shown("b", figure, "B", "")])
    second = Section("Two", figures=[Shown("c", figure, "C", "")], tables=[Table("T", frame)])
    numbered = [
        (section.title, [(n, shown.name) for n, shown in figures], [(n, table.title) for n, table in tables])
        for section, figures, tables in number(Report("", "", [], [first, second]))
    ]
    assert numbered == [("One", [(1, "b"), (2, "a")], []), ("Two", [(3, "c")], [(1, "T")])]


@needs_chromium
def test_figures_are_drawn_when_they_come_near(opened):
    page = opened()
    page.wait_for_selector("#figure-1 .main-svg")
    assert drawn(page) == 1
    height = page.evaluate("document.documentElement.scrollHeight")
    page.get_by_role("link", name="Two").click()
    page.wait_for_selector("#figure-2 .main-svg")
    assert page.evaluate("location.hash") == "#section-2"
    assert abs(page.evaluate("document.getElementById('section-2').getBoundingClientRect().top")) < 20
    assert page.evaluate("document.documentElement.scrollHeight") == height  # nothing jumped
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#figure-3 .main-svg")
    assert drawn(page) == 3
    assert page.trouble == []


@needs_chromium
def test_contents_stand_beside_the_text_at_1280_pixels_and_above_it_in_a_narrow_window(opened):
    page = opened()
    left, text = (page.locator(name).bounding_box() for name in ("nav", "main"))
    assert left["x"] + left["width"] <= text["x"]
    assert left["y"] < 100
    page.evaluate("scrollTo(0, 1500)")
    assert page.locator("nav").bounding_box()["y"] >= 0  # it stays
    page.set_viewport_size({"width": 700, "height": 900})
    page.evaluate("scrollTo(0, 0)")
    above, text = (page.locator(name).bounding_box() for name in ("nav", "main"))
    assert above["y"] + above["height"] <= text["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 700


@needs_chromium
def test_all_is_drawn_and_unfolded_for_print_and_folded_again(opened):
    page = opened("dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 17, 17)"
    page.wait_for_selector("#figure-1 .main-svg")
    paper = "document.querySelector('#figure-1 .main-svg').style.background"
    assert page.evaluate(paper) == "rgb(17, 17, 17)"
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_selector("#figure-3 .main-svg")
    assert drawn(page) == 3
    assert page.evaluate(paper) == "white"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(page.pdf(format="A4")) > 10_000
    page.emulate_media(media="screen", color_scheme="light")
    page.wait_for_function("!document.querySelector('details[open]')")
    page.wait_for_selector("#figure-1 .main-svg")
    assert page.evaluate(paper) == "white"
    assert page.trouble == []


@needs_chromium
def test_figures_turn_with_light_and_dark(opened):
    page = opened()
    page.wait_for_selector("#figure-1 .main-svg")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.querySelector('#figure-1 .main-svg')?.style.background === 'rgb(17, 17, 17)'")
    assert page.trouble == []


@needs_chromium
def test_the_report_of_a_run_opens_offline_in_real_chromium(opened, finished_run, tmp_path, monkeypatch):
    """Hostile names in it start nothing; it is small, and what is far below is drawn when it is reached."""
    from pbb_probe.runs.opened import open_run
    from pbb_probe.views import study_report

    run = shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.setattr(study_report, "save_pngs", lambda *_: False)
    study_report.write_study_report(open_run(run), run / "report")
    assert (run / "report.html").stat().st_size < 8e6
    page = opened(path=run / "report.html")
    assert drawn(page) < 5
    page.on("dialog", lambda dialog: page.trouble.append(dialog.message))
    page.emulate_media(media="print")
    page.wait_for_function("[...document.querySelectorAll('.plot')].every((plot) => 'drawn' in plot.dataset)")
    assert drawn(page) == page.locator("figure").count() > 15
    assert page.locator("main img").count() == 0
    assert page.trouble == []


@needs_chromium
def test_pngs_are_written_with_the_system_browser(tmp_path):
    bars = go.Figure(go.Bar(x=["a", "b"], y=[1, 2]))
    assert save_pngs({"bars": bars, "tall": go.Figure(bars.data, {"height": 800, "width": 600})}, tmp_path)
    for name, size in (("bars", (1770, 675)), ("tall", (900, 1200))):  # 1.5 pixels a pixel
        png = (tmp_path / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert struct.unpack(">II", png[16:24]) == size


def test_without_a_browser_the_run_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-browser"))
    assert not save_pngs({"bars": go.Figure()}, tmp_path)
    assert capsys.readouterr().err.startswith("No PNG figures")
