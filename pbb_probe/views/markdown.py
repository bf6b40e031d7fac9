"""Markdown as GitHub shows it: text kept as text, tables, and a report with its figures as pictures."""

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.store.disk import write
from pbb_probe.views.report import Report, Shown, number
from pbb_probe.views.words import report as words
from pbb_probe.views.words.phrases import short

if TYPE_CHECKING:
    import pandas as pd

_MARKUP = re.compile(r"[\\`*\[\]|~$#!@]|(?<![^\W_])_|_(?![^\W_])")  # an underscore inside a word is none


def markdown_text(text: Any) -> str:
    """Text on one line, in which nothing is taken for Markdown or HTML."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: "\\" + found.group(), line).replace("://", ":&#47;/").replace("www.", "www&#46;")


def markdown_table(table: "pd.DataFrame", digits: int = 2) -> str:
    """A Markdown table; numbers to so many digits, missing ones empty."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "" if value != value else short(value, digits)
        return markdown_text(value)

    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def write_markdown(path: Path, report: Report, page: str, pictures: str | None) -> None:
    """Write the report for a repository: all figures, and the tables that are not folded.

    Args:
        path: of the file.
        report: the same that `write_report` takes.
        page: the HTML page beside it.
        pictures: the folder of the figures as PNG, relative to it; None where there are none.
    """
    beside = words.WITHOUT_PICTURES if pictures is None else words.WITH_PICTURES
    parts = [f"# {markdown_text(report.title)}", markdown_text(report.subtitle), beside.format(page=page), "## Verdict"]
    if report.summary is not None:
        parts.append(markdown_table(report.summary, digits=3))
    parts += map(markdown_text, report.words)
    for place, (section, figures, tables) in enumerate(number(report), start=1):
        parts.append(f"## {place}. {markdown_text(section.title)}")
        parts += [markdown_text(section.text)] * bool(section.text)
        parts += [f"- **{markdown_text(term)}**: {markdown_text(meaning)}" for term, meaning in section.terms]
        parts += [_figure(n, shown, page, pictures) for n, shown in figures if not shown.folded]
        for n, table in tables:
            named = f"**Table {n}.** {markdown_text(table.title)}"
            parts.append(f"{named}: in [{page}]({page})." if table.folded else f"{named}.")
            parts += [] if table.folded else [markdown_table(table.frame, digits=3)]
        for n, shown in figures:
            if shown.folded:
                head = f"<details><summary>Figure {n}. {html.escape(shown.title)}</summary>"
                parts += [head, _figure(n, shown, page, pictures), "</details>"]
    write(path, "\n\n".join(parts) + "\n")


def _figure(n: int, shown: Shown, page: str, pictures: str | None) -> str:
    caption = f"**[Figure {n}]({page}#figure-{n}). {markdown_text(shown.title)}.** {markdown_text(shown.caption)}"
    if pictures is None:
        return caption
    return f"![Figure {n}]({pictures}/{shown.name}.png)\n\n{caption}"
