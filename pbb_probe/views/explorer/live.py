"""What the model computes while one waits: a call, another beside it, and what each token brings into the other."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import call_arguments, label
from pbb_probe.programs.templates import templates
from pbb_probe.views.explorer.explored import Explored

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts
    from pbb_probe.patching.pairs import Pairs

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

    def python(self) -> str:
        """The Python for `model` and `prompts`."""
        return (
            "model = run.model()\n"
            f"prompts = pbb.prompts_of_calls(model, run.call{tuple(self)!r}, answers=run.corpus.outputs)\n"
        )


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


def prompt_of(explored: Explored, call: Call) -> "Prompts":
    """The call as a prompt.

    Raises:
        PbbError: the program cannot be run on these arguments.
    """
    from pbb_probe.hooking.calls import prompts_of_calls

    model = explored.model()
    prompts = prompts_of_calls(model, explored.run.call(*call), answers=explored.run.corpus.outputs)
    refuse_long(model, prompts.tokens.shape[1])
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


def pair_of(explored: Explored, call: Call, swap: str, other: str) -> "Pairs":
    """The call as the clean prompt, and as the corrupted one the same with another input or program.

    Args:
        explored: the run.
        call: the clean one.
        swap: what is another, `input` or `program`.
        other: which; where empty, the first of the corpus that gives another answer and lines up.

    Raises:
        PbbError: the prompts do not line up, both have one answer, or a call cannot be run.
    """
    from pbb_probe.patching.pairs import aligned_pairs

    clean, answers = explored.run.call(*call), explored.run.corpus.outputs
    own = clean["output"].item()
    if other.strip():
        corrupted = explored.run.call(*_swapped(call, swap, other.strip()))
        if corrupted["output"].item() == own:
            raise PbbError(f"Both calls give {own}, so that nothing tells them apart: choose another one beside it.")
        return aligned_pairs(explored.model(), clean, corrupted, answers)
    for _, one in zip(range(TRIES), _others(explored, call, swap, own), strict=False):
        try:
            return aligned_pairs(explored.model(), clean, explored.run.call(*_swapped(call, swap, one)), answers)
        except PbbError:  # another number of tokens
            continue
    raise PbbError(f"No other {swap} of the corpus gives another answer in as many tokens: type one.")


def _swapped(call: Call, swap: str, other: str) -> Call:
    return call._replace(call=other) if swap == "input" else call._replace(program=other)


def _others(explored: Explored, call: Call, swap: str, own: object) -> "Iterator[str]":
    """Inputs of the program, or programs of its group and number of steps on its input, with other answers."""
    entry = explored.run.corpus.by_name[call.program]
    if swap == "input":
        yield from (trace.call_text for trace in entry.traces if label(trace.output) != own)
        return
    for other in explored.run.corpus.of(entry.group):
        like = other.program.facts.get("steps") == entry.program.facts.get("steps")
        if like and any(t.call_text == call.call and label(t.output) != own for t in other.traces):
            yield other.program.name


def pair_python(pair: "Pairs") -> str:
    """The Python for `model` and `pair`."""
    calls = []
    for name, side in (("clean", pair.clean), ("corrupted", pair.corrupted)):
        row = side.labels.iloc[0]
        calls.append(f"{name} = run.call{(row['program'], row['call'], row['template'])!r}\n")
    return "".join(
        [
            "model = run.model()\n",
            *calls,
            "pair = pbb.aligned_pairs(model, clean, corrupted, answers=run.corpus.outputs)\n",
        ]
    )


def swept(
    explored: Explored, pair: "Pairs", site: str, positions: list[str] | None, model: str = "finetuned"
) -> "xr.Dataset":
    """Recovery of one pair at one site, at every token or at roles."""
    from pbb_probe.patching.metrics import answer_difference, recovery
    from pbb_probe.patching.sweep import patch_sweep

    opened = explored.model(model)
    refuse_long(opened, pair.clean.tokens.shape[1], patched=positions is None)
    effects = patch_sweep(
        opened,
        pair,
        metric=answer_difference(*pair.answer_ids(opened)),
        sites=[site],
        positions=positions,
    )
    return recovery(effects).isel(pair=0, drop=True)


def swept_python(site: str, positions: list[str] | None = None) -> str:
    """The Python for `recovered` of a `pair`."""
    where = "" if positions is None else f", positions={positions!r}"
    return (
        "effects = pbb.patch_sweep(\n"
        "    model, pair,\n"
        f"    metric=pbb.answer_difference(*pair.answer_ids(model)), sites=[{site!r}]{where},\n"
        ")\n"
        "recovered = pbb.recovery(effects).isel(pair=0, drop=True)\n"
    )


def readings_of(explored: Explored, call: Call) -> "pd.DataFrame":
    """What probes and lens read of every variable of a call, see `OpenedRun.readings`."""
    return explored.run.readings(explored.model(), explored.computed(prompt_of, call), explored.probes())
