"""Labels as coordinates: every kind of column comes back from a file as the values it had."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.labels import label, labels_of, measurement, with_controls, with_labels
from pbb_probe.store.disk import write_array

COLUMNS = {
    "texts": (["a", "b", "c"], ["a", "b", "c"]),
    "texts with gaps": (["a", None, "c"], ["a", None, "c"]),
    "numbers as texts": (["01", "1", "1.0"], ["01", "1", "1.0"]),
    "integers": ([1, 2, 3], [1, 2, 3]),
    "integers with gaps": ([1, None, 3], [1.0, None, 3.0]),
    "numbers": ([0.5, 1, 2], [0.5, 1.0, 2.0]),
    "booleans": ([True, False, True], [True, False, True]),
    "booleans with gaps": ([True, None, False], [1.0, None, 0.0]),
    "mixed": ([1, "one", True], ["1", "one", "True"]),
    "booleans and integers": ([True, 2, 3], ["True", "2", "3"]),
    "categories": (pd.Categorical(["x", "y", "x"]), ["x", "y", "x"]),
    "categories with gaps": (pd.Categorical(["x", None, "x"]), ["x", None, "x"]),
    "categories of numbers": (pd.Categorical([3, 1, 3]), [3, 1, 3]),
    "nullable integers": (pd.array([1, None, 3], dtype="Int64"), [1.0, None, 3.0]),
    "whole numbers too large for floats": ([10**30, 1, None], [str(10**30), "1", None]),
    "text with NUL": (["a\0b", "", "é"], ["a\ufffdb", None, "é"]),
    "nothing": ([None, None, None], [None] * 3),
}


class Rows:
    """Labelled prompts without tokens."""

    unit = "prompt"

    def __init__(self, labels: pd.DataFrame):
        self.labels = labels


def written_and_read(array: xr.DataArray, tmp_path) -> xr.DataArray:
    write_array(array.to_dataset(name="values"), tmp_path / "array.nc")
    with xr.open_dataset(tmp_path / "array.nc", engine="h5netcdf") as found:
        return found.load()["values"]


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_comes_back_from_a_file(kind, tmp_path):
    column, wanted = COLUMNS[kind]
    array = with_labels(xr.DataArray(np.zeros(3), dims="prompt"), Rows(pd.DataFrame({"known": column})))
    for found in (array, written_and_read(array, tmp_path)):
        values = label(found, "known")
        assert [None if pd.isna(value) else value for value in values] == wanted
        assert labels_of(found)["known"].equals(values)


def test_another_number_of_labels_is_refused():
    with pytest.raises(pbb.PbbError, match="There are 2 prompts and 3 rows of labels"):
        with_labels(xr.DataArray(np.zeros(2), dims="prompt"), Rows(pd.DataFrame({"a": [1, 2, 3]})))


def test_an_unknown_label_is_refused_with_those_there_are():
    array = with_labels(xr.DataArray(np.zeros(1), dims="prompt"), Rows(pd.DataFrame({"program": ["dax"]})))
    with pytest.raises(pbb.PbbError, match=r"no coordinate 'group': program are there"):
        label(array, "group")


def test_the_measurement_stands_before_its_controls():
    own, random = (xr.Dataset({"carried": ("pair", [value, value])}) for value in (1.0, 0.0))
    both = with_controls({"none": own, "random": random})
    assert both["control"].values.tolist() == ["none", "random"]
    assert both["carried"].sel(control="random").values.tolist() == [0, 0]
    assert measurement(both).identical(own)
    assert with_controls({"none": own}).identical(own)
    assert measurement(own).identical(own)
