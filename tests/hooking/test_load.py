"""The hooked model computes what the Hugging Face model computes, adapters included; anything else is refused."""

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from architectures import small
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CTRLConfig, CTRLLMHeadModel

from pbb_probe.errors import PbbError
from pbb_probe.hooking.load import load_model, untrained_model
from pbb_probe.models.parity import assert_parity

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "gpt2", "neox")
TOKENS = torch.tensor([[5, 17, 200, 31, 90, 4, 4, 255], [340, 8, 8, 77, 120, 33, 2, 19]])
PROJECTIONS = {"llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"]}


def same(logits, reference, tolerance=1e-4) -> bool:
    return (logits - reference).abs().max() / reference.std() < tolerance


@pytest.fixture(scope="module")
def adapted(small_model, tmp_path_factory):
    """`adapted(architecture)`: an adapter directory, and the logits of the model that PEFT runs it on."""
    from peft import LoraConfig, get_peft_model

    def make(architecture):
        model = AutoModelForCausalLM.from_pretrained(small_model(architecture))
        torch.manual_seed(1)
        lora = LoraConfig(
            r=4,
            lora_alpha=16,
            target_modules=PROJECTIONS[architecture],
            init_lora_weights=False,
            fan_in_fan_out=architecture == "gpt2",
            task_type="CAUSAL_LM",
        )
        peft_model = get_peft_model(model, lora).eval()
        directory = tmp_path_factory.mktemp("adapter")
        peft_model.save_pretrained(directory)
        return directory, peft_model(TOKENS).logits.detach()

    return make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_the_models_own(architecture, bridge, bare):
    with torch.inference_mode():
        reference = bare(architecture)(TOKENS).logits
        assert same(bridge(architecture)(TOKENS), reference)
        shuffled = bare(architecture)(TOKENS.flip(1)).logits
        assert not same(shuffled.flip(1), reference, 0.01)  # order matters: the comparison can fail


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_in_memory_is_opened_with_its_changes(architecture, small_model, bare, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(small_model(architecture))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
        reference = model.eval()(TOKENS).logits
        opened = load_model(model, tokenizer)
        assert same(opened(TOKENS), reference)
        assert not same(opened(TOKENS), bare(architecture)(TOKENS).logits, 0.01)
    assert opened.tokenizer.decode(opened.tokenizer("call it")["input_ids"]) == "call it"
    assert not opened.training


def test_a_model_in_memory_brings_the_tokenizer_of_its_directory_or_none(small_model, bare):
    directory = small_model("llama")
    opened = load_model(AutoModelForCausalLM.from_pretrained(directory))
    ids = opened.tokenizer("run it")["input_ids"]
    assert opened.tokenizer.decode(ids) == "run it"
    assert max(ids) < opened.cfg.d_vocab
    nameless = AutoModelForCausalLM.from_config(bare("llama").config)
    nameless.config.name_or_path = ""
    assert load_model(nameless).tokenizer is None


@pytest.mark.parametrize("architecture", PROJECTIONS)
def test_an_adapter_is_merged(architecture, adapted, small_model, bare):
    adapter, reference = adapted(architecture)
    assert not same(bare(architecture)(TOKENS).logits, reference, 0.1)  # the adapter changes a lot
    assert same(load_model(small_model(architecture), adapter=adapter)(TOKENS), reference)
    in_memory = AutoModelForCausalLM.from_pretrained(small_model(architecture))
    assert same(load_model(in_memory, adapter=str(adapter))(TOKENS), reference)


def test_an_adapter_is_merged_before_the_weights_are_rounded(adapted, small_model):
    adapter, reference = adapted("llama")
    opened = load_model(small_model("llama"), adapter=adapter, dtype=torch.bfloat16)
    assert opened(TOKENS).dtype == torch.bfloat16
    assert same(opened(TOKENS).float(), reference, 0.3)
    assert not same(opened(TOKENS).float(), reference)  # it was rounded


@pytest.fixture
def damaged_adapter(adapted, tmp_path) -> Path:
    return Path(shutil.copytree(adapted("llama")[0], tmp_path / "adapter"))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_without_one_of_its_files_is_refused(name, damaged_adapter, small_model):
    (damaged_adapter / name).unlink()
    with pytest.raises(PbbError, match="is no PEFT adapter"):
        load_model(small_model("llama"), adapter=damaged_adapter)


def test_a_missing_adapter_directory_is_refused(small_model, tmp_path):
    with pytest.raises(PbbError, match="is no PEFT adapter"):
        load_model(small_model("llama"), adapter=tmp_path / "none")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_truncated_adapter_is_refused(name, damaged_adapter, small_model):
    path = damaged_adapter / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(PbbError, match="does not fit"):
        load_model(small_model("llama"), adapter=damaged_adapter)


def test_an_adapter_of_another_architecture_is_refused(adapted, small_model):
    with pytest.raises(PbbError, match="does not fit"):
        load_model(small_model("gpt2"), adapter=adapted("llama")[0])


def test_an_adapter_of_another_rank_than_it_says_is_refused(damaged_adapter, small_model):
    path = damaged_adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 2}))
    with pytest.raises(PbbError, match="does not fit"):
        load_model(small_model("llama"), adapter=damaged_adapter)


def test_an_adapter_with_a_missing_weight_is_refused(damaged_adapter, small_model):
    path = damaged_adapter / "adapter_model.safetensors"
    weights = load_file(path)
    weights.pop(max(name for name in weights if "lora_B" in name))
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(PbbError, match="adapter"):
        load_model(small_model("llama"), adapter=damaged_adapter)


def test_parity_refuses_other_logits_and_nan():
    reference = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    assert_parity(reference + 1e-6, reference)
    other = reference.clone()
    other[1, 4, 6] += 0.01  # one logit of seventy
    with pytest.raises(PbbError, match="differ"):
        assert_parity(other, reference)
    assert_parity(other, reference, at_most=0.05)
    other[1, 4, 6] = float("nan")
    for pair in ((other, reference), (reference, other), (other, other)):
        with pytest.raises(PbbError, match="NaN"):
            assert_parity(*pair)


def test_weights_with_nan_are_refused(small_model, tmp_path):
    directory = Path(shutil.copytree(small_model("llama"), tmp_path / "model"))
    weights = load_file(directory / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][3, 3] = float("nan")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PbbError, match="NaN"):
        load_model(directory)


def test_an_architecture_transformer_lens_does_not_know_is_refused():
    model = CTRLLMHeadModel(CTRLConfig(vocab_size=40, n_embd=16, n_layer=1, n_head=2, dff=16, n_positions=32))
    with pytest.raises(PbbError, match="TransformerLens cannot open CTRLLMHeadModel"):
        load_model(model)


def test_an_opened_model_asks_for_no_gradients(bridge):
    assert not any(parameter.requires_grad for parameter in bridge("llama").parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_untrained_model_has_the_same_shape_and_weights_of_its_own(architecture, bridge):
    model = bridge(architecture)
    before = {name: weight.clone() for name, weight in model.original_model.state_dict().items()}
    one, again, other = (untrained_model(model, seed) for seed in (1, 1, 2))
    with torch.inference_mode():
        logits = [run(TOKENS) for run in (model, one, again, other)]
    assert {found.shape for found in logits} == {logits[0].shape}
    assert torch.equal(logits[1], logits[2])
    assert not torch.allclose(logits[1], logits[3], atol=0.01)
    assert not torch.allclose(logits[1], logits[0], atol=0.01)
    assert one.tokenizer("run zabrut(4)") == model.tokenizer("run zabrut(4)")
    assert all(torch.equal(weight, before[name]) for name, weight in model.original_model.state_dict().items())
    spread = float(one.original_model.get_input_embeddings().weight.std())
    assert spread == pytest.approx(0.3, rel=0.05)  # the initializer_range of these configs


def test_an_untrained_model_leaves_the_random_stream_alone(bridge):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    untrained_model(bridge("llama"), seed=7)
    assert torch.equal(torch.rand(3), expected)


def test_the_dtype_may_be_a_name(small_model):
    opened = load_model(small_model("llama"), dtype="bfloat16")
    assert opened.original_model.dtype == opened.cfg.dtype == torch.bfloat16
    for dtype in ("int8", "bfloat17", "float8_e4m3fn", torch.int64, 16):
        with pytest.raises(PbbError, match="Unknown dtype"):
            load_model(small_model("llama"), dtype=dtype)


@pytest.mark.parametrize("architecture", ["llama", "llama3", "gpt2", "neox", "gemma2"])
def test_half_precision_is_that_of_hugging_face(architecture, small_model):
    """To the last bit: the frequencies of rotary embeddings stay in float32, as Hugging Face keeps them."""
    opened = load_model(small_model(architecture), dtype=torch.bfloat16)
    expected = AutoModelForCausalLM.from_pretrained(
        small_model(architecture), dtype=torch.bfloat16, attn_implementation="eager"
    )
    for name, buffer in expected.named_buffers():
        if buffer.is_floating_point() and name.endswith("inv_freq"):
            (found,) = [b for key, b in opened.original_model.named_buffers() if key.endswith(name.split(".")[-1])][:1]
            assert buffer.dtype == found.dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(opened(TOKENS), expected.eval()(TOKENS).logits)


def test_a_model_in_half_precision_is_opened(nano):
    """Its attention rounds otherwise side by side than alone: no reason to call it another model."""
    directory = Path(load_model(nano).original_model.config.name_or_path)
    for dtype in (torch.bfloat16, torch.float16):
        opened = load_model(AutoModelForCausalLM.from_pretrained(directory, dtype=dtype))
        assert opened.original_model.dtype == dtype
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    model.model.forward = functools.partial(_shifted, model.model.forward)
    with pytest.raises(PbbError, match="not causal"):
        load_model(model)


def _shifted(forward, *args, **kwargs):
    """A model in which each position looks at the one behind it."""
    out = forward(*args, **kwargs)
    out.last_hidden_state = out.last_hidden_state.roll(-1, dims=1)
    return out


def test_half_precision_that_cannot_be_run_is_refused():
    with pytest.raises(PbbError, match="TransformerLens opens CodeGenForCausalLM and cannot run it"):
        load_model(small("codegen"), dtype="bfloat16")
    assert load_model(small("xglm"), dtype="bfloat16")(TOKENS % 90).dtype == torch.bfloat16


def test_weights_a_model_keeps_in_float32_stay_so():
    """The correction of DeepSeek's router is named by its class; in bfloat16 it would choose other experts."""
    opened = load_model(small("deepseek"), dtype=torch.bfloat16)
    kept = {
        name.rpartition(".")[2]: tensor.dtype
        for name, tensor in opened.original_model.state_dict().items()
        if "correction" in name or "down_proj" in name
    }
    assert kept["e_score_correction_bias"] == torch.float32
    assert kept["down_proj"] == torch.bfloat16


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "gpu", "", 5])
def test_a_device_that_is_not_there_is_refused(device, small_model):
    if str(device).startswith("cuda") and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(PbbError, match=f"There is no device '{device}'"):
        load_model(small_model("llama"), device=device)


def test_a_model_that_returns_tuples_is_opened(small_model, bare):
    model = AutoModelForCausalLM.from_pretrained(small_model("llama"))
    model.config.return_dict = False
    assert same(load_model(model)(TOKENS), bare("llama")(TOKENS).logits)


def test_a_model_whose_own_code_fails_is_refused_in_words(small_model):
    model = AutoModelForCausalLM.from_pretrained(small_model("llama"))
    model.model.layers[1].mlp.forward = lambda x: x[0, 0, 0, 0]
    with pytest.raises(PbbError, match="LlamaForCausalLM itself cannot be run on tokens"):
        load_model(model)


def test_a_bridge_that_computes_otherwise_with_padding_is_refused(small_model, monkeypatch):
    """Parity is checked as the model is used: prompts of unequal lengths side by side."""
    from transformer_lens import TransformerBridge

    whole = TransformerBridge.forward

    def forward(self, tokens, *args, **kwargs):
        logits = whole(self, tokens, *args, **kwargs)
        return logits if len(tokens) == 1 else logits + 0.01 * tokens[:, -1:, None]  # looks at what stands behind

    monkeypatch.setattr(TransformerBridge, "forward", forward)
    with pytest.raises(PbbError, match="differ from the model's own"):
        load_model(small_model("llama"))
