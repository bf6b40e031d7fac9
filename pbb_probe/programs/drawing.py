"""Drawing programs for a corpus: some functions are kept for programs without examples, and decisive calls preferred.

Whether a model can evaluate a program shows only where it has not met its function before, so a share of the functions
of programs without examples is computed by no program with examples, and none is of a share of their problems or
ciphers, with whatever parameters. Programs that are hard to mistake for half of themselves are preferred.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from pbb_probe.errors import PbbError
from pbb_probe.programs.meaning import body_of, explanations
from pbb_probe.programs.program import Program, Trace, Value, trace_programs

Made = tuple[Program, list[tuple[Value, ...]]]
"""A program and its inputs."""
Draw = Callable[[int], Callable[[str], Made]]
"""Draws the program at a place, as a function of its name."""
Drawn = tuple[Program, list[Trace]]

NEW_SHARE = 0.5
"""Share of the functions of programs without examples that is kept for them, by default."""
PROBLEM_SHARE = 0.25
"""Share of the problems or ciphers of programs without examples that is kept for them, by default."""
FAR = 10_000
"""A place as far on draws another problem at random."""
PREFERENCE = 1  # further draw for a program of which fewer than half of the calls are decisive
ROUNDS = 100  # draws for a program with examples, before there are said to be too few functions


def drawn_programs(
    draw: Draw,
    hidden: Sequence[str],
    shown: Sequence[str],
    new_functions: float | None,
    new_problems: float,
    rng: random.Random,
) -> list[Drawn]:
    """A program with its traces for each name.

    Args:
        draw: of the family.
        hidden: names of the programs without examples, which come first.
        shown: names of those with examples.
        new_functions: share of the functions of the former, of each number of steps, that none of the latter computes.
            None takes programs as they come: decisive calls are not preferred either.
        new_problems: share of the problems or ciphers of the former of which none of the latter is.
        rng: draws which functions and problems.

    Raises:
        PbbError: the family has too few functions.
    """
    preference = 0 if new_functions is None else PREFERENCE
    without = _draw(draw, dict(enumerate(hidden)), set(), preference)
    kept = _kept(without, new_functions or 0, rng) | _kept_problems(without, new_problems, rng) if shown else set()
    places = {len(hidden) + place: name for place, name in enumerate(shown)}
    return [*without, *_draw(draw, places, kept, preference)]


def _draw(draw: Draw, names: dict[int, str], kept: set[object], preference: int) -> list[Drawn]:
    """A program for the name at each place, of no kept function, and with decisive calls where they come soon."""
    drawn: dict[int, Drawn] = {}
    pending = list(names)
    elsewhere = random.Random("elsewhere")
    moved: dict[int, int] = {}  # places whose own problem is kept
    for turn in range(ROUNDS):
        made = [draw(moved.get(place, place))(names[place]) for place in pending]
        traced = trace_programs([program for program, _ in made], [inputs for _, inputs in made])
        runs = [[trace.without_dicts() for trace in run] for run in traced]  # as the corpora have always had them
        fresh = {place: (program, run) for place, (program, _), run in zip(pending, made, runs, strict=True)}
        moved |= {place: elsewhere.randrange(FAR) for place, (program, _) in fresh.items() if program.problem in kept}
        usable = {
            place: each
            for place, each in fresh.items()
            if each[0].problem not in kept and kept.isdisjoint(_identities(each))
        }
        drawn |= usable
        pending = [place for place in pending if place not in drawn]
        if turn < preference:
            pending = sorted({*pending, *_rarely_decisive(usable)})
        if not pending:
            return [drawn[place] for place in names]
    if all(place in drawn for place in names):
        return [drawn[place] for place in names]
    raise PbbError(
        "The family has too few functions to keep so many from the programs with examples: lower new_functions or "
        "new_problems, or ask for fewer programs without examples."
    )


def _rarely_decisive(drawn: dict[int, Drawn]) -> list[int]:
    """The places of programs of which fewer than half of the calls are decisive."""
    explained = explanations([program for program, _ in drawn.values()], [run for _, run in drawn.values()])
    return [place for place, words in zip(drawn, explained, strict=True) if 2 * words.count("") < len(words)]


def _identities(drawn: Drawn) -> Iterable[object]:
    """What two programs of one function share: their body, or their outputs on the same inputs."""
    program, run = drawn
    yield body_of(program.source)
    yield tuple((repr(trace.arguments), repr(trace.output)) for trace in run)


def _kept(without: Sequence[Drawn], share: float, rng: random.Random) -> set[object]:
    """The identities of the functions, of each number of steps, that no program with examples computes."""
    kinds: dict[object, dict[object, list[Drawn]]] = defaultdict(lambda: defaultdict(list))
    for each in without:
        _, table = _identities(each)
        kinds[each[0].facts.get("steps")][table].append(each)
    kept: set[object] = set()
    for functions in kinds.values():
        for table in rng.sample(list(functions), math.ceil(len(functions) * share)):
            kept |= {identity for each in functions[table] for identity in _identities(each)}
    return kept


def _kept_problems(without: Sequence[Drawn], share: float, rng: random.Random) -> set[object]:
    """The problems or ciphers of which no program with examples is."""
    problems = list(dict.fromkeys(program.problem for program, _ in without if program.problem))
    return set(rng.sample(problems, math.ceil(len(problems) * share)))
