"""How long one waits in the explorer: python experiments/benchmark_explorer.py RUN [--points 50000]

Starts it as a user does, opens its views in Chromium or Chrome, types an input, and steps the layer slider of the
scatter over as many points as asked for: prompts of the run drawn again with a little noise, in a copy of it.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from jsonargparse import auto_cli
from screenshots import BROWSERS

from pbb_probe.errors import PbbError
from pbb_probe.runs.opened import open_run
from pbb_probe.store.disk import write_array
from pbb_probe.store.writable import WritableRun
from pbb_probe.views.explorer.app import make_server
from pbb_probe.views.explorer.explored import Explored

STEP = """async (layer) => {
  const plot = document.querySelector("#figure-activations .js-plotly-plot");
  const drawn = new Promise((resolve) => plot.once("plotly_afterplot", resolve));
  const started = performance.now();
  window.dash_clientside.set_props({ quiet: "layer" }, { value: layer });
  await drawn;
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  return performance.now() - started;
}"""


def main(run: Path, points: int = 50_000, steps: int = 12) -> None:
    """Measure and print a table.

    Args:
        run: directory of a finished run.
        points: in the scatter.
        steps: of the slider.
    """
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise PbbError(f"There is no browser: install one of {', '.join(BROWSERS)}.")
    rows = [("`pbb-probe explore` answers", _start(run))]
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        address = _serve(run)

        def shown(path: str, figure: str) -> Callable[[], None]:
            def open_view() -> None:
                page.goto(address + path)
                page.wait_for_selector(f"#figure-{figure} .main-svg")

            return open_view

        rows.append(("Overview", _taken(shown("/", "transfer"))))
        rows.append(("Layer by layer", _taken(shown("/layers", "layers"))))
        rows.append(("Program, the first time", _taken(shown("/program", "readings"))))
        typed = page.locator("fieldset:has(legend:text-is('input (type any)')) input")

        def type_input() -> None:
            typed.fill("7")
            typed.press("Enter")
            page.wait_for_function("document.querySelector('#content h2').textContent.endsWith('(7)')")
            page.wait_for_selector("#figure-readings .main-svg")

        rows.append(("a typed input: answer, heat map and readings", _taken(type_input)))
        rows.append(("Attention", _taken(shown("/attention", "heads"))))
        address = _serve(_crowded(run, Path(folder) / "run", points))
        rows.append((f"Activations, {points:,} points", _taken(shown("/activations", "activations"))))
        page.wait_for_timeout(1000)
        n_layers = open_run(run).array("probing/activations").sizes["layer"]
        taken = [page.evaluate(STEP, (n_layers - 2 - i) % n_layers) / 1000 for i in range(steps)]
        rows.append((f"a step of the layer slider (median of {steps})", statistics.median(taken)))
        rows.append(("the slowest of them", max(taken)))
        started = time.monotonic()
        page.goto((run / "report.html").resolve().as_uri())
        rows.append(("`report.html` opens", time.monotonic() - started))
        browser.close()
    print("| | seconds |\n|---|---|")
    for what, seconds in rows:
        print(f"| {what} | {seconds:.2f} |")


def _start(run: Path) -> float:
    """Seconds from the command to the first page."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pbb_probe.commands.cli", "explore", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as explorer:
        assert explorer.stdout is not None
        urllib.request.urlopen(explorer.stdout.readline().split(": ")[1].split(" ")[0]).read()
        taken = time.monotonic() - started
        explorer.kill()
    return taken


def _serve(run: Path) -> str:
    explored = Explored(run)
    explored.warm_up()
    server = make_server(explored, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def _taken(do: Callable[[], None]) -> float:
    started = time.monotonic()
    do()
    return time.monotonic() - started


def _crowded(run: Path, copy: Path, points: int) -> Path:
    """A copy of the run whose scatter has so many points."""
    import numpy as np

    whole = open_run(run)
    copy.mkdir()
    for path in run.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / path.name)
    rng = np.random.default_rng(0)
    acts, asked = whole.array("probing/activations"), whole.manifest["steps"]["probing"]["inputs"]
    drawn = rng.integers(acts.sizes["prompt"], size=points)
    noisy = acts.isel(prompt=drawn).map(lambda a: a + 0.05 * rng.standard_normal(a.shape, np.float32))
    shutil.rmtree(copy / "probing")

    def probing(out: Path) -> None:
        """The step again, with so many prompts."""
        shutil.copytree(run / "probing", out, dirs_exist_ok=True)
        write_array(noisy, out / "activations.nc")

    WritableRun(copy).step("probing", asked, probing)
    return copy


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
