"""Where each token looks: the attention patterns of every head, after the softmax."""

from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.capture import run_to
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.readable import as_read
from pbb_probe.hooking.sites import check_eval, check_layers
from pbb_probe.labels import with_labels
from pbb_probe.schema import BatchSize, LayerList, checks_arguments

if TYPE_CHECKING:
    import xarray as xr
    from transformer_lens import TransformerBridge


@checks_arguments
def attention_patterns(
    model: "TransformerBridge",
    prompts: Prompts,
    layers: LayerList | None = None,
    batch_size: BatchSize = 256,
) -> "xr.DataArray":
    """The share of attention that each token (query) gives to each token up to itself (key), by head.

    Args:
        model: an opened model.
        prompts: what the model reads; patterns grow with the square of the length, so give only those of interest.
        layers: all when None.
        batch_size: prompts run together.

    Returns:
        `pattern` (layer, head, prompt, query, key) in float32, with the prompts' own positions as queries and keys,
        and their labels as coordinates. Zero at keys behind the query and wherever the query or the key is padding;
        heads that share keys and values have a pattern each.

    Raises:
        PbbError: a layer the model does not have, one whose attention has no pattern, patterns that are NaN, or a
            model in train mode.
    """
    import numpy as np
    import torch
    import xarray as xr

    check_eval(model)
    layers = check_layers(model, layers)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    if missing := [name for name in names if name not in model.hook_dict]:
        raise PbbError(f"This model has no attention pattern here (no hook {missing[0]}): choose other layers.")
    n, length = prompts.tokens.shape
    first, prompts = prompts.attention_mask.argmax(1), as_read(model, prompts)
    width = prompts.tokens.shape[1]
    patterns = None
    for start in range(0, n, batch_size):
        rows = slice(start, start + batch_size)
        cache = run_to(model, prompts, rows, names, max(layers))
        there = prompts.attention_mask[rows].bool()
        seen = (there[:, :, None] & there[:, None, :]).tril()[:, None]  # [prompt, 1, query, key]
        for i, name in enumerate(names):
            pattern = cache[name].float().cpu()  # [prompt, head, query, key]
            if pattern.ndim != 4 or pattern.shape[2:] != (width, width):
                raise PbbError(f"The pattern of {name} has the shape {tuple(pattern.shape)}: it is no query x key.")
            # padding attends somewhere too, and to nothing meaningful where it sees only padding
            pattern = pattern.where(seen, 0.0)
            if not bool(torch.isfinite(pattern).all()):
                raise PbbError(f"The pattern of {name} is NaN or infinite: look for NaN in the weights.")
            if patterns is None:
                patterns = np.zeros((len(layers), pattern.shape[1], n, length, length), np.float32)
            for prompt, begin in zip(
                range(n)[rows], first[rows].tolist(), strict=True
            ):  # back to the original positions
                own = slice(begin, min(begin + width, length))
                of_prompt = pattern[prompt - start, :, : own.stop - begin, : own.stop - begin]
                patterns[i, :, prompt, own, own] = of_prompt.numpy()
    dims = ("layer", "head", "prompt", "query", "key")
    return with_labels(xr.DataArray(patterns, dims=dims, coords={"layer": layers}, name="pattern"), prompts)
