"""A merged adapter computes what PEFT computes with it unmerged, whatever it adapts; others are refused."""

import warnings

import pytest
import torch
from peft import (
    IA3Config,
    LoHaConfig,
    LoraConfig,
    OFTConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.hooking.load import load_model
from pbb_probe.models.adapters import merged

TOKENS = torch.tensor([[5, 17, 200, 31, 90, 4, 4, 255], [340, 8, 8, 77, 120, 33, 2, 19]])
LORA = {"r": 4, "lora_alpha": 16, "init_lora_weights": False, "task_type": "CAUSAL_LM"}
EVERY = ["q_proj", "v_proj", "down_proj"]
# the architecture, whose embeddings are tied in `llama3` and `gemma2`, and the adapter on it
KINDS = {
    "projections": ("llama", LoraConfig(**LORA, target_modules=EVERY)),
    "dora": ("llama", LoraConfig(**LORA, target_modules=EVERY, use_dora=True)),
    "rank-stabilised": ("qwen3", LoraConfig(**LORA, target_modules=EVERY, use_rslora=True)),
    "with biases": ("qwen2", LoraConfig(**LORA, target_modules=["q_proj"], bias="lora_only")),
    "tied input embedding": ("llama3", LoraConfig(**LORA, target_modules=["embed_tokens", "q_proj"])),
    "tied output embedding": ("llama3", LoraConfig(**LORA, target_modules=["lm_head", "q_proj"])),
    "both tied embeddings": ("llama3", LoraConfig(**LORA, target_modules=["embed_tokens", "lm_head"])),
    "kept tied": ("llama3", LoraConfig(**LORA, target_modules=["embed_tokens"], ensure_weight_tying=True)),
    "tied embedding of gemma2": ("gemma2", LoraConfig(**LORA, target_modules=["embed_tokens"])),
    "tied embedding of gpt2": ("gpt2", LoraConfig(**LORA, target_modules=["wte"], fan_in_fan_out=True)),
    "fused projection": ("gpt2", LoraConfig(**LORA, target_modules=["c_attn"], fan_in_fan_out=True)),
    "fused, parallel": ("neox", LoraConfig(**LORA, target_modules=["query_key_value"])),
    "trained embedding": ("llama3", LoraConfig(**LORA, target_modules=["q_proj"], modules_to_save=["embed_tokens"])),
    "trained unembedding": ("llama3", LoraConfig(**LORA, target_modules=["q_proj"], modules_to_save=["lm_head"])),
    "trained tokens": ("llama3", LoraConfig(**LORA, target_modules=["q_proj"], trainable_token_indices=[5, 8])),
    "replicated layers": ("llama", LoraConfig(**LORA, target_modules=EVERY, layer_replication=[(0, 2), (1, 3)])),
    "IA3": ("llama", IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "LoHa": ("llama", LoHaConfig(r=4, alpha=8, target_modules=EVERY, init_weights=False)),
    "OFT": ("llama", OFTConfig(oft_block_size=4, r=0, target_modules=["q_proj"], use_cayley_neumann=False)),
    "VeRA": ("llama", VeraConfig(r=4, target_modules=["q_proj"])),
}  # fmt: skip


def spread(logits, reference) -> float:
    return float((logits - reference).abs().max() / reference.std())


def adapted(directory: str, config):
    """A model with an adapter that changes much, its own weights drawn at random."""
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tied weights are adapted
        peft_model = get_peft_model(AutoModelForCausalLM.from_pretrained(directory), config).eval()
    with torch.no_grad():
        for parameter in peft_model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return peft_model


@pytest.mark.parametrize("kind", KINDS)
def test_an_opened_adapter_is_the_unmerged_one(kind, small_model, bare, tmp_path):
    architecture, config = KINDS[kind]
    peft_model = adapted(small_model(architecture), config)
    peft_model.save_pretrained(tmp_path / "adapter")
    with torch.inference_mode():
        reference = peft_model(TOKENS).logits
        plain = bare(architecture)(TOKENS).logits
        assert spread(plain, reference) > 0.05  # the adapter does something
        opened = load_model(small_model(architecture), adapter=tmp_path / "adapter")
        assert spread(opened(TOKENS), reference) < 1e-4
        # and so it is after it was saved and loaded again, as a finetuning stage does
        hf_model = merged(peft_model)
        hf_model.save_pretrained(tmp_path / "saved")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
        assert spread(again(TOKENS).logits, reference) < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    ],
)
def test_what_has_no_weights_to_merge_into_is_refused(config, small_model, tmp_path):
    adapted(small_model("llama"), config).save_pretrained(tmp_path)
    with pytest.raises(PbbError, match="cannot be merged into the weights"):
        load_model(small_model("llama"), adapter=tmp_path)


def test_a_merge_that_changes_the_model_is_refused(small_model, monkeypatch):
    """What PEFT merges is compared with what it computed before."""
    from peft.tuners.lora.layer import Linear

    peft_model = adapted(small_model("llama"), KINDS["projections"][1])
    whole = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda *args: whole(*args) * 1.01)
    with pytest.raises(PbbError, match="away from those it gives unmerged"):
        merged(peft_model)


@pytest.fixture
def grown(small_model, tmp_path):
    """A base, an adapter that was trained after two tokens were added, and its logits."""
    tokenizer = AutoTokenizer.from_pretrained(small_model("llama"))
    tokenizer.add_tokens(["dolvik", "zabrut"])
    model = AutoModelForCausalLM.from_pretrained(small_model("llama"))
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    peft_model = get_peft_model(model, KINDS["projections"][1]).eval()
    peft_model.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", tokenizer, peft_model


def test_an_adapter_for_a_larger_vocabulary_is_refused_in_words(grown, small_model):
    adapter, tokenizer, _ = grown
    with pytest.raises(PbbError, match=rf"{len(tokenizer)} tokens .*resize_token_embeddings\({len(tokenizer)}\)"):
        load_model(small_model("llama"), adapter=adapter)


def test_the_remedy_it_names_opens_it(grown, small_model):
    adapter, tokenizer, peft_model = grown
    model = AutoModelForCausalLM.from_pretrained(small_model("llama"))
    model.resize_token_embeddings(len(tokenizer))
    opened = load_model(model, adapter=adapter)
    (ids,) = tokenizer(["run dolvik(3)"])["input_ids"]
    assert tokenizer.convert_tokens_to_ids("dolvik") in ids
    assert pbb.Prompts.from_texts(opened, ["run dolvik(3)"]).tokens.tolist() == [ids]
    with torch.inference_mode():
        assert spread(opened(torch.tensor([ids])), peft_model(torch.tensor([ids])).logits) < 1e-4


def test_the_tokenizer_is_the_one_given_then_the_adapters_then_the_models(small_model, tmp_path):
    base = small_model("llama")
    adapted(base, KINDS["projections"][1]).save_pretrained(tmp_path / "adapter")
    text = "dolvik zabrut"
    plain = AutoTokenizer.from_pretrained(base)
    beside, given = (AutoTokenizer.from_pretrained(base) for _ in range(2))
    for tokenizer, word in ((beside, "dolvik"), (given, "zabrut")):  # an id that the model has
        tokenizer.backend_tokenizer.add_tokens([word])
        tokenizer.add_special_tokens({"additional_special_tokens": ["<eos>"]})
    words = {id(tokenizer): tokenizer(text)["input_ids"] for tokenizer in (plain, beside, given)}
    assert len({tuple(ids) for ids in words.values()}) == 3

    def opened(**kwargs):
        return load_model(base, adapter=tmp_path / "adapter", **kwargs).tokenizer(text)["input_ids"]

    assert opened() == words[id(plain)]
    beside.save_pretrained(tmp_path / "adapter")
    assert opened() == words[id(beside)]
    assert opened(tokenizer=given) == words[id(given)]
    assert load_model(base, given).tokenizer is given
