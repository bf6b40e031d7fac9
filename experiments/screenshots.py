"""Pictures of every view of the explorer, in the light and in the dark: python experiments/screenshots.py RUN

Needs Chromium or Chrome and the development extras.
"""

import shutil
import threading
from pathlib import Path

from jsonargparse import auto_cli

from pbb_probe.errors import PbbError
from pbb_probe.views.explorer.app import PAGES, make_server
from pbb_probe.views.explorer.explored import Explored

BROWSERS = ("chromium", "google-chrome", "chromium-browser")


def main(
    run: Path,
    out: Path = Path("results/explorer"),
    width: int = 1280,
    height: int | None = None,
    views: tuple[str, ...] = (),
) -> None:
    """Serve the run, open each view and save what it shows.

    Args:
        run: directory of a finished run.
        out: where the PNG files go.
        width: of the window, in pixels.
        height: of the pictures; the whole page when None.
        views: their titles, such as Overview; all when none is named.
    """
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise PbbError(f"There is no browser: install one of {', '.join(BROWSERS)}.")
    explored = Explored(run)
    explored.warm_up()
    server = make_server(explored, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            page = browser.new_page(viewport={"width": width, "height": height or 900}, color_scheme=theme)
            for path, view in PAGES.items():
                if views and view.TITLE not in views:
                    continue
                page.goto(f"http://127.0.0.1:{server.server_port}{path}")
                page.wait_for_selector("#content .main-svg")
                page.wait_for_timeout(1500)
                name = view.TITLE.lower().replace(" ", "_")
                page.screenshot(path=out / f"{name}_{theme}.png", full_page=height is None)
                print(out / f"{name}_{theme}.png")
            page.close()
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
