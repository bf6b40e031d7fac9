"""Means by node are those of a loop over tokens, prompt by prompt."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.evidence.nodes import by_node
from pbb_probe.statistics.groups import interval_table

TYPES = ("Name", "BinOp", "Constant")


@pytest.fixture
def tokens() -> pd.DataFrame:
    """Of prompts 0, 1, 3 and 4; BinOp occurs in two of them, Return once."""
    rng = np.random.default_rng(0)
    rows = [
        (prompt, position, rng.choice(["Name", "Constant"] if prompt > 1 else TYPES))
        for prompt in (0, 1, 3, 4)
        for position in range(2, 9 - prompt)
    ]
    table = pd.DataFrame([*rows, (3, 6, "Return")], columns=["prompt", "position", "node"])
    return table.sample(frac=1, random_state=0)


def looped(places, tokens, pick) -> dict:
    """By place, node and unit, from a loop over the tokens; `pick(place, row number, token)` is the value of one."""
    found: dict = {}
    for place in np.ndindex(*places):
        for number, row in enumerate(tokens.itertuples()):
            value = pick(place, number, row)
            if value is not None and not np.isnan(value):
                found.setdefault((place, row.node, row.prompt), []).append(value)
    return {key: np.mean(some) for key, some in found.items()}


def assert_same(array, expected, units):
    for place in np.ndindex(*array.shape[:-2]):
        for i, node in enumerate(array["node"].values):
            for j, unit in enumerate(units):
                found = array.values[(*place, i, j)]
                if (place, node, unit) in expected:
                    assert found == pytest.approx(expected[place, node, unit])
                else:
                    assert np.isnan(found)


def test_a_value_a_token_is_averaged_within_prompts(tokens):
    values = np.random.default_rng(1).normal(size=(2, 3, len(tokens)))
    values[0, 1, ::4] = np.nan
    array = xr.DataArray(values, dims=("layer", "role", "prompt"), coords={"layer": [4, 7]}, name="correct")
    found = by_node(array, tokens)
    assert found.dims == ("layer", "role", "node", "prompt")
    assert found.name == "correct"
    assert found["layer"].values.tolist() == [4, 7]
    assert found["node"].values.tolist() == ["BinOp", "Constant", "Name", "Return"]
    assert found["prompt"].values.tolist() == [0, 1, 3, 4]
    assert_same(found, looped((2, 3), tokens, lambda place, n, _: values[(*place, n)]), [0, 1, 3, 4])


def test_a_value_a_position_and_pair_is_averaged_within_pairs(tokens):
    at = [2, 5, 4, 11]  # of the positions measured, one is no code
    values = np.random.default_rng(2).normal(size=(3, len(at), 6))
    array = xr.DataArray(values, dims=("layer", "position", "pair"), coords={"position": at, "layer": [0, 1, 2]})
    found = by_node(array, tokens)
    assert found.dims == ("layer", "node", "pair")
    assert found.shape == (3, 3, 6)  # Return stands at no position measured

    def pick(place, _, row):
        return values[(*place, at.index(row.position), row.prompt)] if row.position in at else None

    assert_same(found, looped((3,), tokens, pick), range(6))
    assert found.sel(pair=[2, 5]).isnull().all()


def test_intervals_follow(tokens):
    array = xr.DataArray(np.arange(len(tokens), dtype=float), dims=("prompt",))
    table = interval_table(by_node(array, tokens), clusters=["a", "a", "b", "b"], draws=50)
    assert table["node"].tolist() == ["BinOp", "Constant", "Name", "Return"]
    clusters = {0: "a", 1: "a", 3: "b", 4: "b"}
    for row in table.itertuples():
        mine = {i: array.values[((tokens["node"] == row.node) & (tokens["prompt"] == i)).to_numpy()] for i in clusters}
        means = [some.mean() for some in mine.values() if len(some)]
        assert (row.n, row.mean) == (len(means), pytest.approx(np.mean(means)))
        assert row.clusters == len({clusters[i] for i, some in mine.items() if len(some)})


def test_what_does_not_fit_the_tokens_is_refused(tokens):
    ones = np.ones((2, len(tokens)))
    with pytest.raises(PbbError, match=rf"There are 5 values and {len(tokens)} tokens"):
        by_node(xr.DataArray(np.ones(5), dims="prompt"), tokens)
    with pytest.raises(PbbError, match=r"these are \('layer', 'token'\)"):
        by_node(xr.DataArray(ones, dims=("layer", "token")), tokens)
    with pytest.raises(PbbError, match="names of roles"):
        by_node(xr.DataArray(ones, dims=("position", "pair"), coords={"position": ["name", "answer"]}), tokens)
    with pytest.raises(PbbError, match="None of the tokens"):
        by_node(xr.DataArray(ones, dims=("position", "pair")), tokens)
    with pytest.raises(PbbError, match="no column 'node'"):
        by_node(xr.DataArray(ones, dims=("layer", "prompt")), tokens.drop(columns="node"))
