"""Effective programs: of all that a model may compute when a program is called, what its answers fit best.

For the name of a program, let q(y | x) be the model's probability of answer y on input x, normalised over the possible
answers, and m(y | x) that of the names at large. If the model computes the program f and slips in a share e of its
calls, what it says of input x has the likelihood
    (1 - e) q(f(x) | x) / m(f(x) | x) + e
relative to a guess. The likelihood of f is the product over the inputs, averaged over the `SLIPS`. A guess from the
input alone has 1, and a guess from the name alone what f has with the mean of q over the inputs in place of f(x).
Beforehand a guess ("unclear") is as likely as all programs together, half of it from the input and half from the name;
of the programs, classes with equal outputs are equally likely, but the program's own, which counts as `OWN` of them.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.finetuning.behaviour import complete
from pbb_probe.labels import storable
from pbb_probe.models.answers import before_answer, longest_answer
from pbb_probe.models.bases import available_device, load_base
from pbb_probe.models.choices import choice_scores, with_choices
from pbb_probe.programs.candidates import Candidates, candidates
from pbb_probe.programs.corpus import Corpus, Entry, Group
from pbb_probe.programs.mutants import DIFFERENCES
from pbb_probe.programs.templates import CALLING, Mode
from pbb_probe.schema import BatchSize, Seed, checks_arguments, refuse_unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SLIPS = (0.01, 0.03, 0.1, 0.3)
"""Shares of calls that a program is allowed not to explain; each is as likely as the others."""
OWN = 10.0
"""How many of the other classes the program's own counts as beforehand."""
HALF = 0.5
"""A program is the effective one if it has more than this share of the probability, and gives more than this share of
the model's likeliest answers: answers that lean but slightly towards a program add up to no evaluation."""
UNCLEAR = len(DIFFERENCES) - 1


@checks_arguments
def effective_programs(
    model: "str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase]",
    corpus: Corpus,
    mode: Mode = "direct",
    group: Group | None = None,
    seed: Seed = 0,
    batch_size: BatchSize = 512,
) -> "xr.Dataset":
    """Which program a model computes when each program of a corpus is called, from its answers on all inputs.

    The candidates are those of `programs.candidates`: of straight-line arithmetic every program of one and two steps
    and the neighbours of the program itself, of others their mutants, and the programs of the other names. How they are
    weighed stands at the top of this module. A candidate that fails on an input gives no answer there.

    Args:
        model: `nano`, a Hugging Face model directory or a hub id, or a loaded model with its tokenizer.
        corpus: whose programs are called, on all their inputs.
        mode: `direct` asks for the answer at once. In `trace` the model writes worked steps, and the answer is that
            after the last `=` of the line that returns; where there is no such line, a call says nothing.
        group: only the programs of this group; the candidates stay.
        seed: of the surface templates, one a call.
        batch_size: prompts run together.

    Returns:
        Over `program`, with the labels group, family, steps, function, novelty and `mode`:
        `posterior`: the highest posterior probability of a class of programs with equal outputs.
        `posterior_true`, `posterior_guess`: those of the program's own class, and of guessing.
        `agreement`: the share of inputs on which the class gives the model's likeliest answer.
        `difference`: what tells the class from the program: `none`, `a step left out` (or all: the identity), `the
        order`, `a constant`, `an operation`, or `another program` (another name's, or one of the family that differs in
        more than one thing); `unclear` where no class has more than half of the probability and of the agreement.
        `effective`: the source of the member of the class nearest to the program; empty where it is unclear.
        Over `program` and `place` (of the input): `predicted`, what the effective program answers, and `answer`, the
        likeliest of the model's answers; empty where there is none.

    Raises:
        PbbError: an unknown or damaged model, or one whose logits are NaN or infinite; a mode without answers; a group
            without programs.

    Example:
        >>> import pbb_probe as pbb
        >>> model, tokenizer, corpus, _ = pbb.planted_model(n_programs=20)
        >>> effective = pbb.effective_programs((model, tokenizer), corpus)
        >>> set(effective["difference"].values.tolist())
        {'none'}
    """
    import numpy as np
    import xarray as xr

    refuse_unknown("mode of a call", [mode], CALLING)
    entries = [entry for entry in corpus.entries if group in (None, entry.group)]
    if isinstance(model, tuple):
        hf_model, tokenizer = model
    else:
        hf_model, tokenizer = load_base(model)
        hf_model.to(available_device())  # type: ignore[arg-type]
    calls = corpus.calls(mode, group, seed=seed).assign(mode=mode)
    possible = candidates(corpus, entries)
    said = _said(hf_model, tokenizer, calls, entries, possible, batch_size)
    expected = _expected(entries, possible, said)
    shape = len(entries), max(len(entry.traces) for entry in entries)
    predicted, answer = np.full(shape, "", object), np.full(shape, "", object)
    rows: dict[str, list[Any]] = defaultdict(list)
    for i, classes in enumerate(possible):
        posterior = posteriors(classes, said[i], expected[i])
        best = int(posterior[:-1].argmax())
        likeliest = [-2 if np.isnan(row).any() else int(row.argmax()) for row in said[i]]
        agreement = float((classes.tables[best] == likeliest).mean())
        clear = min(posterior[best], agreement) > HALF
        rows["posterior"].append(float(posterior[best]))
        rows["posterior_true"].append(float(posterior[0]))
        rows["posterior_guess"].append(float(posterior[-1]))
        rows["agreement"].append(agreement)
        rows["difference"].append(DIFFERENCES[classes.differences[best] if clear else UNCLEAR])
        rows["effective"].append(classes.text(best) if clear else "")
        for x, answers in enumerate(classes.answers):
            predicted[i, x] = _answer(answers, int(classes.tables[best, x])) if clear else ""
            answer[i, x] = _answer(answers, likeliest[x])
    measured: dict[str, Any] = {name: ("program", storable(column)) for name, column in rows.items()}
    measured |= {"predicted": (("program", "place"), predicted), "answer": (("program", "place"), answer)}
    labels = _labels(corpus, entries) | {"mode": [mode] * len(entries)}
    coordinates: dict[str, Any] = {name: ("program", storable(column)) for name, column in labels.items()}
    names = [entry.program.name for entry in entries]
    return xr.Dataset(measured, {"program": names, "place": range(shape[1]), **coordinates})


def _answer(answers: Sequence[str], place: int) -> str:
    return answers[place] if place >= 0 else ""


def posteriors(classes: Candidates, said: "Sequence[np.ndarray]", expected: "Sequence[np.ndarray]") -> "np.ndarray":
    """The posterior probability of each class of programs, and last that of guessing [class + 1].

    Args:
        classes: the candidates for one program.
        said: the model's probability of each possible answer to each call [input][answer]; NaN where it says nothing.
        expected: that of names at large [input][answer].
    """
    import numpy as np

    ratios = [np.where(np.isnan(q), 1.0, q / m) for q, m in zip(said, expected, strict=True)]
    padded = np.zeros((len(ratios), 1 + max(map(len, ratios))))  # the last answer is that of a program that fails
    for x, row in enumerate(ratios):
        padded[x, : len(row)] = row
    usual = _mean_by_answer(classes.answers, said)
    from_name = [row @ [usual[answer] for answer in each] for row, each in zip(ratios, classes.answers, strict=True)]
    from_input = np.ones(len(ratios))
    fits = np.stack([*padded[np.arange(len(ratios)), classes.tables], from_name, from_input])  # [class + 2, input]
    slips = np.array(SLIPS)[:, None, None]
    logs = np.log((1 - slips) * fits + slips).sum(axis=2)  # [slip, class + 2]
    logs[:, -1] = 0.0
    likelihoods = np.exp(logs - logs.max()).mean(axis=0)
    prior = np.where(classes.differences == 0, OWN, 1.0)
    weighted = np.append(likelihoods[:-2] * prior / prior.sum(), likelihoods[-2:].mean())
    posterior: np.ndarray = weighted / weighted.sum()
    return posterior


def _mean_by_answer(answers: Sequence[Sequence[str]], said: "Sequence[np.ndarray]") -> dict[str, float]:
    """The mean of a program's probabilities over its inputs, by answer."""
    import numpy as np

    total: dict[str, float] = defaultdict(float)
    for each, row in zip(answers, said, strict=True):
        for answer, share in zip(each, np.nan_to_num(row) / len(said), strict=True):
            total[answer] += share
    return total


def _expected(
    entries: Sequence[Entry], possible: Sequence[Candidates], said: "Sequence[Sequence[np.ndarray]]"
) -> "list[list[np.ndarray]]":
    """What names at large say of each input, as `posteriors` takes it.

    It is the mean over the programs that are called with this input and one more for each possible answer, which gives
    that answer alone: where an input has but one program, its answers are compared with a guess among all of them.
    """
    import numpy as np

    total: dict[tuple[str, str], float] = defaultdict(float)
    called: dict[str, int] = defaultdict(int)
    for entry, classes, rows in zip(entries, possible, said, strict=True):
        for trace, answers, row in zip(entry.traces, classes.answers, rows, strict=True):
            if not np.isnan(row).any():
                called[trace.call_text] += 1
                for answer, share in zip(answers, row, strict=True):
                    total[trace.call_text, answer] += share
    return [
        [
            np.array([1 + total[x.call_text, y] for y in answers]) / (called[x.call_text] + len(answers))
            for x, answers in zip(entry.traces, classes.answers, strict=True)
        ]
        for entry, classes in zip(entries, possible, strict=True)
    ]


def _said(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    calls: "pd.DataFrame",
    entries: Sequence[Entry],
    possible: Sequence[Candidates],
    batch_size: int,
) -> "list[list[np.ndarray]]":
    """The model's probabilities of the possible answers to each call of each program, as `posteriors` takes them.

    Args:
        model: that is asked.
        tokenizer: its own.
        calls: rows of `Corpus.calls`, of one mode: every program on every input.
        entries: the programs.
        possible: their candidates.
        batch_size: prompts run together.
    """
    import numpy as np

    answers = {entry.program.name: classes.answers for entry, classes in zip(entries, possible, strict=True)}
    places = list(zip(calls["program"], calls["place"], strict=True))
    prompts, begun = list(calls["prompt"]), [""] * len(calls)
    told = list(range(len(calls)))
    if (calls["mode"] == "trace").all():
        longest = longest_answer(tokenizer, prompts, calls["completion"])
        written = complete(model, tokenizer, prompts, longest, batch_size)
        begun = [before_answer(text) for text in written]
        told = [i for i in told if begun[i] != written[i]]
    choices = [[f" {answer}" for answer in answers[places[i][0]][places[i][1]]] for i in told]
    asked, ids = with_choices(tokenizer, [prompts[i] for i in told], [begun[i] for i in told], choices)
    scores = choice_scores(model, tokenizer, asked, ids, batch_size) if told else []
    of_call = {places[i]: row.double().softmax(0).numpy() for i, row in zip(told, scores, strict=True)}
    return [
        [
            of_call.get((entry.program.name, x), np.full(len(classes.answers[x]), np.nan))
            for x in range(len(entry.traces))
        ]
        for entry, classes in zip(entries, possible, strict=True)
    ]


def _labels(corpus: Corpus, entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """What is known of each program."""
    meanings = [corpus.meaning[entry.program.name] for entry in entries]
    return {
        "group": [entry.group for entry in entries],
        "family": [entry.program.family for entry in entries],
        "steps": [entry.program.facts.get("steps") for entry in entries],
        "function": [meaning.function for meaning in meanings],
        "novelty": [meaning.novelty for meaning in meanings],
    }
