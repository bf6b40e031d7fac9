"""The gate: nothing is located that is not there.

Where a model answers no better than chance, what its right answers have in common is no evaluation. Known functions
pass for new programs, and half an evaluation for a whole one: so what counts is decisive calls, which no simpler
program answers, of programs without examples only such as compute a new function, and never shown answers.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.subsets import decisive_calls, label_rows
from pbb_probe.evidence.tables import accuracy
from pbb_probe.labels import AUTO, join, label
from pbb_probe.schema import Draws, Name, NameListIfAny, Seed, checks_arguments
from pbb_probe.statistics.groups import each_kind

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from pbb_probe.store.run import Run

ENOUGH = 20
"""Programs of a group, below which nothing is said of it."""
NUMBERS = ("mean", "lower", "upper", "n", "programs", "clusters", "chance")


@checks_arguments
def gate(
    behaviour: "xr.Dataset",
    by: NameListIfAny = ("group", "steps"),
    clusters: Name | None = AUTO,
    models: Name | None = None,
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """Is direct evaluation there, in each group and number of steps?

    Asked of the direct, decisive calls whose answers were never shown, of without_io programs of new functions. What
    calls do not say, as those of earlier releases do not, is taken to be so.

    Args:
        behaviour: from `evaluate`, with the mode `direct`.
        by: coordinates of the calls; each combination of their values has a row.
        clusters: as in `accuracy`.
        models: as in `accuracy`.
        draws: resamples.
        seed: of the resamples.

    Returns:
        The columns `by`; `state`: evaluated (the lower bound of accuracy is above chance), not evaluated (it is not)
        or undetermined (fewer than `ENOUGH` programs), of programs with examples answered and not answered, since
        their answers may be induced from the examples; `evaluated`, whether it is the first; of these calls the `mean`
        accuracy with `lower` and `upper`, `n`, `programs`, `clusters` and `chance`, the share of their most common
        right answer; and `sentence`, which says it.

    Raises:
        PbbError: a coordinate that the calls do not have.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus = pbb.make_corpus(with_io=40, without_io=0)
        >>> behaviour = pbb.evaluate("nano", corpus, modes=["direct"])
        >>> pbb.tables.gate(behaviour, by=["group"])[["group", "state"]].values.tolist()  # nothing was learned yet
        [['with_io', 'not answered']]
    """
    import pandas as pd

    direct = behaviour.isel(call=(label(behaviour, "mode") == "direct").to_numpy())
    counted = decisive_calls(direct) & ~label(direct, "seen").eq(True).to_numpy()
    rows = []
    for kind, here in each_kind(label_rows(direct, by)):
        row: dict[str, Any] = dict.fromkeys(NUMBERS, float("nan")) | dict.fromkeys(("n", "programs", "clusters"), 0)
        if (here & counted).any():
            chosen = direct.isel(call=here & counted)
            row = accuracy(chosen, (), clusters, models, draws, seed)[list(NUMBERS)].to_dict(orient="records")[0]
        word = "evaluated" if kind.get("group") == "without_io" else "answered"
        state = _state(row, word)
        rows.append({**kind, "state": state, "evaluated": state == word, **row, "sentence": _said(state, row)})
    return pd.DataFrame(rows, columns=[*by, "state", "evaluated", *NUMBERS, "sentence"])


def gate_of(runs: "Mapping[str, Run]", **settings: Any) -> "pd.DataFrame | None":
    """The gate of one run's finetuned model, or of several finetunings pooled; None where a run has no behaviour."""
    if not all(run.holds("behaviour/finetuned.nc") for run in runs.values()):
        return None
    answers = []
    for name, run in runs.items():
        behaviour = run.array("behaviour/finetuned")[["correct", "forced"]]
        answers.append(behaviour.assign_coords(model=("call", [name] * behaviour.sizes["call"])))
    return gate(join(answers, "call"), models="model" if len(runs) > 1 else None, **settings)


def headline(behaviour: "pd.DataFrame") -> "pd.DataFrame":
    """Of a table of behaviour the rows of decisive calls, of without_io programs those of new functions.

    A table of an earlier release tells neither apart, and all of it is the headline.
    """
    if "calls" not in behaviour:
        return behaviour
    new = behaviour["group"] == "without_io"
    programs = behaviour["programs"] == new.map({True: "new functions", False: "all"})
    return behaviour[(behaviour["calls"] == "decisive") & programs]


def _state(row: dict[str, Any], word: str) -> str:
    if row["programs"] < ENOUGH:
        return "undetermined"
    return word if row["lower"] > row["chance"] else f"not {word}"


def _said(state: str, row: dict[str, Any]) -> str:
    if not row["n"]:
        return "undetermined (no decisive calls)"
    if state == "undetermined":
        return f"undetermined (too few programs, n = {row['programs']:.0f})"
    mean, lower, upper, chance = (100 * row[name] for name in ("mean", "lower", "upper", "chance"))
    return f"{state} ({mean:.0f} % [{lower:.0f}, {upper:.0f}] on {row['n']:.0f} decisive calls, chance {chance:.0f} %)"
