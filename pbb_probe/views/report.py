"""One offline HTML page: what was found in words, then the evidence in the order a paper would give it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pbb_probe.store import write

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Section:
    """A heading, what to know before looking, figures by caption, and a table."""

    title: str
    text: str = ""
    figures: "Mapping[str, Figure]" = field(default_factory=dict)
    table: "pd.DataFrame | None" = None


def write_report(path: Path, title: str, subtitle: str, words: Sequence[str], sections: Sequence[Section]) -> None:
    """Write the page. It holds plotly itself and loads nothing; text from programs and names is escaped."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=FileSystemLoader(str(files("pbb_probe") / "views")), autoescape=True)
    page = environment.get_template("report.html.jinja").render(
        title=title,
        subtitle=subtitle,
        words=words,
        plotly=Markup(get_plotlyjs()),
        sections=[
            {
                "title": section.title,
                "text": section.text,
                "figures": [
                    {"html": Markup(figure.to_html(full_html=False, include_plotlyjs=False)), "caption": caption}
                    for caption, figure in section.figures.items()
                ],
                "table": None if section.table is None else _cells(section.table),
            }
            for section in sections
        ],
    )
    write(path, page)


def _cells(table: "pd.DataFrame") -> dict:
    def cell(value) -> dict:
        if isinstance(value, float):
            return {"text": "-" if value != value else f"{value:.3f}".rstrip("0").rstrip("."), "number": True}
        return {"text": str(value), "number": isinstance(value, int)}

    return {
        "columns": [str(column).replace("_", " ") for column in table.columns],
        "rows": [[cell(value) for value in row] for row in table.astype(object).itertuples(index=False)],
    }
