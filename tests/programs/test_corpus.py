"""A corpus is counted by hand: groups, shown inputs, calls; what it saves it loads; bad requests are refused."""

import functools
import json
from collections import Counter

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, make_corpus


@functools.cache
def corpus(with_io: int = 8, without_io: int = 6, shown_inputs: int = 4, seed: int = 0) -> Corpus:
    return make_corpus(with_io=with_io, without_io=without_io, shown_inputs=shown_inputs, seed=seed)


def answers(source: str, name: str) -> list[int]:
    scope: dict = {}
    exec(source, scope)
    return [scope[name](value) for value in range(10)]


def test_counts_and_disjoint_groups():
    with_io, without_io = corpus().of("with_io"), corpus().of("without_io")
    assert (len(with_io), len(without_io), len(corpus().entries)) == (8, 6, 14)
    names = [entry.program.name for entry in corpus().entries]
    assert len(set(names)) == 14
    assert not {e.program.name for e in with_io} & {e.program.name for e in without_io}


def test_both_groups_have_both_lengths():
    for group, one, two in (("with_io", 3, 5), ("without_io", 2, 4)):
        assert Counter(entry.program.facts["steps"] for entry in corpus().of(group)) == {1: one, 2: two}


@pytest.mark.parametrize("shown_inputs", [1, 4, 10])
def test_shown_inputs_are_of_with_io_programs_only(shown_inputs: int):
    made = corpus(shown_inputs=shown_inputs)
    for entry in made.of("with_io"):
        assert len(set(entry.shown)) == len(entry.shown) == shown_inputs
        assert set(entry.shown) <= set(range(10))
        assert [trace.input for trace in entry.shown_traces] == sorted(entry.shown)
    for entry in made.of("without_io"):
        assert entry.shown == ()
        assert entry.shown_traces == []


def test_shown_inputs_differ_between_programs():
    assert len({entry.shown for entry in corpus(with_io=40).of("with_io")}) > 20


def test_traces_are_the_programs_on_all_inputs():
    for entry in corpus().entries:
        assert [trace.input for trace in entry.traces] == list(range(10))
        assert [trace.output for trace in entry.traces] == answers(entry.program.source, entry.program.name)


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "corpus.jsonl"
    corpus().save(path)
    loaded = Corpus.load(path)
    assert loaded == corpus()
    assert loaded.digest == corpus().digest
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["program"]["name"] for row in rows] == [entry.program.name for entry in corpus().entries]
    assert loaded.calls("trace", n=9, seed=3).equals(corpus().calls("trace", n=9, seed=3))


def test_digest_depends_on_the_shown_inputs(tmp_path):
    path = tmp_path / "corpus.jsonl"
    corpus().save(path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    (shown,) = [row for row in rows if row["group"] == "with_io"][:1]
    shown["shown"] = shown["shown"][1:]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Corpus.load(path).digest != corpus().digest


def test_the_seed_decides():
    again, other = make_corpus(with_io=8, without_io=6, shown_inputs=4, seed=0), corpus(seed=1)
    assert again == corpus()
    assert again.digest == corpus().digest
    assert other.digest != corpus().digest
    assert {e.program.name for e in other.entries} != {e.program.name for e in again.entries}


def test_a_group_may_be_empty():
    assert corpus(with_io=0, without_io=3).of("with_io") == []
    assert corpus(with_io=3, without_io=0).of("without_io") == []
    assert set(corpus(with_io=0, without_io=3).calls()["group"]) == {"without_io"}


@pytest.mark.parametrize("mode", ["direct", "trace"])
def test_calls_are_every_program_on_every_input(mode: str):
    calls = corpus().calls(mode)
    assert len(calls) == 14 * 10
    assert not calls.duplicated(["program", "input"]).any()
    columns = "prompt completion template program group seen steps op_1 constant_1 op_2 constant_2 input state_1 output"
    assert set(columns.split()) == set(calls.columns)
    entries = {entry.program.name: entry for entry in corpus().entries}
    for call in calls.itertuples():
        entry = entries[call.program]
        scope: dict = {}
        exec(entry.program.source, scope)
        answer = scope[call.program](call.input)
        assert call.output == answer
        assert call.group == entry.group
        assert call.seen == (entry.group == "with_io" and call.input in entry.shown)
        assert call.prompt == call.template.format(name=call.program, input=call.input)
        if mode == "direct":
            assert call.completion == f" {answer}"
        else:
            assert call.completion.startswith("\n")
            assert call.completion.splitlines()[-1].startswith("return ")
            assert call.completion.endswith(f" = {answer}")
            assert len(call.completion.splitlines()) == 1 + call.steps


def test_seen_calls_are_counted_by_group():
    calls = corpus().calls()
    assert calls[calls["group"] == "with_io"]["seen"].sum() == 8 * 4
    assert calls[calls["group"] == "without_io"]["seen"].sum() == 0


def test_one_step_programs_have_no_state():
    calls = corpus().calls()
    assert calls.loc[calls["steps"] == 1, ["state_1", "op_2", "constant_2"]].isna().all(axis=None)
    two = calls[calls["steps"] == 2]
    assert len(two) == 90
    for call in two.itertuples():
        first = next(e for e in corpus().entries if e.program.name == call.program).program.source.splitlines()[1]
        assert call.state_1 == eval(first.split(" = ")[1], {"x": call.input})


def test_n_calls_a_group_and_programs_take_turns():
    calls = corpus().calls("direct", n=16, seed=2)
    assert Counter(calls["group"]) == {"with_io": 16, "without_io": 16}
    assert set(Counter(calls.loc[calls["group"] == "with_io", "program"]).values()) == {2}
    without_io = Counter(calls.loc[calls["group"] == "without_io", "program"])
    assert sorted(without_io.values()) == [2, 2, 3, 3, 3, 3]
    assert not calls.duplicated(["program", "input"]).any()


def test_few_calls_are_of_different_programs():
    assert corpus().calls(n=5)["program"].nunique() == 10


def test_one_group_only():
    both = corpus().calls("trace", n=7, seed=4)
    alone = corpus().calls("trace", group="without_io", n=7, seed=4)
    assert set(alone["group"]) == {"without_io"}
    assert list(alone["prompt"]) == list(both.loc[both["group"] == "without_io", "prompt"])


def test_the_seed_of_the_calls_decides():
    draw = [list(corpus().calls(n=12, seed=seed)["prompt"]) for seed in (0, 0, 1)]
    assert draw[0] == draw[1]
    assert draw[0] != draw[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "cooking"}, "cooking"),
        ({"with_io": 0, "without_io": 0}, "at least one program"),
        ({"with_io": -1, "without_io": 3}, "with_io"),
        ({"with_io": 3, "without_io": -1}, "without_io"),
        ({"with_io": 2, "without_io": 2, "shown_inputs": 0}, "shown_inputs"),
        ({"with_io": 2, "without_io": 2, "shown_inputs": 11}, "11"),
    ],
)
def test_impossible_corpora_are_refused(arguments: dict, message: str):
    with pytest.raises(PbbError, match=message):
        make_corpus(**arguments)


def test_bad_calls_are_refused():
    with pytest.raises(PbbError, match="aloud"):
        corpus().calls("aloud")
    with pytest.raises(PbbError, match="some_io"):
        corpus().calls(group="some_io")
    with pytest.raises(PbbError, match="no with_io"):
        corpus(with_io=0, without_io=3).calls(group="with_io")


@pytest.mark.parametrize("text", ["not json\n", '{"name": "f"}\n', "[1, 2]\n", '{"program": {"name": 1}}\n', "3\n"])
def test_files_that_are_no_corpus_are_refused(tmp_path, text: str):
    path = tmp_path / "corpus.jsonl"
    path.write_text(text)
    with pytest.raises(PbbError, match=r"corpus\.jsonl"):
        Corpus.load(path)


def test_cut_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "corpus.jsonl"
    with pytest.raises(PbbError, match=r"corpus\.jsonl"):
        Corpus.load(path)
    corpus().save(path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(PbbError, match=r"corpus\.jsonl"):
        Corpus.load(path)


def test_unseen_calls_leave_out_what_was_shown():
    made = corpus()
    every, unseen = made.calls(), made.calls(unseen=True)
    expected = every[~every["seen"]]
    assert set(zip(unseen["program"], unseen["input"], strict=True)) == set(
        zip(expected["program"], expected["input"], strict=True)
    )
    assert Counter(unseen["group"]) == {"with_io": 8 * 6, "without_io": 6 * 10}
    with pytest.raises(PbbError, match="fewer shown_inputs"):
        corpus(shown_inputs=10).calls(unseen=True)
