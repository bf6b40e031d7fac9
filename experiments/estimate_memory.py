"""GPU memory that finetuning by a configuration takes: weights, gradients, optimizer and activations, estimated.

    python experiments/estimate_memory.py experiments/configs/*.yaml

Nothing is loaded: weights are counted on the meta device from the shapes in `SHAPES`, those of the published models.
Activations are an upper estimate: per layer and token 16 hidden and 4 intermediate widths (with gradient checkpointing
one hidden width), attention through a fused kernel, and the logits with their gradient in float32.
"""

import argparse
from pathlib import Path

import torch
import yaml
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from pbb_probe.finetuning.config import LoraSettings, TrainConfig

TOKENS = 160  # of the longest arithmetic documents with names and digits in several tokens
SHAPES: dict[str, PretrainedConfig] = {
    "meta-llama/Llama-3.2-1B": LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, tie_word_embeddings=True,
    ),
    "Qwen/Qwen2.5-0.5B": Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, tie_word_embeddings=True,
    ),
    "Qwen/Qwen2.5-1.5B-Instruct": Qwen2Config(
        vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, tie_word_embeddings=True,
    ),
    "Qwen/Qwen3-1.7B": Qwen3Config(
        vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    ),
}  # fmt: skip


def estimate(base: str, train: TrainConfig) -> dict[str, float]:
    """Gigabytes (10^9 bytes) by part."""
    config = SHAPES[base]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parameters = sum(p.numel() for p in model.parameters())
    trained = parameters
    if train.lora:
        linear = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
        trained = sum(train.lora.rank * (m.in_features + m.out_features) for m in linear)
    width = 2 if train.bf16 or train.dtype == "bfloat16" else 4
    documents = train.batch_size // train.gradient_accumulation
    layer = (
        config.hidden_size if train.gradient_checkpointing else 16 * config.hidden_size + 4 * config.intermediate_size
    )
    parts = {
        "weights": parameters * (2 if train.dtype == "bfloat16" else 4),
        "gradients": trained * 4,
        "optimizer": trained * 8,
        "activations": documents * TOKENS * config.num_hidden_layers * layer * width,
        "logits": documents * TOKENS * config.vocab_size * (width + 8),
    }
    return {"parameters (M)": parameters / 1e6, **{name: size / 1e9 for name, size in parts.items()},
            "total": sum(parts.values()) / 1e9}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+")
    for path in parser.parse_args().configs:
        settings = yaml.safe_load(path.read_text())
        lora = settings["train"].pop("lora", None)
        train = TrainConfig(**settings["train"], lora=lora and LoraSettings(**lora))
        parts = estimate(settings["base"], train)
        print(f"{path.name:28}" + "  ".join(f"{name} {size:.1f}" for name, size in parts.items()) + " GB")


if __name__ == "__main__":
    main()
