"""A pair differs in one thing only, has two answers, and lines up token by token."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from pbb_probe.errors import PbbError
from pbb_probe.patching.files import read_pairs
from pbb_probe.patching.pairs import Pairs, has_pair, make_pairs
from pbb_probe.programs.corpus import Corpus, Entry, make_corpus
from pbb_probe.programs.program import Program, trace_programs

FIELDS = {"input": "input", "program": "name"}  # what is swapped, and the role where it stands


@pytest.fixture(scope="module")
def outputs(corpus):
    """The output of each (program, input), by running the source here."""
    table = {}
    for entry in corpus.entries:
        scope = {}
        exec(entry.program.source, scope)
        table |= {(entry.program.name, value): scope[entry.program.name](value) for value in range(10)}
    return table


def named(*names) -> Corpus:
    """One-step with_io programs of these names, each adding another constant."""
    programs = [
        Program(name, "arithmetic", f"def {name}(x):\n    return (x + {k}) % 10", {"steps": 1})
        for k, name in enumerate(names, start=1)
    ]
    traces = trace_programs(programs, [range(10)] * len(programs))
    return Corpus(
        tuple(Entry(program, "with_io", tuple(runs), (0, 1)) for program, runs in zip(programs, traces, strict=True))
    )


@pytest.fixture(scope="module")
def three_groups() -> Corpus:
    return make_corpus(with_io=40, without_io=20, io_only=20, seed=1)


def easier(source: str, x: int) -> set[int]:
    """What the input alone, one of two steps, or their other order gives, by the expressions of the source."""
    steps = [line.split("=")[-1].replace("return", "").strip() for line in source.splitlines()[1:]]

    def run(*chosen: str) -> int:
        value = x
        for text in chosen:
            value = eval(text, {"max": max, "min": min, "abs": abs, "x": value, "y": value})
        return value

    return {x} | ({run(steps[0]), run(steps[1]), run(*reversed(steps))} if len(steps) == 2 else set())


@pytest.mark.parametrize("group", ["with_io", "without_io", "io_only"])
@pytest.mark.parametrize("swap", ["input", "program"])
def test_no_simpler_program_gives_the_answers_of_a_pair(swap, group, bridge, three_groups):
    def coincide(pairs: Pairs) -> list[bool]:
        sides = (side.labels for side in (pairs.clean, pairs.corrupted))
        rows = pd.concat(sides).to_dict(orient="records")
        return [row["output"] in easier(row["source"], row["input"]) for row in rows]

    pairs = make_pairs(three_groups, bridge("nano"), swap, group, n=60)
    assert len(pairs) > 50
    assert not any(coincide(pairs))
    assert pairs.labels[["decisive", "corrupted_decisive"]].all(axis=None)
    assert set(pairs.labels["explained_by"]) == {""}
    every = make_pairs(three_groups, bridge("nano"), swap, group, n=60, decisive=False)
    assert sum(coincide(every)) > 10
    assert not every.labels["decisive"].all()
    turns = pairs.clean.labels["program"].value_counts()
    assert turns.max() <= 4  # of 20 to 40 programs: they still take turns


def test_pairs_of_some_novelties(bridge, three_groups):
    new = ("new_function", "new_step")
    novelty = {e.program.name: three_groups.meaning[e.program.name].novelty for e in three_groups.of("without_io")}
    assert 0 < sum(each in new for each in novelty.values()) < len(novelty)
    for swap in ("input", "program"):
        labels = make_pairs(three_groups, bridge("nano"), swap, "without_io", n=40, novelty=new).labels
        for side in ("", "corrupted_"):
            assert list(labels[f"{side}novelty"]) == [novelty[name] for name in labels[f"{side}program"]]
            assert set(labels[f"{side}novelty"]) <= set(new)
    with pytest.raises(PbbError, match="No with_io program is of the novelty new_step"):
        make_pairs(three_groups, bridge("nano"), "input", "with_io", novelty=["new_step"])
    with pytest.raises(PbbError, match="Unknown novelty 'fresh'"):
        make_pairs(three_groups, bridge("nano"), "input", "without_io", novelty=["fresh"])


def test_a_group_without_a_decisive_call_says_so(bridge):
    programs = [
        Program(name, "arithmetic", f"def {name}(x):\n    return x", {"steps": 1}) for name in ("dolvik", "zabrut")
    ]
    runs = trace_programs(programs, [range(10)] * 2)
    corpus = Corpus(tuple(Entry(p, "with_io", tuple(run), (0,)) for p, run in zip(programs, runs, strict=True)))
    with pytest.raises(PbbError, match=r"No such with_io call is decisive.*decisive=False"):
        make_pairs(corpus, bridge("nano"), "input", "with_io")
    with pytest.raises(PbbError, match="No such with_io call is decisive"):
        has_pair(corpus, "input", "with_io", 10)
    assert len(make_pairs(corpus, bridge("nano"), "input", "with_io", decisive=False)) == 20
    assert has_pair(corpus, "input", "with_io", 10, decisive=False)


def test_calls_that_do_not_say_whether_they_are_decisive_are_all_taken(bridge, three_groups, monkeypatch):
    whole = Corpus.calls
    monkeypatch.setattr(Corpus, "calls", lambda *args, **settings: whole(*args, **settings).drop(columns="decisive"))
    asked = (three_groups, bridge("nano"), "input", "with_io")
    assert make_pairs(*asked, n=30).clean.texts == make_pairs(*asked, n=30, decisive=False).clean.texts


@pytest.mark.parametrize("name", ["nano", "llama"])
@pytest.mark.parametrize("group", ["with_io", "without_io"])
@pytest.mark.parametrize("swap", ["input", "program"])
def test_pairs_differ_in_the_swapped_thing_only(swap, group, name, bridge, corpus, outputs):
    pairs = make_pairs(corpus, bridge(name), swap, group, n=60)
    kept = {"input": "program", "program": "input"}[swap]
    groups = {entry.program.name: entry.group for entry in corpus.entries}
    assert len(pairs) > 10
    assert (pairs.clean.attention_mask == pairs.corrupted.attention_mask).all()
    for i in range(len(pairs)):
        clean, corrupted = (run.labels.iloc[i] for run in (pairs.clean, pairs.corrupted))
        assert clean[swap] != corrupted[swap]
        assert clean[kept] == corrupted[kept]
        for row, run in ((clean, pairs.clean), (corrupted, pairs.corrupted)):
            assert row["output"] == outputs[row["program"], row["input"]]
            assert groups[row["program"]] == row["group"] == group
            assert run.texts[i] == clean["template"].format(name=row["program"], input=row["input"])
        assert clean["output"] != corrupted["output"]
        assert clean["steps"] == corrupted["steps"]
        assert clean["template"] == corrupted["template"]
        for role, span in pairs.clean.spans.items():
            assert (span[i] == pairs.corrupted.spans[role][i]).all()
        first, last = pairs.clean.spans[FIELDS[swap]][i].tolist()
        differs = (pairs.clean.tokens[i] != pairs.corrupted.tokens[i]).nonzero()[:, 0].tolist()
        assert differs
        assert set(differs) <= set(range(first, last + 1))


@pytest.mark.parametrize("swap", ["input", "program"])
def test_the_labels_of_a_corrupted_prompt_are_of_that_prompt(swap, bridge, corpus):
    pairs = make_pairs(corpus, bridge("nano"), swap, "with_io", n=40)
    assert list(pairs.clean.labels["prompt"]) == list(pairs.clean.texts)
    assert list(pairs.corrupted.labels["prompt"]) == list(pairs.corrupted.texts)


@pytest.mark.parametrize(("family", "swap"), [("ciphers", "input"), ("ciphers", "program"), ("algorithms", "input")])
def test_calls_with_texts_lists_and_several_arguments_are_paired(family, swap, bridge):
    corpus = make_corpus(family, with_io=30, without_io=2, seed=3)
    pairs = make_pairs(corpus, bridge("llama"), swap, "with_io", n=200)
    sources = {entry.program.name: entry.program.source for entry in corpus.entries}
    for run in (pairs.clean, pairs.corrupted):
        for text, row in zip(run.texts, run.labels.to_dict(orient="records"), strict=True):
            scope = {}
            exec(sources[row["program"]], scope)
            output = eval(f"{row['program']}({row['call']})", scope)
            assert str(row["output"]) == repr(output)
            assert text == row["prompt"] == row["template"].format(name=row["program"], input=row["call"])
    assert len(pairs) > 5
    assert (pairs.clean.labels["output"].map(str) != pairs.corrupted.labels["output"].map(str)).all()
    for role, span in pairs.clean.spans.items():
        assert (span == pairs.corrupted.spans[role]).all()
    if family == "algorithms":
        assert pairs.clean.labels["call"].str.contains(", ").any()


@pytest.mark.parametrize("swap", ["input", "program"])
def test_partners_are_taken_that_line_up(swap, bridge, corpus):
    tokenizer = bridge("llama").tokenizer
    drawn_blindly = make_pairs(corpus, bridge("nano"), swap, "with_io", n=60)  # its names are all one token
    texts = zip(drawn_blindly.clean.texts, drawn_blindly.corrupted.texts, strict=True)
    by_luck = [pair for pair in texts if len({len(tokenizer(text)["input_ids"]) for text in pair}) == 1]
    pairs = make_pairs(corpus, bridge("llama"), swap, "with_io", n=60)
    for clean, corrupted in zip(pairs.clean.texts, pairs.corrupted.texts, strict=True):
        assert len(tokenizer(clean)["input_ids"]) == len(tokenizer(corrupted)["input_ids"])
    assert len(pairs) >= len(by_luck) + 5 * (swap == "program")
    assert (len(by_luck) < len(drawn_blindly)) == (swap == "program")


@pytest.mark.parametrize("family", ["algorithms", "ciphers"])
def test_another_program_is_run_on_an_input_that_only_one_has(family, bridge):
    corpus = make_corpus(family, with_io=60, without_io=2, seed=0)
    own = {(e.program.name, trace.call_text) for e in corpus.entries for trace in e.traces}
    pairs = make_pairs(corpus, bridge("llama"), "program", "with_io", n=60)
    clean, corrupted = pairs.clean.labels, pairs.corrupted.labels
    foreign = [call not in own for call in zip(corrupted["program"], corrupted["call"], strict=True)]
    assert sum(foreign) > 10
    assert list(clean["call"]) == list(corrupted["call"])
    assert not (clean["program"] == corrupted["program"]).any()
    assert not corrupted["seen"][foreign].any()
    if family == "algorithms":
        assert list(clean["problem"]) == list(corrupted["problem"])
    sources = {entry.program.name: entry.program.source for entry in corpus.entries}
    for row in corrupted.to_dict(orient="records"):
        scope: dict = {}
        exec(sources[row["program"]], scope)
        assert repr(eval(f"{row['program']}({row['call']})", scope)) == str(row["output"])


def test_the_seed_draws_the_partners(bridge, corpus):
    model = bridge("nano")
    first, again, other = (
        make_pairs(corpus, model, "program", "with_io", n=20, seed=seed).corrupted.texts for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_calls_without_a_partner_are_left_out(bridge):
    corpus = named("dolvik", "zabrut")
    assert len(make_pairs(corpus, bridge("nano"), "program", "with_io", decisive=False)) == 20
    constant = Program("gaxnol", "arithmetic", "def gaxnol(x):\n    return x * 0 + 3", {"steps": 1})
    entry = Entry(constant, "with_io", tuple(trace_programs([constant], [range(10)])[0]), (0,))
    pairs = make_pairs(Corpus((*corpus.entries, entry)), bridge("nano"), "input", "with_io", decisive=False)
    assert len(pairs) == 20
    assert set(pairs.clean.labels["program"]) == {"dolvik", "zabrut"}


def test_what_cannot_be_paired_is_refused(bridge, corpus):
    model = bridge("llama")
    with pytest.raises(PbbError, match="Unknown swap 'name'"):
        make_pairs(corpus, model, "name", "with_io")
    with pytest.raises(PbbError, match="no without_io programs"):
        make_pairs(named("dolvik"), model, "input", "without_io")
    with pytest.raises(PbbError, match="Unknown group"):
        make_pairs(corpus, model, "input", "held_out")
    with pytest.raises(PbbError, match="partner"):
        make_pairs(named("dolvik"), model, "program", "with_io")
    names = ("q", "zqjwkvbxqz")
    assert len({len(model.tokenizer(name)["input_ids"]) for name in names}) == 2
    with pytest.raises(PbbError, match="partner"):
        make_pairs(named(*names), model, "program", "with_io")


def test_labels_of_both_sides_and_selection(bridge, corpus):
    pairs = make_pairs(corpus, bridge("nano"), "input", "with_io", n=8)
    labels = pairs.labels
    assert pairs.unit == "pair"
    assert labels["input"].tolist() == pairs.clean.labels["input"].tolist()
    assert labels["corrupted_input"].tolist() == pairs.corrupted.labels["input"].tolist()
    assert (labels["input"] != labels["corrupted_input"]).all()
    ids = torch.arange(len(pairs))[:, None]
    some = replace(pairs, answers=(ids, ids + 100)).select([3, 0])
    assert some.labels["input"].tolist() == labels["input"][[3, 0]].tolist()
    assert some.answers[0].tolist() == [[3], [0]]
    assert some.answers[1].tolist() == [[103], [100]]
    with pytest.raises(PbbError, match="There is no prompt 99"):
        pairs.select([99])


def test_each_side_is_marked_by_what_the_model_says_of_it_alone(bridge):
    model = bridge("nano")
    pairs = read_pairs(Path(__file__).parents[2] / "experiments" / "pairs.jsonl", model).select(range(20))
    wrong = replace(pairs, corrupted=replace(pairs.corrupted, labels=pairs.corrupted.labels.assign(output=0)))
    for given in (pairs, wrong):
        labels = given.with_answered(model).labels
        for column, side in (("answered", given.clean), ("corrupted_answered", given.corrupted)):
            said = [
                model.tokenizer.decode(model(side.tokens[[i]][side.attention_mask[[i]].bool()][None])[0, -1].argmax())
                for i in range(20)
            ]
            expected = [text.strip() == str(answer) for text, answer in zip(said, side.labels["output"], strict=True)]
            assert labels[column].tolist() == expected
            assert labels[column].dtype == bool
        assert labels["answered"].any()
    assert not labels["corrupted_answered"].all()


def test_sides_that_are_no_pairs_are_refused(bridge, corpus):
    pairs = make_pairs(corpus, bridge("nano"), "input", "with_io", n=8)
    with pytest.raises(PbbError, match=f"There are {len(pairs)} clean and 2 corrupted prompts"):
        Pairs(pairs.clean, pairs.corrupted.select([0, 1]))
    with pytest.raises(PbbError, match="clean prompts of pairs must be Prompts, not 'a text'"):
        Pairs("a text", pairs.corrupted)
