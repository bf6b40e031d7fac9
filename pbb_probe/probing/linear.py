"""Linear probes: what can be read at each site, layer and role, split by program so that no program is in both halves.

Rows outside `train` (without_io programs, say) are never fitted on: each fold's probe reads them too, and that a probe
fitted on one group reads the other is evidence that both use the same code. A high accuracy says that a linear reader
could know; it does not say that the model uses it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pbb_probe.errors import PbbError
from pbb_probe.probing.controls import CONTROLS, Control, control_task, permuted_within, shuffled_values
from pbb_probe.probing.places import Key, Plan, Read, Task, deal_folds, guessed, read_everywhere
from pbb_probe.probing.probe import KINDS, Kind
from pbb_probe.schema import (
    FoldList,
    Folds,
    Gibibytes,
    Seed,
    Strength,
    StrengthList,
    checks_arguments,
    is_printable,
    listed,
    refuse_unknown,
    shown,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr


@checks_arguments
def fit_probes(
    acts: "xr.Dataset",
    targets: "pd.DataFrame",
    clusters: Sequence[Hashable],
    train: "np.ndarray | None" = None,
    C: Strength | StrengthList = 1.0,  # noqa: N803 (scikit-learn's name)
    folds: Folds | FoldList = 5,
    controls: Annotated[Sequence[Control], listed(f"controls out of {', '.join(CONTROLS)}", 0)] = (),
    types: Sequence[Hashable] | None = None,
    relabelled: "pd.DataFrame | None" = None,
    elsewhere: "Mapping[str, xr.Dataset] | None" = None,
    kinds: Mapping[str, Kind] | None = None,
    balanced: bool = False,
    seed: Seed = 0,
    memory_gib: Gibibytes = 2.0,
) -> "xr.Dataset":
    """Fit a probe for each target at each site, layer and role.

    Args:
        acts: from `capture`, in memory or on disk; heads are read together.
        targets: a column a target, a row a prompt; missing values are left out of that target.
        clusters: what a row belongs to (its program) [prompt]; a cluster is never split over folds.
        train: rows that may be fitted on [prompt]; all when None.
        C: inverse regularisation strength, on features standardised by the rows that are fitted on. Of several, each
            probe takes the one that does best on clusters held out of its own training rows, in as many inner folds.
        folds: how many; each is held out once. Or the fold of each prompt [prompt], from 0 on.
        controls: what `probing.controls` says of `selectivity` (each type gets a class at random, drawn from the
            target's own distribution), `permutation`, `chance` and `shuffled`.
        types: what the control task assigns classes to [prompt]; the clusters when None.
        relabelled: the control `relabelled`: other values for some of the targets, as of `relabelled_targets`.
        elsewhere: a control a name: activations of the same prompts in another model, at the same sites, layers and
            roles, or of one place that stands for all, as of `embeddings`.
        kinds: of each target's probe; `logistic` where it is not named. `logistic` is multinomial logistic regression,
            scikit-learn's LogisticRegression; `mean_difference` reads the nearest class mean; `ridge` reads numbers,
            scikit-learn's Ridge with alpha = 1 / C.
        balanced: weigh a logistic probe's rows so that all classes count alike, as scikit-learn's class_weight does.
        seed: of the folds and of the controls.
        memory_gib: what the activations that are fitted together may take, beside `acts` itself and what is returned.
            Those on disk are read place by place.

    Returns:
        `accuracy` (target, site, layer, role, fold) on held-out training rows, and `correct` (target, site, layer,
        role, prompt): for a training row whether the probe that did not see its cluster was right, for any other row
        the share of the folds' probes that were; NaN where the target is missing. Targets read by ridge have instead
        `r2` (target, site, layer, role, fold) and `predicted` (target, site, layer, role, prompt), for rows outside
        `train` the mean over folds. Where C is chosen, `C` (target, site, layer, role, fold). With controls the same
        with the prefix `control_` and a leading dimension `control`, missing where a control leaves nothing to learn.

    Raises:
        PbbError: lengths that differ, a target with one class, or numbers that are none, fewer clusters than folds, a
            cluster in two folds, an unknown control or kind, too little memory for one place, or activations that are
            NaN or infinite (the message says where).
    """
    import numpy as np
    import pandas as pd

    n = acts.sizes.get("prompt", 0)
    if not acts.data_vars:
        raise PbbError("The activations have no site: give the Dataset of capture.")
    _check_names(targets)
    if not len(targets.columns) or not n:
        raise PbbError(f"There are {n} prompts and {len(targets.columns)} targets: give at least one of each.")
    if empty := [name for name in targets if not targets[name].notna().any()]:
        raise PbbError(f"The target {empty[0]!r} has no value, fewer than two classes to learn: leave it out.")
    train = read_train(train, n)
    try:
        codes = pd.factorize(pd.Series(list(clusters)))[0]
    except TypeError as error:
        raise PbbError(f"clusters must be names or numbers, one a prompt ({error}).") from error
    types = codes if types is None else list(types)
    given = {"targets": targets, "clusters": codes, "train": train, "types": types, "relabelled": relabelled}
    lengths = {name: len(value) for name, value in given.items() if value is not None}
    lengths |= {name: other.sizes["prompt"] for name, other in (elsewhere or {}).items()}
    if wrong := {name: length for name, length in lengths.items() if length != n}:
        raise PbbError(f"There are {n} prompts, and these lengths must be equal to it: {wrong}.")
    if taken := set(elsewhere or {}) & {*CONTROLS, "relabelled"}:
        raise PbbError(f"{min(taken)!r} is a control already: name the activations in `elsewhere` otherwise.")
    chosen = check_kinds(kinds or {}, targets)
    fold = assigned_folds(codes, folds, train, seed)

    tables = {"": targets}
    if "selectivity" in controls:
        tables["selectivity"] = control_task(targets, types, seed)
    if "permutation" in controls:
        tables["permutation"] = permuted_within(targets, codes.tolist(), seed)
    if relabelled is not None:
        tables["relabelled"] = relabelled
    dealt = shuffled_values(targets, seed) if "shuffled" in controls else {}
    tasks = [Task.of("shuffled", targets[name], chosen[name], dealt[name]) for name in dealt]
    for control, table in tables.items():
        for task in (Task.of(control, table[name], chosen[name]) for name in targets if name in table):
            if task.can_be_learned(fold):
                tasks.append(task)
            elif not control:
                raise PbbError(
                    f"The target {task.name!r} has fewer than two classes to learn: leave it out or add prompts."
                )
    plan = Plan(tasks, fold, codes, [float(c) for c in np.atleast_1d(C)], balanced, seed, memory_gib)
    found = read_everywhere(acts, plan)
    own = replace(plan, tasks=[task for task in tasks if not task.control])
    if "chance" in controls:
        found |= {("chance", target): read for target, read in guessed(own).items()}
    for name, other in (elsewhere or {}).items():
        found |= _elsewhere(name, other, acts, own)
    order = [*controls, *(["relabelled"] if relabelled is not None else []), *(elsewhere or {})]
    return _labelled(found, plan, order, acts, [str(name) for name in targets])


def _check_names(targets: "pd.DataFrame") -> None:
    """Refuse columns that could not be told apart in what is returned."""
    names = [str(name) for name in targets.columns]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PbbError(f"Two targets are called {twice[0]!r}: give each column a name of its own.")
    for name in names:
        if not is_printable(name):
            raise PbbError(f"The target {shown(name)} has a name that cannot be written: rename the column.")


def assigned_folds(clusters: "np.ndarray", folds: int | Sequence[int], train: "np.ndarray", seed: int) -> "np.ndarray":
    """The fold [prompt] in which each prompt is held out, -1 outside `train`; the arguments are those of `fit_probes`.

    Raises:
        PbbError: fewer clusters than folds, or given folds that leave a gap or part a cluster.
    """
    import numpy as np

    n_clusters = len(set(clusters[train]))
    if isinstance(folds, int):
        check_folds(folds, n_clusters)
        dealt = np.full(len(clusters), -1)
        dealt[train] = deal_folds(clusters[train], folds, seed)
        return dealt
    given = np.asarray(folds)
    if (
        given.shape != clusters.shape
        or given.dtype.kind not in "iu"
        or set(given[train]) != set(range(given.max() + 1))
    ):
        raise PbbError("folds must be a number, or each prompt's fold, numbered from 0 on without gaps.")
    pairs = {(cluster, fold) for cluster, fold in zip(clusters[train], given[train], strict=True)}
    if len(pairs) > n_clusters:
        raise PbbError(
            "A cluster has rows in two folds, where what is fitted on is tested: give each cluster one fold."
        )
    return np.where(train, given, -1)


def _elsewhere(name: str, other: "xr.Dataset", acts: "xr.Dataset", plan: Plan) -> dict[Key, Read]:
    """The targets read in other activations: at the same places, or at one that stands for all."""
    one = all(other.sizes[dim] == 1 for dim in ("layer", "role")) and len(other.data_vars) == 1
    same = list(other.data_vars) == list(acts.data_vars) and all(
        other[dim].values.tolist() == acts[dim].values.tolist() for dim in ("layer", "role")
    )
    if not (one or same):
        raise PbbError(
            f"The activations of {name!r} have other sites, layers or roles: capture the same, or one place that "
            "stands for all."
        )
    return {(name, target): read for (_, target), read in read_everywhere(other, plan).items()}


def _labelled(
    found: dict[Key, Read], plan: Plan, controls: list[str], acts: "xr.Dataset", names: list[str]
) -> "xr.Dataset":
    import numpy as np
    import xarray as xr

    shape = (len(acts.data_vars), acts.sizes["layer"], acts.sizes["role"])
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
    for variable, part, over, chosen in variables:
        if not chosen:
            continue
        everything = []
        for control in ("", *controls):
            values = np.full((len(names), np.prod(shape), plan.folds if over == "fold" else len(plan.fold)), np.nan)
            for i, name in enumerate(names):
                if name in chosen and (control, name) in found:
                    values[i] = getattr(found[control, name], part)  # one place stands for all
            everything.append(values.reshape(len(names), *shape, -1).astype(getattr(found["", names[0]], part).dtype))
        dims: tuple[str, ...] = ("target", "site", "layer", "role", over)
        made[variable] = (dims, everything[0])
        if controls:
            made[f"control_{variable}"] = (("control", *dims), np.stack(everything[1:]))
    coords = {"target": names, "site": list(acts.data_vars), "layer": acts["layer"], "role": acts["role"]}
    return xr.Dataset(made, coords=coords | ({"control": controls} if controls else {}))


def check_folds(folds: int, n_clusters: int) -> None:
    """Refuse more folds than there are clusters to train on.

    Raises:
        PbbError: there are.
    """
    if n_clusters < folds:
        raise PbbError(
            f"{folds} folds need as many clusters to train on, and there are {n_clusters}: give fewer folds."
        )


def read_train(train: "np.ndarray | None", n: int) -> "np.ndarray":
    """Which rows may be fitted on [row], all when None.

    Raises:
        PbbError: what is given is not true or false for each of the `n` rows.
    """
    import numpy as np

    rows = np.ones(n, bool) if train is None else np.asarray(train)
    if rows.dtype != bool or rows.ndim != 1:
        raise PbbError(f"train must be true or false for each prompt; it is {rows.dtype} of shape {rows.shape}.")
    return rows


def check_kinds(kinds: Mapping[str, Kind], targets: "pd.DataFrame") -> dict[str, Kind]:
    """The kind of each target's probe."""
    if unknown := set(kinds) - set(targets.columns):
        raise PbbError(f"kinds names {min(unknown)!r}, which is no target: {', '.join(map(str, targets.columns))}.")
    refuse_unknown("kind", kinds.values(), KINDS)
    return {name: kinds.get(name, "logistic") for name in targets.columns}
