"""The report: hostile text is shown as text, and without a browser the run goes on and says so."""

import os
import shutil

import pandas as pd
import plotly.graph_objects as go
import pytest

from pbb_probe.views.images import save_pngs
from pbb_probe.views.report import Section, write_report


def test_text_is_escaped_and_the_page_loads_nothing(tmp_path):
    hostile = "<script>alert(1)</script>"
    figure = go.Figure(go.Scatter(x=[0, 1], y=[2.5, 3.5]))
    table = pd.DataFrame({"name": [hostile], "value": [0.25], "none": [float("nan")]})
    path = tmp_path / "report.html"
    write_report(path, hostile, hostile, [hostile], [Section(hostile, hostile, {"caption": figure}, table)])
    page = path.read_text()
    assert hostile not in page
    assert page.count("&lt;script&gt;") == 7  # title twice, subtitle, words, section title and text, table cell
    assert "<td>-</td>" in page
    assert "plotly-graph-div" in page
    assert "<link" not in page and "src=" not in page.split("</script>", 1)[1]  # noqa: PT018
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(
    shutil.which("chromium") is None and os.environ.get("CI") != "true", reason="no Chromium on this machine"
)
def test_pngs_are_written_with_the_system_browser(tmp_path):
    figure = go.Figure(go.Bar(x=["a", "b"], y=[1, 2]))
    assert save_pngs({"bars": figure}, tmp_path)
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_browser_the_run_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-browser"))
    assert not save_pngs({"bars": go.Figure()}, tmp_path)
    assert capsys.readouterr().err.startswith("No PNG figures")
