"""Roles of elements stand on the tokens that spell them, and a prompt without one is NaN there and nowhere else."""

import numpy as np
import pytest
import torch
from spelled import spelling_model

from pbb_probe.errors import PbbError
from pbb_probe.hooking.calls import make_prompts
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.items import with_items
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.elements import element_spans


@pytest.fixture(scope="module")
def corpora():
    return {family: make_corpus(family, with_io=8, without_io=0) for family in ("algorithms", "ciphers")}


@pytest.mark.parametrize("mode", ["direct", "trace"])
@pytest.mark.parametrize("family", ["algorithms", "ciphers"])
def test_each_element_is_spelled_by_its_tokens(family, mode, corpora):
    _, model = spelling_model("llama")
    prompts = with_items(model, make_prompts(corpora[family], model, mode=mode, n=40), most=5)
    assert [role for role in prompts.roles if role.startswith("item_")] == [f"item_{k}" for k in range(1, 6)]
    lacking = 0
    for i, call in enumerate(prompts.labels["call"]):
        elements = [call[start:end] for start, end in element_spans(call)]
        for k in range(5):
            first, last = prompts.spans[f"item_{k + 1}"][i].tolist()
            if k >= len(elements):
                assert (first, last) == (-1, -1)
                lacking += 1
            else:
                pieces = model.tokenizer.convert_ids_to_tokens(prompts.tokens[i, first : last + 1])
                assert "".join(piece.removeprefix("##") for piece in pieces) == elements[k].replace(" ", "")
    assert lacking


def texts_of(model, side="right") -> Prompts:
    calls = ["[3, 10]", "[7]", "'ozq'"]
    texts = [f"of {call} is" for call in calls]
    return Prompts.from_texts(model, texts, {"input": [(3, 3 + len(c)) for c in calls]}, {"call": calls}, side)


@pytest.mark.parametrize("side", ["right", "left"])
def test_activations_are_those_of_the_bare_model_or_missing(side):
    hf, model = spelling_model("gpt2")
    prompts = with_items(model, texts_of(model, side))
    acts = capture(model, prompts, layers=[1])["resid_post"][0]
    places = {"item_1": (3, 3, 3), "item_2": (6, None, 4), "item_3": (None, None, 5)}
    for i, text in enumerate(prompts.texts):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            states = hf(ids, output_hidden_states=True).hidden_states[2][0]
        for role, at in places.items():
            found = acts.sel(role=role)[i].values
            if at[i] is None:
                assert np.isnan(found).all()
            else:
                assert np.allclose(found, states[at[i]], atol=1e-4)


def test_letters_that_share_a_token_have_no_role(bridge):
    model = bridge("llama")  # whose byte pairs are longer than letters
    text = "dolvik('zabrutim')"
    prompts = Prompts.from_texts(model, [text], {"input": [(7, 17)]}, {"call": ["'zabrutim'"]})
    offsets = model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    alone = {start - 7 for start, end in offsets if 8 <= start < 16 and end == start + 1}
    assert 0 < len(alone) < 8
    found = with_items(model, prompts)
    assert {int(role[5:]) for role in found.roles if role.startswith("item_")} == alone


def test_what_has_no_items_is_refused(bridge):
    _, model = spelling_model("llama")
    prompts = texts_of(model)
    with pytest.raises(PbbError, match="by the label 'call'"):
        with_items(model, Prompts.from_texts(model, ["of [3] is"]))
    with pytest.raises(PbbError, match="does not stand at the role 'input' of prompt 0"):
        with_items(bridge("llama"), prompts)
    with pytest.raises(PbbError, match="No element of these calls"):
        with_items(model, Prompts.from_texts(model, ["of 7 is"], {"input": [(3, 4)]}, {"call": ["7"]}))
