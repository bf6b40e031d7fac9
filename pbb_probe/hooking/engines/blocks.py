"""Fewer layers: the blocks from the changed one on, at all positions. It asks nothing of a block's attention.

For models whose attention `engines.tail` cannot take apart.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from einops import rearrange, repeat

from pbb_probe.hooking.engines.bare import Bare
from pbb_probe.hooking.engines.protocol import Cut, States, UnsupportedError, Window
from pbb_probe.hooking.engines.recording import record_blocks, row_bytes
from pbb_probe.hooking.sites import hook_name

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge


class WholeBlocks:
    """The blocks of an opened model, run from any layer on; see `Engine` for its methods."""

    method: ClassVar[str] = "fewer layers"

    def __init__(self, model: "TransformerBridge"):
        self.bridge = model
        self.bare = Bare(model)
        self.n_layers = len(self.bare.layers)

    def record(
        self, tokens: "torch.Tensor", out: "torch.Tensor", sites: Sequence[str] = (), layers: Sequence[int] = ()
    ) -> States:
        """See `Engine.record`; no sites within attention."""
        if inside := set(sites) & {"q", "k", "v", "z"}:
            raise UnsupportedError(f"its {min(inside)} is not within reach")
        return record_blocks(self.bare, States(tokens), out, sites, layers)

    def enter(
        self, window: Window, site: str, layer: int, values: "torch.Tensor", heads: Sequence[int] | None = None
    ) -> "tuple[int, torch.Tensor]":
        """See `Engine.enter`; the input that comes back has all positions."""
        copies = len(values)

        def put(activation: "torch.Tensor") -> "torch.Tensor":  # [copy * row, position, d_model]
            changed = activation.clone()
            changed[:, window.changed] = rearrange(values, "copy row position d -> (copy row) position d")
            return changed

        start = layer + (site == "resid_post")
        recorded = window.states.resid[start][window.rows]
        hidden = repeat(recorded, "row position d -> (copy row) position d", copy=copies)
        if site in ("resid_pre", "resid_post"):
            changed = put(hidden)
        else:
            start = layer + 1
            with self.bare.replaced(hook_name(self.bridge, site, layer), put):
                changed = self._block(window.states, layer, hidden)
        return start, rearrange(changed, "(copy row) position d -> copy row position d", copy=copies)

    def finish(self, window: Window, entries: "Sequence[tuple[int, torch.Tensor]]") -> "torch.Tensor":
        """See `Engine.finish`: [copy, row, k, d_model]."""
        import torch

        waiting = list(entries)
        running: list[torch.Tensor] = []
        for layer in range(waiting[0][0], self.n_layers + 1):
            coming = [hidden for start, hidden in waiting if start == layer]
            waiting = waiting[len(coming) :]
            hidden = torch.cat([*running, *coming])
            if layer < self.n_layers:
                batch = rearrange(hidden, "copy row position d -> (copy row) position d")
                changed = self._block(window.states, layer, batch)
                hidden = rearrange(changed, "(copy row) position d -> copy row position d", copy=len(hidden))
            running = [hidden]
        return running[0][:, torch.arange(len(window.rows))[:, None], window.out]

    def cut(self, window: Window, cuts: Sequence[Cut]) -> "torch.Tensor":
        """See `Engine.cut`: never."""
        raise UnsupportedError("attention within its blocks is not within reach")

    def logits(self, final: "torch.Tensor") -> "torch.Tensor":
        """See `Engine.logits`."""
        return self.bare.logits(final)

    def bytes_a_row(self, window: int, length: int) -> int:
        """See `Engine.bytes_a_row`."""
        return row_bytes(self.bare.model, length, length)

    def _block(self, states: States, layer: int, hidden: "torch.Tensor") -> "torch.Tensor":
        """A block's own forward on activations [copy * row, position, d_model]."""
        import torch

        args, kwargs = states.arguments[layer]
        with torch.inference_mode():
            output = self.bare.layers[layer](hidden, *args, **kwargs)
        changed: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return changed
