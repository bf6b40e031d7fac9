"""Linear probes: what can be read at each site, layer and role, split by program so that no program is in both halves.

scikit-learn fits the probes. Rows outside `train` (without_io programs, say) are never fitted on: each fold's
probe reads them too, and that a probe fitted on one group reads the other is evidence that both use the same code.
A high accuracy says that a linear reader could know; it does not say that the model uses it.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

CONTROLS = ("selectivity",)


def fit_probes(
    acts: "xr.Dataset",
    targets: "pd.DataFrame",
    clusters: Sequence[Hashable],
    train: "np.ndarray | None" = None,
    C: float = 1.0,  # noqa: N803 (scikit-learn's name)
    folds: int = 5,
    controls: Sequence[str] = (),
    types: Sequence[Hashable] | None = None,
    seed: int = 0,
    n_jobs: int = -1,
) -> "xr.Dataset":
    """Fit a multinomial logistic probe for each target at each site, layer and role.

    Args:
        acts: from `capture`; heads are read together.
        targets: a column a target, a row a prompt; missing values are left out of that target.
        clusters: what a row belongs to (its program) [prompt]; a cluster is never split over folds.
        train: rows that may be fitted on [prompt]; all when None.
        C: inverse regularisation strength, on standardised features.
        folds: each is held out once.
        controls: `selectivity` fits the same probes to a control task (Hewitt & Liang 2019, 1909.03368): each type gets
            a class at random, drawn from the target's own distribution. It can only be learned by heart.
        types: what the control task assigns classes to [prompt]; the clusters when None.
        seed: of the folds and of the control task.
        n_jobs: processes, as in joblib.

    Returns:
        `accuracy` (target, site, layer, role, fold) on held-out training rows, and `correct` (target, site, layer,
        role, prompt): for a training row whether the probe that did not see its cluster was right, for any other row
        the share of the folds' probes that were; NaN where the target is missing. With the control `selectivity` also
        `control_accuracy` and `control_correct`.

    Raises:
        PbbError: lengths that differ, a target with one class, fewer clusters than folds, or an unknown control.
    """
    import numpy as np
    import pandas as pd
    import xarray as xr
    from joblib import Parallel, delayed
    from tqdm import tqdm

    sites = list(acts.data_vars)
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
    fold = np.full(n, -1)  # [prompt], -1 outside train
    fold[train] = _deal_folds(codes[train], folds, seed)

    tasks = {"": targets}
    if "selectivity" in controls:
        tasks["control_"] = control_task(targets, types, seed)
    encoded = {
        prefix: {name: _classes(table[name], train, fold, folds) for name in targets} for prefix, table in tasks.items()
    }
    places = [
        (site, layer, role)
        for site in sites
        for layer in range(acts.sizes["layer"])
        for role in range(acts.sizes["role"])
    ]
    jobs = [(prefix, name, *place) for prefix in tasks for name in targets for place in places]
    done = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_fit_cell)(acts[site].values[layer, role].reshape(n, -1), encoded[prefix][name], fold, folds, C)
        for prefix, name, site, layer, role in jobs
    )
    cells = dict(zip(jobs, tqdm(done, total=len(jobs), desc="probes", unit="cell"), strict=True))

    variables = {}
    shape = (len(targets.columns), len(sites), acts.sizes["layer"], acts.sizes["role"], -1)
    dims = ("target", "site", "layer", "role")
    for prefix in tasks:
        chosen = [cells[prefix, name, *place] for name in targets for place in places]
        variables[f"{prefix}accuracy"] = ((*dims, "fold"), np.stack([a for a, _ in chosen]).reshape(shape))
        variables[f"{prefix}correct"] = ((*dims, "prompt"), np.stack([c for _, c in chosen]).reshape(shape))
    coords = {"target": list(targets.columns), "site": sites, "layer": acts["layer"], "role": acts["role"]}
    return xr.Dataset(variables, coords=coords)


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


def _deal_folds(clusters: "np.ndarray", folds: int, seed: int) -> "np.ndarray":
    """The fold [row] of each row, clusters whole and spread evenly."""
    import numpy as np
    import pandas as pd

    codes = pd.factorize(clusters)[0]
    return np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % folds


def _classes(values: "pd.Series", train: "np.ndarray", fold: "np.ndarray", folds: int) -> "np.ndarray":
    """Class numbers [prompt], -1 where missing."""
    import pandas as pd

    codes = pd.factorize(values.reset_index(drop=True), sort=True)[0]
    for k in range(folds):
        if len(set(codes[train & (fold != k) & (codes >= 0)])) < 2:
            raise PbbError(
                f"The target {values.name!r} has fewer than two classes to learn: leave it out or add prompts."
            )
    return codes


def _fit_cell(
    features: "np.ndarray", classes: "np.ndarray", fold: "np.ndarray", folds: int, inverse_strength: float
) -> "tuple[np.ndarray, np.ndarray]":
    """Accuracy [fold] on held-out training rows, and correctness [prompt]."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    known = classes >= 0
    train = fold >= 0
    correct = np.full(len(classes), np.nan)
    correct[known & ~train] = 0.0
    accuracy = np.full(folds, np.nan)
    with threadpool_limits(1):  # the cells run in parallel
        for k in range(folds):
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_strength, max_iter=1000))
            fitted = known & train & (fold != k)
            held_out = known & (fold == k)
            probe.fit(features[fitted], classes[fitted])
            if held_out.any():
                correct[held_out] = probe.predict(features[held_out]) == classes[held_out]
                accuracy[k] = correct[held_out].mean()
            if (known & ~train).any():
                correct[known & ~train] += (probe.predict(features[known & ~train]) == classes[known & ~train]) / folds
    return accuracy, correct
