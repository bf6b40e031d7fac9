"""Which prompts and pairs count: all, those answered correctly, pairs whose swapped calls are right, decisive calls.

Decisive ones show evaluation: answered correctly, and of new functions where programs have no examples.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.labels import CORRUPTED, label, measurement, unit_of
from pbb_probe.programs.meaning import NEW

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

ANSWERED = "answered"
"""The label that says whether a prompt is answered correctly."""
DECISIVE = "decisive"
"""The label that says that no simpler program gives a call's answer."""


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


def decisive_calls(array: "xr.Dataset | xr.DataArray", side: str = "") -> "np.ndarray":
    """Is each call decisive, and where its program has no examples, of a new function? [prompt | pair | call]

    Args:
        array: with labels. What it does not say is taken to be so.
        side: the prefix of the labels, such as `corrupted_`.
    """
    rows = everything(array)
    if side + DECISIVE in array.coords:
        rows &= label(array, side + DECISIVE).eq(True).to_numpy(bool)
    if side + "novelty" in array.coords:
        group = side + "group" if side + "group" in array.coords else "group"
        new = label(array, side + "novelty").isin(NEW) | (label(array, group) != "without_io")
        rows &= new.to_numpy(bool)
    return rows


def decisive(array: "xr.Dataset | xr.DataArray") -> "np.ndarray":
    """Is each prompt, or are both of each pair, answered correctly, decisive, and of a new function if without_io?

    [prompt | pair]; False throughout where the array does not say which calls are decisive.
    """
    import numpy as np

    if DECISIVE not in array.coords:
        return np.zeros(array.sizes[unit_of(array)], bool)
    rows: np.ndarray = answered(array) & decisive_calls(array)
    if unit_of(array) == "pair":
        rows &= decisive_calls(array, CORRUPTED)
    return rows


def passing(array: "xr.Dataset | xr.DataArray", gate: "pd.DataFrame | None") -> "np.ndarray":
    """Is each row of a group and number of steps that is evaluated? [prompt | pair] True without a gate.

    Args:
        array: with the labels `group` and `steps`.
        gate: from `gate`.
    """
    import numpy as np

    if gate is None:
        return everything(array)
    there = {(row.group, row.steps) for row in gate.itertuples() if row.evaluated}
    kinds = zip(label(array, "group"), label(array, "steps"), strict=True)
    return np.array([kind in there for kind in kinds], bool)


SUBSETS: "dict[str, Callable[[xr.Dataset], np.ndarray]]" = {
    "all": everything,
    "correct": answered,
    "matched": matched,
    DECISIVE: decisive,
}
"""The pairs [pair] of each subset."""
SINGLE = ("all", "correct", DECISIVE)
"""Those of single prompts, too."""


def rows_of(array: "xr.Dataset | xr.DataArray", subset: str, gate: "pd.DataFrame | None" = None) -> "np.ndarray":
    """The rows [prompt | pair] of a subset; of decisive ones, where they are evaluated."""
    rows = SUBSETS[subset](array)  # type: ignore[arg-type]
    return rows & passing(array, gate) if subset == DECISIVE else rows


def subsets(
    array: "xr.Dataset | xr.DataArray", gate: "pd.DataFrame | None" = None
) -> "Iterator[tuple[str, np.ndarray]]":
    """All rows [prompt | pair], those answered correctly and those that are decisive, too, where there are any."""
    for name in SINGLE:
        if (rows := rows_of(array, name, gate)).any() or name == "all":
            yield name, rows


def label_rows(array: "xr.Dataset | xr.DataArray", names: Sequence[str]) -> "pd.DataFrame":
    """Some labels as a table, a row a prompt or pair.

    Raises:
        PbbError: a label that the array does not have.
    """
    import pandas as pd

    return pd.DataFrame({name: label(array, name) for name in names}, index=range(array.sizes[unit_of(array)]))
