"""All cells of a sweep measured by one engine: in which order, and within how much memory.

Pairs are recorded in chunks. Cells that start at the same position run together, each entering at its layer. Of each
only the final activation at the answer is kept; it is unembedded once the cell has been run for all pairs, so that a
metric sees all pairs at once.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from pbb_probe.hooking.engines.protocol import Engine, States, Window
from pbb_probe.patching.grid import Cell, Grid
from pbb_probe.patching.replacements import Means, mean_activations, replacement

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

    Measure = Callable[[torch.Tensor], torch.Tensor]
    Progress: TypeAlias = "tqdm[Any]"

CPU_TOKENS = 1024
"""Tokens run together on a CPU, whose caches hold no more; a GPU takes what fits into the memory."""

T = TypeVar("T")


def measure(
    engine: Engine, donor_engine: Engine, grid: Grid, metrics: "Measure", progress: "Progress | None" = None
) -> "dict[str, torch.Tensor]":
    """The metrics of every cell, and of the unpatched prompts.

    Args:
        engine: of the model that is patched.
        donor_engine: of the model that activations are taken from; the same engine where that is the same model.
        grid: the cells.
        metrics: logits [pair, k, d_vocab] at `grid.out` -> [metric, pair].
        progress: a tqdm bar that counts cells.

    Returns:
        `base` and `donor` [metric, pair], the unpatched prompts, and each site [metric, layer, head, place, pair].
    """
    return _Measurement(engine, donor_engine, grid, metrics, progress).run()


class _Patch(NamedTuple):
    """One cell to be run for some rows."""

    enters: int
    """The block it enters at."""
    site: str
    layer: int
    head: int
    values: "torch.Tensor"
    """What is put in [row, width, (head,) d], for all heads."""


class _Measurement:
    def __init__(
        self, engine: Engine, donor_engine: Engine, grid: Grid, metrics: "Measure", progress: "Progress | None"
    ):
        import torch

        self.engine, self.donor_engine, self.grid, self.metrics = engine, donor_engine, grid, metrics
        self.progress = progress
        self.device = torch.device(engine.bridge.cfg.device)
        self.heads: dict[str, int] = {}
        self.means: Means = {}
        self.finals: dict[Cell, torch.Tensor] = {}  # of cells that are run, until they are measured
        self._kept: dict[int, tuple[States, States]] = {}

    def run(self) -> "dict[str, torch.Tensor]":
        import torch
        from einops import repeat

        grid = self.grid
        chunks = torch.split(torch.arange(len(grid.base)), self._pairs_at_once())
        finals = []
        for i, rows in enumerate(chunks):
            recorded = self._record(rows)
            finals.append([states.final for states in recorded])
            self.heads = {site: _n_heads(recorded[0].at(site, grid.layers[0])) for site in grid.sites}
            if len(chunks) == 1:
                self._kept[i] = recorded
            del recorded  # before the next are made
        self.base_final, donor_final = (torch.cat(side) for side in zip(*finals, strict=True))
        base = self._measured(self.base_final[None], self.engine)[:, 0]
        donor = self._measured(donor_final[None], self.donor_engine)[:, 0]  # each by its own model's unembedding
        if grid.replace_with in ("mean", "mean_difference"):
            recordings = ((rows, *self._recorded(i, rows)) for i, rows in enumerate(chunks))
            self.means = mean_activations(grid, recordings)
        # a cell that changes nothing measures what the unpatched prompt does
        shape = {"layer": len(grid.layers), "place": len(grid.spans)}
        values = {
            site: repeat(base, "metric pair -> metric layer head place pair", head=n_heads, **shape).clone()
            for site, n_heads in self.heads.items()
        }
        for layers, places in self._units(len(chunks)):
            for i, pairs in enumerate(chunks):
                recorded = self._recorded(i, pairs)
                for place in places:
                    self._run_place(place, layers, pairs, recorded)
                del recorded
            self._unembed(values)
            if self.progress is not None:
                self.progress.update(len(layers) * len(places) * sum(self.heads.values()))
        for site, chosen in grid.only.items():
            values[site] = values[site].where(chosen[None, ..., None].to(values[site].device), float("nan"))
        return {"base": base, "donor": donor, **values}

    # Memory

    def _pairs_at_once(self) -> int:
        """Pairs whose two recorded prompts take half of the memory."""
        grid, cfg, width = self.grid, self.engine.bridge.cfg, self.grid.base.shape[1]
        stored = 3 * (cfg.n_layers + 1) * cfg.d_model + len(grid.sites) * len(grid.layers) * cfg.d_model
        size = self.engine.bridge.original_model.dtype.itemsize
        a_pair = 2 * width * stored * size + self.engine.bytes_a_row(width, width)
        return max(1, int(grid.memory / 2 / a_pair))

    def _units(self, n_chunks: int) -> Iterator[tuple[list[int], list[int]]]:
        """Layers and places whose final activations fit into a quarter of the memory, for all pairs."""
        grid = self.grid
        final = self.base_final.numel() * self.base_final.itemsize
        a_layer = sum(self.heads.values()) * final
        fit = max(1, int(grid.memory / 4 / a_layer))  # of layers x places
        n_layers = min(fit, len(grid.layers))
        n_places = max(1, fit // n_layers) if n_chunks > 1 else 1
        for places in _batches(range(len(grid.spans)), n_places):
            for layers in _batches(grid.layers, n_layers):
                yield list(layers), list(places)

    # Recording

    def _record(self, rows: "torch.Tensor") -> "tuple[States, States]":
        grid = self.grid
        base, donor, out = (x[rows].to(self.device) for x in (grid.base, grid.donor, grid.out))
        sides = ((self.engine, base), (self.donor_engine, donor))
        first, second = (engine.record(tokens, out, grid.sites, grid.layers) for engine, tokens in sides)
        return first, second

    def _recorded(self, chunk: int, rows: "torch.Tensor") -> "tuple[States, States]":
        """The recorded base and donor prompts of a chunk, anew unless there is only one chunk."""
        return self._kept.get(chunk) or self._record(rows)

    # Running

    def _run_place(
        self, place: int, layers: list[int], pairs: "torch.Tensor", recorded: "tuple[States, States]"
    ) -> None:
        """Every cell of a place at these layers, for the recorded pairs; final activations go into `self.finals`."""
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
            for batch in torch.split(here, at_once):
                rows = (batch - pairs[0]).to(self.device)  # pairs are recorded in order
                window = Window(recorded[0], rows, start, stop + 1 - start, grid.out[batch].to(self.device))
                self._run_rows(place, layers, batch, window, recorded[1], at_once)

    def _run_rows(
        self, place: int, layers: list[int], pairs: "torch.Tensor", window: Window, donor: States, at_once: int
    ) -> None:
        """The cells that change something, stacked by the rows in which they do."""
        import torch

        where = slice(window.start, window.start + window.width)
        read = bool((window.out < where.stop).any())  # behind the last block no other position is
        groups: dict[tuple[bool, ...], list[_Patch]] = defaultdict(list)
        for site, layer in itertools.product(self.grid.sites, layers):
            enters = layer + (site != "resid_pre")
            if enters == self.engine.n_layers and not read and site not in ("k", "v"):
                continue
            own, given = (states.at(site, layer)[window.rows, where] for states in (window.states, donor))
            values = replacement(self.grid, self.means, site, layer, place, pairs, own, given)
            changed = torch.ones(len(pairs), dtype=torch.bool)
            if self.grid.replace_with == "other":
                changed = (values != own).flatten(1).any(1).cpu()
            if bool(changed.any()):
                heads = self._heads(site, layer, place)
                groups[tuple(changed.tolist())] += [_Patch(enters, site, layer, head, values) for head in heads]
        for rows, patches in groups.items():
            keep = torch.tensor(rows)
            on_device = keep.to(self.device)
            narrowed = replace(window, rows=window.rows[on_device], out=window.out[on_device])
            patches.sort(key=lambda patch: patch.enters)
            for batch in _batches(patches, max(1, at_once // int(keep.sum()))):
                self._run_batch(batch, narrowed, on_device, pairs[keep], place)

    def _heads(self, site: str, layer: int, place: int) -> list[int]:
        """The heads that are to be patched one by one; [0] where the site has none."""
        import torch

        chosen = self.grid.only.get(site)
        if chosen is None:
            return list(range(self.heads[site]))
        indices: list[int] = torch.nonzero(chosen[self.grid.layers.index(layer), :, place])[:, 0].tolist()
        return indices

    def _run_batch(
        self, batch: Sequence[_Patch], window: Window, keep: "torch.Tensor", pairs: "torch.Tensor", place: int
    ) -> None:
        from einops import rearrange

        entries, cells = [], []
        for (_, site, layer), of_site in itertools.groupby(batch, key=lambda patch: patch[:3]):
            patches = list(of_site)
            heads, values = [patch.head for patch in patches], patches[0].values[keep]
            if values.ndim == 4:
                by_head = rearrange(values[:, :, heads], "row width head d_head -> head row width d_head")
                entries.append(self.engine.enter(window, site, layer, by_head, heads))
            else:
                entries.append(self.engine.enter(window, site, layer, values[None]))
            cells += [(site, layer, head, place) for head in heads]
        for cell, final in zip(cells, self.engine.finish(window, entries), strict=True):
            if cell not in self.finals:
                self.finals[cell] = self.base_final.clone()
            self.finals[cell][pairs.to(self.device)] = final

    # Measuring

    def _unembed(self, values: "dict[str, torch.Tensor]") -> None:
        import torch

        cfg = self.engine.bridge.cfg
        a_cell = self.base_final.shape[:2].numel() * cfg.d_vocab * 2 * self.base_final.itemsize
        for cells in _batches(list(self.finals), max(1, int(self.grid.memory / 4 / a_cell))):
            measured = self._measured(torch.stack([self.finals.pop(cell) for cell in cells]), self.engine)
            for i, (site, layer, head, place) in enumerate(cells):
                values[site][:, self.grid.layers.index(layer), head, place] = measured[:, i]

    def _measured(self, finals: "torch.Tensor", engine: Engine) -> "torch.Tensor":
        """The metrics [metric, cell, pair] of final activations [cell, pair, k, d_model] of an engine's model."""
        import torch

        return torch.stack([self.metrics(logits) for logits in engine.logits(finals)], dim=1)


def _n_heads(activation: "torch.Tensor") -> int:
    """Of an activation [row, position, (head,) ...]; 1 without heads."""
    return activation.shape[2] if activation.ndim == 4 else 1


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
