"""Arguments on activations: labels by name or as values, targets, rows; and the labels that results carry on."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pbb_probe.errors import PbbError
from pbb_probe.labels import label, label_name, labels_of
from pbb_probe.probing.readers import KINDS, Kind
from pbb_probe.schema import NameList, checked, is_printable, refuse_unknown, shown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

Array = TypeVar("Array", "xr.Dataset", "xr.DataArray")


def values_of(acts: "xr.Dataset", given: str | Sequence[Hashable], argument: str) -> "pd.Series":
    """The label of that name, or the values that are given instead, a row a prompt.

    Raises:
        PbbError: no such label, another number of values than prompts, or what is no sequence.
    """
    import pandas as pd

    n = acts.sizes["prompt"]
    if isinstance(given, str):
        if given in (names := labels_of(acts, "prompt").columns):
            return label(acts, given)
        known = f"their labels are {', '.join(names)}" if len(names) else "they have no labels"
        raise PbbError(
            f"{argument} names {given!r}, which is no label of these activations ({known}): name another, or give a "
            "value a prompt."
        )
    try:
        values = pd.Series(list(given))
    except TypeError as error:
        raise PbbError(f"{argument} must name a label or be a value a prompt, not {shown(given)}.") from error
    if len(values) != n:
        raise PbbError(f"There are {n} prompts and {len(values)} values of {argument}: give one a prompt.")
    return values


def codes_of(acts: "xr.Dataset", given: str | Sequence[Hashable], argument: str) -> "np.ndarray":
    """The same values as numbers from 0 on, in the order in which they first occur [prompt].

    Raises:
        PbbError: what `values_of` refuses, a prompt without a value, or values that cannot be told apart.
    """
    import numpy as np
    import pandas as pd

    values = values_of(acts, given, argument)
    try:
        codes: np.ndarray = pd.factorize(values)[0]
    except TypeError as error:
        raise PbbError(f"{argument} must be names or numbers, one a prompt ({error}).") from error
    if (codes < 0).any():
        raise PbbError(f"Prompt {np.flatnonzero(codes < 0)[0]} has no value of {argument}: give every prompt one.")
    return codes


def target_table(acts: "xr.Dataset", targets: "pd.DataFrame | Sequence[str]") -> "pd.DataFrame":
    """The targets, a column each and a row a prompt: those given, or the labels that are named.

    Raises:
        PbbError: neither, no target, an unknown label, another number of rows than prompts, two targets of one name, a
            name that cannot be written, or a target without any value.
    """
    import pandas as pd

    if not isinstance(targets, pd.DataFrame):
        names = checked("targets", targets, NameList)
        targets = pd.DataFrame({name: values_of(acts, name, "targets") for name in names})
    n, columns = acts.sizes["prompt"], [str(name) for name in targets.columns]
    if not columns or not n:
        raise PbbError(f"There are {n} prompts and {len(columns)} targets: give at least one of each.")
    if len(targets) != n:
        raise PbbError(f"There are {n} prompts and {len(targets)} rows of targets: give a row a prompt.")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise PbbError(f"Two targets are called {twice[0]!r}: give each column a name of its own.")
    for name in columns:
        if not is_printable(name):
            raise PbbError(f"The target {shown(name)} has a name that cannot be written: rename the column.")
    if empty := [name for name in targets if not targets[name].notna().any()]:
        raise PbbError(f"The target {empty[0]!r} has no value, fewer than two classes to learn: leave it out.")
    return targets


def read_train(train: "np.ndarray | None", n: int) -> "np.ndarray":
    """Which rows may be fitted on [row], all when None.

    Raises:
        PbbError: what is given is not true or false for each of the `n` rows.
    """
    import numpy as np

    rows = np.ones(n, bool) if train is None else np.asarray(train)
    if rows.dtype != bool or rows.shape != (n,):
        raise PbbError(
            f"train must be true or false for each of the {n} prompts; it is {rows.dtype} of shape {rows.shape}."
        )
    return rows


def check_kinds(kinds: Mapping[str, Kind], targets: "pd.DataFrame") -> dict[str, Kind]:
    """The kind of each target's probe, `logistic` where it is not named.

    Raises:
        PbbError: an unknown kind, or one of something that is no target.
    """
    if unknown := set(kinds) - set(targets.columns):
        raise PbbError(f"kinds names {min(unknown)!r}, which is no target: {', '.join(map(str, targets.columns))}.")
    refuse_unknown("kind", kinds.values(), KINDS)
    return {name: kinds.get(name, "logistic") for name in targets.columns}


def check_acts(acts: "xr.Dataset") -> "xr.Dataset":
    """The activations with the dimensions (layer, role, prompt, ...); those of one layer or role may lack it.

    Raises:
        PbbError: no site, or no prompts.
    """
    if not getattr(acts, "data_vars", None):
        raise PbbError("The activations have no site: give the Dataset of capture.")
    if "prompt" not in acts.dims:
        raise PbbError("The activations have no dimension 'prompt': give the Dataset of capture.")
    for name, entry in (("layer", 0), ("role", "all")):
        if name not in acts.dims:
            acts = acts.expand_dims(name if name in acts.coords else {name: [entry]})
    first = ("layer", "role", "prompt")
    if all(array.dims[:3] == first for array in acts.data_vars.values()):
        return acts
    return acts.transpose(*first, ...)


def with_labels_of(array: Array, *labelled: "xr.Dataset | xr.DataArray") -> Array:
    """An array over `prompt` with the labels of other arrays of the same prompts; of labels of one name, the first.

    A label named like a dimension or variable of the array, such as `correct`, has `prompt_` put before its name.
    """
    taken = {*array.dims, *getattr(array, "data_vars", ())}
    labels: dict[Hashable, Any] = {}
    for other in labelled:
        for name, coordinate in other.coords.items():
            if coordinate.dims == ("prompt",) and name != "prompt":
                labels.setdefault(label_name(name, "prompt", taken), coordinate.variable)
    return array.assign_coords(labels)
