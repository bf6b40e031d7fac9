"""Public functions called with odd values: one sentence of what the value may be, and no work before it."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.patching.sweep import SweepSettings

NAN, INF = math.nan, math.inf
SEEDS = [-1, 2**32, 1.5, None, True, "0"]
DRAWS = [0, -1, 2.5, NAN, 10**12, None, True, "10"]
COUNTS = [0, -1, 2.5, NAN, "3", True]
LAYERS: list[Any] = [[99], [], [1, 1], [-1], [True], ["1"], [0.5], [NAN], 1, "1", {1}]
NAMES: list[Any] = [[], "name", [3], [["name"]], [None], [""], ["\ud800"], 3]
MEMORY = [0, -1, NAN, INF, "2", None, True]
STRENGTHS = [0, -1, NAN, INF, "1", True, None]
GROUPS = {"group": list("ab") * 20, "clusters": list(range(40))}


@pytest.fixture(scope="module")
def given(bridge, corpus) -> dict[str, dict[str, Any]]:
    """Arguments of each function with which it works, a few milliseconds each."""
    model = bridge("nano")
    prompts = pbb.make_prompts(corpus, model, n=20)
    acts = pbb.capture(model, prompts, layers=[1], roles=["name"])
    pairs = pbb.make_pairs(corpus, model, "input", "with_io", n=4)
    transfer = pbb.make_transfer_pairs(corpus, model, "with_io", n=4)
    first, second = (ids[:, 0] for ids in pairs.answer_ids(model))
    values = xr.DataArray(np.random.default_rng(0).random((2, 40)), dims=("layer", "row"), coords={"layer": [0, 1]})
    fitted = {"acts": acts, "targets": prompts.labels[["op_1"]], "clusters": prompts.labels["program"].tolist()}
    return {
        "capture": {"model": model, "prompts": prompts, "layers": [1], "roles": ["name"]},
        "make_prompts": {"corpus": corpus, "model": model, "n": 4},
        "make_pairs": {"corpus": corpus, "model": model, "swap": "input", "group": "with_io", "n": 4},
        "make_transfer_pairs": {"corpus": corpus, "model": model, "group": "with_io", "n": 4},
        "fit_probes": {**fitted, "folds": 2},
        "direction_cosines": {**fitted, "group": prompts.labels["group"].tolist()},
        "project": {"acts": acts, "role": "name"},
        "patch_sweep": {
            "model": model, "pairs": pairs, "metric": pbb.logit_difference(first, second), "layers": [1],
            "positions": ["name"],
        },
        "transfer_map": {
            "model": model, "pairs": transfer, "sites": ["resid_pre"],
            "roles": ["name"], "layers": [1],
        },
        "compare_groups": {"values": values, "draws": 20, **GROUPS},
        "locate": {"values": values, "draws": 20, **GROUPS},
        "locate_difference": {"values": values, "draws": 20, **GROUPS},
        "cluster_bootstrap": {"values": values.values, "clusters": GROUPS["clusters"], "draws": 20},
        "evaluate": {"model": "nano", "corpus": corpus, "n": 1, "modes": ["direct"]},
        "untrained_model": {"model": model},
        "likely_answers": {"model": model, "prompts": prompts.select([0])},
        "answer_logits": {"model": model, "prompts": prompts.select([0])},
        "load_model": {"model": "nano"},
        "SweepSettings": {},
        "from_texts": {"model": model, "texts": ["dolvik(3) ="]},
    }  # fmt: skip


ODD: dict[str, dict[str, list[Any]]] = {
    "capture": {
        "layers": LAYERS, "roles": [*NAMES, ["name", "name"], ["subject"]], "batch_size": COUNTS,
        "sites": [*NAMES, ["resid_post"] * 2, ["resid"]], "out": ["", "a\0b", 3, "/proc/x"],
        "prompts": [None, ["a"], 3],
    },
    "make_prompts": {"n": COUNTS, "seed": SEEDS, "mode": ["aloud", None, []], "group": ["x", [1]], "unseen": [1, "x"],
                     "corpus": [None, 3]},
    "make_pairs": {"n": [*COUNTS, None], "seed": SEEDS, "swap": ["x", None, []], "group": ["x", None, []]},
    "make_transfer_pairs": {"n": [*COUNTS, None, 10**9], "seed": SEEDS, "group": ["x", None], "donor_group": ["x"]},
    "fit_probes": {
        "C": [*STRENGTHS, [], [0.1, NAN], [0.1, 0.1], [0]], "folds": [0, 1, -1, 2.5, True, 10**6, "2", None, [0, 1]],
        "seed": SEEDS, "memory_gib": MEMORY, "clusters": [["a"], [None] * 40, [[1]] * 40],
        "balanced": [1, "x"], "keep": [1, "x"],
        "targets": [None, pd.DataFrame({"x": [1]}), pd.DataFrame(index=range(40)), pd.DataFrame({"x": [[1]] * 40}),
                    pd.DataFrame([[0, 1]] * 20 + [[1, 0]] * 20, columns=["x", "x"]),
                    pd.DataFrame([[0], [1]] * 20, columns=pd.Index(["\ud800"], dtype=object))],
        "train": [[True], [0.5] * 40, ["x"] * 40], "controls": ["chance", ["chance"] * 2, ["x"], [[1]]],
        "kinds": [{"op_1": "square"}, {"op_1": ["ridge"]}, {"x": "ridge"}], "acts": [None, 3, xr.Dataset()],
    },
    "direction_cosines": {"C": STRENGTHS, "seed": SEEDS, "memory_gib": MEMORY, "clusters": [["a"]], "group": [["a"]]},
    "SweepSettings": {"whole_spans": [1, "x"], "memory_gib": MEMORY, "resume": ["", "a\0b", 3]},
    "project": {"axes": [0, 1, 4, 2.0, True], "seed": SEEDS, "method": ["x", []], "role": ["x"], "site": ["x"]},
    "patch_sweep": {
        "layers": LAYERS, "sites": [*NAMES, ["resid_pre"] * 2, ["resid"]], "seed": SEEDS,
        "positions": [*(odd for odd in NAMES if odd != [3]), ["name"] * 2, ["subject"], [999], [0, 0], [True], [0.5]],
        "replace_with": ["x", [], None],
        "metric": [{}, 3, None], "settings": [None, {"memory_gib": 2}], "noising": [1, "x"], "pairs": [None, 3, "x"],
        "clean": [3, "x"],
    },
    "transfer_map": {
        "layers": LAYERS, "sites": [*NAMES, ["resid_pre"] * 2], "roles": [*NAMES, ["name"] * 2, ["subject"]],
        "pairs": [None, 3, "x"],
        "controls": ["self", ["self"] * 2, ["x"], [[1]]], "seed": SEEDS, "settings": [None, {"memory_gib": 2}],
    },
    "compare_groups": {
        "draws": DRAWS, "seed": SEEDS, "margin": [0, -1, NAN, INF, "x", True], "adjust": ["x", None],
        "group": [["a"] * 40, [None, "a"] * 20, [NAN, 1.0] * 20, ["a"]],
        "clusters": [[None] * 40, ["a"], [[1]] * 40],
        "values": [None, 3, np.zeros((2, 40)), xr.DataArray([["x"] * 40], dims=("layer", "row")),
                   xr.DataArray(np.full((2, 40), INF), dims=("layer", "row"))],
        "weights": [[NAN] * 40, ["x"] * 40, [INF] * 40, [1], [-1] * 40, [0] * 40, [1, 1, -1, -1] * 10],
        "models": [["a"], [None] * 40],
    },
    "locate": {"draws": DRAWS, "seed": SEEDS, "threshold": [NAN, INF, "x", True, None], "edge": ["x", None],
               "group": [[None, "a"] * 20]},
    "locate_difference": {"draws": DRAWS, "margin": [0, -1, NAN, INF, None], "threshold": [NAN], "edge": ["x", []]},
    "cluster_bootstrap": {"draws": DRAWS, "seed": SEEDS, "weights": [[NAN] * 40, ["x"] * 40], "values": ["x", 3, []]},
    "evaluate": {"n": COUNTS, "modes": [[], ["x"], "direct", ["direct"] * 2], "batch_size": COUNTS, "seed": SEEDS,
                 "model": ["", 3, None], "corpus": [None, "x"]},
    "untrained_model": {"seed": SEEDS},
    "likely_answers": {"top": COUNTS},
    "answer_logits": {"batch_size": COUNTS},
    "load_model": {"model": ["", 3, None, "a\0b"], "adapter": ["", 3], "device": ["x", 3.5], "dtype": ["x", 3]},
    "from_texts": {
        "texts": [[], "x", 3, None, [None], ["\ud800"]], "gap": [3, None, "\0"], "padding_side": ["x", None],
        "roles": [3, {"a": 3}, {"a": []}, {"a": "b"}, {3: [(0, 1)]}, {"a": [(3, 1)]}, {"a": [(0, 0)]},
                  {"a": [(False, 1)]}, {"a": [(0.0, 1.0)]}, {"a": [(0, 99)]}, {"a": [None]}],
        "labels": [3, pd.DataFrame({"x": [[1]]}), pd.DataFrame({"x": [1, 2]}), {"a": 1}],
        "answers": [3, [], "ab", [None], [NAN, 1], [[1, 1], 2], ["\ud800", "a"]],
    },
}  # fmt: skip


@pytest.mark.parametrize(("function", "argument"), [(name, argument) for name, odd in ODD.items() for argument in odd])
def test_an_odd_argument_is_refused_in_one_sentence(function, argument, given):
    elsewhere = {"from_texts": pbb.Prompts.from_texts, "SweepSettings": SweepSettings}
    called = elsewhere[function] if function in elsewhere else getattr(pbb, function)
    for value in ODD[function][argument]:
        with pytest.raises(pbb.PbbError) as caught:
            called(**{**given[function], argument: value})
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("function", ["capture", "patch_sweep", "fit_probes", "compare_groups"])
def test_numbers_of_numpy_are_taken(function, given):
    changes: dict[str, Any] = {
        "capture": {"layers": np.array([1]), "batch_size": np.int64(7)},
        "patch_sweep": {"layers": range(1, 2), "settings": SweepSettings(memory_gib=np.float32(0.5))},
        "fit_probes": {"C": np.array([0.1, 1.0]), "folds": np.int32(2), "seed": np.uint32(2**32 - 1)},
        "compare_groups": {"draws": np.int64(20), "margin": np.float64(0.1), "weights": np.ones(40)},
    }[function]
    assert len(getattr(pbb, function)(**{**given[function], **changes}))


def test_nothing_to_run_and_rows_that_are_not_there(given):
    prompts = given["capture"]["prompts"]
    for rows in ([99], [-99], [0.5], ["0"]):
        with pytest.raises(pbb.PbbError, match="There is no prompt"):
            prompts.select(rows)
    with pytest.raises(pbb.PbbError, match="no prompts to run"):
        pbb.capture(given["capture"]["model"], prompts.select([]))
    with pytest.raises(pbb.PbbError, match="no pairs"):
        pbb.patch_sweep(**{**given["patch_sweep"], "pairs": given["patch_sweep"]["pairs"].select([])})


@pytest.mark.parametrize("rows", [[True], None, [0.0], "0", [99], [None]])
def test_rows_that_are_none_are_not_selected(rows, bridge):
    with pytest.raises(pbb.PbbError):
        pbb.Prompts.from_texts(bridge("nano"), ["dolvik(3) =", "dolvik(4) ="]).select(rows)


def test_numbers_too_large_to_square_are_not_read(given):
    targets = pd.DataFrame({"x": [1e308, -1e308] * 20})
    with pytest.raises(pbb.PbbError, match="of at most 1e"):
        pbb.fit_probes(**{**given["fit_probes"], "targets": targets}, kinds={"x": "ridge"})
