"""A problem of the algorithms family: a source template, the values of its parameters, and how an input is drawn.

Parameters are thresholds, moduli, start values, directions, increments; a choice for each of them makes a program.
"""

import ast
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pbb_probe.programs.values import Value

Arguments = tuple[Value, ...]
Parameters = Mapping[str, int | str]
COMPARISONS = ("<", "<=", ">", ">=")
UP_OR_DOWN = ("<", ">")


@dataclass(frozen=True)
class Problem:
    """One problem: NAME stands for the function's name and `{k}` for its parameter k."""

    template: str
    values: Mapping[str, Sequence[int | str]]
    """The values of each parameter."""
    draw: Callable[..., Arguments]
    """One input at random: called with the generator and the parameters by name."""

    def source(self, name: str, parameters: Parameters) -> str:
        """The canonical source: the layout of `ast.unparse`."""
        text = self.template.replace("NAME", name)
        for parameter, value in parameters.items():
            text = text.replace("{" + parameter + "}", str(value))
        return ast.unparse(ast.parse(text))

    def combinations(self) -> list[Parameters]:
        """Every choice of parameters, in a fixed order."""
        return [dict(zip(self.values, chosen, strict=True)) for chosen in itertools.product(*self.values.values())]


def whole_numbers(rng: random.Random, high: int = 20, least: int = 3, most: int = 5) -> list[int]:
    """From `least` to `most` numbers between 0 and `high`."""
    return [rng.randint(0, high) for _ in range(rng.randint(least, most))]


def word(rng: random.Random, letters: str = "abcdefghijklmnopqrstuvwxyz", least: int = 3, most: int = 6) -> str:
    """From `least` to `most` random letters."""
    return "".join(rng.choices(letters, k=rng.randint(least, most)))
