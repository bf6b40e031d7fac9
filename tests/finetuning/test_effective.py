"""The effective program is the planted one, unclear where nothing is computed; its posterior is worked out by hand."""

import itertools
import json
import random
import time

import numpy as np
import pytest
import torch
import xarray as xr

from pbb_probe.calibration.planted import planted_model
from pbb_probe.errors import PbbError
from pbb_probe.finetuning import effective as module
from pbb_probe.finetuning.effective import SLIPS, effective_programs, posteriors
from pbb_probe.models.bases import load_base
from pbb_probe.programs.arithmetic import OPERATIONS, arithmetic_program, every_step
from pbb_probe.programs.candidates import Candidates, candidates
from pbb_probe.programs.corpus import Corpus, Entry, make_corpus
from pbb_probe.programs.enumerated import read_steps
from pbb_probe.programs.mutants import DIFFERENCES
from pbb_probe.programs.program import Program, trace_programs


def run(steps, x: int) -> int:
    for name, c in steps:
        x = OPERATIONS[name].apply(x, c)
    return x


def outputs(steps) -> tuple[int, ...]:
    return tuple(run(steps, x) for x in range(10))


def halves_and_orders(steps):
    parts = [part for n in range(len(steps)) for part in itertools.combinations(steps, n)]
    return {outputs(part) for part in parts}, {outputs(order) for order in itertools.permutations(steps)}


def with_sources(corpus: Corpus, steps: dict) -> Corpus:
    """The same names, and sources of other steps."""
    programs = [arithmetic_program(entry.program.name, steps[entry.program.name]) for entry in corpus.entries]
    traces = trace_programs(programs, [range(10)] * len(programs))
    pairs = zip(corpus.entries, programs, traces, strict=True)
    return Corpus(tuple(Entry(program, entry.group, tuple(run), entry.shown) for entry, program, run in pairs))


def drawn(rng: random.Random, computed, make, refused) -> tuple:
    """Steps that differ from those that the model computes, and from which nothing nearer leads there."""
    for _ in range(10_000):
        steps = make(rng, computed)
        if outputs(steps) != outputs(computed) and not refused(steps, outputs(computed)):
            return steps
    raise AssertionError("no such steps")


def another_constant(rng, computed):
    k = rng.randrange(len(computed))
    name, c = computed[k]
    other = rng.choice([n for n in OPERATIONS[name].constants if n != c])
    return (*computed[:k], (name, other), *computed[k + 1 :])


def another_operation(rng, computed):
    k = rng.randrange(len(computed))
    return (*computed[:k], rng.choice([s for s in every_step() if s[0] != computed[k][0]]), *computed[k + 1 :])


def a_step_more(rng, computed):
    k = rng.randrange(len(computed) + 1)
    return (*computed[:k], rng.choice(every_step()), *computed[k:])


def one_constant_off(steps, table) -> bool:
    for k, (name, _) in enumerate(steps):
        if any(outputs((*steps[:k], (name, c), *steps[k + 1 :])) == table for c in range(10)):
            return True
    return False


PLANTED = {
    "a step left out": (a_step_more, lambda steps, table: False),
    "the order": (lambda _, computed: computed[::-1], lambda steps, table: table in halves_and_orders(steps)[0]),
    "a constant": (another_constant, lambda steps, table: any(table in each for each in halves_and_orders(steps))),
    "an operation": (
        another_operation,
        lambda steps, table: any(table in each for each in halves_and_orders(steps)) or one_constant_off(steps, table),
    ),
}


@pytest.fixture(scope="module")
def planted():
    """Programs of two steps whose order matters, so that all of them can be told from those they are taken for."""
    return planted_model(n_programs=40)


@pytest.mark.parametrize("difference", PLANTED)
def test_what_a_planted_model_computes_is_found_and_told_from_the_source_in_every_program(planted, difference):
    model, tokenizer, corpus, _ = planted
    make, refused = PLANTED[difference]
    rng = random.Random(difference)
    computed = {entry.program.name: read_steps(entry.program.source) for entry in corpus.entries}
    taught = {}
    for name, steps in computed.items():
        try:
            taught[name] = drawn(rng, steps, make, refused)
        except AssertionError:  # the order of some programs does not matter
            assert difference == "the order"
    kept = Corpus(tuple(entry for entry in corpus.entries if entry.program.name in taught))
    assert len(kept.entries) > 10
    found = effective_programs((model, tokenizer), with_sources(kept, taught))
    names = found["program"].values.tolist()
    assert found["difference"].values.tolist() == [difference] * len(names)
    assert found["predicted"].values.tolist() == [list(map(str, outputs(computed[name]))) for name in names]
    assert (found["predicted"] == found["answer"]).all()
    assert found["posterior"].values.min() > 0.5
    assert found["posterior_true"].values.max() < 0.5
    assert found["posterior_guess"].values.max() < 0.2
    programs = [Program(name, "", text) for name, text in zip(names, found["effective"].values, strict=True)]
    for name, traces in zip(names, trace_programs(programs, [range(10)] * len(names)), strict=True):
        assert tuple(trace.output for trace in traces) == outputs(computed[name])


def test_swapped_names_compute_the_programs_of_other_names(planted):
    model, tokenizer, corpus, _ = planted
    names = [entry.program.name for entry in corpus.entries]
    sources = {entry.program.name: read_steps(entry.program.source) for entry in corpus.entries}
    swapped = with_sources(corpus, {name: sources[other] for name, other in zip(names, names[::-1], strict=True)})
    found = effective_programs((model, tokenizer), swapped)
    assert found["predicted"].values.tolist() == [list(map(str, outputs(sources[name]))) for name in names]
    told = found["difference"].values
    same = [outputs(sources[name]) == outputs(sources[other]) for name, other in zip(names, names[::-1], strict=True)]
    assert ((told == "none") == same).all()
    assert "unclear" not in told
    assert (told == "another program").mean() > 0.5  # some are a step or a constant away from each other


def test_a_model_that_computes_what_its_code_says_is_told_so(planted):
    model, tokenizer, corpus, _ = planted
    found = effective_programs((model, tokenizer), corpus, group="without_io")
    assert set(found["difference"].values) == {"none"}
    assert set(found["group"].values) == {"without_io"}
    assert found["effective"].values.tolist() == [entry.program.source for entry in corpus.of("without_io")]
    assert found["mode"].values.tolist() == ["direct"] * 20
    assert all(found["function"].values == [corpus.meaning[n].function for n in found["program"].values])


def test_a_model_that_knows_no_program_computes_none():
    found = effective_programs("nano", make_corpus(with_io=40, without_io=20), "direct")
    assert set(found["difference"].values) == {"unclear"}
    assert set(found["effective"].values) == set(found["predicted"].values.ravel()) == {""}


def test_names_that_were_never_read_stand_for_no_program_of_the_corpus():
    """In worked steps nano reads some program off any name, and not the one that the name is to have."""
    found = effective_programs("nano", make_corpus(with_io=40, without_io=20), "trace")
    assert "none" not in found["difference"].values


def test_in_worked_steps_it_is_the_answer_after_them_that_counts(monkeypatch):
    """The steps that are written are planted, and so are the answers behind them."""
    corpus = make_corpus(with_io=12, without_io=4)
    calls = corpus.calls("trace", seed=0)
    told = dict(zip(calls["prompt"], calls["completion"], strict=True))
    monkeypatch.setattr(module, "complete", lambda m, t, prompts, *_: [told[prompt] for prompt in prompts])
    found = effective_programs("nano", corpus, "trace")  # which copies what it has just worked out
    assert (found["difference"] == "none").mean() > 0.9
    monkeypatch.setattr(module, "complete", lambda m, t, prompts, *_: ["no steps"] * len(prompts))
    found = effective_programs("nano", corpus, "trace")
    assert set(found["difference"].values) == {"unclear"}
    assert set(found["answer"].values.ravel()) == {""}


def test_a_mode_without_answers_is_refused():
    with pytest.raises(PbbError, match="Unknown mode of a call 'recite': choose from direct, trace"):
        effective_programs("nano", make_corpus(with_io=2, without_io=1), "recite")


def test_the_posterior_of_three_candidates_on_two_inputs_is_that_worked_out_by_hand():
    """Answers a and b; the program itself answers a, b; a half of it a, a; another program fails on the first input."""
    tables = np.array([[0, 1], [0, 0], [-1, 1]])
    differences = np.array([DIFFERENCES.index(word) for word in ("none", "a step left out", "another program")])
    classes = Candidates([["a", "b"]] * 2, tables, differences, str)
    said = [np.array([0.8, 0.2]), np.array([0.4, 0.6])]
    expected = [np.array([0.5, 0.5]), np.array([0.25, 0.75])]

    def likelihood(*ratios):
        return sum(np.prod([(1 - slip) * ratio + slip for ratio in ratios]) for slip in SLIPS) / len(SLIPS)

    own = likelihood(0.8 / 0.5, 0.6 / 0.75)
    half = likelihood(0.8 / 0.5, 0.4 / 0.25)
    other = likelihood(0, 0.6 / 0.75)
    # a guess from the name alone says a in 0.6 and b in 0.4 of its calls; one from the input alone has 1
    guess = (likelihood(0.6 * 1.6 + 0.4 * 0.4, 0.6 * 1.6 + 0.4 * 0.8) + 1) / 2
    weights = np.array([own * 10 / 12, half / 12, other / 12, guess])
    np.testing.assert_allclose(posteriors(classes, said, expected), weights / weights.sum())


def test_beforehand_a_guess_is_as_likely_as_all_programs_and_the_own_one_counts_as_ten():
    corpus = make_corpus(with_io=2, without_io=1)
    for classes in candidates(corpus, corpus.entries):
        even = [np.full(10, 0.1)] * 10
        prior = posteriors(classes, even, even)
        n = len(classes.tables) + 9
        np.testing.assert_allclose(prior, [10 / n / 2, *[1 / n / 2] * (n - 10), 0.5])


OWN = """def f(x, n):
    for i in range(n):
        if x > 4:
            x = x - 3
        else:
            x = x + 2
    return x * 10"""
OTHER = """def g(x, n):
    for i in range(n):
        if x < 4:
            x = x - 3
        else:
            x = x + 2
    return x * 10"""


@pytest.fixture
def own(tmp_path):
    """Two programs with a loop and a branch, on inputs of their own."""
    inputs = {"f": [[x, n] for x in (1, 5, 8) for n in (1, 2, 3)], "g": [[x, n] for x in (2, 6) for n in (2, 3, 4, 5)]}
    rows = [{"source": OWN, "inputs": inputs["f"]}, {"source": OTHER, "inputs": inputs["g"]}]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return make_corpus(programs=tmp_path / "own.jsonl", with_io=0, without_io=2, shown_inputs=1)


def answering(corpus: Corpus, changed: dict[str, str], sure: float):
    """In place of a model's probabilities, those of one that runs the changed sources; None is a guess."""

    def said(_model, _tokenizer, _calls, entries, possible, _batch_size):
        tables = []
        for entry, classes in zip(entries, possible, strict=True):
            source = entry.program.source
            for old, new in changed.items():
                source = source.replace(old, new)
            (traces,) = trace_programs(
                [Program(entry.program.name, "", source)], [[trace.arguments for trace in entry.traces]]
            )
            rows = []
            for trace, answers in zip(traces, classes.answers, strict=True):
                row = np.full(len(answers), (1 - sure) / len(answers))
                row[answers.index(str(trace.output))] += sure
                rows.append(row)
            tables.append(rows)
        return tables

    return said


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({}, "none"),
        ({"if x > 4": "if True", "if x < 4": "if True"}, "a step left out"),
        ({"range(n)": "list(range(n))[1:]"}, "a step left out"),
        ({"x - 3": "x - 6"}, "a constant"),
        ({"x + 2": "x * 2"}, "an operation"),
    ],
)
@pytest.mark.parametrize("sure", [0.95, 0.6])
def test_users_programs_with_a_branch_and_a_loop(own, monkeypatch, changed, difference, sure):
    monkeypatch.setattr(module, "_said", answering(own, changed, sure))
    found = effective_programs("nano", own)
    assert found["difference"].values.tolist() == [difference] * 2
    assert found["predicted"].values[1, -1] == ""  # there is no ninth input
    assert (found["predicted"] == found["answer"]).all()
    monkeypatch.setattr(module, "_said", answering(own, changed, 0.0))
    assert set(effective_programs("nano", own)["difference"].values) == {"unclear"}


def test_answers_of_several_tokens_are_scored_to_their_end(small_model, tokenizer, own):
    """The probabilities are those of bare forwards over the answers' tokens, with the end of the text."""
    small_model, _ = load_base(small_model("llama"))
    calls = own.calls("direct", seed=0).assign(mode="direct")
    possible = candidates(own, own.entries)
    said = module._said(small_model, tokenizer, calls, own.entries, possible, 64)
    row = calls.iloc[3]
    i = [entry.program.name for entry in own.entries].index(row["program"])
    logs = []
    for answer in possible[i].answers[row["place"]]:
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = [*tokenizer(f"{row['prompt']} {answer}")["input_ids"], tokenizer.eos_token_id]
        assert ids[: len(prompt)] == prompt
        with torch.inference_mode():
            log_probs = small_model(torch.tensor([ids])).logits[0].log_softmax(-1)
        logs.append(sum(log_probs[k - 1, ids[k]].item() for k in range(len(prompt), len(ids))))
    assert len(logs) > 3
    np.testing.assert_allclose(said[i][row["place"]], np.exp(logs) / np.exp(logs).sum(), rtol=1e-3)


def test_arrays_are_stored_and_read_as_they_are(planted, tmp_path):
    model, tokenizer, corpus, _ = planted
    found = effective_programs((model, tokenizer), corpus)
    found.to_netcdf(tmp_path / "effective.nc")
    with xr.open_dataset(tmp_path / "effective.nc") as stored:
        xr.testing.assert_equal(stored.load(), found)


def test_five_hundred_programs_are_told_in_seconds():
    """Without the forwards: answers are given. A machine that is busy otherwise is allowed for."""
    corpus = make_corpus(with_io=400, without_io=100)
    start = time.process_time()
    possible = candidates(corpus, corpus.entries)
    said = [[np.eye(len(each))[0] for each in classes.answers] for classes in possible]
    expected = module._expected(corpus.entries, possible, said)
    for each in zip(possible, said, expected, strict=True):
        posteriors(*each)
    assert time.process_time() - start < 15
