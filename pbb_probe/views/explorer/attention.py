"""Attention: where each head looks in one prompt, and which heads matter for its answer."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.texts import token_texts
from pbb_probe.views import figures
from pbb_probe.views.explorer import live, program
from pbb_probe.views.explorer.cards import Asked, Shown, card, guarded
from pbb_probe.views.explorer.controls import choice
from pbb_probe.views.explorer.explored import Explored

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from dash.development.base_component import Component

PATH, TITLE = "/attention", "Attention"
FEW_LAYERS = 8
"""Models of as many layers are shown whole."""
MOST_CELLS = 2_000_000
"""Layers, heads, tokens that look and tokens that are looked at, of one figure."""


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """The call and the call beside it, the place heads are patched at, and the layers shown."""
    n_layers = explored.model().cfg.n_layers
    every = ["all"] if n_layers <= FEW_LAYERS else []
    return [
        *program.call_controls(explored, query),
        choice(query, "role", "heads patched at the", ("name", "input", "answer"), "answer"),
        choice(query, "layers", "layer", [*every, *map(str, range(n_layers))], few=0),
    ]


def content(asked: Asked) -> "list[Component]":
    """The patterns, each with its head's effect, and the heads in the order of their effects."""
    call, pair = program.asked_call(asked), program.asked_pair(asked)
    own, other = pair.clean.labels.iloc[0], pair.corrupted.labels.iloc[0]
    name = f"{call.program}({call.call})"

    def effects() -> "xr.DataArray":
        return asked.explored.computed(heads_at, call, asked["swap"], asked["other"], asked["role"])

    def ranked() -> "Component":
        recovered = effects()
        title = f"Heads at the {asked['role']} that bring {own['output']} back where {_of(other)}"
        code = (
            live.pair_python(pair)
            + live.swept_python("z", [asked["role"]])
            + f"figure = pbb.figures.head_effects(recovered['z'].sel(role={asked['role']!r}), title={title!r})"
        )
        words = f"Each head's output (z) of {name} is put into the other call, one at a time."
        table = recovered.rename("recovery").to_dataframe().reset_index()
        return card(asked, Shown(figures.head_effects(recovered, title=title), code, table, words), "heads")

    def looked() -> "Component":
        pattern, scores = asked.explored.computed(patterns_of, call), None
        made = live.pair_python(pair)
        with contextlib.suppress(PbbError):  # where nothing tells the answers apart; `ranked` says so
            scores = effects()
            made += live.swept_python("z", [asked["role"]])
        chosen = ""
        if asked["layers"] != "all":
            layer = int(asked["layers"])
            pattern, chosen = pattern.sel(layer=[layer]), f".sel(layer=[{layer}])"
            scores = None if scores is None else scores.sel(layer=[layer])
        if pattern.size > MOST_CELLS:
            raise PbbError(
                f"These patterns have {pattern.size:,} cells, and at most {MOST_CELLS:,} are drawn: choose a single "
                "layer or a shorter input."
            )
        tokens = token_texts(asked.explored.model(), pair.clean)
        roles = {role: int(place[0]) for role, place in pair.clean.roles.items()}
        title = f"Where heads look in: {pair.clean.texts[0]}"
        code = (
            made
            + f"pattern = pbb.attention_patterns(model, pair.clean).isel(prompt=0){chosen}\n"
            + "tokens = pbb.token_texts(model, pair.clean)\n"
            + "roles = {role: int(place[0]) for role, place in pair.clean.roles.items()}\n"
            + (
                "scores = None\n"
                if scores is None
                else f"scores = recovered['z'].sel(role={asked['role']!r}){chosen}\n"
            )
            + f"figure = pbb.figures.attention(pattern, tokens, roles, {title!r}, scores)"
        )
        words = "Rows are the tokens that look, columns those that are looked at. The number is the head's recovery."
        table = pattern.rename("attention").to_dataframe().reset_index()
        figure = figures.attention(pattern, tokens, roles, title, scores)
        return card(asked, Shown(figure, code, table, words), "attention")

    return guarded(looked, ranked)


def _of(row: "pd.Series") -> str:
    return f"{row['program']}({row['call']}) = {row['output']}"


def heads_at(explored: Explored, call: live.Call, swap: str, other: str, role: str) -> "xr.DataArray":
    """Recovery (layer, head) of every head's z at a role."""
    pair = explored.computed(live.pair_of, call, swap, other)
    return live.swept(explored, pair, "z", [role])["z"].sel(role=role, drop=True)


def patterns_of(explored: Explored, call: live.Call) -> "xr.DataArray":
    """Attention (layer, head, query, key) in the call."""
    from pbb_probe.hooking.attention import attention_patterns

    prompts = explored.computed(live.prompt_of, call)
    return attention_patterns(explored.model(), prompts).isel(prompt=0, drop=True)
