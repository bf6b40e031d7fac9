"""Documents are held to execution: code and descriptions compute the program's function."""

import copy
import random

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.arithmetic import arithmetic_programs
from pbb_probe.programs.describe import read_description
from pbb_probe.programs.documents import call_document, program_document
from pbb_probe.programs.forms import VARIABLES, is_straight, rewrite
from pbb_probe.programs.program import Program, Trace, trace_programs
from pbb_probe.programs.templates import CALLING, pointers, templates

TWO_STEPS = "def f(x):\n    y = (x + 3) % 10\n    return abs(y - 5)"


def outputs(source: str, name: str, inputs=tuple((value,) for value in range(10))) -> list:
    scope: dict = {}
    exec(source, scope)
    return [scope[name](*copy.deepcopy(arguments)) for arguments in inputs]


def traced(program: Program, *inputs) -> list[Trace]:
    return trace_programs([program], [inputs or range(10)])[0]


# --- documents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arithmetic", "algorithms", "ciphers"])
def test_code_and_descriptions_hold_the_name_and_the_function(families, name: str):
    rng = random.Random(0)
    for kind in ("code", "description"):
        used = set()
        for program, runs in families[name] * 3:
            document = program_document(program, kind, rng)
            assert (document.kind, document.program) == (kind, program.name)
            assert document.prompt.count(program.name) == 1
            assert document.completion.startswith("\n")
            assert document.text == document.prompt + document.completion
            source = read_description(document.completion) if kind == "description" else document.completion
            inputs = [run.arguments for run in runs]
            assert outputs(source, program.name, inputs) == [run.output for run in runs], document.text
            used.add(document.prompt.replace(program.name, "{name}"))
        assert used == set(pointers(name, kind))


def test_straight_programs_are_written_in_every_form_and_with_all_letters():
    rng = random.Random(1)
    program = Program("dolvik", "arithmetic", TWO_STEPS.replace("f(", "dolvik("))
    code = {program_document(program, "code", rng).completion[1:] for _ in range(120)}
    nested = {f"return abs(({letter} + 3) % 10 - 5)" for letter in "xan"}
    assert len(code) == 9
    assert {text.split("\n    ")[1] for text in code if text.count("\n") == 1} == nested
    assert {text for text in code if "lambda" in text} == {
        f"dolvik = lambda {letter}: abs(({letter} + 3) % 10 - 5)" for letter in "xan"
    }
    told = {program_document(program, "description", rng).completion[1:] for _ in range(120)}
    assert len(told) == 6
    assert {text.count(". ") for text in told} == {1, 2}


def test_branching_programs_keep_their_lines():
    rng = random.Random(2)
    for program in arithmetic_programs([f"name{i}" for i in range(30)], rng, ("conditional", "loop", "nested")):
        assert not is_straight(program.source)
        text = program_document(program, "code", rng).completion[1:]
        assert text in {rewrite(program.source, "statements", letters) for letters in VARIABLES}


def test_a_program_without_words_has_no_description():
    program = Program("f", "own", "def f(x):\n    y = ~x\n    return y")
    with pytest.raises(PbbError, match="no description for '~"):
        program_document(program, "description", random.Random(0))
    assert outputs(program_document(program, "code", random.Random(0)).completion, "f")[3] == -4


@pytest.mark.parametrize("name", ["arithmetic", "ciphers", "composed"])
def test_prompts_hold_name_and_input_and_completions_the_answer(name: str):
    program = Program("dolvik", name, TWO_STEPS.replace("f(", "dolvik("))
    for trace in traced(program):
        for mode in CALLING:
            for template in templates(name, mode):
                document = call_document(program, trace, mode, template)
                assert document.program == "dolvik"
                assert document.prompt.count("dolvik") == 1
                assert [letter for letter in document.prompt if letter.isdigit()] == [str(trace.input)]
                answer = abs((trace.input + 3) % 10 - 5)
                if mode == "direct":
                    assert (document.kind, document.completion) == ("io", f" {answer}")
                else:
                    assert document.kind == "trace"
                    assert document.completion.startswith(f"\ny = ({trace.input} + 3) % 10 = ")
                    assert document.completion.endswith(f" = {answer}")


@pytest.mark.parametrize(
    ("source", "arguments", "prompt", "completion"),
    [
        ("def f(s):\n    return s[::-1]", ("abc",), "f('abc') =", " 'cba'"),
        ("def f(xs, k):\n    return [k, xs[0]]", ([7, 8], "q"), "f([7, 8], 'q') =", " ['q', 7]"),
        ("def f(x):\n    return x > 2", (3,), "f(3) =", " True"),
        ("def f(x):\n    return -x", (-3,), "f(-3) =", " 3"),
        ("def f():\n    return [None]", (), "f() =", " [None]"),
    ],
)
def test_calls_of_any_arguments(source: str, arguments: tuple, prompt: str, completion: str):
    program = Program("f", "own", source)
    document = call_document(program, traced(program, arguments)[0], "direct", "{name}({input}) =")
    assert (document.prompt, document.completion) == (prompt, completion)
