"""Where, in one run or in several seeds of it: onsets by use and by reading, kinds of evaluation, differences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.comparison.curves import lens_curves, reading_curves, use_curves
from pbb_probe.comparison.layers import recoveries, subsets
from pbb_probe.comparison.onsets import (
    how_evaluated,
    located_lens,
    located_patching,
    located_reading,
    located_use,
    onset_differences,
    side_by_side,
)
from pbb_probe.comparison.transfer import answers_all
from pbb_probe.errors import PbbError
from pbb_probe.patching.pairs import SWAPS
from pbb_probe.programs.corpus import GROUPS
from pbb_probe.store import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TABLES = ("onsets", "evaluation", "onset_differences")


def located_tables(
    runs: "Mapping[str, Run]", threshold: float = 0.5, margin: float = 0.2, **settings: Any
) -> "dict[str, pd.DataFrame]":
    """The tables `TABLES` of one run or of several finetunings pooled, by group and steps.

    Args:
        runs: by name; with several, models are resampled and programs within them.
        threshold: share of pairs from which on a place carries a variable.
        margin: gain over its controls from which on a variable is read.
        settings: `draws` and `seed`.

    Returns:
        `onsets` of `side_by_side`, `evaluation` of `how_evaluated` with the peaks of what decides it, and
        `onset_differences` of what is used (`measure` use), of probes and of the lens. Each has the column `subset`:
        all; correct, prompts and pairs answered right; and matched, the same prompts and pairs whose swapped calls are
        answered right too, so that a share below 1 is not one of wrong answers (`answers_all`).

    Raises:
        PbbError: no run has a transfer map, or one has no probes.
    """
    import pandas as pd

    made: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    models = "model" if len(runs) > 1 else None
    maps = _maps(runs)
    probes, looked, labels = _readings(runs)
    right = maps["base_correct"].astype(bool) & maps["source_correct"].astype(bool)
    prompts = dict(subsets(labels["correct"]))
    for subset, pairs in (("all", right.values | True), ("correct", right.values), ("matched", answers_all(maps))):
        carried, rows = maps.isel(pair=pairs), prompts.get("all" if subset == "all" else "correct")
        if rows is None or not pairs.any():
            continue
        some, known = probes.isel(prompt=rows), labels[rows].reset_index(drop=True)
        used = located_use(carried, models=models, threshold=threshold, **settings)
        read = located_reading(some, known, models=models, margin=margin, **settings)
        curves: dict[str, tuple[Any, float]] = {
            "use": (use_curves(carried, models=models), threshold),
            "probes": (reading_curves(some, known, models=models), margin),
        }
        lens = None
        if looked is not None:
            lens = located_lens(looked.isel(prompt=rows), known, models=models, margin=margin, **settings)
            curves["lens"] = (lens_curves(looked.isel(prompt=rows), known, models=models), margin)
        patched = [
            located_patching(values, swap, models=models, threshold=threshold, **settings)
            for swap in SWAPS
            if (values := _recovered(runs, swap, "all" if subset == "all" else "correct")) is not None
        ]
        onsets = side_by_side(used, read, lens, pd.concat(patched, ignore_index=True) if patched else None)
        made["onsets"].append(onsets.assign(subset=subset))
        made["evaluation"].append(how_evaluated(used, read).assign(subset=subset))
        made["onset_differences"] += [
            onset_differences(curve, bar, **settings).assign(measure=measure, subset=subset)
            for measure, (curve, bar) in curves.items()
        ]
    return {name: pd.concat(tables, ignore_index=True) if tables else pd.DataFrame() for name, tables in made.items()}


def _maps(runs: "Mapping[str, Run]") -> "xr.Dataset":
    """The transfer maps of both groups and all runs, along `pair`."""
    import xarray as xr

    parts = []
    for name, run in runs.items():
        for group in GROUPS:
            if (run.path / "transfer" / f"{group}.nc").exists():
                found = run.array(f"transfer/{group}")
                if "run" in found.dims:
                    found = found.sel(run=[one for one in ("patched", "random") if one in found["run"]])
                parts.append(found.drop_vars("pair").assign_coords(model=("pair", [name] * found.sizes["pair"])))
    if not parts:
        raise PbbError("There is no transfer map: no pair of calls tells the hypotheses apart.")
    return xr.concat(parts, "pair", join="outer", combine_attrs="drop")


def _readings(runs: "Mapping[str, Run]") -> "tuple[xr.Dataset, xr.Dataset | None, pd.DataFrame]":
    """Probes and logit lens of all runs along `prompt`, and the labels of the prompts."""
    import pandas as pd
    import xarray as xr

    labels = pd.concat(
        [run.table("probing/prompts").assign(model=name) for name, run in runs.items()], ignore_index=True
    )
    names = ["correct", "control_correct"]
    probes = xr.concat([run.array("probing/probes")[names] for run in runs.values()], "prompt")
    looked = None
    if all((run.path / "probing" / "lens.nc").exists() for run in runs.values()):
        looked = xr.concat(
            [run.array("probing/lens")[["correct"]].sel(decode="logit") for run in runs.values()], "prompt"
        )
    return probes, looked, labels


def _recovered(runs: "Mapping[str, Run]", swap: str, subset: str) -> "xr.DataArray | None":
    """Recovery in all runs along `pair`, with the pairs' labels as coordinates; None where a run has no such pairs."""
    import xarray as xr

    parts = []
    for name, run in runs.items():
        of_subset = {this: found for this, *found in recoveries(run.path / "patching", swap)}
        if subset not in of_subset:
            return None
        values, pairs = of_subset[subset]
        labels = pairs[["program", "group", "steps"]].assign(weight=values["weight"].values.astype(float), model=name)
        bare = values.drop_vars(["pair", "weight"], errors="ignore")
        parts.append(bare.assign_coords({column: ("pair", labels[column].to_numpy()) for column in labels}))
    return xr.concat(parts, "pair")
