"""Attention knockout is held to plain hooks on bare Hugging Face models, a prompt, window and head at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import pbb_probe as pbb
from pbb_probe.hooking.answers import answer_ids
from pbb_probe.hooking.engines import choice
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching.knockout import knockout
from pbb_probe.patching.metrics import log_prob, probability

FAMILIES = ("llama", "qwen2", "qwen3", "gpt2", "neox", "mistral", "gemma2")
TEXTS = ("run fuxguk on 3 =", "please run zorpel on 41 now =", "fuxguk of 7 :")
SPANS = {"name": [(4, 10), (11, 17), (0, 6)], "input": [(14, 15), (21, 23), (10, 11)]}
EDGES = (("name", "answer"), ("input", "answer"), ("name", "input"), ("name", "name"))


def prompts_of(model, side="right") -> Prompts:
    return Prompts.from_texts(model, TEXTS, SPANS, padding_side=side)


def one_logit(logits):
    return logits[:, 70].float()


def attention_of(model, layer):
    kind = model.config.model_type
    if kind == "gpt2":
        return model.transformer.h[layer].attn
    return model.gpt_neox.layers[layer].attention if kind == "gpt_neox" else model.model.layers[layer].self_attn


def expected(model, row, layers, keys, queries, head=None):
    """Logits [position, d_vocab] of one unpadded row, the mask of these layers changed."""

    def change(_, args, kwargs):
        mask = kwargs["attention_mask"].repeat(1, 4, 1, 1)
        mask[:, slice(None) if head is None else head, queries, keys] = -torch.inf
        return args, kwargs | {"attention_mask": mask}

    handles = [attention_of(model, k).register_forward_pre_hook(change, with_kwargs=True) for k in layers]
    with torch.inference_mode():
        logits = model(row[None]).logits[0]
    for handle in handles:
        handle.remove()
    return logits


def by_hand(model, prompts, width, heads=False):
    """[edge, window, head, prompt] by one forward a cell."""
    n_layers = model.config.num_hidden_layers
    found = np.full((len(EDGES), n_layers + 1 - width, 4 if heads else 1, len(TEXTS)), np.nan)
    for i in range(len(TEXTS)):
        there = prompts.attention_mask[i].bool()
        start = int(there.long().argmax())
        row = prompts.tokens[i][there]
        answer = int(prompts.roles["answer"][i]) - start
        for e, edge in enumerate(EDGES):
            keys, queries = (
                slice(int(prompts.spans[r][i][0]) - start, int(prompts.spans[r][i][1]) + 1 - start) for r in edge
            )
            if keys.start == 0 and edge[1] == "name":
                continue  # its first token attends to nothing else
            for first in range(n_layers + 1 - width):
                for head in range(found.shape[2]):
                    layers = range(first, first + width)
                    logits = expected(model, row, layers, keys, queries, head if heads else None)
                    found[e, first, head, i] = one_logit(logits[answer][None])
    return found


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_cell_is_that_of_plain_hooks(family, width, side, bridge, bare):
    prompts = prompts_of(bridge(family), side).select([0, 1])
    cut = knockout(bridge(family), prompts, metric=one_logit, edges=EDGES, width=width)
    assert cut.attrs["method"] == "fewer layers and positions"
    reference = by_hand(bare(family), prompts_of(bridge(family), side), width)[:, :, 0, :2]
    spread = np.std(np.concatenate([cut["intact"].values, reference.ravel()]))
    assert np.abs(cut["cut"].values - reference).max() < 1e-5 * spread
    assert np.abs(reference - cut["intact"].values).max() > 0.05 * spread  # the reference itself is about something


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_heads_are_cut_one_by_one(family, bridge, bare):
    prompts = prompts_of(bridge(family)).select([0, 1])
    cut = knockout(bridge(family), prompts, metric=one_logit, edges=EDGES, heads=True)
    assert cut["cut"].dims == ("edge", "layer", "head", "prompt")
    reference = by_hand(bare(family), prompts_of(bridge(family)), 1, heads=True)[..., :2]
    assert np.abs(cut["cut"].values - reference).max() < 1e-5 * max(1, np.std(reference))


def test_a_window_of_all_layers_is_a_mask_given_to_the_model(bridge, bare):
    """No hook at all: Hugging Face takes a mask [row, 1, query, key] of all layers."""
    prompts = prompts_of(bridge("llama")).select([0])
    cut = knockout(bridge("llama"), prompts, metric=one_logit, edges=EDGES[:1], width=3)
    length = int(prompts.attention_mask[0].sum())
    mask = torch.full((length, length), -torch.inf).triu(1)
    first, last = prompts.spans["name"][0].tolist()
    mask[prompts.roles["answer"][0], first : last + 1] = -torch.inf
    with torch.inference_mode():
        logits = bare("llama")(prompts.tokens[:1, :length], attention_mask=mask[None, None]).logits[0, -1]
    assert float(cut["cut"].squeeze()) == pytest.approx(float(logits[70]), abs=1e-5)


def test_program_and_input_go_to_the_answer_where_they_were_planted():
    hf_model, tokenizer, corpus, _ = pbb.planted_model(n_layers=5, retrieve=2, states=(3,), output=4, n_programs=20)
    model = pbb.load_model(hf_model, tokenizer=tokenizer)
    prompts = pbb.make_prompts(corpus, model, n=20)
    right = answer_ids(model, prompts, list(prompts.labels["output"]))[:, 0]
    found = knockout(model, prompts, metric=probability(right))
    assert found["intact"].values == pytest.approx(1, abs=1e-3)
    lost = found["cut"].mean("prompt") < 0.1
    cells = lost.stack(cell=("edge", "layer"))
    places = [(str(edge), int(layer)) for edge, layer in cells["cell"].values[cells.values]]
    assert places == [("name -> answer", 2), ("input -> answer", 0)]  # the planted model reads inputs in block 0
    assert found["cut"].sel(edge="name -> input").values == pytest.approx(1, abs=1e-3)


def test_whole_answers_are_scored(bridge, bare):
    """Two answer tokens behind the prompt, each predicted with the edge cut where it was."""
    prompts, ids = prompts_of(bridge("llama")).select([0]), torch.tensor([[71, 33]])
    cut = knockout(bridge("llama"), prompts, metric=log_prob(ids), edges=EDGES[:1], width=2)
    answer = int(prompts.roles["answer"][0])
    row = torch.cat([prompts.tokens[0, : answer + 1], ids[0, :1]])
    keys = slice(int(prompts.spans["name"][0][0]), int(prompts.spans["name"][0][1]) + 1)
    for first in range(2):
        logits = expected(bare("llama"), row, range(first, first + 2), keys, slice(answer, answer + 1))
        said = logits.log_softmax(-1)[[answer, answer + 1], ids[0]].sum()
        assert float(cut["cut"][0, first, 0]) == pytest.approx(float(said), abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_hooks_on_the_whole_model_give_the_same(family, bridge, monkeypatch):
    prompts, settings = prompts_of(bridge(family)).select([0, 1]), {"edges": EDGES[:3], "heads": True}
    found = knockout(bridge(family), prompts, metric=one_logit, **settings)
    monkeypatch.setattr(choice, "ENGINES", (FullForward,))
    whole = knockout(bridge(family), prompts, metric=one_logit, **settings)
    assert whole.attrs["method"] == "full forward"
    np.testing.assert_allclose(found["cut"], whole["cut"], atol=1e-5)
    np.testing.assert_allclose(found["intact"], whole["intact"], atol=1e-5)


def test_what_a_prompt_lacks_is_missing_and_metrics_have_names(bridge):
    prompts = prompts_of(bridge("llama"))
    spans = prompts.spans["name"].clone()
    spans[1] = -1
    lacking = replace(prompts, spans=prompts.spans | {"name": spans})
    metrics = {"seventy": one_logit, "largest": lambda logits: logits.amax(-1)}
    found = knockout(bridge("llama"), lacking, metric=metrics, edges=EDGES[:2])
    assert found["cut"].dims == ("metric", "edge", "layer", "prompt")
    missing = found["cut"].isnull().all(("metric", "layer")).values.tolist()
    assert missing == [[False, True, False], [False, False, False]]
    alone = knockout(bridge("llama"), prompts, metric=one_logit, edges=EDGES[:2])
    kept = found["cut"].sel(metric="seventy").isel(prompt=[0, 2])
    np.testing.assert_allclose(kept, alone["cut"].isel(prompt=[0, 2]), atol=1e-6)


def test_a_sliding_window_may_leave_nothing(bridge):
    """Eight tokens behind the first: others may still be read without a window of eight, and nothing with it."""
    text = "run fuxguk on 3 then run zorpel ="
    for family, refused in (("llama", False), ("mistral", True)):
        model = bridge(family)
        prompts = Prompts.from_texts(model, [text], {"rest": [(4, len(text))]})
        assert int(prompts.roles["answer"][0]) - int(prompts.spans["rest"][0][0]) >= 7
        if refused:
            with pytest.raises(pbb.PbbError, match="nothing to attend to"):
                knockout(model, prompts, metric=one_logit, edges=[("rest", "answer")])
        else:
            assert knockout(model, prompts, metric=one_logit, edges=[("rest", "answer")])["cut"].notnull().all()


def test_bad_input_is_one_sentence(bridge):
    prompts = prompts_of(bridge("llama"))
    for said, arguments in (
        ("runs backwards", {"edges": [("answer", "name")]}),
        ("Unknown role 'nome'", {"edges": [("nome", "answer")]}),
        ("each pair once", {"edges": []}),
        ("each pair once", {"edges": [("name", "answer")] * 2}),
        ("must be a list of pairs", {"edges": "name"}),
        ("must be a list of pairs", {"edges": ["name", "answer"]}),
        ("must be a list of pairs", {"edges": [("name",)]}),
        ("must be a list of pairs", {"edges": [("name", "input", "answer")]}),
        ("must be a list of pairs", {"edges": None}),
        ("Unknown role 3", {"edges": [(3, "answer")]}),
        ("width must be at most 3", {"width": 4}),
        ("nothing to attend to", {"edges": [("name", "name")]}),
    ):
        with pytest.raises(pbb.PbbError, match=said) as caught:
            knockout(bridge("llama"), prompts, metric=one_logit, **arguments)
        assert "\n" not in str(caught.value)
