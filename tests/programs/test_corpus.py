"""A corpus is counted by hand: groups, shown inputs, calls; what it saves it loads; bad requests are refused."""

import copy
import functools
import json
import shutil
from collections import Counter

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, Entry, make_corpus
from pbb_probe.programs.describe import read_description
from pbb_probe.programs.program import Program
from pbb_probe.programs.templates import templates

FAMILIES = ("arithmetic", "algorithms", "ciphers")


@functools.cache
def corpus(with_io: int = 8, without_io: int = 6, shown_inputs: int = 4, seed: int = 0, **more) -> Corpus:
    return make_corpus(with_io=with_io, without_io=without_io, shown_inputs=shown_inputs, seed=seed, **more)


@functools.cache
def composed(family: str = "arithmetic") -> Corpus:
    n = 150 if family == "arithmetic" else 15
    return make_corpus(family, with_io=40, without_io=20, composed_with_io=n, composed_without_io=n, shown_inputs=3)


def answers(program: Program, inputs=tuple((value,) for value in range(10)), library=()) -> list:
    scope: dict = {}
    for known in (*library, program):
        exec(known.source, scope)
    return [scope[program.name](*copy.deepcopy(arguments)) for arguments in inputs]


def inputs_of(entry: Entry) -> list[tuple]:
    return [trace.arguments for trace in entry.traces]


def test_counts_and_disjoint_groups():
    with_io, without_io = corpus().of("with_io"), corpus().of("without_io")
    assert (len(with_io), len(without_io), len(corpus().entries)) == (8, 6, 14)
    names = [entry.program.name for entry in corpus().entries]
    assert len(set(names)) == 14
    assert not {e.program.name for e in with_io} & {e.program.name for e in without_io}


def test_both_groups_have_both_lengths():
    for group, one, two in (("with_io", 3, 5), ("without_io", 2, 4)):
        assert Counter(entry.program.facts["steps"] for entry in corpus().of(group)) == {1: one, 2: two}


def test_shapes_are_those_asked_for():
    made = corpus(shapes=("loop", "four_steps"))
    assert Counter(entry.program.facts["steps"] for entry in made.entries) == {3: 7, 4: 7}
    assert sum("turns" in entry.program.facts for entry in made.entries) == 7


@pytest.mark.parametrize("shown_inputs", [1, 4, 10])
def test_shown_inputs_are_of_with_io_programs_only(shown_inputs: int):
    made = corpus(shown_inputs=shown_inputs)
    for entry in made.of("with_io"):
        assert len(set(entry.shown)) == len(entry.shown) == shown_inputs
        assert set(entry.shown) <= set(range(10))
        assert [trace.input for trace in entry.shown_traces] == sorted(entry.shown)  # places are inputs in arithmetic
    for entry in made.of("without_io"):
        assert entry.shown == ()
        assert entry.shown_traces == []


@pytest.mark.parametrize("family", FAMILIES[1:])
def test_shown_inputs_are_places_in_the_traces(family: str):
    made = corpus(family=family)
    for entry in made.of("with_io"):
        assert [entry.traces[place] for place in sorted(entry.shown)] == entry.shown_traces
        assert len(entry.shown_traces) == 4
    assert {entry.program.family for entry in made.entries} == {family}
    calls = made.calls()
    seen = calls[calls["seen"]]
    shown = {(e.program.name, trace.call_text) for e in made.of("with_io") for trace in e.shown_traces}
    assert set(zip(seen["program"], seen["call"], strict=True)) == shown
    assert len(seen) == 8 * 4


def test_shown_inputs_differ_between_programs():
    assert len({entry.shown for entry in corpus(with_io=40).of("with_io")}) > 20


@pytest.mark.parametrize("family", FAMILIES)
def test_traces_are_the_programs_on_all_inputs(family: str):
    made = corpus(family=family)
    for entry in made.entries:
        assert len(set(map(str, inputs_of(entry)))) == 10
        assert [trace.output for trace in entry.traces] == answers(entry.program, inputs_of(entry))
    if family == "arithmetic":
        assert [inputs_of(entry) for entry in made.entries] == [[(value,) for value in range(10)]] * 14


# --- making it again, saving it, sharing it ------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_its_settings_make_the_same_corpus_again(family: str):
    made = corpus(family=family, shapes=("nested", "one_step"), composed_with_io=2, composed_without_io=1, seed=3)
    again = make_corpus(**made.config)
    assert again == made
    assert again.digest == made.digest
    assert again.config == made.config
    assert json.loads(json.dumps(made.config)) == made.config
    assert made.config == {
        "family": family,
        "with_io": 8,
        "without_io": 6,
        "shown_inputs": 4,
        "seed": 3,
        "io_only": 0,
        "new_functions": 0.5,
        "new_problems": 0.25,
        "shapes": ["nested", "one_step"],
        "composed_with_io": 2,
        "composed_without_io": 1,
        "programs": None,
        "names": "nonsense",
        "comments": True,
        "lines": 5000,
        "skip_failing": False,
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_decides(family: str):
    again = make_corpus(family, with_io=8, without_io=6, shown_inputs=4, seed=0)
    other = corpus(seed=1, family=family)
    assert again == corpus(family=family)
    assert again.digest == corpus(family=family).digest
    assert other.digest != again.digest
    assert {e.program.name for e in other.entries} != {e.program.name for e in again.entries}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_loaded(tmp_path, family: str):
    made = corpus(family=family, composed_with_io=2)
    made.save(tmp_path / "made" / "here")
    assert {path.name for path in (tmp_path / "made" / "here").iterdir()} == {
        *("corpus.jsonl", "config.json", "README.md"),
    }
    loaded = Corpus.load(str(tmp_path / "made" / "here"))
    assert loaded == made
    assert loaded.config == made.config
    assert loaded.digest == made.digest
    rows = [json.loads(line) for line in (tmp_path / "made" / "here" / "corpus.jsonl").read_text().splitlines()]
    assert [row["program"]["name"] for row in rows] == [entry.program.name for entry in made.entries]
    assert loaded.calls("trace", n=9, seed=3).equals(made.calls("trace", n=9, seed=3))
    assert make_corpus(**loaded.config) == made


def test_the_card_counts_the_programs_and_says_how_they_were_made(tmp_path):
    made = corpus(composed_with_io=3, composed_without_io=2)
    made.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    for row in ("| arithmetic | with_io | 8 |", "| arithmetic | without_io | 6 |", "| composed | with_io | 3 |"):
        assert row in card
    call = card.split("`pbb_probe.")[1].split("`")[0]
    assert eval(call, {"make_corpus": make_corpus}) == made
    assert made.entries[0].program.source in card


def test_digest_depends_on_the_shown_inputs(tmp_path):
    corpus().save(tmp_path)
    path = tmp_path / "corpus.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    (shown,) = [row for row in rows if row["group"] == "with_io"][:1]
    shown["shown"] = shown["shown"][1:]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Corpus.load(tmp_path).digest != corpus().digest
    assert Corpus.load(tmp_path) != corpus()


@pytest.mark.parametrize("family", FAMILIES)
def test_datasets_hold_what_the_corpus_does(family: str):
    made = corpus(family=family, composed_without_io=2)
    shared = made.to_datasets()
    assert set(shared) == {"with_io", "without_io"}
    for group, n in (("with_io", 8), ("without_io", 8)):
        assert len(shared[group]) == n
        for row, entry in zip(shared[group], made.of(group), strict=True):
            program = entry.program
            assert (row["name"], row["family"], row["source"]) == (program.name, program.family, program.source)
            assert json.loads(row["facts"]) == program.facts
            assert tuple(row["calls"]) == program.calls
            assert read_description(row["description"]) == program.source
            inputs = [eval(f"({text},)") for text in row["inputs"]]
            assert inputs == inputs_of(entry)
            library = [e.program for e in made.entries if e.program.name in program.calls]
            assert row["outputs"] == [repr(output) for output in answers(program, inputs, library)]
            assert [place for place, shown in enumerate(row["shown"]) if shown] == list(entry.shown)


def test_a_program_without_words_has_an_empty_description_in_its_dataset():
    (entry,) = corpus(with_io=0, without_io=1).entries
    program = Program("f", "own", "def f(x):\n    return ~x")
    made = Corpus((Entry(program, "without_io", entry.traces, ()), entry))
    shared = made.to_datasets()
    assert list(shared) == ["without_io"]
    assert [bool(row["description"]) for row in shared["without_io"]] == [False, True]


# --- composition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_composed_programs_chain_two_others(family: str):
    made = composed(family)
    n = 150 if family == "arithmetic" else 15
    known = {entry.program.name: entry for entry in made.entries if entry.program.family == family}
    chained = [entry for entry in made.entries if entry.program.family == "composed"]
    assert Counter(entry.group for entry in chained) == {"with_io": n, "without_io": n}
    assert len({entry.program.name for entry in made.entries}) == 60 + 2 * n
    for entry in chained:
        first, second = (known[entry.program.facts[f"callee_{k}"]] for k in (1, 2))
        one, two = first.program.name, second.program.name
        assert entry.program.source == f"def {entry.program.name}(x):\n    y = {one}(x)\n    return {two}(y)"
        assert entry.program.calls == ((one, two) if one != two else (one,))
        assert entry.program.facts == {"steps": 2, "callee_1": one, "callee_2": two}
        assert inputs_of(entry) == inputs_of(first)
        between = [trace.output for trace in first.traces]
        assert [trace.states for trace in entry.traces] == [(value,) for value in between]
        if family == "arithmetic":
            wanted = [second.traces[value].output for value in between]
        else:
            wanted = answers(second.program, [(value,) for value in between])
        assert [trace.output for trace in entry.traces] == wanted
        assert len(set(map(str, wanted))) > 1
        assert (1 <= len(entry.shown) <= 3) if entry.group == "with_io" else not entry.shown


@pytest.mark.parametrize("family", FAMILIES)
def test_the_other_programs_are_the_same_with_and_without_composed_ones(family: str):
    alone, joined = corpus(family=family), corpus(family=family, composed_with_io=2, composed_without_io=1)
    assert joined.entries[:14] == alone.entries
    assert [entry.program.family for entry in joined.entries[14:]] == ["composed"] * 3


def test_callees_are_of_both_groups_and_a_fifth_call_one_of_them_twice():
    made = composed()
    group = {entry.program.name: entry.group for entry in made.entries}
    chained = [entry.program.facts for entry in made.entries if entry.program.family == "composed"]
    pairs = Counter((group[facts["callee_1"]], group[facts["callee_2"]]) for facts in chained)
    assert len(pairs) == 4
    assert pairs["with_io", "with_io"] > pairs["without_io", "without_io"] >= 15  # 40 and 20 of 60
    twice = sum(facts["callee_1"] == facts["callee_2"] for facts in chained)
    assert 45 <= twice <= 90  # of 300: a fifth, and by chance one in 60 of the others


def test_algorithms_are_composed_where_one_returns_what_the_other_takes():
    known = {entry.program.name: entry for entry in composed("algorithms").entries}
    for entry in known.values():
        if entry.program.family == "composed":
            first, second = (known[entry.program.facts[f"callee_{k}"]] for k in (1, 2))
            assert {len(trace.arguments) for trace in (*first.traces, *second.traces)} == {1}
            given = {type(trace.output) for trace in first.traces}
            assert given == {type(trace.arguments[0]) for trace in second.traces}


# --- calls ---------------------------------------------------------------------------------------------------------


def test_a_group_may_be_empty():
    assert corpus(with_io=0, without_io=3).of("with_io") == []
    assert corpus(with_io=3, without_io=0).of("without_io") == []
    assert set(corpus(with_io=0, without_io=3).calls()["group"]) == {"without_io"}


@pytest.mark.parametrize("mode", ["direct", "trace"])
def test_calls_are_every_program_on_every_input(mode: str):
    calls = corpus().calls(mode)
    assert len(calls) == 14 * 10
    assert not calls.duplicated(["program", "input"]).any()
    columns = """
        prompt completion template call place program source family group seen steps op_1 constant_1 op_2 constant_2
        function novelty decisive explained_by input state_1 output
    """
    assert set(columns.split()) == set(calls.columns)
    entries = {entry.program.name: entry for entry in corpus().entries}
    for call in calls.itertuples():
        entry = entries[call.program]
        answer = answers(entry.program)[call.input]
        assert call.output == answer
        assert call.source == entry.program.source
        assert call.group == entry.group
        assert call.family == "arithmetic"
        assert call.place == call.input
        assert call.call == str(call.input)
        assert call.seen == (entry.group == "with_io" and call.input in entry.shown)
        assert call.prompt == call.template.format(name=call.program, input=call.input)
        if mode == "direct":
            assert call.completion == f" {answer}"
        else:
            assert call.completion.startswith("\n")
            assert call.completion.splitlines()[-1].startswith("return ")
            assert call.completion.endswith(f" = {answer}")
            assert len(call.completion.splitlines()) == 1 + call.steps


@pytest.mark.parametrize("family", FAMILIES[1:])
def test_calls_of_lists_and_words(family: str):
    made = corpus(family=family, composed_with_io=3)
    entries = {entry.program.name: entry for entry in made.entries}
    for mode in ("direct", "trace"):
        calls = made.calls(mode)
        assert len(calls) == 17 * 10
        assert Counter(calls["family"]) == {family: 140, "composed": 30}
        for call in calls.itertuples():
            entry = entries[call.program]
            trace = entry.traces[call.place]
            assert call.call == ", ".join(map(repr, trace.arguments))
            assert call.prompt == call.template.format(name=call.program, input=call.call)
            assert call.template in templates(entry.program.family, mode)
            assert call.completion.endswith(f" {trace.output!r}")
            assert str(call.output) == repr(trace.output).strip() or call.output == trace.output
            assert call.seen == (call.place in entry.shown)


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


@pytest.mark.parametrize("family", FAMILIES)
def test_unseen_calls_leave_out_what_was_shown(family: str):
    made = corpus(family=family)
    every, unseen = made.calls(), made.calls(unseen=True)
    expected = every[~every["seen"]]
    assert set(zip(unseen["program"], unseen["call"], strict=True)) == set(
        zip(expected["program"], expected["call"], strict=True)
    )
    assert Counter(unseen["group"]) == {"with_io": 8 * 6, "without_io": 6 * 10}
    with pytest.raises(PbbError, match="fewer shown_inputs"):
        corpus(shown_inputs=10, family=family).calls(unseen=True)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "cooking"}, "'cooking': choose from arithmetic, algorithms, ciphers"),
        ({"with_io": 0, "without_io": 0}, "at least one program"),
        ({"with_io": -1, "without_io": 3}, "with_io"),
        ({"with_io": 3, "without_io": -1}, "without_io"),
        ({"with_io": 3, "without_io": 1, "composed_with_io": -1}, "composed_with_io must be at least 0"),
        ({"with_io": 0, "without_io": 0, "composed_with_io": 3}, "at least one program"),
        ({"with_io": 2, "without_io": 2, "shown_inputs": 0}, "shown_inputs"),
        ({"with_io": 2, "without_io": 2, "shown_inputs": 11}, "11"),
        ({"with_io": 2, "without_io": 2, "shapes": ("one_step", "spiral")}, "spiral"),
        ({"with_io": 2, "without_io": 2, "shapes": ()}, "choose one or more of one_step"),
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


def without(key: str):
    return lambda rows: [{k: v for k, v in rows[0].items() if k != key}, *rows[1:]]


def replaced(key: str, value):
    return lambda rows: [*rows[:-1], {**rows[-1], key: value}]


DAMAGE = {
    "not json": lambda text: "not json\n",
    "no programs": lambda text: "",
    "another object": lambda text: '{"name": "f"}\n',
    "a list": lambda text: "[1, 2]\n",
    "a number": lambda text: text + "3\n",
    "a program of a name": lambda text: '{"program": {"name": 1}}\n',
    "cut": lambda text: text[:-40],
    "no group": without("group"),
    "no traces": without("traces"),
    "no shown": without("shown"),
    "another group": replaced("group", "some_io"),
    "shown that are not there": replaced("shown", [2, 10]),
    "shown that are no places": replaced("shown", ["x"]),
    "traces that are none": replaced("traces", [{"arguments": [1]}]),
    "a program with too much": replaced("program", {"name": "f", "calls": [], "colour": "red"}),
}


def refused(path) -> None:
    with pytest.raises(PbbError) as raised:
        Corpus.load(path)
    message = str(raised.value)
    assert str(path) in message
    assert message.endswith("make it anew with make_corpus.")
    assert "\n" not in message


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_corpora_are_refused_in_one_sentence(tmp_path, damage: str):
    corpus().save(tmp_path)
    path = tmp_path / "corpus.jsonl"
    text = path.read_text()
    if damage in ("not json", "no programs", "another object", "a list", "a number", "a program of a name", "cut"):
        path.write_text(DAMAGE[damage](text))
    else:
        rows = DAMAGE[damage]([json.loads(line) for line in text.splitlines()])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(tmp_path)


@pytest.mark.parametrize("config", ["", "[]", "{", "3"])
def test_damaged_settings_are_refused_in_one_sentence(tmp_path, config: str):
    corpus().save(tmp_path)
    (tmp_path / "config.json").write_text(config)
    refused(tmp_path)


@pytest.mark.parametrize("name", ["corpus.jsonl", "config.json"])
def test_missing_files_are_refused_in_one_sentence(tmp_path, name: str):
    refused(tmp_path / "nowhere")
    corpus().save(tmp_path)
    (tmp_path / name).unlink()
    refused(tmp_path)
    (tmp_path / name).mkdir()
    refused(tmp_path)
    shutil.rmtree(tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    refused(tmp_path)


def test_the_card_may_be_missing(tmp_path):
    corpus().save(tmp_path)
    (tmp_path / "README.md").unlink()
    assert Corpus.load(tmp_path) == corpus()


def test_composed_programs_with_examples_show_no_answer_that_is_held_out():
    corpus = make_corpus(with_io=40, without_io=20, shown_inputs=5, seed=1, composed_with_io=25, composed_without_io=10)
    by_name = {entry.program.name: entry for entry in corpus.entries}
    shown = {
        (entry.program.name, trace.arguments): trace.output
        for entry in corpus.entries
        if entry.program.family == "arithmetic"
        for trace in entry.shown_traces
    }
    composed = [e for e in corpus.of("with_io") if e.program.family == "composed"]
    assert len(composed) == 25
    for entry in composed:
        assert {by_name[callee].group for callee in entry.program.calls} == {"with_io"}
        first, second = (str(entry.program.facts[fact]) for fact in ("callee_1", "callee_2"))
        assert 1 <= len(entry.shown) <= 5
        for trace in entry.shown_traces:
            between = shown[first, trace.arguments]  # a KeyError here is a held-out answer
            assert trace.output == shown[second, (between,)]
    assert {by_name[callee].group for e in corpus.of("without_io") for callee in e.program.calls} == {
        "with_io",
        "without_io",
    }


def test_composed_programs_leave_the_others_as_they_are():
    plain = make_corpus(with_io=20, without_io=10, seed=4)
    longer = make_corpus(with_io=20, without_io=10, seed=4, composed_with_io=3, composed_without_io=2)
    assert longer.entries[:30] == plain.entries
