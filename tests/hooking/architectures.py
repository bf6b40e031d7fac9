"""Tiny models of many families made in memory, and plain torch hooks on them: what an opened model is held to.

Absolute, rotary and ALiBi positions, parallel and sequential blocks, one, few or all key-value heads, latent
attention, tied and untied embeddings, experts, sliding windows, scaled residuals, state spaces.
"""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

D_VOCAB = 97
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OLD = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
PLAIN = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = PLAIN | {"num_key_value_heads": 2}
LATENT = PLAIN | {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 16,
    "factor": 4.0,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
CONFIGS = {
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "cohere": ("cohere", GROUPED),
    "deepseek": ("deepseek_v3", LATENT),
    "falcon": ("falcon", {key: PLAIN[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}),
    "codegen": ("codegen", OLD | {"rotary_dim": 4}),
    "gemma4": (
        "gemma4_text",
        GROUPED
        | {
            "head_dim": 8,
            "global_head_dim": 16,
            "sliding_window": 4,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 97,
        },
    ),
    "gemma3": ("gemma3_text", GROUPED | {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8}),
    "gpt1": ("openai-gpt", OLD),
    "gpt2": ("gpt2", OLD),
    "gpt_neo": (
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
        },
    ),
    "gptj": ("gptj", OLD | {"rotary_dim": 4}),
    "granite": (
        "granite",
        GROUPED | {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    ),
    "llama": ("llama", GROUPED | {"tie_word_embeddings": True}),
    "llama4": (
        "llama4_text",
        GROUPED
        | {
            "head_dim": 8,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 48,
            "attention_chunk_size": 8,
        },
    ),
    "mamba": ("mamba", {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8}),
    "mixtral": ("mixtral", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "mpt": ("mpt", {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64, "expansion_ratio": 2}),
    "neox": ("gpt_neox", PLAIN),
    "olmo2": ("olmo2", GROUPED),
    "olmo3": ("olmo3", GROUPED | {"sliding_window": 4}),
    "opt": (
        "opt",
        {key: PLAIN[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
        | {"ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32},
    ),
    "phi3": ("phi3", GROUPED),
    "xglm": (
        "xglm",
        {"d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4, "max_position_embeddings": 64},
    ),
    "zamba2": (
        "zamba2",
        GROUPED
        | {
            "n_mamba_heads": 8,
            "mamba_d_state": 8,
            "mamba_headdim": 8,
            "chunk_size": 8,
            "hybrid_layer_ids": [1],
            "layers_block_type": ["mamba", "hybrid", "mamba"],
        },
    ),
    # not among FAMILIES
    "bert": ("bert", PLAIN),
    "dynamic": ("llama", GROUPED | {"max_position_embeddings": 16, "rope_parameters": DYNAMIC}),
    "longrope": ("phi3", GROUPED | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 16}),
}
FAMILIES = tuple(name for name in CONFIGS if name not in ("bert", "dynamic", "longrope"))


def small(name: str):
    """A tiny random model of a family, its weights and biases large enough to matter; the same one each time."""
    kind, fields = CONFIGS[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](vocab_size=D_VOCAB, **SPECIAL, **fields))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(std=0.3)
            elif parameter.ndim > 1 and 0 < float(parameter.std()) < 0.1:
                parameter.mul_(0.3 / parameter.std())
    return model.eval()


def blocks(model) -> list:
    """The blocks of a bare model, one after the other."""
    n = model.config.get_text_config().num_hidden_layers
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == n]
    (found,) = [some for some in lists if type(some[0]).__name__ != "Linear"]
    return list(found)


def hidden(args, kwargs):
    return args[0] if args else kwargs["hidden_states"]


def recorded(model, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The input of each block [layer, position, d_model] and the logits [position, d_vocab] of one unpadded row."""
    inputs: list[torch.Tensor] = []
    handles = [
        block.register_forward_pre_hook(
            lambda _, args, kwargs: inputs.append(hidden(args, kwargs)[0].clone()), with_kwargs=True
        )
        for block in blocks(model)
    ]
    with torch.inference_mode():
        logits = model(row[None]).logits[0]
    for handle in handles:
        handle.remove()
    return torch.stack(inputs), logits


def patched(model, row: torch.Tensor, layer: int, position: int, value: torch.Tensor) -> torch.Tensor:
    """The last logits [d_vocab] of one row while a block's input at a position is another."""

    def put(_, args, kwargs):
        hidden(args, kwargs)[0, position] = value  # in place, so that the residual stream has it too

    handle = blocks(model)[layer].register_forward_pre_hook(put, with_kwargs=True)
    with torch.inference_mode():
        logits = model(row[None]).logits[0, -1]
    handle.remove()
    return logits
