"""Pairs for the transfer map are checked one by one: programs, inputs, tokens, and an answer a hypothesis."""

import itertools
from collections import Counter

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.patching.hypotheses import hypotheses, telling
from pbb_probe.patching.pair_calls import are_decisive
from pbb_probe.patching.transfer_pairs import make_transfer_pairs
from pbb_probe.programs.corpus import Corpus, Entry, make_corpus
from pbb_probe.programs.program import Program, trace_programs


@pytest.fixture(scope="module")
def large():
    return make_corpus(with_io=60, without_io=30, io_only=30, seed=0)


def parts(source: str) -> list[str]:
    """The expressions of a straight-line program, in order."""
    return [line.split("=", 1)[-1].replace("return", "").strip() for line in source.splitlines()[1:]]


def follow(expressions: list[str], value: int) -> int:
    """The expressions one after another, each on the value of the one before."""
    for expression in expressions:
        value = eval(expression, {"max": max, "min": min, "abs": abs, "x": value, "y": value, "z": value})
    return value


def brute_force(base, source) -> list[int]:
    """The answers under every hypothesis for a pair of rows of labels."""
    a, b = parts(base["source"]), parts(source["source"])
    x, y = base["input"], source["input"]
    steps = [
        answer
        for k in range(1, len(a))
        for answer in (
            follow(a[k:], follow(b[:k], y)),
            follow(a[k:], follow(b[:k], x)),
            follow(b[k:], follow(a[:k], x)),
        )
    ]
    return [follow(a, x), follow(b, y), follow(b, x), follow(a, y), *steps]


def simpler_answers(expressions: list[str], value: int) -> set[int]:
    """What the input alone, one step alone, or the steps in another order give."""
    halves = [[step] for step in expressions] if len(expressions) > 1 else []
    orders = [list(order) for order in itertools.permutations(expressions) if list(order) != expressions]
    return {value, *(follow(part, value) for part in (*halves, *orders))}


@pytest.mark.parametrize("name", ["nano", "llama"])
@pytest.mark.parametrize("group", ["with_io", "without_io", "io_only"])
def test_every_pair_qualifies_by_brute_force(group, name, bridge, large):
    pairs = make_transfer_pairs(large, bridge(name), group, n=80)
    assert len(pairs) > 60
    sources = {entry.program.name: entry.program.source for entry in large.of(group)}
    assert (pairs.clean.attention_mask == pairs.corrupted.attention_mask).all()
    for role, span in pairs.clean.spans.items():
        assert (span == pairs.corrupted.spans[role]).all()
    for i in range(len(pairs)):
        source, base = (run.labels.iloc[i] for run in (pairs.clean, pairs.corrupted))
        assert source["program"] != base["program"]
        assert source["input"] != base["input"]
        assert source["steps"] == base["steps"]
        assert source["template"] == base["template"]
        answers = brute_force(base, source)
        assert answers[:2] == [base["output"], source["output"]]
        swapped = zip((base, source, source, base), (base, source, base, source), answers[:4], strict=True)
        for program, value, output in swapped:
            assert output not in simpler_answers(parts(program["source"]), value["input"])
        assert len(set(answers)) == len(answers) == {1: 4, 2: 7}[base["steps"]]
        for row, run in ((source, pairs.clean), (base, pairs.corrupted)):
            assert row["source"] == sources[row["program"]]
            assert run.texts[i] == row["prompt"] == row["template"].format(name=row["program"], input=row["call"])
    assert not pairs.corrupted.labels.duplicated(["program", "call"]).all()
    assert (
        not pairs.clean.labels.join(pairs.corrupted.labels, rsuffix="_base")
        .duplicated(["program", "call", "program_base", "call_base"])
        .any()
    )


def test_many_random_pairs_do_not_qualify(large):
    """Or else the test above could not fail."""
    calls = large.calls(group="with_io", n=200)
    calls = calls[calls["steps"] == 2]
    rows = calls.to_dict(orient="records")
    answers = [brute_force(a, b) for a, b in itertools.pairwise(rows)]
    assert sum(len(set(found)) == 7 for found in answers) < 0.3 * len(answers)


def test_pairs_are_spread_over_steps_and_base_programs(bridge, large):
    pairs = make_transfer_pairs(large, bridge("nano"), "without_io", n=81, decisive=False)
    labels = pairs.corrupted.labels
    assert Counter(labels["steps"]) == {1: 41, 2: 40}
    for steps, n_programs in ((1, 10), (2, 20)):
        turns = labels[labels["steps"] == steps]["program"].value_counts()
        assert len(turns) == n_programs
        assert turns.max() - turns.min() <= 3
    assert list(labels["steps"]) == sorted(labels["steps"])
    ones = list(labels["program"][:10])
    assert len(set(ones)) == 10  # programs take turns


def test_decisive_pairs_take_turns_as_far_as_they_go(bridge, large):
    labels = make_transfer_pairs(large, bridge("nano"), "without_io", n=60).corrupted.labels
    assert labels["decisive"].all()
    assert not make_transfer_pairs(large, bridge("nano"), "without_io", n=60, decisive=False).labels["decisive"].all()
    turns = labels[labels["steps"] == 2]["program"].value_counts()
    assert len(turns) >= 10
    assert (turns == turns.max()).sum() >= 5


def test_pairs_in_which_half_evaluations_tell_come_first(bridge, large):
    """Within a base program; one that has any other could be drawn."""
    model, library = bridge("nano"), [entry.program for entry in large.entries]
    pairs = make_transfer_pairs(large, model, "with_io", n=60)
    two = pairs.select([i for i, steps in enumerate(pairs.labels["steps"]) if steps == 2])
    tell = telling(hypotheses(two.corrupted.labels, two.clean.labels, library)).sum(axis=1).tolist()
    for rows in two.corrupted.labels.groupby("program").indices.values():
        assert [tell[i] for i in rows] == sorted((tell[i] for i in rows), reverse=True)
    assert len(set(tell)) > 3


def test_programs_of_some_novelties_on_the_sides_without_examples(bridge, large):
    model = bridge("nano")
    new = ["new_function", "new_step"]
    kinds = large.calls(group="without_io").groupby("program")["novelty"].first()
    assert 0 < kinds.isin(new).sum() < len(kinds)
    pairs = make_transfer_pairs(large, model, "without_io", n=20, novelty=new)
    assert set(pairs.labels["novelty"]) | set(pairs.labels["corrupted_novelty"]) <= set(new)
    pairs = make_transfer_pairs(large, model, "without_io", n=20, novelty=new, donor_group="with_io")
    assert set(pairs.labels["corrupted_novelty"]) <= set(new)
    assert set(pairs.labels["novelty"]) == {""}
    with pytest.raises(PbbError, match="No with_io program is of the novelty new_function"):
        make_transfer_pairs(large, model, "with_io", n=20, novelty=["new_function"])
    with pytest.raises(PbbError, match="Unknown novelty 'fresh'"):
        make_transfer_pairs(large, model, "without_io", n=20, novelty=["fresh"])


def test_calls_that_are_no_inputs_of_a_program_are_judged_by_running_simpler_ones(bridge):
    """Words of ciphers are their programs' own: B(x) and A(x') are in no table."""
    corpus = make_corpus("ciphers", with_io=30, without_io=2, seed=0)
    entry = corpus.entries[-1]
    known = [(entry.program.name, trace.call_text) for trace in entry.traces]
    words = corpus.meaning[entry.program.name].explained_by
    assert are_decisive(corpus, known) == [not word for word in words]
    doubled = Program("dolvik", "arithmetic", "def dolvik(x):\n    y = x * 2\n    return y + 1", {"steps": 2})
    (traces,) = trace_programs([doubled], [range(3)])
    corpus = Corpus((Entry(doubled, "with_io", tuple(traces), (0,)),))
    # (2x + 1) is 2x + 2 in the other order, 2x or x + 1 by halves; -1 is an input that gives itself, 'a' fails
    calls = [("dolvik", text) for text in ("7", "-1", "'a'", "0", "7")]
    assert are_decisive(corpus, calls) == [True, False, False, False, True]


def test_unseen_inputs_and_other_groups(bridge, large):
    model = bridge("nano")
    pairs = make_transfer_pairs(large, model, "with_io", n=30, unseen=True)
    assert not pairs.clean.labels["seen"].any()
    assert not pairs.corrupted.labels["seen"].any()
    assert make_transfer_pairs(large, model, "with_io", n=30).corrupted.labels["seen"].any()
    pairs = make_transfer_pairs(large, model, "with_io", n=30, donor_group="without_io")
    assert set(pairs.corrupted.labels["group"]) == {"with_io"}
    assert set(pairs.clean.labels["group"]) == {"without_io"}
    assert len(pairs) == 30


def test_the_seed_draws_the_pairs(bridge, large):
    def texts(seed):
        pairs = make_transfer_pairs(large, bridge("nano"), "with_io", n=20, seed=seed)
        return pairs.clean.texts, pairs.corrupted.texts

    assert texts(0) == texts(0)
    assert texts(0) != texts(1)


@pytest.mark.parametrize("family", ["algorithms", "ciphers"])
def test_programs_with_texts_lists_and_branches(family, bridge):
    corpus = make_corpus(family, with_io=40, without_io=2, seed=0)
    pairs = make_transfer_pairs(corpus, bridge("llama"), "with_io", n=24)
    assert len(pairs) > 5
    for base, source in zip(
        *(run.labels.to_dict(orient="records") for run in (pairs.corrupted, pairs.clean)), strict=True
    ):
        answers = []
        for program, call in ((base, base), (source, source), (source, base), (base, source)):
            scope: dict = {}
            exec(program["source"], scope)
            answers.append(repr(eval(f"{program['program']}({call['call']})", scope)))
        assert answers[0] == str(base["output"])
        assert answers[1] == str(source["output"])
        assert len(set(answers)) == 4


def test_composed_programs_are_paired(bridge):
    corpus = make_corpus(with_io=20, without_io=5, composed_without_io=40, seed=0)
    labels = make_transfer_pairs(corpus, bridge("nano"), "without_io", n=40).corrupted.labels
    assert (labels["family"] == "composed").sum() > 10


def corpus_of(*bodies: str) -> Corpus:
    programs = [
        Program(name, "arithmetic", f"def {name}(x):\n    return {body}", {"steps": 1})
        for name, body in zip(("dolvik", "zabrut", "gaxnol"), bodies, strict=False)
    ]
    runs = trace_programs(programs, [range(10)] * len(programs))
    return Corpus(tuple(Entry(p, "with_io", tuple(found), (0,)) for p, found in zip(programs, runs, strict=True)))


def test_what_cannot_be_paired_is_refused(bridge):
    model = bridge("nano")
    assert len(make_transfer_pairs(corpus_of("(x + 1) % 10", "x * 3 % 10"), model, "with_io", n=10)) == 10
    with pytest.raises(PbbError, match="No pair of with_io calls"):
        make_transfer_pairs(corpus_of("(x + 1) % 10"), model, "with_io")
    with pytest.raises(PbbError, match="No pair of with_io calls"):  # B(x) is B(x')
        make_transfer_pairs(corpus_of("3 + x * 0", "5 + x * 0", "7 + x * 0"), model, "with_io")
    with pytest.raises(PbbError, match="no without_io programs"):
        make_transfer_pairs(corpus_of("x"), model, "without_io")
    with pytest.raises(PbbError, match="No such with_io call is decisive"):
        make_transfer_pairs(corpus_of("x"), model, "with_io")
    with pytest.raises(PbbError, match="no without_io programs"):
        make_transfer_pairs(corpus_of("x + 1"), model, "with_io", donor_group="without_io", decisive=False)
