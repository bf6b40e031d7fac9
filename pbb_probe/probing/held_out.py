"""Probes that are kept to read new prompts, each by the probes that have not seen its program.

`fit_probes` says how well each place is read; here the probes themselves stay, so that one prompt can be looked at:
what is read of each variable at each layer, and how sure is the probe? The clusters (programs) that may be fitted on
are dealt into folds. A prompt of one of them is read by the probe of the fold that left it out, any other prompt by all
folds' probes, whose probabilities are averaged.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pbb_probe.errors import PbbError
from pbb_probe.probing.arguments import read_train
from pbb_probe.probing.readers import Readers, fit_together
from pbb_probe.schema import Seed, Strength, checks_arguments, whole

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr


@dataclass(frozen=True, eq=False)
class HeldOutProbes:
    """Logistic probes of each target at each site, layer and role, one a fold."""

    probes: "dict[tuple[str, str, str, int], Readers]"
    """By target, site, role and fold; each at all layers."""
    fold: dict[Hashable, int]
    """The fold that leaves each fitted cluster out."""
    folds: int

    def read(self, acts: "xr.Dataset", clusters: Sequence[Hashable]) -> "pd.DataFrame":
        """What is read of new activations.

        Args:
            acts: from `capture`, at the sites, layers and roles that were fitted.
            clusters: what each prompt belongs to [prompt].

        Returns:
            A row for each target, site, role, layer and prompt: the likeliest `value` and its `probability`.
        """
        import numpy as np
        import pandas as pd
        from scipy.special import softmax

        tables = []
        for target, site, role in dict.fromkeys(key[:3] for key in self.probes):
            features = _flat(acts, site, role)  # [layer, prompt, feature]
            read = [self.probes[target, site, role, fold] for fold in range(self.folds)]
            classes = np.unique(np.concatenate([one.classes for one in read]))
            scores = [features @ one.coefficients.transpose(0, 2, 1) + one.intercepts[:, None] for one in read]
            shares = np.stack(
                [_among(classes, one.classes, softmax(s, 2)) for one, s in zip(read, scores, strict=True)]
            )
            weights = np.array(
                [[1.0 if self.fold.get(name, k) == k else 0.0 for name in clusters] for k in range(self.folds)]
            )  # [fold, prompt]
            mean = np.einsum("flpc,fp->lpc", shares, weights / weights.sum(0))
            table = pd.MultiIndex.from_product(
                [[target], [site], [role], acts["layer"].values, range(len(clusters))],
                names=["target", "site", "role", "layer", "prompt"],
            ).to_frame(index=False)
            tables.append(table.assign(value=classes[mean.argmax(2).ravel()].tolist(), probability=mean.max(2).ravel()))
        return pd.concat(tables, ignore_index=True)


@checks_arguments
def fit_held_out(
    acts: "xr.Dataset",
    targets: "pd.DataFrame",
    clusters: Sequence[Hashable],
    train: "np.ndarray | None" = None,
    C: Strength = 1.0,  # noqa: N803 (scikit-learn's name)
    folds: Annotated[int, whole(1, 100_000)] = 2,
    seed: Seed = 0,
) -> HeldOutProbes:
    """Fit a probe for each target at each place and fold, and keep it.

    Args:
        acts: from `capture`; heads are read together.
        targets: a column a target, a row a prompt; rows without a value are left out of that target.
        clusters: what a row belongs to (its program) [prompt].
        train: rows that may be fitted on [prompt]; all when None.
        C: inverse regularisation strength, as in `fit_probes`.
        folds: how many.
        seed: of the folds.

    Raises:
        PbbError: lengths that differ, fewer clusters than folds, or a fold without two values of a target.
    """
    import numpy as np

    n = acts.sizes["prompt"]
    rows = read_train(train, n)
    if not len(targets) == len(clusters) == len(rows) == n:
        raise PbbError(f"There are {n} prompts: give targets, clusters and train a row each.")
    names = list(dict.fromkeys(np.asarray(clusters, object)[rows].tolist()))
    if len(names) < folds:
        raise PbbError(f"There are {len(names)} clusters to fit on and {folds} folds: give fewer folds.")
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[i]: int(k) % folds for k, i in enumerate(order)}
    of_row = np.array([fold.get(name, -1) for name in clusters])
    probes: dict[tuple[str, str, str, int], Readers] = {}
    for k in range(folds):
        fitted = rows & (of_row != k) if folds > 1 else rows
        # targets with the same rows share their work
        there = {name: fitted & targets[name].notna().to_numpy() for name in targets}
        for of in {mask.tobytes(): mask for mask in there.values()}.values():
            sharing = [name for name in targets if (there[name] == of).all()]
            columns = [targets[name].to_numpy()[of] for name in sharing]
            if poor := [name for name, column in zip(sharing, columns, strict=True) if len(set(column.tolist())) < 2]:
                raise PbbError(f"The target {poor[0]!r} has fewer than two values to learn in a fold: leave it out.")
            for site in map(str, acts.data_vars):
                for role in acts["role"].values.tolist():
                    readers = fit_together(_flat(acts, site, role)[:, of], columns, ["logistic"] * len(columns), C)
                    probes |= {(name, site, role, k): one for name, one in zip(sharing, readers, strict=True)}
    return HeldOutProbes(probes, fold, folds)


def _flat(acts: "xr.Dataset", site: str, role: str) -> "np.ndarray":
    """[layer, prompt, feature] of one site and role."""
    array = acts[site].sel(role=role).transpose("layer", "prompt", ...).values.astype(float)
    return array.reshape(*array.shape[:2], -1)


def _among(classes: "np.ndarray", own: "np.ndarray", shares: "np.ndarray") -> "np.ndarray":
    """Shares [layer, prompt, class] of a fold's own classes among those of all folds; what it lacks has none."""
    import numpy as np

    placed = np.zeros((*shares.shape[:2], len(classes)))
    placed[..., np.searchsorted(classes, own)] = shares
    return placed
