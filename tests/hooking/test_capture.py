"""What an opened model does is what the bare model does, each prompt run alone and unpadded.

Activations are those that plain torch hooks see; answers are those that a loop of forward passes finds.
"""

import pytest
import torch

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answers import with_answers
from pbb_probe.hooking.capture import capture
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.prompts import Prompts

TEXTS = ("run dolvik(7) :", "the value of zabrutim(4) is", "gaxnol of 3 is", "what is dolvik(12345) ?", "7")
WORDS = ("dolvik", "zabrutim", "gaxnol", "12345", "7")
FAMILIES = ("llama", "qwen3", "gpt2")
ANSWERS = ("'abc'", 1234, 7, "[1, -20]", "dolvik")
SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")


def make(model, side="right", texts=TEXTS, words=WORDS) -> Prompts:
    spans = [(text.index(word), text.index(word) + len(word)) for text, word in zip(texts, words, strict=True)]
    return Prompts.from_texts(model, texts, {"word": spans}, padding_side=side)


def first(value):
    return value[0] if isinstance(value, tuple) else value


def modules(model, site):
    """The bare module of a site at each layer, and whether its input or its output is the activation."""
    if model.config.model_type == "gpt2":
        names = {
            "resid_pre": ("", "input"),
            "resid_mid": ("ln_2", "input"),
            "resid_post": ("", "output"),
            "attn_out": ("attn", "output"),
            "mlp_out": ("mlp", "output"),
            "z": ("attn.c_proj", "input"),
        }
        layers = model.transformer.h
    else:
        names = {
            "resid_pre": ("", "input"),
            "resid_mid": ("post_attention_layernorm", "input"),
            "resid_post": ("", "output"),
            "attn_out": ("self_attn", "output"),
            "mlp_out": ("mlp", "output"),
            "z": ("self_attn.o_proj", "input"),
            "q": ("self_attn.q_proj", "output"),
            "k": ("self_attn.k_proj", "output"),
            "v": ("self_attn.v_proj", "output"),
        }
        layers = model.model.layers
    name, side = names[site]
    return [layer.get_submodule(name) for layer in layers], side


def seen(model, ids, site):
    """What the bare model computes at a site: a tensor [position, width] a layer."""
    kept, handles = [], []
    targets, side = modules(model, site)
    for module in targets:
        if side == "input":
            handles.append(module.register_forward_pre_hook(lambda _, args: kept.append(args[0][0].clone())))
        else:
            handles.append(module.register_forward_hook(lambda _, args, out: kept.append(first(out)[0].clone())))
    with torch.inference_mode():
        model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    assert len(kept) == len(targets)
    return kept


def reference(model, tokenizer, prompts, site):
    """[layer, role, prompt, width], each prompt run alone without padding; roles `word` and `answer`."""
    columns = []
    for i, text in enumerate(prompts.texts):
        ids = tokenizer(text)["input_ids"]
        start = int(prompts.attention_mask[i].argmax())
        places = [int(prompts.roles[role][i]) - start for role in ("word", "answer")]
        columns.append(torch.stack([layer[places] for layer in seen(model, ids, site)]))
    return torch.stack(columns, dim=2)


def close(values, expected) -> bool:
    expected = expected.reshape(values.shape)
    return bool((torch.tensor(values) - expected).abs().max() < 1e-5 * expected.std())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_those_of_the_bare_model(family, site, side, bridge, bare, tokenizer):
    prompts = make(bridge(family), side)
    acts = capture(bridge(family), prompts, sites=(site,), roles=("word", "answer"), batch_size=2)[site]
    expected = reference(bare(family), tokenizer, prompts, site)
    assert close(acts.values, expected)
    assert acts.dims[:3] == ("layer", "role", "prompt")
    assert acts.sizes["prompt"] == len(TEXTS)
    assert not close(acts.values[:, ::-1].copy(), expected)  # roles swapped: the comparison can fail


@pytest.mark.parametrize("site", ["q", "k", "v"])
def test_projections_are_those_of_the_bare_model_head_by_head(site, bridge, bare, tokenizer):
    prompts = make(bridge("llama"), "left")
    acts = capture(bridge("llama"), prompts, sites=(site,), batch_size=3)[site]
    assert acts.dims[3:] == ("head" if site == "q" else "kv_head", "d_head")
    assert acts.shape[3:] == (4 if site == "q" else 2, 8)
    assert close(acts.values, reference(bare("llama"), tokenizer, prompts, site))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_residual_stream_is_the_hidden_states(family, bridge, bare, tokenizer):
    model, prompts = bare(family), make(bridge(family))
    acts = capture(bridge(family), prompts, sites=("resid_pre", "resid_post"), roles=("answer",), batch_size=3)
    norm = model.transformer.ln_f if family == "gpt2" else model.model.norm
    for i, text in enumerate(TEXTS):
        with torch.inference_mode():
            states = model(torch.tensor([tokenizer(text)["input_ids"]]), output_hidden_states=True).hidden_states
            last = norm(torch.tensor(acts["resid_post"].values[-1, 0, i]))
        states = torch.stack([state[0, -1] for state in states])
        assert close(acts["resid_pre"].values[:, 0, i], states[:-1])
        assert close(acts["resid_post"].values[:-1, 0, i], states[1:-1])
        assert close(last.numpy(), states[-1])


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox"])
def test_padding_and_batches_change_nothing(family, bridge):
    model = bridge(family)
    right = capture(model, make(model), sites=("resid_post", "z"))
    for size in (1, 2, 5):
        left = capture(model, make(model, "left"), sites=("resid_post", "z"), batch_size=size)
        for site in ("resid_post", "z"):
            assert close(left[site].values, torch.tensor(right[site].values))


def test_subsets_are_labelled_slices_of_everything(bridge):
    model = bridge("llama")
    prompts = make(model)
    everything = capture(model, prompts, sites=("resid_post", "attn_out"))
    some = capture(model, prompts, sites=("attn_out",), layers=[2, 0], roles=["answer"])
    assert list(some.data_vars) == ["attn_out"]
    assert list(some["layer"]) == [2, 0]
    assert list(some["role"]) == ["answer"]
    assert close(
        some["attn_out"].values, torch.tensor(everything["attn_out"].sel(layer=[2, 0], role=["answer"]).values)
    )


def test_nothing_runs_above_the_last_layer_asked_for(bridge):
    model = bridge("llama")
    blocks = [module for module in model.modules() if type(module).__name__ == "LlamaMLP"]
    assert len(blocks) == 3
    runs = [0, 0, 0]

    def count(i):
        return lambda *_: runs.__setitem__(i, runs[i] + 1)

    handles = [block.register_forward_hook(count(i)) for i, block in enumerate(blocks)]
    try:
        capture(model, make(model), layers=[1, 0])
        assert runs == [2, 2, 0]  # one run of three tokens looks at the axes of the activations
        capture(model, make(model))
        assert runs == [4, 4, 2]
    finally:
        for handle in handles:
            handle.remove()


def test_what_the_model_does_not_have_is_refused(bridge):
    model = bridge("llama")
    prompts = make(model)
    with pytest.raises(PbbError, match="Unknown site 'residual'"):
        capture(model, prompts, sites=("residual",))
    for layers in ([3], [-1], [0, 99], []):
        with pytest.raises(PbbError, match="layers must be"):
            capture(model, prompts, layers=layers)
    with pytest.raises(PbbError, match="Unknown role 'subject'"):
        capture(model, prompts, roles=["answer", "subject"])


def test_parallel_blocks_have_no_middle(bridge):
    with pytest.raises(PbbError, match="no site 'resid_mid'"):
        capture(bridge("neox"), make(bridge("neox")), sites=("resid_mid",))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_nan_in_one_layer_is_named(bad, small_model):
    model = load_model(small_model("llama"))
    prompts = make(model)
    blocks = [module for module in model.modules() if type(module).__name__ == "LlamaMLP"]
    next(m for n, m in blocks[1].named_modules() if n.startswith("down_proj") and hasattr(m, "weight")).weight[0, 0] = (
        bad
    )
    with pytest.raises(PbbError, match="mlp_out at layer 1 is NaN or infinite for prompt 0"):
        capture(model, prompts, sites=("mlp_out",), batch_size=2)
    assert capture(model, prompts, sites=("mlp_out",), layers=[0])["mlp_out"].size


def test_a_nan_in_one_prompt_is_named(small_model):
    model = load_model(small_model("llama"))
    prompts = make(model)
    rows = [set(row[mask == 1].tolist()) for row, mask in zip(prompts.tokens, prompts.attention_mask, strict=True)]
    token = int(prompts.tokens[3, prompts.roles["word"][3]])  # the end of 12345
    assert [token in row for row in rows] == [False, False, False, True, False]
    next(module for module in model.modules() if isinstance(module, torch.nn.Embedding)).weight[token] = float("nan")
    with pytest.raises(PbbError, match="resid_pre at layer 0 is NaN or infinite for prompt 3"):
        capture(model, prompts, sites=("resid_pre",), batch_size=2)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_on_the_answer_itself_are_those_of_the_bare_model(family, side, bridge, bare, tokenizer):
    answered = with_answers(bridge(family), make(bridge(family), side), ANSWERS)
    acts = capture(bridge(family), answered, roles=("answer", "output"), batch_size=2)["resid_post"]
    columns = []
    for text, answer in zip(TEXTS, ANSWERS, strict=True):
        before = len(tokenizer(text)["input_ids"]) - 1
        layers = seen(bare(family), tokenizer(f"{text} {answer}")["input_ids"], "resid_post")
        columns.append(torch.stack([layer[[before, -1]] for layer in layers]))
    assert close(acts.values, torch.stack(columns, dim=2))
