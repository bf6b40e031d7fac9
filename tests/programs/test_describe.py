"""Descriptions are held to hand-written English, to a reader written here, and to what they might be mistaken for."""

import ast
import collections
import itertools
import random

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.algorithms import algorithms_programs
from pbb_probe.programs.arithmetic import SHAPES, arithmetic_programs
from pbb_probe.programs.ciphers import ciphers_programs
from pbb_probe.programs.describe import _told, describe, read_description
from pbb_probe.programs.forms import FORMS, VARIABLES, is_straight, rewrite
from pbb_probe.programs.program import trace_programs

NAMES = [f"name{i}" for i in range(300)]

BY_HAND = [
    (
        "def dolvik(x):\n    y = (x + 3) % 10\n    return abs(y - 5)",
        "dolvik takes x. let y be the remainder of the sum of x and 3 divided by 10. "
        "the result is the absolute value of what remains when 5 is taken from y.",
    ),
    (
        "def f(x):\n    if x > 4:\n        y = max(x, 7)\n    else:\n        y = x * 2\n    return min(y, 9)",
        "f takes x. if x is greater than 4 then let y be the larger of x and 7. "
        "otherwise let y be the product of x and 2. end. the result is the smaller of y and 9.",
    ),
    (
        "def f(a, b):\n    while a >= b:\n        a -= b\n    return a == 0",
        "f takes a, b. as long as a is at least b do decrease a by b. end. the result is whether a equals 0.",
    ),
    (
        "def f(words):\n    out = []\n    for word in words:\n        if word in out:\n            continue\n"
        "        out.append(word[0])\n    return ', '.join(out)",
        "f takes words. let out be the list (  ). for each word in words do if word is in out then "
        "go on with the next turn. end. carry out the appending of the item of word at 0 to out. end. "
        "the result is the joining of out by ', '.",
    ),
    (
        "def f(x):\n\n    def step(y):\n        return y + 1\n    return step(step(x))",
        "f takes x. to find step of ( y ) the result is the sum of y and 1. end. "
        "the result is the call of step with ( the call of step with ( x ) ).",
    ),
    (
        "def f(s):\n    t = {'a': 1, 'b': -2}\n    return [t[c] for c in s[1:] if 0 < t[c] <= 3]",
        "f takes s. let t be the table ( the pair of 'a' and 1, the pair of 'b' and the negative of 2 ). "
        "the result is the list of the item of t at c for each c in the part of s from 1 "
        "where whether 0 is less than the item of t at c and that is at most 3.",
    ),
    (
        "def f(xs):\n    return sorted(xs, key=lambda x: -x)",
        "f takes xs. the result is the sorted list of xs by the function that takes x to the negative of x.",
    ),
    ("def f():\n    return [None, True, 'it is']", "f takes nothing. the result is the list ( None, True, 'it is' )."),
]


@pytest.mark.parametrize(("source", "text"), BY_HAND)
def test_descriptions_by_hand(source: str, text: str):
    assert describe(source) == text
    assert read_description(text) == source


def sources() -> list[str]:
    rng = random.Random(0)
    arithmetic = [program.source for program in arithmetic_programs(NAMES[:210], rng, SHAPES)]
    made = [*algorithms_programs(NAMES, rng), *ciphers_programs(NAMES, rng)]
    return arithmetic + [program.source for program, _ in made]


def test_every_program_is_told_and_read_back():
    for source in sources():
        assert read_description(describe(source)) == ast.unparse(ast.parse(source))


def test_different_programs_have_different_descriptions():
    every = {source.replace(source[4 : source.index("(")], "dolvik") for source in sources()}
    every |= {rewrite(source, "nested", VARIABLES[1]) for source in every if is_straight(source)}
    assert len(every) > 700
    assert len({describe(source) for source in every}) == len(every)


def test_layout_does_not_matter():
    source = "def f(x):  # a comment\n    y = ((x+3))%10 ; return y"
    assert describe(source) == describe(ast.unparse(ast.parse(source)))


# --- what the English means, read by other means -------------------------------------------------------------------


class Reader:
    """The value of a noun phrase of arithmetic, word by word."""

    def __init__(self, phrase: str, known: dict[str, int]):
        self.words = collections.deque(phrase.split())
        self.known = known

    def expect(self, phrase: str) -> None:
        for word in phrase.split():
            assert self.words.popleft() == word

    def value(self) -> int:
        word = self.words.popleft()
        if word == "what":
            self.expect("remains when")
            taken = self.value()
            self.expect("is taken from")
            return self.value() - taken
        if word != "the":
            return self.known[word] if word in self.known else int(word)
        kind = self.words.popleft()
        self.expect("value of" if kind == "absolute" else "of")
        first = self.value()
        if kind == "absolute":
            return first if first >= 0 else -first
        self.expect("divided by" if kind == "remainder" else "and")
        second = self.value()
        if kind == "remainder":
            while first < 0:
                first += second
            return first - first // second * second
        return {
            "sum": first + second,
            "product": sum([first] * second),
            "larger": first if first > second else second,
            "smaller": second if first > second else first,
        }[kind]


def meaning(text: str, value: int) -> tuple[str, int]:
    """The name of the function that a description of straight-line arithmetic is about, and its result."""
    opening, *sentences = text.removesuffix(".").split(". ")
    name, argument = opening.split(" takes ")
    known = {argument: value}
    for sentence in sentences[:-1]:
        variable, phrase = sentence.removeprefix("let ").split(" be ", 1)
        known[variable] = evaluated(phrase, known)
    return name, evaluated(sentences[-1].removeprefix("the result is "), known)


def evaluated(phrase: str, known: dict[str, int]) -> int:
    reader = Reader(phrase, known)
    value = reader.value()
    assert not reader.words
    return value


def test_the_english_means_what_the_program_computes():
    programs = arithmetic_programs(NAMES[:200], random.Random(1), SHAPES[:4])
    traces = trace_programs(programs, [range(10)] * len(programs))
    for program, runs in zip(programs, traces, strict=True):
        for form, letters in itertools.product(FORMS[:2], VARIABLES):
            text = describe(rewrite(program.source, form, letters))
            assert text.count("let ") == (0 if form == "nested" else program.facts["steps"] - 1)
            assert [meaning(text, run.input) for run in runs] == [(program.name, run.output) for run in runs], text


# --- what is no description, and what is none of one program -------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dolvik",
        "the cat sat on the mat.",
        "f takes x.",
        "f takes x. the result is the sum of x.",
        "f takes x. the result is the sum of x and 3",
        "f takes x. the result is the sum of x and 3. and so on.",
        "f takes x. the result is the summ of x and 3.",
        "f takes x. Let y be x. the result is y.",
        "f takes x y. the result is x.",
        "f takes x,, y. the result is x.",
        "f takes (x). the result is x.",
        "f takes 3. the result is 3.",
        ". takes x. the result is x.",
        "if takes x. the result is x.",
        "f takes x. the result is for.",
        "f takes x. the result is 007.",
        "f takes x. the result is ².",
        "f takes x. the result is 3x.",
        "f takes x. the result is 'a.",
        "f takes x. the result is '\\x'.",
        'f takes x. the result is "a".',
        "f takes x. let 3 be x. the result is x.",
        "f takes x. increase the sum of x and 1 by 2. the result is x.",
        "f takes x. the result is the function that takes 3 to x.",
        "f takes x. if x then the result is x.",
        "f takes x. if x is 3 then the result is x. end.",
        "f takes x. as long as x end. the result is x.",
        "f takes x. as long as x do end. the result is x.",
        "f takes x. for each 3 in x do the result is x. end. the result is x.",
        "f takes x. end. the result is x.",
        "f takes x. the result is the list ( x, ).",
        "f takes x. the result is the list ( x ) ).",
        "f takes x. the result is the call of 3 with ( x ).",
        "f takes x. leave the loop. the result is x.. ",
        "def f(x):\n    return x",
    ],
)
def test_what_is_no_description_is_refused(text: str):
    with pytest.raises(PbbError):
        read_description(text)


def test_endless_descriptions_are_refused():
    with pytest.raises(PbbError):
        read_description("f takes x. the result is " + "the negative of " * 3000 + "x.")
    with pytest.raises(PbbError):
        describe("def f(x):\n    return " + " + ".join("x" * 2000))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "x = 3",
        "f = lambda x: x",
        "def f(x:",
        "def f(x):\n    return x\ndef g(x):\n    return x",
        "class f:\n    pass",
    ],
)
def test_only_one_function_is_described(source: str):
    with pytest.raises(PbbError, match="Only one function"):
        describe(source)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("return ~x", "~x"),
        ("return x @ x", "x @ x"),
        ("return x[1:2:3]", "x[1:2:3]"),
        ("return a.b", "a.b"),
        ("return {**x}", "{**x}"),
        ("return [i for i in x for j in i]", "for j in i"),
        ("return x and x and x and x", "x and x"),
        ("return sorted(x, key=x, reverse=True)", "reverse=True"),
        ("y = z = x", "y = z = x"),
        ("x **= 2", r"x **= 2"),
        ("for i in x:\n        pass\n    else:\n        x = 1", "for i in x"),
        ("while x:\n        pass\n    else:\n        x = 1", "while x"),
    ],
)
def test_what_has_no_words_is_refused_by_name(statement: str, named: str):
    with pytest.raises(PbbError) as raised:
        describe(f"def f(x):\n    {statement}\n    return x")
    assert named in str(raised.value)


@pytest.mark.parametrize(
    "source",
    [
        "def f(x, y=3):\n    return x",
        "def f(x, *y):\n    return x",
        "def f(x, *, y):\n    return x",
        "def f(x) -> int:\n    return x",
        "def f(x):\n    return [' ,', x]",
        "def f(the):\n    return the",
        "def f(end):\n    return end",
        "def f(nothing):\n    return nothing",
        "def f(x):\n    return sorted(x, reverse=1)",
        "def f(x):\n    return u'a'",
    ],
)
def test_what_would_be_lost_is_refused_or_kept(source: str):
    """Never half of it: what is described is read back in full."""
    try:
        text = describe(source)
    except PbbError:
        return
    assert read_description(text) == ast.unparse(ast.parse(source))


AMBIGUOUS = [
    ("x[y[1::2]:]", "x[y[1:]::2]"),
    ("range(1, range(2, 3, 4))", "range(1, range(2, 3), 4)"),
    ("sorted(sorted(x, key=y))", "sorted(sorted(x), key=y)"),
    ("[x for x in [y for y in x if y]]", "[x for x in [y for y in x] if y]"),
]


@pytest.mark.parametrize(("one", "other"), AMBIGUOUS)
def test_words_that_mean_two_programs_are_used_for_neither(one: str, other: str):
    first, second = (f"def f(x, y):\n    return {expression}" for expression in (one, other))
    assert ast.dump(ast.parse(first)) != ast.dump(ast.parse(second))
    assert _told(first) == _told(second)
    for source in (first, second):
        with pytest.raises(PbbError, match="without loss"):
            describe(source)
    with pytest.raises(PbbError, match="no description of one program"):
        read_description(_told(first))


NESTABLE = (
    "x[{}:]",
    "x[:{}]",
    "{}[1:2]",
    "x[{}::2]",
    "range({}, 3)",
    "range(1, {})",
    "range(1, {}, 4)",
    "sorted({})",
    "sorted(x, key={})",
    "sorted({}, key=y)",
    "({} and y)",
    "({} and y and x)",
    "(x if {} else y)",
    "(x < {})",
    "({} < y < x)",
    "[x for x in {}]",
    "[x for x in {} if y]",
    "(y for y in {})",
    "(x + {})",
    "(-{})",
)


def test_all_of_depth_three_with_the_same_words_are_refused_and_few_others():
    """The words of `_told` before any check: programs that share them must all be refused."""
    expressions = [
        outer.format(middle.format(inner.format("x"))) for outer, middle, inner in itertools.product(NESTABLE, repeat=3)
    ]
    by_words: dict[str, set[str]] = collections.defaultdict(set)
    for expression in random.Random(0).sample(expressions, 1800) + [e for pair in AMBIGUOUS for e in pair]:
        source = ast.unparse(ast.parse(f"def f(x, y):\n    return {expression}"))
        by_words[_told(source)].add(source)
    shared = {words: group for words, group in by_words.items() if len(group) > 1}
    assert len(shared) >= len(AMBIGUOUS)
    for source in itertools.chain(*shared.values()):
        with pytest.raises(PbbError):
            describe(source)
    told = 0
    for words, (source, *others) in by_words.items():
        if not others:
            try:
                told += describe(source) == words
            except PbbError:
                continue
    assert told > 0.7 * len(by_words)


class Author:
    """Random functions of the constructs that have words, and of a few that have none."""

    SLOTS = (
        *("{} + {}", "{} - {}", "{} * {}", "{} % {}", "{} // {}", "{} ** {}", "{} & {}", "{} | {}", "{} ^ {}"),
        *("{} << {}", "{} >> {}", "-{}", "not {}", "{} and {}", "{} and {} and {}", "{} or {}", "{} or {} or {}"),
        *("{} if {} else {}", "max({}, {})", "min({}, {})", "max({})", "min({})", "abs({})", "len({})", "sum({})"),
        *("sorted({})", "sorted({}, key={})", "sorted({}, reverse=True)", "int({})", "str({})", "ord({})", "chr({})"),
        *("range({})", "range({}, {})", "range({}, {}, {})", "enumerate({})", "zip({}, {})", "{}[{}]", "{}[{}:]"),
        *("{}[:{}]", "{}[{}:{}]", "{}[::-1]", "{}[::{}]", "{}[{}::{}]", "{}[:]", "{}.join({})", "{}.append({})"),
        *("{}.pop()", "{}.count({})", "[{} for i in {}]", "[{} for i in {} if {}]", "({} for i in {})"),
        *("({} for i, j in {} if {})", "{{{} for i in {}}}", "{{{}: {} for i in {}}}", "lambda k: {}", "[{}, {}]"),
        *("({}, {})", "({},)", "{{{}, {}}}", "{{{}: {}}}", "[]", "{{}}", "()", "g({}, {})", "g()", "{} < {}"),
        *("{} == {}", "{} != {}", "{} <= {} < {}", "{} in {}", "{} not in {}", "{} is {}", "{} is not {}"),
        *("{}[{}:{}:{}]", "~{}", "{} @ {}", "divmod({}, {})"),
    )
    ATOMS = (
        "x",
        "y",
        "total",
        "and_",
        "that",
        "(0)",
        "(1)",
        "(17)",
        "''",
        "'a'",
        "' ,'",
        '"it\'s"',
        "'the end.'",
        "True",
        "None",
    )

    def __init__(self, rng: random.Random):
        self.rng = rng

    def expression(self, depth: int) -> str:
        if depth == 0 or self.rng.random() < 0.2:
            return self.rng.choice(self.ATOMS)
        template = self.rng.choice(self.SLOTS)
        n = template.replace("{{", "").replace("}}", "").count("{}")
        return "(" + template.format(*(self.expression(depth - 1) for _ in range(n))) + ")"

    def block(self, depth: int, indent: str) -> list[str]:
        return [line for _ in range(self.rng.randint(1, 2)) for line in self.statement(depth, indent)]

    def statement(self, depth: int, indent: str) -> list[str]:
        kind = self.rng.choice(
            ["assign", "change", "return", "call", *(["if", "for", "while", "def"] if depth else [])]
        )
        value, inside = self.expression(self.rng.randint(0, 2)), indent + "    "
        if kind == "assign":
            return [f"{indent}{self.rng.choice(['x', 'total', 'x, y', 'x[0]', 'x[y]'])} = {value}"]
        if kind == "change":
            return [f"{indent}total {self.rng.choice('+ - * // % >> << ^'.split())}= {value}"]  # noqa: SIM905
        if kind == "return":
            return [f"{indent}return {value}"]
        if kind == "call":
            return [f"{indent}x.append({value})"]
        opening = {"if": f"if {value}:", "for": f"for i in {value}:", "while": f"while {value}:", "def": "def g(a, b):"}
        lines = [indent + opening[kind], *self.block(depth - 1, inside)]
        if kind == "if" and self.rng.random() < 0.5:
            lines += [f"{indent}else:", *self.block(depth - 1, inside)]
        return lines

    def source(self) -> str:
        lines = ["def dolvik(x, y):", *self.block(2, "    "), "    return total"]
        return ast.unparse(ast.parse("\n".join(lines)))


def test_random_programs_are_told_in_full_or_refused():
    author, told, refused = Author(random.Random(0)), {}, 0
    for _ in range(600):
        source = author.source()
        try:
            text = describe(source)
        except PbbError:
            refused += 1
            continue
        assert read_description(text) == source
        assert told.setdefault(text, source) == source
    assert len(told) > 250
    assert refused > 20
