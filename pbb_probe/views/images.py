"""Figures as PNG files, where there is a browser to draw them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def save_pngs(made: "dict[str, Figure]", out: Path) -> bool:
    """Each figure as a PNG in `out`; False, with a sentence on standard error, where no browser can be started."""
    import plotly.io

    paths = [out / f"{name}.png" for name in made]
    try:
        plotly.io.write_images(list(made.values()), paths, scale=1.5, width=1180)
    except Exception as error:  # kaleido and choreographer raise kinds of their own for every way a browser can fail
        print(
            f"No PNG figures: the browser could not be used ({str(error).strip().splitlines()[0]}). "
            "Install Chromium or Chrome for them; the HTML pages are complete without.",
            file=sys.stderr,
        )
        return False
    return True
