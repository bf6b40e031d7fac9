"""Back-patching: a later layer's residual stream put into an earlier layer of the same prompt, at the same position.

effect = metric of the prompt with resid_pre of `target_layer` replaced by its own resid_pre of `source_layer`

It gives the layers between the two a second look at what is computed above them (Biran et al. 2024, "Hopping Too Late",
arXiv 2406.12775, where it repairs up to 66 % of failed two-hop questions). A better answer says that the information
came too late for layers that could have used it. The best of all pairs of layers is chosen among many: compare it with
the best of prompts that lack the information, not with the unpatched prompt.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.choice import first_exact, from_caller
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.protocol import Engine, States, UnsupportedError, Window
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.readable import check_readable
from pbb_probe.hooking.sites import check_eval, check_layers
from pbb_probe.labels import with_labels
from pbb_probe.models.parity import spread_between, tolerance
from pbb_probe.patching.alignment import AlignedTokens, align
from pbb_probe.patching.metrics import check_values
from pbb_probe.patching.pairs import Pairs
from pbb_probe.schema import Gibibytes, LayerList, NameList, checks_arguments

if TYPE_CHECKING:
    import numpy as np
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.patching.metrics import Metric

Cell = tuple[int, int]
"""Target and source layer."""


@checks_arguments
def back_patch(
    model: "TransformerBridge",
    prompts: "Prompts | torch.Tensor",
    *,
    metric: "Metric",
    roles: NameList = ("answer",),
    source_layers: LayerList | None = None,
    target_layers: LayerList | None = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
    memory_gib: Gibibytes = 2.0,
) -> "xr.Dataset":
    """Put the residual stream of each later layer into each earlier one, keeping a value a prompt.

    Args:
        model: an opened model in eval mode.
        prompts: `Prompts`, or token ids [prompt, position], which have the role `answer` only.
        metric: logits [prompt, d_vocab] at the answer position -> [prompt], each prompt from its own logits.
        roles: where; the last token of each, one at a time.
        source_layers: whose input is taken; `n_layers` is what the last one puts out. All when None.
        target_layers: whose input is replaced; all when None.
        attention_mask: 1 at tokens, 0 at padding [prompt, position]; from the `Prompts` when they are given, else ones.
        answer: position [prompt] at which the answer is predicted; the last attended one when None.
        memory_gib: what recorded and running activations may take, besides the model and the logits.

    Returns:
        `effects["resid_pre"]` (source_layer, target_layer, role, prompt), the metric of the patched prompt, and
        `unpatched` (prompt). Equal layers and roles behind the answer change nothing; where the source is below the
        target, or the prompt lacks the role, it is NaN. The labels of the prompts are coordinates. The attributes are
        the `method` and `passed_over` of `patch_sweep`.

    Raises:
        PbbError: unknown role or layer, a mask or answer of another shape, a model in train mode, or a metric of whole
            answers, of another shape or with NaN.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> prompts = pbb.Prompts.from_texts(model, ["dolvik(3) ="], answers=range(10))
        >>> ids = pbb.prompts.answer_ids(model, prompts, [7])
        >>> effects = pbb.back_patch(model, prompts, metric=pbb.metrics.probability(ids[:, 0]))
    """
    import numpy as np
    import xarray as xr

    check_eval(model)
    if not callable(metric):
        raise PbbError("back_patch takes one metric of the logits at the answer position, such as logit_difference.")
    targets = check_layers(model, target_layers)
    sources = list(range(model.cfg.n_layers + 1)) if source_layers is None else list(source_layers)
    if not sources or min(sources) < 0 or max(sources) > model.cfg.n_layers:
        raise PbbError(f"source_layers must be between 0 and {model.cfg.n_layers}, not {sources}.")
    aligned = _aligned(prompts, roles, attention_mask, answer)
    cells = sorted((target, source) for target, source in set(itertools.product(targets, sources)) if source > target)
    check_readable(model, aligned.clean, aligned.lengths)

    def measured(engine: Engine) -> "tuple[np.ndarray, np.ndarray]":
        if not isinstance(engine, FullForward) and cells:
            _check_against_full_forward(engine, aligned, cells)
        return _measured(engine, aligned, cells, from_caller(metric), int(memory_gib * 2**30))

    chosen = first_exact(model, measured)
    unpatched, patched = chosen.result
    effects = np.full((len(sources), len(targets), len(aligned.places), len(aligned)), np.nan, dtype=np.float32)
    for (i, source), (j, target) in itertools.product(enumerate(sources), enumerate(targets)):
        if source == target:
            effects[i, j] = unpatched
        elif source > target:
            effects[i, j] = patched[cells.index((target, source))]
    effects[:, :, ~aligned.has_place.numpy()] = np.nan
    back_patched = xr.Dataset(
        {
            "resid_pre": (("source_layer", "target_layer", "role", "prompt"), effects),
            "unpatched": ("prompt", unpatched),
        },
        coords={"source_layer": sources, "target_layer": targets, "role": aligned.places},
        attrs=chosen.attributes,
    )
    return with_labels(back_patched, prompts) if isinstance(prompts, Prompts) else back_patched


def _aligned(
    prompts: "Prompts | torch.Tensor",
    roles: Sequence[str],
    attention_mask: "torch.Tensor | None",
    answer: "torch.Tensor | None",
) -> AlignedTokens:
    """The prompts as both sides of pairs: padding behind the tokens, a place a role."""
    from einops import repeat

    if isinstance(prompts, Prompts):
        return align(Pairs(prompts, prompts), roles, attention_mask=attention_mask, answer=answer)
    if list(roles) != ["answer"]:
        raise PbbError("Token ids have no role but `answer`: give Prompts for others.")
    aligned = align(clean=prompts, corrupted=prompts, attention_mask=attention_mask, answer=answer)
    spans = repeat(aligned.answer, "pair -> role pair end", role=1, end=2)
    return replace(aligned, spans=spans, place_dim="role", places=["answer"])


def _measured(
    engine: Engine, aligned: AlignedTokens, cells: list[Cell], metric: "Metric", memory: int
) -> "tuple[np.ndarray, np.ndarray]":
    """The metric of the unpatched prompts [prompt] and of the patched ones [cell, role, prompt]."""
    import torch
    from tqdm import tqdm

    cfg, width = engine.bridge.cfg, aligned.clean.shape[1]
    recorded = 5 * (engine.n_layers + 1) * width * cfg.d_model * engine.bridge.original_model.dtype.itemsize
    at_once = max(1, int(memory / 2 / (recorded + engine.bytes_a_row(width, width))))
    chunks = torch.split(torch.arange(len(aligned)), at_once)

    def measure(logits: "torch.Tensor") -> "torch.Tensor":
        return check_values(metric(logits), len(aligned)).float().cpu()

    n_roles = len(aligned.places)
    patched = torch.empty(len(cells), n_roles, len(aligned))
    total = len(chunks) * patched[..., 0].numel()
    with torch.inference_mode(), tqdm(total=total, desc="back-patching", unit="cell", delay=2) as progress:
        # a metric sees all prompts at once: those that are not of the chunk are left unpatched
        logits = torch.cat([engine.logits(_final(_recorded(engine, aligned.select(rows))))[:, 0] for rows in chunks])
        unpatched = measure(logits)
        for rows in chunks:
            for cell, role, of_chunk in _patched(engine, aligned.select(rows), cells, memory):
                of_all = logits.clone()
                of_all[rows.to(of_all.device)] = of_chunk
                patched[cell, role, rows] = measure(of_all)[rows]
                progress.update()
    return unpatched.numpy(), patched.numpy()


def _patched(
    engine: Engine, aligned: AlignedTokens, cells: list[Cell], memory: int
) -> "Iterator[tuple[int, int, torch.Tensor]]":
    """Index of the cell, index of the role, and logits [row, d_vocab] at the answer, for every cell and role."""
    import torch
    from einops import repeat

    states = _recorded(engine, aligned)
    top = engine.n_layers
    resid = [states.at("resid_pre", layer) for layer in range(top)] + [states.at("resid_post", top - 1)]
    out = aligned.answer[:, None].to(engine.bridge.cfg.device)
    for role, positions in enumerate(aligned.spans[:, :, 1]):
        reached = positions <= aligned.answer
        tail = max(1, int((aligned.answer - positions).max()) + 1)
        a_cell = len(aligned) * engine.bytes_a_row(tail, int(aligned.answer.max()) + 1)
        size = max(1, int(memory / 2 / a_cell))
        for first in range(0, len(cells), size):
            batch = cells[first : first + size]
            finals = repeat(_final(states), "row k d_model -> cell row k d_model", cell=len(batch)).clone()
            for start in torch.unique(positions[reached]).tolist():
                rows = (reached & (positions == start)).nonzero()[:, 0].to(out.device)
                window, entries = Window(states, rows, start, 1, out[rows]), []
                for target, of_target in itertools.groupby(batch, key=lambda cell: cell[0]):
                    values = torch.stack([resid[source][rows, start : start + 1] for _, source in of_target])
                    entries.append(engine.enter(window, "resid_pre", target, values))
                finals[:, rows] = engine.finish(window, entries)
            for i, final in enumerate(finals):
                yield first + i, role, engine.logits(final)[:, 0]


def _recorded(engine: Engine, aligned: AlignedTokens) -> States:
    device = engine.bridge.cfg.device
    layers = range(engine.n_layers)
    return engine.record(
        aligned.clean.to(device), aligned.answer[:, None].to(device), ("resid_pre", "resid_post"), layers
    )


def _final(states: States) -> "torch.Tensor":
    """The final activation at the answer position [row, 1, d_model]."""
    assert states.final is not None  # it was asked for
    return states.final


def _check_against_full_forward(engine: Engine, aligned: AlignedTokens, cells: list[Cell]) -> None:
    """The longest way back in one prompt, by this engine and by a full forward pass.

    Raises:
        UnsupportedError: they differ; the message says by how much.
    """
    import torch

    model = engine.bridge
    one_prompt = aligned.select(torch.arange(1))
    longest = [max(cells, key=lambda cell: cell[1] - cell[0])]
    dtype = next(model.original_model.parameters()).dtype
    with torch.inference_mode():
        by_engine = (_patched(each, one_prompt, longest, 2**30) for each in (engine, FullForward(model)))
        for (_, _, logits), (_, _, expected) in zip(*by_engine, strict=True):
            difference = spread_between(logits, expected, dtype)
            if not difference <= tolerance(dtype):
                raise UnsupportedError(f"resid_pre differs by {difference:.2g}")
