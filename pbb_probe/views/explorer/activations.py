"""Activations: every prompt a point, layer after layer; a lasso selects prompts for this view and the others."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pbb_probe.errors import PbbError
from pbb_probe.hooking.sites import SITES
from pbb_probe.runs.opened import value_text
from pbb_probe.views import figures
from pbb_probe.views.explorer import layers, program
from pbb_probe.views.explorer.address import chosen, decode_selection, encode_selection
from pbb_probe.views.explorer.cards import Asked, Shown, answered, card, guarded, notice, python, table_of, tool
from pbb_probe.views.explorer.controls import choice, hidden, typed
from pbb_probe.views.explorer.explored import Busy, Explored
from pbb_probe.views.explorer.theme import themed

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from dash import Dash
    from dash.development.base_component import Component
    from plotly.graph_objects import Figure

PATH, TITLE = "/activations", "Activations"
METHODS = {"pca": "PCA", "lda": "LDA", "umap": "UMAP (takes a while)"}
MOST_OF_UMAP = 60_000_000
"""Prompts squared times layers that UMAP lays out: about a minute on two cores."""
LISTED = 300
"""Selected prompts that are listed."""
HOVER = ("program", "call", "output", "group", "correct")


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """Which activations, how they are laid out, and how they are coloured."""
    from dash import dcc, html

    labels, settings = explored.table("probing/prompts"), explored.run.config["probing"]
    stored = [site for site in settings["sites"] if site in SITES]
    colours = [str(name) for name in labels.columns if name not in ("template", "place", "call")]
    n_layers = explored.array("probing/activations").sizes["layer"]
    slider = dcc.Slider(
        0,
        n_layers - 1,
        1,
        value=int(chosen(query, "layer", [str(i) for i in range(n_layers)], str(n_layers - 1))),
        marks={i: str(i) for i in range(n_layers)},
        id={"quiet": "layer"},
        updatemode="drag",
    )
    play = tool("Play", "play", "Step through the layers", last=str(n_layers - 1))
    return [
        choice(query, "site", "site", [*stored, *(site for site in SITES if site not in stored)], few=0),
        choice(query, "role", "at the role", settings["roles"], "answer"),
        choice(query, "method", "laid out by", METHODS),
        choice(query, "variable", "LDA tells apart", settings["targets"], "output", few=0),
        choice(query, "axes", "axes", ("2", "3")),
        choice(query, "colour", "coloured by", colours, "group", few=0),
        html.Fieldset([html.Legend("layer"), html.Div([slider, play], className="slider")], className="control wide"),
        html.Fieldset(
            [
                html.Legend("select by value, such as output = 3, group = without_io"),
                dcc.Input(id="wanted", type="text", size="32", debounce=True, autoComplete="off"),
                html.Small(id="refused", role="status"),
            ],
            className="control",
        ),
        hidden(query, "selection"),
    ]


def content(asked: Asked) -> "list[Component]":
    """The scatter, and a place for what is selected in it."""
    from dash import dcc, html

    shown = Shown(_scatter(asked), *_about(asked))
    return [
        card(asked, shown, "activations", scroll=True),
        dcc.Store(id="n-prompts", data=len(asked.explored.table("probing/prompts"))),
        html.Div(id="selected"),
    ]


def _asked_points(asked: Asked) -> "xr.DataArray":
    where = (asked["site"], asked["role"], asked["method"], int(asked["axes"]), asked["variable"])
    return asked.explored.crunched(projected, *where)


def _layer(asked: Asked, points: "xr.DataArray") -> int:
    return int(asked["layer"]) if asked["layer"].isdecimal() else int(points["layer"].values[-1])


def _title(asked: Asked) -> str:
    by = asked["method"].upper() + (f" for {asked['variable']}" if asked["method"] == "lda" else "")
    return f"{asked['site']} at the {asked['role']}, {by}"


def _scatter(asked: Asked) -> "Figure":
    """The figure, without a slider of its own: the view has one."""
    labels, points = asked.explored.table("probing/prompts"), _asked_points(asked)
    figure = figures.activations(
        points,
        labels,
        asked["colour"],
        hover=[name for name in HOVER if name in labels],
        title=_title(asked),
        layer=_layer(asked, points),
        selected=decode_selection(asked["selection"], len(labels)),
        slider=False,
    )
    kept = " ".join(asked[name] for name in ("site", "role", "method", "axes", "variable"))
    return figure.update_layout(height=620, uirevision=kept)


def _about(asked: Asked) -> "tuple[str, pd.DataFrame, str]":
    """The Python, the table and the words of the layer and the selection that are shown."""
    explored, points = asked.explored, _asked_points(asked)
    labels, layer = explored.table("probing/prompts"), _layer(asked, points)
    target = f"target=labels[{asked['variable']!r}], " if asked["method"] == "lda" else ""
    mask, given = "", "None"
    if decode_selection(asked["selection"], len(labels)) is not None:
        mask = "from pbb_probe.views.explorer.address import decode_selection\n\n"
        given = f"decode_selection({asked['selection']!r}, len(labels))"
    hover = [name for name in HOVER if name in labels]
    code = f"""{mask}labels = run.table('probing/prompts')
{_acts_python(explored, asked["site"], asked["role"])}
points = pbb.project(
    acts, {asked["site"]!r}, {asked["role"]!r}, {asked["method"]!r}, {asked["axes"]},
    {target}fit=(labels['group'] == 'with_io').to_numpy(),
)
figure = pbb.figures.activations(
    points, labels, {asked["colour"]!r}, hover={hover}, title={_title(asked)!r}, layer={layer}, selected={given}
)"""
    words = (
        "Each layer is laid out on its own, fitted on with_io prompts and turned to agree with the layer below; the "
        "axes stay as they are from layer to layer. "
    )
    if asked["axes"] == "2":
        words += "Draw a lasso to select prompts."
    else:
        words += "Select prompts by value, or with a lasso in two dimensions."
    if "explained" in points.coords:
        words += f" These axes hold {float(points['explained'].sel(layer=layer)):.0%} of the variance at layer {layer}."
    return code, points.sel(layer=layer, drop=True).to_pandas().join(labels), words


def projected(explored: Explored, site: str, role: str, method: str, axes: int, variable: str) -> "xr.DataArray":
    """The points (layer, prompt, axis) of one site and role.

    Raises:
        PbbError: UMAP would take too long, the method has no solution, or what `project` refuses.
    """
    import numpy as np

    from pbb_probe.probing.projection import project

    labels = explored.table("probing/prompts")
    n_layers = explored.array("probing/activations").sizes["layer"]
    if method == "umap" and len(labels) > (most := int((MOST_OF_UMAP / n_layers) ** 0.5)):
        raise PbbError(
            f"UMAP of {len(labels):,} prompts at {n_layers} layers takes minutes, and at most {most:,} are laid out "
            "here: choose PCA or LDA, or call pbb.project."
        )
    acts = explored.computed(activations_at, site, role)
    fit = (labels["group"] == "with_io").to_numpy()
    target = labels[variable] if method == "lda" else None
    try:
        return project(acts, site, role, method, axes, target=target, fit=fit)  # type: ignore[arg-type]
    except np.linalg.LinAlgError as error:  # such as of a layer where all prompts of a value are alike
        raise PbbError(f"{method.upper()} has no solution for {site} at the {role}: choose PCA.") from error


def activations_at(explored: Explored, site: str, role: str) -> "xr.Dataset":
    """What the run keeps of a site and role, or what its model does there now, on the same prompts."""
    kept = explored.array("probing/activations")
    if site in kept and role in kept["role"]:
        return kept[[site]].sel(role=[role])
    from pbb_probe.hooking.capture import capture

    return capture(explored.model(), explored.prompts(), [site], roles=[role])


def _acts_python(explored: Explored, site: str, role: str) -> str:
    kept = explored.array("probing/activations")
    if site in kept and role in kept["role"]:
        return "acts = run.array('probing/activations')"
    return f"model = run.model()\nacts = pbb.capture(model, run.prompts(model), [{site!r}], roles=[{role!r}])"


def connect(app: "Dash", explored: Explored) -> None:
    """The slider and the lasso, which do not draw the view anew."""
    from dash import ALL, Input, Output, State, ctx, no_update

    app.clientside_callback(
        "window.dash_clientside.explorer.layer",
        Output("n-prompts", "title"),  # nothing changes but the figure
        Input({"quiet": "layer"}, "value"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        "window.dash_clientside.explorer.mark",
        Output("selected", "title"),
        Input({"quiet": "selection"}, "value"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        "window.dash_clientside.explorer.lasso",
        Output({"quiet": "selection"}, "value"),
        Input("figure-activations", "selectedData"),
        State("n-prompts", "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("figure-activations-code", "children"),
        Output("figure-activations-words", "children"),
        Output("figure-activations-csv", "href"),
        Output("figure-activations", "figure"),
        Input({"quiet": "layer"}, "value"),
        Input({"quiet": "selection"}, "value"),
        State({"control": ALL}, "value"),
        State("theme", "data"),
        prevent_initial_call=True,
    )
    def follow(layer: int, selection: str, _values, theme: str):
        """What stands beside the figure is of the layer and the selection that are shown."""
        values = _by_name(ctx) | {"layer": layer, "selection": selection}
        drawn = no_update  # in the plane the browser marks the selection itself
        try:
            asked = Asked.of(explored, controls, values, theme == "dark")
            code, table, words = _about(asked)
            if asked["axes"] == "3" and any("selection" in item["prop_id"] for item in ctx.triggered):
                drawn = themed(_scatter(asked), asked.dark)
        except (PbbError, Busy) as error:
            return no_update, str(error), no_update, no_update
        return python(explored, code), words, f"/csv/{explored.keep(code, table)}", drawn

    @app.callback(
        Output({"quiet": "selection"}, "value", allow_duplicate=True),
        Output("refused", "children"),
        Input("wanted", "value"),
        prevent_initial_call=True,
    )
    def select_by_value(wanted: str | None):
        try:
            if not (text := typed("select by value", wanted)).strip():
                return no_update, ""
            return encode_selection(matching(explored.table("probing/prompts"), text)), ""
        except PbbError as error:
            return no_update, str(error)

    @app.callback(
        Output("selected", "children"),
        Input({"quiet": "selection"}, "value"),
        Input("n-prompts", "data"),
        State({"control": ALL}, "value"),
        State("theme", "data"),
    )
    def list_selected(selection: str, _n, _values, theme: str):
        values = _by_name(ctx) | {"selection": selection}
        return answered(lambda: _selected(Asked.of(explored, controls, values, theme == "dark")))


def _by_name(ctx: Any) -> dict[str, Any]:
    """The values of the controls by name, which are the first state of a callback."""
    return {entry["id"]["control"]: entry.get("value") for entry in ctx.states_list[0]}


def matching(labels: "pd.DataFrame", wanted: str) -> "np.ndarray":
    """The prompts [prompt] whose labels have all of the values named, as in `output = 3, group = without_io`.

    Raises:
        PbbError: it is not written so, names a label that there is not, or no prompt has these values.
    """
    import numpy as np

    found = np.ones(len(labels), bool)
    for part in filter(str.strip, re.split(r",\s*(?=\w+\s*=|$)", wanted)):
        name, equals, value = (text.strip() for text in part.partition("="))
        if not equals or name not in labels:
            raise PbbError(f"{part.strip()!r} cannot be selected: write label = value; there are {', '.join(labels)}.")
        found &= (labels[name].map(value_text) == value).to_numpy()
    if not found.any():
        raise PbbError(f"No prompt has {wanted.strip()}.")
    return found


def _selected(asked: Asked) -> "list[Component]":
    """The selected prompts as a list, and what is read of them beside the others."""
    from dash import dcc, html

    labels = asked.explored.table("probing/prompts")
    selected = decode_selection(asked["selection"], len(labels))
    if selected is None:
        return [notice("No prompts are selected: draw a lasso around some points.", "hint")]
    listed, kept = labels[selected], {name: asked[name] for name in ("selection", "role", "variable")}
    shown = [name for name in (*HOVER, "template", "steps") if name in labels]
    head = html.Div(
        [
            html.H2(f"{len(listed)} of {len(labels)} prompts are selected"),
            html.Div(
                [
                    dcc.Link(
                        "Layer by layer of these prompts",
                        href=f"{layers.PATH}?{urlencode({'by': 'selection', **kept})}",
                        className="tool",
                    ),
                    tool("Clear the selection", "clear"),
                ],
                className="tools",
            ),
            html.P(_shares(labels, selected)),
        ],
        className="card",
    )
    first = listed.head(LISTED)
    links = [
        f"{program.PATH}?{urlencode({'program': row['program'], 'call': row['call'], 'template': row['template']})}"
        for row in first.to_dict(orient="records")
    ]
    table = table_of(first[shown], f"The first {len(first)} of them; each leads to its program", links=links)
    compared = guarded(
        lambda: layers.content(Asked(asked.explored, {**asked.values, "by": "selection", "subset": "all"}, asked.dark))
    )
    return [head, html.Div([table, html.Div(compared)], className="pair")]


def _shares(labels: "pd.DataFrame", selected) -> str:
    """How the selected prompts differ from all: groups and right answers."""
    words = [
        f"{name}: {(labels['group'][selected] == name).mean():.0%} (of all {(labels['group'] == name).mean():.0%})"
        for name in dict.fromkeys(labels["group"])
    ]
    right = labels["correct"].astype(bool)
    return "; ".join([*words, f"answered right: {right[selected].mean():.0%} (of all {right.mean():.0%})"]) + "."
