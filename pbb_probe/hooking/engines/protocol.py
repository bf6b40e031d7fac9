"""What an engine is: a way to run a model on after changes of its activations, and the tensors it takes and gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from einops import rearrange

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments that a block is called with behind its input."""


class UnsupportedError(Exception):
    """The model is built in another way than an engine can use; the next one is needed."""


@dataclass(frozen=True, eq=False)
class States:
    """What one forward of unchanged rows leaves behind. Rows are padded at the end only.

    Each engine fills in what it needs itself; `at` gives the sites that were asked for.
    """

    tokens: "torch.Tensor"
    """[row, position]"""
    resid: "list[torch.Tensor]" = field(default_factory=list)
    """The input of each block and the output of the last [row, position, d_model]: n_layers + 1 of them."""
    arguments: list[Arguments] = field(default_factory=list)
    """What each block is called with behind its input, the same for all rows."""
    keys: "list[torch.Tensor]" = field(default_factory=list)
    """[row, kv_head, position, d_head] a layer, with their position embedding."""
    values: "list[torch.Tensor]" = field(default_factory=list)
    """[row, kv_head, position, d_head] a layer."""
    masks: "list[torch.Tensor]" = field(default_factory=list)
    """The attention mask of each layer [position, position]."""
    sites: "dict[tuple[str, int], torch.Tensor]" = field(default_factory=dict)
    """Activations of further sites [row, position, ...] by site and layer."""
    final: "torch.Tensor | None" = None
    """What `Engine.logits` takes, at the positions that were wanted [row, k, ...]."""

    def keep(self, site: str, layer: int, activation: "torch.Tensor") -> None:
        """Keep a site's activation; it is copied, as a later module may change it in place."""
        self.sites[site, layer] = activation.clone()

    def at(self, site: str, layer: int) -> "torch.Tensor":
        """A site's activation [row, position, d_model] or [row, position, head, d_head]."""
        if (site, layer) in self.sites:
            return self.sites[site, layer]
        if site in ("k", "v"):
            by_head = (self.keys if site == "k" else self.values)[layer]
            return rearrange(by_head, "row kv_head position d_head -> row position kv_head d_head")
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
    def changed(self) -> slice:
        """The changed positions."""
        return slice(self.start, self.start + self.width)

    @property
    def end(self) -> int:
        """The position behind the last one that matters."""
        return int(self.out.max()) + 1


NOTHING_LEFT = (
    "An edge would leave a token with nothing to attend to: cut one whose sender does not hold all tokens that the "
    "receiver may read."
)


@dataclass(frozen=True)
class Cut:
    """Attention that is taken away: of some positions to others, in some layers."""

    first: int
    """The first layer."""
    stop: int
    """The layer behind the last one."""
    keys: tuple[int, int]
    """The positions that are no longer attended to: the first, and the one behind the last."""
    queries: tuple[int, int]
    """The positions that no longer attend to them."""
    head: int | None = None
    """The only head that does not; all of them when None."""

    def blocked(self, scores: "torch.Tensor", start: int = 0) -> "torch.Tensor":
        """Its part of scores [head, query, key], of queries from a position on: a view."""
        queries = slice(*(max(0, position - start) for position in self.queries))
        heads = slice(None) if self.head is None else slice(self.head, self.head + 1)
        return scores[heads, queries, slice(*self.keys)]


class Engine(Protocol):
    """An exact way to run a model with one site replaced: the same numbers as a full forward pass.

    Rows are recorded once (`record`). Each change then begins at its own layer (`enter`), and all of a window are run
    to the end together (`finish`). What comes out is unembedded when all of it is there (`logits`).
    """

    method: ClassVar[str]
    """How results name it."""
    bridge: "TransformerBridge"
    """The opened model; it is not altered."""
    n_layers: int

    def __init__(self, model: "TransformerBridge") -> None: ...

    def record(
        self, tokens: "torch.Tensor", out: "torch.Tensor", sites: Sequence[str] = (), layers: Sequence[int] = ()
    ) -> States:
        """One forward of tokens [row, position], padded at the end only, keeping what changed runs need of it.

        Args:
            tokens: on the model's device.
            out: the positions [row, k] whose final activation is wanted.
            sites: those of which `States.at` will be asked.
            layers: at which it will be.

        Raises:
            UnsupportedError: the model is not built as this engine takes for granted, or a site is out of its reach.
        """

    def enter(
        self, window: Window, site: str, layer: int, values: "torch.Tensor", heads: Sequence[int] | None = None
    ) -> "tuple[int, torch.Tensor]":
        """Runs with a site replaced, up to where the whole window goes on together.

        Args:
            window: where.
            site: what is replaced, at the first `window.width` positions.
            layer: of the site.
            values: what is put there [copy, row, width, d_model]; of heads [copy, row, width, d_head].
            heads: the head that each copy replaces, for sites in attention.

        Returns:
            The layer that comes next and its input [copy, row, position, d_model], whose positions are the engine's own
            business: it goes to `finish` as it is.
        """

    def finish(self, window: Window, entries: "Sequence[tuple[int, torch.Tensor]]") -> "torch.Tensor":
        """The final activations [copy, row, k, ...] at `window.out`, of all entries in the order given.

        Each entry is what `enter` returned; the order must be that of their layers.
        """

    def cut(self, window: Window, cuts: Sequence[Cut]) -> "torch.Tensor":
        """The final activations [copy, row, k, ...] at `window.out` of runs with attention taken away.

        Args:
            window: which begins with the first query of the cuts; its width does not matter.
            cuts: a copy each, in the order of their first layers.

        Raises:
            PbbError: a token would have nothing left to attend to.
            UnsupportedError: its attention is out of this engine's reach.
        """

    def logits(self, final: "torch.Tensor") -> "torch.Tensor":
        """The logits [..., d_vocab] of final activations [..., d_model]."""

    def bytes_a_row(self, window: int, length: int) -> int:
        """A generous estimate of what one changed run holds, in a window of so many out of `length` positions."""
