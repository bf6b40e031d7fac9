"""All cells of a sweep measured by one engine: what is put where, in which order, within how much memory.

Pairs are recorded in chunks. Cells that start at the same position run together, each entering at its layer. Only the
final activation at the answer is kept of each; it is unembedded once the cell has been run for all pairs, so that a
metric sees all of them at once.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from pbb_probe.hooking.engines.protocol import States, Window

if TYPE_CHECKING:
    import torch
    from transformer_lens.tools.analysis.interchange import SubspaceInterchange

    from pbb_probe.hooking.engines.protocol import Engine

    Measure = Callable[[torch.Tensor], torch.Tensor]

Replacement = Literal["other", "own", "mean", "zero", "mean_difference", "random"]
REPLACEMENTS: tuple[Replacement, ...] = get_args(Replacement)

CPU_TOKENS = 1024
"""Tokens run together on a CPU, whose caches hold no more; a GPU takes what fits into the memory."""

Cell = tuple[str, int, int, int]
"""Site, layer, head (0 where there are none) and place."""


@dataclass(frozen=True, eq=False)
class Grid:
    """What is patched where."""

    base: "torch.Tensor"
    """Token ids [pair, position] of the runs that are patched."""
    other: "torch.Tensor"
    """Token ids [pair, position] of the runs that activations are taken from."""
    out: "torch.Tensor"
    """The positions [pair, k] whose logits are measured; the first is the answer position."""
    spans: "torch.Tensor"
    """First and last position of each place [place, pair, 2]."""
    sites: tuple[str, ...]
    layers: list[int]
    replace_with: Replacement
    """What is put in: see `patch_sweep`."""
    subspaces: "dict[str, torch.Tensor]"
    """Orthonormal bases [layer, place, d_model, rank] a site."""
    only: "dict[str, torch.Tensor]"
    """Cells to run [layer, head, place] a site; all of a site that is not there."""
    one_model: bool
    """Are both runs of the same model? Then they are the same up to the first token that differs."""
    seed: int
    memory: int
    """Bytes that recorded and running activations may take together."""

    def active(self, place: int, rows: "torch.Tensor") -> "torch.Tensor":
        """Those of the rows at which patching a place can change anything."""
        import torch

        start, end = self.spans[place, rows].unbind(-1)
        reached = start <= self.out[rows, 0]
        if self.replace_with == "other" and self.one_model:
            differ = self.base[rows] != self.other[rows]
            before = torch.arange(differ.shape[1]) <= end[:, None]
            reached &= (differ & before).any(1)
        return rows[reached]


def measure(
    engine: "Engine", donor: "Engine", grid: Grid, measured: "Measure", progress: Any = None
) -> "dict[str, torch.Tensor]":
    """`base` and `other` [metric, pair], the unpatched runs, and each site [metric, layer, head, place, pair].

    Args:
        engine: of the model that is patched.
        donor: of the model that activations are taken from; the same one, or of another model.
        grid: the cells.
        measured: logits [pair, k, d_vocab] at `grid.out` -> [metric, pair].
        progress: a tqdm bar that counts cells.
    """
    return _Measurement(engine, donor, grid, measured, progress).run()


class _Measurement:
    def __init__(self, engine, donor, grid: Grid, measured: "Measure", progress: Any):
        import torch

        self.engine, self.donor, self.grid, self.measured, self.progress = engine, donor, grid, measured, progress
        self.device = torch.device(engine.bridge.cfg.device)
        self.heads: dict[str, int] = {}
        self.held: dict[Cell, torch.Tensor] = {}
        self._kept: dict[int, tuple[States, States]] = {}

    def run(self) -> "dict[str, torch.Tensor]":
        import torch

        grid = self.grid
        chunks = list(torch.arange(len(grid.base)).split(self._pairs_at_once()))
        finals = []
        for i, rows in enumerate(chunks):
            recorded = self._record(rows)
            finals.append([states.final for states in recorded])
            self.heads = {site: _n_heads(recorded[0].at(site, grid.layers[0])) for site in grid.sites}
            if len(chunks) == 1:
                self._kept[i] = recorded
            del recorded  # before the next are made
        self.base_final, other_final = (torch.cat(side) for side in zip(*finals, strict=True))
        base = self._measure(self.base_final[None])[:, 0]
        other = self._measure(other_final[None], self.donor)[:, 0]  # each by its own model's unembedding
        self.means = self._means(chunks) if grid.replace_with in ("mean", "mean_difference") else {}
        # a cell that changes nothing measures what the unpatched run does
        values = {
            site: base[:, None, None, None].repeat(1, len(grid.layers), heads, len(grid.spans), 1)
            for site, heads in self.heads.items()
        }
        for layers, places in self._units(len(chunks)):
            for i, pairs in enumerate(chunks):
                recorded = self._kept.get(i) or self._record(pairs)
                for place in places:
                    self._run_place(place, layers, pairs, recorded)
                del recorded
            self._unembed(values)
            if self.progress is not None:
                self.progress.update(len(layers) * len(places) * sum(self.heads.values()))
        for site, chosen in grid.only.items():
            values[site] = values[site].where(chosen[None, ..., None].to(values[site].device), float("nan"))
        return {"base": base, "other": other, **values}

    # Memory

    def _pairs_at_once(self) -> int:
        """Pairs whose two recorded runs take half of the memory."""
        grid, cfg, width = self.grid, self.engine.bridge.cfg, self.grid.base.shape[1]
        stored = 3 * (cfg.n_layers + 1) * cfg.d_model + len(grid.sites) * len(grid.layers) * cfg.d_model
        size = self.engine.bridge.original_model.dtype.itemsize
        a_pair = 2 * width * stored * size + self.engine.bytes_a_row(width, width)
        return max(1, int(grid.memory / 2 / a_pair))

    def _units(self, n_chunks: int) -> "Iterator[tuple[list[int], list[int]]]":
        """Layers and places whose final activations fit into a quarter of the memory, for all pairs."""

        grid = self.grid
        final = self.base_final.numel() * self.base_final.itemsize
        a_layer = sum(self.heads.values()) * final
        fit = max(1, int(grid.memory / 4 / a_layer))  # of layers x places
        some_layers = min(fit, len(grid.layers))
        some_places = max(1, fit // some_layers) if n_chunks > 1 else 1
        for first in range(0, len(grid.spans), some_places):
            places = list(range(first, min(first + some_places, len(grid.spans))))
            for layers in _batches(grid.layers, some_layers):
                yield layers, places

    # What is put in

    def _record(self, rows: "torch.Tensor") -> "tuple[States, States]":
        grid = self.grid
        base, other, out = (x[rows].to(self.device) for x in (grid.base, grid.other, grid.out))
        sides = ((self.engine, base), (self.donor, other))
        first, second = (engine.record(tokens, out, grid.sites, grid.layers) for engine, tokens in sides)
        return first, second

    def _means(self, chunks: "Sequence[torch.Tensor]") -> "dict[tuple[str, int, int], torch.Tensor]":
        """The mean over pairs of what the other runs have (or have more than the base) at each (site, layer, place)."""
        import torch

        grid = self.grid
        sums: dict[tuple[str, int, int], torch.Tensor] = {}
        for i, rows in enumerate(chunks):
            base, other = self._kept.get(i) or self._record(rows)
            for place, spans in enumerate(grid.spans):
                width = int(spans[0, 1] - spans[0, 0]) + 1  # of all pairs: `check_sweep`
                at = (spans[rows, :1] + torch.arange(width)).to(self.device)
                pair = torch.arange(len(rows), device=self.device)[:, None]
                for site in grid.sites:
                    for layer in grid.layers:
                        found = other.at(site, layer)[pair, at]
                        if grid.replace_with == "mean_difference":
                            found = found - base.at(site, layer)[pair, at]
                        sums[site, layer, place] = sums.get((site, layer, place), 0) + found.sum(0)
            del base, other
        return {key: total / len(grid.base) for key, total in sums.items()}

    def _values(self, site: str, layer: int, place: int, pairs, own, other) -> "torch.Tensor":
        """What is put there [row, width, (head,) ...], given what the two runs have there and the pairs they are of."""
        import torch

        grid = self.grid
        if site in grid.subspaces and grid.replace_with == "random":
            return self._placebo(site, layer, place, own, other)
        match grid.replace_with:
            case "other":
                put = other
            case "own":
                put = own
            case "zero":
                put = torch.zeros_like(own)
            case "mean":
                put = self.means[site, layer, place].expand_as(own)
            case "mean_difference":
                put = own + self.means[site, layer, place]
            case "random":
                put = self._random(site, layer, place, pairs, own, other)
        return self._inside(site, layer, place)(own, put) if site in grid.subspaces else put

    def _inside(self, site: str, layer: int, place: int) -> "SubspaceInterchange":
        from transformer_lens.tools.analysis.interchange import SubspaceInterchange

        return SubspaceInterchange(self.grid.subspaces[site][self.grid.layers.index(layer), place])

    def _placebo(self, site: str, layer: int, place: int, own, other) -> "torch.Tensor":
        """As far as the other run's activation would move it inside the subspace, in a random one of the same rank."""
        from transformer_lens.tools.analysis.interchange import NormMatchedPlacebo, random_basis

        inside = self._inside(site, layer, place)
        width, rank = self.grid.subspaces[site].shape[2:]
        seed = _number(f"{self.grid.seed} {self.grid.sites.index(site)} {layer} {place}")
        return NormMatchedPlacebo(inside, random_basis(width, rank, seed))(own, other)

    def _random(self, site: str, layer: int, place: int, pairs, own, other) -> "torch.Tensor":
        """Its own and a vector of the norm of other minus own; a pair has its direction however pairs are chunked."""
        import torch

        name = f"{self.grid.seed} {self.grid.sites.index(site)} {layer} {place}"
        drawn = [_direction(own.shape[1:], f"{name} {int(pair)}") for pair in pairs]
        direction = torch.stack(drawn).to(own)
        norm = (other - own).flatten(2).norm(dim=-1, keepdim=True)
        unit = direction.flatten(2) / direction.flatten(2).norm(dim=-1, keepdim=True)
        return own + (norm * unit).view_as(own)

    # Running

    def _run_place(
        self, place: int, layers: list[int], pairs: "torch.Tensor", recorded: "tuple[States, States]"
    ) -> None:
        """Every cell of a place at these layers, for the recorded pairs; final activations go into `self.held`."""
        import torch

        grid = self.grid
        active = grid.active(place, pairs)
        first, last = grid.spans[place, active].unbind(-1)
        spans = torch.stack([first, last.minimum(grid.out[active, 0])], dim=1)
        for start, stop in torch.unique(spans, dim=0).tolist():
            here = active[(spans == torch.tensor([start, stop])).all(1)]
            end = int(grid.out[here].max()) + 1
            put = len(grid.sites) * len(layers) * (stop + 1 - start) * self.base_final.shape[-1]  # activations a row
            a_row = self.engine.bytes_a_row(end - start, end) + put * self.base_final.itemsize
            at_once = int(grid.memory / 2 / a_row)
            if self.device.type == "cpu":
                at_once = min(at_once, CPU_TOKENS // (end - start))
            at_once = max(1, at_once)
            for some in here.split(at_once):
                rows = (some - pairs[0]).to(self.device)  # pairs are recorded in order
                window = Window(recorded[0], rows, start, stop + 1 - start, grid.out[some].to(self.device))
                self._run_rows(place, layers, some, window, recorded[1], at_once)

    def _run_rows(
        self, place: int, layers: list[int], pairs: "torch.Tensor", window: Window, other: States, at_once: int
    ) -> None:
        """The cells that change something, stacked by the rows in which they do."""
        import torch

        where = slice(window.start, window.start + window.width)
        read = bool((window.out < where.stop).any())  # behind the last block no other position is
        groups: dict[tuple[bool, ...], list] = defaultdict(list)
        for site, layer in itertools.product(self.grid.sites, layers):
            enters = layer + (site != "resid_pre")
            if enters == self.engine.n_layers and not read and site not in ("k", "v"):
                continue
            own, given = (states.at(site, layer)[window.rows, where] for states in (window.states, other))
            values = self._values(site, layer, place, pairs, own, given)
            changed = torch.ones(len(pairs), dtype=torch.bool)
            if self.grid.replace_with == "other":
                changed = (values != own).flatten(1).any(1).cpu()
            if bool(changed.any()):
                heads = self._heads(site, layer, place)
                groups[tuple(changed.tolist())] += [(enters, site, layer, head, values) for head in heads]
        for rows, cells in groups.items():
            keep = torch.tensor(rows)
            there = keep.to(self.device)
            some = replace(window, rows=window.rows[there], out=window.out[there])
            cells.sort(key=lambda cell: cell[0])
            for batch in _batches(cells, max(1, at_once // int(keep.sum()))):
                self._run_batch(batch, some, there, pairs[keep], place)

    def _heads(self, site: str, layer: int, place: int) -> "list[int]":
        """The heads that are to be patched one by one; [0] where the site has none."""
        import torch

        chosen = self.grid.only.get(site)
        if chosen is None:
            return list(range(self.heads[site]))
        return torch.nonzero(chosen[self.grid.layers.index(layer), :, place])[:, 0].tolist()

    def _run_batch(self, batch: list, window: Window, keep: "torch.Tensor", pairs: "torch.Tensor", place: int) -> None:
        entries, cells = [], []
        for (_, site, layer), same in itertools.groupby(batch, key=lambda cell: cell[:3]):
            some = list(same)
            heads, values = [cell[3] for cell in some], some[0][4][keep]
            if values.ndim == 4:  # [row, width, head, d_head] -> [head, row, width, d_head]
                entries.append(self.engine.enter(window, site, layer, values[:, :, heads].permute(2, 0, 1, 3), heads))
            else:
                entries.append(self.engine.enter(window, site, layer, values[None]))
            cells += [(site, layer, head, place) for head in heads]
        for cell, final in zip(cells, self.engine.finish(window, entries), strict=True):
            if cell not in self.held:
                self.held[cell] = self.base_final.clone()
            self.held[cell][pairs.to(self.device)] = final

    # Measuring

    def _unembed(self, values: "dict[str, torch.Tensor]") -> None:
        import torch

        cfg = self.engine.bridge.cfg
        a_cell = self.base_final.shape[:2].numel() * cfg.d_vocab * 2 * self.base_final.itemsize
        for cells in _batches(list(self.held), max(1, int(self.grid.memory / 4 / a_cell))):
            measured = self._measure(torch.stack([self.held.pop(cell) for cell in cells]))
            for i, (site, layer, head, place) in enumerate(cells):
                values[site][:, self.grid.layers.index(layer), head, place] = measured[:, i]

    def _measure(self, finals: "torch.Tensor", engine: "Engine | None" = None) -> "torch.Tensor":
        """Final activations [cell, pair, k, d_model] -> [metric, cell, pair]; those of another model by its engine."""
        import torch

        return torch.stack([self.measured(logits) for logits in (engine or self.engine).logits(finals)], dim=1)


def _n_heads(activation: "torch.Tensor") -> int:
    """Of an activation [row, position, (head,) ...]; 1 without heads."""
    return activation.shape[2] if activation.ndim == 4 else 1


def _direction(shape: "torch.Size", seed: str) -> "torch.Tensor":
    """A random direction, the same for the same seed."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(_number(seed)))


def _number(seed: str) -> int:
    import random

    return random.Random(seed).getrandbits(62)


def _batches(items: list, size: int) -> "Iterator[list]":
    for start in range(0, len(items), size):
        yield items[start : start + size]
