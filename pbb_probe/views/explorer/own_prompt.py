"""Your own prompt: any text with roles marked in it, another one beside it, patched token by token."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.views.explorer import live
from pbb_probe.views.explorer.cards import Asked, guarded, notice
from pbb_probe.views.explorer.controls import choice, text
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.program import PATCHED, answers_card, side_by_side, tokens_card, tokens_of
from pbb_probe.views.explorer.recorded import Recorded, named, pbb, value_of
from pbb_probe.views.words import explorer as words

if TYPE_CHECKING:
    from dash.development.base_component import Component
    from transformer_lens import TransformerBridge

PATH, TITLE = "/prompt", "Your own prompt"
MOST_ROLES = 32


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """Two texts with their answers and roles, and the site; at first two calls of a program of the run."""
    from pbb_probe.patching.pairs import token_counter

    entry = explored.run.corpus.entries[0]
    first, *others = entry.traces
    length = token_counter(explored.run.model())
    apart = [trace for trace in others if trace.output != first.output]
    second = next((t for t in apart if length(t.call_text) == length(first.call_text)), others[0] if others else first)
    name = entry.program.name
    roles = f"name = {name}\ninput = {first.call_text} | {second.call_text}"
    return [
        text(query, "clean", "text", f"{name}({first.call_text}) =", 44, lines=2),
        text(query, "corrupted", "text beside it", f"{name}({second.call_text}) =", 44, lines=2),
        text(query, "roles", "roles, a line each: role = text | text beside", roles, 40, lines=2),
        text(query, "answers", "answers: one | the other (empty: the model's)", "", 22),
        choice(query, "model", "model", list(explored.run.models), few=4),
        choice(query, "site", "site patched", PATCHED, "resid_pre"),
    ]


def content(asked: Asked) -> "list[Component]":
    """Tokens and likeliest answers of both texts, and what one brings into the other."""
    explored, model = asked.explored, asked["model"]
    given = Typed(*(asked[name] for name in Typed._fields))
    try:
        pair = explored.computed(pair_typed, given)
    except PbbError as error:  # each text can be looked at by itself all the same
        alone = [lambda which=which: _alone(asked, given, which) for which in ("clean", "corrupted")]
        return [notice(str(error)), side_by_side(*alone)]

    def side(which: str) -> "Component":
        prompts = getattr(pair, which)
        return _tokens_and_answers(asked, which, prompts, explored.computed(_answers, given, which))

    def patched() -> "Component":
        answers = [side.labels["output"].item() for side in (value_of(pair).clean, value_of(pair).corrupted)]
        title = words.TYPED_RECOVERY.format(answer=answers[0], beside=answers[1])
        said = words.TYPED_PATCHED.format(site=asked["site"])
        return tokens_card(asked, explored.computed(_recovered, given, asked["site"]), pair, title, said, model)

    return [side_by_side(lambda: side("clean"), lambda: side("corrupted")), *guarded(patched)]


def _alone(asked: Asked, given: "Typed", which: str) -> "Component":
    """Tokens and likeliest answers of one text."""
    prompts, answers = asked.explored.computed(_prompt_typed, given.model, getattr(given, which))
    return _tokens_and_answers(asked, which, prompts, answers)


def _tokens_and_answers(asked: Asked, which: str, prompts: Recorded, answers: Recorded) -> "Component":
    from dash import html

    tokens = tokens_of(asked.explored.run.model(asked["model"]), value_of(prompts))
    return html.Div([tokens, answers_card(asked, which, prompts, answers)])


class Typed(NamedTuple):
    """What stands in the controls."""

    model: str
    clean: str
    corrupted: str
    roles: str
    answers: str

    def places(self) -> dict[str, list[Any]]:
        """The texts that each role covers, or characters [start, end], in the text and in the one beside it.

        Raises:
            PbbError: a line is not `role = text` or `role = text | text beside`, or there are too many.
        """
        spans: dict[str, list[Any]] = {}
        lines = [line for line in self.roles.splitlines() if line.strip()]
        if len(lines) > MOST_ROLES:
            raise PbbError(f"There are {len(lines)} roles: give at most {MOST_ROLES}.")
        for line in lines:
            role, equals, places = line.partition("=")
            texts = [place.strip() for place in places.split("|")]
            if not equals or not role.strip() or not all(texts) or len(texts) > 2:
                raise PbbError(f"The role {line!r} cannot be read: write it as role = text | text beside.")
            if role.strip() in spans:
                raise PbbError(f"The role {role.strip()!r} has two lines: give it one.")
            spans[role.strip()] = [_place(texts[0]), _place(texts[-1])]
        return spans

    def both_answers(self) -> tuple[str, str] | None:
        """The two answers, None where none is typed.

        Raises:
            PbbError: they are not two.
        """
        if not self.answers.strip():
            return None
        said = [answer.strip() for answer in self.answers.split("|")]
        if len(said) != 2 or not all(said):
            raise PbbError("Give both answers as: one | the other. Or none, and the model's own are taken.")
        return said[0], said[1]


def _place(typed: str) -> Any:
    span = re.fullmatch(r"\[\s*(\d+)\s*,\s*(\d+)\s*\]", typed)
    return [int(end) for end in span.groups()] if span else typed


def pair_typed(explored: Explored, given: Typed) -> Recorded:
    """The pair that is typed, for one of the run's models.

    Raises:
        PbbError: too long a text, or what `pair_from_texts` refuses.
    """
    model, answers = explored.model(given.model), given.both_answers()
    for prompt, answer in zip((given.clean, given.corrupted), answers or ("", ""), strict=True):
        _check_text(value_of(model), prompt, answer)
    pair = pbb.prompts.pair_from_texts(model, given.clean, given.corrupted, answers=answers, roles=given.places())
    return named(pair, "pair")


def _prompt_typed(explored: Explored, name: str, text: str) -> tuple[Recorded, Recorded]:
    """One text for one of the run's models, and its likeliest answers."""
    model = explored.model(name)
    _check_text(value_of(model), text)
    prompts = named(pbb.Prompts.from_texts(model, [text]), "prompts")
    return prompts, live.answers_of(explored, prompts, name)


def _check_text(model: "TransformerBridge", text: str, answer: str = "") -> None:
    """Refuse too long a text before anything is computed of it."""
    from pbb_probe.hooking.prompts import tokenizer_of
    from pbb_probe.models.tokens import encoded

    whole = f"{text} {answer}" if answer else text
    live.refuse_long(model, len(encoded(tokenizer_of(model), [whole])["input_ids"][0]))


def _answers(explored: Explored, given: Typed, which: str) -> Recorded:
    return live.answers_of(explored, getattr(explored.computed(pair_typed, given), which), given.model)


def _recovered(explored: Explored, given: Typed, site: str) -> Recorded:
    return live.swept(explored, explored.computed(pair_typed, given), site, None, model=given.model)
