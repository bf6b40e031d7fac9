"""Behaviour: what a model answers when programs are called, in every group and mode, on seen and unseen inputs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pbb_probe.labels import with_labels
from pbb_probe.models.answers import is_right, longest_answer, read_answer
from pbb_probe.models.bases import available_device, load_base
from pbb_probe.models.choices import choice_scores, no_numbers
from pbb_probe.models.tokens import answer_starts, completion_ids, prompt_ids, side_by_side, stop_ids
from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.documents import program_document, with_code
from pbb_probe.programs.recited import recited
from pbb_probe.programs.templates import MODES, Mode
from pbb_probe.schema import BatchSize, Count, Seed, checks_arguments, listed

if TYPE_CHECKING:
    import pandas as pd
    import torch
    import xarray as xr
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Calls:
    """The calls of an evaluation, as `with_labels` takes them."""

    labels: "pd.DataFrame"
    """A row a call: what `Corpus.calls` gives, and the mode."""
    unit: str = "call"


@checks_arguments
def evaluate(
    model: str | Path,
    corpus: Corpus,
    modes: Annotated[Sequence[Mode], listed(f"modes out of {', '.join(MODES)}")] = ("direct", "trace"),
    n: Count | None = None,
    in_context: bool = False,
    seed: Seed = 0,
    batch_size: BatchSize = 512,
) -> "xr.Dataset":
    """Call programs and read the answers, by greedy decoding, on a GPU where there is one.

    Args:
        model: `nano`, a Hugging Face model directory or a hub id; asked in turns where it has a chat template.
        corpus: whose programs are called.
        modes: `direct` reads the answer at once, `trace` at the end of worked steps. In `direct` the prompt goes on
            up to where the corpus's outputs part, as in `make_prompts`. `recite` asks for the code of each program by
            its name, and what is written is run: it is correct where all outputs on the program's inputs are right.
        n: calls a group and mode; every program on every input when None (in `recite`, every program).
        in_context: put the program's code before the call (the ceiling: nothing has to be remembered).
        seed: of the calls drawn and of their surface templates.
        batch_size: calls decoded together.

    Returns:
        Over the dimension `call`: `answer` (text), `correct` (bool), and in mode `direct` (NaN otherwise) `forced`
        (0 or 1): is the right answer likelier than all others that this program gives on its inputs? Where every answer
        is one token, it is compared with all that occur. A model that knows nothing is at chance in the forced choice,
        even where it never answers with an output. What `Corpus.calls` says of a call is a coordinate (program,
        source, group, steps, seen, place, input, state_1, ..., output and so on), but for the text `call`, and so is
        its mode.

    Raises:
        PbbError: an unknown or damaged model, or one whose logits are NaN or infinite.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus = pbb.make_corpus(with_io=4, without_io=2)
        >>> behaviour = pbb.evaluate("nano", corpus, modes=("trace",), n=10, in_context=True)
        >>> float(behaviour["correct"].mean()) > 0.9
        True
    """
    import numpy as np
    import pandas as pd
    import xarray as xr

    hf_model, tokenizer = load_base(model)
    hf_model.to(available_device())  # type: ignore[arg-type]
    rng = random.Random(f"context {seed}")
    answers = [f" {output}" for output in corpus.outputs]
    tables, measured = [], []
    for mode in modes:
        calls = corpus.calls(mode, n=n, seed=seed)
        prompts = list(calls["prompt"])
        if in_context:
            prompts = [
                with_code(program_document(corpus.by_name[name].program, "code", rng), prompt)
                for name, prompt in zip(calls["program"], prompts, strict=True)
            ]
        longest = longest_answer(tokenizer, prompts, calls["completion"])
        longest *= 2 if mode == "recite" else 1  # there are other ways to write it
        starts = answer_starts(tokenizer, prompts, answers) if mode == "direct" else [[] for _ in prompts]
        completions = complete(hf_model, tokenizer, prompts, longest, batch_size, starts)
        # NetCDF takes no NUL, which byte-level models may write
        answered = [read_answer(text.replace("\0", "\ufffd"), mode) for text in completions]
        if mode == "recite":
            programs = [corpus.by_name[name] for name in calls["program"]]
            correct = recited(programs, answered, [entry.program for entry in corpus.entries])
        else:
            correct = [is_right(answer, right) for answer, right in zip(answered, calls["output"], strict=True)]
        forced = np.full(len(calls), np.nan)
        if mode == "direct":
            choices = _choices(tokenizer, prompts, starts, calls, corpus)
            chosen = forced_choice(hf_model, tokenizer, prompts, choices, batch_size, starts)
            forced = (calls["completion"] == chosen).to_numpy(float)
        tables.append(calls.assign(mode=mode))
        measured.append(pd.DataFrame({"answer": answered, "correct": correct, "forced": forced}))
    array = xr.Dataset.from_dataframe(pd.concat(measured, ignore_index=True).rename_axis("call"))
    return with_labels(array, Calls(pd.concat(tables, ignore_index=True)))


def complete(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_size: int = 512,
    starts: Sequence[list[int]] | None = None,
) -> list[str]:
    """What the model writes after each prompt by greedy decoding, up to the end of the text or of its turn.

    The token ids of `starts`, if given, are put after each prompt as the beginning of what the model writes.
    """
    import torch
    from tqdm import tqdm

    pad = tokenizer.pad_token_id or 0
    stops, begun = stop_ids(model, tokenizer), [[] for _ in prompts] if starts is None else starts
    ids = [asked + start for asked, start in zip(prompt_ids(tokenizer, prompts), begun, strict=True)]
    order = sorted(range(len(prompts)), key=lambda i: len(ids[i]))  # like lengths together: little padding
    texts = [""] * len(prompts)
    for start in tqdm(range(0, len(order), batch_size), desc="evaluate", leave=False):
        chosen = order[start : start + batch_size]
        tokens, mask = side_by_side([ids[i] for i in chosen], pad, "left")
        with torch.inference_mode():
            out = model.generate(
                input_ids=tokens.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                logits_processor=[_held_finite],
                eos_token_id=stops or None,
                pad_token_id=pad,
            )
        new = out[:, tokens.shape[1] :].tolist()
        written = [begun[i] + row for i, row in zip(chosen, new, strict=True)]
        for i, text in zip(chosen, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
            texts[i] = text
    return texts


def forced_choice(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    batch_size: int = 512,
    starts: Sequence[list[int]] | None = None,
) -> list[str]:
    """The likeliest of each prompt's choices, by the log-probability of all its tokens after those of `starts`.

    Where choices have several tokens, the end of text is scored too: otherwise `1` would always be likelier than `12`.

    Raises:
        PbbError: the model's logits are NaN or infinite.
    """
    begun = [[] for _ in prompts] if starts is None else starts
    asked = [prompt + start for prompt, start in zip(prompt_ids(tokenizer, prompts), begun, strict=True)]
    owner = [i for i, possible in enumerate(choices) for _ in possible]  # the prompt of each choice
    every = [choice for possible in choices for choice in possible]
    ids: list[list[list[int]]] = [[] for _ in prompts]
    for i, tokens in zip(owner, completion_ids(tokenizer, [prompts[i] for i in owner], every), strict=True):
        ids[i].append(tokens[len(begun[i]) :])
    scores = choice_scores(model, tokenizer, asked, ids, batch_size)
    return [possible[int(row.argmax())] for possible, row in zip(choices, scores, strict=True)]


def _held_finite(_: Any, logits: "torch.Tensor") -> "torch.Tensor":
    """The logits [prompt, d_vocab] of next tokens, unchanged; tokens that are never given may have minus infinity.

    Raises:
        PbbError: the highest logit of a prompt is NaN or infinite.
    """
    if not logits.amax(-1).isfinite().all():  # NaN counts as the highest
        raise no_numbers()
    return logits


def _choices(
    tokenizer: Any, prompts: list[str], starts: list[list[int]], calls: "pd.DataFrame", corpus: Corpus
) -> list[list[str]]:
    """The answers to choose from, as completions: all that occur if each is one token, otherwise the program's own."""
    every = sorted(set(calls["completion"]))
    if all(len(ids) == len(starts[0]) + 1 for ids in completion_ids(tokenizer, prompts[:1] * len(every), every)):
        return [every] * len(prompts)
    outputs = {
        entry.program.name: list(dict.fromkeys(f" {trace.variables()['output']}" for trace in entry.traces))
        for entry in corpus.entries
    }
    return [outputs[name] for name in calls["program"]]
