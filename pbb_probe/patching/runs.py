"""The two runs of a sweep lined up: checked, their padding moved behind the tokens, their places found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.capture import check_roles
from pbb_probe.hooking.prompts import Prompts, padding_behind, put_behind
from pbb_probe.models.scoring import check_ids

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Runs:
    """Pairs of runs of equal lengths, on the CPU. Padding stands at the end, where causal attention ignores it."""

    clean: "torch.Tensor"
    """Token ids [pair, position]."""
    corrupted: "torch.Tensor"
    """Token ids [pair, position]."""
    answer: "torch.Tensor"
    """The position [pair] from which the answer is predicted."""
    spans: "torch.Tensor"
    """The first and the last position of each place in each pair [place, pair, 2]."""
    place: str
    """The name of the places' dimension: `position` or `role`."""
    labels: list
    """The name of each place."""
    lengths: "torch.Tensor"
    """Tokens of each pair's runs [pair]."""

    def __len__(self) -> int:
        return len(self.clean)

    def with_answers(self, ids: "torch.Tensor") -> "Runs":
        """Both runs with all but the last token of an answer [pair, k] behind them."""
        import torch

        check_ids(ids, len(self))
        behind = ids[:, :-1].cpu()
        lengths = self.answer + 1 + (behind >= 0).sum(1)
        clean, corrupted = (
            put_behind(tokens, torch.ones_like(tokens), self.answer, behind)[0][:, : int(lengths.max())]
            for tokens in (self.clean, self.corrupted)
        )
        return replace(self, clean=clean, corrupted=corrupted, lengths=lengths)


def line_up(
    clean: "torch.Tensor | Prompts",
    corrupted: "torch.Tensor | Prompts",
    positions: Sequence[int] | Sequence[str] | None = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
    whole_spans: bool = True,
) -> Runs:
    """Check two batches of prompts against each other and move their padding behind the tokens.

    The arguments are those of `patch_sweep`.

    Raises:
        PbbError: runs that do not line up, unknown roles or positions, a mask or answers of another shape.
    """
    import torch

    for side in (clean, corrupted):
        if isinstance(side, Prompts):
            if not len(side):
                raise PbbError("There are no pairs: give at least one.")
        elif not isinstance(side, torch.Tensor) or side.ndim != 2 or not side.numel():
            said = tuple(side.shape) if isinstance(side, torch.Tensor) else type(side).__name__
            raise PbbError(f"clean and corrupted must be Prompts or token ids [pair, position]; these are {said}.")
    spans, place, labels = _places(clean, positions, whole_spans)
    if isinstance(clean, Prompts) and isinstance(corrupted, Prompts):
        _check_aligned(clean, corrupted, labels if place == "role" else [])
        attention_mask = clean.attention_mask if attention_mask is None else attention_mask
        answer = clean.roles["answer"] if answer is None else answer
        clean, corrupted = clean.tokens, corrupted.tokens
    if isinstance(clean, Prompts) or isinstance(corrupted, Prompts) or clean.shape != corrupted.shape:
        raise PbbError(
            "clean and corrupted must be two tensors, or two Prompts, of the same shape [pair, position]: pad shorter "
            "pairs and give their attention_mask."
        )
    n_pairs, width = clean.shape
    mask = torch.ones_like(clean) if attention_mask is None else attention_mask.long()
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
    return Runs(
        clean.gather(1, order),
        corrupted.gather(1, order),
        (answer - first) % width,
        (spans - first[:, None]) % width,
        place,
        labels,
        last + 1 - first,
    )


def _check_aligned(clean: Prompts, corrupted: Prompts, roles: list[str]) -> None:
    import torch

    if len(clean) != len(corrupted):
        raise PbbError(f"There are {len(clean)} clean and {len(corrupted)} corrupted prompts: give each one of both.")
    lengths = (prompts.attention_mask.sum(1).tolist() for prompts in (clean, corrupted))
    for i, (one, other) in enumerate(zip(*lengths, strict=True)):
        if one != other:
            raise PbbError(f"Pair {i} has {one} clean and {other} corrupted tokens: use pairs of equal lengths.")
    if not torch.equal(clean.attention_mask, corrupted.attention_mask):
        raise PbbError("The clean and the corrupted prompts are padded differently: pad both on the same side.")
    for role in check_roles(corrupted, roles):
        elsewhere = (clean.spans[role] != corrupted.spans[role]).any(1)
        if bool(elsewhere.any()):
            i = int(elsewhere.long().argmax())
            raise PbbError(
                f"Role {role!r} stands at other tokens in the clean than in the corrupted prompt of pair {i}: "
                "use pairs that line up token by token."
            )


def _places(prompts: "torch.Tensor | Prompts", positions: Sequence[int] | Sequence[str] | None, whole_spans: bool):
    """First and last positions [place, pair, 2], the name of their dimension and their labels."""
    import torch

    if positions is not None and len(positions) and isinstance(positions[0], str):
        if not isinstance(prompts, Prompts):
            raise PbbError("Roles as positions need Prompts: give token positions, or clean and corrupted as Prompts.")
        roles = check_roles(prompts, [str(role) for role in positions])
        spans = torch.stack([prompts.spans[role] for role in roles])
        return spans if whole_spans else spans[..., 1:].expand(-1, -1, 2), "role", roles
    n_pairs, width = (prompts.tokens if isinstance(prompts, Prompts) else prompts).shape
    chosen = list(range(width)) if positions is None else [int(p) for p in positions]
    if not chosen or min(chosen) < 0 or max(chosen) >= width:
        raise PbbError(f"positions must be between 0 and {width - 1}, not {chosen}.")
    return torch.tensor(chosen)[:, None, None].expand(-1, n_pairs, 2), "position", chosen
