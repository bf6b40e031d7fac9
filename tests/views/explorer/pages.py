"""Views of the explorer in a browser: open them, and read what their figures and addresses say."""

import base64
import os
import shutil
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="no Chromium on this machine"
)
PATIENCE = 120_000
"""Milliseconds after which what is waited for has failed to come, on a machine that is busy with other things too."""
expect.set_options(timeout=PATIENCE)
HOSTILE = "<img src=x onerror=\"document.title='harmed'\"><script>document.title='harmed'</script>"


def open_view(page, address: str, figures: int = 1):
    page.goto(address)
    page.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {figures}")
    return settled(page)


def settled(page):
    """The page once no callback waits for its answer and every figure is drawn: by itself nothing changes any more."""
    page.wait_for_function(
        """!store.getState().isLoading
           && [...document.querySelectorAll('.dash-graph')].every((graph) => graph.querySelector('.main-svg'))"""
    )
    return page


def dropdown(page, title: str):
    """The list of a control."""
    return page.locator(f"fieldset:has(legend:text-is('{title}')) .dash-dropdown")


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


def picked(trace: dict) -> list:
    """The customdata of a trace's selected points."""
    return [trace["customdata"][i] for i in trace.get("selectedpoints", [])]
