"""The clean and corrupted prompts of a sweep aligned: checked, padding moved to the end, places located."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts, padding_behind, put_behind
from pbb_probe.hooking.sites import check_roles
from pbb_probe.models.scoring import check_ids
from pbb_probe.patching.pairs import Pairs
from pbb_probe.schema import shown

if TYPE_CHECKING:
    import torch


LACKING = 10**9
"""Where the span of a role begins that a pair lacks: behind any answer, so that nothing is patched there."""


@dataclass(frozen=True, eq=False)
class AlignedTokens:
    """Pairs of prompts of equal lengths, on the CPU. Padding stands at the end, where causal attention ignores it."""

    clean: "torch.Tensor"
    """Token ids [pair, position]."""
    corrupted: "torch.Tensor"
    """Token ids [pair, position]."""
    answer: "torch.Tensor"
    """The position [pair] from which the answer is predicted."""
    spans: "torch.Tensor"
    """The first and the last position of each place in each pair [place, pair, 2]."""
    place_dim: str
    """The dimension that the places stand on: `position` or `role`."""
    places: list[int] | list[str]
    """The coordinate of each place."""
    lengths: "torch.Tensor"
    """Tokens of each prompt [pair], the same on both sides."""

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def has_place(self) -> "torch.Tensor":
        """Does the pair have the place? [place, pair]"""
        return self.spans[..., 0] != LACKING

    def select(self, rows: "torch.Tensor") -> "AlignedTokens":
        """Some of the pairs, by their indices [row]."""
        return replace(
            self,
            clean=self.clean[rows],
            corrupted=self.corrupted[rows],
            answer=self.answer[rows],
            spans=self.spans[:, rows],
            lengths=self.lengths[rows],
        )

    def with_answers(self, ids: "torch.Tensor") -> "AlignedTokens":
        """Both sides followed by all but the last token of an answer [pair, k]."""
        import torch

        check_ids(ids, len(self))
        behind = ids[:, :-1].cpu()
        lengths = self.answer + 1 + (behind >= 0).sum(1)
        clean, corrupted = (
            put_behind(tokens, torch.ones_like(tokens), self.answer, behind)[0][:, : int(lengths.max())]
            for tokens in (self.clean, self.corrupted)
        )
        return replace(self, clean=clean, corrupted=corrupted, lengths=lengths)


def align(
    pairs: Pairs | None = None,
    positions: Sequence[int] | Sequence[str] | None = None,
    *,
    clean: "torch.Tensor | None" = None,
    corrupted: "torch.Tensor | None" = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
    whole_spans: bool = True,
) -> AlignedTokens:
    """Check the two sides of pairs against each other and move their padding behind the tokens.

    The arguments are those of `patch_sweep`.

    Raises:
        PbbError: pairs and bare tokens together, or neither; sides that do not line up; unknown roles or positions; a
            mask or answers of another shape.
    """
    if pairs is not None:
        if clean is not None or corrupted is not None:
            raise PbbError("Give either pairs, or clean and corrupted token ids, but not both.")
        if not isinstance(pairs, Pairs):
            raise PbbError(
                f"pairs must be Pairs, such as Pairs(clean, corrupted) of two Prompts, not {shown(pairs)}; "
                "give bare token ids as clean= and corrupted=."
            )
        return _of_pairs(pairs, positions, attention_mask, answer, whole_spans)
    return _of_tokens(clean, corrupted, positions, attention_mask, answer)


def _of_pairs(
    pairs: Pairs,
    positions: Sequence[int] | Sequence[str] | None,
    attention_mask: "torch.Tensor | None",
    answer: "torch.Tensor | None",
    whole_spans: bool,
) -> AlignedTokens:
    import torch
    from einops import repeat

    clean, corrupted = pairs.clean, pairs.corrupted
    if not len(pairs):
        raise PbbError("There are no pairs: give at least one.")
    roles = None
    if positions is not None and len(positions) and isinstance(positions[0], str):
        roles = check_roles(clean, [str(role) for role in positions])
    _check_aligned(clean, corrupted, roles or [])
    mask = clean.attention_mask if attention_mask is None else attention_mask
    answer = clean.roles["answer"] if answer is None else answer
    if roles is None:
        places, spans = _token_places(positions, clean.tokens.shape)
        return _padding_moved(clean.tokens, corrupted.tokens, mask, answer, spans, "position", places)
    spans = torch.stack([clean.spans[role] for role in roles])
    if not whole_spans:
        spans = repeat(spans[..., 1], "role pair -> role pair end", end=2)
    return _padding_moved(clean.tokens, corrupted.tokens, mask, answer, spans, "role", roles)


def _of_tokens(
    clean: "torch.Tensor | None",
    corrupted: "torch.Tensor | None",
    positions: Sequence[int] | Sequence[str] | None,
    attention_mask: "torch.Tensor | None",
    answer: "torch.Tensor | None",
) -> AlignedTokens:
    import torch

    clean, corrupted = _token_ids(clean), _token_ids(corrupted)
    if positions is not None and len(positions) and isinstance(positions[0], str):
        raise PbbError("Roles as positions need Pairs of Prompts: give positions of tokens, or pairs.")
    if clean.shape != corrupted.shape:
        raise PbbError(
            "clean and corrupted must have the same shape [pair, position]: pad shorter pairs and give their "
            "attention_mask."
        )
    places, spans = _token_places(positions, clean.shape)
    mask = torch.ones_like(clean) if attention_mask is None else attention_mask
    return _padding_moved(clean, corrupted, mask, answer, spans, "position", places)


def _token_ids(side: object) -> "torch.Tensor":
    import torch

    if isinstance(side, Prompts):
        raise PbbError("clean and corrupted are bare token ids: give Prompts as pairs, Pairs(clean, corrupted).")
    if not isinstance(side, torch.Tensor) or side.ndim != 2 or not side.numel():
        said = tuple(side.shape) if isinstance(side, torch.Tensor) else type(side).__name__
        raise PbbError(f"Give pairs, or clean and corrupted as token ids [pair, position]; one of these is {said}.")
    return side


def _token_places(
    positions: Sequence[int] | Sequence[str] | None, shape: "torch.Size"
) -> "tuple[list[int], torch.Tensor]":
    """The positions to be patched, and the span of each, one token wide [place, pair, 2]."""
    import torch
    from einops import repeat

    n_pairs, width = shape
    places = list(range(width)) if positions is None else [int(position) for position in positions]
    if not places or min(places) < 0 or max(places) >= width:
        raise PbbError(f"positions must be between 0 and {width - 1}, not {places}.")
    return places, repeat(torch.tensor(places), "place -> place pair end", pair=n_pairs, end=2)


def _padding_moved(
    clean: "torch.Tensor",
    corrupted: "torch.Tensor",
    attention_mask: "torch.Tensor",
    answer: "torch.Tensor | None",
    spans: "torch.Tensor",
    place_dim: str,
    places: list[int] | list[str],
) -> AlignedTokens:
    n_pairs, width = clean.shape
    mask = attention_mask.long()
    if mask.shape != clean.shape:
        raise PbbError(
            f"attention_mask must have the shape of the tokens {tuple(clean.shape)}, not {tuple(mask.shape)}."
        )
    order, first = padding_behind(mask)
    last = first + (mask != 0).sum(1) - 1
    if answer is None:
        answer = last
    clean, corrupted, order, first, last, answer, spans = (
        x.cpu() for x in (clean, corrupted, order, first, last, answer, spans)
    )
    if answer.shape != (n_pairs,) or not bool(((answer >= 0) & (answer < width)).all()):
        raise PbbError(f"answer must hold a position between 0 and {width - 1} for each of the {n_pairs} pairs.")
    if not bool(((answer >= first) & (answer <= last)).all()):
        raise PbbError("answer must be the position of a token: in some pair it is in the padding.")
    return AlignedTokens(
        clean.gather(1, order),
        corrupted.gather(1, order),
        (answer - first) % width,
        ((spans - first[:, None]) % width).where(spans >= 0, LACKING),
        place_dim,
        places,
        last + 1 - first,
    )


def _check_aligned(clean: Prompts, corrupted: Prompts, roles: list[str]) -> None:
    import torch

    lengths = (prompts.attention_mask.sum(1).tolist() for prompts in (clean, corrupted))
    for i, (of_clean, of_corrupted) in enumerate(zip(*lengths, strict=True)):
        if of_clean != of_corrupted:
            raise PbbError(
                f"Pair {i} has {of_clean} clean and {of_corrupted} corrupted tokens: use pairs of equal lengths."
            )
    if not torch.equal(clean.attention_mask, corrupted.attention_mask):
        raise PbbError("The clean and the corrupted prompts are padded differently: pad both on the same side.")
    for role in check_roles(corrupted, roles):
        differ = (clean.spans[role] != corrupted.spans[role]).any(1)
        if bool(differ.any()):
            raise PbbError(
                f"Role {role!r} stands at different tokens in the clean and in the corrupted prompt of pair "
                f"{int(differ.long().argmax())}: use pairs whose roles stand at the same tokens."
            )
