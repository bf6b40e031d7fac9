"""Attention knockout: edges from one role to another, cut in windows of layers (Geva et al. 2023, arXiv 2304.14767).

An edge is what the tokens of one role (the receiver) read from those of another (the sender) through attention. Where
it is cut, the receiver's attention to the sender is zero, of all heads or of one, and the other tokens take its share.
What is lost is what had to come that way, in these layers, and was not there already.

The numbers are those of one full forward pass a cell. They are computed from the first layer and position on that can
change (`hooking.engines.tail`), where a model's attention can be taken apart like that.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.choice import first_exact
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.protocol import NOTHING_LEFT, Cut, Engine, UnsupportedError, Window
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.readable import check_readable
from pbb_probe.hooking.sites import check_eval, check_roles
from pbb_probe.hooking.sites import n_heads as heads_of
from pbb_probe.labels import with_labels
from pbb_probe.models.parity import spread_between, spread_of, tolerance
from pbb_probe.patching.alignment import AlignedTokens, align
from pbb_probe.patching.forwards import Forward, Values, combined, forwards_of
from pbb_probe.patching.measurement import CPU_TOKENS
from pbb_probe.patching.pairs import Pairs
from pbb_probe.schema import Gibibytes, checks_arguments, shown, whole

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.patching.metrics import AnyMetric

Edge = tuple[str, str]
"""The roles of a sender and a receiver."""
ROWS = 64  # prompts that are run together for one window


@checks_arguments
def knockout(
    model: "TransformerBridge",
    prompts: Prompts,
    *,
    metric: "AnyMetric | Mapping[str, AnyMetric]",
    edges: Sequence[Edge] = (("name", "answer"), ("input", "answer"), ("name", "input")),
    width: Annotated[int, whole(1, 10**6)] = 1,
    heads: bool = False,
    memory_gib: Gibibytes = 2.0,
) -> "xr.Dataset":
    """Cut each edge in every window of layers, keeping a value a prompt.

    Args:
        model: an opened model in eval mode.
        prompts: whose roles the edges connect.
        metric: logits [prompt, d_vocab] at the answer position -> [prompt]; or a metric of whole answers, whose tokens
            are put behind the answer position. Several at once when a mapping by name.
        edges: sender and receiver. The receiver must stand behind the sender, or be the same.
        width: layers in a window; windows begin at each layer that leaves room for all of them.
        heads: cut one head at a time, rather than all together.
        memory_gib: what recorded and running activations may take, besides the model and the result.

    Returns:
        `cut` ([metric,] edge, layer, [head,] prompt), NaN where a prompt lacks a role, with `intact` ([metric,]
        prompt), the metric of the prompts as they are. Coordinates: `edge` as `name -> answer`, `layer` the first of a
        window, and the labels of the prompts. Attributes: `width`; `method`, the engine it took.

    Raises:
        PbbError: an unknown role, an edge that runs backwards or leaves a token with nothing to attend to, a window
            wider than the model is deep, or a model whose attention cannot be cut exactly.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=0), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=4)
        >>> cut = knockout(model, prompts, metric=lambda logits: logits.amax(-1), width=2)["cut"]
        >>> cut.dims, cut.sizes["layer"]
        (('edge', 'layer', 'prompt'), 5)
    """
    import numpy as np
    import xarray as xr

    check_eval(model)
    senders_receivers = _checked(prompts, edges)
    windows = _windows(model.cfg.n_layers, width)
    aligned = align(Pairs(prompts, prompts), list(dict.fromkeys(itertools.chain(*senders_receivers))))
    metrics: Mapping[str, AnyMetric] = metric if isinstance(metric, Mapping) else {"": metric}
    n_heads = heads_of(model, "head") if heads else None
    measured: dict[str, Values] = {}
    passed_over: Mapping[str, str] = {}
    for forward in forwards_of(metrics, len(aligned)):
        cuts = _Cuts(model, aligned, forward, senders_receivers, windows, n_heads, int(memory_gib * 2**30))
        chosen = first_exact(model, cuts.measured_by, passed_over)
        passed_over = chosen.passed_over
        for i, name in enumerate(forward.names):
            measured[name] = {key: value[i] for key, value in chosen.result.items()}
    values = [combined(name, kind, measured) for name, kind in metrics.items()]
    by_name = ("metric",) if isinstance(metric, Mapping) else ()
    of_head = ("head",) if heads else ()

    def stacked(key: str) -> "np.ndarray":
        arrays = [of_one[key].numpy() for of_one in values]
        return np.stack(arrays) if by_name else arrays[0]

    found = xr.Dataset(
        {
            "intact": ((*by_name, "prompt"), stacked("intact")),
            "cut": ((*by_name, "edge", "layer", *of_head, "prompt"), stacked("cut")),
        },
        coords={"edge": [" -> ".join(edge) for edge in senders_receivers], "layer": [first for first, _ in windows]}
        | {dim: list(metrics) for dim in by_name},
        attrs={**chosen.attributes, "width": width},
    )
    return with_labels(found, prompts)


def _checked(prompts: Prompts, edges: Sequence[Edge]) -> list[Edge]:
    import torch

    listed = edges if isinstance(edges, list | tuple) else ()
    found = [(edge[0], edge[1]) for edge in listed if isinstance(edge, list | tuple) and len(edge) == 2]
    if not found or len(found) < len(listed) or len(set(map(repr, found))) < len(found):
        raise PbbError(
            f"edges must be a list of pairs of roles, each pair once, such as [('name', 'answer')], not {shown(edges)}."
        )
    for edge in found:
        check_roles(prompts, edge)
        (first, _), (_, last) = (prompts.spans[role].unbind(-1) for role in edge)
        there = torch.stack([prompts.spans[role][:, 0] >= 0 for role in edge]).all(0)
        if bool((there & (first > last)).any()):
            row = int((there & (first > last)).long().argmax())
            raise PbbError(
                f"The edge {edge[0]} -> {edge[1]} runs backwards: in prompt {row} {edge[1]} stands before {edge[0]}. "
                "Attention reads what stands before: turn it round."
            )
    return found


def _windows(n_layers: int, width: int) -> list[tuple[int, int]]:
    """First layer of each window, and the one behind its last."""
    if width > n_layers:
        raise PbbError(f"width must be at most {n_layers}, the layers of the model, not {width}.")
    return [(first, first + width) for first in range(n_layers - width + 1)]


@dataclass(frozen=True, eq=False)
class _Cuts:
    """All cells of one forward."""

    model: "TransformerBridge"
    aligned: AlignedTokens
    forward: Forward
    edges: list[Edge]
    windows: list[tuple[int, int]]
    n_heads: int | None
    memory: int

    def measured_by(self, engine: Engine) -> "dict[str, torch.Tensor]":
        """`intact` [metric, prompt] and `cut` [metric, edge, window, (head,) prompt], once the engine is checked."""
        import torch

        rows = self._typical()
        if not isinstance(engine, FullForward) and len(rows):
            self._check(engine, rows)
        finals, intact = self._finals(engine, range(len(self.aligned)))
        metrics = self.forward.metrics
        by_cell = torch.stack([metrics(engine.logits(final)) for final in finals.flatten(0, -4)], dim=1)
        cut = by_cell.unflatten(1, finals.shape[:-3])
        there = self._there()  # [edge, prompt]
        shape = (1, len(self.edges), *(1,) * (finals.ndim - 4), len(self.aligned))
        return {"intact": metrics(engine.logits(intact)), "cut": cut.where(there.view(shape), float("nan"))}

    def _there(self) -> "torch.Tensor":
        """Does the prompt have both roles? [edge, prompt]"""
        import torch

        has = dict(zip(map(str, self.aligned.places), self.aligned.has_place, strict=True))
        return torch.stack([has[sender] & has[receiver] for sender, receiver in self.edges])

    def _typical(self) -> list[int]:
        """A prompt with as many of the edges as any."""
        there = self._there().sum(0)
        return [int(there.argmax())] if bool(there.any()) else []

    def _check(self, engine: Engine, rows: list[int]) -> None:
        """Hold an engine to a full forward pass, on one prompt.

        Raises:
            UnsupportedError: they differ.
        """
        full = FullForward(self.model)
        found, expected = (self._finals(by, rows)[0] for by in (engine, full))
        logits, reference = engine.logits(found).float().cpu(), full.logits(expected).float().cpu()
        dtype = next(self.model.original_model.parameters()).dtype
        difference = spread_between(logits, reference, dtype, spread_of(reference))
        if not difference <= tolerance(dtype):
            raise UnsupportedError(f"an attention knockout differs by {difference:.2g}")

    def _finals(self, engine: Engine, rows: Sequence[int]) -> "tuple[torch.Tensor, torch.Tensor]":
        """The final activations [edge, window, (head,) row, k, d] of cut runs, and [row, k, d] of intact ones."""
        import torch

        ids = self.forward.ids
        forced = self.aligned if ids is None else self.aligned.with_answers(ids)
        check_readable(self.model, forced.clean, forced.lengths)
        out = forced.answer[:, None] + torch.arange(1 if ids is None else ids.shape[1])
        out = out.clamp(max=forced.clean.shape[1] - 1)
        device = torch.device(self.model.cfg.device)
        spans = dict(zip(map(str, forced.places), forced.spans, strict=True))
        parts, intact = [], []
        for chunk in torch.split(torch.tensor(list(rows)), self._rows_at_once(engine, forced.clean.shape[1])):
            states = engine.record(forced.clean[chunk].to(device), out[chunk].to(device))
            assert states.final is not None
            intact.append(states.final)
            of_edges = []
            for sender, receiver in self.edges:
                both = torch.cat([spans[sender][chunk], spans[receiver][chunk]], 1)  # [row, 4]
                cells = len(self.windows) * (self.n_heads or 1)
                finals = states.final[None].repeat(cells, *(1,) * states.final.ndim)
                for at in torch.unique(both, dim=0).tolist():
                    here = (both == torch.tensor(at)).all(1).nonzero()[:, 0]
                    reached = here[(at[0] < states.tokens.shape[1]) & (at[2] <= out[chunk][here, 0])]
                    if len(reached):
                        finals[:, reached.to(device)] = self._cut(engine, states, reached, at, out[chunk][reached])
                of_edges.append(finals)
            parts.append(torch.stack(of_edges))
        found = torch.cat(parts, dim=2)
        if self.n_heads:
            found = found.unflatten(1, (len(self.windows), self.n_heads))
        return found, torch.cat(intact)

    def _cut(self, engine: Engine, states: Any, rows: "torch.Tensor", at: list[int], out: "torch.Tensor") -> Any:
        """The cut runs [window * head, row, k, d] of rows whose sender and receiver stand at the same positions."""
        import torch

        device = states.tokens.device
        keys, queries = (at[0], at[1] + 1), (at[2], at[3] + 1)
        if keys[0] == 0 and keys[1] > queries[0]:
            raise PbbError(NOTHING_LEFT)
        window = Window(states, rows.to(device), queries[0], queries[1] - queries[0], out.to(device))
        heads: Sequence[int | None] = [None] if self.n_heads is None else range(self.n_heads)
        cuts = [Cut(first, stop, keys, queries, head) for first, stop in self.windows for head in heads]
        at_once = max(1, CPU_TOKENS // (len(rows) * (window.end - window.start)))
        return torch.cat([engine.cut(window, cuts[i : i + at_once]) for i in range(0, len(cuts), at_once)])

    def _rows_at_once(self, engine: Engine, length: int) -> int:
        cells = len(self.windows) * (self.n_heads or 1)
        return max(1, min(ROWS, int(self.memory / 2 / (cells * engine.bytes_a_row(length, length)))))
