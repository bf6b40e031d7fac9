"""Is it the same code in both groups? Probes fitted on either group read both, and their directions are compared.

Two probes of finite data differ even where the model does not, so that a cosine between groups is read beside the
cosine within each: halves of a group's programs, fitted apart. Between groups too it is halves that are compared.
"""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.probing.linear import check_kinds, fit_probes
from pbb_probe.probing.places import deal_folds, place_batches
from pbb_probe.probing.probe import Kind, unit_directions
from pbb_probe.probing.readers import fit_together

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

BETWEEN = "between"


def probe_groups(
    acts: "xr.Dataset",
    targets: "pd.DataFrame",
    clusters: Sequence[Hashable],
    group: Sequence[Hashable],
    C: float | Sequence[float] = 1.0,  # noqa: N803 (scikit-learn's name)
    folds: int = 5,
    kinds: Mapping[str, Kind] | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> "xr.Dataset":
    """Fit on each group in turn and read every group's prompts.

    Args:
        acts: from `capture`.
        targets: a column a target, a row a prompt.
        clusters: what a row belongs to [prompt].
        group: the group of each row [prompt]; two or more.
        C: as in `fit_probes`.
        folds: of each group's clusters.
        kinds: as in `fit_probes`.
        balanced: as in `fit_probes`.
        seed: of the folds.

    Returns:
        What `fit_probes` says of each prompt, `correct` or `predicted`, with a leading dimension `fitted_on`: of the
        group that was fitted on, held-out clusters.

    Raises:
        PbbError: what `fit_probes` refuses, or less than two groups.
    """
    import numpy as np
    import xarray as xr

    labels, names = _groups(group, acts.sizes["prompt"])
    parts = []
    for name in names:
        options: dict[str, Any] = {"C": C, "folds": folds, "kinds": kinds, "balanced": balanced, "seed": seed}
        found = fit_probes(acts, targets, clusters, train=labels == name, **options)
        parts.append(found[[variable for variable in ("correct", "predicted") if variable in found]])
    joined = xr.concat(parts, dim="fitted_on").assign_coords(fitted_on=names)
    return joined.assign_coords(group=("prompt", np.asarray(labels).astype(str)))


def direction_cosines(
    acts: "xr.Dataset",
    targets: "pd.DataFrame",
    clusters: Sequence[Hashable],
    group: Sequence[Hashable],
    C: float = 1.0,  # noqa: N803
    kinds: Mapping[str, Kind] | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> "xr.Dataset":
    """The cosine between probe directions that were fitted on two halves of a group, and between those of two groups.

    Args: those of `probe_groups`.

    Returns:
        `cosine` (pair, target, site, layer, role): the mean over classes and over the pairings of halves. `pair` is a
        group (its one half against its other) or `between`, the first two groups' halves against one another. A value
        between groups near those within says that no difference in direction was found at this amount of data.

    Raises:
        PbbError: less than two groups, or a half in which a target has fewer than two classes.
    """
    import numpy as np
    import xarray as xr

    n = acts.sizes["prompt"]
    labels, names = _groups(group, n)
    names = names[:2]
    kinds = check_kinds(kinds or {}, targets)
    codes = np.unique([str(cluster) for cluster in clusters], return_inverse=True)[1]
    half = np.full(n, -1)
    for name in names:
        half[labels == name] = deal_folds(codes[labels == name], 2, seed)
    found = []
    for features in place_batches(acts, 1):
        of_target = []
        for target in targets:
            known = targets[target].notna().to_numpy()
            values = targets[target].to_numpy()
            directions = {}
            for name, k in itertools.product(names, (0, 1)):
                rows = np.flatnonzero(known & (labels == name) & (half == k))
                if len(set(values[rows].tolist())) < 2:
                    raise PbbError(f"Half of the {name} prompts have one value of {target!r}: leave it out.")
                column = values[rows].astype(float) if kinds[target] == "ridge" else values[rows].astype(str)
                (reader,) = fit_together(features[:, rows], [column], [kinds[target]], C, balanced)
                vectors = unit_directions(reader.coefficients[0])
                of_class = dict(zip(reader.classes.tolist(), vectors, strict=False)) if len(vectors) > 1 else {}
                directions[name, k] = of_class or {"": vectors[0]}
            of_target.append([_mean_cosine(directions, *pair) for pair in (*((g, g) for g in names), tuple(names))])
        found.append(of_target)
    shape = (len(acts.data_vars), acts.sizes["layer"], acts.sizes["role"])
    values = np.transpose(np.array(found), (2, 1, 0)).reshape(3, len(targets.columns), *shape)
    coords = {"target": list(targets), "site": list(acts.data_vars), "layer": acts["layer"], "role": acts["role"]}
    dims = ("pair", "target", "site", "layer", "role")
    return xr.Dataset({"cosine": (dims, values)}, coords={"pair": [*names, BETWEEN], **coords})


def _groups(group: Sequence[Hashable], n: int) -> "tuple[np.ndarray, list]":
    import numpy as np

    labels = np.asarray(list(group))
    names = sorted(set(labels.tolist()))
    if len(labels) != n or len(names) < 2:
        raise PbbError(f"There are {n} prompts and {len(labels)} group labels of {len(names)} groups: give two groups.")
    return labels, names


def _mean_cosine(directions: dict, one: Hashable, other: Hashable) -> float:
    """Over the pairings of different halves and the classes that both halves have."""
    import numpy as np

    pairings = (
        [((one, 0), (other, 1))] if one == other else itertools.product([(one, 0), (one, 1)], [(other, 0), (other, 1)])
    )
    cosines = [
        directions[a][value] @ directions[b][value]
        for a, b in pairings
        for value in directions[a]
        if value in directions[b]
    ]
    return float(np.mean(cosines)) if cosines else float("nan")
