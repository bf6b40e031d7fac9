"""The transfer map: what does each place carry? An interchange between the executions of two programs.

Base prompt: program A on x. Donor prompt: program B on x'. The donor's activation at one (site, layer, role) is put
into the forward pass of the base prompt, and the answer is read. Each hypothesis of what that activation carries
(`patching.hypotheses`) predicts an answer of its own; the one that the patched model gives is counted.

A place that carries the program need not be where it is stored, and one that carries nothing may hold what is also held
elsewhere: swapping one place shows what that place alone decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answers import answer_ids, covering
from pbb_probe.hooking.load import untrained_model
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.hooking.sites import check_roles
from pbb_probe.labels import CORRUPTED, NONE, with_controls, with_labels
from pbb_probe.patching.alignment import align
from pbb_probe.patching.checks import check_sweep
from pbb_probe.patching.grid import Replacement
from pbb_probe.patching.hypotheses import hypotheses, telling, told_apart
from pbb_probe.patching.metrics import greedy_match
from pbb_probe.patching.pairs import Pairs
from pbb_probe.patching.sweep import DEFAULTS, SweepSettings, patch_sweep
from pbb_probe.probing.controls import Control, controls_out_of
from pbb_probe.programs.program import Program
from pbb_probe.schema import LayerList, NameList, Seed, checks_arguments, shown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.patching.metrics import AnswerMetric, Metric

CONTROLS: tuple[Control, ...] = ("self", "random", "mean_difference", "untrained")
_REPLACEMENTS: dict[str, Replacement] = {"self": "own", "random": "random", "mean_difference": "mean_difference"}
"""What a control puts in, where it is not the donor's activation."""


@checks_arguments
def transfer_map(
    model: "TransformerBridge",
    pairs: Pairs,
    sites: NameList = ("resid_pre", "attn_out", "mlp_out"),
    roles: NameList | None = None,
    layers: LayerList | None = None,
    library: Sequence[Program] = (),
    subspaces: "Mapping[str, torch.Tensor] | None" = None,
    controls: Annotated[Sequence[Control], controls_out_of(CONTROLS)] = (),
    seed: Seed = 0,
    settings: SweepSettings = DEFAULTS,
) -> "xr.Dataset":
    """Which hypothesis the answer follows once one activation of the donor stands in the base.

    Args:
        model: an opened model in eval mode.
        pairs: from `make_transfer_pairs`. The corrupted prompts are the base, whose answer is read; the clean ones are
            the donors, which activations are taken from. Both have the labels program, source (its text) and call.
            Pairs in which two hypotheses of whole evaluations predict the same answer are left out.
        sites: keys of `SITES`.
        roles: all when None.
        layers: all when None.
        library: the programs that those of the pairs call.
        subspaces: patch only the component in a subspace: orthonormal bases [layer, role, d_model, rank] by site.
        controls: further maps of the same pairs. `self` puts in what is there already; `random` adds a random vector of
            the norm of donor minus base; `mean_difference` adds the mean over pairs of donor minus base to all;
            `untrained` is the map of the model as initialised before any training.
        seed: of the controls.
        settings: how the sweeps are carried out: spans, cells, memory and resuming.

    Returns:
        `carried[site]` ([control,] layer, [head | kv_head,] role, hypothesis, pair), 1 for the hypothesis that the
        answer follows, else 0, and NaN where the pair has no such hypothesis, or where another one predicts the
        same answer, which is then evidence of neither. The last hypothesis, `other`, is 1 where the answer follows
        none. With controls the first `control` is `none`, the map itself; without any there is no such dimension. The
        labels of the pairs are coordinates, those of the base with the prefix `corrupted_`, and so are `answered` and
        `corrupted_answered`: are the unpatched donor and the unpatched base answered correctly? `pair` is the place
        among the pairs given. Attributes: `given` and `qualified` pairs.

        Answers of several tokens count as given when each token is the likeliest one; what would follow is not looked
        at, but where one predicted answer begins another, the longer one counts.

    Raises:
        PbbError: no pair whose hypotheses predict different answers, an unknown control, and whatever
            `hypotheses` and `patch_sweep` refuse.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pairs = pbb.prompts.read_pairs("experiments/pairs.jsonl", model)
        >>> carried = pbb.transfer_map(model, pairs, sites=["resid_pre"], roles=["name", "answer"])
        >>> carried["resid_pre"].dims
        ('layer', 'role', 'hypothesis', 'pair')
    """
    prepared = _prepared(model, pairs, roles, library)
    maps = {}
    for control in (NONE, *controls):
        effects = patch_sweep(
            untrained_model(model, seed) if control == "untrained" else model,
            prepared.pairs,
            metric=prepared.metric,
            sites=sites,
            layers=layers,
            positions=prepared.roles,
            replace_with=_REPLACEMENTS.get(control, "other"),
            subspaces=subspaces,
            seed=seed,
            settings=_kept_apart(settings, control),
        )
        effects = effects.reset_coords(drop=True).rename(metric="hypothesis")  # labels come once, at the end
        maps[control] = effects.map(_followed, lengths=prepared.lengths)
    unpatched = maps[NONE][["clean", "corrupted"]] == 1
    carried = with_controls({name: found[list(sites)] for name, found in maps.items()})
    carried = carried.where(prepared.tells)
    carried = carried.transpose("control", "layer", ..., "role", "hypothesis", "pair", missing_dims="ignore")
    answered = {
        "answered": unpatched["clean"].sel(hypothesis="everything", drop=True),
        f"{CORRUPTED}answered": unpatched["corrupted"].sel(hypothesis="nothing", drop=True),
    }
    engine = {name: effects.attrs[name] for name in ("method", "passed_over") if name in effects.attrs}
    carried = with_labels(carried, prepared.pairs).assign_coords({**answered, "pair": prepared.rows})
    carried.attrs = {"given": len(pairs), "qualified": len(prepared.pairs), **engine}
    return carried


def check_transfer(
    model: "TransformerBridge",
    pairs: Pairs,
    sites: Sequence[str],
    layers: Sequence[int],
    roles: Sequence[str] | None = None,
    controls: Sequence[Control] = (),
    whole_spans: bool = True,
) -> None:
    """Refuse what `transfer_map` would refuse of these arguments, before any forward pass.

    Raises:
        PbbError: what `transfer_map` refuses.
    """
    prepared = _prepared(model, pairs, roles, ())
    aligned = align(prepared.pairs, prepared.roles, whole_spans=whole_spans)
    for control in (NONE, *controls):
        check_sweep(model, aligned, sites, layers, replace_with=_REPLACEMENTS.get(control, "other"))


def _kept_apart(settings: SweepSettings, control: str) -> SweepSettings:
    """The settings with a folder of its own for each control to be resumed from."""
    if not isinstance(settings, SweepSettings):
        raise PbbError(f"settings must be SweepSettings, not {shown(settings)}.")
    return settings if settings.resume is None else replace(settings, resume=Path(settings.resume) / control)


class _Prepared(NamedTuple):
    """The pairs that qualify, and what their answers are compared with."""

    pairs: Pairs
    roles: list[str]
    rows: "np.ndarray"
    """Of the pairs given [pair]."""
    metric: "dict[str, Metric | AnswerMetric]"
    lengths: "xr.DataArray"
    tells: "xr.DataArray"
    """Is the hypothesis evidence in this pair? (hypothesis, pair), `other` among them"""


def _prepared(
    model: "TransformerBridge", pairs: Pairs, roles: Sequence[str] | None, library: Sequence[Program]
) -> _Prepared:
    import numpy as np
    import xarray as xr

    if not isinstance(pairs, Pairs):
        raise PbbError(f"pairs must be Pairs, such as make_transfer_pairs makes, not {shown(pairs)}.")
    roles = check_roles(pairs.corrupted, roles)
    predicted = hypotheses(pairs.corrupted.labels, pairs.clean.labels, library)
    rows = np.flatnonzero(told_apart(predicted))
    if not len(rows):
        raise PbbError("In every pair two hypotheses predict the same answer: choose pairs with make_transfer_pairs.")
    pairs = pairs.select(rows.tolist())
    predicted = predicted.iloc[rows].dropna(axis="columns", how="all").reset_index(drop=True)
    answers = [list(column.where(column.notna(), predicted["nothing"])) for _, column in predicted.items()]
    clean, corrupted = (covering(model, side, answers) for side in (pairs.clean, pairs.corrupted))
    pairs = replace(pairs, clean=clean, corrupted=corrupted)
    table = telling(predicted).assign(other=True)
    tells = xr.DataArray(table.to_numpy(), dims=("pair", "hypothesis"), coords={"hypothesis": list(table)})
    return _Prepared(pairs, roles, rows, *_metrics(model, corrupted, predicted, answers), tells)


def _metrics(
    model: "TransformerBridge", base: Prompts, predicted: "pd.DataFrame", answers: Sequence[Sequence[Any]]
) -> "tuple[dict[str, Metric | AnswerMetric], xr.DataArray]":
    """Is the answer the one a hypothesis predicts? And the answers' tokens (hypothesis, pair), NaN where there is none.

    Where a pair lacks the hypothesis, `answers` has the unchanged answer, to be masked afterwards.
    """
    import xarray as xr

    ids = {str(name): answer_ids(model, base, given) for name, given in zip(predicted, answers, strict=True)}
    lengths = xr.DataArray(
        [(tokens >= 0).sum(1).numpy() for tokens in ids.values()],
        dims=("hypothesis", "pair"),
        coords={"hypothesis": list(ids)},
    ).where(predicted.notna().to_numpy().T)
    if all(tokens.shape[1] == 1 for tokens in ids.values()):
        return {name: _next_token(tokens[:, 0]) for name, tokens in ids.items()}, lengths
    return {name: greedy_match(tokens) for name, tokens in ids.items()}, lengths


def _next_token(tokens: "torch.Tensor") -> "Metric":
    """1 where this token [pair] is the likeliest, else 0."""
    return lambda logits: (logits.argmax(-1) == tokens.to(logits.device)).float()


def _followed(matched: "xr.DataArray", lengths: "xr.DataArray") -> "xr.DataArray":
    """Of the hypotheses that match, the one with the longest answer; and `other` where none does."""
    import xarray as xr

    size = matched * lengths
    followed = ((size == size.max("hypothesis")) & (size > 0)).where(size.notnull()).astype("float32")
    other = 1 - followed.max("hypothesis")
    return xr.concat([followed, other.expand_dims(hypothesis=["other"])], dim="hypothesis")
