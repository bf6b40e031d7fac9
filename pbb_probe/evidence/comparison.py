"""A run's step `comparison`: every table of its measurements, on the subsets of prompts and pairs that count."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from pbb_probe.evidence import tables
from pbb_probe.evidence.code_adds import code_adds
from pbb_probe.evidence.differences import transfer_differences
from pbb_probe.evidence.gate import gate_of
from pbb_probe.evidence.located import located_tables
from pbb_probe.evidence.runs import recovery_or_nothing
from pbb_probe.evidence.subsets import SINGLE, SUBSETS, label_rows, rows_of, subsets
from pbb_probe.labels import join, label, measurement
from pbb_probe.patching.pairs import SWAPS
from pbb_probe.programs.program import GROUPS
from pbb_probe.statistics.groups import compare_groups, interval_table
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Gate: TypeAlias = "pd.DataFrame | None"
"""Which kinds are evaluated, from `gate`; None where that was not asked."""


def comparison_tables(
    run: Run, threshold: float, margin: float, equivalence: float, draws: int, seed: int
) -> "dict[str, pd.DataFrame]":
    """Every table by name.

    Args:
        run: whose steps up to `interchange` are done. Decisive calls are counted where the gate finds evaluation.
        threshold: of `located_tables`.
        margin: of `located_tables`.
        equivalence: differences within it count as none, if that can be told.
        draws: resamples and permutations.
        seed: of both.

    Raises:
        PbbError: a step that is not done.
    """
    settings: dict[str, Any] = {"draws": draws, "seed": seed}
    gate = gate_of({"": run}, **settings)
    gated = {"gate": gate} | settings
    within = {"margin": equivalence} | gated
    return {
        **({} if gate is None else {"evaluation_gate": gate, "code_adds": code_adds(run, **settings)}),
        "probing": probing_table(run, **within),
        "probing_controls": control_table(run, **gated),
        "probing_leak": leak_table(run, **settings),
        "probing_across": across_table(run, **gated),
        "lens": lens_table(run, **gated),
        "outcomes": outcome_table(run, **settings),
        "cosines": run.array("probing/cosines")["cosine"].to_dataframe().reset_index(),
        "patching": patching_table(run, **within),
        "transfer": transfer_table(run, **gated),
        "interchange": interchange_table(run, **gated),
        "transfer_differences": transfer_difference_table(run, **within),
        **located_tables({"": run}, threshold, margin, **gated),
    }


def probing_table(run: Run, gate: Gate = None, **settings: Any) -> "pd.DataFrame":
    """`compare_groups` of probe correctness by target, site, role and layer, with the column `subset`.

    `chance` is the share of the target's most common value.
    """
    import pandas as pd

    probes = measurement(run.array("probing/probes"))
    parts = []
    for subset, rows in subsets(probes, gate):
        chosen = probes["correct"].isel(prompt=rows).transpose("target", "site", "role", "layer", "prompt")
        if label(chosen, "group").nunique() < 2:
            continue
        values = label_rows(chosen, probes["target"].values.tolist())
        chance = {name: column.value_counts(normalize=True).max() for name, column in values.items()}
        table = compare_groups(chosen, **settings)
        parts.append(table.assign(subset=subset, chance=table["target"].map(chance)))
    return pd.concat(parts, ignore_index=True)


def control_table(run: Run, gate: Gate = None, **settings: Any) -> "pd.DataFrame":
    """`tables.probes` of a study's probes by group, with the column `subset` (all, correct, decisive)."""
    import pandas as pd

    probes = run.array("probing/probes")
    parts = [
        tables.probes(probes.isel(prompt=rows), **settings).assign(subset=subset)
        for subset, rows in subsets(probes, gate)
    ]
    return pd.concat(parts, ignore_index=True)


def leak_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """What probes read more where folds part programs of one function: accuracy `by_program` minus that `by_function`.

    By group, steps, target, site, layer and role; no rows where no two programs share a function.
    """
    import pandas as pd

    if not run.holds("probing/probes_by_program.nc"):
        return pd.DataFrame(columns=["group", "steps", "target", "site", "layer", "role", "by_program", "by_function"])
    by_function, by_program = (
        measurement(run.array(f"probing/{name}"))["correct"] for name in ("probes", "probes_by_program")
    )
    table, of_programs = (
        interval_table(values, ("group", "steps"), **settings) for values in (by_program - by_function, by_program)
    )
    counts = ["n", "clusters", "programs"]
    places = [name for name in table if name not in ("mean", "lower", "upper", *counts)]
    return table[places].assign(
        by_program=of_programs["mean"],
        by_function=of_programs["mean"] - table["mean"],
        difference=table["mean"],
        **table[["lower", "upper", *counts]],
    )


def across_table(run: Run, gate: Gate = None, **settings: Any) -> "pd.DataFrame":
    """The same of the probes that were fitted on each group, which `fitted_on` names."""
    import pandas as pd

    probes = run.array("probing/groups")
    parts = [
        tables.probes(probes.isel(prompt=rows).sel(fitted_on=name), **settings).assign(subset=subset, fitted_on=name)
        for subset, rows in subsets(probes, gate)
        for name in probes["fitted_on"].values
    ]
    return pd.concat(parts, ignore_index=True).drop(columns="control")


def lens_table(run: Run, gate: Gate = None, **settings: Any) -> "pd.DataFrame":
    """`compare_groups` of a study's lens by decode, variable, role and layer, with the column `subset`.

    `shuffled` is the share right when prompts are judged by the values of others. No lens, no rows.
    """
    import pandas as pd

    if not run.holds("probing/lens.nc"):
        return pd.DataFrame(columns=["decode", "variable", "role", "layer", "subset"])
    looked = run.array("probing/lens")["correct"]
    parts = []
    for subset, rows in subsets(looked, gate):
        chosen = looked.isel(prompt=rows).transpose("control", "decode", "variable", "role", "layer", "prompt")
        if label(chosen, "group").nunique() < 2:
            continue
        table = compare_groups(measurement(chosen), **settings)
        by_chance = chosen.sel(control="shuffled", drop=True).mean("prompt").rename("shuffled")
        parts.append(table.merge(by_chance.to_dataframe().reset_index(), how="left").assign(subset=subset))
    return pd.concat(parts, ignore_index=True)


def outcome_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """`tables.outcomes` of each variable of a study by group and steps. No brewing, no rows."""
    import pandas as pd

    if not run.holds("probing/brewing.nc"):
        return pd.DataFrame(columns=["variable", "group", "steps", "measure", "mean"])
    brewed = run.array("probing/brewing")
    parts = [
        tables.outcomes(brewed.sel(variable=name), ("group", "steps"), **settings).assign(variable=name)
        for name in brewed["variable"].values
    ]
    return pd.concat(parts, ignore_index=True)


def patching_table(run: Run, gate: Gate = None, **settings: Any) -> "pd.DataFrame":
    """`compare_groups` of recovery by swap, site, role and layer, with the column `subset` (all, correct, decisive)."""
    import pandas as pd

    compared = []
    for swap in SWAPS:
        names = [f"patching/{swap}_{group}" for group in GROUPS if run.holds(f"patching/{swap}_{group}.nc")]
        effects = [run.array(name) for name in names]
        for subset in SINGLE:
            parts = [
                recovery_or_nothing(of_group.isel(pair=rows)).to_array("site")
                for of_group in effects
                if (rows := rows_of(of_group, subset, gate)).any()
            ]
            if len(parts) < 2:
                continue
            values = join(parts, "pair").transpose("site", "role", "layer", "pair")
            compared.append(compare_groups(values, weights="weight", **settings).assign(swap=swap, subset=subset))
    return pd.concat(compared, ignore_index=True)


def transfer_table(run: Run, gate: Gate = None, **settings: Any) -> "pd.DataFrame":
    """`tables.transfer` of a run's transfer maps by group and steps, with the column `subset` (all, correct, decisive).

    A group without a map has no rows.
    """
    maps = [run.array(f"transfer/{group}") for group in GROUPS if run.holds(f"transfer/{group}.nc")]
    return _joined([table for carried in maps for table in _by_subset(carried, gate, settings)], [])


def interchange_table(run: Run, gate: Gate = None, **settings: Any) -> "pd.DataFrame":
    """The same of the maps of probes' subspaces, whose `variable` is what the probes read."""
    parts = [
        table.assign(variable=name.split("/")[1])
        for group in GROUPS
        for name in run.files("interchange", ".nc")
        if name.endswith(f"/{group}")
        for table in _by_subset(run.array(name), gate, settings)
    ]
    return _joined(parts, ["variable"])


def transfer_difference_table(run: Run, gate: Gate = None, **settings: Any) -> "pd.DataFrame":
    """`transfer_differences` of a run's maps by steps, with the column `subset`; no rows of less than two maps."""
    import pandas as pd

    maps = [run.array(f"transfer/{group}") for group in GROUPS if run.holds(f"transfer/{group}.nc")]
    parts = []
    for subset in SUBSETS:
        chosen = [carried.isel(pair=rows_of(carried, subset, gate)) for carried in maps]
        held = [steps for carried in chosen for steps in set(label(carried, "steps"))]
        if len(set(held)) < len(held):  # two groups have pairs of as many steps
            parts.append(transfer_differences(join(chosen, "pair"), **settings).assign(subset=subset))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["subset", "steps", "p_adjusted"])


def _by_subset(carried: "xr.Dataset", gate: Gate, settings: dict[str, Any]) -> "Iterable[pd.DataFrame]":
    for subset, rows in subsets(carried, gate):
        yield tables.transfer(carried.isel(pair=rows), ("group", "steps"), **settings).assign(subset=subset)


def _joined(parts: "list[pd.DataFrame]", further: list[str]) -> "pd.DataFrame":
    import pandas as pd

    numbers = ["proportion", "lower", "upper", "n", "programs"]
    columns = ["group", "steps", "site", "control", "layer", "role", "hypothesis", *numbers, "subset", *further]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
