"""Which prompts and pairs count: all, those answered correctly, and pairs whose swapped calls are right as well."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.labels import CORRUPTED, label, measurement, unit_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

ANSWERED = "answered"
"""The label that says whether a prompt is answered correctly."""


def answered(array: "xr.Dataset | xr.DataArray") -> "np.ndarray":
    """Is each prompt, or both prompts of each pair, answered correctly? [prompt | pair]

    Raises:
        PbbError: the array does not say.
    """
    if ANSWERED not in array.coords:
        raise PbbError(
            "This array does not say which prompts are answered correctly: label the prompts by `with_answered`; where "
            "it is of a run of a release before 0.9, run the study again, which keeps the trained models."
        )
    right: np.ndarray = label(array, ANSWERED).eq(True).to_numpy(bool)  # a missing one is not
    return right & label(array, CORRUPTED + ANSWERED).eq(True).to_numpy(bool) if unit_of(array) == "pair" else right


def everything(array: "xr.Dataset | xr.DataArray") -> "np.ndarray":
    """True [prompt | pair]."""
    import numpy as np

    return np.ones(array.sizes[unit_of(array)], bool)


def matched(carried: "xr.Dataset") -> "np.ndarray":
    """Are both prompts answered correctly, and both swapped calls? [pair] False where the map cannot tell.

    The swapped calls are the donor's program on the base's input and the other way round. The map itself says how they
    are answered, where everything is still at its own place (layer 0): where groups differ in accuracy, a share that is
    lower for a wrong answer is no difference of places.
    """
    import numpy as np

    patched = measurement(carried)
    there = "resid_pre" in patched and {"name", "input"} <= set(patched["role"].values) and 0 in patched["layer"]
    if not there:
        return np.zeros(carried.sizes["pair"], bool)
    first = patched["resid_pre"].sel(layer=0)
    swapped = [first.sel(role=role, hypothesis=what) == 1 for role, what in (("name", "program"), ("input", "input"))]
    right: np.ndarray = answered(carried) & np.logical_and(*(call.values for call in swapped))
    return right


SUBSETS: "dict[str, Callable[[xr.Dataset], np.ndarray]]" = {
    "all": everything,
    "correct": answered,
    "matched": matched,
}
"""The pairs [pair] of each subset."""


def subsets(array: "xr.Dataset | xr.DataArray") -> "Iterator[tuple[str, np.ndarray]]":
    """All rows [prompt | pair], and those answered correctly where there are any."""
    yield "all", everything(array)
    if (right := answered(array)).any():
        yield "correct", right


def label_rows(array: "xr.Dataset | xr.DataArray", names: Sequence[str]) -> "pd.DataFrame":
    """Some labels as a table, a row a prompt or pair.

    Raises:
        PbbError: a label that the array does not have.
    """
    import pandas as pd

    return pd.DataFrame({name: label(array, name) for name in names}, index=range(array.sizes[unit_of(array)]))
