"""A token's node is the innermost around its line and column; statements keep their lines in any layout."""

import ast
import io
import tokenize

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.syntax import line_starts, node_types, statement_lines

EVERYTHING = '''def f(xs, *, größe=3):
    """Docstring."""  # a comment
    name = 'ä' + "ö" if xs else "%sü" % größe

    @wrapped
    def helper(y, z): return [y for y in z if y is not None]
    while True and xs[1:2]:
        a.b.c(k=-1, *xs); xs = xs[::-1]
        if not a: break
        elif (b :=
              lambda q: {q: 1}):
            pass
        else: continue
    # the end
    return (xs,
            {1, 2})[0]
'''


def sources() -> list[str]:
    corpora = [make_corpus("algorithms", with_io=30, without_io=6), make_corpus("ciphers", with_io=9, without_io=3)]
    return [EVERYTHING, *(entry.program.source for corpus in corpora for entry in corpus.entries)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_token_is_of_the_smallest_node_that_contains_it(end):
    seen = set()
    for source in (source.replace("\n", end) for source in sources()):
        types, starts = node_types(source), line_starts(source)
        lines = source.split(end)
        for found in tokenize.generate_tokens(io.StringIO(source, newline="").readline):
            if found.string.strip():
                line, column = found.start
                here = (line, len(lines[line - 1][:column].encode()))  # syntax trees count bytes
                expected = innermost(ast.parse(source), here)
                assert types[starts[line - 1] + column] == expected, (found, source)
                seen.add(expected)
    assert seen >= {"FunctionDef", "Name", "Constant", "BinOp", "Return", "Compare", "arg", "Lambda", "keyword", "If"}


def innermost(node: ast.AST, place: tuple[int, int]) -> str:
    """Down the tree, through parts that have no place of their own."""
    found = type(node).__name__
    parts = list(ast.iter_child_nodes(node))
    while parts:
        part = parts.pop()
        parts += getattr(part, "decorator_list", [])  # they stand before the function
        if not hasattr(part, "lineno"):
            parts += ast.iter_child_nodes(part)
        elif (part.lineno, part.col_offset) <= place < (part.end_lineno, part.end_col_offset):
            return innermost(part, place)
    return found


def test_brackets_operators_and_keywords_belong_to_what_they_are_part_of():
    source = "def f(x):\n    if x > 3:\n        return max((x - 1), 2) % 10\n    return x"
    types = node_types(source)

    def at(text):
        return types[source.index(text)]

    assert [at("def"), at("f("), at("(x)"), at("x"), at(":")] == ["FunctionDef"] * 3 + ["arg", "FunctionDef"]
    assert [at("if"), at("> 3"), at("3"), at("return"), at("max"), at("(("), at("(x -")] == [
        *("If", "Compare", "Constant", "Return", "Name", "Call", "Call")
    ]
    assert [at("-"), at(","), at("%"), at("10"), at("\n"), types[source.rindex("    return")]] == [
        *("BinOp", "Call", "BinOp", "Constant", "FunctionDef", "FunctionDef")
    ]


def test_in_the_layout_of_programs_statements_have_the_lines_they_begin_on():
    for source in sources()[1:]:
        statements = {node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)}
        found = statement_lines(source)
        for number, (start, line) in enumerate(zip(line_starts(source), source.split("\n"), strict=True), start=1):
            expected = number if number in statements else 0
            assert found[start : start + len(line)] == [expected] * len(line)
            assert number in statements or line.strip() in ("", "else:")


def test_other_layouts_have_the_lines_of_one_statement_a_line():
    one_a_line = ast.unparse(ast.parse(EVERYTHING)).split("\n")
    found = statement_lines(EVERYTHING)

    def at(text):
        line = found[EVERYTHING.index(text)]
        return one_a_line[line - 1].strip() if line else None

    assert at("größe=3") == "def f(xs, *, größe=3):"
    assert at("# a comment") == '"""Docstring."""'
    assert at("ü") == at("name").strip() == """name = 'ä' + 'ö' if xs else '%sü' % größe"""
    assert at("@wrapped") is None
    assert at("helper") == "def helper(y, z):"
    assert at("return [y") == "return [y for y in z if y is not None]"
    assert at("while True") == "while True and xs[1:2]:"
    assert at("a.b.c") == at("; xs") == "a.b.c(*xs, k=-1)"
    assert at("xs = xs[::-1]") == "xs = xs[::-1]"
    assert at("if not a") == "if not a:"
    assert at("break") == "break"
    assert at("elif") == at("lambda q") == "elif (b := (lambda q: {q: 1})):"
    assert at("else: continue") is None
    assert at("continue") == "continue"
    assert at("# the end") is None
    assert at("return (xs") == at("{1, 2}") == "return (xs, {1, 2})[0]"


@pytest.mark.parametrize("source", ["def f(x:", "return \x00", "x = 'a", "  x = 1"])
def test_what_is_no_python_is_refused(source):
    for look in (node_types, statement_lines):
        with pytest.raises(PbbError, match="This source is no Python"):
            look(source)
