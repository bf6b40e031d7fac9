"""Several runs at once: what was measured in each, row by row, so that seeds are pooled and conditions are compared."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pbb_probe.errors import PbbError
from pbb_probe.evidence.differences import by_site, flat_places, named_places
from pbb_probe.evidence.subsets import answered, matched
from pbb_probe.labels import AUTO, CORRUPTED, cluster_label, join, labels_of, measurement
from pbb_probe.patching.metrics import recovery
from pbb_probe.programs.program import GROUPS
from pbb_probe.schema import Name, checked, checks_arguments, refuse_unknown, shown
from pbb_probe.statistics.groups import compare_groups
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Measure = Literal["probes", "lens", "transfer", "recovery_program", "recovery_input"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
SETTINGS = ("margin", "adjust", "draws", "seed")
"""Of `compare_groups`, those that `compare_runs` leaves to the user."""


def gather(runs: "Mapping[str, str | Path | Run]", measure: Measure) -> "xr.DataArray":
    """What was measured in each of several runs, as one array.

    Args:
        runs: by a name of the run, such as its seed.
        measure: `probes` and `lens` (right or not), `transfer` (is the hypothesis followed), or
            `recovery_program` and `recovery_input` (recovery with that swapped).

    Returns:
        (places..., row), missing where a run has no such place, with the labels of the prompts or pairs as coordinates
        (of a transfer map those of the base under their own names, and those of the donor with the prefix `donor_`),
        and run, correct (of pairs: both prompts are answered correctly), weight (ones but for recovery, as
        `compare_groups` takes it) and, of the transfer map, matched (both swapped calls are answered correctly too).

    Raises:
        PbbError: an unknown measure, no run, one run under two names, or a run that lacks the measure.

    Example:
        >>> import pbb_probe as pbb
        >>> correct = pbb.tables.gather({"seed 0": "runs/nano", "seed 1": "runs/again"}, "probes")
        >>> dict(correct.sizes)
        {'target': 4, 'site': 1, 'layer': 4, 'role': 3, 'row': 600}
    """
    if measure not in MEASURES:
        raise PbbError(f"Unknown measure {measure!r}: choose from {', '.join(MEASURES)}.")
    _check_runs(runs)
    parts = []
    for name, given in runs.items():
        run = given if isinstance(given, Run) else Run.existing(given)
        for values in _measured(run, measure):
            rows = values.rename({values.dims[-1]: "row"})
            parts.append(rows.assign_coords(run=("row", [name] * rows.sizes["row"])))
    return join(parts, "row")


@checks_arguments
def compare_runs(
    first: "Mapping[str, str | Path | Run]",
    second: "Mapping[str, str | Path | Run]",
    measure: Measure,
    names: tuple[str, str] = ("first", "second"),
    group: str = "without_io",
    correct: bool = True,
    **settings: Any,
) -> "pd.DataFrame":
    """`compare_groups` of two conditions, such as two curricula, each of one or several runs.

    Args:
        first: runs of one condition by name.
        second: those of the other.
        measure: as in `gather`.
        names: of the conditions, in the columns of the table.
        group: whose programs are compared, one of `GROUPS` that the runs have.
        correct: only what was answered right.
        settings: those of `compare_groups`. With several runs in each condition these are what is resampled, and their
            programs within them; where either has but one it is programs, and nothing is said of other finetunings.

    Returns:
        A row a place: its coordinates, then the columns of `compare_groups`, whose difference is that of the names in
        sorted order. Where only one condition has the place there is no difference.

    Raises:
        PbbError: an unknown group or setting, not two different names, a condition in which nothing is left to compare,
            and whatever `gather` refuses.

    Example:
        >>> import pbb_probe as pbb
        >>> first, second = {"seed 0": "runs/nano"}, {"seed 0": "runs/again"}
        >>> table = pbb.tables.compare_runs(first, second, "recovery_program", names=("nano", "again"), draws=200)
        >>> table.query("site == 'resid_pre' and role == 'name'")[["layer", "mean_nano", "mean_again"]].round(2)
           layer  mean_nano  mean_again
        0      0        1.0         1.0
        3      1        1.0         1.0
        6      2        0.0         0.0
        9      3        0.0         0.0
    """
    if group not in GROUPS:
        raise PbbError(f"Unknown group {group!r}: choose from {', '.join(GROUPS)}.")
    refuse_unknown("setting", settings, SETTINGS)
    if not isinstance(names, (tuple, list)) or len(names) != 2:
        raise PbbError(f"names must be two names, of the first and of the second condition, not {shown(names)}.")
    names = (checked("names[0]", names[0], Name), checked("names[1]", names[1], Name))
    for condition in (first, second):
        _check_runs(condition)
    if len(set(names)) < 2:
        raise PbbError(f"The conditions have one name twice: {names[0]!r}.")
    arrays = []
    for name, runs in zip(names, (first, second), strict=True):
        gathered = gather({f"{name} {run}": path for run, path in runs.items()}, measure)
        arrays.append(gathered.assign_coords(condition=("row", [name] * gathered.sizes["row"])))
    both = join(arrays, "row")
    chosen = both.isel(row=(both["group"] == group) & (both["correct"].astype(bool) | (not correct)))
    if lacking := [name for name in names if name not in chosen["condition"]]:
        what = "was answered correctly: compare with correct=False" if correct else "was measured"
        raise PbbError(f"No {group} prompt or pair of {lacking[0]} {what}.")
    places = flat_places(chosen, "row")
    several = min(len(first), len(second)) > 1
    unit = places[cluster_label(places, AUTO)].values
    clusters = [f"{run} {name}" for run, name in zip(places["run"].values, unit, strict=True)]
    table = compare_groups(
        places, "condition", clusters, weights="weight", models="run" if several else None, **settings
    )
    return named_places(table, places, [str(name) for name in both.dims if name != "row"])


def _check_runs(runs: Any) -> None:
    """Refuse what is no mapping of names to different runs."""
    if not isinstance(runs, Mapping) or not all(isinstance(run, (str, Path, Run)) for run in runs.values()):
        raise PbbError(f"Runs must be a mapping of names to run directories, not {shown(runs)}.")
    if not runs:
        raise PbbError("There are no runs: give at least one.")
    names: dict[str, Any] = {}
    for name, run in runs.items():
        place = os.path.abspath(os.path.expanduser(run.path if isinstance(run, Run) else run))
        if (other := names.setdefault(place, name)) != name:
            raise PbbError(f"{other!r} and {name!r} are one run: give each run once.")


def _measured(run: Run, measure: Measure) -> "Iterator[xr.DataArray]":
    """Values (places..., row) with the labels of the rows, a part a run, or a part a group that it has."""
    if measure in ("probes", "lens"):
        values = measurement(run.array(f"probing/{measure}"))["correct"]
        yield values.assign_coords(
            correct=("prompt", answered(values)), weight=("prompt", [1.0] * len(values["prompt"]))
        )
        return
    stem = "transfer/" if measure == "transfer" else f"patching/{measure.removeprefix('recovery_')}_"
    for name in [f"{stem}{group}" for group in GROUPS if run.holds(f"{stem}{group}.nc")] or [f"{stem}{GROUPS[0]}"]:
        if measure == "transfer":
            carried = run.array(name)
            coordinates = {"correct": answered(carried), "matched": matched(carried)}
            values = _of_base(by_site(measurement(carried))).assign_coords(
                weight=("pair", [1.0] * len(carried["pair"]))
            )
        else:
            recovered = recovery_or_nothing(run.array(name))
            coordinates, values = {"correct": answered(recovered)}, by_site(recovered)
        yield values.assign_coords({name: ("pair", rows) for name, rows in coordinates.items()})


def _of_base(carried: "xr.DataArray") -> "xr.DataArray":
    """A transfer map with the labels of the base under their own names, and those of the donor prefixed."""
    names = labels_of(carried, "pair").columns
    base = {name: name.removeprefix(CORRUPTED) for name in names if name.startswith(CORRUPTED)}
    donor = {name: f"donor_{name}" for name in names if name in base.values()}
    return carried.drop_vars("pair", errors="ignore").rename(base | donor)


def recovery_or_nothing(effects: "xr.Dataset") -> "xr.Dataset":
    """Recovery, missing throughout where the model does not tell clean from corrupted: nothing will be located."""
    try:
        return recovery(effects)
    except PbbError:
        nothing = effects.drop_vars(["clean", "corrupted"]) * float("nan")
        return nothing.assign_coords(weight=("pair", [1.0] * effects.sizes["pair"]))
