"""Activations: every prompt a point, layer after layer; a lasso selects prompts for this view and the others."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.sites import SITES
from pbb_probe.views.explorer import selected
from pbb_probe.views.explorer.address import chosen, decode_selection, encode_selection
from pbb_probe.views.explorer.cards import Asked, answered, card, tool
from pbb_probe.views.explorer.controls import choice, hidden, in_browser, typed, values_by_name
from pbb_probe.views.explorer.explored import Busy, Explored
from pbb_probe.views.explorer.recorded import Recorded, decoded, named, pbb, project, python_of, value_of
from pbb_probe.views.explorer.theme import themed
from pbb_probe.views.words import explorer as words

if TYPE_CHECKING:
    import pandas as pd
    from dash import Dash
    from dash.development.base_component import Component

PATH, TITLE = "/activations", "Activations"
METHODS = {"pca": "PCA", "lda": "LDA", "umap": "UMAP (takes a while)"}
MOST_OF_UMAP = 60_000_000
"""Prompts squared times layers that UMAP lays out: about a minute on two cores."""
POINTS = ("site", "role", "method", "axes", "variable")
"""The controls that say where points lie."""


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """Which activations, how they are laid out, and how they are coloured."""
    from dash import dcc, html

    labels, settings = value_of(explored.labels()), explored.run.config.probing
    stored = [site for site in settings.sites if site in SITES]
    colours = [
        str(name) for name in labels.columns if name not in ("template", "place", "call", "completion", "source")
    ]
    n_layers = explored.run.array("probing/activations").sizes["layer"]
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
        choice(query, "role", "at the role", settings.roles, "answer"),
        choice(query, "method", "laid out by", METHODS),
        choice(query, "variable", "LDA tells apart", settings.targets, "output", few=0),
        choice(query, "axes", "axes", ("2", "3")),
        choice(query, "colour", "coloured by", colours, "group", few=0),
        html.Fieldset([html.Legend("layer"), html.Div([slider, play], className="slider")], className="control wide"),
        html.Fieldset(
            [
                html.Legend(f"select by value, such as {words.SUCH_AS}"),
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

    n_prompts = len(value_of(asked.explored.labels()))
    scatter = card(asked, "activations", *_scatter(asked), scroll=True, **_layout(asked))
    return [scatter, dcc.Store(id="n-prompts", data=n_prompts), html.Div(id="selected")]


def _layout(asked: Asked) -> dict[str, Any]:
    """The page has a slider of its own, and keeps what was zoomed while the points are the same."""
    bare = {"sliders": None, "updatemenus": None, "margin_b": 60, "height": 620}
    return bare | {"uirevision": " ".join(asked[name] for name in POINTS)}


def _scatter(asked: Asked) -> tuple[Recorded, "pd.DataFrame", str]:
    """The figure, the table of its layer, and words about it."""
    labels, method = asked.explored.labels(), asked["method"]
    points = asked.explored.crunched(projected, *(asked[name] for name in POINTS))
    known, laid_out = value_of(labels), value_of(points)
    layer = int(asked["layer"]) if asked["layer"].isdecimal() else int(laid_out["layer"].values[-1])
    by = method.upper() + (f" for {asked['variable']}" if method == "lda" else "")
    n, selection = len(known), asked["selection"]
    figure = pbb.figures.activations(
        points,
        labels,
        asked["colour"],
        hover=[name for name in selected.HOVER if name in known],
        title=words.ACTIVATIONS.format(site=asked["site"], role=asked["role"], by=by),
        layer=layer,
        selected=None if decode_selection(selection, n) is None else decoded(selection, n),
    )
    said = words.LAID_OUT + (words.DRAW_A_LASSO if asked["axes"] == "2" else words.SELECT_BY_VALUE)
    if "explained" in laid_out.coords:
        share = float(laid_out["explained"].sel(layer=layer))
        said += words.EXPLAINED.format(share=share, layer=layer)
    return figure, laid_out.sel(layer=layer, drop=True).to_pandas().join(known), said


def projected(explored: Explored, site: str, role: str, method: str, axes: str, variable: str) -> Recorded:
    """The points (layer, prompt, axis) of one site and role.

    Raises:
        PbbError: UMAP would take too long, the method has no solution, or what `project` refuses.
    """
    from numpy.linalg import LinAlgError

    labels = explored.labels()
    n_layers, n = explored.run.array("probing/activations").sizes["layer"], len(value_of(labels))
    if method == "umap" and n > (most := int((MOST_OF_UMAP / n_layers) ** 0.5)):
        raise PbbError(
            f"UMAP of {n:,} prompts at {n_layers} layers takes minutes, and at most {most:,} are laid out here: choose "
            "PCA or LDA, or call probing.projection.project."
        )
    acts = explored.computed(activations_at, site, role)
    target = {"target": labels[variable]} if method == "lda" else {}
    fit = labels["group"].eq("with_io").to_numpy()
    points = named(project(acts, site, role, method, int(axes), **target, fit=fit), "points")
    try:
        value_of(points)
    except LinAlgError as error:  # such as of a layer where all prompts of a value are alike
        raise PbbError(f"{method.upper()} has no solution for {site} at the {role}: choose PCA.") from error
    return points


def activations_at(explored: Explored, site: str, role: str) -> Recorded:
    """What the run keeps of a site and role, or what its model does there now, on the same prompts."""
    run, kept = explored.recorded(), explored.run.array("probing/activations")
    if site in kept and role in kept["role"]:
        return named(run.array("probing/activations"), "acts")
    model = explored.model()
    return named(pbb.capture(model, run.prompts(model), [site], roles=[role]), "acts")


def connect(app: "Dash", explored: Explored) -> None:
    """The slider and the lasso, which do not draw the view anew."""
    from dash import ALL, Input, Output, State, ctx, no_update

    at_layer, selection = (Input({"quiet": name}, "value") for name in ("layer", "selection"))
    lasso, n_prompts = Input("figure-activations", "selectedData"), State("n-prompts", "data")
    in_browser(app, "layer", Output("n-prompts", "title"), at_layer)  # nothing changes but the figure
    in_browser(app, "mark", Output("selected", "title"), selection)
    in_browser(app, "lasso", Output({"quiet": "selection"}, "value"), lasso, n_prompts)

    @app.callback(
        Output("figure-activations-code", "children"),
        Output("figure-activations-words", "children"),
        Output("figure-activations-csv", "href"),
        Output("figure-activations", "figure"),
        at_layer,
        selection,
        State({"control": ALL}, "value"),
        State("theme", "data"),
        prevent_initial_call=True,
    )
    def follow(layer: int, selection: str, _values: Any, theme: str) -> tuple[Any, ...]:
        """What stands beside the figure is of the layer and the selection that are shown."""
        values = values_by_name(ctx) | {"layer": layer, "selection": selection}
        drawn = no_update  # in the plane the browser marks the selection itself
        try:
            asked = Asked.of(explored, controls, values, theme == "dark")
            figure, table, said = _scatter(asked)
            if asked["axes"] == "3" and any("selection" in item["prop_id"] for item in ctx.triggered):
                drawn = themed(value_of(figure).update_layout(_layout(asked), overwrite=True), asked.dark)
        except (PbbError, Busy) as error:
            return no_update, str(error), no_update, no_update
        code = python_of(named(figure, "figure"))
        return code, said, f"/csv/{explored.keep(code, table)}", drawn

    @app.callback(
        Output({"quiet": "selection"}, "value", allow_duplicate=True),
        Output("refused", "children"),
        Input("wanted", "value"),
        prevent_initial_call=True,
    )
    def select_by_value(wanted: str | None) -> tuple[Any, str]:
        try:
            if not (text := typed("select by value", wanted)).strip():
                return no_update, ""
            return encode_selection(selected.matching(value_of(explored.labels()), text)), ""
        except PbbError as error:
            return no_update, str(error)

    @app.callback(
        Output("selected", "children"),
        selection,
        Input("n-prompts", "data"),
        State({"control": ALL}, "value"),
        State("theme", "data"),
    )
    def list_selected(selection: str, _n: int, _values: Any, theme: str) -> list[Any]:
        values = values_by_name(ctx) | {"selection": selection}
        return answered(lambda: selected.content(Asked.of(explored, controls, values, theme == "dark")))
