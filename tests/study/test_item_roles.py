"""The elements of lists and texts are places of a study: probed, patched and in its transfer map, if asked for."""

import numpy as np
import pytest
import xarray as xr
from spelled import spelling_model

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.hooking.load import load_model
from pbb_probe.labels import label
from pbb_probe.patching.metrics import answer_difference
from pbb_probe.runs.config import PatchingConfig, ProbingConfig, TransferConfig
from pbb_probe.study import steps

ROLES = ("item_1", "item_3", "answer")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A random model that spells numbers, with a word for every other word that it reads."""
    bare, opened = spelling_model("llama")
    out = tmp_path_factory.mktemp("spelling")
    bare.save_pretrained(out)
    opened.tokenizer.save_pretrained(out)
    return str(out)


@pytest.fixture(scope="module")
def corpus():
    return pbb.make_corpus("algorithms", with_io=90, without_io=90, seed=0)


def test_items_are_probed(model, corpus, tmp_path):
    config = ProbingConfig(
        **{"prompts": 60, "folds": 2, "sites": ("resid_post",), "roles": ROLES, "targets": ("input_1",)},
        **{"interchange": (), "lens": (), "controls": ("chance",)},
    )
    steps.probe(config, corpus, model, model, 0, tmp_path)
    acts = xr.load_dataset(tmp_path / "activations.nc")
    assert acts["role"].values.tolist() == list(ROLES)
    lacks = acts["resid_post"].isnull().all(("layer", "d_model")).sel(role="item_3").values
    assert (lacks == label(acts, "input_3").isna().to_numpy()).all()
    assert 0 < lacks.sum() < len(lacks)


def test_items_are_patched_as_pairs_with_items_are(model, corpus, tmp_path):
    config = PatchingConfig(pairs=12, sites=("resid_pre",), roles=ROLES)
    steps.patch(config, corpus, model, 0, tmp_path)
    opened = load_model(model)
    pairs = pbb.make_pairs(corpus, opened, "input", "with_io", 12, 0, True).with_items(opened)
    there = [role for role in ROLES if role in pairs.clean.roles]
    metric = answer_difference(*pairs.answer_ids(opened))
    expected = pbb.patch_sweep(opened, pairs.with_answered(opened), metric=metric, positions=there)
    found = xr.load_dataset(tmp_path / "input_with_io.nc")
    assert found["role"].values.tolist() == list(ROLES)
    np.testing.assert_allclose(found["resid_pre"].sel(role=there), expected["resid_pre"], atol=1e-6)
    assert found["resid_pre"].sel(role="item_1").notnull().any()


def test_other_roles_are_refused():
    for kind, field in ((ProbingConfig, "probing"), (PatchingConfig, "patching"), (TransferConfig, "transfer")):
        with pytest.raises(PbbError, match="item_x") as caught:
            kind(roles=("name", "item_x"))
        assert field in str(caught.value)
