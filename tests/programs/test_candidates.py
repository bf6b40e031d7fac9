"""Candidates are held to their texts, which are run, and to neighbours that are counted by hand."""

import json

import numpy as np
import pytest

from pbb_probe.programs.arithmetic import arithmetic_program
from pbb_probe.programs.candidates import candidates
from pbb_probe.programs.corpus import Corpus, Entry, make_corpus
from pbb_probe.programs.enumerated import near, read_steps, table, written
from pbb_probe.programs.mutants import DIFFERENCES
from pbb_probe.programs.program import Program, label, trace_programs, try_calls

ADD_TRIPLE = (("add", 3), ("multiply", 3))


def corpus_of(*programs: Program, inputs=range(10)) -> Corpus:
    traces = trace_programs(programs, [inputs] * len(programs))
    return Corpus(tuple(Entry(p, "without_io", tuple(each), ()) for p, each in zip(programs, traces, strict=True)))


def outputs_of(classes, k: int) -> list[str | None]:
    return [
        answers[given] if given >= 0 else None
        for answers, given in zip(classes.answers, classes.tables[k], strict=True)
    ]


def difference_of(classes, function) -> str:
    """The word for the class whose outputs on 0 to 9 are those of a plain Python function."""
    wanted = [str(function(x)) for x in range(10)]
    (k,) = [k for k in range(len(classes.tables)) if outputs_of(classes, k) == wanted]
    return DIFFERENCES[classes.differences[k]]


def test_steps_are_read_from_the_source_of_straight_line_arithmetic_only():
    for steps in [(("distance", 4),), ADD_TRIPLE, (("max", 3), ("subtract_from", 0), ("min", 7))]:
        assert read_steps(arithmetic_program("f", steps).source) == steps
        assert read_steps(written("f", steps)) == steps
    assert read_steps("def f(x):\n    return x ** 2") is None
    assert read_steps("def f(x):\n    y = (x + 3) % 10\n    return (x + 4) % 10") is None
    assert read_steps("def f(x, y):\n    return (x + 3) % 10") is None


def test_every_neighbour_of_two_steps_has_its_word():
    classes = candidates(corpus := corpus_of(arithmetic_program("f", ADD_TRIPLE)), corpus.entries)[0]
    assert difference_of(classes, lambda x: (x + 3) % 10 * 3 % 10) == "none"
    assert difference_of(classes, lambda x: (x + 3) % 10) == "a step left out"
    assert difference_of(classes, lambda x: x * 3 % 10) == "a step left out"
    assert difference_of(classes, lambda x: x) == "a step left out"
    assert difference_of(classes, lambda x: (x * 3 + 3) % 10) == "the order"
    assert difference_of(classes, lambda x: (x + 5) % 10 * 3 % 10) == "a constant"
    assert difference_of(classes, lambda x: abs((x + 3) % 10 - 6)) == "an operation"
    assert difference_of(classes, lambda x: max(abs(x - 9), 3)) == "another program"


@pytest.mark.parametrize("steps", [(("subtract_from", 4),), ADD_TRIPLE, (*ADD_TRIPLE, ("max", 2))])
def test_every_candidate_computes_what_its_text_does(steps):
    corpus = corpus_of(arithmetic_program("f", steps))
    (classes,) = candidates(corpus, corpus.entries)
    chosen = [0, *np.random.default_rng(0).choice(len(classes.tables), 150).tolist()]
    runs = trace_programs([Program("f", "", classes.text(k)) for k in chosen], [range(10)] * len(chosen))
    for k, traces in zip(chosen, runs, strict=True):
        assert outputs_of(classes, k) == [str(trace.output) for trace in traces]
    assert len({tuple(row) for row in classes.tables.tolist()}) == len(classes.tables)
    assert classes.text(0) == corpus.entries[0].program.source
    assert (classes.differences == 0).sum() == 1


def test_longer_programs_have_their_neighbours_too():
    steps = (*ADD_TRIPLE, ("subtract_from", 1), ("distance", 5))
    sequences, tables, differences = near(steps)
    words = {
        sequence: DIFFERENCES[place] for sequence, place in reversed(list(zip(sequences, differences, strict=True)))
    }
    assert words[steps] == "none"
    assert words[steps[1:]] == words[steps[:1]] == words[()] == "a step left out"
    assert words[steps[::-1]] == "the order"
    assert words[(*steps[:3], ("distance", 0))] == "a constant"
    assert words[(*steps[:3], ("max", 5))] == "an operation"
    assert all((row == table(sequence)).all() for sequence, row in zip(sequences, tables, strict=True))


def test_the_programs_of_other_names_are_candidates():
    loop = Program("g", "arithmetic", "def g(x):\n    for i in range(x):\n        x += 2\n    return x % 10")
    corpus = corpus_of(arithmetic_program("f", ADD_TRIPLE), loop)
    of_f, of_g = candidates(corpus, corpus.entries)
    assert difference_of(of_f, lambda x: 3 * x % 10) == "a step left out"  # what the loop computes, too
    assert difference_of(of_g, lambda x: (x + 3) % 10 * 3 % 10) == "another program"
    (k,) = [k for k in range(len(of_g.tables)) if "+ 3" in of_g.text(k)]
    assert of_g.text(k) == arithmetic_program("g", ADD_TRIPLE).source


BRANCH = """def f(numbers, limit):
    total = 0
    for number in numbers:
        if number > limit:
            total += number
    return total"""


def own(tmp_path, *programs: tuple[str, list]) -> Corpus:
    path = tmp_path / "own.jsonl"
    rows = [{"source": source, "inputs": inputs, "group": "without_io"} for source, inputs in programs]
    path.write_text("\n".join(map(json.dumps, rows)))
    return make_corpus(programs=path, shown_inputs=1)


def test_users_programs_have_mutants_simpler_ones_and_answers_of_their_own(tmp_path):
    inputs = [[[1, 5, 7], 4], [[2, 2], 1], [[9], 3], [[1, 2, 3], 2], [[], 0]]
    corpus = own(tmp_path, (BRANCH, inputs))
    (classes,) = candidates(corpus, corpus.entries)
    assert outputs_of(classes, 0) == ["12", "4", "9", "3", "0"]
    words = {tuple(outputs_of(classes, k)): DIFFERENCES[classes.differences[k]] for k in range(len(classes.tables))}
    assert words["13", "4", "9", "6", "0"] == "a step left out"  # the branch always taken
    assert words["1", "0", "0", "3", "0"] == "an operation"  # <= in place of >
    assert words["15", "7", "12", "6", "3"] == "a constant"  # total = 3
    for k in range(len(classes.tables)):
        program = Program(corpus.entries[0].program.name, "", classes.text(k))
        (traces,) = try_calls([program], [[tuple(each) for each in inputs]])
        assert outputs_of(classes, k) == [trace and str(label(trace.output)) for trace in traces]
    assert all({"12", "4", "9", "3", "0"} <= set(answers) for answers in classes.answers)


def test_a_program_all_of_whose_mutants_fail_has_itself_as_the_only_candidate(tmp_path):
    source = "def f(a, b):\n    table = iter([b])\n    return next(table)"
    corpus = own(tmp_path, (source, [[None, "b"]]))
    (classes,) = candidates(corpus, corpus.entries)
    assert classes.tables.tolist() == [[0]]
    assert classes.answers == [["'b'"]]


def test_programs_that_share_no_inputs_are_run_on_those_of_others(tmp_path):
    corpus = own(
        tmp_path,
        ("def f(x):\n    return x * x", [[2], [3], [4]]),
        ("def g(x):\n    return x + 100", [[5], [6], [7]]),
    )
    squares = candidates(corpus, corpus.entries)[0]
    words = {tuple(outputs_of(squares, k)): DIFFERENCES[squares.differences[k]] for k in range(len(squares.tables))}
    assert words["102", "103", "104"] == "another program"
    assert words["2", "3", "4"] == "a step left out"
