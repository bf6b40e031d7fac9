"""Meaning: which function each program of a corpus computes, whether it is a new one, and what a right answer shows.

A model that answers a program's calls need not have evaluated it: it may know the function from a program with
examples, or do half of the evaluation where half is enough. So every program has a `function` and a `novelty`, and
every call says what simpler program explains its answer, if one does.
"""

import ast
import copy
import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pbb_probe.programs.program import Program, Trace, Value, label, try_outputs
from pbb_probe.programs.simpler import simpler_programs
from pbb_probe.programs.syntax import beside, function_of, parsed
from pbb_probe.programs.values import value_text
from pbb_probe.programs.whitelist import bound_names

Novelty = Literal["same_body", "same_function", "new_function", "new_step", "new_problem", ""]
"""Of a program without examples, against all programs with examples: one with code has the same body under another
name; one computes the same function by another text; none does, but each step occurs in some of their code; a step is
new; none is of its problem or cipher, with whatever parameters. Empty for programs with examples."""
NEW: tuple[Novelty, ...] = ("new_function", "new_step", "new_problem")
"""The novelties of functions that no program with examples computes."""
INPUT, GUESS = "the input", "the best guess"
"""What explains an answer without any program: it stands in the call, or it is the likeliest for this input."""

NAMELESS = "nameless"
MOST_KEPT = 100_000
_Run = tuple[str, str]
"""A source and the inputs that it is run on."""
_ANSWERS: dict[_Run, list[str | None]] = {}
"""What simpler programs answered: corpora of a family have many of them in common."""
COMMON = 20
"""Inputs on which programs with inputs of their own are compared, for each combination of types."""
FEWEST = 5
"""Programs with examples that a guess from an input rests on; with fewer the guess is their commonest answer at all."""


@dataclass(frozen=True)
class Meaning:
    """What a program computes, and what its answers show.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus = pbb.make_corpus(with_io=20, without_io=10)
        >>> meaning = corpus.meaning[corpus.of("without_io")[1].program.name]
        >>> meaning.novelty, len(meaning.explained_by)
        ('new_function', 10)
    """

    function: str
    """An id, equal for programs with equal outputs on all inputs."""
    novelty: Novelty
    explained_by: tuple[str, ...]
    """For each of its traces, the simplest that gives the same answer: the input, a simpler program in the words of
    `simpler_programs`, or the best guess from the input. Empty where nothing does: the call is decisive."""

    def labels(self, place: int) -> dict[str, str | bool]:
        """The labels of the call at a place among the program's inputs."""
        words = self.explained_by[place]
        return {
            "function": self.function,
            "novelty": self.novelty,
            "decisive": not words,
            "explained_by": words,
        }


@dataclass(frozen=True)
class Taught:
    """A program, the traces on its inputs, and what a model is shown of it."""

    program: Program
    traces: Sequence[Trace]
    has_code: bool
    has_examples: bool


def meanings(taught: Sequence[Taught]) -> list[Meaning]:
    """The meaning of each program of a corpus.

    Functions are compared on the corpus's inputs: those with other inputs of the same types are run on `COMMON` of
    them, and those equal so far on the inputs of one another.
    """
    library = [each.program for each in taught]
    functions = _functions(taught, library)
    novelties = _novelties(taught, functions)
    explained = _explained(taught, library)
    return [Meaning(*each) for each in zip(functions, novelties, explained, strict=True)]


def explanations(
    programs: Sequence[Program], traces: Sequence[Sequence[Trace]], library: Sequence[Program] = ()
) -> list[list[str]]:
    """For each trace of each program, what simpler program gives its output, in words; empty where none does.

    The input counts as one; the best guess, which depends on other programs, does not. Statements that may as well
    stand in the other order, which changes no output, explain nothing.
    """
    keys: list[dict[str, _Run]] = []
    jobs: dict[_Run, tuple[Program, list[tuple[Value, ...]]]] = {}
    for program, calls in zip(programs, traces, strict=True):
        arguments = [trace.arguments for trace in calls]
        plain = program if program.calls else nameless(program)
        keys.append({})
        for words, source in simpler_programs(plain.source).items():
            key = (source, repr(arguments))
            keys[-1][words] = key
            if key not in _ANSWERS or program.calls:  # what it calls may be another program
                jobs[key] = (replace(plain, source=source), arguments)
    if len(_ANSWERS) > MOST_KEPT:
        _ANSWERS.clear()
    runs = try_outputs([program for program, _ in jobs.values()], [calls for _, calls in jobs.values()], library)
    fresh = {key: list(map(_text_if_any, run)) for key, run in zip(jobs, runs, strict=True)}
    answers = _ANSWERS | fresh
    explained = []
    for calls, of_program in zip(traces, keys, strict=True):
        given = [(words, answers[key]) for words, key in of_program.items()]
        right = [_text(trace.output) for trace in calls]
        given = [(words, told) for words, told in given if told != right or not words.startswith("step")]
        explained.append([_explanation(trace, place, given) for place, trace in enumerate(calls)])
    _ANSWERS.update(fresh)
    return explained


def nameless(program: Program) -> Program:
    """The program under a name that tells nothing, so that the same body is run once."""
    if NAMELESS in program.source:
        return program
    word = rf"\b{program.name}\b"
    if len(re.findall(word, program.source)) == 1:  # in its definition
        return replace(program, name=NAMELESS, source=re.sub(word, NAMELESS, program.source))
    tree = copy.deepcopy(parsed(program.source))
    for node in ast.walk(tree):
        for part in ("id", "name"):
            if getattr(node, part, None) == program.name:
                setattr(node, part, NAMELESS)
    return replace(program, name=NAMELESS, source=ast.unparse(tree))


def _explanation(trace: Trace, place: int, given: Sequence[tuple[str, Sequence[str | None]]]) -> str:
    right = _text(trace.output)
    if right in map(_text, trace.arguments):
        return INPUT
    return next((words for words, answers in given if answers[place] == right), "")


def _explained(taught: Sequence[Taught], library: Sequence[Program]) -> list[tuple[str, ...]]:
    explained = explanations([each.program for each in taught], [each.traces for each in taught], library)
    guesses = _Guesses(each for each in taught if each.has_examples)
    return [
        tuple(
            words or (GUESS if guesses.right(each, trace) else "")
            for words, trace in zip(of_program, each.traces, strict=True)
        )
        for each, of_program in zip(taught, explained, strict=True)
    ]


class _Guesses:
    """The commonest output for an input among programs with examples of as many steps, other than the one called."""

    def __init__(self, examples: Iterable[Taught]):
        self.of_input: dict[tuple[object, str], Counter[str]] = defaultdict(Counter)
        self.of_any: dict[object, Counter[str]] = defaultdict(Counter)
        for each in examples:
            for trace in each.traces:
                self.of_input[_kind(each), value_text(trace.arguments)][_text(trace.output)] += 1
                self.of_any[_kind(each)][_text(trace.output)] += 1

    def right(self, called: Taught, trace: Trace) -> bool:
        """Is the best guess the output of this trace?"""
        known = self.of_input[_kind(called), value_text(trace.arguments)].copy()
        if called.has_examples:
            known[_text(trace.output)] -= 1
        if known.total() < FEWEST:
            known = self.of_any[_kind(called)].copy()
            if called.has_examples:
                known -= Counter(_text(each.output) for each in called.traces)
        if known.total() < FEWEST:
            return False
        return min(known, key=lambda answer: (-known[answer], answer)) == _text(trace.output)


def _kind(taught: Taught) -> object:
    return taught.program.family, taught.program.facts.get("steps")


def _functions(taught: Sequence[Taught], library: Sequence[Program]) -> list[str]:
    """An id for each program, equal for those with equal outputs."""
    types: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, each in enumerate(taught):
        types[tuple(type(argument).__name__ for trace in each.traces[:1] for argument in trace.arguments)].append(i)
    keys: dict[int, object] = {}
    for kind, places in types.items():
        alike = [taught[i] for i in places]
        shared = {tuple(value_text(trace.arguments) for trace in each.traces) for each in alike}
        if len(shared) == 1:
            keys |= {i: (kind, _table(taught[i])) for i in places}
            continue
        for i, answers in zip(places, _on_inputs(alike, _some_inputs(alike), library), strict=True):
            # one that fails on all of them is like no other
            keys[i] = (kind, answers) if any(answers) else (kind, _table(taught[i]), taught[i].program.name)
    classes: dict[object, list[int]] = defaultdict(list)
    for i, key in keys.items():
        classes[key].append(i)
    for members in classes.values():
        alike = [taught[i] for i in members]
        if len({_table(each) for each in alike}) > 1:  # equal so far, on inputs that are not their own
            every = list(
                {value_text(trace.arguments): trace.arguments for each in alike for trace in each.traces}.values()
            )
            for i, answers in zip(members, _on_inputs(alike, every, library), strict=True):
                keys[i] = (keys[i], answers)
    return [hashlib.sha256(repr(keys[i]).encode()).hexdigest()[:10] for i in range(len(taught))]


def _table(taught: Taught) -> tuple[tuple[str, str], ...]:
    return tuple((value_text(trace.arguments), _text(trace.output)) for trace in taught.traces)


def _some_inputs(alike: Sequence[Taught]) -> list[tuple[Value, ...]]:
    every = {value_text(trace.arguments): trace.arguments for each in alike for trace in each.traces}
    drawn = random.Random("common inputs").sample(sorted(every), min(COMMON, len(every)))
    return [every[text] for text in drawn]


def _on_inputs(
    alike: Sequence[Taught], inputs: list[tuple[Value, ...]], library: Sequence[Program]
) -> list[tuple[str | None, ...]]:
    runs = try_outputs([each.program for each in alike], [inputs] * len(alike), library)
    return [tuple(map(_text_if_any, run)) for run in runs]


def _novelties(taught: Sequence[Taught], functions: Sequence[str]) -> list[Novelty]:
    read = [each.program.source for each in taught if each.has_code and each.has_examples]
    problems = {each.program.problem for each in taught if each.has_examples}
    bodies = set(map(body_of, read))
    steps = {step for source in read for step in steps_of(source)}
    known = {function for each, function in zip(taught, functions, strict=True) if each.has_examples}

    def novelty(each: Taught, function: str) -> Novelty:
        if each.has_examples:
            return ""
        if body_of(each.program.source) in bodies:
            return "same_body"
        if function in known:
            return "same_function"
        if each.program.problem not in (None, *problems):
            return "new_problem"
        return "new_function" if steps_of(each.program.source) <= steps else "new_step"

    return [novelty(*each) for each in zip(taught, functions, strict=True)]


def body_of(source: str) -> str:
    """The program without its name and with its variables called by their order: equal for equal bodies.

    Raises:
        PbbError: the source is not one function.
    """
    function = _own_tree(source)
    names = dict.fromkeys([argument.arg for argument in function.args.args] + list(bound_names(ast.walk(function))))
    renamed = {name: f"v{k}" for k, name in enumerate(name for name in names if name != function.name)}
    for node in ast.walk(function):
        for field in ("id", "arg", "name"):
            if (name := getattr(node, field, None)) in {*renamed, function.name}:
                setattr(node, field, renamed.get(str(name), "f"))
    return beside(source) + ast.unparse(function)


def steps_of(source: str) -> set[str]:
    """The expressions of its statements, with `_` for every variable: what a program is made of.

    Raises:
        PbbError: the source is not one function.
    """
    function = _own_tree(source)
    bound = {argument.arg for argument in function.args.args} | set(bound_names(ast.walk(function)))
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id in bound:
            node.id = "_"
    return {
        ast.unparse(part)
        for statement in ast.walk(function)
        if isinstance(statement, ast.stmt) and not isinstance(statement, ast.FunctionDef)
        for part in ast.iter_child_nodes(statement)
        if isinstance(part, ast.expr) and not isinstance(part, ast.Name)
    }


def _own_tree(source: str) -> ast.FunctionDef:
    """A syntax tree that may be changed."""
    return copy.deepcopy(function_of(source))


def _text_if_any(value: Value | None) -> str | None:
    return None if value is None else _text(value)


def _text(value: Value) -> str:
    return str(label(value))
