"""Program: one call on its way up the layers: what it is, what the model answers, what is used and what is read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.texts import likely_answers, token_texts
from pbb_probe.programs.program import GROUPS
from pbb_probe.programs.templates import templates
from pbb_probe.runs.opened import value_text
from pbb_probe.views import figures
from pbb_probe.views.explorer import live
from pbb_probe.views.explorer.address import chosen
from pbb_probe.views.explorer.cards import Asked, Shown, card, guarded, notice
from pbb_probe.views.explorer.controls import choice, text
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.figures.tokens import signed
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from dash import Dash
    from dash.development.base_component import Component
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts
    from pbb_probe.patching.pairs import Pairs

PATH, TITLE = "/program", "Program"
PATCHED = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """The call, the call beside it, and the site that is patched."""
    return [*call_controls(explored, query), choice(query, "site", "site patched", PATCHED, "resid_pre")]


def call_controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """Group, program, input, and what is put beside them; shared with the view of attention."""
    entries = explored.run.corpus.by_name
    asked = entries.get(query.get("program", ""))
    group = asked.group if asked else chosen(query, "group", GROUPS, "without_io")
    programs = programs_of(explored, group)
    name = chosen(query, "program", list(programs))
    entry = entries[name]
    return [
        choice({**query, "group": group}, "group", "group", GROUPS),
        choice(query, "program", "program", programs, name, few=0),
        text(query, "call", "input (type any)", entry.traces[0].call_text, 10),
        choice(query, "swap", "patched from", {"input": "another input", "program": "another program"}, "input"),
        text(query, "other", "which (empty: any)", "", 10),
        choice(query, "template", "wording", templates(entry.program.family, "direct"), few=0),
    ]


def programs_of(explored: Explored, group: str) -> dict[str, str]:
    """The programs of a group with their steps, by name."""
    programs = [entry.program for entry in explored.run.corpus.of(group)]  # type: ignore[arg-type]
    steps = {program.name: program.facts.get("steps", "?") for program in programs}
    return {name: f"{name} ({steps_words(n)})" for name, n in steps.items()}


def connect(app: "Dash", explored: Explored) -> None:
    """Another group has other programs, and another program other inputs."""
    from dash import Input, Output, State, no_update

    @app.callback(
        Output({"control": "program"}, "options"),
        Output({"control": "program"}, "value"),
        Input({"control": "group"}, "value"),
        State({"control": "program"}, "value"),
        prevent_initial_call=True,
    )
    def of_group(group: str, program: str):
        programs = programs_of(explored, group)
        options = [{"label": words, "value": name} for name, words in programs.items()]
        return options, program if program in programs else next(iter(programs), None)

    @app.callback(
        Output({"control": "call"}, "value"),
        Output({"control": "template"}, "options"),
        Output({"control": "template"}, "value"),
        Input({"control": "program"}, "value"),
        State({"control": "call"}, "value"),
        State({"control": "template"}, "value"),
        prevent_initial_call=True,
    )
    def of_program(program: str, call: str, template: str):
        entry = explored.run.corpus.by_name.get(program)
        if entry is None:
            return no_update, no_update, no_update
        inputs, known = [t.call_text for t in entry.traces], list(templates(entry.program.family, "direct"))
        return call if call in inputs else inputs[0], known, template if template in known else known[0]


def asked_call(asked: Asked) -> live.Call:
    """What the controls say."""
    return live.call_asked(asked.explored, asked["program"], asked["call"], asked["template"])


def asked_pair(asked: Asked) -> "Pairs":
    """The call and the one beside it."""
    return asked.explored.computed(live.pair_of, asked_call(asked), asked["swap"], asked["other"])


def content(asked: Asked) -> "list[Component]":
    """The call in words and tokens, its answer, its patching heat map, and its readings."""
    call = asked_call(asked)
    try:
        prompts = asked.explored.computed(live.prompt_of, call)
    except PbbError as error:  # the program can be read all the same
        return [notice(str(error)), _source(asked.explored, call.program)]
    name = f"{call.program}({call.call})"

    def answer() -> "Component":
        table = asked.explored.computed(_answers, call)
        return answers_card(asked, table, prompts, call.python(), "answer")

    def patched() -> "Component":
        pair = asked_pair(asked)
        own, other = pair.clean.labels.iloc[0], pair.corrupted.labels.iloc[0]
        title = f"Recovery of {name} = {own['output']} in {other['program']}({other['call']}) = {other['output']}"
        words = (
            f"One activation ({asked['site']}) of the first call is put into the second: 1 brings the first call's "
            "answer back, 0 changes nothing. Tokens that both calls share carry nothing before the first that differs."
        )
        recovered = asked.explored.computed(_recovered, call, asked["swap"], asked["other"], asked["site"])
        return tokens_card(asked, recovered, pair, live.pair_python(pair), title, words)

    def read() -> "Component":
        table = asked.explored.computed(live.readings_of, call)
        title = f"What is read of {name} after each layer"
        code = (
            call.python()
            + "table = run.readings(model, prompts)\n"
            + f"figure = pbb.figures.readings(table, title={title!r})"
        )
        words = (
            "Probes fitted on other programs than this one, and the model's own unembedding. The value that is read "
            "stands in the cell, its probability is the colour, and right values are outlined."
        )
        return card(asked, Shown(figures.readings(table, title=title), code, table, words), "readings")

    return guarded(lambda: _words(asked, call, prompts), lambda: _beside(answer, patched), read)


def _beside(*parts) -> "Component":
    from dash import html

    return html.Div(guarded(*parts), className="pair")


def _answers(explored: Explored, call: live.Call) -> "pd.DataFrame":
    return likely_answers(explored.model(), explored.computed(live.prompt_of, call))


def _recovered(explored: Explored, call: live.Call, swap: str, other: str, site: str) -> "xr.Dataset":
    return live.swept(explored, explored.computed(live.pair_of, call, swap, other), site, None)


def answers_card(asked: Asked, table: "pd.DataFrame", prompts: "Prompts", made: str, name: str) -> "Component":
    """The likeliest answers of a single prompt; `made` is the Python for `model` and `prompts`."""
    shares = table.groupby("answer", sort=False)["probability"].sum()  # several tokens may be one text
    right = str(prompts.labels["output"].iloc[0]) if "output" in prompts.labels else None
    title = f"What comes next in: {prompts.texts[0]}"
    code = (
        made
        + "shares = pbb.likely_answers(model, prompts).groupby('answer', sort=False)['probability'].sum()\n"
        + f"figure = pbb.figures.answers(shares, right={right!r}, title={title!r})"
    )
    words = ""
    if right is not None:
        known = right in shares.index
        words = f"The answer {right} " + (
            f"has {shares[right]:.1%}." if known else "is not here, or is several tokens."
        )
    figure = figures.answers(shares, right=right, title=title)
    return card(asked, Shown(figure, code, table, words), name)


def tokens_card(
    asked: Asked, recovered: "xr.Dataset", pair: "Pairs", made: str, title: str, words: str, model: str = "finetuned"
) -> "Component":
    """Recovery at each token of a pair; `made` is the Python for `model` and `pair`."""
    clean, corrupted = (token_texts(asked.explored.model(model), side) for side in (pair.clean, pair.corrupted))
    roles = {role: int(place[0]) for role, place in pair.clean.roles.items()}
    code = (
        made
        + live.swept_python(asked["site"])
        + "tokens = [pbb.token_texts(model, side) for side in (pair.clean, pair.corrupted)]\n"
        + "roles = {role: int(place[0]) for role, place in pair.clean.roles.items()}\n"
        + f"figure = pbb.figures.token_heatmap(recovered, *tokens, roles=roles, title={title!r})"
    )
    table = recovered[asked["site"]].rename("recovery").to_dataframe().reset_index()
    figure = figures.token_heatmap(recovered, clean, corrupted, roles=roles, title=title)
    return card(asked, Shown(figure, code, table, words), "patching")


def _words(asked: Asked, call: live.Call, prompts: "Prompts") -> "Component":
    """Source, trace and tokens, as text and nothing else."""
    from dash import html

    explored = asked.explored
    row = prompts.labels.iloc[0]
    known = row["place"] >= 0
    seen = "its answer was shown in training" if row["seen"] else "its answer was never shown"
    facts = {
        "group": row["group"],
        "family": row["family"],
        "input": f"{call.call} ({seen if known else 'not an input of the corpus'})",
        **{
            key: value_text(value)
            for key, value in row.items()
            if str(key).startswith(("state_", "branch_", "iterations_"))
        },
        "output": value_text(row["output"]),
    }
    facts = {key: value for key, value in facts.items() if value != ""}
    return html.Section(
        [
            html.H2(f"{call.program}({call.call})"),
            html.Div(
                [html.Span([html.B(f"{key.replace('_', ' ')}: "), str(value)]) for key, value in facts.items()],
                className="facts",
            ),
            _source(explored, call.program),
            tokens_of(explored.model(), prompts),
        ],
        className="card",
    )


def _source(explored: Explored, program: str) -> "Component":
    from dash import html

    return html.Pre(explored.run.corpus.by_name[program].program.source)


def tokens_of(model: "TransformerBridge", prompts: "Prompts") -> "Component":
    """The tokens of a single prompt, those of roles named."""
    from dash import html

    places: dict[int, list[str]] = {}
    for role, span in prompts.spans.items():
        for place in range(int(span[0, 0]), int(span[0, 1]) + 1):
            places.setdefault(place, []).append(role)
    return html.Div(
        [
            html.Span(
                [signed(token), html.Small(" ".join(places[i])) if i in places else ""],
                className="token role" if i in places else "token",
            )
            for i, token in enumerate(token_texts(model, prompts))
        ]
    )
