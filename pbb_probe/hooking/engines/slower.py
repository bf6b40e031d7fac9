"""The next exact ways to run what follows a change, for models whose blocks `hooking.engines.tail` cannot take apart.

`WholeBlocks` runs the blocks from the changed layer on at all positions, and asks nothing of the attention.
`FullForward` runs the whole model with TransformerLens's hooks. Both have the methods of `Tail`.
"""

import functools
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.capture import hook_name
from pbb_probe.hooking.engines.bare import Bare, UnsupportedError
from pbb_probe.hooking.engines.tail import ON_MODULES, States, Window, row_bytes

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge


class WholeBlocks:
    """Fewer layers: the blocks from the changed one on, at all positions."""

    def __init__(self, model: "TransformerBridge"):
        self.bridge = model
        self.bare = Bare(model)
        self.n_layers = len(self.bare.layers)
        self.logits = self.bare.logits

    def record(
        self, tokens: "torch.Tensor", out: "torch.Tensor", sites: Sequence[str] = (), layers: Sequence[int] = ()
    ) -> States:
        """As `Tail.record`; no sites within attention."""
        import torch

        if inside := set(sites) & {"q", "k", "v", "z"}:
            raise UnsupportedError(f"its {min(inside)} is not within reach")
        states = States([], [], [], {}, tokens)
        with ExitStack() as hooks, torch.inference_mode():

            def enters(_, args: tuple, kwargs: dict) -> None:
                states.resid.append(args[0] if args else kwargs["hidden_states"])
                states.calls.append((_of_one_row(args[1:]), _of_one_row(kwargs)))

            def leaves(_, __, output) -> None:
                self.bare.in_tuples = isinstance(output, tuple)
                states.resid.append(output[0] if self.bare.in_tuples else output)

            for layer in self.bare.layers:
                hooks.callback(layer.register_forward_pre_hook(enters, with_kwargs=True).remove)
            hooks.callback(self.bare.layers[-1].register_forward_hook(leaves).remove)
            for site, index in itertools.product(set(sites) & set(ON_MODULES), layers):
                keep = functools.partial(states.keep, site, index)
                hooks.enter_context(self.bare.caught(hook_name(self.bridge, site, index), keep))
            self.bare.model.base_model(input_ids=tokens, use_cache=False)
        if len(states.resid) != self.n_layers + 1:
            raise UnsupportedError("its blocks do not run one after the other")
        return replace(states, final=states.resid[-1][torch.arange(len(tokens))[:, None], out])

    def enter(
        self, window: Window, site: str, layer: int, values: "torch.Tensor", heads: Sequence[int] | None = None
    ) -> "tuple[int, torch.Tensor]":
        """As `Tail.enter`; the input that comes back has all positions."""
        where = slice(window.start, window.start + window.width)

        def put(activation: "torch.Tensor") -> "torch.Tensor":  # [copy * row, position, d_model]
            whole = activation.clone()
            whole[:, where] = values.flatten(0, 1)
            return whole

        def recorded(index: int) -> "torch.Tensor":
            return window.states.resid[index][window.rows].repeat(len(values), 1, 1)

        if site in ("resid_pre", "resid_post"):
            start = layer + (site == "resid_post")
            return start, put(recorded(start)).unflatten(0, (len(values), -1))
        with self.bare.replaced(hook_name(self.bridge, site, layer), put):
            changed = self._block(window.states, layer, recorded(layer))
        return layer + 1, changed.unflatten(0, (len(values), -1))

    def finish(self, window: Window, entries: "Sequence[tuple[int, torch.Tensor]]") -> "torch.Tensor":
        """As `Tail.finish`."""
        import torch

        waiting = list(entries)
        hidden: list[torch.Tensor] = []
        for layer in range(waiting[0][0], self.n_layers + 1):
            coming = [x for start, x in waiting if start == layer]
            waiting = waiting[len(coming) :]
            hidden = [torch.cat([*hidden, *coming])]
            if layer < self.n_layers:
                copies = len(hidden[0])
                hidden = [self._block(window.states, layer, hidden[0].flatten(0, 1)).unflatten(0, (copies, -1))]
        return hidden[0][:, torch.arange(len(window.rows))[:, None], window.out]

    def bytes_a_row(self, window: int, length: int) -> int:
        """As `Tail.bytes_a_row`."""
        return row_bytes(self.bare.model, length, length)

    def _block(self, states: States, layer: int, hidden: "torch.Tensor") -> "torch.Tensor":
        import torch

        args, kwargs = states.calls[layer]
        with torch.inference_mode():
            output = self.bare.layers[layer](hidden, *args, **kwargs)
        return output[0] if isinstance(output, tuple) else output


class FullForward:
    """Nothing saved: the whole model for each change, with TransformerLens's hooks."""

    def __init__(self, model: "TransformerBridge"):
        self.bridge = model
        self.n_layers = model.cfg.n_layers

    def record(
        self, tokens: "torch.Tensor", out: "torch.Tensor", sites: Sequence[str] = (), layers: Sequence[int] = ()
    ) -> States:
        """As `Tail.record`; `final` are the logits [row, k, d_vocab]."""
        import torch

        names = {(site, layer): hook_name(self.bridge, site, layer) for site in sites for layer in layers}
        with torch.inference_mode():
            logits, cache = self.bridge.run_with_cache(tokens, names_filter=lambda name: name in set(names.values()))
        if missing := set(names.values()) - set(cache.keys()):
            raise PbbError(f"The hook {min(missing)} never fired: this site cannot be patched on this model.")
        caught = {place: cache[name] for place, name in names.items()}
        return States([], [], [], caught, tokens, logits[torch.arange(len(tokens))[:, None], out])

    def enter(
        self, window: Window, site: str, layer: int, values: "torch.Tensor", heads: Sequence[int] | None = None
    ) -> "tuple[int, torch.Tensor]":
        """As `Tail.enter`, but all the way: the logits [copy, row, k, d_vocab] at `window.out`."""
        import torch

        copies, n_rows = values.shape[:2]
        where = slice(window.start, window.start + window.width)
        fired = False

        def put(activation, hook):  # [copy * row, position, ...]
            nonlocal fired
            fired = True
            whole = activation.unflatten(0, (copies, n_rows))
            for copy in range(copies):
                place = whole[copy, :, where] if heads is None else whole[copy, :, where, heads[copy]]
                place.copy_(values[copy])
            return activation

        tokens = window.states.tokens[window.rows].repeat(copies, 1)
        with torch.inference_mode():
            hooks = [(hook_name(self.bridge, site, layer), put)]
            logits = self.bridge.run_with_hooks(tokens, fwd_hooks=hooks).unflatten(0, (copies, n_rows))
        if not fired:
            raise PbbError(f"The hook of {site!r} at layer {layer} never fired: this site cannot be patched.")
        return layer, logits[:, torch.arange(n_rows)[:, None], window.out]

    def finish(self, window: Window, entries: "Sequence[tuple[int, torch.Tensor]]") -> "torch.Tensor":
        """The logits of all entries [copy, row, k, d_vocab]."""
        import torch

        return torch.cat([logits for _, logits in entries])

    def logits(self, final: "torch.Tensor") -> "torch.Tensor":
        """What `finish` returns are logits already."""
        return final

    def bytes_a_row(self, window: int, length: int) -> int:
        """As `Tail.bytes_a_row`."""
        model = self.bridge.original_model
        return row_bytes(model, length, length) + length * self.bridge.cfg.d_vocab * model.dtype.itemsize


def _of_one_row(value: Any) -> Any:
    """A block's arguments for any number of rows, which they must not depend on."""
    import torch

    if isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) > 1:
        if not bool((value == value[:1]).all()):
            raise UnsupportedError("its blocks are given something of each row")
        return value[:1]
    if isinstance(value, tuple):
        return tuple(map(_of_one_row, value))
    if isinstance(value, dict):
        return {name: _of_one_row(item) for name, item in value.items() if name != "hidden_states"}
    return value
