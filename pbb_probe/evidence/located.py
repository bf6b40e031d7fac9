"""Where, in one run or in several seeds of it: onsets by use and by reading, kinds of evaluation, differences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.curves import Curve, lens_curves, reading_curves, use_curves
from pbb_probe.evidence.gate import gate_of
from pbb_probe.evidence.onsets import (
    how_evaluated,
    located_curves,
    located_patching,
    onset_differences,
    side_by_side,
)
from pbb_probe.evidence.runs import Measure, gather
from pbb_probe.evidence.subsets import SUBSETS, rows_of, subsets
from pbb_probe.labels import CONTROL, join, measurement
from pbb_probe.patching.pairs import Swap
from pbb_probe.programs.program import GROUPS
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TABLES = ("onsets", "evaluation", "onset_differences")
KIND = ("group", "steps")
RECOVERED: dict[Swap, Measure] = {"program": "recovery_program", "input": "recovery_input"}


def located_tables(
    runs: "Mapping[str, Run]",
    threshold: float = 0.5,
    margin: float = 0.2,
    gate: "pd.DataFrame | None" = None,
    **settings: Any,
) -> "dict[str, pd.DataFrame]":
    """The tables `TABLES` of one run or of several finetunings pooled, by group and steps.

    Args:
        runs: by name; with several, models are resampled and programs within them.
        threshold: share of pairs from which on a place carries a variable.
        margin: gain over its controls from which on a variable is read.
        gate: from `gate_of`, which is asked when None.
        settings: `draws` and `seed`.

    Returns:
        `onsets` of `side_by_side`, `evaluation` of `how_evaluated`, and
        `onset_differences` of what is used (`measure` use), of probes and of the lens. Each has the column `subset`:
        all; correct, prompts and pairs answered right; matched, the same prompts and pairs whose swapped calls are
        answered right too, so that a share below 1 is not one of wrong answers (`answers_all`); and decisive, decisive
        calls answered right, without examples of new functions, of the groups and numbers of steps that are evaluated.
        `evaluated` says whether they are, and of a difference whether both groups' are.

    What a run lacks is left out: transfer maps, controls of its probes, the lens.

    Raises:
        PbbError: a run without probes.
    """
    import pandas as pd

    gate = gate_of(runs, **settings) if gate is None else gate
    made: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    models = "model" if len(runs) > 1 else None
    bars = {"use": threshold, "probes": margin, "lens": margin}
    maps = transfer_maps(runs)
    recovered = {swap: gather(runs, measure).rename(row="pair") for swap, measure in RECOVERED.items()}
    probes, looked = _readings(runs)
    prompts = dict(subsets(probes, gate))
    for subset in SUBSETS:
        rows = prompts.get("correct" if subset == "matched" else subset)
        pairs = None if maps is None else rows_of(maps, subset, gate)
        if rows is None or (subset == "matched" and (pairs is None or not pairs.any())):
            continue
        curves: dict[str, list[Curve]] = {"use": [], "probes": [], "lens": []}
        if maps is not None and pairs is not None and pairs.any():
            curves["use"] = list(use_curves(maps.isel(pair=pairs), models=models))
        if CONTROL in probes.dims:
            curves["probes"] = list(reading_curves(probes.isel(prompt=rows), models=models))
        if looked is not None:
            curves["lens"] = list(lens_curves(looked.isel(prompt=rows), models=models))
        used, read, lens = (located_curves(traced, KIND, bars[measure], settings) for measure, traced in curves.items())
        patched = [
            located_patching(
                values.isel(pair=rows_of(values, "correct" if subset == "matched" else subset, gate)),
                swap,
                models="run" if models else None,
                threshold=threshold,
                **settings,
            )
            for swap, values in recovered.items()
        ]
        onsets = side_by_side(used, read, lens, pd.concat(patched, ignore_index=True))
        apart = [
            onset_differences(traced, bars[measure], **settings).assign(measure=measure)
            for measure, traced in curves.items()
        ]
        for name, tables in (("onsets", [onsets]), ("evaluation", [how_evaluated(used, read)]), (TABLES[2], apart)):
            made[name] += [_marked(table, gate).assign(subset=subset) for table in tables]
    return {name: pd.concat(tables, ignore_index=True) if tables else pd.DataFrame() for name, tables in made.items()}


def _marked(table: "pd.DataFrame", gate: "pd.DataFrame | None") -> "pd.DataFrame":
    """A table of kinds, or of pairs of them, with the column `evaluated`; as it is without a gate."""
    if gate is None or table.empty:
        return table
    there = {(row.group, row.steps) for row in gate.itertuples() if row.evaluated}
    sides = [side for side in ("group", "first", "second") if side in table]
    rows = table.to_dict(orient="records")
    return table.assign(evaluated=[all((row[side], row["steps"]) in there for side in sides) for row in rows])


def transfer_maps(runs: "Mapping[str, Run]", step: str = "transfer") -> "xr.Dataset | None":
    """The transfer maps of all groups and runs along `pair`, with the coordinate `model`.

    Of the maps' controls, random vectors are kept. None where there is no map.
    """
    parts = []
    for name, run in runs.items():
        for group in GROUPS:
            if run.holds(f"{step}/{group}.nc"):
                carried = run.array(f"{step}/{group}")
                if CONTROL in carried.dims:
                    carried = carried.sel({CONTROL: [c for c in ("none", "random") if c in carried[CONTROL]]})
                parts.append(carried.assign_coords(model=("pair", [name] * carried.sizes["pair"])))
    return join(parts, "pair") if parts else None


def _readings(runs: "Mapping[str, Run]") -> "tuple[xr.Dataset, xr.Dataset | None]":
    """Probes and logit lens of all runs along `prompt`, with the coordinate `model`."""

    def together(name: str) -> "list[xr.Dataset]":
        arrays = {model: run.array(name)[["correct"]] for model, run in runs.items()}
        if not all(CONTROL in array.dims for array in arrays.values()):
            arrays = {model: measurement(array) for model, array in arrays.items()}
        return [array.assign_coords(model=("prompt", [m] * array.sizes["prompt"])) for m, array in arrays.items()]

    looked = None
    if all(run.holds("probing/lens.nc") for run in runs.values()):
        looked = join([array.sel(decode="logit", drop=True) for array in together("probing/lens")], "prompt")
    return join(together("probing/probes"), "prompt"), looked
