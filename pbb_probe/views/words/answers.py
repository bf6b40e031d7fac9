"""What is answered, said from the table of behaviour: the headline, what stands beside it, and effective programs."""

from typing import TYPE_CHECKING

from pbb_probe.evidence.gate import headline
from pbb_probe.views.evaluated import closed
from pbb_probe.views.headline import DECISIVE, KNOWN, NEW, beside, tells_apart
from pbb_probe.views.pairs import in_order
from pbb_probe.views.run_tables import rows
from pbb_probe.views.words.phrases import and_words, kinds_words, steps_words

if TYPE_CHECKING:
    import pandas as pd

_KIND = ["mode", "group", "novelty", "steps"]


def direct_answers(behaviour: "pd.DataFrame", gate: "pd.DataFrame | None" = None) -> "pd.DataFrame":
    """The headline: direct answers of the finetuned model on inputs whose answers were never shown, by group and steps.

    Args:
        behaviour: of which decisive calls of new functions count, where it tells them apart.
        gate: a row a group and number of steps, with `evaluated`.

    Returns:
        Its rows with `above`: is it evaluated, or where there is no gate, is it above chance?
    """
    cells = headline(_unshown(behaviour))
    if gate is None:
        return _by_kind(cells.assign(above=cells["lower"] > cells["chance"]))
    silent = {(row.group, row.steps) for row in closed(gate).itertuples()}
    return _by_kind(cells.assign(above=[(row.group, row.steps) not in silent for row in cells.itertuples()]))


def see_behaviour(behaviour: "pd.DataFrame", gate: "pd.DataFrame | None" = None) -> str:
    """Direct answers of each group beside chance, those that are not above it, and what stands beside the headline."""
    cells = direct_answers(behaviour, gate)
    if cells.empty:
        return "There are no direct answers on inputs that were never shown."
    said = _answered(cells)
    low, high = (f"{value:.0%}" for value in (cells["chance"].min(), cells["chance"].max()))
    chance = low if low == high else f"{low} to {high}"
    none = [(row.group, row.steps) for row in cells.itertuples() if not row.above]
    also = f" Not shown to be above chance: {kinds_words(none)}." if none else ""
    if not tells_apart(behaviour):
        return f"Direct answers on inputs that were never shown: {said}; chance is {chance}.{also}"
    also += "".join(f" Of {what}: {_answered(of)}." for what, of in further_answers(behaviour).items())
    also += f" {_how_many(_unshown(behaviour))}"
    return (
        "Direct answers on inputs that were never shown, of decisive calls (without examples, of new functions): "
        f"{said}; chance is {chance}.{also}"
    )


def further_answers(behaviour: "pd.DataFrame") -> "dict[str, pd.DataFrame]":
    """What stands beside the headline, by what it is of: decisive calls of known functions, and all calls."""
    cells = _unshown(behaviour)
    further = {"known functions": beside(cells, DECISIVE, KNOWN), "all calls": beside(cells)}
    return {what: _by_kind(of) for what, of in further.items() if len(of)}


def see_code_adds(code_adds: "pd.DataFrame") -> str:
    """What the code adds to direct answers, with_io minus io_only, beside what models do with the code in context."""
    said = []
    for steps, cells in code_adds.groupby("steps"):
        of = {row.what: row for row in cells.itertuples()}
        apart = [row for what, row in of.items() if " minus " in what]
        ceilings = [f"{what} {row.mean:.0%}" for what, row in of.items() if "in context" in what]
        parts = [f"{row.mean:+.0%} [{row.lower:.0%}, {row.upper:.0%}] ({row.what})" for row in apart]
        said.append(f"{steps_words(steps)}: {', '.join([*parts, *ceilings]) or 'not known'}")
    return f"What the code adds, on decisive calls whose answers were never shown: {'; '.join(said)}."


def see_effective(effective: "pd.DataFrame") -> str:
    """How often the effective program is the one that was asked for, and what it is most often in its stead."""
    said = []
    kinds = effective.assign(novelty=effective["novelty"].fillna("")).groupby(_KIND, sort=False)
    for (mode, group, novelty, steps), cells in kinds:
        own, other = rows(cells, difference="none"), cells[cells["difference"] != "none"]
        words = f"{own['share'].sum():.0%}"
        if other["share"].max() > 0:
            top = other.loc[other["share"].idxmax()]
            words += f" (else most often {top['difference']}: {top['share']:.0%})"
        of = ", ".join(filter(None, (group, str(novelty).replace("_", " "), steps_words(steps), mode)))
        said.append(f"{of} {words}")
    return f"Share of programs whose answers fit the program itself: {'; '.join(said)}."


def see_recited(recited: "pd.DataFrame") -> str:
    """How many programs are recalled and computed, recalled but not, and computed without."""
    said = []
    kinds = recited.assign(novelty=recited["novelty"].fillna("")).groupby(_KIND, sort=False)
    for (mode, group, novelty, steps), cells in kinds:
        of = ", ".join(filter(None, (group, str(novelty).replace("_", " "), steps_words(steps), mode)))
        shares = [f"{row.outcome} {row.share:.0%}" for row in cells.itertuples() if row.share > 0]
        said.append(f"{of}: {and_words(shares)}")
    return f"{'; '.join(said)}."


def _how_many(cells: "pd.DataFrame") -> str:
    """How many calls of each group are decisive, and how many programs without examples compute new functions."""
    every, decisive = beside(cells), beside(cells, DECISIVE)
    counted = [
        f"{group} {rows(decisive, group=group)['n'].sum()} of {rows(every, group=group)['n'].sum()}"
        for group in in_order(every["group"])
    ]
    said = f"Decisive are of the calls asked of: {'; '.join(counted)}."
    if "n_programs" in cells and len(new := beside(cells, programs=NEW)):
        without = rows(every, group="without_io")
        said += f" Of {without['n_programs'].sum()} without_io programs {new['n_programs'].sum()} have new functions."
    return said


def _unshown(behaviour: "pd.DataFrame") -> "pd.DataFrame":
    """Direct answers of the finetuned model to calls whose answers were never shown."""
    cells = rows(behaviour, model="finetuned", mode="direct")
    return cells[(cells["group"] == "without_io") | ~cells["seen"].astype(bool)]


def _by_kind(cells: "pd.DataFrame") -> "pd.DataFrame":
    """In the order of the groups, and of each by steps."""
    order = [cells[cells["group"] == group].sort_values("steps").index for group in in_order(cells["group"])]
    return cells.loc[[row for of_group in order for row in of_group]]


def _answered(cells: "pd.DataFrame") -> str:
    """Such as `with_io 60% (1 step) and 40% (2 steps); io_only 50% (1 step)`."""
    return "; ".join(
        f"{group} {and_words([f'{row.mean:.0%} ({steps_words(row.steps)})' for row in kinds.itertuples()])}"
        for group, kinds in cells.groupby("group", sort=False)
    )
