"""Measurements as tables: a row a place, with intervals from resampling whole programs.

Every function takes an array with its labels and has the signature `f(array, by, clusters, models, draws, seed)`, all
but the array, draws and seed being names of coordinates.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.evidence.subsets import label_rows
from pbb_probe.labels import AUTO, CONTROL, CORRUPTED, NONE, cluster_label, label, label_name, measurement
from pbb_probe.patching.metrics import recovery as recovered
from pbb_probe.probing.brewing import LAYERS, OUTCOMES
from pbb_probe.schema import Draws, Name, NameListIfAny, Seed, checks_arguments
from pbb_probe.statistics.groups import each_kind, interval_table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CELL = ("mode", "group", "family", "steps", "seen")


@checks_arguments
def accuracy(
    behaviour: "xr.Dataset",
    by: NameListIfAny = CELL,
    clusters: Name | None = AUTO,
    models: Name | None = None,
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """The share of calls answered correctly.

    Args:
        behaviour: from `evaluate`.
        by: coordinates of the calls; each combination of their values has a row.
        clusters: the coordinate that says which are resampled together; each is one of its own when None. `auto` is
            `function` where programs share one, else `program` (`labels.cluster_label`).
        models: the coordinate of the finetuned model, where there are several; they are resampled, too.
        draws: resamples.
        seed: of the resamples.

    Returns:
        The columns `by`; mean, lower and upper (95 %, cluster bootstrap), forced (the mean of the forced choice, where
        there is one), n calls, programs and the clusters that they are in, and chance, the share of the most common
        right answer (missing where programs were recited).

    Raises:
        PbbError: a coordinate that the calls do not have.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus = pbb.make_corpus(with_io=4, without_io=2)
        >>> table = pbb.tables.accuracy(pbb.evaluate("nano", corpus, modes=["direct"], n=3), by=("group",))
        >>> table["n"].tolist()
        [3, 3]
    """
    table = interval_table(behaviour["correct"].astype(float), by, clusters, models, draws, seed)
    table = with_programs(table)
    asked = ("output",) if "output" in behaviour.coords else ()  # recitations have none
    calls = label_rows(behaviour, (*by, *asked)).assign(forced=behaviour["forced"].values)
    kinds = [calls[rows] for _, rows in each_kind(calls[list(by)])]
    table["forced"] = [kind["forced"].mean() for kind in kinds]
    table["chance"] = [kind["output"].value_counts(normalize=True).max() if asked else float("nan") for kind in kinds]
    counts = ["n", "programs", "clusters", *(["models"] if models else [])]
    return table[[*by, "mean", "lower", "upper", "forced", *counts, "chance"]]


@checks_arguments
def probes(
    probes: "xr.Dataset",
    by: NameListIfAny = ("group",),
    clusters: Name | None = AUTO,
    models: Name | None = None,
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """Accuracy, or of numbers R squared, at each place on prompts whose cluster the probe did not see.

    Args:
        probes: from `fit_probes`.
        by: coordinates of the prompts; each combination of their values has rows of its own.
        clusters: the coordinate that says which are resampled together; each is one of its own when None. `auto` is
            `function` where programs share one, else `program` (`labels.cluster_label`).
        models: the coordinate of the finetuned model, where there are several; they are resampled, too.
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row a combination of the values of `by`, control (`none` for the probes themselves), target, site, layer and
        role: `measure` (accuracy or r2), `score` with `lower` and `upper` of its 95 % interval, `n` prompts and
        `clusters`; of controls also `gain`, the probe's score minus the control's on the prompts that both read, with
        `gain_lower` and `gain_upper`. The gain over `selectivity` is Hewitt and Liang's selectivity. R squared is
        1 - (squared errors) / (squared deviations from the mean of these prompts), as a ratio of sums.

    Raises:
        PbbError: a coordinate that the prompts do not have.

    Example:
        >>> import pbb_probe as pbb
        >>> probes = pbb.open_run("runs/nano").array("probing/probes").sel(target=["output"], role=["answer"])
        >>> table = pbb.tables.probes(probes, by=(), draws=200)
        >>> table.query("layer == 3")[["control", "score", "gain"]].round(1)
              control  score  gain
        3        none    1.0   NaN
        7    shuffled    0.1   0.9
        11     chance    0.1   0.9
        15  embedding    0.1   0.9
    """
    import numpy as np
    import pandas as pd

    if not probes.sizes["prompt"]:
        raise PbbError("There are no prompts: select some.")
    for dim in (CONTROL, "target", "site", "layer", "role"):  # of a selection
        if dim not in probes.dims:
            probes = probes.expand_dims(dim if dim in probes.coords else {dim: [NONE]})
    clusters = cluster_label(probes, clusters)
    settings: dict[str, Any] = {"clusters": clusters, "models": models, "draws": draws, "seed": seed}
    tables = []
    for variable, measure in (("correct", "accuracy"), ("predicted", "r2")):
        if variable not in probes.data_vars:
            continue
        for kind, rows in each_kind(label_rows(probes, by)):
            for target in probes["target"].values.tolist():
                read = probes[variable].sel(target=[target]).isel(prompt=rows).transpose(CONTROL, ..., "prompt")
                weights = None
                if not np.isfinite(read).any():
                    continue
                if measure == "r2":
                    name = label_name(target, "prompt", {*probes.dims, *probes.data_vars})
                    truth = pd.to_numeric(label(read, name)).to_numpy(float)
                    squares = np.nan_to_num((truth - np.nanmean(truth)) ** 2)
                    read, weights = squares - (read - truth) ** 2, squares.tolist()
                table = interval_table(read, weights=weights, **settings).rename(columns={"mean": "score"})
                gains = _gains(read, weights, settings)
                table = table.merge(gains, how="left") if len(gains) else table
                tables.append(table.assign(measure=measure, **kind))
    if not tables:
        raise PbbError("There is nothing to count: these probes have no scores of prompts.")
    table = pd.concat(tables, ignore_index=True)
    last = [name for name in ("models", "programs", "gain", "gain_lower", "gain_upper") if name in table]
    first = [*by, CONTROL, "target", "site", "layer", "role", "measure"]
    return table[[*first, "score", "lower", "upper", "n", "clusters", *last]]


def _gains(read: "xr.DataArray", weights: list[float] | None, settings: dict[str, Any]) -> "pd.DataFrame":
    """What the probes have over each control (control, ..., prompt); nothing where the probes are not there."""
    import pandas as pd

    controls = read[CONTROL].values[read[CONTROL].values != NONE]
    if NONE not in read[CONTROL] or not len(controls):
        return pd.DataFrame()
    above = read.sel({CONTROL: NONE}, drop=True) - read.sel({CONTROL: controls})
    gains = interval_table(above.transpose(*read.dims), weights=weights, **settings)
    gains = gains.rename(columns={"mean": "gain", "lower": "gain_lower", "upper": "gain_upper"})
    return gains.drop(columns=["n", "clusters", "models", "programs"], errors="ignore")


@checks_arguments
def recovery(
    effects: "xr.Dataset",
    by: NameListIfAny = ("group",),
    clusters: Name | None = AUTO,
    models: Name | None = None,
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """How much of the clean answer each place of a sweep restores, as a ratio of means over the pairs.

    Args:
        effects: from `patch_sweep`.
        by: coordinates of the pairs; each combination of their values has rows of its own.
        clusters: the coordinate that says which are resampled together; each is one of its own when None. `auto` is
            `function` where programs share one, else `program` (`labels.cluster_label`).
        models: the coordinate of the finetuned model, where there are several; they are resampled, too.
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row a site and combination of its dimensions ([metric,] layer, [head | kv_head,] role | position) and of the
        values of `by`: `recovery` with `lower` and `upper` of its 95 % interval, `n` pairs and `clusters`. Cells that
        were not patched have none.

    Raises:
        PbbError: what `patching.metrics.recovery` refuses, of any metric, or a coordinate that the pairs do not have.

    Example:
        >>> import pbb_probe as pbb
        >>> effects = pbb.open_run("runs/nano").array("patching/program_with_io")
        >>> table = pbb.tables.recovery(effects)
        >>> table.query("site == 'resid_pre' and role == 'name'")[["layer", "recovery", "lower", "upper"]].round(2)
           layer  recovery  lower  upper
        0      0       1.0    1.0    1.0
        3      1       1.0    1.0    1.0
        6      2       0.0    0.0    0.0
        9      3       0.0    0.0    0.0
    """

    metrics = [effects.isel(metric=[i]) for i in range(effects.sizes["metric"])] if "metric" in effects.dims else None
    tables = []
    for measured in metrics or [effects]:
        of_pairs = recovered(measured)
        for site, values in of_pairs.items():
            weights = of_pairs["weight"].values.ravel().tolist()
            table = interval_table(
                values.transpose(..., "pair"), by, clusters, models, draws=draws, seed=seed, weights=weights
            )
            tables.append(table.rename(columns={"mean": "recovery"}).assign(site=site))
    return _ordered(tables, by, ["recovery", "lower", "upper", "n", "clusters"])


@checks_arguments
def transfer(
    carried: "xr.Dataset",
    by: NameListIfAny = ("group",),
    clusters: Name | None = AUTO,
    models: Name | None = None,
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """The share of pairs that follow each hypothesis at each place.

    Args:
        carried: from `transfer_map`; a selection of its pairs, controls or places will do.
        by: coordinates of the pairs, such as `group` or `steps`; each combination of their values has rows of its own.
        clusters: the coordinate that says which pairs are resampled together; `auto` is the function or program of the
            base, which is patched. Each is one of its own when None.
        models: the coordinate of the finetuned model, where there are several; they are resampled, too.
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row a site and combination of its other dimensions ([control,] layer, [head | kv_head,] role, hypothesis) and
        of the values of `by`: proportion with lower and upper of its 95 % interval, n (pairs), programs and the
        clusters that they are in.
        Only pairs that have the hypothesis and tell of it count; where none does there is no row.

    Raises:
        PbbError: a coordinate that the pairs do not have, or no pairs.

    Example:
        >>> import pbb_probe as pbb
        >>> carried = pbb.open_run("runs/nano").array("transfer/with_io").sel(control="none", role=["answer"])
        >>> table = pbb.tables.transfer(carried, draws=200)
        >>> table.query("hypothesis == 'everything'")[["layer", "proportion", "n", "programs"]]
            layer  proportion   n  programs
        1       0         0.0  16         7
        13      1         0.0  16         7
        25      2         1.0  16         7
        37      3         1.0  16         7
    """
    if not carried.sizes["pair"]:
        raise PbbError("There are no pairs: select some.")
    if CONTROL in carried.coords and CONTROL not in carried.dims:  # one of them selected
        carried = carried.expand_dims(CONTROL)
    clusters = cluster_label(carried, clusters, CORRUPTED)
    tables = [
        with_programs(interval_table(values.transpose(..., "pair"), by, clusters, models, draws, seed))
        .rename(columns={"mean": "proportion"})
        .assign(site=site)
        for site, values in carried.items()
    ]
    return _ordered(tables, by, ["proportion", "lower", "upper", "n", "programs", "clusters"])


def with_programs(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table of `interval_table` with the number of programs, which are the clusters where it does not say."""
    return table if "programs" in table else table.assign(programs=table["clusters"])


@checks_arguments
def outcomes(
    brewed: "xr.Dataset",
    by: NameListIfAny = ("group",),
    clusters: Name | None = AUTO,
    models: Name | None = None,
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """The share of prompts with each outcome of brewing, and the mean layers of it.

    Args:
        brewed: from `brewing`, of one variable; prompts without the value are left out.
        by: coordinates of the prompts such as group and steps; each combination of their values has rows of its own.
        clusters: the coordinate that says which are resampled together; each is one of its own when None. `auto` is
            `function` where programs share one, else `program` (`labels.cluster_label`).
        models: the coordinate of the finetuned model, where there are several; they are resampled, too.
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row a combination of the values of `by` and measure: `mean` with `lower` and `upper` of its 95 % interval, `n`
        prompts and `clusters`, and where the control is there `shuffled`, its mean, which is what comes by chance. The
        measures are the `OUTCOMES`, whose means are shares of the prompts that have the value (the paper's shares leave
        out `no_brewing`), and the `LAYERS`, whose means are over the prompts in which there is such a layer: `n` of
        them, which may be few and are no random sample.

    Raises:
        PbbError: a coordinate that the prompts do not have.

    Example:
        >>> import pbb_probe as pbb
        >>> brewed = pbb.open_run("runs/nano").array("probing/brewing").sel(variable="output")
        >>> table = pbb.tables.outcomes(brewed, by=(), draws=200)
        >>> table[["measure", "mean", "shuffled"]].head().round(1)
                 measure  mean  shuffled
        0       resolved   1.0       0.1
        1  overprocessed   0.0       0.0
        2    misresolved   0.0       0.2
        3     unresolved   0.0       0.0
        4     no_brewing   0.0       0.7
    """
    import pandas as pd

    values = outcome_measures(brewed)
    values = values.isel(prompt=measurement(values).sel(measure=OUTCOMES[0]).notnull().values)
    table = interval_table(measurement(values), by, clusters, models, draws, seed)
    numbers = ["mean", "lower", "upper", "n", "clusters", *(["models"] if models else [])]
    if CONTROL in values.dims:
        by_chance = values.sel({CONTROL: "shuffled"}, drop=True)
        means = [
            by_chance.isel(prompt=rows).mean("prompt").to_series().rename("shuffled").reset_index().assign(**kind)
            for kind, rows in each_kind(label_rows(values, by))
        ]
        table, numbers = table.merge(pd.concat(means), how="left"), [*numbers, "shuffled"]
    return table[[*by, "measure", *numbers]]


def outcome_measures(brewed: "xr.Dataset") -> "xr.DataArray":
    """The outcomes and layers of brewing as numbers a prompt, for `compare_groups` to say where groups differ.

    Args:
        brewed: from `brewing`, of one variable.

    Returns:
        ([control,] measure, prompt): of the `OUTCOMES`, 1 for the prompt's own and 0 for the others; of the `LAYERS`,
        the layer. NaN where the prompt has no value of the variable, or no such layer.

    Example:
        >>> import pbb_probe as pbb
        >>> brewed = pbb.open_run("runs/nano").array("probing/brewing").sel(variable="output")
        >>> measures = pbb.tables.outcome_measures(brewed)
        >>> measures.dims, measures["measure"].values.tolist()[:5]
        (('control', 'measure', 'prompt'), ['resolved', 'overprocessed', 'misresolved', 'unresolved', 'no_brewing'])
    """
    import xarray as xr

    known = brewed["outcome"] != ""
    rows = [(brewed["outcome"] == name).where(known).astype(float) for name in OUTCOMES]
    rows += [brewed[name].astype(float) for name in LAYERS]
    together = xr.concat(rows, "measure", coords="minimal", compat="override")
    return together.assign_coords(measure=[*OUTCOMES, *LAYERS]).transpose(..., "measure", "prompt").rename(None)


def _ordered(tables: "list[pd.DataFrame]", by: Sequence[str], numbers: list[str]) -> "pd.DataFrame":
    """The tables as one, by the values of `by`, which come first with the site, then dimensions, then numbers."""
    import pandas as pd

    table = pd.concat(tables, ignore_index=True)
    if by:
        table = table.sort_values(list(by), kind="stable", ignore_index=True)
    first, numbers = (
        [*by, "site"],
        [*numbers, *(name for name in ("models", "programs") if name in table and name not in numbers)],
    )
    return table[[*first, *table.columns.drop([*first, *numbers]), *numbers]]
