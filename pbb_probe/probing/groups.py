"""Is it the same code in both groups? Probes fitted on either group read both, and their directions are compared.

Two probes of finite data differ even where the model does not, so that a cosine between groups is read beside the
cosine within each: halves of a group's programs, fitted apart. Between groups too it is halves that are compared.
"""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.probing.arguments import check_acts, check_kinds, codes_of, target_table, values_of
from pbb_probe.probing.directions import unit_directions
from pbb_probe.probing.folds import deal_folds
from pbb_probe.probing.linear import fit_probes
from pbb_probe.probing.places import place_batches, places_at_once
from pbb_probe.probing.readers import Kind, fit_together
from pbb_probe.schema import Gibibytes, Seed, Strength, checks_arguments

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

BETWEEN = "between"


def probe_groups(
    acts: "xr.Dataset",
    targets: "pd.DataFrame | Sequence[str]",
    clusters: str | Sequence[Hashable] = "program",
    group: str | Sequence[Hashable] = "group",
    **settings: Any,
) -> "xr.Dataset":
    """Fit on each group in turn and read every group's prompts.

    Args:
        acts: from `capture`.
        targets: names of labels of `acts`, or a table with a column a target and a row a prompt.
        clusters: the label that says what a row belongs to, or its values [prompt].
        group: the label of groups, or its values [prompt]; two or more.
        settings: those of `fit_probes`: C, folds (of each group's clusters), kinds, balanced, seed, memory_gib.

    Returns:
        What `fit_probes` says of each prompt, `correct` or `predicted`, with a leading dimension `fitted_on`: of the
        group that was fitted on, held-out clusters. With the labels of `acts`, and `group` where values of it are
        given.

    Raises:
        PbbError: what `fit_probes` refuses, or less than two groups.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=20, without_io=20), pbb.load_model("nano")
        >>> prompts = pbb.make_prompts(corpus, model, n=60)
        >>> acts, labels = pbb.capture(model, prompts, layers=[3], roles=["name"]), prompts.labels
        >>> pbb.probe_groups(acts, labels[["op_1"]], labels["program"], labels["group"])["correct"].sizes["fitted_on"]
        2
    """
    import xarray as xr

    group_of, names = _groups(acts, group)
    parts = []
    for name in names:
        probes = fit_probes(acts, targets, clusters, train=group_of == name, **settings)
        parts.append(probes[[variable for variable in ("correct", "predicted") if variable in probes]])
    across: xr.Dataset = xr.concat(parts, dim="fitted_on", coords="minimal", compat="override")
    across = across.assign_coords(fitted_on=names)
    return across if isinstance(group, str) else across.assign_coords(group=("prompt", group_of.astype(str)))


@checks_arguments
def direction_cosines(
    acts: "xr.Dataset",
    targets: "pd.DataFrame | Sequence[str]",
    clusters: str | Sequence[Hashable] = "program",
    group: str | Sequence[Hashable] = "group",
    C: Strength = 1.0,  # noqa: N803
    kinds: Mapping[str, Kind] | None = None,
    balanced: bool = False,
    seed: Seed = 0,
    memory_gib: Gibibytes = 2.0,
) -> "xr.Dataset":
    """The cosine between probe directions that were fitted on two halves of a group, and between those of two groups.

    Args:
        acts: from `capture`.
        targets: names of labels of `acts`, or a table with a column a target and a row a prompt.
        clusters: the label that says what a row belongs to, or its values [prompt]; never split over halves.
        group: the label of groups, or its values [prompt]; the first two, sorted, are compared.
        C: inverse regularisation strength, as in `fit_probes`.
        kinds: as in `fit_probes`.
        balanced: as in `fit_probes`.
        seed: of the halves.
        memory_gib: as in `fit_probes`.

    Returns:
        `cosine` (pair, target, site, layer, role): the mean over classes and over the pairings of halves. `pair` is a
        group (its one half against its other) or `between`, the first two groups' halves against one another. A value
        between groups near those within says that no difference in direction was found at this amount of data.

    Raises:
        PbbError: less than two groups, or a half in which a target has fewer than two classes.
    """
    import numpy as np
    import xarray as xr

    acts = check_acts(acts)
    targets = target_table(acts, targets)
    group_of, names = _groups(acts, group)
    names = names[:2]
    kinds = check_kinds(kinds or {}, targets)
    codes_of(acts, clusters, "clusters")  # which says what is wrong with them
    halves = halves_of_groups(values_of(acts, clusters, "clusters").tolist(), group_of, names, seed)
    pairs = {name: [((name, 0), (name, 1))] for name in names}
    pairs[BETWEEN] = list(itertools.product([(names[0], 0), (names[0], 1)], [(names[1], 0), (names[1], 1)]))
    parts = []
    for features in place_batches(acts, places_at_once(acts, 10 * len(targets.columns), memory_gib)):
        read = {key: _directions(features, targets, kinds, C, balanced, rows, key[0]) for key, rows in halves.items()}
        parts.append([[_mean_cosine(read, some, target) for target in targets] for some in pairs.values()])
    shape = (len(acts.data_vars), acts.sizes["layer"], acts.sizes["role"])
    values = np.concatenate(parts, axis=2).reshape(len(pairs), len(targets.columns), *shape)
    coords = {"target": list(targets), "site": list(acts.data_vars), "layer": acts["layer"], "role": acts["role"]}
    dims = ("pair", "target", "site", "layer", "role")
    return xr.Dataset({"cosine": (dims, values)}, coords={"pair": list(pairs), **coords})


def halves_of_groups(
    clusters: Sequence[Hashable], labels: "np.ndarray", names: Sequence[str], seed: int
) -> "dict[tuple[str, int], np.ndarray]":
    """The rows [prompt] of each half, 0 and 1, of each named group; `labels` are the groups [prompt]."""
    import numpy as np

    codes = np.unique([str(cluster) for cluster in clusters], return_inverse=True)[1]
    half = np.full(len(codes), -1)
    for name in names:
        half[labels == name] = deal_folds(codes[labels == name], 2, seed)
    return {(name, k): (labels == name) & (half == k) for name in names for k in (0, 1)}


def _groups(acts: "xr.Dataset", group: str | Sequence[Hashable]) -> "tuple[np.ndarray, list[str]]":
    """The group of each prompt, and the names of all groups, sorted.

    Raises:
        PbbError: less than two groups, or what `codes_of` refuses.
    """
    import numpy as np

    codes_of(acts, group, "group")
    values = np.asarray(values_of(acts, group, "group").tolist())
    names = sorted(set(values.tolist()))
    if len(names) < 2:
        raise PbbError(f"The prompts are of the group {names[0]!r} alone: give two groups.")
    return values, names


def _directions(
    features: "np.ndarray",
    targets: "pd.DataFrame",
    kinds: Mapping[str, Kind],
    C: float,  # noqa: N803
    balanced: bool,
    rows: "np.ndarray",
    group: str,
) -> "dict[str, dict[Hashable, np.ndarray]]":
    """Unit directions [place, feature] by target and class, of probes fitted on some rows [prompt]."""
    import numpy as np

    found: dict[str, dict[Hashable, np.ndarray]] = {}
    together: dict[bytes, list[str]] = {}
    for target in targets:
        together.setdefault(targets[target].notna().to_numpy().tobytes(), []).append(target)
    for known, some in together.items():
        fitted = np.flatnonzero(rows & np.frombuffer(known, bool))
        columns = [targets[name].to_numpy()[fitted] for name in some]
        for name, column in zip(some, columns, strict=True):
            if len(set(column.tolist())) < 2:
                raise PbbError(f"Half of the {group} prompts have one value of {name!r}: leave it out.")
        columns = [c.astype(float if kinds[n] == "ridge" else str) for n, c in zip(some, columns, strict=True)]
        readers = fit_together(features[:, fitted], columns, [kinds[name] for name in some], C, balanced)
        for name, reader in zip(some, readers, strict=True):
            vectors = unit_directions(reader.coefficients).transpose(1, 0, 2)  # [class, place, feature]
            classes = reader.classes.tolist() if len(vectors) > 1 else [None]
            found[name] = dict(zip(classes, vectors, strict=True))
    return found


def _mean_cosine(read: dict, pairs: list, target: str) -> "np.ndarray":
    """[place] over pairs of halves and the classes that both halves have."""
    import numpy as np

    cosines = [
        (vectors * read[other][target][value]).sum(1)
        for one, other in pairs
        for value, vectors in read[one][target].items()
        if value in read[other][target]
    ]
    return np.mean(cosines, axis=0) if cosines else np.full(len(next(iter(read[pairs[0][0]][target].values()))), np.nan)
