"""What is patched where: the cells of a sweep, and what is put into each."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch

Replacement = Literal["other", "own", "mean", "zero", "mean_difference", "random"]
REPLACEMENTS: tuple[Replacement, ...] = get_args(Replacement)

Cell = tuple[str, int, int, int]
"""Site, layer, head (0 where the site has none) and index of the place."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The prompts of a sweep as token ids, and the sites, layers and places at which they are patched."""

    base: "torch.Tensor"
    """Token ids [pair, position] of the prompts that are patched."""
    donor: "torch.Tensor"
    """Token ids [pair, position] of the prompts that activations are taken from."""
    out: "torch.Tensor"
    """The positions [pair, k] whose logits are measured; the first is the answer position."""
    spans: "torch.Tensor"
    """First and last position of each place [place, pair, 2]."""
    sites: tuple[str, ...]
    layers: list[int]
    replace_with: Replacement
    """What is put in: see `patch_sweep`."""
    subspaces: "dict[str, torch.Tensor]"
    """Orthonormal bases [layer, place, d_model, rank] by site."""
    only: "dict[str, torch.Tensor]"
    """The cells to run [layer, head, place] by site; all cells of a site that is not in it."""
    one_model: bool
    """Do base and donor run on the same model? Then their activations are equal before the first token that differs."""
    seed: int
    memory: int
    """Bytes that recorded and running activations may take together."""

    def active(self, place: int, rows: "torch.Tensor") -> "torch.Tensor":
        """Those of the rows in which patching a place can change anything."""
        import torch

        start, end = self.spans[place, rows].unbind(-1)
        reached = start <= self.out[rows, 0]
        if self.replace_with == "other" and self.one_model:
            differ = self.base[rows] != self.donor[rows]
            up_to_end = torch.arange(differ.shape[1]) <= end[:, None]
            reached &= (differ & up_to_end).any(1)
        return rows[reached]
