"""Activations on disk are those in memory, whatever is selected, and a capture that was stopped goes on."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pbb_probe.errors import PbbError
from pbb_probe.hooking import capture as module
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.shards import open_capture
from pbb_probe.probing.linear import fit_probes
from pbb_probe.store.disk import file_hash, write_sealed

TEXTS = [f"run dolvik({k}) :" for k in range(11)]
ASKED = {"sites": ("resid_post", "z"), "layers": [0, 2], "batch_size": 4}


def prompts_of(model, texts=TEXTS) -> Prompts:
    spans = [(text.index("(") + 1, text.index(")")) for text in texts]
    return Prompts.from_texts(model, texts, {"input": spans}, labels_of(len(texts)))


def labels_of(n: int) -> pd.DataFrame:
    """A column of every kind, with missing values and a name that no file system takes."""
    return pd.DataFrame(
        {
            "program": [f"p{k % 3}" for k in range(n)],
            "steps": range(n),
            "state.1": [k if k % 2 else None for k in range(n)],
            "share": [k / 3 for k in range(n)],
            "correct": [k % 2 == 0 for k in range(n)],
            "output": [None if k == 1 else "\U0001f642" * k for k in range(n)],
            "layer": range(n),
        }
    )


@pytest.fixture(scope="module")
def model(bridge):
    return bridge("llama")


def test_what_is_on_disk_is_what_would_be_in_memory(model, tmp_path):
    prompts = prompts_of(model)
    here, there = capture(model, prompts, **ASKED), capture(model, prompts, **ASKED, out=tmp_path)
    xr.testing.assert_identical(there.load(), here)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    kept = {"program", "steps", "state.1", "share", "correct", "output", "prompt_layer"}
    assert set(here.coords) == {"layer", "role", *kept}
    assert here["steps"].dims == ("prompt",)


def test_a_capture_of_prompts_without_labels_has_none(model, tmp_path):
    acts = capture(model, Prompts.from_texts(model, TEXTS), **ASKED, out=tmp_path)
    assert set(acts.coords) == {"layer", "role"}


def test_labels_that_changed_are_those_of_the_prompts_given_last(model, tmp_path):
    prompts = prompts_of(model)
    capture(model, prompts, **ASKED, out=tmp_path)
    relabelled = dataclasses.replace(prompts, labels=prompts.labels.assign(correct=True, more="x"))
    there = capture(model, relabelled, **ASKED, out=tmp_path)
    assert there["correct"].values.all()
    assert set(there["more"].values) == {"x"}
    xr.testing.assert_identical(open_capture(tmp_path).load(), capture(model, relabelled, **ASKED))


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text("{}")])
def test_labels_that_are_gone_or_were_changed_are_refused(damage, model, tmp_path):
    capture(model, prompts_of(model), **ASKED, out=tmp_path)
    damage(tmp_path / "labels.json")
    with pytest.raises(PbbError, match="labels of the capture"):
        open_capture(tmp_path)
    capture(model, prompts_of(model), **ASKED, out=tmp_path)
    assert "program" in open_capture(tmp_path).coords


def test_opening_reads_no_activations(model, tmp_path):
    capture(model, prompts_of(model), **ASKED, out=tmp_path)
    for shard in tmp_path.glob("*.safetensors"):
        whole = shard.read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little")
        shard.write_bytes(whole[:header] + b"\xff" * (len(whole) - header))
        write_sealed(tmp_path / f".{shard.name}.json", {"sha256": file_hash(shard), "bytes": len(whole)})
    acts = open_capture(tmp_path)
    assert acts["program"].values.tolist() == labels_of(11)["program"].tolist()
    assert np.isnan(acts["z"].isel(layer=0).values).all()  # only now


@pytest.mark.parametrize(
    "some",
    [
        {"layer": 1},
        {"layer": [1, 0], "role": 1},
        {"prompt": slice(3, 9)},
        {"prompt": slice(10, 0, -3)},
        {"prompt": [10, 2, 2, 7], "layer": 0},
        {"prompt": 5, "role": 0},
        {"prompt": slice(4, 4)},
    ],
)
def test_any_selection_is_read(model, tmp_path, some):
    prompts = prompts_of(model)
    here, there = capture(model, prompts, **ASKED), capture(model, prompts, **ASKED, out=tmp_path)
    np.testing.assert_array_equal(there["z"].isel(some).values, here["z"].isel(some).values)
    np.testing.assert_array_equal(
        there["z"].isel(head=2, d_head=[0, 5]).isel(some), here["z"].isel(head=2, d_head=[0, 5]).isel(some)
    )


def test_a_stopped_capture_goes_on_where_it_was(model, tmp_path, monkeypatch):
    prompts, read = prompts_of(model), module._read
    starts = []

    def killed(*arguments):
        rows = arguments[-1]
        if rows.start == 8:
            raise KeyboardInterrupt
        starts.append((rows.start, rows.stop))
        return read(*arguments)

    monkeypatch.setattr(module, "_read", killed)
    with pytest.raises(KeyboardInterrupt):
        capture(model, prompts, **ASKED, out=tmp_path)
    with pytest.raises(PbbError, match=r"not finished or damaged \(1 of 3 shards"):
        open_capture(tmp_path)
    monkeypatch.setattr(module, "_read", lambda *a: (starts.append((a[-1].start, a[-1].stop)), read(*a))[1])
    there = capture(model, prompts, **ASKED, out=tmp_path)
    assert starts == [(0, 4), (4, 8), (0, 1), (8, 12)]  # of the first shard one prompt is read again, to compare
    xr.testing.assert_identical(there.load(), capture(model, prompts, **ASKED))


def test_another_capture_or_model_in_the_folder_is_refused(model, bridge, tmp_path):
    capture(model, prompts_of(model), **ASKED, out=tmp_path)
    with pytest.raises(PbbError, match="another capture"):
        capture(model, prompts_of(model, TEXTS[::-1]), **ASKED, out=tmp_path)
    with pytest.raises(PbbError, match="another capture"):
        capture(model, prompts_of(model), **ASKED | {"layers": [1]}, out=tmp_path)
    with pytest.raises(PbbError, match="another model"):
        capture(bridge("qwen3"), prompts_of(bridge("qwen3")), **ASKED, out=tmp_path)
    with pytest.raises(PbbError, match="There is no capture in"):
        open_capture(tmp_path / "nothing")


def test_probes_read_from_disk_what_they_read_from_memory(model, tmp_path):
    prompts = prompts_of(model)
    targets = pd.DataFrame({"even": [k % 2 == 0 for k in range(11)]})
    here, there = (
        fit_probes(acts, targets, clusters=range(11), folds=3)
        for acts in (capture(model, prompts, **ASKED), capture(model, prompts, **ASKED, out=tmp_path))
    )
    xr.testing.assert_identical(here, there)
