"""The prompts that are selected, by a lasso or by their values: a list of them, and what is read of them."""

import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pbb_probe.errors import PbbError
from pbb_probe.runs.opened import value_text
from pbb_probe.views.explorer import layers, program
from pbb_probe.views.explorer.address import decode_selection
from pbb_probe.views.explorer.cards import Asked, guarded, notice, table_of, tool
from pbb_probe.views.explorer.recorded import value_of
from pbb_probe.views.words import explorer as words

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from dash.development.base_component import Component

LISTED = 300
"""Selected prompts that are listed."""
MEANING = ("function", "novelty", "decisive", "explained_by", "effective")
"""What a program computes and what its answers show, where a run knows it."""
HOVER = ("program", "call", "output", "group", "answered", *MEANING)
"""What is said of a prompt where there is little room."""


def content(asked: Asked) -> "list[Component]":
    """The selected prompts as a list, and what is read of them beside the others."""
    from dash import dcc, html

    labels = value_of(asked.explored.labels())
    selected = decode_selection(asked["selection"], len(labels))
    if selected is None:
        return [notice(words.SELECT_HERE, "hint")]
    kept = {"by": "selection", **{name: asked[name] for name in ("selection", "role", "variable")}}
    tools = [
        dcc.Link("Layer by layer of these prompts", href=f"{layers.PATH}?{urlencode(kept)}", className="tool"),
        tool("Clear the selection", "clear"),
    ]
    title = html.H2(f"{selected.sum()} of {len(labels)} prompts are selected")
    head = html.Div([title, html.Div(tools, className="tools"), html.P(_shares(labels, selected))], className="card")
    first = labels[selected].head(LISTED)
    calls = first[["program", "call", "template"]].to_dict(orient="records")
    table = table_of(
        first[[name for name in (*HOVER, "template", "steps") if name in labels]],
        f"The first {len(first)} of them; each leads to its program",
        links=[f"{program.PATH}?{urlencode(call)}" for call in calls],
    )
    values = {**asked.values, "by": "selection", "subset": "all"}
    compared = guarded(lambda: layers.content(Asked(asked.explored, values, asked.dark)))
    return [head, html.Div([table, html.Div(compared)], className="pair")]


def _shares(labels: "pd.DataFrame", selected: "np.ndarray") -> str:
    """How the selected prompts differ from all: groups and right answers."""
    shares = {name: labels["group"] == name for name in dict.fromkeys(labels["group"])}
    shares["answered right"] = labels["answered"].astype(bool)
    said = [f"{name}: {of[selected].mean():.0%} (of all {of.mean():.0%})" for name, of in shares.items()]
    return "; ".join(said) + "."


def matching(labels: "pd.DataFrame", wanted: str) -> "np.ndarray":
    """The prompts [prompt] whose labels have all of the values named, as in `output = 3, group = without_io`.

    Raises:
        PbbError: it is not written so, names a label that there is not, or no prompt has these values.
    """
    import numpy as np

    matches = np.ones(len(labels), bool)
    for part in filter(str.strip, re.split(r",\s*(?=\w+\s*=|$)", wanted)):
        name, equals, value = (text.strip() for text in part.partition("="))
        if not equals or name not in labels:
            raise PbbError(f"{part.strip()!r} cannot be selected: write label = value; there are {', '.join(labels)}.")
        matches &= (labels[name].map(value_text) == value).to_numpy()
    if not matches.any():
        raise PbbError(f"No prompt has {wanted.strip()}.")
    return matches
