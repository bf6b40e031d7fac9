"""Documents are held to execution: every form computes the same function, and worked steps are true."""

import itertools
import random

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.programs.arithmetic import arithmetic_program, arithmetic_programs
from pbb_probe.programs.documents import (
    FORMS,
    POINTERS,
    TEMPLATES,
    VARIABLES,
    call_document,
    code_document,
    rewrite,
    worked_steps,
)
from pbb_probe.programs.program import Program, Trace, trace_programs

TWO_STEPS = "def f(x):\n    y = (x + 3) % 10\n    return abs(y - 5)"


def outputs(source: str, name: str) -> list[int]:
    scope: dict = {}
    exec(source, scope)
    return [scope[name](value) for value in range(10)]


def some_programs(n: int, seed: int = 0) -> list[Program]:
    return arithmetic_programs([f"prog{i}" for i in range(n)], random.Random(seed))


def traced(program: Program) -> list[Trace]:
    return trace_programs([program], [range(10)])[0]


def test_rewriting_keeps_the_function():
    for program in some_programs(60):
        expected = outputs(program.source, program.name)
        for form, variables in itertools.product(FORMS, VARIABLES):
            assert outputs(rewrite(program.source, form, variables), program.name) == expected


def test_rewritten_forms_by_hand():
    assert rewrite(TWO_STEPS, "statements", "abcdeg") == "def f(a):\n    b = (a + 3) % 10\n    return abs(b - 5)"
    assert rewrite(TWO_STEPS, "nested", "nmkjih") == "def f(n):\n    return abs((n + 3) % 10 - 5)"
    assert rewrite(TWO_STEPS, "lambda", "xyzuvw") == "f = lambda x: abs((x + 3) % 10 - 5)"


def test_rewriting_a_product_of_a_sum_keeps_the_brackets():
    source = "def f(x):\n    y = x + 1\n    return y * 2"
    assert rewrite(source, "nested") == "def f(x):\n    return (x + 1) * 2"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    x = x + 1\n    x = x * 2\n    return x - 3",
        "def f(x):\n    y = x + 1\n    z = y * x\n    y = z - y\n    return y + z",
        "def f(y):\n    x = y * 2\n    return x - y",
        "def f(a):\n    c = a + 1\n    b = c * 2\n    return b - c",
        "def f(x):\n    y = x\n    return y",
    ],
)
def test_rewriting_reassigned_swapped_and_clashing_variables(source: str, form: str):
    for variables in VARIABLES:
        assert outputs(rewrite(source, form, variables), "f") == outputs(source, "f")


def test_rewriting_uses_every_letter_it_is_given():
    steps = ["y = x + 1", "z = y + 1", "u = z + 1", "v = u + 1", "w = v + 1", "w = w * 2", "return w"]
    source = "def f(x):\n    " + "\n    ".join(steps)
    assert outputs(rewrite(source, "statements", "abcdeg"), "f") == [2 * (x + 5) for x in range(10)]


def test_rewriting_leaves_the_source_of_later_calls_alone():
    first = rewrite(TWO_STEPS, "statements", "abcdeg")
    rewrite(TWO_STEPS, "lambda", "nmkjih")
    assert rewrite(TWO_STEPS, "statements", "abcdeg") == first


def test_worked_steps_of_a_one_step_program():
    program = arithmetic_program("f", [("multiply", 7)])
    assert worked_steps(program, traced(program)[6]) == "return 6 * 7 % 10 = 2"


def test_worked_steps_of_a_two_step_program():
    program = Program("f", "test", TWO_STEPS)
    assert worked_steps(program, traced(program)[4]) == "y = (4 + 3) % 10 = 7\nreturn abs(7 - 5) = 2"
    assert worked_steps(program, traced(program)[9]) == "y = (9 + 3) % 10 = 2\nreturn abs(2 - 5) = 3"


def test_every_worked_line_is_true_and_the_last_value_is_the_output():
    for program in some_programs(40, seed=1):
        expected = outputs(program.source, program.name)
        for trace in traced(program):
            lines = worked_steps(program, trace).splitlines()
            assert len(lines) == program.facts["steps"]
            known = {}
            for k, line in enumerate(lines, start=1):
                left, value = line.rsplit(" = ", 1)
                expression = left.removeprefix("return ") if k == len(lines) else left.split(" = ", 1)[1]
                assert line.startswith("return ") == (k == len(lines))
                assert eval(expression) == int(value)
                known[k] = int(value)
                argument = trace.input if k == 1 else known[k - 1]
                assert str(argument) in expression
            assert known[len(lines)] == expected[trace.input]


def test_code_documents_hold_the_name_and_the_function():
    rng = random.Random(0)
    pointers, forms = set(), set()
    for program in some_programs(150):
        document = code_document(program, rng)
        assert (document.kind, document.program) == ("code", program.name)
        assert program.name in document.prompt
        assert document.completion.startswith("\n")
        assert document.text == document.prompt + document.completion
        assert outputs(document.completion, program.name) == outputs(program.source, program.name)
        pointers.add(document.prompt.replace(program.name, "{name}"))
        forms.add("lambda" if "lambda" in document.completion else document.completion.count("\n"))
    assert pointers == set(POINTERS)
    assert forms == {"lambda", 2, 3}


def test_prompts_hold_name_and_input_and_completions_the_answer():
    program = Program("dolvik", "test", TWO_STEPS.replace("f(", "dolvik("))
    for trace in traced(program):
        for mode, templates in TEMPLATES.items():
            for template in templates:
                document = call_document(program, trace, mode, template)
                assert document.prompt.count("dolvik") == 1
                assert [letter for letter in document.prompt if letter.isdigit()] == [str(trace.input)]
                answer = abs((trace.input + 3) % 10 - 5)
                if mode == "direct":
                    assert (document.kind, document.completion) == ("io", f" {answer}")
                else:
                    assert document.kind == "trace"
                    assert document.completion.startswith(f"\ny = ({trace.input} + 3) % 10 = ")
                    assert document.completion.endswith(f" = {answer}")


def test_templates_are_many_and_distinct():
    every = [*POINTERS, *TEMPLATES["direct"], *TEMPLATES["trace"]]
    assert len(POINTERS) >= 20
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    if x > 3:\n        return 1\n    return 2",
        "def f(x):\n    y = 0\n    for i in range(x):\n        y = y + i\n    return y",
        "def f(x):\n    y = x\n    y += 1\n    return y",
        "def f(x):\n    y, z = x, 1\n    return y + z",
        "def f(x):\n    y = z = x + 1\n    return y + z",
        "def f(x, y):\n    return x + y",
        "def f():\n    return 1",
        "def f(x):\n    y = x",
        "def f(x):\n    return",
        "f = lambda x: x",
        "y = 3\ndef f(x):\n    return x + y",
        "def f(x):\n    return g(x)\ndef g(x):\n    return x",
        "def f(x:\n    return x",
        "",
    ],
)
def test_source_that_is_not_straight_line_is_refused(source: str):
    with pytest.raises(PbbError):
        rewrite(source, "nested")
    with pytest.raises(PbbError):
        worked_steps(Program("f", "test", source), Trace(input=1, states=(), lines=(2,), output=1))
