"""Attention of changed runs over the keys they share and those of their own: what blocks call in place of their own.

A block is told by an `AttentionCall` what stands in front of it, what is edited within it, and what is recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from einops import rearrange

from pbb_probe.hooking.engines.protocol import States, UnsupportedError

if TYPE_CHECKING:
    import torch

    Edits = dict[str, Callable[[torch.Tensor], torch.Tensor]]

HARMLESS = ("position_ids", "cache_position", "attention_mask")
"""Tensors that attention is given besides, and that say nothing which the mask does not."""


class KeysKnownError(Exception):
    """Leaves a block once its keys and values are known."""


@dataclass(eq=False)
class AttentionCall:
    """What attention finds when a block calls it. Keys and values are [row, kv_head, position, d_head]."""

    layer: int = 0
    copies: int = 1
    """How many times each row stands in the batch [copy * row]."""
    shared: "tuple[torch.Tensor, torch.Tensor] | None" = None
    """Recorded keys and values before the window, of all copies alike."""
    replaced: "tuple[torch.Tensor, torch.Tensor] | None" = None
    """Keys and values [copy * row, ...] in place of the block's own."""
    attends_to_itself: bool = True
    """Are the keys of these positions among those attended to? Else `shared` has them already."""
    mask: "torch.Tensor | None" = None
    """[1 | row, query, key], added to the scores."""
    blocked: "torch.Tensor | None" = None
    """[copy, 1 | row, 1 | head, query, key], added to the scores besides."""
    edits: "Edits" = field(default_factory=dict)
    """What becomes of the activation [copy * row, head, position, d_head] of each of the sites q, k, v and z."""
    only_keys: bool = False
    """Keep keys and values in `replaced` and leave the block."""
    states: States | None = None
    """Where an unchanged run is recorded."""
    wanted: set[tuple[str, int]] = field(default_factory=set)
    """Sites and layers to record."""

    def edited(self, site: str, activation: "torch.Tensor") -> "torch.Tensor":
        """An activation as this call has it at a site."""
        return self.edits[site](activation) if site in self.edits else activation

    def run(
        self,
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        mask: "torch.Tensor | None",
        scaling: float | None = None,
        softcap: float | None = None,
        **settings: Any,
    ) -> "torch.Tensor":
        """What a block's attention gives: queries [copy * row, head, position, d_head] -> z of the same shape.

        Raises:
            UnsupportedError: attention of another kind.
            KeysKnownError: nothing but keys and values was asked for.
        """
        import torch

        if odd := [name for name, v in settings.items() if isinstance(v, torch.Tensor) and name not in HARMLESS]:
            raise UnsupportedError(f"its attention takes {odd[0]}")
        if self.only_keys:
            self.replaced = (key, value)
            raise KeysKnownError
        if self.states is not None:
            scored = self._recorded(self.states, key, value, mask)
        else:
            assert self.mask is not None
            scored = self.mask
            key, value = self.replaced or (key, value)
            query, key, value = self.edited("q", query), self.edited("k", key), self.edited("v", value)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        new = (key, value) if self.attends_to_itself else None
        z = self.edited("z", attention(query, self.shared, new, scored, self.copies, scale, softcap, self.blocked))
        if self.states is not None:
            for site, by_head in (("q", query), ("z", z)):
                if (site, self.layer) in self.wanted:
                    activation = rearrange(by_head, "row head position d -> row position head d")
                    self.states.keep(site, self.layer, activation)
        return z

    def _recorded(
        self, states: States, key: "torch.Tensor", value: "torch.Tensor", mask: "torch.Tensor | None"
    ) -> "torch.Tensor":
        """Keep a block's keys, values and mask; the mask [1, position, position] comes back."""
        if mask is None or mask.ndim != 4 or len(states.keys) != self.layer or bool((mask != mask[:1]).any()):
            raise UnsupportedError("its attention masks are not those of causal attention")
        of_all = mask[0, 0]
        alike = [kept for kept in states.masks if kept.shape == of_all.shape and bool((kept == of_all).all())]
        states.masks.append(alike[0] if alike else of_all)  # few layers have a mask of their own
        states.keys.append(key)
        states.values.append(value)
        return of_all[None]


def attention(
    query: "torch.Tensor",
    shared: "tuple[torch.Tensor, torch.Tensor] | None",
    new: "tuple[torch.Tensor, torch.Tensor] | None",
    mask: "torch.Tensor",
    copies: int,
    scale: float,
    softcap: float | None = None,
    blocked: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """Attention of copies of a batch over keys they share and keys of their own, with grouped heads.

    softmax(scale * q k^T + mask) v over both sets of keys. The shared ones are multiplied once for all copies.

    Args:
        query: [copy * row, head, query, d_head].
        shared: keys and values [row, kv_head, key, d_head], or None.
        new: keys and values [copy * row, kv_head, key, d_head], or None.
        mask: [1 | row, query, key] over shared and new keys, added to the scores.
        copies: of each row.
        scale: of the scores.
        softcap: s -> softcap * tanh(s / softcap) on the scores before the mask (Gemma 2).
        blocked: [copy, 1 | row, 1 | head, query, key], added to the scores as the mask is.

    Returns:
        [copy * row, head, query, d_head]
    """
    import torch

    keys = shared or new
    assert keys is not None
    # Heads that read the same keys and values are one axis with their queries: [row, kv_head, copy, group * query, d].
    # The products stay `@`: einsum gives the same bits and takes 2 to 12 % longer.
    sizes = {"copy": copies, "kv": keys[0].shape[1]}
    q = rearrange(query, "(copy row) (kv group) query d -> row kv copy (group query) d", **sizes) * scale
    scores = []
    if shared is not None:
        over_shared = rearrange(q, "row kv copy gq d -> row kv (copy gq) d") @ shared[0].transpose(-1, -2)
        scores.append(rearrange(over_shared, "row kv (copy gq) key -> row kv copy gq key", copy=copies))
    if new is not None:
        k, v = (rearrange(x, "(copy row) kv key d -> row kv copy key d", copy=copies) for x in new)
        scores.append(q @ k.transpose(-1, -2))
    weights = torch.cat(scores, dim=-1) if len(scores) > 1 else scores[0]
    if softcap is not None:
        weights = torch.tanh(weights / softcap) * softcap
    n_query = query.shape[2]
    by_query = rearrange(weights, "row kv copy (group query) key -> row kv copy group query key", query=n_query)
    by_query += rearrange(mask, "row query key -> row 1 1 1 query key")
    if blocked is not None:
        kv = sizes["kv"] if blocked.shape[2] > 1 else 1
        by_query += rearrange(blocked, "copy row (kv group) query key -> row kv copy group query key", kv=kv)
    masked = rearrange(by_query, "row kv copy group query key -> row kv copy (group query) key")
    weights = torch.softmax(masked, dim=-1, dtype=torch.float32).to(query.dtype)
    n_shared = shared[0].shape[2] if shared is not None else 0
    z: Any = 0
    if shared is not None:
        of_shared = rearrange(weights[..., :n_shared], "row kv copy gq key -> row kv (copy gq) key") @ shared[1]
        z = rearrange(of_shared, "row kv (copy gq) d -> row kv copy gq d", copy=copies)
    if new is not None:
        z = z + weights[..., n_shared:] @ v
    heads: torch.Tensor = rearrange(z, "row kv copy (group query) d -> (copy row) (kv group) query d", query=n_query)
    return heads
