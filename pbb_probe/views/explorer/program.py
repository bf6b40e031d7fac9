"""Program: one call on its way up the layers: what it is, what the model answers, what is used and what is read."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pbb_probe.errors import PbbError
from pbb_probe.hooking.texts import token_texts
from pbb_probe.programs.program import label
from pbb_probe.programs.templates import templates
from pbb_probe.runs.opened import value_text
from pbb_probe.views.explorer import live
from pbb_probe.views.explorer.address import chosen
from pbb_probe.views.explorer.cards import Asked, card, guarded, notice, table_of
from pbb_probe.views.explorer.controls import choice, text
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.recorded import Recorded, named, pbb, value_of
from pbb_probe.views.figures.tokens import signed
from pbb_probe.views.words import explorer as words
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    from dash import Dash
    from dash.development.base_component import Component
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts
    from pbb_probe.programs.meaning import Meaning

PATH, TITLE = "/program", "Program"
PATCHED = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """The call, the call beside it, and the site that is patched."""
    return [*call_controls(explored, query), choice(query, "site", "site patched", PATCHED, "resid_pre")]


def call_controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """Group, program, input, and what is put beside them; shared with the view of attention."""
    entries = explored.run.corpus.by_name
    asked = entries.get(query.get("program", ""))
    group = asked.group if asked else chosen(query, "group", explored.groups, "without_io")
    programs = programs_of(explored, group)
    name = chosen(query, "program", list(programs))
    entry = entries[name]
    return [
        choice({**query, "group": group}, "group", "group", explored.groups),
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
    def of_group(group: str, program: str) -> tuple[list[dict[str, str]], str | None]:
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
    def of_program(program: str, call: str, template: str) -> tuple[Any, ...]:
        entry = explored.run.corpus.by_name.get(program)
        if entry is None:
            return no_update, no_update, no_update
        inputs, known = [t.call_text for t in entry.traces], list(templates(entry.program.family, "direct"))
        return call if call in inputs else inputs[0], known, template if template in known else known[0]


def asked_call(asked: Asked) -> live.Call:
    """What the controls say."""
    return live.call_asked(asked.explored, asked["program"], asked["call"], asked["template"])


def asked_pair(asked: Asked) -> Recorded:
    """The call and the one beside it."""
    pair: Recorded = asked.explored.computed(live.pair_of, asked_call(asked), asked["swap"], asked["other"])
    return pair


def content(asked: Asked) -> "list[Component]":
    """The call in words and tokens, its answer, its patching heat map, and its readings."""
    call, explored = asked_call(asked), asked.explored
    try:
        prompts = explored.computed(live.prompt_of, call)
    except PbbError as error:  # the program can be read all the same
        return [notice(str(error)), _source(explored, call.program)]

    def answer() -> "Component":
        return answers_card(asked, "answer", prompts, explored.computed(_answers, call))

    def patched() -> "Component":
        pair = asked_pair(asked)
        clean, corrupted = (side.labels.iloc[0] for side in (value_of(pair).clean, value_of(pair).corrupted))
        title = words.RECOVERY.format(
            program=call.program, call=call.call, answer=clean["output"], beside=words.CALL.format(**corrupted)
        )
        recovered = explored.computed(_recovered, call, asked["swap"], asked["other"], asked["site"])
        return tokens_card(asked, recovered, pair, title, words.PATCHED.format(site=asked["site"]))

    def read() -> "Component":
        table = explored.computed(live.readings_of, call)
        figure = pbb.figures.readings(table, title=words.READINGS.format(program=call.program, call=call.call))
        return card(asked, "readings", figure, table, words.HELD_OUT)

    facts, calls = lambda: _facts(asked, call, value_of(prompts)), lambda: _calls(asked, call.program)
    return guarded(facts, lambda: side_by_side(answer, patched), read, calls)


def side_by_side(*parts: "Callable[[], Component | list[Component]]") -> "Component":
    """Parts of a page beside each other."""
    from dash import html

    return html.Div(guarded(*parts), className="pair")


def _answers(explored: Explored, call: live.Call) -> Recorded:
    return live.answers_of(explored, explored.computed(live.prompt_of, call))


def _recovered(explored: Explored, call: live.Call, swap: str, other: str, site: str) -> Recorded:
    return live.swept(explored, explored.computed(live.pair_of, call, swap, other), site, None)


def answers_card(asked: Asked, name: str, prompts: Recorded, answers: Recorded) -> "Component":
    """The likeliest answers of a single prompt."""
    shares = named(answers.groupby("answer", sort=False)["probability"].sum(), "shares")  # several tokens may be a text
    prompt, probabilities = value_of(prompts), value_of(shares)
    right = str(prompt.labels["output"].iloc[0]) if "output" in prompt.labels else None
    said = ""
    if right is not None:
        said = words.ANSWER_HAS if right in probabilities.index else words.ANSWER_ABSENT
        said = said.format(answer=right, probability=probabilities.get(right))
    figure = pbb.figures.answers(shares, right=right, title=words.ANSWERS.format(text=prompt.texts[0]))
    return card(asked, name, figure, answers, said)


def tokens_card(
    asked: Asked, recovered: Recorded, pair: Recorded, title: str, said: str, model: str = "finetuned"
) -> "Component":
    """Recovery at each token of a pair."""
    tokens = [pbb.prompts.token_texts(asked.explored.model(model), side) for side in (pair.clean, pair.corrupted)]
    roles = live.roles_of(value_of(pair).clean)
    figure = pbb.figures.token_heatmap(recovered, *tokens, roles=roles, title=title)
    table = recovered[asked["site"]].rename("recovery").to_dataframe().reset_index()
    return card(asked, "patching", figure, table, said)


def _facts(asked: Asked, call: live.Call, prompts: "Prompts") -> "Component":
    """Source, trace and tokens, as text and nothing else."""
    from dash import html

    explored, row = asked.explored, prompts.labels.iloc[0]
    seen = (words.SHOWN if row["seen"] else words.NEVER_SHOWN) if row["place"] >= 0 else words.NOT_AN_INPUT
    steps = [name for name in row.index if str(name).startswith(("state_", "branch_", "iterations_", "pass_"))]
    meaning = explored.crunched(meaning_of, call.program)
    facts = {
        "group": words.OF_GROUP.get(row["group"], row["group"]),
        "family": row["family"],
        "function": meaning.function,
        "novelty": meaning.novelty.replace("_", " "),
        "input": f"{call.call} ({seen})",
        **{name: value_text(row[name]) for name in [*steps, "output"]},
        "decisive": decisive_words(meaning.explained_by[row["place"]]) if row["place"] >= 0 else "",
    }
    spans = [
        html.Span([html.B(f"{key.replace('_', ' ')}: "), str(value)]) for key, value in facts.items() if value != ""
    ]
    return html.Section(
        [
            html.H2(f"{call.program}({call.call})"),
            html.Div(spans, className="facts"),
            _source(explored, call.program),
            tokens_of(explored.run.model(), prompts),
        ],
        className="card",
    )


def meaning_of(explored: Explored, program: str) -> "Meaning":
    """What a program computes and what its answers show (`Corpus.meaning`)."""
    return explored.run.corpus.meaning[program]


def decisive_words(explained_by: str) -> str:
    """Of a call, whether its answer shows that the program was evaluated."""
    return words.NOT_DECISIVE.format(explained_by=explained_by) if explained_by else words.DECISIVE


def _calls(asked: Asked, program: str) -> "Component":
    """Every call of the program in the corpus: decisive, or what explains its answer."""
    import pandas as pd

    explored = asked.explored
    meaning, entry = explored.crunched(meaning_of, program), explored.run.corpus.by_name[program]
    rows = [
        {
            "input": trace.call_text,
            "output": value_text(label(trace.output)),
            "its answer": "shown" if place in entry.shown else "never shown",
            "decisive": "yes" if not explained_by else "no",
            "explained by": explained_by,
        }
        for place, (trace, explained_by) in enumerate(zip(entry.traces, meaning.explained_by, strict=True))
    ]
    n = sum(row["decisive"] == "yes" for row in rows)
    links = [f"{PATH}?{urlencode({'program': program, 'call': row['input']})}" for row in rows]
    title = words.CALLS_OF.format(program=program, n=n, of=len(rows))
    return table_of(pd.DataFrame(rows), title, links=links)


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
