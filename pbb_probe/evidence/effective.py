"""Effective programs as tables: what models compute in place of programs, and whether they recall them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.labels import AUTO, cluster_label, label, storable
from pbb_probe.programs.mutants import DIFFERENCES
from pbb_probe.schema import Draws, Name, NameListIfAny, Seed, checks_arguments
from pbb_probe.statistics.groups import interval_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

OUTCOMES = (
    "recalled and computed",
    "recalled and computed wrongly",
    "recalled and not computed",
    "computed and not recalled",
    "not recalled",
)
"""What a model does with a program: does it write its code when asked, and which program do its answers fit? One that
is not recalled may be computed all the same, from examples."""


@checks_arguments
def effective(
    effective: "xr.Dataset",
    recite: "xr.Dataset | None" = None,
    by: NameListIfAny = ("group", "steps", "novelty"),
    clusters: Name | None = AUTO,
    models: Name | None = None,
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """The share of programs in place of which a model computes another, by what differs.

    Args:
        effective: from `effective_programs`, of one mode or several, joined along `program`.
        recite: from `evaluate` in mode `recite`, of the same model and corpus. With it the table says what becomes of
            programs that the model can recite.
        by: coordinates of the programs; each combination of their values has rows of its own.
        clusters: the coordinate that says which programs are resampled together, `function` where some share one; each
            is one of its own when None.
        models: the coordinate of the finetuned model, where there are several; they are resampled, too.
        draws: resamples.
        seed: of the resamples.

    Returns:
        The columns `by`; mode; `difference`, the words of `effective_programs`, or with `recite` in its place `outcome`
        (`OUTCOMES`: what is recalled is computed, computed wrongly, that is another program is, or not computed, where
        that is unclear; what is not recalled is computed or not); `share` of the programs with lower and upper (95 %,
        cluster bootstrap), and n programs. Rows are there for what occurs anywhere in the array.

    Raises:
        PbbError: a coordinate that the programs do not have, no programs, or a program that was not recited.

    Example:
        >>> import pbb_probe as pbb
        >>> model, tokenizer, corpus, _ = pbb.planted_model(n_programs=20)
        >>> computed = pbb.effective_programs((model, tokenizer), corpus)
        >>> table = pbb.tables.effective(computed, by=("group",))
        >>> table[["group", "difference", "share", "n"]].values.tolist()
        [['with_io', 'none', 1.0, 10], ['without_io', 'none', 1.0, 10]]
    """
    import xarray as xr

    if not effective.sizes.get("program"):
        raise PbbError("There are no programs: give what effective_programs returns, or select some of it.")
    clusters = cluster_label(effective, clusters)
    what = "difference" if recite is None else "outcome"
    words = effective["difference"].values.astype(str) if recite is None else _outcomes(effective, recite, models)
    order = DIFFERENCES if recite is None else OUTCOMES
    present = [word for word in order if word in words]
    rows = ["mode", *(name for name in by if name != "mode")]
    labels = {name: ("program", storable(label(effective, name, "program"))) for name in _named(rows, clusters, models)}
    shares = xr.DataArray(
        [(words == word).astype(float) for word in present],
        {what: present, "program": effective["program"].values, **labels},
        (what, "program"),
    )
    table = interval_table(shares, rows, clusters, models, draws, seed).rename(columns={"mean": "share"})
    table = table.sort_values([*by, "mode"], kind="stable", ignore_index=True)
    last = ["models"] if models else []
    columns = [*(name for name in by if name != "mode"), "mode", what, "share", "lower", "upper", "n", *last]
    return table[columns]


def _named(*names: Sequence[str] | str | None) -> list[str]:
    """Names of labels, each once, without the programs' own, which are the dimension."""
    listed = [name for given in names if given for name in ([given] if isinstance(given, str) else given)]
    return [name for name in dict.fromkeys(listed) if name != "program"]


def _outcomes(effective: "xr.Dataset", recite: "xr.Dataset", models: str | None) -> "np.ndarray":
    """The outcome of each program [program]."""
    import numpy as np

    asked = recite.isel(call=(label(recite, "mode") == "recite").to_numpy())
    unit = [*([models] if models else []), "program"]
    called = zip(*(label(asked, name) for name in unit), strict=True)
    recalled = dict(zip(called, asked["correct"].values.tolist(), strict=True))
    names = list(zip(*(label(effective, name, "program") for name in unit), strict=True))
    if lacking := [name for name in names if name not in recalled]:
        raise PbbError(
            f'{lacking[0][-1]:.60} was not recited: evaluate(model, corpus, modes=("recite",)) asks for all.'
        )
    of_known = {"none": OUTCOMES[0], "unclear": OUTCOMES[2]}
    differences = effective["difference"].values.tolist()
    return np.array(
        [
            of_known.get(what, OUTCOMES[1]) if recalled[name] else OUTCOMES[3 if what == "none" else 4]
            for name, what in zip(names, differences, strict=True)
        ]
    )
