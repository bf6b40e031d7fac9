"""The calls that pairs are made of: decisive ones, whose answers no simpler program gives."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, get_args

from pbb_probe.errors import PbbError
from pbb_probe.programs.corpus import Corpus, Entry, Group
from pbb_probe.programs.meaning import Novelty, explanations
from pbb_probe.programs.program import Trace, Value, call_arguments, try_calls
from pbb_probe.schema import refuse_unknown

if TYPE_CHECKING:
    import pandas as pd

NOVELTIES = tuple(name for name in get_args(Novelty) if name)
TRIES = 5  # programs run on the input of a call that no other program has


def drawn_calls(
    corpus: Corpus,
    group: Group,
    n: int | None = None,
    seed: int = 0,
    unseen: bool = False,
    decisive: bool = True,
    novelty: Sequence[str] | None = None,
) -> "pd.DataFrame":
    """Calls of one group as `Corpus.calls` draws them, of which `n` that may stand in a pair.

    Args:
        corpus: whose programs are called.
        group: of the programs.
        n: calls; all of them when None.
        seed: of the draw.
        unseen: only inputs whose answers were never shown.
        decisive: only decisive calls, where the calls say so.
        novelty: only programs of these novelties.

    Raises:
        PbbError: what `Corpus.calls` refuses, or no such call.
    """
    calls = corpus.calls("direct", group, None, seed, unseen)
    of_novelty = chosen(calls, decisive=False, novelty=novelty)
    if of_novelty.empty:
        raise PbbError(
            f"No {group} program is of the novelty {' or '.join(novelty or ())}, which only programs without examples "
            "have: ask for others, or leave novelty out."
        )
    may_stand = chosen(of_novelty, decisive)
    if may_stand.empty:
        raise PbbError(
            f"No such {group} call is decisive, a simpler program gives the answer of each: use programs of more steps "
            "or values, or decisive=False."
        )
    turn = may_stand.groupby("program").cumcount()
    return may_stand.loc[turn.sort_values(kind="stable").index][:n].reset_index(drop=True)  # programs take turns again


def chosen(calls: "pd.DataFrame", decisive: bool = True, novelty: Sequence[str] | None = None) -> "pd.DataFrame":
    """The calls that are decisive, where they say so, and of programs of these novelties.

    Raises:
        PbbError: a novelty is asked for, and the calls do not say theirs.
    """
    if novelty is not None:
        refuse_unknown("novelty", novelty, NOVELTIES, "novelties")
        if "novelty" not in calls:
            raise PbbError("These calls do not say how new their programs are: leave novelty out.")
        calls = calls[calls["novelty"].isin(list(novelty))]
    return calls[calls["decisive"].astype(bool)] if decisive and "decisive" in calls else calls


def on_inputs_of_others(corpus: Corpus, calls: "pd.DataFrame", seed: int) -> "pd.DataFrame":
    """For each call, up to `TRIES` programs of the same group and kind that lack its input, run on it.

    Args:
        corpus: whose programs are called.
        calls: of the corpus.
        seed: of the draw.

    Returns:
        Rows as of `Corpus.calls`. That the best guess gives an answer does not count here: on inputs of few programs it
        is not known.
    """
    import pandas as pd

    rng = random.Random(f"inputs of others {seed}")

    def kind(entry: Entry) -> tuple[object, ...]:
        facts = entry.program.facts
        return entry.group, entry.program.family, facts.get("problem"), facts["steps"]

    kinds = defaultdict(list)
    for entry in corpus.entries:
        kinds[kind(entry)].append(entry)
    drawn = []
    for call in calls.to_dict(orient="records"):
        called = corpus.by_name[call["program"]]
        arguments = called.traces[call["place"]].arguments
        others = [e for e in kinds[kind(called)] if all(trace.arguments != arguments for trace in e.traces)]
        for entry in rng.sample(others, min(TRIES, len(others))):
            drawn.append((entry, arguments, call["template"]))
    rows = []
    runs = _explained(corpus, [(entry, arguments) for entry, arguments, _ in drawn])
    for (entry, _, template), run in zip(drawn, runs, strict=True):
        if run is not None:
            meaning = corpus.meaning[entry.program.name]
            words = {"decisive": not run.words, "explained_by": run.words}
            own = {"function": meaning.function, "novelty": meaning.novelty}
            rows.append(entry.call(run.trace, "direct", template, -1) | own | words)
    return pd.DataFrame(rows)


def are_decisive(corpus: Corpus, calls: Sequence[tuple[str, str]]) -> list[bool]:
    """Is each call decisive? One that cannot be run is not.

    Args:
        corpus: whose programs are called.
        calls: a program's name, and its arguments as `Corpus.calls` writes them; they may be no inputs of the program.
    """
    decisive: dict[tuple[str, str], bool] = {}
    for name in dict.fromkeys(name for name, _ in calls):
        words = corpus.meaning[name].explained_by
        known = zip(corpus.by_name[name].traces, words, strict=True)
        decisive |= {(name, trace.call_text): not word for trace, word in known}
    others = [call for call in dict.fromkeys(calls) if call not in decisive]
    runs = _explained(corpus, [(corpus.by_name[name], call_arguments(name, call)) for name, call in others])
    decisive |= {call: run is not None and not run.words for call, run in zip(others, runs, strict=True)}
    return [decisive[call] for call in calls]


class _Run(NamedTuple):
    trace: Trace
    words: str
    """Which simpler program gives the answer."""


def _explained(corpus: Corpus, calls: Sequence[tuple[Entry, tuple[Value, ...]]]) -> list[_Run | None]:
    """Each call run; None where it fails."""
    programs, library = [entry.program for entry, _ in calls], [entry.program for entry in corpus.entries]
    runs = [run[0] for run in try_calls(programs, [[arguments] for _, arguments in calls], library)]
    done = [(program, trace) for program, trace in zip(programs, runs, strict=True) if trace is not None]
    words = iter(explanations([program for program, _ in done], [[trace] for _, trace in done], library))
    return [None if trace is None else _Run(trace, next(words)[0]) for trace in runs]
