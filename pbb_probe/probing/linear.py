"""Linear probes: what can be read at each site, layer and role, on programs that the probe was not fitted on.

Rows outside `train` (without_io programs, say) are never fitted on, and every fold's probe reads them, but for those
that have seen other programs of the same function. A probe that was
fitted on one group and reads the other is evidence that both use the same code. A high accuracy says that a linear
reader could know the value; it does not say that the model uses it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

from pbb_probe.errors import PbbError
from pbb_probe.labels import AUTO, NONE, cluster_label, is_function, label, storable
from pbb_probe.probing.arguments import (
    check_acts,
    check_kinds,
    codes_of,
    read_train,
    target_table,
    values_of,
    with_labels_of,
)
from pbb_probe.probing.controls import Control, read_controls
from pbb_probe.probing.folds import Split, assigned_folds
from pbb_probe.probing.places import Key, Read, guessed, has_role, read_everywhere
from pbb_probe.probing.probes import Probes
from pbb_probe.probing.readers import Kind
from pbb_probe.probing.tasks import Plan, check_roles_learned, tasks_of, warn_of_unlearnable
from pbb_probe.schema import FoldList, Gibibytes, Seed, Strength, StrengthList, checks_arguments, whole

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr


@overload
def fit_probes(
    acts: "xr.Dataset",
    targets: "pd.DataFrame | Sequence[str]",
    clusters: str | Sequence[Hashable] = ...,
    train: "np.ndarray | None" = ...,
    C: Strength | StrengthList = ...,  # noqa: N803
    folds: int | FoldList = ...,
    controls: Sequence[Control] | Mapping[str, Any] = ...,
    kinds: Mapping[str, Kind] | None = ...,
    balanced: bool = ...,
    seed: Seed = ...,
    memory_gib: Gibibytes = ...,
    keep: Literal[False] = ...,
) -> "xr.Dataset": ...


@overload
def fit_probes(
    acts: "xr.Dataset",
    targets: "pd.DataFrame | Sequence[str]",
    clusters: str | Sequence[Hashable] = ...,
    train: "np.ndarray | None" = ...,
    C: Strength | StrengthList = ...,  # noqa: N803
    folds: int | FoldList = ...,
    controls: Sequence[Control] | Mapping[str, Any] = ...,
    kinds: Mapping[str, Kind] | None = ...,
    balanced: bool = ...,
    seed: Seed = ...,
    memory_gib: Gibibytes = ...,
    *,
    keep: Literal[True],
) -> Probes: ...


@checks_arguments
def fit_probes(
    acts: "xr.Dataset",
    targets: "pd.DataFrame | Sequence[str]",
    clusters: str | Sequence[Hashable] = AUTO,
    train: "np.ndarray | None" = None,
    C: Strength | StrengthList = 1.0,  # noqa: N803 (scikit-learn's name)
    folds: Annotated[int, whole(1, 100_000)] | FoldList = 5,
    controls: Sequence[Control] | Mapping[str, Any] = (),
    kinds: Mapping[str, Kind] | None = None,
    balanced: bool = False,
    seed: Seed = 0,
    memory_gib: Gibibytes = 2.0,
    keep: bool = False,
) -> "xr.Dataset | Probes":
    """Fit a probe for each target at each site, layer and role.

    Args:
        acts: from `capture`, in memory or on disk; heads are read together.
        targets: names of labels of `acts`, or a table with a column a target and a row a prompt; missing values are
            left out of that target.
        clusters: the label that says what a row belongs to, or its values [prompt]; a cluster is never split over
            folds. `auto` is `function` where programs share one, else `program` (`labels.cluster_label`): a probe that
            has seen a program's function under another name can know its answers.
        train: rows that may be fitted on [prompt]; all when None.
        C: inverse regularisation strength, on features standardised by the rows that are fitted on. Of several, each
            probe takes the one that does best on clusters held out of its own training rows, in as many inner folds.
        folds: how many; each is held out once. Or the fold of each prompt [prompt], from 0 on. With `keep` it may be 1:
            probes are fitted on all rows of `train`, whose scores are then missing.
        controls: what `probing.controls` says of `selectivity` (each type gets a class at random, drawn from the
            target's own distribution), `permutation`, `chance` and `shuffled`: a list of these, or a mapping from
            names to what each control needs. That is for `selectivity` the types, by label or as values [prompt] (the
            clusters when None), and nothing (None) for the other three. Any other name stands for a table of other
            values of some of the targets, as `relabelled` of `relabelled_targets`, or for activations of the same
            prompts, as of an `untrained` model: at the same sites, layers and roles, or of one place that stands for
            all, as the `embedding` of `embeddings`.
        kinds: of each target's probe; `logistic` where it is not named. `logistic` is multinomial logistic regression,
            scikit-learn's LogisticRegression; `mean_difference` reads the nearest class mean; `ridge` reads numbers,
            scikit-learn's Ridge with alpha = 1 / C.
        balanced: weigh a logistic probe's rows so that all classes count alike, as scikit-learn's class_weight does.
        seed: of the folds and of the controls.
        memory_gib: what the activations that are fitted together may take, beside `acts` itself and what is returned.
            Those on disk are read place by place.
        keep: return the probes of the targets too.

    Returns:
        `accuracy` ([control,] target, site, layer, role, fold) on held-out training rows, and `correct` ([control,]
        target, site, layer, role, prompt): for a row whose cluster is fitted on whether the probe that did not see it
        was right, for any other row the share of the folds' probes that were; NaN where the target is missing, or the
        prompt lacks the role: there nothing is fitted either. Targets read by ridge have instead `r2` ([control,]
        target, site, layer, role, fold) and `predicted` ([control,] target, site, layer, role, prompt), for rows
        outside `train` the mean over folds. Where C is chosen, `C` (target, site, layer, role, fold). With controls,
        `control` is `none` for the targets themselves and then each control's name; NaN where a control leaves nothing
        to learn. The labels of `acts` stand on `prompt`, and so do the targets; a label that is called like a variable
        of this, as `correct`, is called `prompt_correct`. With `keep` `Probes`, whose `scores` this is.

    Raises:
        PbbError: labels that are not there, a target called like a label but with other values, lengths that differ, a
            target with one class, or numbers that are none, fewer clusters than folds, a cluster in two folds, an
            unknown control or kind, too little memory for one place, or activations that are NaN or infinite (the
            message says where). A target most of whose prompts have a class of one cluster alone is warned of.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=20, without_io=0), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=60)
        >>> acts = pbb.capture(model, prompts, layers=[3], roles=["name"])
        >>> pbb.fit_probes(acts, ["op_1", "steps"], controls=["chance"])["accuracy"].dims
        ('control', 'target', 'site', 'layer', 'role', 'fold')
    """
    import numpy as np
    import xarray as xr

    acts, clusters = check_acts(acts), cluster_label(acts, clusters)
    targets = target_table(acts, targets)
    known = xr.Dataset(coords={str(name): ("prompt", storable(column)) for name, column in targets.items()})
    _refuse_other_values(known, acts)
    kinds = check_kinds(kinds or {}, targets)
    codes = codes_of(acts, clusters, "clusters")
    rows = read_train(train, acts.sizes["prompt"])
    split = Split(assigned_folds(codes, folds, rows, seed), rows)
    strengths = [float(strength) for strength in np.atleast_1d(C)]
    if split.n == 1 and (not keep or len(strengths) > 1):
        raise PbbError(
            "folds must be at least 2, or 1 with keep=True and a single C: one fold holds nothing out to be scored."
        )
    needs = read_controls(controls, acts)
    tasks = tasks_of(targets, kinds, needs, codes, split, seed)
    there = has_role(acts)
    check_roles_learned(tasks, split, dict(zip(acts["role"].values.tolist(), there, strict=True)))
    warn_of_unlearnable(tasks, split, codes)
    plan = Plan(tasks, split, codes, strengths, balanced, seed, memory_gib, keep)
    measured = read_everywhere(acts, plan)
    of_targets = replace(plan, tasks=[task for task in tasks if task.control == NONE], keep=False)
    if "chance" in needs:
        measured |= {("chance", target): read for target, read in guessed(of_targets).items()}
    for name, other in needs.items():
        if hasattr(other, "data_vars"):
            measured |= _elsewhere(name, check_acts(other), acts, of_targets)
    scores = _as_dataset(measured, plan, list(needs), acts, [str(name) for name in targets])
    if not there.all():  # a control that has one place for all roles says something of prompts that lack one
        of_prompts = [name for name in ("correct", "predicted") if name in scores]
        scores = scores.assign(scores[of_prompts].where(xr.DataArray(there, dims=("role", "prompt"))))
    scores = with_labels_of(scores, known, acts)
    if not keep:
        return scores
    labels = [clusters, "program"] if is_function(clusters) and "program" in acts.coords else [clusters]
    fold = {
        name: int(k)
        for names in labels
        for name, k in zip(values_of(acts, names, "clusters").tolist(), split.fold, strict=True)
        if k >= 0
    }
    return _kept(measured, of_targets, acts, scores, fold)


def _refuse_other_values(targets: "xr.Dataset", acts: "xr.Dataset") -> None:
    """Refuse targets that are called like a label of the prompts and have other values.

    Raises:
        PbbError: one is; in the scores there would be two labels of one name.
    """
    for name in set(targets.coords) & set(acts.coords):
        if acts[name].dims != ("prompt",):
            continue
        given, known = (label(array, str(name)).astype(object) for array in (targets, acts))
        if not given.equals(known):
            raise PbbError(f"The target {name!r} has other values than the label {name!r}: call the target otherwise.")


def _elsewhere(name: str, other: "xr.Dataset", acts: "xr.Dataset", plan: Plan) -> dict[Key, Read]:
    """The targets read in other activations: at the same places, or at one that stands for all."""
    one_place = all(other.sizes[dim] == 1 for dim in ("layer", "role")) and len(other.data_vars) == 1
    same_places = list(other.data_vars) == list(acts.data_vars) and all(
        other[dim].values.tolist() == acts[dim].values.tolist() for dim in ("layer", "role")
    )
    if not (one_place or same_places):
        raise PbbError(
            f"The activations of {name!r} have other sites, layers or roles: capture the same, or one place that "
            "stands for all."
        )
    return {(name, target): read for (_, target), read in read_everywhere(other, plan).items()}


def _as_dataset(
    measured: dict[Key, Read], plan: Plan, controls: list[str], acts: "xr.Dataset", names: list[str]
) -> "xr.Dataset":
    """What `fit_probes` returns, without labels."""
    import numpy as np
    import xarray as xr
    from einops import rearrange

    sizes = {"site": len(acts.data_vars), "layer": acts.sizes["layer"], "role": acts.sizes["role"]}
    numbers = {task.name for task in plan.tasks if task.kind == "ridge"}
    classes = set(names) - numbers
    variables = [
        ("accuracy", "scores", "fold", classes),
        ("correct", "said", "prompt", classes),
        ("r2", "scores", "fold", numbers),
        ("predicted", "said", "prompt", numbers),
        ("C", "strengths", "fold", set(names) if len(plan.strengths) > 1 else set()),
    ]
    made = {}
    for variable, part, over, has_it in variables:
        if not has_it:
            continue
        dims: tuple[str, ...] = ("target", *sizes, over)
        beside = [] if variable == "C" else controls
        shape = (
            1 + len(beside),
            len(names),
            np.prod(list(sizes.values())),
            getattr(measured[NONE, names[0]], part).shape[1],
        )
        values = np.full(shape, np.nan, getattr(measured[NONE, names[0]], part).dtype)
        for i, control in enumerate((NONE, *beside)):
            for j, name in enumerate(names):
                if name in has_it and (control, name) in measured:
                    values[i, j] = getattr(measured[control, name], part)  # one place stands for all
        values = rearrange(
            values, "control target (site layer role) over -> control target site layer role over", **sizes
        )
        made[variable] = (("control", *dims), values) if beside else (dims, values[0])
    coords = {"target": names, "site": list(acts.data_vars), "layer": acts["layer"], "role": acts["role"]}
    return xr.Dataset(made, coords=coords | ({"control": [NONE, *controls]} if controls else {}))


def _kept(
    measured: dict[Key, Read], plan: Plan, acts: "xr.Dataset", scores: "xr.Dataset", fold: dict[Hashable, int]
) -> Probes:
    """The probes of the targets, out of what they were fitted to in batches of places."""
    import numpy as np
    from einops import rearrange

    sizes = {name: acts.sizes[name] for name in ("layer", "role")}
    coefficients, intercepts = {}, {}
    for task in plan.tasks:
        batches, n_values = iter(measured[NONE, task.name].readers), task.n_values
        for site, array in acts.data_vars.items():
            n_places = sizes["layer"] * sizes["role"]
            slopes = np.zeros((plan.split.n, n_places, n_values, array[0, 0, 0].size))
            offsets = np.full(slopes.shape[:3], -np.inf)  # a class that a fold lacks has no probability
            start = 0
            while start < n_places:
                for k, reader in enumerate(batch := next(batches)):
                    places = slice(start, start + len(reader.intercepts))
                    classes = reader.classes.astype(int) if task.kind != "ridge" else [0]
                    slopes[k, places, classes] = rearrange(
                        reader.coefficients, "place value feature -> value place feature"
                    )
                    offsets[k, places, classes] = rearrange(reader.intercepts, "place value -> value place")
                start += len(batch[0].intercepts)
            key = (task.name, str(site))
            coefficients[key] = rearrange(slopes, "fold (layer role) ... -> fold layer role ...", **sizes)
            intercepts[key] = rearrange(offsets, "fold (layer role) value -> fold layer role value", **sizes)
    return Probes(
        scores,
        {task.name: task.kind for task in plan.tasks},
        {task.name: tuple(task.classes.tolist()) for task in plan.tasks},
        coefficients,
        intercepts,
        {str(site): tuple(map(str, array.dims[3:])) for site, array in acts.data_vars.items()},
        fold,
    )
