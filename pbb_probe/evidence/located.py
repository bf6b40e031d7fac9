"""Where, in one run or in several seeds of it: onsets by use and by reading, kinds of evaluation, differences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.curves import Curve, lens_curves, reading_curves, use_curves
from pbb_probe.evidence.layers import subsets
from pbb_probe.evidence.onsets import (
    how_evaluated,
    located_curves,
    located_patching,
    onset_differences,
    side_by_side,
)
from pbb_probe.evidence.runs import Measure, gather
from pbb_probe.evidence.transfer import PAIRS
from pbb_probe.patching.pairs import Swap
from pbb_probe.programs.corpus import GROUPS
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TABLES = ("onsets", "evaluation", "onset_differences")
KIND = ("group", "steps")
RECOVERED: dict[Swap, Measure] = {"program": "recovery_program", "input": "recovery_input"}


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
        `onsets` of `side_by_side`, `evaluation` of `how_evaluated`, and
        `onset_differences` of what is used (`measure` use), of probes and of the lens. Each has the column `subset`:
        all; correct, prompts and pairs answered right; and matched, the same prompts and pairs whose swapped calls are
        answered right too, so that a share below 1 is not one of wrong answers (`answers_all`).

    What a run lacks is left out: transfer maps, controls of its probes, the lens.

    Raises:
        PbbError: a run without probes.
    """
    import pandas as pd

    made: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    models = "model" if len(runs) > 1 else None
    bars = {"use": threshold, "probes": margin, "lens": margin}
    maps = transfer_maps(runs)
    recovered = {swap: gather(runs, measure).rename(row="pair") for swap, measure in RECOVERED.items()}
    probes, looked, labels = _readings(runs)
    prompts = dict(subsets(labels["correct"]))
    for subset in PAIRS:
        rows = prompts.get("all" if subset == "all" else "correct")
        pairs = None if maps is None else PAIRS[subset](maps)
        if rows is None or (subset == "matched" and (pairs is None or not pairs.any())):
            continue
        known = labels[rows].reset_index(drop=True)
        curves: dict[str, list[Curve]] = {"use": [], "probes": [], "lens": []}
        if maps is not None and pairs is not None and pairs.any():
            curves["use"] = list(use_curves(maps.isel(pair=pairs), models=models))
        if "control_correct" in probes:
            curves["probes"] = list(reading_curves(probes.isel(prompt=rows), known, models=models))
        if looked is not None:
            curves["lens"] = list(lens_curves(looked.isel(prompt=rows), known, models=models))
        used, read, lens = (located_curves(some, KIND, bars[measure], settings) for measure, some in curves.items())
        patched = [
            located_patching(
                values if subset == "all" else values.isel(pair=values["correct"].values.astype(bool)),
                swap,
                models="run" if models else None,
                threshold=threshold,
                **settings,
            )
            for swap, values in recovered.items()
        ]
        onsets = side_by_side(used, read, lens, pd.concat(patched, ignore_index=True))
        made["onsets"].append(onsets.assign(subset=subset))
        made["evaluation"].append(how_evaluated(used, read).assign(subset=subset))
        made["onset_differences"] += [
            onset_differences(some, bars[measure], **settings).assign(measure=measure, subset=subset)
            for measure, some in curves.items()
        ]
    return {name: pd.concat(tables, ignore_index=True) if tables else pd.DataFrame() for name, tables in made.items()}


def transfer_maps(runs: "Mapping[str, Run]", step: str = "transfer") -> "xr.Dataset | None":
    """The transfer maps of both groups and all runs along `pair`, with the coordinate `model`.

    Of the maps' controls, random vectors are kept. None where there is no map.
    """
    import xarray as xr

    parts = []
    for name, run in runs.items():
        for group in GROUPS:
            if run.holds(f"{step}/{group}.nc"):
                found = run.array(f"{step}/{group}")
                if "run" in found.dims:
                    found = found.sel(run=[one for one in ("patched", "random") if one in found["run"]])
                parts.append(found.drop_vars("pair").assign_coords(model=("pair", [name] * found.sizes["pair"])))
    return xr.concat(parts, "pair", join="outer", combine_attrs="drop") if parts else None


def _readings(runs: "Mapping[str, Run]") -> "tuple[xr.Dataset, xr.Dataset | None, pd.DataFrame]":
    """Probes and logit lens of all runs along `prompt`, and the labels of the prompts."""
    import pandas as pd
    import xarray as xr

    labels = pd.concat(
        [run.table("probing/prompts").assign(model=name) for name, run in runs.items()], ignore_index=True
    )
    found = [run.array("probing/probes") for run in runs.values()]
    names = [name for name in ("correct", "control_correct") if all(name in one for one in found)]
    probes = xr.concat([one[names] for one in found], "prompt")
    looked = None
    if all(run.holds("probing/lens.nc") for run in runs.values()):
        looked = xr.concat(
            [run.array("probing/lens")[["correct"]].sel(decode="logit") for run in runs.values()], "prompt"
        )
    return probes, looked, labels
