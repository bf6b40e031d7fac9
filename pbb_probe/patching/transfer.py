"""The transfer map: what does each place carry? An interchange between the executions of two programs.

Base run: program A on x. Source run: program B on x'. The source's activation at one (site, layer, role) is put into
the base run, and the answer is read. Each hypothesis of what that activation carries (`patching.hypotheses`) predicts
an answer of its own; the one that the patched run gives is counted.

A place that carries the program need not be where it is stored, and one that carries nothing may hold what is also held
elsewhere: a swap of one place shows what that place alone decides.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answers import answer_ids, covering
from pbb_probe.hooking.capture import check_roles
from pbb_probe.hooking.load import untrained_model
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching.grid import Source
from pbb_probe.patching.hypotheses import hypotheses, told_apart
from pbb_probe.patching.metrics import greedy_match
from pbb_probe.patching.sweep import check_sweep, patch_sweep
from pbb_probe.programs.program import Program
from pbb_probe.schema import LayerList, NameList, Seed, checks_arguments, listed, refuse_unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.patching.metrics import AnswerMetric, Metric

Control = Literal["self", "random", "mean_difference", "untrained"]
CONTROLS: tuple[Control, ...] = get_args(Control)
PATCHED = "patched"
"""The name of the run that is no control."""
SETTINGS = ("whole_spans", "only", "memory_gib", "resume")
"""Of `patch_sweep`, those that leave the meaning of the map as it is."""


@checks_arguments
def transfer_map(
    model: "TransformerBridge",
    base: Prompts,
    source: Prompts,
    sites: NameList = ("resid_pre", "attn_out", "mlp_out"),
    roles: NameList | None = None,
    layers: LayerList | None = None,
    library: Sequence[Program] = (),
    subspaces: "Mapping[str, torch.Tensor] | None" = None,
    controls: Annotated[Sequence[Control], listed(f"controls out of {', '.join(CONTROLS)}", 0)] = (),
    seed: Seed = 0,
    **settings: Any,
) -> "xr.Dataset":
    """Which hypothesis the answer follows once one activation of the source run stands in the base run.

    Args:
        model: an opened model in eval mode.
        base: the runs that are patched, with the columns program, source (its text) and call in their labels.
        source: the runs that activations are taken from, in the same order, aligned: from `make_transfer_pairs`, whose
            `corrupted` are the base and whose `clean` are the source. Pairs in which two hypotheses predict the same
            answer are left out.
        sites: keys of `SITES`.
        roles: all when None.
        layers: all when None.
        library: the programs that those of the pairs call.
        subspaces: patch only the component in a subspace: orthonormal bases [layer, role, d_model, rank] by site.
        controls: further runs. `self` puts in what is there already; `random` adds a random vector of the norm of
            source minus base; `mean_difference` adds the mean over pairs of source minus base to all; `untrained` is
            the same map of the model as initialised before any training.
        seed: of the controls.
        settings: those of `patch_sweep` in `SETTINGS`.

    Returns:
        `carried[site]` ([run,] layer, [head | kv_head,] role, hypothesis, pair), 1 for the hypothesis that the answer
        follows, else 0, and NaN where the pair has no such hypothesis. The last hypothesis, `other`, is 1 where the
        answer follows none. With controls the first `run` is `patched`, without any there is no such dimension.
        Coordinates of the pairs: program, group and steps of the base run, source_program and source_group where the
        labels have them, and base_correct and source_correct: does the model answer the two unpatched runs right?
        `pair` is the place among the pairs given. Attributes: `given` and `qualified` pairs.

        Answers of several tokens count as given when each token is the likeliest one; what would follow is not looked
        at, but where one predicted answer begins another, the longer one counts.

    Raises:
        PbbError: no pair whose hypotheses predict different answers, an unknown control or setting, and whatever
            `hypotheses` and `patch_sweep` refuse.
    """
    import xarray as xr

    refuse_unknown("setting", settings, SETTINGS)
    n_given, prepared = len(base), _prepared(model, base, source, roles, library)
    base, source, rows, roles = prepared.base, prepared.source, prepared.rows, prepared.roles
    runs = {}
    for run in (PATCHED, *controls):
        folder = settings.get("resume")
        effects = patch_sweep(
            untrained_model(model, seed) if run == "untrained" else model,
            clean=source,
            corrupted=base,
            metric=prepared.metric,
            sites=sites,
            layers=layers,
            positions=roles,
            source=_SOURCES.get(run, "other"),
            subspaces=subspaces,
            seed=seed,
            **{**settings, "resume": folder and Path(folder) / run},
        )
        runs[run] = effects.rename(metric="hypothesis").map(_followed, lengths=prepared.lengths)
    carried = xr.concat(runs.values(), dim="run").assign_coords(run=list(runs))
    unpatched = carried.sel(run=PATCHED, drop=True) == 1
    coords = {
        **_known(base, source),
        "base_correct": unpatched["corrupted"].sel(hypothesis="nothing", drop=True),
        "source_correct": unpatched["clean"].sel(hypothesis="everything", drop=True),
        "pair": rows,
    }
    carried = carried[list(sites)].transpose("run", "layer", ..., "role", "hypothesis", "pair").assign_coords(coords)
    engine = {name: effects.attrs[name] for name in ("method", "passed_over") if name in effects.attrs}
    carried.attrs = {"given": n_given, "qualified": len(rows), **engine}
    return carried if controls else carried.isel(run=0)


def check_transfer(
    model: "TransformerBridge",
    base: Prompts,
    source: Prompts,
    sites: Sequence[str],
    layers: Sequence[int],
    roles: Sequence[str] | None = None,
    controls: Sequence[Control] = (),
    whole_spans: bool = True,
) -> None:
    """Refuse what `transfer_map` would refuse of these arguments, before any run.

    Raises:
        PbbError: what `transfer_map` refuses.
    """
    prepared = _prepared(model, base, source, roles, ())
    for run in (PATCHED, *controls):
        check_sweep(
            model,
            prepared.source,
            prepared.base,
            sites,
            layers,
            prepared.roles,
            source=_SOURCES.get(run, "other"),
            whole_spans=whole_spans,
        )


class _Prepared(NamedTuple):
    """The pairs that qualify, and what their answers are compared with."""

    base: Prompts
    source: Prompts
    roles: list[str]
    rows: "np.ndarray"
    """Of the pairs given [pair]."""
    metric: "dict[str, Metric | AnswerMetric]"
    lengths: "xr.DataArray"


def _prepared(
    model: "TransformerBridge",
    base: Prompts,
    source: Prompts,
    roles: Sequence[str] | None,
    library: Sequence[Program],
) -> _Prepared:
    import numpy as np

    roles = check_roles(base, roles)
    predicted = hypotheses(base.labels, source.labels, library)
    rows = np.flatnonzero(told_apart(predicted))
    if not len(rows):
        raise PbbError("In every pair two hypotheses predict the same answer: choose pairs with make_transfer_pairs.")
    base, source = base.select(rows.tolist()), source.select(rows.tolist())
    predicted = predicted.iloc[rows].dropna(axis="columns", how="all").reset_index(drop=True)
    answers = [list(column.where(column.notna(), predicted["nothing"])) for _, column in predicted.items()]
    base, source = (covering(model, side, answers) for side in (base, source))
    return _Prepared(base, source, roles, rows, *_metrics(model, base, predicted, answers))


_SOURCES: dict[str, Source] = {"self": "own", "random": "random", "mean_difference": "mean_difference"}


def _metrics(
    model: "TransformerBridge", base: Prompts, predicted: "pd.DataFrame", answers: Sequence[list]
) -> "tuple[dict[str, Metric | AnswerMetric], xr.DataArray]":
    """Is the answer the one a hypothesis predicts? And the answers' tokens (hypothesis, pair), NaN where there is none.

    Where a pair lacks the hypothesis, `answers` has the unchanged answer, to be masked afterwards.
    """
    import xarray as xr

    ids = {str(name): answer_ids(model, base, given) for name, given in zip(predicted, answers, strict=True)}
    lengths = xr.DataArray(
        [(found >= 0).sum(1).numpy() for found in ids.values()],
        dims=("hypothesis", "pair"),
        coords={"hypothesis": list(ids)},
    ).where(predicted.notna().to_numpy().T)
    if all(found.shape[1] == 1 for found in ids.values()):
        return {name: _next_token(found[:, 0]) for name, found in ids.items()}, lengths
    return {name: greedy_match(found) for name, found in ids.items()}, lengths


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


def _known(base: Prompts, source: Prompts) -> "dict[str, tuple[str, list]]":
    """What the labels say of each pair."""
    of_base = {name: base.labels[name] for name in ("program", "group", "steps") if name in base.labels}
    of_source = {f"source_{name}": source.labels[name] for name in ("program", "group") if name in source.labels}
    return {name: ("pair", values.tolist()) for name, values in {**of_base, **of_source}.items()}
