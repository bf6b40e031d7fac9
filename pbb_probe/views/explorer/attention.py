"""Attention: where each head looks in one prompt, and which heads matter for its answer."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.views.explorer import live, program
from pbb_probe.views.explorer.cards import Asked, card, guarded
from pbb_probe.views.explorer.controls import choice
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.recorded import Recorded, attention_patterns, named, pbb, value_of
from pbb_probe.views.words import explorer as words

if TYPE_CHECKING:
    from dash.development.base_component import Component

PATH, TITLE = "/attention", "Attention"
FEW_LAYERS = 8
"""Models of as many layers are shown whole."""
MOST_CELLS = 2_000_000
"""Layers, heads, tokens that look and tokens that are looked at, of one figure."""


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """The call and the call beside it, the place heads are patched at, and the layers shown."""
    n_layers = explored.run.model().cfg.n_layers
    every = ["all"] if n_layers <= FEW_LAYERS else []
    return [
        *program.call_controls(explored, query),
        choice(query, "role", "heads patched at the", ("name", "input", "answer"), "answer"),
        choice(query, "layers", "layer", [*every, *map(str, range(n_layers))], few=0),
    ]


def content(asked: Asked) -> "list[Component]":
    """The patterns, each with its head's effect, and the heads in the order of their effects."""
    explored, role = asked.explored, asked["role"]
    call, pair = program.asked_call(asked), program.asked_pair(asked)
    prompts = value_of(pair).clean
    answer, beside = (side.labels.iloc[0] for side in (prompts, value_of(pair).corrupted))

    def effects() -> Recorded:
        swept: Recorded = explored.computed(heads_at, call, asked["swap"], asked["other"], role)
        return swept["z"].sel(role=role)

    def ranked() -> "Component":
        recovered = effects()
        title = words.HEADS.format(role=role, answer=answer["output"], **beside[["program", "call", "output"]])
        table = recovered.rename("recovery").to_dataframe().reset_index()
        said = words.EACH_HEAD.format(program=call.program, call=call.call)
        return card(asked, "heads", pbb.figures.head_effects(recovered, title=title), table, said)

    def looked() -> "Component":
        pattern, scores = explored.computed(patterns_of, call, asked["swap"], asked["other"]), None
        with contextlib.suppress(PbbError):  # where nothing tells the answers apart; `ranked` says so
            scores = effects()
        if asked["layers"] != "all":
            layer = [int(asked["layers"])]
            pattern, scores = pattern.sel(layer=layer), scores and scores.sel(layer=layer)
        if (size := value_of(pattern).size) > MOST_CELLS:
            raise PbbError(
                f"These patterns have {size:,} cells, and at most {MOST_CELLS:,} are drawn: choose a single layer or a "
                "shorter input."
            )
        tokens = pbb.prompts.token_texts(explored.model(), pair.clean)
        title = words.ATTENTION.format(text=prompts.texts[0])
        figure = pbb.figures.attention(pattern, tokens, live.roles_of(prompts), title, scores)
        return card(asked, "attention", figure, pattern.rename("attention").to_dataframe().reset_index(), words.LOOKING)

    return guarded(looked, ranked)


def heads_at(explored: Explored, call: live.Call, swap: str, other: str, role: str) -> Recorded:
    """Recovery of every head's z at a role, a Dataset with z (layer, head, role)."""
    return live.swept(explored, explored.computed(live.pair_of, call, swap, other), "z", [role])


def patterns_of(explored: Explored, call: live.Call, swap: str, other: str) -> Recorded:
    """Attention (layer, head, query, key) in the call."""
    pair, model = explored.computed(live.pair_of, call, swap, other), explored.model()
    live.refuse_long(value_of(model), value_of(pair).clean.tokens.shape[1])
    return named(attention_patterns(model, pair.clean).isel(prompt=0, drop=True), "pattern")
