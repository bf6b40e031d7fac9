"""Functions, novelty and decisive calls, held to plain Python that is written anew here."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import GROUPS, Corpus, make_corpus
from pbb_probe.programs.entry import Entry
from pbb_probe.programs.meaning import body_of, explanations, steps_of
from pbb_probe.programs.program import Group, Program, trace_programs, try_calls, try_outputs
from pbb_probe.programs.simpler import simpler_programs

OPERATIONS = {
    "add": lambda x, c: (x + c) % 10,
    "multiply": lambda x, c: x * c % 10,
    "max": lambda x, c: max(x, c),
    "min": lambda x, c: min(x, c),
    "distance": lambda x, c: abs(x - c),
    "subtract_from": lambda x, c: (c - x) % 10,
}


def made(*programs: tuple[str, str, Group], inputs: tuple[object, ...] = tuple(range(10))) -> Corpus:
    """A corpus of programs given as name, source and group."""
    built = [Program(name, "own", source, {"steps": source.count("\n")}) for name, source, _ in programs]
    runs = trace_programs(built, [inputs] * len(built))
    groups = [group for _, _, group in programs]
    return Corpus(tuple(Entry(p, group, tuple(run), ()) for p, group, run in zip(built, groups, runs, strict=True)))


# --- decisive -------------------------------------------------------------------------------------------------------


def test_decisive_calls_are_those_that_no_simple_evaluation_answers():
    corpus = make_corpus(with_io=120, without_io=60, io_only=20, seed=5)
    calls = corpus.calls()
    examples = calls[calls["group"] != "without_io"]
    outputs = defaultdict(Counter)
    for call in examples.itertuples():
        outputs[call.steps, call.input][call.output] += 1
    for call in calls.itertuples():

        def step(k: int, x: int, call=call) -> int:
            return OPERATIONS[getattr(call, f"op_{k}")](x, int(getattr(call, f"constant_{k}")))

        simple = {call.input}
        if call.steps == 2:
            assert call.output == step(2, step(1, call.input))
            simple |= {step(1, call.input), step(2, call.input), step(1, step(2, call.input))}
        others = outputs[call.steps, call.input].copy()
        if call.group != "without_io":
            others[call.output] -= 1
        simple |= {min(others, key=lambda answer: (-others[answer], str(answer)))}
        assert call.decisive == (call.output not in simple), call
        assert call.decisive == (call.explained_by == "")
    assert {"the input", "without step 1", "without step 2", "order 2 1", "the best guess", ""} == set(
        calls["explained_by"]
    )


def test_the_parts_and_orders_of_a_chain_are_all_there():
    source = "def f(x):\n    y = x + 1\n    z = y * 2\n    return z - 3"
    steps = [lambda x: x + 1, lambda x: x * 2, lambda x: x - 3]
    simpler = simpler_programs(source)
    taken = {
        "without step 1": (1, 2), "without step 2": (0, 2), "without step 3": (0, 1), "without steps 1 and 2": (2,),
        "without steps 1 and 3": (1,), "without steps 2 and 3": (0,),
        "order 1 3 2": (0, 2, 1), "order 2 1 3": (1, 0, 2),
        "order 2 3 1": (1, 2, 0), "order 3 1 2": (2, 0, 1), "order 3 2 1": (2, 1, 0),
    }  # fmt: skip
    assert set(simpler) == set(taken)
    outputs = try_outputs([Program("f", "own", text) for text in simpler.values()], [range(-5, 5)] * len(simpler))
    for words, answers in zip(simpler, outputs, strict=True):
        expected = list(range(-5, 5))
        for place in taken[words]:
            expected = [steps[place](x) for x in expected]
        assert answers == expected, words


def test_returning_what_the_last_step_made_is_no_step():
    folded, bare = "def f(x):\n    y = x + 1\n    return y * 2", "def f(x):\n    y = x + 1\n    y = y * 2\n    return y"
    outputs = [
        try_outputs([Program("f", "own", text) for text in simpler.values()], [range(5)] * len(simpler))
        for simpler in map(simpler_programs, (folded, bare))
    ]
    assert list(simpler_programs(bare)) == ["without step 2", "without step 1", "order 2 1"]
    assert outputs[0] == outputs[1] == [[1, 2, 3, 4, 5], [0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_branches_and_passes_are_left_out():
    source = """def f(xs, k):
    total = 0
    for x in xs:
        if x > k:
            total += x
    return total * 2"""
    simpler = simpler_programs(source)
    calls = [[([3, 1, 5], 2)]] * len(simpler)
    answers = try_outputs([Program("f", "own", text) for text in simpler.values()], calls)
    assert dict(zip(simpler, answers, strict=True)) == {
        "without step 2": [0],
        "without the last pass of step 2": [6],
        "without the first pass of step 2": [10],
        "step 3 always": [18],
        "step 3 never": [0],
        "without step 4": [0],
        "without step 5": [8],
    }


def test_independent_statements_in_the_other_order_explain_nothing():
    program = Program("f", "own", "def f(x, y):\n    a = x * 2\n    b = y + 1\n    return a * b")
    (run,) = trace_programs([program], [[(3, 4), (5, 6)]])
    assert "step 2 before step 1" in simpler_programs(program.source)
    (explained,) = explanations([program], [run])
    assert explained == ["", ""]


def test_a_program_all_of_whose_simpler_ones_fail_is_decisive():
    program = Program("f", "own", "def f(x):\n    y = iter([x])\n    return next(y) + 1")
    simpler = [Program("f", "own", text) for text in simpler_programs(program.source).values()]
    assert try_outputs(simpler, [[4]] * len(simpler)) == [[None]] * 3
    (run,) = trace_programs([program], [[4]])
    assert explanations([program], [run]) == [[""]]


def test_endless_loops_among_simpler_programs_end():
    source = "def f(x):\n    n = 0\n    while x > 0:\n        x = x - 1\n        n += 2\n    return n + 1"
    program = Program("f", "own", source)
    (run,) = trace_programs([program], [[3, 4]])
    (answers,) = try_outputs([Program("f", "own", simpler_programs(source)["without step 3"])], [[3, 4]])
    assert answers == [None, None]
    assert explanations([program], [run]) == [["", ""]]


# --- functions and novelty ------------------------------------------------------------------------------------------


def test_novelty_of_programs_made_by_hand():
    corpus = made(
        ("shown", "def shown(x):\n    y = x + 1\n    return y * 2", "with_io"),
        ("other", "def other(x):\n    return x - 4", "with_io"),
        ("examples", "def examples(x):\n    return x * 7", "io_only"),
        ("renamed", "def renamed(a):\n    b = a + 1\n    return b * 2", "without_io"),
        ("rewritten", "def rewritten(x):\n    y = 2 * x\n    return y + 2", "without_io"),
        ("of_examples", "def of_examples(x):\n    return x * 7", "without_io"),
        ("recombined", "def recombined(x):\n    y = x * 2\n    return y - 4", "without_io"),
        ("unheard", "def unheard(x):\n    y = x * 2\n    return y - 9", "without_io"),
    )
    novelty = {name: meaning.novelty for name, meaning in corpus.meaning.items()}
    assert novelty == {
        "shown": "", "other": "", "examples": "", "renamed": "same_body", "rewritten": "same_function",
        "of_examples": "same_function", "recombined": "new_function", "unheard": "new_step",
    }  # fmt: skip
    function = {name: meaning.function for name, meaning in corpus.meaning.items()}
    assert function["shown"] == function["renamed"] == function["rewritten"]
    assert len(set(function.values())) == 5


def test_functions_of_other_inputs_are_compared_on_the_inputs_of_one_another():
    # both give 0 on each other's first inputs; they part at 30 only, which one of them has
    late = "def late(x):\n    if x == 30:\n        return 1\n    return 0"
    never = "def never(x):\n    return 0 * x"
    again = "def again(x):\n    return x - x"
    programs = [Program(n, "own", s, {"steps": 1}) for n, s in (("late", late), ("never", never), ("again", again))]
    inputs = [[1, 2, 30], [3, 4], [5, 6]]
    runs = trace_programs(programs, inputs)
    entries = (Entry(p, "with_io", tuple(run), ()) for p, run in zip(programs, runs, strict=True))
    function = {name: meaning.function for name, meaning in Corpus(tuple(entries)).meaning.items()}
    assert function["never"] == function["again"] != function["late"]


def test_programs_of_other_types_are_other_functions_even_if_all_inputs_of_the_others_fail():
    programs = [Program("a", "own", "def a(x):\n    return x + 1"), Program("b", "own", "def b(x):\n    return x[0]")]
    runs = trace_programs(programs, [[1, 2], [[[1]], [[2]]]])
    entries = [Entry(p, "with_io", tuple(run), ()) for p, run in zip(programs, runs, strict=True)]
    assert len({meaning.function for meaning in Corpus(tuple(entries)).meaning.values()}) == 2


def test_bodies_and_steps_do_not_depend_on_names():
    first, second = "def f(x):\n    y = x + 1\n    return max(y, 2)", "def g(a):\n    b = a + 1\n    return max(b, 2)"
    assert body_of(first) == body_of(second)
    assert steps_of(first) == steps_of(second) == {"_ + 1", "max(_, 2)"}
    with pytest.raises(PbbError, match="one function"):
        body_of("x = 1")


@pytest.mark.parametrize("seed", [0, 1])
def test_the_asked_share_of_functions_is_new(seed: int):
    calls = make_corpus(with_io=200, without_io=90, io_only=20, seed=seed).calls().drop_duplicates("program")
    tables = {
        name: tuple(rows.sort_values("input")["output"])
        for name, rows in make_corpus(with_io=200, without_io=90, io_only=20, seed=seed).calls().groupby("program")
    }
    known = {tables[name] for name in calls.loc[calls["group"] != "without_io", "program"]}
    for steps, share in ((1, 1 / 2), (2, 1 / 2)):
        hidden = calls[(calls["group"] == "without_io") & (calls["steps"] == steps)]
        functions = {tables[name] for name in hidden["program"]}
        assert len(functions - known) >= share * len(functions)
        assert (
            (hidden["novelty"].isin(["new_function", "new_step"])) == ~hidden["program"].map(tables).isin(known)
        ).all()


def test_all_functions_can_be_new():
    calls = make_corpus(with_io=60, without_io=10, new_functions=1.0).calls(group="without_io")
    assert set(calls["novelty"]) <= {"new_function", "new_step"}


def test_more_new_functions_than_there_are_is_one_sentence():
    with pytest.raises(PbbError, match="new_functions") as refused:
        make_corpus(with_io=30, without_io=900, new_functions=1.0, shapes=("one_step",))
    assert "\n" not in str(refused.value)


def test_half_of_the_calls_are_decisive_where_that_can_be():
    calls = make_corpus(with_io=100, without_io=50).calls()
    enough = calls.groupby("program")["decisive"].mean() >= 0.5
    assert enough.mean() > 0.6


# --- groups ---------------------------------------------------------------------------------------------------------


def test_io_only_programs_have_examples(tmp_path: Path):
    corpus = make_corpus(with_io=10, without_io=4, io_only=5)
    assert [len(corpus.of(group)) for group in ("with_io", "without_io", "io_only")] == [10, 4, 5]
    assert all(len(entry.shown) == 7 for entry in corpus.of("io_only"))
    corpus.save(tmp_path)
    assert Corpus.load(tmp_path) == corpus
    assert Corpus.load(tmp_path).meaning == corpus.meaning


def test_own_programs_are_divided_among_three_groups(tmp_path: Path):
    rows = [{"source": f"def f{k}(x): return x + {k}", "inputs": [[n] for n in range(8)]} for k in range(20)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = make_corpus(with_io=70, without_io=20, io_only=10, programs=tmp_path / "own.jsonl")
    assert [len(corpus.of(group)) for group in ("with_io", "without_io", "io_only")] == [14, 4, 2]


# --- running what may fail ------------------------------------------------------------------------------------------


def test_calls_that_fail_leave_the_others():
    program = Program("f", "own", "def f(x):\n    return 10 // x")
    assert [trace and trace.output for trace in try_calls([program], [[5, 0, 2]])[0]] == [2, None, 5]
    assert try_outputs([program], [[5, 0, 2]]) == [[2, None, 5]]


def test_outputs_have_the_limits_of_traces():
    endless = Program("f", "own", "def f(x):\n    while x:\n        x = x\n    return 1")
    grows = Program("g", "own", "def g(x):\n    while x:\n        x = x * x\n    return 1")
    longer = Program("h", "own", "def h(x):\n    xs = [x]\n    while x:\n        xs = xs + xs\n    return 1")
    assert try_outputs([endless, grows, longer], [[3, 0], [3, 0], [3, 0]]) == [[None, 1], [None, 1], [None, 1]]


def test_some_problems_are_of_no_program_with_examples():
    """A quarter of the problems of without_io programs, with whatever parameters, and their programs are called so."""
    corpus = make_corpus("algorithms", with_io=40, without_io=28, io_only=8)
    of = {group: {entry.program.facts["problem"] for entry in corpus.of(group)} for group in GROUPS}
    kept = of["without_io"] - of["with_io"] - of["io_only"]
    assert len(of["without_io"]) == 28
    assert len(kept) >= 7  # a few more are of none by chance
    assert not (of["with_io"] | of["io_only"]) & kept
    for entry in corpus.of("without_io"):
        new = corpus.meaning[entry.program.name].novelty == "new_problem"
        assert new == (entry.program.facts["problem"] in kept)
    everywhere = make_corpus("algorithms", with_io=56, without_io=10, new_problems=0)
    assert "new_problem" not in set(everywhere.calls(group="without_io")["novelty"])
