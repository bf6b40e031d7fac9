"""Relabelled operators: the same text, read in a language in which, say, + multiplies and < means >.

After Jin and Rinard (2023, arXiv 2305.11169): a probe that decodes a program's states only because it evaluates the
program itself can learn states under permuted semantics just as well; one that reads what the model computed cannot.
"""

import ast
import functools
import random

from pbb_probe.programs.syntax import parsed

_KINDS: tuple[tuple[type[ast.AST], ...], ...] = (
    (ast.Add, ast.Sub, ast.Mult),
    (ast.Lt, ast.Gt, ast.LtE, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.And, ast.Or),
)
"""Operators that are exchanged. Division and remainder keep their meaning, as they bound the values."""
_FUNCTIONS = ("max", "min")


@functools.lru_cache(maxsize=4096)
def relabelled(source: str, seed: int = 0) -> str:
    """Source text that does what `source` would do if its operators had other meanings.

    Within each kind (+ - *; comparisons; == and !=; and, or; max and min) every operator is replaced by the next in a
    cycle whose order is drawn by `seed`, so that none keeps its meaning.
    """
    tree = _Relabel(random.Random(f"relabel {seed}")).visit(parsed(source))
    return ast.unparse(ast.fix_missing_locations(tree))


class _Relabel(ast.NodeTransformer):
    def __init__(self, rng: random.Random) -> None:
        circles = [rng.sample(kind, len(kind)) for kind in _KINDS]
        self.other = {a: b for circle in circles for a, b in zip(circle, circle[1:] + circle[:1], strict=True)}

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if type(node) in self.other:
            return self.other[type(node)]()
        return super().generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
            node.func.id = _FUNCTIONS[1 - _FUNCTIONS.index(node.func.id)]
        return super().generic_visit(node)
