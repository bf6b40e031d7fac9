"""Worked steps are held to execution: each line is true, and all of them replay the trace."""

import ast
import itertools
import re
from collections.abc import Iterator

import pytest

from pbb_probe.programs.arithmetic import arithmetic_program
from pbb_probe.programs.program import Program, Trace, trace_programs
from pbb_probe.programs.worked import worked_steps

TWO_STEPS = "def f(x):\n    y = (x + 3) % 10\n    return abs(y - 5)"


def traced(program: Program, *inputs) -> list[Trace]:
    return trace_programs([program], [inputs or range(10)])[0]


def steps(source: str, *arguments) -> list[str]:
    program = Program("f", "test", source)
    return worked_steps(program, traced(program, arguments)[0]).splitlines()


# --- by hand -----------------------------------------------------------------------------------------------------


def test_worked_steps_of_a_one_step_program():
    program = arithmetic_program("f", [("multiply", 7)])
    assert worked_steps(program, traced(program)[6]) == "return 6 * 7 % 10 = 2"


def test_worked_steps_of_a_two_step_program():
    assert steps(TWO_STEPS, 4) == ["y = (4 + 3) % 10 = 7", "return abs(7 - 5) = 2"]
    assert steps(TWO_STEPS, 9) == ["y = (9 + 3) % 10 = 2", "return abs(2 - 5) = 3"]


def test_branches_say_which_way():
    source = (
        "def f(x):\n    if x > 7:\n        y = x - 7\n    elif x < 2 or x == 5:\n        y = 2 * x\n"
        "    else:\n        y = x\n    return y + 1"
    )
    assert steps(source, 9) == ["if 9 > 7: True", "y = 9 - 7 = 2", "return 2 + 1 = 3"]
    chosen = ["if 5 > 7: False", "if 5 < 2 or 5 == 5: False or True: True", "y = 2 * 5 = 10", "return 10 + 1 = 11"]
    assert steps(source, 5) == chosen
    assert steps(source, 4) == [
        "if 4 > 7: False",
        "if 4 < 2 or 4 == 5: False or False: False",
        "y = 4",
        "return 4 + 1 = 5",
    ]


def test_a_loop_tells_its_turns_and_not_its_end():
    source = "def f(x):\n    for i in range(2):\n        x = 3 * x + i\n    return x"
    assert steps(source, 2) == [
        *("i = 0", "x = 3 * 2 + 0 = 6 + 0 = 6"),
        *("i = 1", "x = 3 * 6 + 1 = 18 + 1 = 19"),
        "return 19 = 19",
    ]


def test_a_loop_that_is_left_early():
    source = (
        "def f(x):\n    for i in range(9):\n        if i == 0:\n            continue\n"
        "        if i * x > 3:\n            break\n    return i"
    )
    first = ["i = 0", "if 0 == 0: True"]
    second = ["i = 1", "if 1 == 0: False", "if 1 * 2 > 3: 2 > 3: False"]
    third = ["i = 2", "if 2 == 0: False", "if 2 * 2 > 3: 4 > 3: True"]
    assert steps(source, 2) == [*first, *second, *third, "return 2 = 2"]


def test_while_and_augmented_assignment():
    source = "def f(x):\n    n = 0\n    while x > 5:\n        x //= 2\n        n += x % 3 - 1\n    return n"
    assert steps(source, 17) == [
        "n = 0",
        *("while 17 > 5: True", "x = 17 // 2 = 8", "n = 0 + (8 % 3 - 1) = 0 + (2 - 1) = 0 + 1 = 1"),
        *("while 8 > 5: True", "x = 8 // 2 = 4", "n = 1 + (4 % 3 - 1) = 1 + (1 - 1) = 1 + 0 = 1"),
        "while 4 > 5: False",
        "return 1 = 1",
    ]


def test_negative_values_keep_their_brackets():
    source = "def f(x):\n    y = x - 5\n    return y ** 2 - y"
    assert steps(source, 2) == ["y = 2 - 5 = -3", "return (-3) ** 2 - -3 = 12"]


def test_lists_that_change_in_place():
    source = (
        "def f(xs, k):\n    ys = xs[:]\n    ys.append(k)\n    ys[0] = ys[1] + k\n"
        "    a, b = ys[0], ys[1]\n    ys += [a]\n    return ys"
    )
    assert steps(source, [5, 1], 7) == [
        "ys = [5, 1]",
        "ys.append(7)",
        "ys = [5, 1, 7]",
        "ys = [8, 1, 7]",
        "a = 8",
        "b = 1",
        "ys += [8]",
        "ys = [8, 1, 7, 8]",
        "return = [8, 1, 7, 8]",
    ]


def test_an_assignment_or_a_test_that_changes_a_list_tells_both():
    source = "def f(xs):\n    y = xs.pop(0)\n    if xs.pop() > 2:\n        y += 10\n    return y + len(xs)"
    assert steps(source, [4, 6, 3]) == [
        "y = 4",
        "xs = [6, 3]",
        "if True",
        "xs = [6]",
        "y = 4 + 10 = 14",
        "return 14 + 1 = 15",
    ]


def test_words_letters_and_truth_values():
    source = (
        "def f(text):\n    out = ''\n    for i, letter in enumerate(text):\n        if letter in 'aeiou':\n"
        "            out += chr(ord(letter) + i)\n    done = out != text\n    return [out, done]"
    )
    assert steps(source, "ne") == [
        "out = ''",
        *("i = 0", "letter = 'n'", "if 'n' in 'aeiou': False"),
        *("i = 1", "letter = 'e'", "if 'e' in 'aeiou': True", "out += chr(ord('e') + 1) = 'f'"),
        "done = True",
        "return ['f', True] = ['f', True]",
    ]


def test_several_calculations_are_worked_out_in_parts():
    looped = (
        "def f(x):\n    for i in range(1):\n        x = max(x, (3 * x + 2 * i) % 10)\n    return x > 3 and x % 2 == 0"
    )
    assert steps(looped, 4) == [
        "i = 0",
        "x = max(4, (3 * 4 + 2 * 0) % 10) = max(4, (12 + 0) % 10) = max(4, 12 % 10) = max(4, 2) = 4",
        "return 4 > 3 and 4 % 2 == 0 = True and 0 == 0 = True",
    ]


def test_more_than_two_calculations_are_worked_out_in_parts_in_straight_lines():
    source = "def f(x, y):\n    z = (3 * x + 2 * y) % 10\n    return max(z - 1, min(x, 5) + y * 2, abs(-y))"
    assert steps(source, 4, 9) == [
        "z = (3 * 4 + 2 * 9) % 10 = (12 + 18) % 10 = 0",
        "return max(0 - 1, min(4, 5) + 9 * 2, abs(-9)) = max(-1, 4 + 18, 9) = 22",
    ]
    letters = "def f(c, k):\n    return chr((k * (ord(c) - 97) + 3) % 26 + 97)"
    assert steps(letters, "e", 9) == ["return chr((9 * (ord('e') - 97) + 3) % 26 + 97) = chr(39 % 26 + 97) = 'n'"]


def test_parts_that_cannot_be_worked_out_stay():
    """A call of another function, a division that a branch avoids, and a name that means something else here."""
    source = "def f(x):\n    g = lambda y: y + 1\n    return (g(x) * 2 + x * 3 - 1) % 7 + (x // 0 if x > 9 else 2)"
    (line,) = [line for line in steps(source, 4) if line.startswith("return")]
    assert line == "return (g(4) * 2 + 4 * 3 - 1) % 7 + (4 // 0 if 4 > 9 else 2) = " + (
        "(g(4) * 2 + 12 - 1) % 7 + (4 // 0 if False else 2) = 2"
    )
    own = "def f(x):\n    def max(a, b):\n        return a - b\n    return (max(x, 2) + 3 * x + 5) % 10"
    assert steps(own, 4) == ["return (max(4, 2) + 3 * 4 + 5) % 10 = (max(4, 2) + 12 + 5) % 10 = 9"]


def test_what_grows_long_is_not_repeated():
    source = "def f(text):\n    out = ''\n    for c in text:\n        out += c\n    return out"
    lines = steps(source, "abcdefghij")
    assert "out = 'abcdefgh'" in lines
    assert "out = 'abcdefghi'" not in lines


def test_inner_functions_and_recursion_are_called_in_one_step():
    inner = (
        "def f(x):\n\n    def step(y):\n        z = y + 2\n        return z\n    w = step(step(x))\n    return w * 2"
    )
    assert steps(inner, 3) == ["w = step(step(3)) = 7", "return 7 * 2 = 14"]
    recursion = "def f(n):\n    if n < 2:\n        return 1\n    return n * f(n - 1)"
    assert steps(recursion, 4) == ["if 4 < 2: False", "return 4 * f(4 - 1) = 4 * f(3) = 24"]
    assert steps(recursion, 1) == ["if 1 < 2: True", "return 1 = 1"]


def test_what_a_comprehension_or_a_lambda_binds_stays():
    source = "def f(x, xs):\n    k = x + 1\n    ys = [x * k for x in xs]\n    return sorted(ys, key=lambda x: -x)"
    assert steps(source, 1, [3, 4]) == [
        "k = 1 + 1 = 2",
        "ys = [6, 8]",
        "return = [8, 6]",
    ]


def test_what_has_no_counterpart_in_a_document_keeps_its_name_and_forgets_its_value():
    source = "def f(x):\n    d = {'a': x}\n    x = range(x)\n    y = sum(x) + d['a']\n    return y"
    assert steps(source, 4) == ["d = {'a': 4}", "y = sum(x) + 4 = 10", "return 10 = 10"]


def test_several_arguments():
    assert steps("def f(a, b):\n    c = a - b\n    return c * a", 2, 5) == ["c = 2 - 5 = -3", "return -3 * 2 = -6"]


# --- of all families ---------------------------------------------------------------------------------------------


def surroundings(program: Program) -> dict:
    """What a worked line may still name: the program's inner functions and its tables."""
    scope: dict = {}
    for statement in ast.parse(program.source).body[0].body:
        if isinstance(statement, ast.FunctionDef):
            exec(ast.unparse(statement), scope)
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            scope[statement.targets[0].id] = ast.literal_eval(statement.value)
    return scope


def claims(lines: list[str]) -> Iterator[tuple[str, list[str], str]]:
    """What each line is about, the expressions in it, all of one value, and the value it ends on."""
    for line in lines:
        if line.startswith(("if ", "while ")):
            word, rest = line.split(" ", 1)
            *expressions, value = rest.split(": ")
            yield word, expressions, value
        elif line.startswith("return "):
            *expressions, value = line.removeprefix("return").split(" = ")
            yield "return", [part.strip() for part in expressions if part], value
        elif added := re.fullmatch(r"(\w+)\.append\((.*)\)", line):
            *expressions, value = [f"[{part}]" for part in added[2].split(" = ")]
            yield added[1] + "+", expressions, value
        elif added := re.fullmatch(r"(\w+) \+= (.*)", line):
            *expressions, value = added[2].split(" = ")
            yield added[1] + "+", expressions, value
        else:
            name, *expressions, value = line.split(" = ")
            yield name, expressions, value


def same(one, other) -> bool:
    return (type(one), repr(one)) == (type(other), repr(other))


@pytest.mark.parametrize("name", ["arithmetic", "algorithms", "ciphers"])
def test_every_worked_line_is_true_and_the_lines_replay_the_trace(families, name: str):
    n_lines = n_worked = 0
    for program, runs in families[name]:
        scope = surroundings(program)
        statements = program.source.splitlines()
        arguments = [argument.arg for argument in ast.parse(program.source).body[0].args.args]
        for run in runs:
            state = dict(zip(arguments, run.arguments, strict=True))
            changes, told = [], list(claims(worked_steps(program, run).splitlines()))
            before = ""
            for what, expressions, value in told:
                n_lines += 1
                claimed = ast.literal_eval(value)
                for part in expressions:
                    found = eval(part, dict(scope))  # with no variable of the program within reach
                    assert same(bool(found) if what in ("if", "while") else found, claimed), (program.source, part)
                n_worked += bool(expressions)
                if what == "return":
                    assert same(claimed, run.output)
                elif before == f"{what}+":
                    assert same(claimed, state[what])  # the whole of what something was added to
                elif what not in ("if", "while"):
                    name = what.removesuffix("+")
                    state[name] = state[name] + claimed if what.endswith("+") else claimed
                    changes.append((name, state[name]))
                before = what
            assert same(changes, [item for changed in run.changes for item in changed.items()]), program.source
            assert [what for what, *_ in told].count("return") == 1
            assert told[-1][0] == "return"
            tests = [line for line in run.lines if statements[line - 1].strip().startswith(("if ", "while ", "elif "))]
            assert len(tests) == sum(what in ("if", "while") for what, *_ in told)
    assert n_lines >= n_worked > n_lines / 3 > 400


@pytest.mark.parametrize("name", ["arithmetic", "algorithms", "ciphers"])
def test_worked_tests_say_where_the_run_went(families, name: str):
    """The line that runs after a test is the first of its body exactly when the test is said to hold."""
    seen = set()
    for program, runs in families[name]:
        bodies = {
            node.lineno: node.body[0].lineno
            for node in ast.walk(ast.parse(program.source))
            if isinstance(node, ast.If | ast.While)
        }
        for run in runs:
            said = [
                value for what, _, value in claims(worked_steps(program, run).splitlines()) if what in ("if", "while")
            ]
            went = [after == bodies[line] for line, after in itertools.pairwise(run.lines) if line in bodies]
            assert said == list(map(str, went))
            seen |= set(said)
    assert seen == {"True", "False"}


def test_rotated_lists_are_told_after_every_pop(families):
    (program, runs) = next((p, runs) for p, runs in families["algorithms"] if p.facts["problem"] == "rotate")
    lines = worked_steps(program, runs[-1]).splitlines()
    popped = [i for i, line in enumerate(lines) if line.startswith("moved = ")]
    assert popped
    result = ast.literal_eval(lines[0].removeprefix("result = "))
    for i in popped:
        moved, after = int(lines[i].removeprefix("moved = ")), ast.literal_eval(lines[i + 1].removeprefix("result = "))
        assert sorted([*after, moved]) == sorted(result)
        result = [*after, int(lines[i + 2].rpartition(" = ")[2].removesuffix(")"))]
        assert not after or lines[i + 3] == f"result = {result}"
    assert lines[-1] == f"return = {result}"


def test_elements_stand_for_themselves_and_whole_lists_do_not():
    source = (
        "def f(xs, word, d):\n    y = xs[len(xs) - 1] + d[word[0]]\n    z = xs[y - y + 1:]\n"
        "    if xs[-1] in z:\n        y = xs[0] // 0 if y == 0 else y\n    return z"
    )
    assert steps(source, [5, 7], "ab", {"a": 3}) == [
        "y = 7 + 3 = 10",
        "z = [7]",
        "if True",
        "y = 5 // 0 if 10 == 0 else 10 = 5 // 0 if False else 10 = 10",
        "return = [7]",
    ]


def test_a_list_that_grows_is_told_each_time():
    source = "def f(xs):\n    out = []\n    for x in xs:\n        out.append(x * 2)\n    return out"
    assert steps(source, [1, 2, 3]) == [
        "out = []",
        *("x = 1", "out.append(1 * 2 = 2)"),
        *("x = 2", "out.append(2 * 2 = 4)", "out = [2, 4]"),
        *("x = 3", "out.append(3 * 2 = 6)", "out = [2, 4, 6]"),
        "return = [2, 4, 6]",
    ]
