"""The transfer map as a table: how often each place carries what, with intervals over programs."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.evidence.layers import subsets
from pbb_probe.programs.corpus import GROUPS
from pbb_probe.schema import Draws, Seed, checks_arguments
from pbb_probe.statistics.groups import compare_groups, each_kind, interval_table
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

NUMBERS = ("proportion", "lower", "upper", "n", "programs")
"""The columns that say how many pairs follow a hypothesis, after those that say where."""


@checks_arguments
def carried_table(
    carried: "xr.Dataset",
    by: Sequence[str] = (),
    cluster: str = "program",
    draws: Draws = 10_000,
    seed: Seed = 0,
) -> "pd.DataFrame":
    """The share of pairs that follow each hypothesis at each place.

    Args:
        carried: from `transfer_map`; a selection of its pairs, runs or places will do.
        by: coordinates of the pairs, such as `group` or `steps`, whose values get rows of their own.
        cluster: the coordinate that says which pairs belong together; these are resampled whole.
        draws: resamples.
        seed: of the resamples.

    Returns:
        A row a site and combination of its other dimensions (run, layer, [head | kv_head,] role, hypothesis) and of the
        values of `by`: proportion with lower and upper of its 95 % interval, n (pairs) and programs (clusters). Only
        pairs that have the hypothesis count; where none has it there is no row.

    Raises:
        PbbError: a coordinate that the pairs do not have, or no pairs.
    """
    import pandas as pd

    check_coordinates(carried, (*by, cluster))
    if not carried.sizes["pair"]:
        raise PbbError("There are no pairs: select some.")
    if "run" in carried.coords and "run" not in carried.dims:  # without controls, or one run selected
        carried = carried.expand_dims("run")
    labels = pd.DataFrame({name: carried[name].values for name in by}, index=range(carried.sizes["pair"]))
    tables = []
    for kind, rows in each_kind(labels):
        some = carried.isel(pair=rows)
        for site, values in some.data_vars.items():
            found = interval_table(
                values.transpose(..., "pair"), some[cluster].values.tolist(), draws=draws, seed=seed
            ).rename(columns={"mean": "proportion", "clusters": "programs"})
            tables.append(found.assign(site=site, **kind))
    table = pd.concat(tables, ignore_index=True)
    return table[[*by, "site", *table.columns.drop([*by, "site", *NUMBERS]), *NUMBERS]]


def transfer_differences(
    carried: "Mapping[str, xr.Dataset]", by: Sequence[str] = ("steps",), cluster: str = "program", **settings: Any
) -> "pd.DataFrame":
    """Where do the places of two groups' transfer maps carry different things?

    Args:
        carried: from `transfer_map`, by group; of maps with controls the patched run counts.
        by: coordinates of the pairs whose values are compared apart.
        cluster: the coordinate that says which pairs belong together.
        settings: those of `compare_groups`.

    Returns:
        `compare_groups` of the shares of pairs, a row a combination of the values of `by` that both groups have, site,
        layer, [head | kv_head,] role and hypothesis; p is adjusted over the rows of such a combination.

    Raises:
        PbbError: not two groups, a coordinate that the pairs do not have, or no combination that both groups have.
    """
    import numpy as np
    import pandas as pd
    import xarray as xr

    if len(carried) != 2:
        raise PbbError(f"Two groups are compared; there are {len(carried)}: {', '.join(carried)}.")
    kept = (cluster, *by)
    parts = []
    for found in carried.values():
        check_coordinates(found, kept)
        patched = found.sel(run="patched", drop=True) if "run" in found.dims else found
        labels = [name for name in patched.coords if patched[name].dims == ("pair",) and name not in kept]
        parts.append(by_site(patched.drop_vars(labels)))
    both = xr.concat(parts, "pair", join="outer", fill_value=np.nan)
    group = np.repeat(list(carried), [part.sizes["pair"] for part in parts])
    tables = []
    for kind, rows in each_kind(pd.DataFrame({name: both[name].values for name in by}, index=range(len(group)))):
        if len(set(group[rows])) < 2:
            continue
        places = flat_places(both.isel(pair=rows), "pair")
        table = compare_groups(places, group=group[rows].tolist(), clusters=places[cluster].values.tolist(), **settings)
        where = pd.DataFrame({name: places[name].values for name in both.dims if name != "pair"})
        tables.append(pd.concat([where, table.drop(columns="place")], axis=1).assign(**kind))
    if not tables:
        raise PbbError(
            f"There are no values of {', '.join(by)} that both groups have: take another `by`, or add pairs."
        )
    return pd.concat(tables, ignore_index=True)


def by_site(found: "xr.Dataset") -> "xr.DataArray":
    """(site, ..., pair): the sites of a map as one array. Those without heads have values at head NaN alone."""
    import numpy as np
    import pandas as pd
    import xarray as xr

    dims = dict.fromkeys(dim for values in found.data_vars.values() for dim in values.dims)
    parts = [
        values.expand_dims({dim: [np.nan] for dim in dims if dim not in values.dims})
        for values in found.data_vars.values()
    ]
    sites = pd.Index(list(found.data_vars), name="site")
    joined = xr.concat(parts, sites, join="outer", coords="minimal", compat="override")
    return joined.transpose("site", ..., "pair")


def check_coordinates(carried: "xr.Dataset", names: Sequence[str]) -> None:
    """Refuse coordinates that the pairs do not have."""
    if lacking := [name for name in names if name not in carried.coords or carried[name].dims != ("pair",)]:
        raise PbbError(f"The pairs have no coordinate {lacking[0]!r}: {', '.join(map(str, carried.coords))} are there.")


def flat_places(values: "xr.DataArray", row: str = "prompt") -> "xr.DataArray":
    """(place, row): every combination of the other dimensions in which there is a value, named by its coordinates."""
    import numpy as np

    stacked = values.stack(place=[name for name in values.dims if name != row], create_index=False).transpose(
        "place", row
    )
    some = stacked.isel(place=np.isfinite(stacked.values).any(axis=1))
    return some.assign_coords(place=range(some.sizes["place"]))


def transfer_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """`carried_table` of a run's transfer maps by group and steps, with the column `subset` (all, correct).

    Correct are the pairs in which both unpatched runs give the right answer. A group without a map has no rows.
    """
    return _joined([table for group in GROUPS for table in _by_subset(run, f"transfer/{group}", settings)], [])


def transfer_difference_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """`transfer_differences` of a run's maps by steps, with the column `subset`; no rows where a group has no map.

    Beside all and correct, `matched` are the pairs whose swapped calls, the source's program on the base's input and
    the other way round, are answered right too, by the map itself where everything is still at its own place (layer 0):
    where groups differ in accuracy, a share that is lower for a wrong answer is no difference of places.
    """
    import pandas as pd
    import xarray as xr

    maps = {group: run.array(f"transfer/{group}") for group in GROUPS if run.holds(f"transfer/{group}.nc")}
    tables = []
    for subset, rows in PAIRS.items() if len(maps) == len(GROUPS) else ():
        some: dict[str, xr.Dataset] = {group: found.isel(pair=rows(found)) for group, found in maps.items()}
        if set.intersection(*(set(found["steps"].values.tolist()) for found in some.values())):
            tables.append(transfer_differences(some, **settings).assign(subset=subset))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["subset", "steps", "p_adjusted"])


def interchange_table(run: Run, **settings: Any) -> "pd.DataFrame":
    """The same of the maps of probes' subspaces, whose `variable` is what the probes read."""
    tables = [
        table.assign(variable=name.split("/")[1])
        for group in GROUPS
        for name in run.files("interchange", ".nc")
        if name.endswith(f"/{group}")
        for table in _by_subset(run, name, settings)
    ]
    return _joined(tables, ["variable"])


def _by_subset(run: Run, name: str, settings: dict[str, Any]) -> "list[pd.DataFrame]":
    if not run.holds(f"{name}.nc"):
        return []
    carried = run.array(name)
    return [
        carried_table(carried.isel(pair=rows), by=("group", "steps"), **settings).assign(subset=subset)
        for subset, rows in subsets(answered_right(carried))
    ]


def answers_all(carried: "xr.Dataset") -> "np.ndarray":
    """Are both unpatched runs answered right, and both swapped calls? [pair] False where the map cannot tell."""
    import numpy as np

    patched = carried.sel(run="patched") if "run" in carried.dims else carried
    there = "resid_pre" in patched and {"name", "input"} <= set(patched["role"].values) and 0 in patched["layer"]
    if not there:
        return np.zeros(carried.sizes["pair"], bool)
    first = patched["resid_pre"].sel(layer=0)
    swapped = [first.sel(role=role, hypothesis=what) == 1 for role, what in (("name", "program"), ("input", "input"))]
    return answered_right(carried) & np.logical_and(*(one.values for one in swapped))


def answered_right(carried: "xr.Dataset") -> "np.ndarray":
    """Are both unpatched runs answered right? [pair]"""
    return carried["base_correct"].values.astype(bool) & carried["source_correct"].values.astype(bool)


def every_pair(carried: "xr.Dataset") -> "np.ndarray":
    """True [pair]."""
    return carried["base_correct"].values >= 0


PAIRS: "dict[str, Callable[[xr.Dataset], np.ndarray]]" = {
    "all": every_pair,
    "correct": answered_right,
    "matched": answers_all,
}
"""The pairs [pair] of each subset."""


def _joined(tables: "list[pd.DataFrame]", further: list[str]) -> "pd.DataFrame":
    import pandas as pd

    columns = ["group", "steps", "site", "run", "layer", "role", "hypothesis", *NUMBERS, "subset", *further]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
