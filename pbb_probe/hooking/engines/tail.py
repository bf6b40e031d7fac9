"""The exact forward from (layer, position) on: what a change at one place can alter, and nothing else.

A change at layer l and position p alters no layer below l and, under causal attention, no position before p. One full
forward records each block's input, keys and values. From there a changed run needs the blocks from l on, at the
positions from p on, with the recorded keys and values in front; the last block is needed only where the answer is
predicted. Runs with changes at the same position are stacked on the batch axis, each entering at its own layer.

The blocks are the model's own (`engines.bare`); only the attention over recorded and new keys is computed here
(`engines.attention`).
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from einops import rearrange, repeat

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.attention import AttentionCall, KeysKnownError
from pbb_probe.hooking.engines.bare import Bare
from pbb_probe.hooking.engines.protocol import NOTHING_LEFT, Cut, States, UnsupportedError, Window
from pbb_probe.hooking.engines.recording import at_positions, record_blocks, row_bytes
from pbb_probe.hooking.sites import hook_name

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.engines.attention import Edits


class Tail:
    """The blocks of an opened model, run from any layer and position on; see `Engine` for its methods."""

    method: ClassVar[str] = "fewer layers and positions"

    def __init__(self, model: "TransformerBridge"):
        self.bridge = model
        self.bare = Bare(model, self._attention)
        self.n_layers = len(self.bare.layers)
        self._call = AttentionCall()

    def record(
        self, tokens: "torch.Tensor", out: "torch.Tensor", sites: Sequence[str] = (), layers: Sequence[int] = ()
    ) -> States:
        """See `Engine.record`."""
        self._refuse_norms_over_heads(sites)
        wanted = {(site, layer) for site in sites for layer in layers}
        states = States(tokens)
        self._call = AttentionCall(states=states, wanted=wanted)

        def entering(layer: int) -> None:
            self._call.layer = layer

        states = record_blocks(self.bare, states, out, sites, layers, entering, with_masks=False)
        if len(states.keys) != self.n_layers:
            raise UnsupportedError("its attention does not go through transformers' attention interface")
        return states

    def _refuse_norms_over_heads(self, sites: Sequence[str]) -> None:
        """Behind a norm over all heads a head of q or k is no longer the one that its hook passes."""
        d_head = self.bridge.cfg.d_head
        for block in self.bare.layers if {"q", "k"} & set(sites) else ():
            for name, module in block.named_modules():
                weight = getattr(module, "weight", None)
                if name.endswith(("q_norm", "k_norm")) and weight is not None and weight.numel() > d_head:
                    raise UnsupportedError("its queries and keys are normalised over all heads")

    # A change, and what follows from it

    def enter(
        self, window: Window, site: str, layer: int, values: "torch.Tensor", heads: Sequence[int] | None = None
    ) -> "tuple[int, torch.Tensor]":
        """See `Engine.enter`; the input that comes back stands at the positions from `window.start` to `window.end`."""
        copies = len(values)
        if site == "resid_pre":
            return layer, self._filled(window, layer, values)
        if site == "resid_post":
            return layer + 1, self._filled(window, layer + 1, values)
        if site in ("k", "v"):  # later positions read them: the block runs on the whole window

            def put_keys(activation: "torch.Tensor") -> "torch.Tensor":
                return _with_heads(activation, values, heads or (), slice(window.width))

            hidden = repeat(self._recorded(window, layer), "row position d -> copy row position d", copy=copies)
            return layer + 1, self._block(layer, hidden, window, {site: put_keys})
        # nothing but the changed positions themselves is altered within this block
        states, rows, end = window.states, window.rows, window.changed.stop
        recorded = states.resid[layer][rows, window.changed]
        call = AttentionCall(
            layer,
            copies,
            shared=(states.keys[layer][rows, :, :end], states.values[layer][rows, :, :end]),
            attends_to_itself=False,
            mask=states.masks[layer][None, window.changed, :end],
        )
        with ExitStack() as hooks:
            if site in ("q", "z"):
                call.edits = {site: lambda activation: _with_heads(activation, values, heads or (), slice(None))}
            else:
                batch = rearrange(values, "copy row position d -> (copy row) position d")
                hooks.enter_context(self.bare.replaced(hook_name(self.bridge, site, layer), lambda _: batch))
            hidden = repeat(recorded, "row position d -> copy row position d", copy=copies)
            changed = self._run(states, hidden, call, self._positions(window.start, window.width))
        return layer + 1, self._filled(window, layer + 1, changed)

    def finish(self, window: Window, entries: "Sequence[tuple[int, torch.Tensor]]") -> "torch.Tensor":
        """See `Engine.finish`: [copy, row, k, d_model]."""
        import torch

        waiting = list(entries)
        running: list[torch.Tensor] = []
        for layer in range(waiting[0][0], self.n_layers):
            coming = [hidden for start, hidden in waiting if start == layer]
            waiting = waiting[len(coming) :]
            stacked = [*running, *coming]
            hidden = torch.cat(stacked) if len(stacked) > 1 else stacked[0]
            running = [
                self._block(layer, hidden, window) if layer < self.n_layers - 1 else self._last_block(hidden, window)
            ]
        behind_the_last = [self._at_out(hidden, window) for _, hidden in waiting]
        return torch.cat([*running, *behind_the_last])

    def cut(self, window: Window, cuts: Sequence[Cut]) -> "torch.Tensor":
        """See `Engine.cut`: [copy, row, k, d_model]."""
        import torch

        waiting, going = list(cuts), list[Cut]()
        running: list[torch.Tensor] = []
        for layer in range(waiting[0].first, self.n_layers):
            coming = [cut for cut in waiting if cut.first == layer]
            waiting, going = waiting[len(coming) :], going + coming
            if coming:
                recorded = self._recorded(window, layer)
                running.append(repeat(recorded, "row position d -> copy row position d", copy=len(coming)))
            hidden = torch.cat(running) if len(running) > 1 else running[0]
            blocked = self._blocked(window, going, layer)
            if layer < self.n_layers - 1:
                running = [self._block(layer, hidden, window, blocked=blocked)]
            else:
                running = [self._last_block(hidden, window, blocked)]
        return running[0]

    def _blocked(self, window: Window, cuts: Sequence[Cut], layer: int) -> "torch.Tensor | None":
        """What is added to the scores of a layer [copy, 1, 1 | head, query, key]; None if nothing is cut there."""
        import torch

        if not any(cut.first <= layer < cut.stop for cut in cuts):
            return None
        n_heads = 1 if all(cut.head is None for cut in cuts) else self.bridge.cfg.n_heads
        mask = window.states.masks[layer]
        blocked = mask.new_zeros(len(cuts), 1, n_heads, window.end - window.start, window.end)
        may_read = mask[window.start : window.end, : window.end] == 0  # within a sliding window, say
        for cut, of_copy in zip(cuts, blocked, strict=True):
            if cut.first <= layer < cut.stop:
                cut.blocked(of_copy[0], window.start).fill_(torch.finfo(mask.dtype).min)
                if not bool((may_read & (of_copy[0] == 0)).any(-1).all()):
                    raise PbbError(NOTHING_LEFT)
        return blocked

    def logits(self, final: "torch.Tensor") -> "torch.Tensor":
        """See `Engine.logits`."""
        return self.bare.logits(final)

    def bytes_a_row(self, window: int, length: int) -> int:
        """See `Engine.bytes_a_row`."""
        return row_bytes(self.bare.model, window, length)

    # One block, on activations [copy, row, position, d_model]

    def _recorded(self, window: Window, layer: int) -> "torch.Tensor":
        """The recorded input of a layer in the window [row, position, d_model]."""
        return window.states.resid[layer][window.rows, window.start : window.end]

    def _filled(self, window: Window, layer: int, values: "torch.Tensor") -> "torch.Tensor":
        """The recorded input of a layer in the window, for each copy with its values at the changed positions."""
        import torch

        recorded = self._recorded(window, layer)
        rest = repeat(recorded[:, window.width :], "row position d -> copy row position d", copy=len(values))
        return torch.cat([values[:, :, : window.end - window.start].to(recorded.dtype), rest], dim=2)

    def _positions(self, start: int, width: int) -> "torch.Tensor":
        import torch

        return torch.arange(start, start + width, device=self.bridge.cfg.device)[None]

    def _before(self, layer: int, window: Window) -> "tuple[torch.Tensor, torch.Tensor] | None":
        """The recorded keys and values before the window."""
        if window.start == 0:
            return None
        states, rows = window.states, window.rows
        return states.keys[layer][rows, :, : window.start], states.values[layer][rows, :, : window.start]

    def _block(
        self,
        layer: int,
        hidden: "torch.Tensor",
        window: Window,
        edits: "Edits | None" = None,
        blocked: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """One block on the whole window."""
        mask = window.states.masks[layer][None, window.start : window.end, : window.end]
        call = AttentionCall(
            layer, len(hidden), self._before(layer, window), mask=mask, blocked=blocked, edits=edits or {}
        )
        return self._run(window.states, hidden, call, self._positions(window.start, hidden.shape[2]))

    def _last_block(
        self, hidden: "torch.Tensor", window: Window, blocked: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        """The last block at `window.out` only: keys and values of the whole window, the rest where it is wanted."""
        if blocked is not None:
            at_out = blocked[:, 0][:, :, window.out - window.start]
            blocked = rearrange(at_out, "copy head row k key -> copy row head k key")
        layer, copies = self.n_layers - 1, len(hidden)
        keys = AttentionCall(layer, copies, only_keys=True)
        with suppress(KeysKnownError):
            self._run(window.states, hidden, keys, self._positions(window.start, hidden.shape[2]))
        mask = window.states.masks[layer][window.out][..., : window.end]  # [row, k, position]
        call = AttentionCall(layer, copies, self._before(layer, window), keys.replaced, mask=mask, blocked=blocked)
        positions = repeat(window.out, "row k -> (copy row) k", copy=copies)
        return self._run(window.states, self._at_out(hidden, window), call, positions)

    def _at_out(self, hidden: "torch.Tensor", window: Window) -> "torch.Tensor":
        """[copy, row, k, d_model] of a window's activations."""
        import torch

        rows = torch.arange(len(window.rows), device=hidden.device)[:, None]
        return hidden[:, rows, window.out - window.start]

    def _run(
        self, states: States, hidden: "torch.Tensor", call: AttentionCall, positions: "torch.Tensor"
    ) -> "torch.Tensor":
        """The own forward of a call's block, on activations that stand at positions [1 | copy * row, position]."""
        import torch

        self._call = call
        args, kwargs = (at_positions(value, positions) for value in states.arguments[call.layer])
        batch = rearrange(hidden, "copy row position d -> (copy row) position d")
        with torch.inference_mode():
            output = self.bare.layers[call.layer](batch, *args, **kwargs)
        changed: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return rearrange(changed, "(copy row) position d -> copy row position d", copy=call.copies)

    def _attention(self, _: Any, *args: Any, **settings: Any) -> "tuple[torch.Tensor, None]":
        """What transformers calls in a block, with queries [batch, head, position, d_head]."""
        return rearrange(self._call.run(*args, **settings), "batch head position d -> batch position head d"), None


def _with_heads(
    activation: "torch.Tensor", values: "torch.Tensor", heads: Sequence[int], positions: slice
) -> "torch.Tensor":
    """A copy of an activation [copy * row, head, position, d_head], one head of each replaced.

    Its values are [copy, row, position, d_head].
    """
    changed = rearrange(activation.clone(), "(copy row) head position d -> copy row head position d", copy=len(values))
    for copy, head in enumerate(heads):
        changed[copy, :, head, positions] = values[copy]
    return rearrange(changed, "copy row head position d -> (copy row) head position d")
