"""Calls that write down their own Python: what the text makes is what was computed, and nothing is computed twice."""

import numpy as np
import pytest
import xarray as xr

from pbb_probe.views.explorer.recorded import WIDTH, imported, named, python_of, value_of
from pbb_probe.views.explorer.recorded import np as numpy


def made_by(recorded, name: str):
    scope: dict = {}
    exec(python_of(named(recorded, name)), scope)
    return scope[name]


def test_the_text_makes_the_same_array():
    xarray = imported("xarray", "xr")
    values = named(numpy.arange(24.0).reshape(2, 3, 4), "values")
    array = named(xarray.DataArray(values, dims=("layer", "role", "prompt")), "array")
    chosen = array.isel(prompt=[1, 3]).sel(layer=0)
    both = xarray.concat([chosen, array[1].isel({"prompt": [1, 3]})], dim="layer")
    expected = np.arange(24.0).reshape(2, 3, 4)[:, :, [1, 3]]
    np.testing.assert_array_equal(value_of(both), expected)
    xr.testing.assert_identical(made_by(both, "both"), value_of(both))
    assert python_of(named(both, "both")).count("reshape") == 1  # a named part is written once


def test_a_call_is_made_once_and_only_when_asked_for():
    calls = []
    given = named(numpy, "counted", lambda value: calls.append(value) or [value, value])
    doubled = named(given(3), "doubled")
    assert calls == []
    assert value_of([doubled[0], {"one": doubled[1]}, (doubled,)]) == [3, {"one": 3}, ([3, 3],)]
    assert calls == [3]


def test_a_call_that_fails_says_why_each_time():
    failing = numpy.reshape([1, 2, 3], (2, 2))
    for _ in range(2):
        with pytest.raises(ValueError, match="reshape"):
            value_of(failing)


@pytest.mark.parametrize("value", ['it\'s "quoted"\n{name} \\', ("one",), [], {}, {"a": [1, (2, None)]}, -0.5, True])
def test_plain_values_are_written_as_they_are(value):
    assert made_by(imported("copy").copy(value), "copied") == value


def test_long_lines_are_broken_where_the_text_stays_the_same():
    words = [f"a rather long text, number {i}" for i in range(12)]
    text = python_of(named(imported("copy").deepcopy({"words": words, "more": {"few": words[:2]}}), "kept"))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert made_by(imported("copy").deepcopy({"words": words}), "kept") == {"words": words}
