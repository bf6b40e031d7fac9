"""Linear probes: what can be read at each site, layer and role, split by program so that no program is in both halves.

Rows outside `train` (without_io programs, say) are never fitted on: each fold's probe reads them too, and that a probe
fitted on one group reads the other is evidence that both use the same code. A high accuracy says that a linear reader
could know; it does not say that the model uses it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.probing.probe import KINDS, Kind
from pbb_probe.probing.readers import fit_together

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

CONTROLS = ("selectivity",)
FEATURES_AT_ONCE = 20_000_000
"""Activations (prompts x features) of the places that are fitted together: a few copies of them are held in float64."""
VALUES_AT_ONCE = 2_000_000
"""Predictions (tasks x classes x prompts) of the places that are fitted together: a CPU's caches hold no more."""


def fit_probes(
    acts: "xr.Dataset",
    targets: "pd.DataFrame",
    clusters: Sequence[Hashable],
    train: "np.ndarray | None" = None,
    C: float | Sequence[float] = 1.0,  # noqa: N803 (scikit-learn's name)
    folds: int = 5,
    controls: Sequence[str] = (),
    types: Sequence[Hashable] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> "xr.Dataset":
    """Fit a probe for each target at each site, layer and role.

    Args:
        acts: from `capture`; heads are read together.
        targets: a column a target, a row a prompt; missing values are left out of that target.
        clusters: what a row belongs to (its program) [prompt]; a cluster is never split over folds.
        train: rows that may be fitted on [prompt]; all when None.
        C: inverse regularisation strength, on features standardised by the rows that are fitted on. Of several, each
            probe takes the one that does best on clusters held out of its own training rows, in as many inner folds.
        folds: each is held out once.
        controls: `selectivity` fits the same probes to a control task (Hewitt & Liang 2019, 1909.03368): each type gets
            a class at random, drawn from the target's own distribution. It can only be learned by heart.
        types: what the control task assigns classes to [prompt]; the clusters when None.
        kinds: of each target's probe; `logistic` where it is not named. `logistic` is multinomial logistic regression,
            scikit-learn's LogisticRegression; `mean_difference` reads the nearest class mean; `ridge` reads numbers,
            scikit-learn's Ridge with alpha = 1 / C.
        balanced: weigh a logistic probe's rows so that all classes count alike, as scikit-learn's class_weight does.
        seed: of the folds and of the control task.

    Returns:
        `accuracy` (target, site, layer, role, fold) on held-out training rows, and `correct` (target, site, layer,
        role, prompt): for a training row whether the probe that did not see its cluster was right, for any other row
        the share of the folds' probes that were; NaN where the target is missing. Targets read by ridge have instead
        `r2` (target, site, layer, role, fold) and `predicted` (target, site, layer, role, prompt), for rows outside
        `train` the mean over folds. Where C is chosen, `C` (target, site, layer, role, fold). With the control
        `selectivity` the same with the prefix `control_`.

    Raises:
        PbbError: lengths that differ, a target with one class, or numbers that are none, fewer clusters than folds, an
            unknown control or kind, or activations that are NaN or infinite (the message says where).
    """
    import numpy as np
    import pandas as pd

    n = acts.sizes["prompt"]
    train = np.ones(n, bool) if train is None else np.asarray(train, bool)
    codes = pd.factorize(pd.Series(list(clusters)))[0]
    types = codes if types is None else list(types)
    lengths = {"targets": len(targets), "clusters": len(codes), "train": len(train), "types": len(types)}
    if wrong := {name: length for name, length in lengths.items() if length != n}:
        raise PbbError(f"There are {n} prompts, and these lengths must be equal to it: {wrong}.")
    if unknown := set(controls) - set(CONTROLS):
        raise PbbError(f"Unknown control {min(unknown)!r}: choose from {', '.join(CONTROLS)}.")
    if (n_clusters := len(set(codes[train]))) < folds or folds < 2:
        raise PbbError(f"{folds} folds need at least 2 folds and as many clusters to train on; there are {n_clusters}.")
    if not np.size(C) or min(np.atleast_1d(C)) <= 0:
        raise PbbError(f"C must be above 0, one number or several: it is {C}.")
    chosen = _check_kinds(kinds or {}, targets)
    fold = np.full(n, -1)  # [prompt], -1 outside train
    fold[train] = deal_folds(codes[train], folds, seed)

    tables = {"": targets} | ({"control_": control_task(targets, types, seed)} if "selectivity" in controls else {})
    tasks = [
        _Task.of(prefix, table[name], chosen[name], fold, folds) for prefix, table in tables.items() for name in targets
    ]
    plan = _Plan(tasks, fold, folds, codes, [float(c) for c in np.atleast_1d(C)], balanced, seed)
    read = _at_every_place(acts, plan)
    return _labelled(read, plan, list(tables), acts, list(targets.columns))


@dataclass(frozen=True, eq=False)
class _Task:
    """One column to be read."""

    prefix: str
    name: str
    kind: Kind
    known: "np.ndarray"
    """[prompt]"""
    values: "np.ndarray"
    """Class numbers, or for ridge numbers [prompt]; anything where unknown."""

    @property
    def n_values(self) -> int:
        """Scores that a prompt is given."""
        return 1 if self.kind == "ridge" else int(self.values.max()) + 1

    @classmethod
    def of(cls, prefix: str, column: "pd.Series", kind: Kind, fold: "np.ndarray", folds: int) -> "_Task":
        import numpy as np
        import pandas as pd

        column = column.reset_index(drop=True)
        known = column.notna().to_numpy()
        if kind == "ridge":
            values = pd.to_numeric(column, errors="coerce").to_numpy(float)
            if not np.isfinite(values[known]).all():
                raise PbbError(
                    f"The target {column.name!r} is read by ridge, and not all its values are finite numbers."
                )
            enough = all((known & (fold >= 0) & (fold != k)).sum() >= 2 for k in range(folds))
        else:
            values = pd.factorize(column, sort=True)[0]
            enough = all(len(set(values[known & (fold >= 0) & (fold != k)])) >= 2 for k in range(folds))
        if not enough:
            raise PbbError(
                f"The target {column.name!r} has fewer than two classes to learn: leave it out or add prompts."
            )
        return cls(prefix, str(column.name), kind, known, values)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is done at every place."""

    tasks: list[_Task]
    fold: "np.ndarray"
    """[prompt], -1 outside train."""
    folds: int
    clusters: "np.ndarray"
    """[prompt]"""
    strengths: list[float]
    """Of C, to choose from."""
    balanced: bool
    seed: int


def _at_every_place(acts: "xr.Dataset", plan: _Plan) -> list:
    """For each site, layer and role what `_read_places` returns of it."""
    import itertools

    import numpy as np
    from tqdm import tqdm

    read: list = []
    n = len(plan.fold)
    places = list(itertools.product(range(acts.sizes["layer"]), range(acts.sizes["role"])))
    n_values = sum(task.n_values for task in plan.tasks) * len(plan.strengths)
    with tqdm(total=len(places) * len(acts.data_vars), desc="probes", unit="place", delay=2) as progress:
        for site in acts.data_vars:
            width = acts[site].values[0, 0].size // n
            at_once = max(1, int(min(VALUES_AT_ONCE / n_values, FEATURES_AT_ONCE / width) / n))
            for start in range(0, len(places), at_once):
                some = places[start : start + at_once]
                values = np.stack([acts[site].values[place].reshape(n, -1) for place in some]).astype(float)
                if not (finite := np.isfinite(values).all(2)).all():
                    place, prompt = np.argwhere(~finite)[0]
                    raise PbbError(
                        f"The activation {site} at layer {acts['layer'].values[some[place][0]]} is NaN or infinite for "
                        f"prompt {prompt}: leave it out, or capture it in float32."
                    )
                read += list(zip(*_read_places(values, plan), strict=True))
                progress.update(len(some))
    return read


def _read_places(features: "np.ndarray", plan: _Plan) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Fit all tasks on features [place, prompt, feature], those with the same rows together, and read the other rows.

    Returns scores [place, task, fold], what is said of each prompt [place, task, prompt], and C [place, task, fold].
    """
    import numpy as np

    tasks, fold, folds = plan.tasks, plan.fold, plan.folds
    train = fold >= 0
    scores = np.full((len(features), len(tasks), folds), np.nan)
    said = np.full((len(features), len(tasks), len(fold)), np.nan)
    used = np.full_like(scores, plan.strengths[0])
    groups: dict[bytes, list[int]] = {}
    for i, task in enumerate(tasks):
        said[:, i, task.known & ~train] = 0.0
        groups.setdefault(task.known.tobytes(), []).append(i)
    for together in groups.values():
        known = tasks[together[0]].known
        others = np.flatnonzero(known & ~train)
        mine = [tasks[i] for i in together]
        for k in range(folds):
            rows, held_out = np.flatnonzero(known & train & (fold != k)), np.flatnonzero(known & (fold == k))
            if len(plan.strengths) > 1:
                used[:, together, k] = _chosen_strengths(features, mine, rows, plan)
            columns, kinds = [task.values[rows] for task in mine], [task.kind for task in mine]
            fitted = fit_together(features[:, rows], columns, kinds, used[:, together, k], plan.balanced)
            for where in (held_out, others):
                new = features[:, where]
                for i, reader in zip(together, fitted, strict=True):
                    found = reader.read(new)
                    found = found if tasks[i].kind == "ridge" else found == tasks[i].values[where]
                    said[:, i, where] = found if where is held_out else said[:, i, where] + found / folds
            for i in together if len(held_out) else ():
                of_fold, right = said[:, i, held_out], tasks[i].values[held_out]
                scores[:, i, k] = _r2(of_fold, right) if tasks[i].kind == "ridge" else of_fold.mean(1)
    return scores, said, used


def _chosen_strengths(features: "np.ndarray", tasks: list[_Task], rows: "np.ndarray", plan: _Plan) -> "np.ndarray":
    """The C [place, task] that does best on clusters held out of these rows; the smallest of equals."""
    import numpy as np

    inner = deal_folds(plan.clusters[rows], plan.folds, plan.seed)
    grid = sorted(plan.strengths)
    every = [(task, c) for task in tasks for c in grid]
    gained = np.zeros((len(features), len(every)))
    for k in range(plan.folds):
        fitted, new = rows[inner != k], rows[inner == k]
        able = [j for j, (task, _) in enumerate(every) if len(set(task.values[fitted].tolist())) > 1]
        if not able:
            continue  # nothing can be learned in this inner fold
        columns, kinds = [every[j][0].values[fitted] for j in able], [every[j][0].kind for j in able]
        strengths = np.tile([every[j][1] for j in able], (len(features), 1))
        readers = fit_together(features[:, fitted], columns, kinds, strengths, plan.balanced)
        held_out = features[:, new]
        for j, reader in zip(able, readers, strict=True):
            task = every[j][0]
            found, right = reader.read(held_out), task.values[new]
            gained[:, j] += -((found - right) ** 2).sum(1) if task.kind == "ridge" else (found == right).sum(1)
    return np.array(grid)[gained.reshape(len(features), len(tasks), -1).argmax(2)]


def _r2(predicted: "np.ndarray", values: "np.ndarray") -> "np.ndarray":
    """[place] of predictions [place, row]; NaN where all values are the same."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - ((values - predicted) ** 2).sum(1) / ((values - values.mean()) ** 2).sum()


def _labelled(read: list, plan: _Plan, prefixes: list[str], acts: "xr.Dataset", names: list[str]) -> "xr.Dataset":
    import numpy as np
    import xarray as xr

    dims = ("target", "site", "layer", "role")
    shape = (len(names), len(acts.data_vars), acts.sizes["layer"], acts.sizes["role"], -1)
    kinds = {task.name: task.kind for task in plan.tasks}
    variables = {}
    for prefix in prefixes:
        mine = [i for i, task in enumerate(plan.tasks) if task.prefix == prefix]
        for part, (over, of_classes, of_numbers) in enumerate(
            (("fold", "accuracy", "r2"), ("prompt", "correct", "predicted"))
        ):
            values = np.stack([at[part][i] for i in mine for at in read]).reshape(shape)
            by_ridge = np.array([kinds[name] == "ridge" for name in names])[:, None, None, None, None]
            if not by_ridge.all():
                variables[f"{prefix}{of_classes}"] = ((*dims, over), np.where(by_ridge, np.nan, values))
            if by_ridge.any():
                variables[f"{prefix}{of_numbers}"] = ((*dims, over), np.where(by_ridge, values, np.nan))
        if len(plan.strengths) > 1:
            used = np.stack([at[2][i] for i in mine for at in read]).reshape(shape)
            variables[f"{prefix}C"] = ((*dims, "fold"), used)
    coords = {"target": names, "site": list(acts.data_vars), "layer": acts["layer"], "role": acts["role"]}
    return xr.Dataset(variables, coords=coords)


def _check_kinds(kinds: Mapping[str, Kind], targets: "pd.DataFrame") -> dict[str, Kind]:
    """The kind of each target's probe."""
    if unknown := set(kinds) - set(targets.columns):
        raise PbbError(f"kinds names {min(unknown)!r}, which is no target: {', '.join(map(str, targets.columns))}.")
    if strange := set(kinds.values()) - set(KINDS):
        raise PbbError(f"Unknown kind {min(strange)!r}: choose from {', '.join(KINDS)}.")
    return {name: kinds.get(name, "logistic") for name in targets.columns}


def control_task(targets: "pd.DataFrame", types: Sequence[Hashable], seed: int = 0) -> "pd.DataFrame":
    """Each target with its classes dealt out anew: one class a type, drawn from the target's own distribution."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    codes = pd.factorize(pd.Series(list(types)))[0]
    dealt = {}
    for name, values in targets.items():
        known = values.dropna().to_numpy()
        dealt[name] = pd.Series(rng.choice(known, codes.max() + 1)[codes]).where(values.notna().to_numpy())
    return pd.DataFrame(dealt)


def deal_folds(clusters: "np.ndarray", folds: int, seed: int) -> "np.ndarray":
    """The fold [row] of each row, clusters whole and spread evenly."""
    import numpy as np
    import pandas as pd

    codes = pd.factorize(clusters)[0]
    return np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % folds
