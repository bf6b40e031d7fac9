"""One forward of the bare model, recorded: what enters each block, what blocks are called with, and further sites."""

import functools
import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pbb_probe.hooking.engines.bare import Bare
from pbb_probe.hooking.engines.protocol import States, UnsupportedError
from pbb_probe.hooking.sites import hook_name

if TYPE_CHECKING:
    import torch

ON_MODULES = ("resid_mid", "attn_out", "mlp_out")
"""Sites that are a module's input or output within a block."""


def record_blocks(
    bare: Bare,
    states: States,
    out: "torch.Tensor",
    sites: Sequence[str],
    layers: Sequence[int],
    entering: Callable[[int], None] = lambda layer: None,
    with_masks: bool = True,
) -> States:
    """Run `states.tokens` once and fill in `resid`, `arguments`, `final` and the sites that lie on modules.

    Args:
        bare: the model.
        states: to be filled.
        out: the positions [row, k] whose final activation is wanted.
        sites: those that `States.at` will be asked for; only such as lie on modules are kept here.
        layers: at which it will be.
        entering: told each layer before its block runs.
        with_masks: keep attention masks among the arguments of blocks.

    Raises:
        UnsupportedError: blocks that do not run one after the other, or are given something of each row.
    """
    import torch

    with ExitStack() as hooks, torch.inference_mode():

        def enters(layer: int, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            entering(layer)
            states.resid.append(args[0] if args else kwargs["hidden_states"])
            behind = {name: value for name, value in kwargs.items() if name != "hidden_states"}
            states.arguments.append(_of_any_row((args[1:], behind), with_masks))

        def leaves(_: Any, __: Any, output: Any) -> None:
            bare.in_tuples = isinstance(output, tuple)
            states.resid.append(output[0] if bare.in_tuples else output)

        for layer, block in enumerate(bare.layers):
            before = functools.partial(enters, layer)
            hooks.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
        hooks.callback(bare.layers[-1].register_forward_hook(leaves).remove)
        for site, layer in itertools.product(set(sites) & set(ON_MODULES), layers):
            keep = functools.partial(states.keep, site, layer)
            hooks.enter_context(bare.caught(hook_name(bare.bridge, site, layer), keep))
        bare.model.base_model(input_ids=states.tokens, use_cache=False)
    if len(states.resid) != len(bare.layers) + 1:
        raise UnsupportedError("its blocks do not run one after the other")
    return replace(states, final=states.resid[-1][torch.arange(len(out))[:, None], out])


def _of_any_row(value: Any, with_masks: bool) -> Any:
    """A block's arguments for any number of rows, which they must not depend on; masks [row, 1, query, key] as said."""
    import torch

    if isinstance(value, torch.Tensor) and value.ndim > 1:
        if value.ndim == 4 and not with_masks:
            return None
        if len(value) > 1 and not bool((value == value[:1]).all()):
            raise UnsupportedError("its blocks are given something of each row")
        return value[:1]
    if isinstance(value, tuple):
        return tuple(_of_any_row(item, with_masks) for item in value)
    if isinstance(value, dict):
        return {name: _of_any_row(item, with_masks) for name, item in value.items()}
    return value


def at_positions(value: Any, positions: "torch.Tensor") -> Any:
    """Recorded arguments [1, position, ...] at positions [batch, position]."""
    import torch

    if isinstance(value, torch.Tensor):
        return value[0][positions] if value.ndim > 1 else value[positions[0]]
    if isinstance(value, tuple):
        return tuple(at_positions(item, positions) for item in value)
    if isinstance(value, dict):
        return {name: at_positions(item, positions) for name, item in value.items()}
    return value


def row_bytes(model: Any, window: int, length: int) -> int:
    """Bytes that a block holds at once for a row of `window` positions that attend to `length` of them.

    Args:
        model: a Hugging Face model.
        window: positions run.
        length: positions attended to.
    """
    config = model.config.get_text_config()
    d_model: int = config.hidden_size
    inner: int = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * d_model
    heads: int = getattr(config, "num_attention_heads", 0)  # a state-space model has none
    itemsize: int = model.dtype.itemsize
    return window * (6 * d_model + 3 * inner + 3 * heads * length) * itemsize
