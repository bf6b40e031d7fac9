"""The lens is held to the bare Hugging Face model, each prompt run alone: its own norm and head, and plain hooks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from transformer_lens.tools.analysis import logit_lens
from transformers import AutoModelForCausalLM

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answering import answer_logits
from pbb_probe.hooking.answers import answer_ids
from pbb_probe.hooking.calls import make_prompts
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.labels import labels_of
from pbb_probe.models.bases import resolve_base
from pbb_probe.probing.controls import shuffled_values
from pbb_probe.probing.lens import lens

FAMILIES = ("llama", "gpt2", "neox", "gemma2")
TEXTS = ("run dolvik(7) :", "the value of zabrutim(4) is", "gaxnol of 3 is", "what is dolvik(2) ?", "7")
WORDS = ("dolvik", "zabrutim", "gaxnol", "2", "7")
VARIABLES = pd.DataFrame({"state_1": [3.0, np.nan, 5.0, 0.0, 7.0], "output": [9, 1, 3, 5, 7]})
VALUES = ["0", "1", "3", "5", "7", "9"]


def make(model, side="right") -> Prompts:
    spans = [(text.index(word), text.index(word) + len(word)) for text, word in zip(TEXTS, WORDS, strict=True)]
    return Prompts.from_texts(model, TEXTS, {"word": spans}, padding_side=side)


def parts(hf):
    """The blocks, the final norm and what makes logits of its output."""
    if hf.config.model_type == "gpt2":
        return hf.transformer.h, hf.transformer.ln_f, hf.lm_head
    if hf.config.model_type == "gpt_neox":
        return hf.gpt_neox.layers, hf.gpt_neox.final_layer_norm, hf.get_output_embeddings()
    cap = getattr(hf.config, "final_logit_softcapping", None)
    return hf.model.layers, hf.model.norm, (lambda x: cap * torch.tanh(hf.lm_head(x) / cap)) if cap else hf.lm_head


def run(hf, ids, layer, change):
    """The logits at the last of ids while `change` is called on what a block puts out [1, position, d_model]."""
    handle = parts(hf)[0][layer].register_forward_hook(
        lambda _, __, output: change(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        logits = hf(torch.tensor([ids])).logits[0, -1]
    handle.remove()
    return logits


def residual(hf, ids, layer, position):
    kept = []
    run(hf, ids, layer, lambda output: kept.append(output[0, position].clone()))
    return kept[0]


def by_hand(hf, tokenizer, prompts, tokens, read):
    """The measures of `read(residual, layer, prompt) -> logits, scores [candidate]` for every place, in loops."""
    found = {name: [] for name in ("log_prob", "rank", "probability", "correct")}
    for name in VARIABLES:
        for layer in range(3):
            for role in ("word", "answer"):
                for i, text in enumerate(TEXTS):
                    ids = tokenizer(text)["input_ids"]
                    shift = 0 if prompts.attention_mask[i, 0] else prompts.tokens.shape[1] - len(ids)
                    h = residual(hf, ids, layer, int(prompts.roles[role][i]) - shift)
                    logits, scores = read(h, layer, i)
                    if np.isnan(VARIABLES[name][i]):
                        values = [np.nan] * 4
                    else:
                        right = VALUES.index(str(int(VARIABLES[name][i])))
                        log_probs = logits.log_softmax(0)
                        values = [
                            log_probs[tokens[right]],
                            (logits > logits[tokens[right]]).sum(),
                            scores.softmax(0)[right],
                            # a prompt that is its own stripped text has nothing left once that is subtracted
                            np.inf if scores.max() - scores.min() < 1e-4 else float(scores.argmax() == right),
                        ]
                    for measure, value in zip(found, values, strict=True):
                        found[measure].append(float(value))
    return {name: np.array(values).reshape(2, 3, 2, 5) for name, values in found.items()}


def agree(seen, expected):
    assert list(seen["value"].values) == VALUES
    for name, values in expected.items():
        assert seen[name].dims == ("variable", "layer", "role", "prompt")
        told = ~np.isinf(values)
        assert told.mean() > 0.7
        assert np.allclose(seen[name].values[told], values[told], atol=2e-4, equal_nan=True), name
    assert 0 < np.nanmean(expected["correct"][~np.isinf(expected["correct"])]) < 1


@pytest.fixture
def tokens(tokenizer):
    ids = [tokenizer(f" {value}")["input_ids"] for value in VALUES]
    assert all(len(one) == 1 for one in ids)
    return torch.tensor(ids)[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_logit_lens_is_the_bare_models_norm_and_head(family, side, bridge, bare, tokenizer, tokens):
    model, hf = bridge(family), bare(family)
    prompts = make(model, side)
    seen = lens(model, prompts, VARIABLES, roles=("word", "answer"), batch_size=2)
    _, norm, head = parts(hf)

    def read(h, layer, i):
        with torch.no_grad():
            logits = head(norm(h))
        return logits, logits[tokens]

    agree(seen, by_hand(hf, tokenizer, prompts, tokens, read))
    own = answer_logits(model, prompts)[:, tokens].softmax(1)
    top = seen["candidates"].sel(layer=2, role="answer").transpose("prompt", "value")
    assert np.allclose(top, own, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_logit_lens_is_transformer_lenss(family, bridge, tokenizer, tokens):
    model = bridge(family)
    seen = lens(model, make(model), VARIABLES).sel(role="answer", variable="output")
    for i, text in enumerate(TEXTS):
        target = int(tokens[VALUES.index(str(VARIABLES["output"][i]))])
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        theirs = logit_lens(model, ids, targets=target, return_type="log_probs")  # 0_pre, 1_pre, 2_pre, final_post
        assert np.allclose(seen["log_prob"][:, i], theirs.values[1:].flatten(), atol=1e-4)
        assert seen["rank"][:, i].values.tolist() == theirs.rank_trajectory(target)[1:].flatten().tolist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("side", "target", "subtract"), [("right", None, True), ("left", "the value is", False)])
def test_stripped_decoding_is_that_of_plain_hooks(family, side, target, subtract, bridge, bare, tokenizer, tokens):
    model, hf = bridge(family), bare(family)
    prompts = make(model, side)
    settings = {"decode": "stripped", "target": target, "subtract": subtract}
    seen = lens(model, prompts, VARIABLES, roles=("word", "answer"), batch_size=3, **settings)

    def read(h, layer, i):
        ids = tokenizer(target or TEXTS[i])["input_ids"]
        ids = ids if target else ids[-1:]

        def put(output):
            output[:, -1] = h

        logits = run(hf, ids, layer, put)
        alone = run(hf, ids, layer, lambda output: None)
        return logits, logits[tokens] - (alone[tokens] if subtract else 0)

    agree(seen, by_hand(hf, tokenizer, prompts, tokens, read))
    if not subtract:  # behind the last block there is the residual alone: the model's own answer
        own = answer_logits(model, prompts)[:, tokens].softmax(1)
        top = seen["candidates"].sel(layer=2, role="answer").transpose("prompt", "value")
        assert np.allclose(top, own, atol=1e-5)


def test_calls_of_the_packaged_model_are_stripped_to_their_last_token_behind_bos(bridge, corpus):
    model, hf = bridge("nano"), AutoModelForCausalLM.from_pretrained(resolve_base("nano")).eval()
    prompts = make_prompts(corpus, model, n=6, answered=True)
    seen = lens(model, prompts, prompts.labels[["state_1", "output"]], values=range(10), decode="stripped")
    assert seen["value"].values.tolist() == [str(digit) for digit in range(10)]
    missing = seen["log_prob"].sel(variable="state_1").isnull().all(["layer", "role"])
    assert (missing.values == prompts.labels["state_1"].isna()).all()
    assert missing.any()
    digits = torch.tensor(
        [model.tokenizer(str(digit), add_special_tokens=False)["input_ids"][0] for digit in range(10)]
    )
    for i in (0, 7):
        ids = model.tokenizer(prompts.texts[i])["input_ids"]
        assert ids[0] == model.tokenizer.bos_token_id
        h = residual(hf, ids, 1, -1)

        def put(output, h=h):
            output[:, -1] = h

        expected = run(hf, [ids[0], ids[-1]], 1, put)[digits].softmax(0)
        assert np.allclose(seen["candidates"].sel(layer=1, role="answer")[:, i], expected, atol=1e-5)


def test_values_follow_a_turn_of_a_chat_as_they_do_in_training(chat_model, corpus):
    model = load_model(chat_model("chatml"))
    prompts = make_prompts(corpus, model, n=3)
    output = prompts.labels[["output"]]
    seen = lens(model, prompts, output).sel(variable="output", role="answer", layer=2)
    ids = answer_ids(model, prompts, list(output["output"]))
    own = answer_logits(model, prompts).log_softmax(1).gather(1, ids)[:, 0]
    assert np.allclose(seen["log_prob"], own, atol=1e-4)


def test_a_value_that_block_1_writes_is_read_from_there_on_and_said_before(small_model, tokenizer):
    """Blocks that add nothing but, behind block 1, the direction of 7: the blocks above layer 0 will still say it."""
    hf = AutoModelForCausalLM.from_pretrained(small_model("gpt2"))
    seven = tokenizer(" 7")["input_ids"][0]
    with torch.no_grad():
        for layer, block in enumerate(hf.transformer.h):
            for module in (block.attn.c_proj, block.mlp.c_proj):
                module.weight.zero_()
                module.bias.zero_()
            if layer == 1:
                block.mlp.c_proj.bias += 100 * hf.lm_head.weight[seven]
    model = load_model(hf, tokenizer)
    variables = pd.DataFrame({"output": [7] * 5})
    settings = {"values": [1, 3, 7], "layers": [0, 1, 2]}
    read = lens(model, make(model), variables, **settings).sel(variable="output", role="answer")
    assert (read["correct"].sel(layer=[1, 2]) == 1).all()
    assert (read["rank"].sel(layer=[1, 2]) == 0).all()
    assert read["correct"].sel(layer=0).mean() < 1
    said = lens(model, make(model), variables, decode="stripped", **settings).sel(variable="output", role="answer")
    assert (said["correct"] == 1).all()
    # the target prompt says it too: with that taken away only what the residual brings along is left
    less = lens(model, make(model), variables, decode="stripped", subtract=True, **settings)["candidates"]
    assert np.allclose(less.sel(layer=0), 1 / 3, atol=0.02)


def test_the_control_is_the_lens_on_shuffled_values(bridge, corpus):
    model = bridge("nano")
    prompts = make_prompts(corpus, model, n=6)
    prompts = replace(prompts, labels=prompts.labels.assign(correct=True))
    settings = {"decode": "stripped", "subtract": True, "batch_size": 5}
    both = lens(model, prompts, ["state_1", "output"], controls=["shuffled"], seed=3, **settings)
    assert both["control"].values.tolist() == ["none", "shuffled"]
    dealt = shuffled_values(prompts.labels[["state_1", "output"]], seed=3)
    for control, values in (("none", prompts.labels[["state_1", "output"]]), ("shuffled", dealt)):
        xr.testing.assert_identical(both.sel(control=control, drop=True), lens(model, prompts, values, **settings))
    assert (both["probability"].sel(control="none") != both["probability"].sel(control="shuffled")).any()
    assert labels_of(both)["prompt_correct"].all()
    assert labels_of(both)["program"].tolist() == prompts.labels["program"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variables": VARIABLES[:-1]}, "5 prompts and 4 rows"),
        ({"variables": VARIABLES[[]]}, "no value to look for"),
        ({"variables": VARIABLES * np.nan}, "no value to look for"),
        ({"variables": VARIABLES[["output"]] * 0 + 25, "values": [25]}, "none is told by its first token"),
        ({"values": [1, 3, 5, 7, 9]}, "value '0' of 'state_1' is not among the candidates"),
        ({"roles": ("name",)}, "Unknown role 'name'"),
        ({"layers": [3]}, "between 0 and 2"),
        ({"decode": "tuned"}, "choose from logit, stripped"),
        ({"target": "the value is"}, "the logit lens has none"),
        ({"variables": ["state_1"]}, "Unknown label 'state_1' in variables"),
        ({"controls": ["chance"]}, "controls must be a list of different controls out of shuffled"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message, bridge):
    model = bridge("llama")
    arguments = {"variables": VARIABLES} | change
    with pytest.raises(PbbError, match=message):
        lens(model, make(model), **arguments)
