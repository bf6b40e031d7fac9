"""Effective programs in place of those of a corpus, and as labels of calls: wrong answers become evidence, too."""

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.programs.arithmetic import arithmetic_program
from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.enumerated import read_steps
from pbb_probe.programs.program import Program, call_arguments, count_steps, label, try_calls, try_outputs
from pbb_probe.programs.syntax import function_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

KEPT = ("problem", "cipher")
"""Facts that hold of mutants, too."""


def effective_corpus(corpus: Corpus, effective: "xr.Dataset") -> Corpus:
    """The corpus with the effective program of each name in place of the one that it was taught.

    What is made of it, such as pairs, labels and hypotheses, is about what the model computes: `source`, `output`,
    `state_1` and so on are those of the effective program, and a right answer is the one that it gives.

    Args:
        corpus: whose programs were called.
        effective: from `effective_programs`.

    Returns:
        The programs whose effective program is known, in the order of the corpus, with the facts of the effective
        program, `difference`, and `taught_steps`, the steps of the one that was taught. Left out are those that are
        unclear, those that call others, and inputs on which the effective program fails.

    Raises:
        PbbError: no program is left, or the traces of all are too long to keep.

    Example:
        >>> import pbb_probe as pbb
        >>> model, tokenizer, corpus, _ = pbb.planted_model(n_programs=20)
        >>> effective = pbb.effective_programs((model, tokenizer), corpus)
        >>> computed = pbb.prompts.effective_corpus(corpus, effective)
        >>> computed.calls()["difference"].unique().tolist()
        ['none']
    """
    texts = dict(zip(effective["program"].values.tolist(), effective["effective"].values.tolist(), strict=True))
    words = dict(zip(effective["program"].values.tolist(), effective["difference"].values.tolist(), strict=True))
    entries = [
        entry
        for entry in corpus.entries
        if (text := texts.get(entry.program.name)) and not _names(text) & (set(corpus.by_name) - {entry.program.name})
    ]
    programs = [_computed(entry.program, texts[entry.program.name], words[entry.program.name]) for entry in entries]
    made = []
    inputs = [[trace.arguments for trace in entry.traces] for entry in entries]
    for entry, program, runs in zip(entries, programs, try_calls(programs, inputs), strict=True):
        places = [place for place, trace in enumerate(runs) if trace is not None]
        shown = tuple(k for k, place in enumerate(places) if place in entry.shown)
        traces = tuple(trace for trace in runs if trace is not None)
        made.append(replace(entry, program=program, traces=traces, shown=shown))
    if not made:
        raise PbbError(
            "The effective program of no name is known: pairs can be made of what a model computes only where "
            "effective_programs finds a difference other than unclear."
        )
    return Corpus(tuple(made), corpus.config)


def effective_labels(labels: "pd.DataFrame", effective: "xr.Dataset") -> "pd.DataFrame":
    """Labels of calls with those of effective programs beside them.

    Args:
        labels: with the columns program and call of `Corpus.calls`.
        effective: from `effective_programs`.

    Returns:
        The labels with `difference`, `effective` (the source of the effective program) and `effective_output`, what it
        answers to the call, as text. The last two are missing where it is unclear, or fails.

    Raises:
        PbbError: labels that lack a column, or a call that cannot be read.
    """
    import numpy as np

    if missing := {"program", "call"} - set(labels):
        raise PbbError(f"The labels lack {min(missing)!r}: effective programs are labels of calls of programs.")
    names = effective["program"].values.tolist()
    texts = dict(zip(names, effective["effective"].values.tolist(), strict=True))
    words = dict(zip(names, effective["difference"].values.tolist(), strict=True))
    calls = list(zip(labels["program"].tolist(), labels["call"].astype(str).tolist(), strict=True))
    known = list(dict.fromkeys(call for call in calls if texts.get(call[0])))
    programs = [Program(name, "", texts[name]) for name, _ in known]
    outputs = try_outputs(programs, [[call_arguments(*call)] for call in known])
    given = {call: str(label(output)) for call, (output,) in zip(known, outputs, strict=True) if output is not None}
    columns = {
        "difference": [words.get(name) for name, _ in calls],
        "effective": [texts.get(name) or None for name, _ in calls],
        "effective_output": [given.get(call) for call in calls],
    }
    return labels.assign(**{name: np.array(column, object) for name, column in columns.items()})


def _computed(program: Program, text: str, difference: str) -> Program:
    """The effective program under the name of the program, with its own facts."""
    facts = dict(program.facts)
    if text != program.source:
        steps = read_steps(text)
        kept = {name: value for name, value in facts.items() if name in KEPT}
        own = arithmetic_program(program.name, steps).facts if steps else {"steps": count_steps(text)}
        facts = {**kept, **own}
    told = {"difference": difference, "taught_steps": program.facts.get("steps", 0)}
    return replace(program, source=text, facts={**facts, **told})


def _names(text: str) -> set[str]:
    return {node.id for node in ast.walk(function_of(text)) if isinstance(node, ast.Name)}
