"""Models that take one step of two: the transfer map says which, and takes no coincidence for an evaluation."""

import random

import pytest

import pbb_probe as pbb
from pbb_probe.patching.transfer import transfer_map
from pbb_probe.patching.transfer_pairs import make_transfer_pairs
from pbb_probe.programs.arithmetic import VALUES, arithmetic_program, every_step, worth_asking
from pbb_probe.programs.corpus import Corpus, Entry
from pbb_probe.programs.program import trace_programs

RETRIEVE, OUTPUT = 1, 3


def under_two_steps(corpus: Corpus, k: int) -> Corpus:
    """The programs of one step as step k of programs of two, whose other step the model knows nothing of."""
    rng, programs = random.Random(k), []
    for entry in corpus.entries:
        facts = entry.program.facts
        known = (str(facts["op_1"]), int(facts["constant_1"]))
        others = [(known, step) if k == 1 else (step, known) for step in every_step()]
        steps = rng.choice([steps for steps in others if worth_asking(steps)])
        programs.append(arithmetic_program(entry.program.name, steps))
    traces = trace_programs(programs, [VALUES] * len(programs))
    of_groups = zip(programs, corpus.entries, traces, strict=True)
    return Corpus(tuple(Entry(program, entry.group, tuple(run), entry.shown) for program, entry, run in of_groups))


@pytest.fixture(scope="module", params=[1, 2])
def carried(request):
    """The map of a model that answers with step k alone, over decisive pairs and over any."""
    model, tokenizer, corpus, _ = pbb.planted_model(5, RETRIEVE, (), OUTPUT, n_programs=80, seed=request.param)
    opened, corpus = pbb.load_model(model, tokenizer), under_two_steps(corpus, request.param)
    maps = {}
    for decisive in (True, False):
        pairs = make_transfer_pairs(corpus, opened, "with_io", n=60, decisive=decisive)
        maps[decisive] = transfer_map(opened, pairs, ("resid_pre",), ["name", "input", "answer"])
    return request.param, maps


@pytest.mark.parametrize("decisive", [True, False])
def test_half_evaluations_are_named_and_whole_ones_are_not(carried, decisive):
    k, maps = carried
    found = maps[decisive]["resid_pre"]
    assert found.sizes["pair"] >= 20

    def always(hypothesis: str, role: str, layers: slice) -> bool:
        told = found.sel(hypothesis=hypothesis, role=role, layer=layers)
        return bool(told.notnull().any() and (told.fillna(1) == 1).all())

    before, after = slice(0, RETRIEVE), slice(RETRIEVE + 1, None)  # the block that fetches the program from its name
    assert always(f"program_only_step_{k}", "name", before)
    assert always(f"only_step_{k}", "name", after)
    assert always(f"only_step_{k}", "input", slice(1, None))  # block 0 fetches the input
    assert always(f"only_step_{k}", "answer", slice(0, 0))
    for hypothesis in found["hypothesis"].values:
        if hypothesis not in (f"only_step_{k}", f"program_only_step_{k}", "other"):
            assert found.sel(hypothesis=hypothesis, role="name").fillna(0).max() == 0, hypothesis


def test_of_calls_that_are_not_decisive_the_model_answers_some(carried):
    _, maps = carried
    assert not maps[True]["corrupted_answered"].any()
    assert maps[False]["corrupted_answered"].any()
    tells = {decisive: found["resid_pre"].sel(hypothesis="nothing").notnull() for decisive, found in maps.items()}
    assert tells[False].mean() < tells[True].mean()
