"""Activations at any tokens are those that plain torch hooks see, each prompt run alone and unpadded."""

import numpy as np
import pandas as pd
import pytest
import torch

from pbb_probe.errors import PbbError
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.positions import capture_tokens
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.labels import labels_of
from pbb_probe.probing.linear import fit_probes

TEXTS = ("run dolvik(7) :", "the value of zabrutim(4) is", "gaxnol of 3 is", "what is dolvik(12345) ?", "7")


def make(model, side="right") -> Prompts:
    return Prompts.from_texts(model, TEXTS, padding_side=side)


def some_tokens(prompts, seed=0) -> pd.DataFrame:
    """Two in three of the tokens of all prompts but one, shuffled, under an index that says nothing."""
    rows, positions = np.nonzero(prompts.attention_mask.numpy())
    table = pd.DataFrame({"prompt": rows, "position": positions})
    table = table[table["prompt"] != 2]
    return table.sample(frac=2 / 3, random_state=seed)


def reference(model, tokenizer, prompts, tokens, module):
    """[layer, token, width] of the outputs of a module in every block."""
    expected: list = []
    alone = {}
    for i, text in enumerate(prompts.texts):
        kept: list = []
        handles = [
            layer.get_submodule(module).register_forward_hook(
                lambda _, args, out, kept=kept: kept.append((out[0] if isinstance(out, tuple) else out)[0].clone())
            )
            for layer in (model.transformer.h if hasattr(model, "transformer") else model.model.layers)
        ]
        with torch.inference_mode():
            model(torch.tensor([tokenizer(text)["input_ids"]]))
        for handle in handles:
            handle.remove()
        alone[i] = torch.stack(kept)  # [layer, position, width]
    for row in tokens.itertuples():
        before = int(prompts.attention_mask[row.prompt].argmax())
        expected.append(alone[row.prompt][:, row.position - before])
    return torch.stack(expected, dim=1)


def close(values, expected) -> bool:
    return bool((torch.tensor(values) - expected.reshape(values.shape)).abs().max() < 1e-5 * expected.std())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("family", "site", "module"),
    [
        ("llama", "resid_post", ""),
        ("gpt2", "resid_post", ""),
        ("qwen3", "mlp_out", "mlp"),
        ("llama", "v", "self_attn.v_proj"),
    ],
)
def test_activations_are_those_of_the_bare_model(family, site, module, side, bridge, bare, tokenizer):
    prompts = make(bridge(family), side)
    tokens = some_tokens(prompts)
    assert len(set(tokens["prompt"])) == 4
    expected = reference(bare(family), tokenizer, prompts, tokens, module)
    for batch_size in (2, 256):
        acts = capture_tokens(bridge(family), prompts, tokens, (site,), batch_size=batch_size)
        assert acts[site].dims[:3] == ("layer", "role", "prompt")
        assert acts["role"].values.tolist() == ["token"]
        assert acts[site].dtype == np.float32
        assert close(acts[site].values, expected)
    assert not close(acts[site].values[:, :, ::-1].copy(), expected)  # rows reversed: the comparison can fail


def test_at_the_places_of_a_role_it_is_capture(bridge):
    model = bridge("llama")
    prompts = make(model)
    tokens = pd.DataFrame({"prompt": range(len(prompts)), "position": prompts.roles["answer"].numpy()})
    sites = ("z", "resid_pre")
    found = capture_tokens(model, prompts, tokens, sites, layers=[2, 0])
    expected = capture(model, prompts, sites, layers=[2, 0], roles=["answer"])
    for site in sites:
        assert found[site].dims == expected[site].dims
        assert close(found[site].values, torch.tensor(expected[site].values))
    assert list(found["layer"]) == [2, 0]


def test_tokens_carry_their_columns_and_the_labels_of_their_prompts(bridge):
    model = bridge("llama")
    labels = pd.DataFrame({"program": list("abcde")[: len(TEXTS)], "line": "of the prompt"})
    prompts = Prompts.from_texts(model, TEXTS, labels=labels)
    tokens = pd.DataFrame({"prompt": [2, 0, 2], "position": [0, 1, 0], "line": [7, 8, 9]}, index=[5, 3, 1])
    acts = capture_tokens(model, prompts, tokens)
    expected = {"program": ["c", "a", "c"], "line": [7, 8, 9], "position": [0, 1, 0], "prompt_index": [2, 0, 2]}
    assert labels_of(acts).to_dict("list") == expected


def test_each_prompt_that_has_tokens_is_run_once_and_no_further_than_needed(bridge):
    model = bridge("llama")
    prompts = make(model)
    blocks = [module for module in model.modules() if type(module).__name__ == "LlamaMLP"]
    seen: list = []
    handles = [
        block.register_forward_hook(lambda _, args, out, i=i: seen.append((i, len(args[0]))))
        for i, block in enumerate(blocks)
    ]
    try:
        capture_tokens(model, prompts, some_tokens(prompts), layers=[1], batch_size=3)
    finally:
        for handle in handles:
            handle.remove()
    assert seen[2:] == [(0, 3), (1, 3), (0, 1), (1, 1)]
    assert seen[:2] == [(0, 2), (1, 2)]  # the short run that looks at the axes of the activations


def test_probes_take_them_as_they_are(bridge):
    model = bridge("llama")
    prompts = Prompts.from_texts(model, TEXTS * 4)
    rows, positions = np.nonzero(prompts.attention_mask.numpy())
    tokens = pd.DataFrame({"prompt": rows, "position": positions})
    tokens["seven"] = (prompts.tokens[rows, positions] == model.tokenizer("7")["input_ids"][0]).numpy()
    probes = fit_probes(capture_tokens(model, prompts, tokens, ("resid_pre",)), tokens[["seven"]], tokens["prompt"])
    assert probes["correct"].sizes["prompt"] == len(tokens)
    assert probes["correct"].sel(layer=0).mean() > 0.99  # the token itself


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 99)], r"no token at position 99 of prompt 0 \(row 0 of the tokens\)"),
        ([(0, 0), (4, 5)], "no token at position 5 of prompt 4"),  # padding
        ([(5, 0)], "no token at position 0 of prompt 5"),
        ([(-1, 0)], "no token at position 0 of prompt -1"),
        ([], "There are no tokens"),
    ],
)
def test_tokens_that_are_not_there_are_refused(rows, message, bridge):
    tokens = pd.DataFrame(rows, columns=["prompt", "position"])
    with pytest.raises(PbbError, match=message):
        capture_tokens(bridge("llama"), make(bridge("llama")), tokens)


def test_what_cannot_be_captured_is_refused(bridge):
    prompts = make(bridge("llama"))
    tokens = some_tokens(prompts)
    with pytest.raises(PbbError, match="no column 'position'"):
        capture_tokens(bridge("llama"), prompts, tokens[["prompt"]])
    with pytest.raises(PbbError, match="Unknown site"):
        capture_tokens(bridge("llama"), prompts, tokens, ("residual",))
    with pytest.raises(PbbError, match="layers must be"):
        capture_tokens(bridge("llama"), prompts, tokens, layers=[3])


def test_a_nan_is_named_by_its_prompt(small_model):
    model = load_model(small_model("llama"))
    prompts = make(model)
    word = prompts.tokens[3, prompts.roles["answer"][3]]  # ` ?` stands in no other prompt
    next(module for module in model.modules() if isinstance(module, torch.nn.Embedding)).weight[word] = float("nan")
    tokens = some_tokens(prompts)
    with pytest.raises(PbbError, match="resid_post at layer 0 is NaN or infinite for prompt 3"):
        capture_tokens(model, prompts, tokens[tokens["prompt"] >= 1], batch_size=2)
