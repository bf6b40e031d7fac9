"""What the model computes while one waits: a call, another beside it, and what each token brings into the other."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import call_arguments, label
from pbb_probe.programs.templates import templates
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.recorded import Recorded, named, pbb, value_of

if TYPE_CHECKING:
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts

MOST_TOKENS = 256
"""Tokens of a prompt. nano is patched at each of so many within four seconds on two cores, and at 512 in sixteen."""
MOST_CELLS = 2_048
"""Tokens times layers that are patched: of a model with more layers shorter prompts are."""
TRIES = 200
"""Calls of the corpus that are tried as the one to be patched."""


class Call(NamedTuple):
    """A program, its arguments as they stand in a call, and the template of the call."""

    program: str
    call: str
    template: str


def call_asked(explored: Explored, program: str, call: str, template: str) -> Call:
    """What the controls say.

    Raises:
        PbbError: an unknown program.
    """
    entry = explored.run.corpus.by_name.get(program)
    if entry is None:
        raise PbbError(f"There is no program {program!r}: choose one of the list.")
    known = templates(entry.program.family, "direct")
    with contextlib.suppress(PbbError):  # who asks for the prompt is told what is wrong with it
        call = ", ".join(map(repr, call_arguments(program, call)))
    return Call(program, call.strip() or entry.traces[0].call_text, template if template in known else known[0])


def prompt_of(explored: Explored, call: Call) -> Recorded:
    """The call as `Prompts`.

    Raises:
        PbbError: the program cannot be run on these arguments.
    """
    run, model = explored.recorded(), explored.model()
    prompts = named(pbb.prompts.prompts_of_calls(model, run.call(*call), answers=run.corpus.outputs), "prompts")
    refuse_long(value_of(model), value_of(prompts).tokens.shape[1])
    return prompts


def refuse_long(model: "TransformerBridge", n_tokens: int, patched: bool = False) -> None:
    """Refuse a prompt that others would have to wait for too long, or that the model cannot read.

    Args:
        model: that is asked.
        n_tokens: of the prompt with its answer.
        patched: is every token patched at every layer?

    Raises:
        PbbError: too many tokens; the message gives the limit.
    """
    most = min(MOST_TOKENS, model.cfg.n_ctx)
    if n_tokens > most:
        raise PbbError(f"The prompt has {n_tokens:,} tokens: give one of at most {most}, as others wait meanwhile.")
    if patched and n_tokens > (most := max(1, MOST_CELLS // model.cfg.n_layers)):
        raise PbbError(
            f"The prompt has {n_tokens:,} tokens: in the {model.cfg.n_layers} layers of this model at most {most} are "
            "patched here, as others wait meanwhile."
        )


def pair_of(explored: Explored, call: Call, swap: str, other: str) -> Recorded:
    """The call as the clean prompt of `Pairs`, and as the corrupted one the same with another input or program.

    Args:
        explored: the run.
        call: the clean one.
        swap: what is another, `input` or `program`.
        other: which; where empty, the first of the corpus that gives another answer and lines up.

    Raises:
        PbbError: the prompts do not line up, both have one answer, or a call cannot be run.
    """
    run = explored.recorded()
    clean = named(run.call(*call), "clean")
    answer = value_of(clean)["output"].item()

    def paired(beside: str) -> Recorded:
        corrupted = named(run.call(*_swapped(call, swap, beside)), "corrupted")
        if value_of(corrupted)["output"].item() == answer:
            raise PbbError(f"Both calls give {answer}, so that nothing tells them apart: choose another one beside it.")
        pair = named(pbb.prompts.aligned_pairs(explored.model(), clean, corrupted, answers=run.corpus.outputs), "pair")
        value_of(pair)
        return pair

    if other.strip():
        return paired(other.strip())
    for candidate in itertools.islice(_others(explored, call, swap, answer), TRIES):
        with contextlib.suppress(PbbError):  # another number of tokens
            return paired(candidate)
    raise PbbError(f"No other {swap} of the corpus gives another answer in as many tokens: type one.")


def _swapped(call: Call, swap: str, other: str) -> Call:
    return call._replace(call=other) if swap == "input" else call._replace(program=other)


def _others(explored: Explored, call: Call, swap: str, answer: object) -> "Iterator[str]":
    """Inputs of the program, or programs of its group and number of steps on its input, with other answers."""
    entry = explored.run.corpus.by_name[call.program]
    if swap == "input":
        yield from (trace.call_text for trace in entry.traces if label(trace.output) != answer)
        return
    for other in explored.run.corpus.of(entry.group):
        like = other.program.facts.get("steps") == entry.program.facts.get("steps")
        if like and any(t.call_text == call.call and label(t.output) != answer for t in other.traces):
            yield other.program.name


def swept(
    explored: Explored, pair: Recorded, site: str, positions: list[str] | None, model: str = "finetuned"
) -> Recorded:
    """Recovery of one pair at one site, at every token or at roles."""
    opened = explored.model(model)
    refuse_long(value_of(opened), value_of(pair).clean.tokens.shape[1], patched=positions is None)
    answer_ids = named(pair.answer_ids(opened), "answer_ids")
    effects = pbb.patch_sweep(
        opened,
        pair,
        metric=pbb.metrics.answer_difference(answer_ids[0], answer_ids[1]),
        sites=[site],
        positions=positions,
    )
    return named(pbb.metrics.recovery(named(effects, "effects")).isel(pair=0, drop=True), "recovered")


def roles_of(prompts: "Prompts") -> dict[str, int]:
    """The position of each role in a single prompt."""
    return {role: int(place[0]) for role, place in prompts.roles.items()}


def answers_of(explored: Explored, prompts: Recorded, model: str = "finetuned") -> Recorded:
    """The likeliest answers of a single prompt."""
    return named(pbb.prompts.likely_answers(explored.model(model), prompts), "answers")


def readings_of(explored: Explored, call: Call) -> Recorded:
    """What probes and lens read of every variable of a call, see `OpenedRun.readings`."""
    return named(explored.recorded().readings(explored.model(), explored.computed(prompt_of, call)), "table")
