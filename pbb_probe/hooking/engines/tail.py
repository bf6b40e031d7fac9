"""The exact forward from (layer, position) on: what a change at one place can alter, and nothing else.

A change at layer l and position p alters no layer below l and, under causal attention, no position before p. One full
forward records each block's input, keys and values. From there a changed run needs the blocks from l on, at the
positions from p on, with the recorded keys and values in front; the last block is needed only where the answer is
predicted. Runs with changes at the same position are stacked on the batch axis, each entering at its own layer.

The blocks are the model's own (`hooking.engines.bare`); only the attention over recorded and new keys is computed here.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pbb_probe.hooking.capture import hook_name
from pbb_probe.hooking.engines.bare import Bare, UnsupportedError

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge
    from transformers import PreTrainedModel

ON_MODULES = ("resid_mid", "attn_out", "mlp_out")
"""Sites that are a module's input or output within a block."""


@dataclass(frozen=True, eq=False)
class States:
    """What one forward of a batch leaves behind. Rows are padded at the end only."""

    resid: "list[torch.Tensor]"
    """The input of each block and the output of the last [row, position, d_model]: n_layers + 1 of them."""
    keys: "list[torch.Tensor]"
    """[row, kv_head, position, d_head] a layer, with their position embedding."""
    values: "list[torch.Tensor]"
    """[row, kv_head, position, d_head] a layer."""
    caught: "dict[tuple[str, int], torch.Tensor]"
    """Further sites (site, layer) [row, position, ...]."""
    tokens: "torch.Tensor"
    """[row, position]"""
    final: "torch.Tensor | None" = None
    """What the last block puts out where it is wanted [row, k, d_model]."""
    calls: "list[tuple[tuple, dict]]" = field(default_factory=list)
    """What each block is called with behind its input: the same for all rows, or that of the only one."""
    masks: "list[torch.Tensor]" = field(default_factory=list)
    """The attention mask of each layer [position, position]."""

    def keep(self, site: str, layer: int, activation: "torch.Tensor") -> None:
        """Keep a site's activation; it is copied, as a later module may change it in place."""
        self.caught[site, layer] = activation.clone()

    def at(self, site: str, layer: int) -> "torch.Tensor":
        """A site's activation [row, position, d_model] or [row, position, head, d_head]."""
        if (site, layer) in self.caught:
            return self.caught[site, layer]
        if site in ("k", "v"):
            return (self.keys if site == "k" else self.values)[layer].transpose(1, 2)
        return self.resid[layer + (site == "resid_post")]


@dataclass(frozen=True, eq=False)
class Window:
    """The rows and positions that a group of changed runs is about."""

    states: States
    """Of the unchanged runs."""
    rows: "torch.Tensor"
    """Which of the recorded rows [row]."""
    start: int
    """The first changed position."""
    width: int
    """How many positions are changed, at the start of the window."""
    out: "torch.Tensor"
    """The positions [row, k] whose final activation is wanted."""

    @property
    def end(self) -> int:
        """The position behind the last one that matters."""
        return int(self.out.max()) + 1


@dataclass(eq=False)
class _Scene:
    """What the attention function finds when a block calls it."""

    layer: int = 0
    copies: int = 1
    past: "tuple[torch.Tensor, torch.Tensor] | None" = None  # [row, kv_head, position, d_head], shared by all copies
    fresh: "tuple[torch.Tensor, torch.Tensor] | None" = None  # [copy * row, ...]; the block's own when None
    own: bool = True  # attend to the block's own keys as well
    mask: "torch.Tensor | None" = None  # [1 | row, query, key], added to the scores
    edit: Callable[..., Any] | None = None  # of q, k, v and z by name
    stop: bool = False  # keep keys and values and leave the block
    record: States | None = None
    wanted: "set[tuple[str, int]]" = field(default_factory=set)  # sites to record


class _StopError(Exception):
    """Leaves a block once its keys and values are known."""


class Tail:
    """The blocks of an opened model, run from any layer and position on."""

    def __init__(self, model: "TransformerBridge"):
        self.bridge = model
        self.bare = Bare(model, self._attention)
        self.layers = self.bare.layers
        self.n_layers = len(self.layers)
        self._scene = _Scene()
        self.logits = self.bare.logits

    def record(
        self, tokens: "torch.Tensor", out: "torch.Tensor", sites: Sequence[str] = (), layers: Sequence[int] = ()
    ) -> States:
        """One forward of tokens [row, position], padded at the end only, keeping what a tail needs.

        Args:
            tokens: on the model's device.
            out: the positions [row, k] whose final activation is wanted.
            sites: those of which `States.at` will be asked.
            layers: at which it will be.

        Raises:
            UnsupportedError: the blocks cannot be called again with what this engine knows of them.
        """
        import torch

        states = States([], [], [], {}, tokens)
        self._refuse_norms_over_heads(sites)
        self._scene = _Scene(record=states, wanted={(site, layer) for site in sites for layer in layers})
        with ExitStack() as hooks, torch.inference_mode():

            def enters(index: int, args: tuple, kwargs: dict) -> None:
                self._scene.layer = index
                states.resid.append(args[0] if args else kwargs["hidden_states"])
                states.calls.append(_for_one_row(args, kwargs))

            def leaves(_, __, output) -> None:
                self.bare.in_tuples = isinstance(output, tuple)
                states.resid.append(output[0] if self.bare.in_tuples else output)

            for i, block in enumerate(self.layers):
                hook = block.register_forward_pre_hook(lambda _, a, k, i=i: enters(i, a, k), with_kwargs=True)
                hooks.callback(hook.remove)
            hooks.callback(self.layers[-1].register_forward_hook(leaves).remove)
            for site, layer in itertools.product(set(sites) & set(ON_MODULES), layers):
                keep = functools.partial(states.keep, site, layer)
                hooks.enter_context(self.bare.caught(hook_name(self.bridge, site, layer), keep))
            self.bare.model.base_model(input_ids=tokens, use_cache=False)
        if len(states.keys) != self.n_layers or len(states.resid) != self.n_layers + 1:
            raise UnsupportedError("its attention does not go through transformers' attention interface")
        return replace(states, final=states.resid[-1][torch.arange(len(tokens))[:, None], out])

    def _refuse_norms_over_heads(self, sites: Sequence[str]) -> None:
        """Behind a norm over all heads a head of q or k is no longer the one that its hook passes."""
        d_head = self.bridge.cfg.d_head
        for block in self.layers if {"q", "k"} & set(sites) else ():
            for name, module in block.named_modules():
                weight = getattr(module, "weight", None)
                if name.endswith(("q_norm", "k_norm")) and weight is not None and weight.numel() > d_head:
                    raise UnsupportedError("its queries and keys are normalised over all heads")

    # A change, and what follows from it

    def enter(
        self,
        window: Window,
        site: str,
        layer: int,
        values: "torch.Tensor",
        heads: Sequence[int] | None = None,
    ) -> "tuple[int, torch.Tensor]":
        """Runs with a site replaced, up to where the whole window goes on together.

        Args:
            window: where.
            site: what is replaced, at the first `window.width` positions.
            layer: of the site.
            values: what is put there [copy, row, width, d_model]; of heads [copy, row, width, d_head].
            heads: the head that each copy replaces, for sites in attention.

        Returns:
            The layer that comes next and its input [copy, row, position, d_model] from `window.start` to `window.end`.
        """
        copies = values.shape[0]
        if site == "resid_pre":
            return layer, self._filled(window, layer, values)
        if site == "resid_post":
            return layer + 1, self._filled(window, layer + 1, values)
        if site in ("k", "v"):

            def replaced(k, v):
                changed = {"k": k, "v": v}
                whole = changed[site].clone().unflatten(0, (copies, -1))  # [copy, row, kv_head, position, d_head]
                for copy, head in enumerate(heads or ()):
                    whole[copy, :, head, : window.width] = values[copy]
                changed[site] = whole.flatten(0, 1)
                return changed["k"], changed["v"]

            hidden = self._filled(window, layer, None).expand(copies, -1, -1, -1)
            return layer + 1, self._block(layer, hidden, window, edit=replaced)
        start, width = window.start, window.width
        rows, states = window.rows, window.states
        hidden = states.resid[layer][rows, start : start + width].expand(copies, -1, -1, -1)
        past = (states.keys[layer][rows, :, : start + width], states.values[layer][rows, :, : start + width])
        mask = states.masks[layer][None, start : start + width, : start + width]
        scene = _Scene(layer, copies, past, own=False, mask=mask)
        with ExitStack() as hooks:
            if site in ("q", "z"):

                def put(activation):  # [copy * row, head, position, d_head]
                    whole = activation.clone().unflatten(0, (copies, -1))
                    for copy, head in enumerate(heads or ()):
                        whole[copy, :, head] = values[copy]
                    return whole.flatten(0, 1)

                scene.edit = lambda name, activation: put(activation) if name == site else activation
            else:
                hooks.enter_context(
                    self.bare.replaced(hook_name(self.bridge, site, layer), lambda _: values.flatten(0, 1))
                )
            changed = self._call(states, layer, hidden.flatten(0, 1), scene, self._positions(start, width))
        return layer + 1, self._filled(window, layer + 1, changed.unflatten(0, (copies, -1)))

    def finish(self, window: Window, entries: "Sequence[tuple[int, torch.Tensor]]") -> "torch.Tensor":
        """The final activations [copy, row, k, d_model] at `window.out`, of all entries in the order given.

        Each entry is what `enter` returned; the order must be that of their layers.
        """
        import torch

        waiting = list(entries)
        hidden: torch.Tensor | None = None
        first = waiting[0][0]
        for layer in range(first, self.n_layers):
            coming = [x for start, x in waiting if start == layer]
            waiting = waiting[len(coming) :]
            stacked = [x for x in (hidden, *coming) if x is not None]
            hidden = torch.cat(stacked) if len(stacked) > 1 else stacked[0]
            hidden = self._block(layer, hidden, window) if layer < self.n_layers - 1 else self._last(hidden, window)
        done = [self._out(x, window) for _, x in waiting]  # changed behind the last block
        return torch.cat([x for x in (hidden, *done) if x is not None])

    def bytes_a_row(self, window: int, length: int) -> int:
        """A generous estimate of what one changed run holds, in a window of so many out of `length` positions."""
        return row_bytes(self.bare.model, window, length)

    # One block

    def _filled(self, window: Window, layer: int, values: "torch.Tensor | None") -> "torch.Tensor":
        """The recorded input of a layer in the window [copy, row, position, d_model], its start replaced."""
        import torch

        kept = window.states.resid[layer][window.rows, window.start : window.end][None]
        if values is None:
            return kept
        rest = kept[:, :, window.width :].expand(len(values), -1, -1, -1)
        return torch.cat([values[:, :, : window.end - window.start].to(kept.dtype), rest], dim=2)

    def _positions(self, start: int, width: int) -> "torch.Tensor":
        import torch

        return torch.arange(start, start + width, device=self.bridge.cfg.device)[None]

    def _past(self, layer: int, window: Window) -> "tuple[torch.Tensor, torch.Tensor] | None":
        if window.start == 0:
            return None
        states, rows = window.states, window.rows
        return states.keys[layer][rows, :, : window.start], states.values[layer][rows, :, : window.start]

    def _block(self, layer: int, hidden: "torch.Tensor", window: Window, edit=None) -> "torch.Tensor":
        """One block on the whole window [copy, row, position, d_model]."""
        copies, _, width, _ = hidden.shape
        mask = window.states.masks[layer][None, window.start : window.end, : window.end]
        scene = _Scene(layer, copies, self._past(layer, window), mask=mask)
        if edit is not None:
            scene.edit = lambda name, activation: edit(*activation) if name == "kv" else activation
        positions = self._positions(window.start, width)
        changed = self._call(window.states, layer, hidden.flatten(0, 1), scene, positions)
        return changed.unflatten(0, (copies, -1))

    def _last(self, hidden: "torch.Tensor", window: Window) -> "torch.Tensor":
        """The last block at `window.out` only: keys and values of the whole window, the rest where it is wanted."""
        layer, (copies, _, width, _) = self.n_layers - 1, hidden.shape
        scene = _Scene(layer, copies, stop=True)
        with suppress(_StopError):
            self._call(window.states, layer, hidden.flatten(0, 1), scene, self._positions(window.start, width))
        mask = window.states.masks[layer][window.out][..., : window.end]  # [row, k, position]
        scene = _Scene(layer, copies, self._past(layer, window), scene.fresh, mask=mask)
        positions = window.out.repeat(copies, 1)
        wanted = self._out(hidden, window).flatten(0, 1)
        return self._call(window.states, layer, wanted, scene, positions).unflatten(0, (copies, -1))

    def _out(self, hidden: "torch.Tensor", window: Window) -> "torch.Tensor":
        """[copy, row, k, d_model] of a window's activations."""
        import torch

        rows = torch.arange(len(window.rows), device=hidden.device)[:, None]
        return hidden[:, rows, window.out - window.start]

    def _call(
        self, states: States, layer: int, hidden: "torch.Tensor", scene: _Scene, positions: "torch.Tensor"
    ) -> "torch.Tensor":
        """A block's own forward on hidden [batch, position, d_model] that stand at positions [1 | batch, position]."""
        import torch

        self._scene = scene
        args, kwargs = (_at(value, positions) for value in states.calls[layer])
        with torch.inference_mode():
            output = self.layers[layer](hidden, *args, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    # Attention

    def _attention(self, module, query, key, value, mask, scaling=None, softcap=None, dropout=0.0, **settings):
        """What transformers calls in a block: q [batch, head, position, d_head] -> [batch, position, head, d_head]."""
        import torch

        scene = self._scene
        harmless = ("position_ids", "cache_position", "attention_mask")
        if odd := [name for name, v in settings.items() if isinstance(v, torch.Tensor) and name not in harmless]:
            raise UnsupportedError(f"its attention takes {odd[0]}")
        if scene.record is not None:
            mask = self._note(query, key, value, mask)
        elif scene.stop:
            scene.fresh = (key, value)
            raise _StopError
        else:
            mask = scene.mask
            if scene.fresh is not None:
                key, value = scene.fresh
            if scene.edit is not None:
                query = scene.edit("q", query)
                key, value = scene.edit("kv", (key, value))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        own = (key, value) if scene.own else None
        z = attention(query, scene.past, own, mask, scene.copies, scale, softcap)
        if scene.edit is not None:
            z = scene.edit("z", z)
        if scene.record is not None:
            for site, activation in (("q", query), ("z", z)):
                if (site, scene.layer) in scene.wanted:
                    scene.record.keep(site, scene.layer, activation.transpose(1, 2))
        return z.transpose(1, 2), None

    def _note(self, query, key, value, mask) -> "torch.Tensor":
        """Keep a block's keys, values and mask; the mask [1, position, position] comes back."""
        states = self._scene.record
        assert states is not None
        if mask is None or mask.ndim != 4 or len(states.keys) != self._scene.layer or bool((mask != mask[:1]).any()):
            raise UnsupportedError("its attention masks are not those of causal attention")
        whole = mask[0, 0]
        same = [kept for kept in states.masks if kept.shape == whole.shape and bool((kept == whole).all())]
        states.masks.append(same[0] if same else whole)  # few layers have a mask of their own
        states.keys.append(key)
        states.values.append(value)
        return whole[None]


def attention(query, past, own, mask, copies: int, scale: float, softcap: float | None = None) -> "torch.Tensor":
    """Attention of copies of a batch over keys they share and keys of their own, with grouped heads.

    softmax(scale * q k^T + mask) v over both sets of keys. The shared ones are multiplied once for all copies.

    Args:
        query: [copy * row, head, query, d_head].
        past: shared keys and values [row, kv_head, key, d_head], or None.
        own: keys and values [copy * row, kv_head, key, d_head], or None.
        mask: [1 | row, query, key] over past and own keys, added to the scores.
        copies: of each row.
        scale: of the scores.
        softcap: s -> softcap * tanh(s / softcap) on the scores before the mask (Gemma 2).

    Returns:
        [copy * row, head, query, d_head]
    """
    import torch

    some = past or own
    n_kv, d_head = some[0].shape[1], query.shape[-1]
    n_query = query.shape[2]
    rows, group = query.shape[0] // copies, query.shape[1] // n_kv
    # [row, kv_head, copy, group * query, d_head]
    q = query.reshape(copies, rows, n_kv, group * n_query, d_head).permute(1, 2, 0, 3, 4) * scale
    scores = []
    if past is not None:
        shared = q.flatten(2, 3) @ past[0].transpose(-1, -2)  # [row, kv_head, copy * group * query, key]
        scores.append(shared.unflatten(2, (copies, -1)))
    if own is not None:
        k, v = (x.reshape(copies, rows, n_kv, -1, x.shape[-1]).permute(1, 2, 0, 3, 4) for x in own)
        scores.append(q @ k.transpose(-1, -2))
    weights = torch.cat(scores, dim=-1) if len(scores) > 1 else scores[0]
    if softcap is not None:
        weights = torch.tanh(weights / softcap) * softcap
    by_query = weights.unflatten(3, (group, n_query))
    by_query += mask[:, None, None, None]
    weights = torch.softmax(by_query.flatten(3, 4), dim=-1, dtype=torch.float32).to(query.dtype)
    n_past = past[0].shape[2] if past is not None else 0
    z: Any = 0
    if past is not None:
        z = (weights[..., :n_past].flatten(2, 3) @ past[1]).unflatten(2, (copies, -1))
    if own is not None:
        z = z + weights[..., n_past:] @ v
    return z.permute(2, 0, 1, 3, 4).reshape(copies * rows, n_kv * group, n_query, -1)


def row_bytes(model: "PreTrainedModel", window: int, length: int) -> int:
    """Bytes that a block holds at once for a row of `window` positions that attend to `length` of them."""
    config = model.config.get_text_config()
    d_model = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * d_model
    heads = getattr(config, "num_attention_heads", 0)  # a state-space model has none
    return window * (6 * d_model + 3 * inner + 3 * heads * length) * model.dtype.itemsize


def _for_one_row(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """What a block is called with behind its input, which is the same for all rows or cannot be used again."""
    import torch

    def one(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if value.ndim == 4:
                return None  # an attention mask: ours is recorded elsewhere
            if value.ndim > 1 and len(value) > 1 and not bool((value == value[:1]).all()):
                raise UnsupportedError("its blocks are given something of each row")
            return value[:1] if value.ndim > 1 else value
        if isinstance(value, tuple):
            return tuple(map(one, value))
        return value

    return tuple(map(one, args[1:])), {name: one(value) for name, value in kwargs.items() if name != "hidden_states"}


def _at(value: Any, positions: "torch.Tensor") -> Any:
    """Recorded arguments [1, position, ...] at positions [batch, position]."""
    import torch

    if isinstance(value, torch.Tensor):
        return value[0][positions] if value.ndim > 1 else value[positions[0]]
    if isinstance(value, tuple):
        return tuple(_at(item, positions) for item in value)
    if isinstance(value, dict):
        return {name: _at(item, positions) for name, item in value.items()}
    return value
