"""Do groups use the same code? Probes fitted on each group read all, and their directions are compared two by two.

Two probes of finite data differ even where the model does not. A cosine between groups is therefore read beside the
cosine within each group, between probes of its two halves. Between groups, too, probes of halves are compared.
"""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.labels import AUTO, cluster_label
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
"""Two groups, where a group stands for its own two halves."""
Half = tuple[str, int]
"""A group and which half of it, 0 or 1."""


def probe_groups(
    acts: "xr.Dataset",
    targets: "pd.DataFrame | Sequence[str]",
    clusters: str | Sequence[Hashable] = AUTO,
    group: str | Sequence[Hashable] = "group",
    **settings: Any,
) -> "xr.Dataset":
    """Fit on each group in turn and read every group's prompts.

    Args:
        acts: from `capture`.
        targets: names of labels of `acts`, or a table with a column a target and a row a prompt.
        clusters: the label that says what a row belongs to, or its values [prompt]; `auto` as in `fit_probes`.
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
        >>> acts = pbb.capture(model, pbb.make_prompts(corpus, model, n=60), layers=[3], roles=["name"])
        >>> probe_groups(acts, ["steps"])["fitted_on"].values.tolist()
        ['with_io', 'without_io']
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
    clusters: str | Sequence[Hashable] = AUTO,
    group: str | Sequence[Hashable] = "group",
    C: Strength = 1.0,  # noqa: N803
    kinds: Mapping[str, Kind] | None = None,
    balanced: bool = False,
    seed: Seed = 0,
    memory_gib: Gibibytes = 2.0,
) -> "xr.Dataset":
    """The cosine between probe directions that were fitted on two halves of a group, and on two groups.

    Args:
        acts: from `capture`.
        targets: names of labels of `acts`, or a table with a column a target and a row a prompt.
        clusters: as in `fit_probes`; never split over halves.
        group: the label of groups, or its values [prompt]; two or more, compared two by two.
        C: inverse regularisation strength, as in `fit_probes`.
        kinds: as in `fit_probes`.
        balanced: as in `fit_probes`.
        seed: of the halves.
        memory_gib: as in `fit_probes`.

    Returns:
        `cosine` (halves, target, site, layer, role): the mean over classes and over the pairings of halves. `halves` is
        a group (its one half against its other) or `between`, two groups' halves against one another; of more groups
        `between io_only and with_io` and so on. A value between groups near those within says that no difference in
        direction was found at this amount of data.

    Raises:
        PbbError: less than two groups, or a half in which a target has fewer than two classes.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=20, without_io=20), pbb.load_model("nano")
        >>> acts = pbb.capture(model, pbb.make_prompts(corpus, model, n=100), layers=[3], roles=["name"])
        >>> direction_cosines(acts, ["op_1"], C=0.1)["halves"].values.tolist()
        ['with_io', 'without_io', 'between']
    """
    import numpy as np
    import xarray as xr
    from einops import rearrange

    acts, clusters = check_acts(acts), cluster_label(acts, clusters)
    targets = target_table(acts, targets)
    group_of, names = _groups(acts, group)
    kinds = check_kinds(kinds or {}, targets)
    codes_of(acts, clusters, "clusters")  # which says what is wrong with them
    halves = halves_of_groups(values_of(acts, clusters, "clusters").tolist(), group_of, names, seed)
    pairs: dict[str, list[tuple[Half, Half]]] = {name: [((name, 0), (name, 1))] for name in names}
    for first, second in itertools.combinations(names, 2):
        between = BETWEEN if len(names) == 2 else f"{BETWEEN} {first} and {second}"
        pairs[between] = list(itertools.product([(first, 0), (first, 1)], [(second, 0), (second, 1)]))
    parts = []
    for features, there in place_batches(acts, places_at_once(acts, 10 * len(targets.columns), memory_gib)):
        of_half = {
            half: _directions(features, targets, kinds, C, balanced, rows & there, half[0])
            for half, rows in halves.items()
        }
        parts.append([[_mean_cosine(of_half, halved, target) for target in targets] for halved in pairs.values()])
    values = rearrange(
        np.concatenate(parts, axis=2),
        "halves target (site layer role) -> halves target site layer role",
        layer=acts.sizes["layer"],
        role=acts.sizes["role"],
    )
    coords = {"target": list(targets), "site": list(acts.data_vars), "layer": acts["layer"], "role": acts["role"]}
    dims = ("halves", "target", "site", "layer", "role")
    return xr.Dataset({"cosine": (dims, values)}, coords={"halves": list(pairs), **coords})


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
    """Unit directions [place, feature] by target and class, of probes fitted on these rows [prompt]."""
    import numpy as np
    from einops import rearrange

    directions: dict[str, dict[Hashable, np.ndarray]] = {}
    sharing: dict[bytes, list[str]] = {}  # targets with the same rows share their work
    for target in targets:
        sharing.setdefault(targets[target].notna().to_numpy().tobytes(), []).append(target)
    for known, names in sharing.items():
        fitted = np.flatnonzero(rows & np.frombuffer(known, bool))
        columns = [targets[name].to_numpy()[fitted] for name in names]
        for name, column in zip(names, columns, strict=True):
            if len(set(column.tolist())) < 2:
                raise PbbError(f"Half of the {group} prompts have one value of {name!r}: leave it out.")
        columns = [c.astype(float if kinds[n] == "ridge" else str) for n, c in zip(names, columns, strict=True)]
        readers = fit_together(features[:, fitted], columns, [kinds[name] for name in names], C, balanced)
        for name, reader in zip(names, readers, strict=True):
            vectors = rearrange(unit_directions(reader.coefficients), "place value feature -> value place feature")
            classes = reader.classes.tolist() if len(vectors) > 1 else [None]
            directions[name] = dict(zip(classes, vectors, strict=True))
    return directions


def _mean_cosine(
    directions: "Mapping[Half, dict[str, dict[Hashable, np.ndarray]]]", pairs: Sequence[tuple[Half, Half]], target: str
) -> "np.ndarray":
    """The mean cosine [place] over pairs of halves, and over the classes that both halves have."""
    import numpy as np

    cosines = [
        (vectors * directions[second][target][value]).sum(1)
        for first, second in pairs
        for value, vectors in directions[first][target].items()
        if value in directions[second][target]
    ]
    if cosines:
        return np.asarray(np.mean(cosines, axis=0))
    return np.full(len(next(iter(directions[pairs[0][0]][target].values()))), np.nan)
