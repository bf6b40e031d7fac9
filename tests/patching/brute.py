"""The reference of every patching test: plain torch hooks on a bare Hugging Face model, one unpadded pair at a time."""

import numpy as np
import torch

from pbb_probe.hooking.prompts import Prompts

HEADS = {"z": 4, "q": 4, "k": 2, "v": 2}
UNGROUPED = ("gpt2", "gpt_neox")
SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v")


def n_heads(model, site) -> int:
    if site in ("k", "v") and model.config.model_type in UNGROUPED:
        return 4
    return HEADS.get(site, 1)


def place(model, layer, site):
    """The module of a site at a layer, whether it is its input, and the site's part of that activation.

    The part is a function of the activation [..., width] -> a view [..., head, d_head] or [..., 1, width].
    """
    kind = model.config.model_type
    if kind == "gpt2":
        block = model.transformer.h[layer]
        attention, ln2 = block.attn, block.ln_2
        modules = {"z": attention.c_proj, "q": attention.c_attn, "k": attention.c_attn, "v": attention.c_attn}
    elif kind == "gpt_neox":
        block = model.gpt_neox.layers[layer]
        attention, ln2 = block.attention, None
        modules = {"z": attention.dense} | dict.fromkeys("qkv", attention.query_key_value)
    else:
        block = model.model.layers[layer]
        attention = block.self_attn
        ln2 = block.pre_feedforward_layernorm if kind == "gemma2" else block.post_attention_layernorm
        modules = {
            "z": attention.o_proj,
            "q": attention.q_proj,
            "k": attention.k_proj,
            "v": attention.v_proj,
        }
    modules |= {"attn_out": attention, "mlp_out": block.mlp, "resid_mid": ln2}
    if kind == "gemma2":
        modules |= {"attn_out": block.post_attention_layernorm, "mlp_out": block.post_feedforward_layernorm}
    heads = n_heads(model, site)

    def part(activation):
        if site in "qkv" and kind == "gpt2":
            return activation.unflatten(-1, (3, 4, -1))[..., "qkv".index(site), :, :]
        if site in "qkv" and kind == "gpt_neox":
            return activation.unflatten(-1, (4, 3, -1))[..., "qkv".index(site), :]
        return activation.unflatten(-1, (heads, -1))

    return modules.get(site, block), site in ("resid_pre", "resid_mid", "z"), part


def run(model, rows, site, layer, change):
    """Logits [row, position, d_vocab] while `change` is called on the site [row, position, head, d_head], in place."""
    module, is_input, part = place(model, layer, site)

    def before(_, args, kwargs):
        change(part(args[0] if args else kwargs["hidden_states"]))  # in place, so that the residual stream has it too

    def after(_, __, output):
        change(part(output[0] if isinstance(output, tuple) else output))

    if is_input:
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    with torch.inference_mode():
        logits = model(rows).logits
    handle.remove()
    return logits


def activation(model, row, site, layer):
    """The site [position, head, d_head] in the run of one row."""
    kept = []
    run(model, row[None], site, layer, lambda found: kept.append(found[0].clone()))
    return kept[0]


def patched_logits(model, row, put, site, layer, spans):
    """Logits [span, head, position, d_vocab] of one row, `put` [position, head, d_head] in its place."""
    heads = n_heads(model, site)

    def change(found):  # [span * head, position, head, d_head]
        for i, (first, last) in enumerate(spans):
            for head in range(heads):
                found[i * heads + head, first : last + 1, head] = put[first : last + 1, head]

    logits = run(model, row.repeat(len(spans) * heads, 1), site, layer, change)
    return logits.unflatten(0, (len(spans), heads))


def sweep(model, clean, corrupted, metric, site, lengths, giver=None):
    """Effects [layer, head, position, pair] of single tokens; NaN at the positions a short pair does not have.

    `metric(logits [..., d_vocab], pair) -> [...]`; rows are padded at the end and cut to their lengths.
    """
    layers, heads = model.config.num_hidden_layers, n_heads(model, site)
    effects = np.full((layers, heads, max(lengths), len(lengths)), np.nan)
    for pair, length in enumerate(lengths):
        for layer in range(layers):
            put = activation(giver or model, clean[pair, :length], site, layer)
            spans = [(position, position) for position in range(length)]
            logits = patched_logits(model, corrupted[pair, :length], put, site, layer, spans)
            effects[layer, :, :length, pair] = metric(logits[:, :, -1], pair).T
    return effects


# Prompts as the tested functions are given them


def padded(rows, lengths, side):
    """Rows [row, position] cut to their lengths and padded on a side, with their mask."""
    tokens, mask = torch.zeros_like(rows), torch.zeros_like(rows)
    for i, length in enumerate(lengths):
        at = slice(0, length) if side == "right" else slice(rows.shape[1] - length, None)
        tokens[i, at], mask[i, at] = rows[i, :length], 1
    return tokens, mask


def prompts(model, tokens, mask, words=None, width=1) -> Prompts:
    """Prompts of given tokens, with the roles `answer` and `word`, which is so wide and ends at `words` [row]."""
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    words = last if words is None else words
    base = Prompts.from_texts(model, ["x"] * len(tokens))
    word = torch.stack([(words + 1 - width).clamp(min=0), words], 1)
    return Prompts(tokens, mask, {"word": word, "answer": torch.stack([last, last], 1)}, base.labels, base.texts)
