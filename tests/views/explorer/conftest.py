"""Runs that are looked at, their explorers, and a page of a real browser that fails a test on any error it reports."""

import json
import shutil
import threading

import numpy as np
import pytest
import xarray as xr
from pages import CHROMIUM, HOSTILE, PATIENCE
from sealed import seal

from pbb_probe.store.disk import write_array
from pbb_probe.views.explorer.app import make_server
from pbb_probe.views.explorer.explored import Explored


@pytest.fixture(scope="session")
def runs(planted_run, tmp_path_factory):
    """A run, one beside it of another seed whose texts are hostile, and one that is half done and damaged."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("whole", "hostile", "half"):
        shutil.copytree(planted_run, folder / name)
    config = json.loads((folder / "hostile" / "config.json").read_text())
    (folder / "hostile" / "config.json").write_text(json.dumps(config | {"seed": 7, "base": HOSTILE}))
    lines = (folder / "hostile" / "corpus" / "corpus.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["program"]["source"] += f"    # {HOSTILE}"
    whole = "\n".join([json.dumps(first), *lines[1:]])
    (folder / "hostile" / "corpus" / "corpus.jsonl").write_text(whole)
    path = folder / "hostile" / "probing" / "probes.nc"
    probes = xr.load_dataset(path)
    operators = probes["op_1"].values.astype(object)
    named = np.where(operators == operators[0], HOSTILE, operators).astype(str)
    write_array(probes.assign_coords(op_1=("prompt", named)), path)
    seal(folder / "hostile")
    shutil.rmtree(folder / "half" / "transfer")
    shutil.rmtree(folder / "half" / "comparison")
    (folder / "half" / "probing" / "activations.nc").write_bytes(b"\x89HDF cut short")
    return folder


@pytest.fixture(scope="session")
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
    context.set_default_timeout(PATIENCE)
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
