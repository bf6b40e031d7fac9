"""Tiny random models of real architectures with a tokenizer that splits names: the ground every test stands on."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import functools
import gc
import random

import pytest
import torch
from blank import blank_report
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

import pbb_probe as pbb
from pbb_probe.hooking.load import load_model
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.documents import call_document, program_document
from pbb_probe.programs.templates import CALLS
from pbb_probe.runs.config import PatchingConfig, ProbingConfig, StudyConfig, TransferConfig

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
ROPE_OF_LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "llama": (LlamaConfig, GROUPED),
    "llama3": (LlamaConfig, GROUPED | {"rope_parameters": ROPE_OF_LLAMA_3, "tie_word_embeddings": True}),
    "qwen2": (Qwen2Config, {key: value for key, value in GROUPED.items() if key != "head_dim"}),
    "qwen3": (Qwen3Config, GROUPED),
    "mistral": (MistralConfig, GROUPED | {"sliding_window": 8}),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}),
    "neox": (
        GPTNeoXConfig,
        {key: value for key, value in GROUPED.items() if key not in ("num_key_value_heads", "head_dim")},
    ),
    # a window shorter than the documents, and caps low enough to bend the logits of small models
    "gemma2": (
        Gemma2Config,
        GROUPED
        | {
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 10.0,
        },
    ),
}
ARCHITECTURES = tuple(CONFIGS)

BOS = "<|begin_of_text|>"
CHATML = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for turn in messages %}<|start_header_id|>{{ turn.role }}<|end_header_id|>\n\n"
    "{{ turn.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

SLOWEST = (
    "test_pages.py",
    "test_study.py",
    "test_train.py",
    "test_planted.py",
    "test_activations_page.py",
    "test_opened_controls.py",
    "test_cli.py",
    "test_transfer.py",
    "test_calibrate_command.py",
    "test_reinforce.py",
    "test_onsets.py",
    "test_notebooks.py",
    "test_projection.py",
    "test_exact.py",
    "test_trials.py",
)
"""Files that take longest, begun first: one that is begun last keeps a single process at work."""


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish():
    gc.freeze()  # modules and tests stay: trainers, which ask for garbage to be collected, need not search them


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
    texts = [program_document(entry.program, "code", rng).text for entry in corpus.entries for _ in range(3)]
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
    return functools.cache(
        lambda architecture: save_small_model(architecture, tokenizer, tmp_path_factory.mktemp(architecture))
    )


@pytest.fixture(scope="session")
def chat_model(tokenizer_dir, tmp_path_factory):
    """`chat_model(name)`: a tiny Qwen2.5 (`chatml`) or Llama 3 (`llama3`) whose tokenizer has the template of its kind.

    As in base models, the configs know no end of a turn: <eos> ends their texts.
    """

    @functools.cache
    def make(name: str) -> str:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
        if name == "chatml":
            tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
            tokenizer.chat_template = CHATML
        else:
            markers = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
            tokenizer.add_special_tokens({"bos_token": BOS, "additional_special_tokens": markers})
            tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.bos_token_id)]
            )
            tokenizer.chat_template = LLAMA_3
        architecture = {"chatml": "qwen2", "llama3": "llama3"}[name]
        return save_small_model(architecture, tokenizer, tmp_path_factory.mktemp(name))

    return make


def save_small_model(architecture: str, tokenizer, directory) -> str:
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
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


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


@pytest.fixture(scope="session")
def planted_run(tmp_path_factory):
    """The folder of a whole study of a planted model: program in block 1, state 1 in block 2, output in block 3.

    Every step is the study's own, but that models are not trained and the report draws no pictures.
    """
    hf_model, tokenizer, corpus, _ = pbb.planted_model(n_layers=4, retrieve=1, states=(2,), output=3, n_programs=60)

    def save(base, corpus, stage, out, seed, config):
        hf_model.save_pretrained(out)
        tokenizer.save_pretrained(out)

    out = tmp_path_factory.mktemp("planted") / "run"
    config = StudyConfig(
        out=str(out),
        calls=20,
        probing=ProbingConfig(
            prompts=150, folds=2, targets=("input", "op_1", "state_1", "output"), interchange=(),
            controls=("shuffled", "chance", "embedding"),
        ),
        patching=PatchingConfig(pairs=20, sites=("resid_pre", "mlp_out")),
        transfer=TransferConfig(pairs=40, sites=("resid_pre",), controls=("random",)),
        draws=200,
    )  # fmt: skip
    pbb.Study(config, corpus, train=save, report=blank_report).run()
    return out
