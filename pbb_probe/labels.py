"""Labels travel inside arrays: what is known of each prompt or pair, as coordinates; and controls, as one dimension.

A label is a column of a table with a row a prompt or pair: its program, group, input, output. In an array it is a
non-index coordinate on that dimension, so that a stored array alone says what its rows are. One rule of types lets
every label be written to NetCDF and read back as the same values.
"""

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

CONTROL = "control"
"""The dimension of an array along which it stands beside its controls; absent where there are none."""
NONE = "none"
"""Its first entry: the measurement itself."""
CORRUPTED = "corrupted_"
"""Before the labels of a pair's corrupted prompt."""

AUTO = "auto"
"""In place of the label of clusters: the one that `cluster_label` chooses."""

_EXACT = 2**53
"""Whole numbers up to this are exact as floats."""
Array = TypeVar("Array", "xr.Dataset", "xr.DataArray")
T = TypeVar("T")


class Labelled(Protocol):
    """Prompts or pairs."""

    @property
    def labels(self) -> "pd.DataFrame":
        """What is known of each, a row each."""

    @property
    def unit(self) -> str:
        """The dimension of arrays that they stand on: prompt or pair."""


def with_labels(array: Array, labelled: Labelled) -> Array:
    """The array with everything known of its prompts or pairs as non-index coordinates.

    Texts stay texts, and missing ones become empty; whole numbers and booleans with missing ones among them become
    floats; columns of several types, and whole numbers that floats cannot hold, become texts. A label named like a
    dimension or a variable of the array has `prompt_` or `pair_` put before its name; one named like the dimension that
    it would stand on, such as the text `prompt`, is left out.

    Args:
        array: with the dimension `prompt` or `pair`, in their order.
        labelled: `Prompts`, `Pairs`, or whatever has `labels` (a row a prompt or pair) and `unit`, the dimension.

    Raises:
        PbbError: another number of labels than rows, or a name that NetCDF cannot hold.

    Example:
        >>> import xarray as xr
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=2), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=3)
        >>> array = with_labels(xr.DataArray(range(len(prompts)), dims="prompt"), prompts)
        >>> sorted(set(array["group"].values.tolist()))
        ['with_io', 'without_io']
    """
    labels, unit = labelled.labels, labelled.unit
    if len(labels) != array.sizes[unit]:
        raise PbbError(f"There are {array.sizes[unit]} {unit}s and {len(labels)} rows of labels: give a row a {unit}.")
    taken = {*array.dims, *getattr(array, "data_vars", ())}
    named = {label_name(name, unit, taken): column for name, column in labels.items() if name != unit}
    return array.assign_coords({name: (unit, storable(column)) for name, column in named.items()})


def label_name(name: object, unit: str, taken: Collection[Hashable]) -> str:
    """What a label is called in an array of which dimensions and variables have taken some names.

    Raises:
        PbbError: a name that NetCDF cannot hold, with a space or a slash.
    """
    if not isinstance(name, str) or not name or re.search(r"[\s/]", name):
        raise PbbError(f"The label {name!r} cannot be stored: name it by a text without spaces and slashes.")
    return f"{unit}_{name}" if name in {*taken, CONTROL} else name


def labels_of(array: "xr.Dataset | xr.DataArray", unit: str | None = None) -> "pd.DataFrame":
    """The labels that an array carries, a row a prompt or pair, the way back from `with_labels`.

    Args:
        array: with labels.
        unit: the dimension; the one of `prompt`, `pair`, `call` and `row` that the array has when None.

    Raises:
        PbbError: an array without that dimension.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=2), pbb.load_model("nano")
        >>> acts = pbb.capture(model, pbb.make_prompts(corpus, model, n=3))
        >>> labels_of(acts).groupby("group").size().to_dict()
        {'with_io': 3, 'without_io': 3}
    """
    import pandas as pd

    unit = unit_of(array) if unit is None else unit
    columns = {
        str(name): restored(coordinate.values)
        for name, coordinate in array.coords.items()
        if coordinate.dims == (unit,) and name != unit
    }
    return pd.DataFrame(columns, index=range(array.sizes[unit]))


def unit_of(array: "xr.Dataset | xr.DataArray") -> str:
    """The dimension of an array that its labels stand on.

    Raises:
        PbbError: it has none.
    """
    for unit in ("prompt", "pair", "call", "row"):
        if unit in array.dims:
            return unit
    raise PbbError(f"The array has neither prompts nor pairs: its dimensions are {', '.join(map(str, array.dims))}.")


def label(array: "xr.Dataset | xr.DataArray", name: str, unit: str | None = None) -> "pd.Series":
    """One label by name, a row a prompt or pair.

    Args:
        array: with labels.
        name: of the coordinate.
        unit: the dimension it stands on, as in `labels_of`.

    Raises:
        PbbError: the array has no such label.
    """
    unit = unit_of(array) if unit is None else unit
    if name not in array.coords or array[name].dims != (unit,):
        there = ", ".join(labels_of(array, unit).columns) or "none"
        raise PbbError(f"The {unit}s have no coordinate {name!r}: {there} are there. Name another, or do without it.")
    return _series(array[name].values, name)


def cluster_label(labels: "xr.Dataset | xr.DataArray | pd.DataFrame", given: T, side: str = "") -> T | str:
    """The label that says which rows are held out, resampled and relabelled together.

    Programs that compute the same function are not independent: who has seen one knows the answers of the other. So it
    is `function` wherever some programs share one, and else `program`.

    Args:
        labels: an array with labels, or a table of them.
        given: `auto`, or anything else, which is returned as it is.
        side: the prefix of the labels in question, such as `corrupted_` for those of a pair's corrupted prompt.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"program": ["dax", "lug", "wif"], "function": ["f", "g", "f"]})
        >>> cluster_label(table, "auto"), cluster_label(table[:2], "auto")
        ('function', 'program')
    """
    import pandas as pd

    if not isinstance(given, str) or given != AUTO:
        return given
    program, function = side + "program", side + "function"
    there = labels.columns if isinstance(labels, pd.DataFrame) else labels.coords
    if function not in there or program not in there:
        return program
    table = pd.DataFrame({name: restored(labels[name].to_numpy()) for name in (program, function)})
    shared = table[function].notna().all() and len(table) and table.groupby(function)[program].nunique().max() > 1
    return function if shared else program


def is_function(clusters: object) -> bool:
    """Are clusters named by a label of functions, which groups may share?"""
    return isinstance(clusters, str) and clusters in ("function", CORRUPTED + "function")


def join(arrays: Sequence[Array], unit: str) -> Array:
    """Arrays of different prompts or pairs as one, with all their labels, missing where an array has no such label.

    Args:
        arrays: with the dimension `unit`; places that only some have are missing in the others.
        unit: prompt or pair.

    Raises:
        PbbError: no arrays, or one without that dimension.

    Example:
        >>> import xarray as xr
        >>> first = xr.DataArray([1, 2], {"program": ("pair", ["dax", "lug"])}, dims="pair")
        >>> second = xr.DataArray([3], {"program": ("pair", ["wif"]), "steps": ("pair", [2])}, dims="pair")
        >>> labels_of(join([first, second], "pair"))["program"].tolist()
        ['dax', 'lug', 'wif']
    """
    import pandas as pd
    import xarray as xr

    if not arrays or not all(unit in array.dims for array in arrays):
        raise PbbError(f"Arrays are joined along {unit!r}: give at least one, and only such as have that dimension.")
    labels = pd.concat([labels_of(array, unit) for array in arrays], ignore_index=True)
    bare = [array.drop_vars([name for name in array.coords if array[name].dims == (unit,)]) for array in arrays]
    joined = xr.concat(bare, unit, join="outer", coords="minimal", compat="override", combine_attrs="drop_conflicts")
    return joined.assign_coords({str(name): (unit, storable(column)) for name, column in labels.items()})


def storable(column: "pd.Series | Sequence[object]") -> "np.ndarray":
    """A column as values of one type that NetCDF can hold [row]."""
    import numpy as np
    import pandas as pd

    values = pd.Series(column, dtype=object)
    missing = values.isna().to_numpy()
    kinds = {_kind(value) for value in values[~missing]}
    typed: np.ndarray
    if not kinds or (len(kinds) == 1 and kinds <= {bool, int, float}) or kinds == {int, float}:
        kind = float if missing.any() or float in kinds else bool if kinds == {bool} else np.int64
        typed = values.where(~missing, float("nan")).to_numpy(kind)
        return typed
    texts = ["" if gone else str(value).replace("\0", "\ufffd") for value, gone in zip(values, missing, strict=True)]
    return np.array(texts, dtype=object)


def restored(values: "np.ndarray") -> "np.ndarray":
    """The values [row] of a coordinate, with empty texts as missing ones again."""
    import numpy as np

    if values.dtype.kind not in "OUS":
        return values
    return np.array([float("nan") if value == "" else str(value) for value in values], dtype=object)


def with_controls(measured: "Mapping[str, xr.Dataset]") -> "xr.Dataset":
    """The measurement, named `none`, and its controls along the dimension `control`; the measurement alone as it is."""
    import xarray as xr

    if len(measured) == 1:
        return measured[NONE]
    return xr.concat(list(measured.values()), dim=CONTROL, join="outer").assign_coords({CONTROL: list(measured)})


def measurement(array: Array) -> Array:
    """What was measured, without the controls beside it.

    Raises:
        PbbError: only controls are there.
    """
    if CONTROL not in array.coords:
        return array
    names = array[CONTROL].values.reshape(-1).tolist()
    if NONE not in names:
        raise PbbError(f"Of this array only the control {names[0]} is there: select the measurement, {NONE!r}, too.")
    return array.sel({CONTROL: NONE}, drop=True) if CONTROL in array.dims else array.drop_vars(CONTROL)


def _series(values: "np.ndarray", name: str) -> "pd.Series":
    import pandas as pd

    return pd.Series(restored(values), name=name)


def _kind(value: object) -> type:
    """bool, int, float, or str for all that is written as text."""
    import numpy as np

    if isinstance(value, (bool, np.bool_)):
        return bool
    if isinstance(value, (int, np.integer)):
        return int if abs(int(value)) <= _EXACT else str
    return float if isinstance(value, (float, np.floating)) else str
