"""Figures as PNG files, where there is a browser to draw them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_SIZE = {"width": 1180, "height": 450}
"""Of figures that do not say."""


def save_pngs(made: "dict[str, Figure]", out: Path) -> bool:
    """Each figure, as large as it is, as a PNG in `out`.

    False, with a sentence on standard error, where no browser can be started.
    """
    import plotly.io

    paths = [out / f"{name}.png" for name in made]
    widths, heights = ([figure.layout[side] or default for figure in made.values()] for side, default in _SIZE.items())
    try:
        plotly.io.write_images(list(made.values()), paths, scale=1.5, width=widths, height=heights)
    except Exception as error:  # kaleido and choreographer raise kinds of their own for every way a browser can fail
        print(
            f"No PNG figures: the browser could not be used ({str(error).strip().splitlines()[0]}). "
            "Install Chromium or Chrome for them; the HTML pages are complete without.",
            file=sys.stderr,
        )
        return False
    return True
