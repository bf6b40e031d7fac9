"""Nothing saved: the whole model for each change, with TransformerLens's hooks. What the other engines are held to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from einops import rearrange, repeat

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.protocol import Cut, States, UnsupportedError, Window
from pbb_probe.hooking.engines.recording import row_bytes
from pbb_probe.hooking.sites import hook_name

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge


class FullForward:
    """An opened model, run as a whole; see `Engine` for its methods. Final activations are logits here."""

    method: ClassVar[str] = "full forward"

    def __init__(self, model: "TransformerBridge"):
        self.bridge = model
        self.n_layers: int = model.cfg.n_layers

    def record(
        self, tokens: "torch.Tensor", out: "torch.Tensor", sites: Sequence[str] = (), layers: Sequence[int] = ()
    ) -> States:
        """See `Engine.record`; `final` are the logits [row, k, d_vocab]."""
        import torch

        names = {(site, layer): hook_name(self.bridge, site, layer) for site in sites for layer in layers}
        wanted = set(names.values())
        with torch.inference_mode():
            logits, cache = self.bridge.run_with_cache(tokens, names_filter=lambda name: name in wanted)
        if missing := wanted - set(cache.keys()):
            raise PbbError(f"The hook {min(missing)} never fired: this site cannot be patched on this model.")
        recorded = {place: cache[name] for place, name in names.items()}
        return States(tokens, sites=recorded, final=logits[torch.arange(len(tokens))[:, None], out])

    def enter(
        self, window: Window, site: str, layer: int, values: "torch.Tensor", heads: Sequence[int] | None = None
    ) -> "tuple[int, torch.Tensor]":
        """See `Engine.enter`, but all the way: the logits [copy, row, k, d_vocab] at `window.out`."""
        import torch

        copies, n_rows = values.shape[:2]
        fired = False

        def put(activation: "torch.Tensor", hook: Any) -> "torch.Tensor":  # [copy * row, position, ...]
            nonlocal fired
            fired = True
            by_copy = rearrange(activation, "(copy row) position ... -> copy row position ...", copy=copies)  # a view
            for copy in range(copies):
                at = (copy, slice(None), window.changed) + (() if heads is None else (heads[copy],))
                by_copy[at] = values[copy]
            return activation

        tokens = repeat(window.states.tokens[window.rows], "row position -> (copy row) position", copy=copies)
        with torch.inference_mode():
            logits = self.bridge.run_with_hooks(tokens, fwd_hooks=[(hook_name(self.bridge, site, layer), put)])
        if not fired:
            raise PbbError(f"The hook of {site!r} at layer {layer} never fired: this site cannot be patched.")
        by_copy = rearrange(logits, "(copy row) position d_vocab -> copy row position d_vocab", copy=copies)
        return layer, by_copy[:, torch.arange(n_rows)[:, None], window.out]

    def finish(self, window: Window, entries: "Sequence[tuple[int, torch.Tensor]]") -> "torch.Tensor":
        """See `Engine.finish`: the logits [copy, row, k, d_vocab]."""
        import torch

        return torch.cat([logits for _, logits in entries])

    def cut(self, window: Window, cuts: Sequence[Cut]) -> "torch.Tensor":
        """See `Engine.cut`: the logits [copy, row, k, d_vocab], by TransformerLens's hooks on attention scores."""
        import torch

        tokens = window.states.tokens[window.rows]
        rows = torch.arange(len(tokens))[:, None]
        finals = []
        for cut in cuts:
            fired = set[str]()

            def block(scores: "torch.Tensor", hook: Any, cut: Cut = cut, fired: set[str] = fired) -> "torch.Tensor":
                if scores.shape[1:] != (self.bridge.cfg.n_heads, tokens.shape[1], tokens.shape[1]):
                    raise UnsupportedError("its attention scores are not [row, head, query, key]")
                for of_row in scores:
                    cut.blocked(of_row).fill_(-torch.inf)
                fired.add(hook.name)
                return scores

            names = [f"blocks.{layer}.attn.hook_attn_scores" for layer in range(cut.first, cut.stop)]
            if missing := [name for name in names if name not in self.bridge.hook_dict]:
                raise UnsupportedError(f"it has no hook {missing[0]}")
            with torch.inference_mode():
                logits = self.bridge.run_with_hooks(tokens, fwd_hooks=[(name, block) for name in names])
            if fired != set(names):
                raise UnsupportedError("its attention scores cannot be reached")
            finals.append(logits[rows, window.out])
        return torch.stack(finals)

    def logits(self, final: "torch.Tensor") -> "torch.Tensor":
        """See `Engine.logits`: what `finish` returns are logits already."""
        return final

    def bytes_a_row(self, window: int, length: int) -> int:
        """See `Engine.bytes_a_row`."""
        model = self.bridge.original_model
        itemsize: int = model.dtype.itemsize
        d_vocab: int = self.bridge.cfg.d_vocab
        return row_bytes(model, length, length) + length * d_vocab * itemsize
