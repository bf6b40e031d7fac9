"""What is recited is right when it gives the program's outputs, however it is written, and nothing else is run."""

import pytest

from pbb_probe.programs.arithmetic import arithmetic_program
from pbb_probe.programs.corpus import Corpus, Entry, make_corpus
from pbb_probe.programs.program import Program, trace_programs
from pbb_probe.programs.recited import recited, written_program

PROGRAM = arithmetic_program("dax", (("add", 3), ("multiply", 3)))
(TRACES,) = trace_programs([PROGRAM], [range(10)])
ENTRY = Entry(PROGRAM, "without_io", tuple(TRACES), ())

RIGHT = (
    PROGRAM.source,
    "\n" + PROGRAM.source + "\n\n",
    "def dax(a):\n    return (a + 3) % 10 * 3 % 10",
    "dax = lambda n: (n + 3) % 10 * 3 % 10",
    "def lug(x):\n    return (3 * x + 9) % 10",  # by another name, by another way
    PROGRAM.source + "\nrun dax(3) :",  # goes on
    f"Here it is:\n```python\n{PROGRAM.source}\n```\nIt adds three.",
    f"```\n{PROGRAM.source}",  # cut off
)
WRONG = (
    "",
    "no code",
    "def dax(x):\n    return (x + 3) % 10",
    "def dax(x):\n    return True if x == 4 else (3 * x + 9) % 10",  # True is not 1
    "def dax(x, y):\n    return (3 * x + 9) % 10",
    "def dax(x):\n    while x == x:\n        x = x\n    return x",
    "def dax(x):\n    return dax(x)",
    "def dax(x):\n    return [][x]",
    "import os\ndef dax(x):\n    return (3 * x + 9) % 10",
    "def dax(x):\n    return __import__('os').system('true')",
    "def dax(x):\n    return open('/etc/passwd').read()",
    "dax = 3",
)


def test_the_outputs_decide():
    texts = [*RIGHT, *WRONG]
    assert recited([ENTRY] * len(texts), texts) == [True] * len(RIGHT) + [False] * len(WRONG)


def test_a_program_that_calls_others_may_be_recited_with_them():
    base = Program("lug", "own", "def lug(x):\n    return x + 1")
    calling = Program("dax", "own", "def dax(x):\n    return lug(lug(x))", calls=("lug",))
    (traces,) = trace_programs([calling], [[1, 2]], library=[base])
    entry = Entry(calling, "without_io", tuple(traces), ())
    text = "def dax(x):\n    return lug(x) + 1"
    assert recited([entry, entry], [text, "def dax(x):\n    return x + 2"], [base, calling]) == [True, True]
    assert recited([entry], [text]) == [False]  # there is no lug


def test_names_of_its_own_are_no_calls_of_others():
    program = written_program("dax", "def dax(lug):\n    return lug + 1", ["lug"])
    assert program is not None
    assert program.calls == ()


@pytest.mark.parametrize("text", ["def dax(x): return x", "def other(x):\n    return x"])
def test_a_text_is_read_under_the_name_that_was_asked_for(text):
    program = written_program("wif", text)
    assert program is not None
    assert program.source == "def wif(x):\n    return x"


def test_the_rows_of_recitations_say_nothing_of_calls():
    corpus = make_corpus(with_io=6, without_io=4)
    rows = corpus.calls("recite")
    assert len(rows) == 10
    assert sorted(rows["program"]) == sorted(corpus.by_name)
    assert not {"call", "input", "output", "place", "state_1", "decisive", "explained_by"} & set(rows)
    assert {"source", "family", "group", "steps", "op_1", "function", "novelty", "template", "seen"} <= set(rows)
    for row in rows.to_dict(orient="records"):
        assert row["prompt"].count(row["program"]) == 1
        assert row["completion"] == "\n" + corpus.by_name[row["program"]].program.source
        assert row["prompt"] == row["template"].format(name=row["program"])
        assert row["novelty"] == corpus.meaning[row["program"]].novelty or row["group"] == "with_io"
    assert len(corpus.calls("recite", "with_io", n=2)) == 2
    assert corpus.calls("recite", n=3).equals(corpus.calls("recite", n=3))
    assert list(corpus.calls("recite", n=3)["group"].value_counts()) == [3, 3]


def test_code_that_was_never_shown_is_said_to_be_unseen():
    corpus = make_corpus(with_io=3, without_io=2)
    entries = tuple(
        Entry(e.program, "io_only" if i else e.group, e.traces, e.shown) for i, e in enumerate(corpus.entries)
    )
    rows = Corpus(entries).calls("recite")
    assert (rows["seen"] == (rows["group"] != "io_only")).all()
