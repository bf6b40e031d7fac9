"""What a model can read: tokens in its vocabulary, no more than it has positions, and lengths that can share a batch.

Some rotary embeddings depend on the longest prompt of a batch. longrope changes the frequencies for the whole batch
once one prompt is longer than those of pretraining; dynamic scaling changes them by an amount that depends on the
longest prompt the model has read so far. Beside a longer one, a short prompt would not give what it gives alone.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge


def as_read(model: "TransformerBridge", prompts: Prompts) -> Prompts:
    """The prompts as every forward reads them: padding behind the tokens, where a causal model does not see it.

    Raises:
        PbbError: no prompts, or prompts that `check_readable` refuses.
    """
    if not len(prompts):
        raise PbbError("There are no prompts to run: give at least one.")
    moved = prompts.right_padded()
    check_readable(model, moved.tokens, moved.attention_mask.sum(1))
    return moved


def check_readable(model: "TransformerBridge", tokens: "torch.Tensor", lengths: "torch.Tensor") -> None:
    """Refuse prompts that the model cannot read, or would read differently together than alone.

    Args:
        model: an opened model.
        tokens: token ids [row, position].
        lengths: how many tokens each row has [row]; the rest is padding.

    Raises:
        PbbError: a token outside the vocabulary, more tokens than positions, or lengths on both sides of the one at
            which the rotary embedding changes.
    """
    if int(tokens.min()) < 0 or int(tokens.max()) >= model.cfg.d_vocab:
        raise PbbError(
            f"There are token ids from {int(tokens.min())} to {int(tokens.max())}, and the model has those from 0 to "
            f"{model.cfg.d_vocab - 1}: tokenize with its own tokenizer."
        )
    shortest, longest = int(lengths.min()), int(lengths.max())
    for kind, limit in _changing_ropes(model.original_model.config):
        if kind == "dynamic" and longest > limit:
            raise PbbError(
                f"A prompt has {longest} tokens: beyond {limit} this model's rotary embedding (dynamic) depends on "
                f"what it has read before, so that no two forwards are alike. Use prompts of at most {limit} tokens."
            )
        if kind == "longrope" and shortest <= limit < longest:
            raise PbbError(
                f"Prompts of {shortest} and {longest} tokens are given together: beyond {limit} this model's rotary "
                f"embedding (longrope) turns the whole batch. Run those of up to {limit} tokens apart from the others "
                "(prompts.select)."
            )
    if longest > model.cfg.n_ctx and not _reads(model, longest):
        raise PbbError(f"A prompt has {longest} tokens, and the model has {model.cfg.n_ctx} positions: shorten it.")


def _changing_ropes(config: Any) -> Iterator[tuple[str, int]]:
    """The kind of each rotary embedding that depends on the length, and the length at which it changes."""
    config = config.get_text_config()
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in [ropes, *(value for value in ropes.values() if isinstance(value, dict))]:
        kind = str(rope.get("rope_type", ""))
        if "dynamic" in kind:
            yield "dynamic", config.max_position_embeddings
        if kind == "longrope":
            original = rope.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            yield "longrope", original or config.max_position_embeddings


def _reads(model: "TransformerBridge", length: int) -> bool:
    """Does the model accept this many tokens? Positions that are computed rather than learned have no limit."""
    import torch

    computed = any(name.endswith("inv_freq") for name, _ in model.original_model.named_buffers())
    if not computed and model.original_model.device.type != "cpu":
        return False  # on an accelerator, an index out of range ends the process
    try:
        with torch.inference_mode():
            model(torch.zeros(1, length, dtype=torch.long, device=model.cfg.device))
    except (IndexError, RuntimeError, ValueError):
        return False
    return True
