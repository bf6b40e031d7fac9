"""Programs with a loop, resumed after some of its passes: the rest of one program from a state of another."""

import ast
import copy
import functools
from collections.abc import Set

from pbb_probe.patching.cutting import Definition
from pbb_probe.programs.passes import loop_of
from pbb_probe.programs.simpler import names_read
from pbb_probe.programs.syntax import function_of, parsed


@functools.cache
def resumed(program: Definition, k: int) -> Definition | None:
    """The program that takes what the loop carries after pass k, and the arguments, and does the rest.

    The lines before the loop run as they are. A `for` goes on behind the first k of its items, a `while` as long as its
    test holds: that the program takes k passes on these arguments is for the caller to know.

    Returns:
        Its name and source, the state being the first argument: a value, or of several variables their tuple. None if
        there is no such loop (`passes.loop_of`), or a `for` goes over what it carries, which is no longer there.

    Raises:
        PbbError: the source has no such function.

    Example:
        >>> _, text = resumed(("f", "def f(x):\\n    while x < 9:\\n        x += 2\\n    return x"), 1)
        >>> text.splitlines()
        ['def f_after_pass_1(state, x):', '    x = state', '    while x < 9:', '        x += 2', '    return x']
    """
    name, source = program
    tree, function = parsed(source), function_of(source, name)
    if (loop := loop_of(function)) is None:
        return None
    taken = {getattr(node, "id", None) or getattr(node, "arg", None) for node in ast.walk(tree)}
    state, items = (_free(word, taken) for word in ("state", "items"))
    statement, lines = copy.copy(loop.statement), []
    if isinstance(statement, ast.For):
        if names_read(statement.iter) & set(loop.carried) and not _is_range(statement.iter):
            return None
        lines = [f"{items} = [*{ast.unparse(statement.iter)}][{k}:]"]  # read before anything is put in
        statement.iter = ast.Name(items, ast.Load())
    lines += [f"{', '.join(loop.carried)} = {state}"]
    rest = copy.copy(function)
    rest.name, rest.decorator_list, rest.args = f"{name}_after_pass_{k}", [], copy.deepcopy(function.args)
    (rest.args.posonlyargs or rest.args.args).insert(0, ast.arg(state))
    rest.body = [*loop.before, *ast.parse("\n".join(lines)).body, statement, *loop.after]
    beside = [node for node in tree.body if getattr(node, "name", "") != name]
    return rest.name, "\n".join(map(ast.unparse, [*beside, rest]))


def same_ending(first: Definition, second: Definition) -> bool:
    """Do both programs do the same with what their loops carried, and with nothing else?

    Example:
        >>> lines = "def {}({}):\\n    while {} < 9:\\n        {} += 2\\n    return {}"
        >>> same_ending(*((name, lines.format(name, *name * 4)) for name in "fg"))
        True
    """
    loops = [loop_of(function_of(source, name)) for name, source in (first, second)]
    endings = [loop.ending for loop in loops if loop is not None and loop.ending is not None]
    return len(endings) == 2 and endings[0] == endings[1]


def _free(word: str, taken: Set[str | None]) -> str:
    while word in taken:
        word += "_"
    return word


def _is_range(iterable: ast.expr) -> bool:
    """Is it a `range`, whose bounds are read once?"""
    return isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range"
