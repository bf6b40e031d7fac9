"""The controls of a view. Their values are its address, so every one has a name in it.

A control `{"control": name}` draws the view anew when it changes; one that is `{"quiet": name}` only goes into the
address, and whatever listens to it. What comes back from the browser is checked against the controls it is of.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.views.explorer.address import chosen

if TYPE_CHECKING:
    from dash import Dash
    from dash.development.base_component import Component

FEW = 6
"""Options that are shown side by side; more are in a list to choose from."""
MOST_TYPED = 1_000
"""Characters that may be typed into a control. A field cuts off what is too long without a word: ours have no end."""


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


def values_by_name(ctx: Any) -> dict[str, Any]:
    """The values of all controls of the page by name, from what a callback was given."""
    given = [entry for group in (*ctx.inputs_list, *ctx.states_list) if isinstance(group, list) for entry in group]
    return {name: entry.get("value") for entry in given for name in entry["id"].values()}


def in_browser(app: "Dash", function: str, output: Any, *given: Any, initially: bool = False) -> None:
    """A callback that `explorer.js` answers by itself."""
    name = f"window.dash_clientside.explorer.{function}"
    app.clientside_callback(name, output, *given, prevent_initial_call=not initially)  # type: ignore[no-untyped-call]


def checked(controls: "Iterable[Component]", values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a view's controls, as a browser gave them; those of other controls are left out.

    Raises:
        PbbError: a value that its control does not offer, or too long a text.
    """
    asked: dict[str, Any] = {}
    for title, field in _fields(controls):
        (name,) = field.id.values()
        asked[name] = value = values.get(name)
        if hasattr(field, "options"):
            offered = [option["value"] for option in field.options]
            if value not in offered and (offered or value):
                raise PbbError(f"There is no {_quoted(value)} to choose under {title!r}: choose something else.")
        elif hasattr(field, "marks"):
            asked[name] = value = field.value if value is None else value
            if type(value) is not int or not field.min <= value <= field.max:
                raise PbbError(f"There is no {title} {_quoted(value)}: give one from {field.min} to {field.max}.")
        elif getattr(field, "type", "text") != "hidden":
            asked[name] = typed(title, value)
    return asked


def typed(title: str, value: Any) -> str:
    """What is typed into a control.

    Raises:
        PbbError: it is too long, or no text.
    """
    if not isinstance(value, str | None):
        raise PbbError(f"What is typed under {title!r} must be text, not {_quoted(value)}.")
    if len(value or "") > MOST_TYPED:
        raise PbbError(
            f"What is typed under {title!r} has {len(value or ''):,} characters: give at most {MOST_TYPED:,}."
        )
    return value or ""


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _fields(parts: "Iterable[Component]", title: str = "") -> "Iterator[tuple[str, Any]]":
    """The controls among components and all that is in them, each with the title it stands under."""
    for part in parts:
        if isinstance(getattr(part, "id", None), dict):
            yield title, part
        below = getattr(part, "children", None)
        if isinstance(below, list):
            legend = next((str(each.children) for each in below if type(each).__name__ == "Legend"), title)
            yield from _fields(below, legend)
        elif below is not None and hasattr(below, "children"):
            yield from _fields([below], title)
