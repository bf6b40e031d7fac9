"""Answers and inputs of several tokens: sweeps and the transfer map are plain hooks on bare models, a row at a time."""

import brute
import numpy as np
import pandas as pd
import pytest
import torch
from spelled import BEGINNINGS, spelling_model

from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching import transfer
from pbb_probe.patching.attribution import attribution_scores
from pbb_probe.patching.backward import back_patch
from pbb_probe.patching.metrics import answer_difference, logit_difference, probability
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import patch_sweep

ARCHITECTURES = ("llama", "gpt2")
CALLS = (("[3, 10, 7]", "[3, 12, 8]"), ("[21]", "[45]"), ("'oz', 4", "'qs', 4"), ("[1, 23]", "[12, 3]"))
"""The last two do not line up item by item."""
OUTPUTS = (("[7, 10, 3]", "19"), ("'ozqs'", "[]"), ("True", "'b'"), ("1", "2"))
ROLES = ("item_1", "item_3", "answer")


def side(model, k: int, padding_side="right", chosen=range(3)) -> Prompts:
    calls = [CALLS[i][k] for i in chosen]
    texts = [f"run on {call} :" for call in calls]
    spans = [(7, 7 + len(call)) for call in calls]
    labels = {"call": calls, "output": [OUTPUTS[i][k] for i in chosen]}
    return Prompts.from_texts(model, texts, {"input": spans}, labels, padding_side)


def pairs_of(model, padding_side="right") -> Pairs:
    return Pairs(side(model, 0, padding_side), side(model, 1, padding_side)).with_items(model)


def ids_of(model, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def spans_by_hand(model, i: int) -> dict[str, tuple[int, int] | None]:
    """The tokens of the elements, counted in the tokens as texts."""
    tokens = model.tokenizer.tokenize(f"run on {CALLS[i][0]} :")
    ends = [len(tokens) - 1] * 2
    items = {0: [(6, 6), (8, 9), (11, 11)], 1: [(6, 7)], 2: [(6, 6), (7, 7), (10, 10)]}[i]
    return {"item_1": items[0], "item_3": items[2] if len(items) == 3 else None, "answer": tuple(ends)}


def test_items_stand_where_they_are_read():
    _, model = spelling_model("llama")
    pairs = pairs_of(model)
    for i in range(3):
        for role, span in spans_by_hand(model, i).items():
            assert pairs.clean.spans[role][i].tolist() == list(span or (-1, -1)), (i, role)


def test_pairs_whose_items_do_not_line_up_are_left_out():
    _, model = spelling_model("llama")
    pairs = Pairs(*(side(model, k, chosen=(0, 3, 1)) for k in (0, 1)))
    assert len(pairs) == 3
    left = pairs.with_items(model)
    assert left.labels["call"].tolist() == ["[3, 10, 7]", "[21]"]


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_of_unequal_lengths_are_teacher_forced(architecture, padding_side):
    hf, model = spelling_model(architecture)
    pairs = pairs_of(model, padding_side)
    metric = answer_difference(*pairs.answer_ids(model))
    effects = patch_sweep(model, pairs, metric=metric, sites=["resid_pre", "mlp_out"], layers=[0, 1], positions=ROLES)
    expected = {site: np.full((2, len(ROLES), 3), np.nan) for site in ("resid_pre", "mlp_out")}
    unpatched = np.zeros((2, 3))
    for i in range(3):
        rows = [ids_of(model, f"run on {CALLS[i][k]} :") for k in (0, 1)]
        for sign, text in zip((1, -1), OUTPUTS[i], strict=True):
            answer = ids_of(model, text)
            clean, corrupted = (torch.tensor(row + answer[:-1]) for row in rows)

            def score(logits, answer=answer):
                behind = logits[-len(answer) :].log_softmax(-1)
                return float(behind[range(len(answer)), answer].sum())

            with torch.inference_mode():
                unpatched[:, i] += [sign * score(hf(row[None]).logits[0]) for row in (clean, corrupted)]
            for site, values in expected.items():
                for layer in (0, 1):
                    put = brute.activation(hf, clean, site, layer)
                    for r, span in enumerate(spans_by_hand(model, i).values()):
                        if span:
                            logits = brute.patched_logits(hf, corrupted, put, site, layer, [span])[0, 0]
                            values[layer, r, i] = np.nan_to_num(values[layer, r, i]) + sign * score(logits)
    assert np.allclose(effects["clean"], unpatched[0], atol=1e-4)
    assert np.allclose(effects["corrupted"], unpatched[1], atol=1e-4)
    for site, values in expected.items():
        assert np.allclose(effects[site], values, atol=1e-4, equal_nan=True), site
        assert np.isnan(values).sum() == 2  # `[21]` has no third element


def test_gradients_and_back_patching_leave_out_lacking_roles():
    _, model = spelling_model("llama")
    pairs = pairs_of(model)
    firsts = [ids[:, 0] for ids in pairs.answer_ids(model)]
    scores = attribution_scores(model, pairs, metric=logit_difference(*firsts), positions=ROLES)["resid_pre"]
    alone = attribution_scores(
        model, pairs.select([0, 2]), metric=logit_difference(*(x[[0, 2]] for x in firsts)), positions=ROLES
    )["resid_pre"]
    assert np.isnan(scores.sel(role="item_3")[:, 1]).all()
    assert not np.isnan(scores.sel(role="item_1")).any()
    assert np.allclose(scores[..., [0, 2]], alone, atol=1e-5)
    back = back_patch(model, pairs.clean, metric=probability(firsts[0]), roles=ROLES)["resid_pre"]
    assert np.isnan(back.sel(role="item_3")[..., 1]).all()
    assert not np.isnan(back.sel(role="item_3", source_layer=2, target_layer=0)[[0, 2]]).any()


def continued(hf, row: list[int], put, layer: int, span: tuple[int, int], n: int = 3) -> tuple[int, ...]:
    """What a model writes, token by token, while a stretch of its residual stream is another's."""
    for _ in range(n):
        logits = brute.patched_logits(hf, torch.tensor(row), put, "resid_pre", layer, [span])
        row = [*row, int(logits[0, 0, -1].argmax())]
    return tuple(row[-n:])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_transfer_map_reads_whole_answers(architecture, monkeypatch):
    """The answers of hypotheses are what the patched model writes, or its beginning, or part from it later on."""
    hf, model = spelling_model(architecture, only_beginnings=True)
    pairs = pairs_of(model)
    rows = [[ids_of(model, f"run on {CALLS[i][k]} :") for k in (0, 1)] for i in range(3)]
    cells = [(layer, role) for layer in (0, 1, 2) for role in ROLES]
    writes, predicted = [], []
    for i, (clean, corrupted) in enumerate(rows):
        of_pair = {}
        for layer, role in cells:
            if span := spans_by_hand(model, i)[role]:
                put = brute.activation(hf, torch.tensor(clean), "resid_pre", layer)
                of_pair[layer, role] = continued(hf, corrupted, put, layer, span)
        own, other = (
            continued(hf, row, brute.activation(hf, torch.tensor(row), "resid_pre", 0), 0, (0, 0))
            for row in (corrupted, clean)
        )
        seen = [w for w in dict.fromkeys(of_pair.values()) if w not in (own, other)]
        second = seen[0] if seen else other[::-1]
        strange = (*other[:2], next(i for i in range(3, len(BEGINNINGS)) if i != other[2]))  # parts at the third
        predicted.append({"nothing": own[:2], "everything": other, "program": second[: 1 + i], "input": strange})
        writes.append(of_pair)
    texts = [{name: model.tokenizer.decode(ids) for name, ids in answers.items()} for answers in predicted]
    assert all(ids_of(model, text) == list(predicted[i][name]) for i in range(3) for name, text in texts[i].items())
    monkeypatch.setattr(transfer, "hypotheses", lambda *_: pd.DataFrame(texts, dtype=object))
    carried = transfer.transfer_map(model, pairs, sites=["resid_pre"], roles=ROLES)["resid_pre"]
    met = set()
    for k, i in enumerate(carried["pair"].values):
        for layer, role in cells:
            found = carried.sel(layer=layer, role=role, pair=i).to_series()
            if (layer, role) not in writes[i]:
                assert found.isna().all()
                continue
            written = writes[i][layer, role]
            begun = {name: len(ids) for name, ids in predicted[i].items() if written[: len(ids)] == ids}
            follows = max(begun, key=begun.get) if begun else "other"
            assert found[found == 1].index.tolist() == [follows], (k, layer, role)
            met.add(follows)
    assert len(met) >= 3
