"""The explorer in a real browser: every page, its controls and address, live numbers, downloads, what it refuses."""

import base64
import http.client
import json
import os
import shutil
import threading
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pandas as pd
import plotly.io
import pytest
from dash_parts import control_values, figures_of

import pbb_probe as pbb
from pbb_probe.views.explorer.activations import matching
from pbb_probe.views.explorer.address import decode_selection, encode_selection
from pbb_probe.views.explorer.app import PAGES, make_server
from pbb_probe.views.explorer.cards import Asked
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.own_prompt import Typed

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="no Chromium on this machine"
)
HOSTILE = "<img src=x onerror=\"document.title='harmed'\"><script>document.title='harmed'</script>"


@pytest.fixture(scope="module")
def runs(planted_run, tmp_path_factory):
    """A run, one beside it of another seed whose texts are hostile, and one that is half done and damaged."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("whole", "hostile", "half"):
        shutil.copytree(planted_run, folder / name)
    config = json.loads((folder / "hostile" / "config.json").read_text())
    (folder / "hostile" / "config.json").write_text(json.dumps(config | {"seed": 7, "base": HOSTILE}))
    lines = (folder / "hostile" / "corpus" / "corpus.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines[:2])
    first["program"]["source"] += f"    # {HOSTILE}"
    second["program"]["name"] = HOSTILE
    whole = "\n".join([json.dumps(first), json.dumps(second), *lines[2:]])
    (folder / "hostile" / "corpus" / "corpus.jsonl").write_text(whole)
    prompts = pd.read_csv(folder / "hostile" / "probing" / "prompts.csv")
    prompts.loc[prompts["op_1"] == prompts["op_1"].iloc[0], "op_1"] = HOSTILE
    prompts.to_csv(folder / "hostile" / "probing" / "prompts.csv", index=False)
    shutil.rmtree(folder / "half" / "transfer")
    shutil.rmtree(folder / "half" / "comparison")
    (folder / "half" / "probing" / "activations.nc").write_bytes(b"\x89HDF cut short")
    return folder


@pytest.fixture(scope="module")
def served(runs):
    """`served(name)`: the address of the explorer of a run."""
    servers = {}

    def address(name: str) -> str:
        if name not in servers:
            servers[name] = make_server(Explored(runs / name), port=0)
            threading.Thread(target=servers[name].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[name].server_port}"

    yield address
    for server in servers.values():
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM or "/usr/bin/chromium", args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that fails the test on any error that it reports."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(  # what was still on its way when a test went on to another page has not failed
        "requestfailed",
        lambda request: errors.append(request.url) if request.failure != "net::ERR_ABORTED" else None,
    )
    yield page
    assert errors == []
    context.close()


def open_view(page, address: str, figures: int = 1):
    page.goto(address)
    page.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {figures}")
    page.wait_for_selector("[data-dash-is-loading='true']", state="detached")
    return page


def data_of(page, name: str) -> list:
    """The traces of a figure as the browser has them, with typed arrays as lists."""
    found = page.evaluate(
        """(name) => JSON.parse(JSON.stringify(document.querySelector(`#figure-${name} .js-plotly-plot`).data,
           (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : value))""",
        name,
    )
    return unpacked(found)


def unpacked(value):
    """A figure's JSON with numbers in place of plotly's packed arrays."""
    if isinstance(value, dict) and "bdata" in value:
        flat = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
        return flat.reshape([int(n) for n in str(value.get("shape", len(flat))).split(",")]).tolist()
    if isinstance(value, dict):
        return {key: unpacked(part) for key, part in value.items()}
    return [unpacked(part) for part in value] if isinstance(value, list) else value


def query_of(page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query, keep_blank_values=True).items()}


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
    page.wait_for_function("document.querySelector('#figure-layers .gtitle').textContent.includes('answered right')")
    assert query_of(page)["variable"] == "state_1"
    shown = data_of(page, "layers")
    other = browser.new_page()
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
    page.wait_for_function(f"document.querySelector('#content h2').textContent === '{entry.program.name}(6)'")
    page.wait_for_selector("#figure-answer .main-svg")
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
def test_a_selection_is_drawn_in_three_dimensions_too(page, served):
    page.goto(served("whole") + "/activations?axes=3&colour=group")
    page.wait_for_function("document.querySelector('#figure-activations .js-plotly-plot')?.data?.length === 2")
    wanted = page.locator("#wanted")
    wanted.fill("output = 3")
    wanted.press("Enter")
    page.wait_for_function("document.querySelector('#figure-activations .js-plotly-plot').data.length === 4")


@needs_browser
def test_groups_have_their_own_programs(page, served, runs):
    run = pbb.open_run(runs / "whole")
    names = {group: {e.program.name for e in run.corpus.of(group)} for group in ("with_io", "without_io")}
    open_view(page, served("whole") + "/program?group=with_io", figures=3)
    assert query_of(page)["program"] in names["with_io"]
    page.get_by_label("without_io", exact=True).check()
    page.wait_for_function("document.querySelector('.facts').textContent.includes('without_io')")
    assert query_of(page)["program"] in names["without_io"]
    wanted = run.corpus.of("without_io")[9].program.name  # from the list, by typing a part of its name
    page.wait_for_selector("#figure-readings .main-svg")
    page.wait_for_timeout(1000)  # a list that is opened while its view is drawn closes again
    page.locator("fieldset:has(legend:text-is('program')) .dash-dropdown").click()
    page.keyboard.type(wanted[:4])
    page.locator(f".dash-options-list label:has-text('{wanted}')").click()
    page.wait_for_function(f"document.querySelector('#content h2').textContent.startsWith('{wanted}(')")
    assert query_of(page)["program"] == wanted


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
    page.wait_for_timeout(300)
    after = data_of(page, "activations")
    assert page.evaluate("document.querySelector('#figure-activations').mark") == 1  # not drawn anew
    assert page.evaluate(ranges) == fixed
    acts = pbb.open_run(runs / "whole").array("probing/activations")
    labels = pbb.open_run(runs / "whole").table("probing/prompts")
    points = pbb.project(acts, fit=(labels["group"] == "with_io").to_numpy())
    for traces, layer in ((before, 3), (after, 2)):
        for trace in traces:
            rows = [row[0] for row in trace["customdata"]]
            expected = points.sel(layer=layer).values[rows]
            assert np.array(trace["x"]) == pytest.approx(expected[:, 0], abs=1e-4)
    assert "layer=2, selected=None" in page.locator("#figure-activations-code").text_content()
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
    page.wait_for_selector("#figure-layers .main-svg")
    labels = pbb.open_run(runs / "whole").table("probing/prompts")
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
    page.wait_for_timeout(500)
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
    labels = pbb.open_run(runs / "whole").table("probing/prompts")
    expected = np.flatnonzero((labels["output"] == 3) & (labels["group"] == "without_io"))
    open_view(page, served("whole") + "/activations?colour=output")
    wanted = page.locator("#wanted")
    wanted.fill("output = 3, group = without_io")
    wanted.press("Enter")
    page.wait_for_selector("#selected table")
    assert np.flatnonzero(decode_selection(query_of(page)["selection"], len(labels))).tolist() == expected.tolist()
    page.wait_for_timeout(300)
    shown = [row[0] for trace in data_of(page, "activations") for row in picked(trace)]
    assert sorted(shown) == expected.tolist()
    wanted.fill("__class__ = 3")
    wanted.press("Enter")
    page.wait_for_function("document.getElementById('refused').textContent.includes('there are template, call')")
    first = labels.iloc[expected[0]]
    page.locator("#selected tbody a").first.click()
    page.wait_for_selector("#figure-readings .main-svg")
    assert page.locator("#content h2").inner_text() == f"{first['program']}({first['call']})"


def picked(trace: dict) -> list:
    """The customdata of a trace's selected points."""
    return [trace["customdata"][i] for i in trace.get("selectedpoints", [])]


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
    page.goto(f"{served('hostile')}/program?{urlencode({'program': HOSTILE, 'call': '4'})}")
    page.wait_for_selector("#content h2")
    assert page.locator("#content h2").inner_text() == f"{HOSTILE}(4)"
    page.wait_for_selector("#figure-answer .main-svg")
    assert "<img src=x" in page.locator("#figure-answer .gtitle").text_content()
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
    page.wait_for_timeout(1500)
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
        page.wait_for_timeout(200)
        assert "could not be made" not in page.locator("#view").inner_text(), path
    page.goto(served("half") + "/activations")
    page.wait_for_selector(".notice.missing")
    assert "activations.nc cannot be read" in page.locator("#view").inner_text()


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


def test_what_is_outside_of_the_run_is_not_served(served):
    def got(path: str, host: str = "localhost") -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(served("whole")).netloc)
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read().decode()

    assert "react-entry-point" in got("/")[1]
    for path in ("/assets/../app.py", "/assets/..%2f..%2fapp.py", "/csv/unknown"):
        assert got(path)[0] == 404
    for path in ("/csv/..%2f..%2fconfig.json", "/config.json", "/../config.json", "//etc/passwd"):
        status, body = got(path)
        assert status in (308, 404) or "react-entry-point" in body, path  # the frame, which says that there is no page
        assert "curriculum" not in body
        assert "root:" not in body
    assert got("/", "example.org")[0] == got("/", "example.org:80")[0] == 403


def test_looking_changes_nothing(runs, planted_run):
    """After all of the above the run is byte for byte the one that was copied."""
    for path in planted_run.rglob("*"):
        if path.is_file():
            assert (runs / "whole" / path.relative_to(planted_run)).read_bytes() == path.read_bytes()
    assert len(list(planted_run.rglob("*"))) == len(list((runs / "whole").rglob("*")))


@pytest.mark.parametrize("path", list(PAGES))
def test_the_python_of_every_figure_makes_that_figure(runs, path):
    explored = Explored(runs / "whole")
    n_prompts = len(explored.table("probing/prompts"))
    some = {"selection": encode_selection(np.arange(n_prompts) < 40), "by": "selection"}
    queries = [{}, some] if path in ("/layers", "/activations") else [{}]
    for query in queries:
        values = control_values(PAGES[path].controls(explored, query))
        found = figures_of(PAGES[path].content(Asked(explored, values)))
        assert found
        for name, (figure, code) in found.items():
            scope: dict = {}
            exec(code, scope)
            shown, made = (json.loads(plotly.io.to_json(one))["data"] for one in (figure, scope["figure"]))
            assert made == shown, name


def test_a_selection_as_text():
    some = np.random.default_rng(0).random(1003) < 0.3
    np.testing.assert_array_equal(decode_selection(encode_selection(some), 1003), some)
    assert decode_selection(encode_selection(some), 2000) is None
    assert decode_selection("", 1003) is None
    assert decode_selection("!!", 1003) is None
    # as explorer.js writes it: the bit of row r is 1 << (r & 7) of byte r >> 3
    assert encode_selection(np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 1], bool)) == "AQI"


def test_texts_that_are_no_pair_are_shown_each_by_itself(runs):
    explored = Explored(runs / "whole")
    values = control_values(PAGES["/prompt"].controls(explored, {})) | {
        "clean": "run 3 =",
        "corrupted": "run 3 =",
        "roles": "",
    }
    shown = PAGES["/prompt"].content(Asked(explored, values))
    assert "Both texts have the answer" in str(shown[0])
    found = figures_of(shown)
    assert list(found) == ["figure-clean", "figure-corrupted"]
    for figure, code in found.values():
        scope: dict = {}
        exec(code, scope)
        assert scope["figure"].to_json() == figure.to_json()


def test_roles_are_texts_or_characters():
    typed = Typed("base", "f(3) =", "f(5) =", "input = 3 | 5\nname = [0, 1]\n\n", "")
    assert typed.places() == {"input": ["3", "5"], "name": [[0, 1], [0, 1]]}
    for roles, said in (("input = 3\ninput = 5", "has two lines"), ("input", "cannot be read"), ("a = 1|2|3", "read")):
        with pytest.raises(pbb.PbbError, match=said):
            typed._replace(roles=roles).places()
    assert typed._replace(answers=" 7 | two ").both_answers() == ("7", "two")
    with pytest.raises(pbb.PbbError, match="both answers"):
        typed._replace(answers="7").both_answers()


def test_labels_are_matched_whole_with_commas_in_them():
    labels = pd.DataFrame({"call": ["1, 2", "1", "1, 2"], "state_1": [3.0, 3.0, np.nan], "group": ["a", "b", "b"]})
    assert matching(labels, "call = 1, 2").tolist() == [True, False, True]
    assert matching(labels, "call = 1, 2, state_1 = 3,").tolist() == [True, False, False]
    for wanted, said in (
        ("group", "write label = value"),
        ("__class__ = 1", "write label"),
        ("group = c", "No prompt"),
    ):
        with pytest.raises(pbb.PbbError, match=said):
            matching(labels, wanted)


def test_damaged_settings_corpus_and_tables_are_named(runs, tmp_path):
    def damaged(name: str, text: str) -> Explored:
        copy = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(runs / "whole", copy)
        (copy / name).write_text(text)
        return Explored(copy)

    with pytest.raises(pbb.PbbError, match=r"config\.json has no seed"):
        damaged("config.json", '{"base": "nano"}')
    with pytest.raises(pbb.PbbError, match=r"The step corpus is damaged .* delete .* and run the study again"):
        damaged("corpus/corpus.jsonl", "{}").run.corpus  # noqa: B018
    with pytest.raises(pbb.PbbError, match=r"prompts\.csv is empty"):
        damaged("probing/prompts.csv", "\n").table("probing/prompts")
    with pytest.raises(pbb.PbbError, match="of different prompts"):
        damaged("probing/prompts.csv", "program,group\nx,with_io\n").array("probing/activations")
    broken = damaged("stage2/model/config.json", "{}")
    with pytest.raises(pbb.PbbError, match="The step stage2 is damaged"):
        broken.model()
    assert damaged("probing/step.json", "[]").run.steps["probing"] is False


def test_what_is_read_is_what_the_step_holds_now(runs, tmp_path):
    shutil.copytree(runs / "whole", tmp_path / "run")
    explored = Explored(tmp_path / "run")
    before = explored.table("behaviour/behaviour")
    path = tmp_path / "run" / "behaviour"
    before.assign(n=0).to_csv(path / "behaviour.csv", index=False)
    record = json.loads((path / "step.json").read_text())
    (path / "step.json").write_text(json.dumps(record | {"key": "another"}))
    assert set(explored.table("behaviour/behaviour")["n"]) == {0}
