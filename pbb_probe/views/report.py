"""One offline HTML page: what was found in words, then the evidence in the order a paper would give it."""

import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.store.disk import write
from pbb_probe.views.words.phrases import short

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from plotly.graph_objects import Figure

REPORTS = ("report.html", "report.md")
"""The files that a run's report is, beside the folder of its figures as PNG."""

_TITLE_SPACE = 35  # of a figure's top margin: on the page its title stands in the caption


@dataclass(frozen=True)
class Shown:
    """A figure with what to see in it; a folded one is shown on demand."""

    name: str
    """Of its file, without `.png`."""
    figure: "Figure"
    title: str
    caption: str
    folded: bool = False


@dataclass(frozen=True)
class Table:
    """A table with what it holds; a long one is folded."""

    title: str
    frame: "pd.DataFrame"
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, what to know before looking, terms with their explanations, figures and tables."""

    title: str
    text: str = ""
    terms: Sequence[tuple[str, str]] = ()
    figures: Sequence[Shown] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Report:
    """What was found first, then the sections."""

    title: str
    subtitle: str
    words: Sequence[str]
    """Paragraphs of the verdict; each begins with a sentence that says what it is about."""
    sections: Sequence[Section]
    summary: "pd.DataFrame | None" = None
    """The verdict as a short table."""

    @property
    def figures(self) -> "dict[str, Figure]":
        """All figures by the names of their files."""
        return {shown.name: shown.figure for section in self.sections for shown in section.figures}


Numbered = tuple[Section, list[tuple[int, Shown]], list[tuple[int, Table]]]


def number(report: Report) -> Iterator[Numbered]:
    """Each section with the numbers of its figures and tables; folded ones come last."""
    of_figures, of_tables = count(1), count(1)
    for section in report.sections:
        figures = sorted(section.figures, key=lambda shown: shown.folded)
        tables = sorted(section.tables, key=lambda table: table.folded)
        yield section, [(next(of_figures), shown) for shown in figures], [(next(of_tables), table) for table in tables]


def write_report(path: Path, report: Report) -> None:
    """Write the page. It holds plotly itself and loads nothing; text from programs and names is escaped.

    Figures are drawn when they come near the window, in plotly's white template, or its dark one where the reader
    prefers that: their own templates are left out.
    """
    import plotly.io
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(str(files("pbb_probe") / "views")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates = {mode: plotly.io.templates[f"plotly_{mode}"].to_plotly_json() for mode in ("white", "dark")}
    page = environment.get_template("report.html.jinja").render(
        report=report,
        words=[line.partition(". ") for line in report.words],
        summary=None if report.summary is None else cells(report.summary),
        plotly=Markup(get_plotlyjs()),
        templates=_script(templates),
        sections=[
            {
                "section": section,
                "figures": [(n, shown, _script(_drawn(shown.figure)), _height(shown.figure)) for n, shown in figures],
                "tables": [(n, table, cells(table.frame)) for n, table in tables],
            }
            for section, figures, tables in number(report)
        ],
    )
    write(path, page)


def cells(table: "pd.DataFrame", digits: int = 3) -> dict[str, Any]:
    """The columns and rows of a table as text: `-` is missing, and numbers are told from text."""

    def cell(value: Any) -> dict[str, Any]:
        if isinstance(value, float):
            return {"text": "-" if value != value else short(value, digits), "number": True}
        return {"text": str(value), "number": isinstance(value, int) and not isinstance(value, bool)}

    return {
        "columns": [str(column) for column in table.columns],
        "rows": [[cell(value) for value in row] for row in table.astype(object).itertuples(index=False)],
    }


def _drawn(figure: "Figure") -> dict[str, Any]:
    """The figure as JSON values, without its template and title, numbers to five digits."""
    spec = figure.to_plotly_json()
    layout = {key: value for key, value in spec["layout"].items() if key not in ("template", "title")}
    margin = dict(layout.get("margin", {}))
    if "t" in margin:
        margin["t"] = max(margin["t"] - _TITLE_SPACE, 30)
    layout |= {"margin": margin, "height": _height(figure)}
    return {"data": _values(spec["data"]), "layout": _values(layout)}


def _height(figure: "Figure") -> int:
    return int(figure.layout.height or 450) - _TITLE_SPACE


def _values(value: Any) -> Any:
    """Arrays as JSON lists of numbers of five digits; what is no number is null, which plotly leaves out."""
    if isinstance(value, dict) and "bdata" in value:
        return _values(_array(value))
    if isinstance(value, dict):
        return {key: _values(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_values(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _array(value: dict[str, str]) -> "np.ndarray":
    """An array as plotly writes it: bytes in base64, which are longer than five digits are."""
    import numpy as np

    flat = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]).newbyteorder("<"))
    return flat.reshape([int(n) for n in value["shape"].split(",")]) if "shape" in value else flat


def _script(value: Any) -> Any:
    """JSON that can stand in a script element: nothing in it ends or opens one."""
    from markupsafe import Markup

    return Markup(json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"))
