"""The parts of a page: a figure with its tools, a table, a word about what is missing."""

import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pbb_probe.errors import PbbError
from pbb_probe.views.explorer.controls import checked
from pbb_probe.views.explorer.explored import Busy, Explored
from pbb_probe.views.explorer.recorded import Recorded, named, python_of, value_of
from pbb_probe.views.explorer.theme import themed
from pbb_probe.views.report import cells
from pbb_probe.views.run_tables import rows

if TYPE_CHECKING:
    import pandas as pd
    from dash.development.base_component import Component


@dataclass(frozen=True)
class Asked:
    """What a view is to show: of which run, with which values of its controls, on which ground."""

    explored: Explored
    values: Mapping[str, Any]
    dark: bool = False

    def __getitem__(self, name: str) -> str:
        value = self.values.get(name)
        return "" if value is None else str(value)

    @classmethod
    def of(
        cls, explored: Explored, controls: "Callable[..., list[Component]]", values: Mapping[str, Any], dark: bool
    ) -> "Asked":
        """What a browser asks of the page that has these controls.

        Raises:
            PbbError: a value that the page's control does not offer, or too long a text.
        """
        query = {name: str(value) for name, value in values.items() if value is not None}
        return cls(explored, checked(controls(explored, query), values), dark)


def select(table: Recorded, **where: Any) -> Recorded:
    """The rows of a table in which columns have these values.

    Raises:
        PbbError: there are none.
    """
    if rows(value_of(table), **where).empty:
        asked = ", ".join(f"{name} {value}" for name, value in where.items())
        raise PbbError(f"Nothing was measured for {asked}: choose something else.")
    return table.query(" and ".join(f"{column} == {value!r}" for column, value in where.items()))


def values_of(table: "pd.DataFrame", name: str) -> list[str]:
    """The values of a column as text, in order; none of a table that has no such column."""
    return [str(value) for value in sorted(set(table[name]))] if name in table else []


def card(
    asked: Asked,
    name: str,
    figure: Recorded,
    table: "Recorded | pd.DataFrame",
    words: str = "",
    scroll: bool = False,
    **layout: Any,
) -> "Component":
    """A figure with its tools: copy as Python, and downloads as PNG, SVG and CSV.

    Args:
        asked: on which ground it stands.
        name: of its files.
        figure: with the Python that makes it.
        table: behind it.
        words: what to know about it.
        scroll: does the wheel zoom?
        layout: what is other on the page than in the figure itself.
    """
    from dash import dcc, html

    drawn, title = themed(value_of(figure).update_layout(layout, overwrite=True), asked.dark), f"figure-{name}"
    code = python_of(named(figure, "figure"))
    csv = f"/csv/{asked.explored.keep(code, value_of(table))}"
    graph = dcc.Graph(
        id=title,
        figure=drawn,
        responsive=True,
        style={"height": f"{drawn.layout.height or 450}px"},
        config={"displaylogo": False, "responsive": True, "scrollZoom": scroll},
    )
    tools = [
        tool("Copy as Python", "copy", of=title),
        tool("PNG", "png", "Download as PNG", of=title),
        tool("SVG", "svg", "Download as SVG", of=title),
        html.A("CSV", href=csv, download=f"{name}.csv", className="tool", id=f"{title}-csv"),
        html.Details(
            [html.Summary("Python"), html.Pre(code, id=f"{title}-code")], id=f"{title}-python", className="code"
        ),
    ]
    said = [html.Figcaption(words, id=f"{title}-words")] if words else []
    return html.Figure([graph, *said, html.Div(tools, className="tools")], className="card")


def tool(words: str, action: str, title: str = "", **data: str) -> "Component":
    """A button for what `explorer.js` does by itself."""
    from dash import html

    more: dict[str, Any] = {"data-action": action, **{f"data-{name}": value for name, value in data.items()}}
    return html.Button(words, type="button", className="tool", title=title or None, **more)


def guarded(*parts: "Callable[[], Component | Iterable[Component]]") -> "list[Component]":
    """Each part of a page, or in its place what kept it from being made: the others are shown all the same.

    Raises:
        Busy: the others would only wait as long for their turn.
    """
    parts_made: list[Any] = []
    for part in parts:
        try:
            made = part()
            parts_made += [made] if not isinstance(made, list) else made
        except Busy:
            raise
        except PbbError as error:
            parts_made.append(notice(str(error)))
        except Exception as error:  # a defect in one figure must not take the page with it
            traceback.print_exc(file=sys.stderr)
            parts_made.append(
                notice(f"This part could not be made ({type(error).__name__}: {error}); the terminal says more.")
            )
    once = {str(part): part for part in reversed(parts_made)}  # what several parts lack is said where it is said first
    return list(reversed(once.values()))


def answered(make: "Callable[[], Component | Iterable[Component]]") -> "list[Component]":
    """All of a page, or why there is nothing of it now."""
    try:
        return guarded(make)
    except Busy as busy:
        return [notice(str(busy))]


def notice(text: str, kind: Literal["missing", "hint"] = "missing") -> "Component":
    """A word about what is missing or went wrong, in place of what would be there."""
    from dash import html

    return html.Div([html.Span("!", className="mark"), html.P(text)], className=f"notice {kind}", role="status")


def table_of(
    table: "pd.DataFrame", title: str, folded: bool = False, links: Sequence[str] | None = None
) -> "Component":
    """A table as HTML, numbers to three digits; a folded one is shown on demand.

    Given `links`, an address a row, the first cell of each row leads there.
    """
    from dash import dcc, html

    text = cells(table)
    head = html.Tr([html.Th(name.replace("_", " "), scope="col") for name in text["columns"]])
    body = [[html.Td(cell["text"], className="" if cell["number"] else "text") for cell in row] for row in text["rows"]]
    for row, link in zip(body, links or (), strict=False):
        row[0] = html.Td(dcc.Link(row[0].children, href=link), className="text")
    caption = [] if folded else [html.Caption(title)]
    made = html.Div(
        html.Table([*caption, html.Thead(head), html.Tbody([html.Tr(row) for row in body])]), className="scroll"
    )
    if not folded:
        return html.Div(made, className="card")
    return html.Details([html.Summary(title), made], id=title.lower().replace(" ", "-"), className="card")


def paragraphs(lines: Sequence[str], title: str, name: str) -> "Component":
    """Words in a card of their own: of each paragraph the first sentence, and what it says one below the other."""
    from dash import html

    parts: list[Any] = []
    for line in lines:
        lead, _, rest = line.partition(". ")
        said = re.split(r"(?<=\.) (?=[A-Z0-9])|; (?!it is)", rest) if rest else []
        parts += [html.P(html.B(lead)), html.Ul([html.Li(one) for one in said])]
    return html.Section([html.H2(title), *parts], className="card words", id=name)
