"""Activation patching: one activation of another prompt put into a prompt's forward, at every site, layer and place.

effect = metric of the corrupted prompt with that one activation taken from the clean prompt
recovery = (effect - corrupted) / (clean - corrupted)

The numbers are those of one full forward pass a cell. They are computed from the smallest part of the network that can
change (`hooking.engines.tail`). Where a model's blocks cannot be taken apart like that, the next exact way is taken
(`hooking.engines.choice`), with a warning. Before each sweep a few cells of every site are checked against a full
forward pass (`patching.exactness`).

A high recovery says that this place is sufficient to restore the clean answer in this context. It says neither that
the model stores the fact there nor that no other place would do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.engines.choice import first_exact
from pbb_probe.hooking.engines.full import FullForward
from pbb_probe.hooking.engines.protocol import Engine
from pbb_probe.hooking.readable import check_readable
from pbb_probe.hooking.sites import SITES, check_layers
from pbb_probe.labels import with_labels
from pbb_probe.patching.alignment import AlignedTokens, align
from pbb_probe.patching.checks import cells_to_run, check_sweep
from pbb_probe.patching.exactness import check_against_full_forward, heads_of
from pbb_probe.patching.forwards import Forward, Values, combined, forwards_of
from pbb_probe.patching.grid import Grid, Replacement
from pbb_probe.patching.measurement import measure
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.resume import measure_by_layer
from pbb_probe.schema import (
    AnyPlace,
    Gibibytes,
    LayerList,
    NameList,
    PositionList,
    Seed,
    checked,
    checks_arguments,
    shown,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    import xarray as xr
    from tqdm import tqdm
    from transformer_lens import TransformerBridge

    from pbb_probe.patching.metrics import AnyMetric

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} {unit}s [{elapsed}<{remaining}]"


@dataclass(frozen=True, eq=False)
class SweepSettings:
    """How a sweep is carried out, of `patch_sweep` as of `transfer_map`.

    Raises:
        PbbError: a value that is not of its field's type.
    """

    whole_spans: bool = True
    """Patch all tokens of a role together; its last one alone when False."""
    only: "xr.Dataset | None" = None
    """Booleans by site with the dimensions of the effects, without `pair`: the other cells are not run, and are NaN."""
    memory_gib: Gibibytes = 2.0
    """What recorded and running activations may take, besides the model and the result."""
    resume: AnyPlace | None = None
    """Folder in which each layer is kept once it is done; the same call goes on from there."""

    def __post_init__(self) -> None:
        for name, kind in (("whole_spans", bool), ("memory_gib", Gibibytes), ("resume", AnyPlace | None)):
            object.__setattr__(self, name, checked(name, getattr(self, name), kind))


DEFAULTS = SweepSettings()


@checks_arguments
def patch_sweep(
    model: "TransformerBridge",
    pairs: Pairs | None = None,
    *,
    metric: "AnyMetric | Mapping[str, AnyMetric]",
    sites: NameList = ("resid_pre",),
    layers: LayerList | None = None,
    positions: NameList | PositionList | None = None,
    replace_with: Replacement = "other",
    noising: bool = False,
    donor_model: "TransformerBridge | None" = None,
    subspaces: "Mapping[str, torch.Tensor] | None" = None,
    seed: Seed = 0,
    settings: SweepSettings = DEFAULTS,
    clean: "torch.Tensor | None" = None,
    corrupted: "torch.Tensor | None" = None,
    attention_mask: "torch.Tensor | None" = None,
    answer: "torch.Tensor | None" = None,
) -> "xr.Dataset":
    """Patch every pair at every site, layer and place, keeping a value a pair.

    Args:
        model: an opened model in eval mode.
        pairs: the prompts; or bare tokens as `clean` and `corrupted`.
        metric: logits [pair, d_vocab] at the answer position -> [pair]; or a metric of whole answers, such as
            `log_prob_difference`, whose tokens are put behind the answer position of both prompts. Several at once when
            a mapping by name.
        sites: keys of `SITES`; per head for z, q, k and v.
        layers: all when None.
        positions: positions in the row as given; or, of pairs, names of roles, whose tokens are patched together
            wherever they stand in each pair; all positions when None. Nothing is patched behind the answer position:
            the effect there is that of the unpatched prompt.
        replace_with: what is put in. `other`: the activation of the pair's other prompt. `mean`: its mean over the
            pairs, and `zero`: zeros (ablations). `mean_difference`: what is there already plus the mean over pairs of
            other minus own, the same vector for all pairs, a null for effects of a constant vector (arXiv 2507.08218).
            `random`: what is there plus a random vector of the norm of other minus own (in a subspace,
            TransformerLens's placebo: as far as `other` would move it, in a random subspace of the same rank). `own`:
            what is there already (a control).
        noising: patch the clean prompts with activations of the corrupted ones (is this place necessary?), instead of
            the corrupted prompts with those of the clean ones (is it sufficient?).
        donor_model: the model that activations are taken from, of the same shape; the model itself when None. With it,
            the clean and the corrupted prompts may be the same.
        subspaces: patch only the component in a subspace: orthonormal bases [layer, place, d_model, rank] by site, such
            as those of `transformer_lens.tools.analysis.interchange` (of a probe, of means, or learned by DAS).
        seed: of `random`.
        settings: how the sweep is carried out: spans, cells, memory and resuming.
        clean: bare token ids [pair, position] in place of pairs.
        corrupted: token ids of the same shape, padded alike.
        attention_mask: 1 at tokens, 0 at padding [pair, position]; when None that of the pairs, or ones.
        answer: position [pair] at which the answer is predicted; when None that of the pairs, or the last attended one.

    Returns:
        `effects[site]` ([metric,] layer, [head | kv_head,] position | role, pair), NaN where a pair lacks the role,
        with `clean` and `corrupted` (pair), the metric of the two unpatched prompts. The labels of the pairs are
        coordinates. Attributes: `method`, the engine it took; `passed_over`, why not a quicker one, where that is so;
        `replace_with`; `direction`.

    Raises:
        PbbError: pairs that do not line up or do not differ, or that the model cannot read together, an unknown site,
            layer, role or position, a site whose activation has other axes than `SITES` says, a model in train mode, or
            a metric of the wrong shape or with NaN, or with answers that are not a pair each.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", model)
        >>> metric = pbb.metrics.answer_difference(*pairs.answer_ids(model))
        >>> effects = pbb.patch_sweep(model, pairs, metric=metric, positions=["name", "answer"])
    """
    import xarray as xr
    from tqdm import tqdm

    if not isinstance(settings, SweepSettings):
        raise PbbError(f"settings must be SweepSettings, not {shown(settings)}.")
    layers = check_layers(model, layers)
    aligned = align(
        pairs,
        positions,
        clean=clean,
        corrupted=corrupted,
        attention_mask=attention_mask,
        answer=answer,
        whole_spans=settings.whole_spans,
    )
    check_sweep(model, aligned, sites, layers, replace_with=replace_with, donor_model=donor_model, subspaces=subspaces)
    metrics: Mapping[str, AnyMetric] = metric if isinstance(metric, Mapping) else {"": metric}
    forwards = forwards_of(metrics, len(aligned))
    asked: dict[str, Any] = {
        "sites": tuple(sites),
        "layers": layers,
        "replace_with": replace_with,
        "subspaces": dict(subspaces or {}),
        "only": cells_to_run(settings.only, sites, layers, aligned),
        "one_model": donor_model is None,
        "seed": seed,
        "memory": int(settings.memory_gib * 2**30),
    }

    passed_over: Mapping[str, str] = {}
    n_cells = sum(heads_of(model, site) for site in sites) * len(layers) * len(aligned.places) * len(forwards)
    measured: dict[str, Values] = {}
    with tqdm(total=n_cells, desc="patching", unit="cell", delay=2, bar_format=BAR) as progress:
        for forward in forwards:
            grid = _grid(model, aligned, forward, noising, asked)
            measured_by = _measured_by(model, donor_model, grid, forward, settings, progress)
            chosen = first_exact(model, measured_by, passed_over)
            passed_over = chosen.passed_over
            for i, name in enumerate(forward.names):
                measured[name] = {key: value[i] for key, value in chosen.result.items()}
    values = [combined(name, kind, measured) for name, kind in metrics.items()]
    by_name = ("metric",) if isinstance(metric, Mapping) else ()
    sides = {"clean": "base", "corrupted": "donor"} if noising else {"clean": "donor", "corrupted": "base"}
    variables = {side: _stacked([of_one[key] for of_one in values], (*by_name, "pair")) for side, key in sides.items()}
    for site in sites:
        heads = SITES[site][:-1]
        effects = [of_one[site] if heads else of_one[site][:, 0] for of_one in values]
        effects = [of_one.where(aligned.has_place, float("nan")) for of_one in effects]
        variables[site] = _stacked(effects, (*by_name, "layer", *heads, aligned.place_dim, "pair"))
    coords = {"layer": layers, aligned.place_dim: aligned.places} | {dim: list(metrics) for dim in by_name}
    swept = xr.Dataset(
        variables,
        coords=coords,
        attrs={
            **chosen.attributes,
            "replace_with": replace_with,
            "direction": "noising" if noising else "denoising",
        },
    )
    return swept if pairs is None else with_labels(swept, pairs)


def _grid(
    model: "TransformerBridge", aligned: AlignedTokens, forward: Forward, noising: bool, asked: dict[str, Any]
) -> Grid:
    """The cells of one forward, the answers that it is to be forced to behind the prompts."""
    import torch

    forced = aligned if forward.ids is None else aligned.with_answers(forward.ids)
    for tokens in (forced.clean, forced.corrupted):
        check_readable(model, tokens, forced.lengths)
    base, donor = (forced.clean, forced.corrupted) if noising else (forced.corrupted, forced.clean)
    out = forced.answer[:, None] + torch.arange(1 if forward.ids is None else forward.ids.shape[1])
    out = out.clamp(max=base.shape[1] - 1)  # behind the end only where ids are -1
    return Grid(base, donor, out, forced.spans, **asked)


def _measured_by(
    model: "TransformerBridge",
    donor_model: "TransformerBridge | None",
    grid: Grid,
    forward: Forward,
    settings: SweepSettings,
    progress: "tqdm[Any]",
) -> "Callable[[Engine], dict[str, torch.Tensor]]":
    """The values of a grid as a function of the engine that runs it."""

    def measured(engine: Engine) -> "dict[str, torch.Tensor]":
        donor_engine = engine if donor_model is None else type(engine)(donor_model)
        if not isinstance(engine, FullForward):
            check_against_full_forward(engine, donor_engine, model, donor_model, grid)
        if settings.resume is None:
            return measure(engine, donor_engine, grid, forward.metrics, progress)
        folder = Path(settings.resume)
        return measure_by_layer(folder, forward.names, engine, donor_engine, grid, forward.metrics, progress)

    return measured


def _stacked(values: "list[torch.Tensor]", dims: tuple[str, ...]) -> "tuple[tuple[str, ...], np.ndarray]":
    """Of each metric, or of the only one where there is no dimension for them."""
    import numpy as np

    arrays = [value.numpy() for value in values]
    return dims, np.stack(arrays) if dims[0] == "metric" else arrays[0]
