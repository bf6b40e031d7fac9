"""The requests by which a browser fills the explorer's pages, made without one."""

import json
from typing import Any

from dash_parts import control_values, parts_of

from pbb_probe.views.explorer.app import PAGES
from pbb_probe.views.explorer.explored import Explored

CALLBACKS = "/_dash-update-component"


def kinds_of(controls: list) -> dict[str, str]:
    """Is each control one that draws its view anew (`control`), or a `quiet` one? By name."""
    ids = [part.id for part in parts_of(controls) if isinstance(getattr(part, "id", None), dict)]
    return {name: kind for each in ids for kind, name in each.items()}


def body_of(app, output: str, values: dict[str, Any], kinds: dict[str, str], path: str = "/") -> dict:
    """The body of a request for the callback whose output begins so; `values` are the page's controls and the rest."""
    (name,) = [key for key, made in app.callback_map.items() if key.startswith(output) and "callback" in made]
    callback = app.callback_map[name]
    made = callback["output"] if isinstance(callback["output"], list) else [callback["output"]]

    def entry(key: str, attribute: str):
        if not key.startswith("{"):
            return {"id": key, "property": attribute, "value": path if attribute == "pathname" else values.get(key)}
        ((kind, wanted),) = json.loads(key).items()
        names = list(PAGES) if kind == "link" else [n for n, k in kinds.items() if k == kind]
        some = [{"id": {kind: n}, "property": attribute, "value": values.get(n)} for n in names]
        return some if wanted == ["ALL"] else next(each for each in some if each["id"][kind] == wanted)

    outputs = [entry(each.component_id_str(), each.component_property) for each in made]
    body = {"output": name, "outputs": outputs if isinstance(callback["output"], list) else outputs[0]}
    for part in ("inputs", "state"):
        body[part] = [entry(each["id"], each["property"]) for each in callback[part]]
    return {**body, "changedPropIds": []}


def bodies(app, explored: Explored) -> dict[str, dict]:
    """A request of each kind, all of them answered: what a page is, what is in it, and what follows its controls."""
    found = {}
    rest = {"theme": "light", "n-prompts": 1, "search": "", "wanted": "output = 3", "address": ""}
    for path, page in PAGES.items():
        controls = page.controls(explored, {})
        values, kinds = control_values(controls) | rest, kinds_of(controls)
        found[f"page {path}"] = body_of(app, "..view", values, kinds, path)
        found[f"view {path}"] = body_of(app, "content", values, kinds, path)
        if path == "/program":
            found["group"] = body_of(app, '..{"control":"program"}', values, kinds)
            found["program"] = body_of(app, '..{"control":"call"}', values, kinds)
        if path == "/activations":
            found["layer"] = body_of(app, "..figure-activations-code", values, kinds)
            found["wanted"] = body_of(app, '..{"quiet":"selection"}', values, kinds)
            found["selected"] = body_of(app, "selected.children", values, kinds)
    return found
