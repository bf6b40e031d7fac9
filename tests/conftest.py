"""Tiny random models of real architectures with a tokenizer that splits names: the ground every test stands on."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import functools
import random

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from pbb_probe.hooking.load import load_model
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.documents import CALLS, call_document, code_document

torch.set_num_threads(1)

GROUPED = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
CONFIGS = {
    "llama": (LlamaConfig, GROUPED),
    "qwen2": (Qwen2Config, {key: value for key, value in GROUPED.items() if key != "head_dim"}),
    "qwen3": (Qwen3Config, GROUPED),
    "mistral": (MistralConfig, GROUPED),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}),
    "neox": (
        GPTNeoXConfig,
        {key: value for key, value in GROUPED.items() if key not in ("num_key_value_heads", "head_dim")},
    ),
}
ARCHITECTURES = tuple(CONFIGS)


@pytest.fixture
def nano() -> str:
    return "nano"


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return make_corpus(with_io=12, without_io=8, seed=0)


@pytest.fixture(scope="session")
def tokenizer_dir(corpus, tmp_path_factory) -> str:
    """Byte-level BPE without a BOS token, small enough that nonsense names are several tokens each."""
    rng = random.Random(0)
    texts = [code_document(entry.program, rng).text for entry in corpus.entries for _ in range(3)]
    texts += [
        call_document(entry.program, trace, mode, template).text
        for entry in corpus.entries
        for trace in entry.traces
        for mode, template in (("direct", rng.choice(CALLS)), ("trace", "trace {name}({input}) :"))
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=["<pad>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    directory = str(tmp_path_factory.mktemp("tokenizer"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tokenizer(tokenizer_dir):
    return AutoTokenizer.from_pretrained(tokenizer_dir)


@pytest.fixture(scope="session")
def small_model(tokenizer, tmp_path_factory):
    """`small_model(architecture)`: the directory of a tiny random model whose weights are large enough to matter."""

    @functools.cache
    def make(architecture: str) -> str:
        kind, fields = CONFIGS[architecture]
        config = kind(
            vocab_size=len(tokenizer),
            initializer_range=0.3,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **fields,
        )
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # initialised to zero, which would hide a bias forgotten or added twice
                torch.nn.init.normal_(parameter, std=0.3)
        directory = str(tmp_path_factory.mktemp(architecture))
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return directory

    return make


@pytest.fixture(scope="session")
def bare(small_model):
    """`bare(architecture)`: the Hugging Face model itself, loaded apart from any bridge. Leave it as it is."""
    return functools.cache(
        lambda architecture: AutoModelForCausalLM.from_pretrained(
            small_model(architecture), attn_implementation="eager"
        ).eval()
    )


@pytest.fixture(scope="session")
def bridge(small_model):
    """`bridge(architecture)`: the same model opened by `load_model`; `nano` is the packaged one. Leave it as it is."""
    return functools.cache(lambda name: load_model("nano" if name == "nano" else small_model(name)))
