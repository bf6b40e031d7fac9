"""Tiny random models whose tokenizer spells digits and letters singly, so that numbers, lists and words are several."""

import functools
import string

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from pbb_probe.hooking.load import load_model

GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512}
CONFIGS = {
    "llama": (LlamaConfig, {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, **GROUPED}),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512}),
}
LETTERS = string.digits + string.ascii_letters
BEGINNINGS = ["<pad>", "<eos>", "<unk>", *LETTERS]


def spelling_tokenizer() -> PreTrainedTokenizerFast:
    """`12` is `1`, `##2`, and a word is its first letter and `##` letters; every other sign is a token."""
    pieces = [*BEGINNINGS, *(f"##{letter}" for letter in LETTERS), *string.punctuation]
    model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@functools.cache
def spelling_model(architecture: str, only_beginnings: bool = False):
    """The bare model of an architecture, and the same one opened. Leave them as they are.

    With `only_beginnings` it writes digits and first letters alone, so that what it writes is read as it was written.
    """
    tokenizer = spelling_tokenizer()
    return _random(architecture, only_beginnings), load_model(_random(architecture, only_beginnings), tokenizer)


def _random(architecture: str, only_beginnings: bool):
    kind, fields = CONFIGS[architecture]
    n = len(spelling_tokenizer())
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "tie_word_embeddings": False}
    config = kind(vocab_size=n, initializer_range=0.3, **ids, **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    if only_beginnings:
        kept = slice(3, len(BEGINNINGS))
        weight = model.get_output_embeddings().weight.data
        row = weight[kept].clone()
        weight.zero_()
        weight[kept] = row
    return model
