"""The controls of a view. Their values are its address, so every one has a name in it.

A control `{"control": name}` draws the view anew when it changes; one that is `{"quiet": name}` only goes into the
address, and whatever listens to it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pbb_probe.views.explorer.address import chosen

if TYPE_CHECKING:
    from dash.development.base_component import Component

FEW = 6
"""Options that are shown side by side; more are in a list to choose from."""


def choice(
    query: Mapping[str, str],
    name: str,
    title: str,
    options: Sequence[str] | Mapping[str, str],
    default: str | None = None,
    few: int = FEW,
) -> "Component":
    """One of several options, given as values, or as words by value."""
    from dash import dcc, html

    words = dict(options) if isinstance(options, Mapping) else {option: option for option in options}
    shown = [{"label": text, "value": value} for value, text in words.items()]
    value = chosen(query, name, list(words), default)
    made: Component
    if len(words) <= few:
        made = dcc.RadioItems(shown, value, id={"control": name}, inline=True, className="radio")
    else:
        made = dcc.Dropdown(shown, value, id={"control": name}, clearable=False, className="dropdown")
    return html.Fieldset([html.Legend(title), made], className="control")


def text(query: Mapping[str, str], name: str, title: str, default: str, size: int = 12, lines: int = 1) -> "Component":
    """A text to type; the view follows when it is left or Enter is pressed."""
    from dash import dcc, html

    value = query.get(name, default)
    made: Component
    if lines > 1:
        made = dcc.Textarea(id={"control": name}, value=value, rows=lines, cols=size, persistence=False)
    else:
        made = dcc.Input(
            id={"control": name}, value=value, debounce=True, type="text", size=str(size), autoComplete="off"
        )
    return html.Fieldset([html.Legend(title), made], className="control")


def hidden(query: Mapping[str, str], name: str) -> "Component":
    """A part of the address that is set otherwise, such as by a lasso."""
    from dash import dcc

    return dcc.Input(id={"quiet": name}, type="hidden", value=query.get(name, ""))
