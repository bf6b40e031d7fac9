"""Folds of clusters: each cluster (a program) is held out whole, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows the probe of each fold is fitted on, and which it reads."""

    fold: "np.ndarray"
    """The fold that holds a row out, -1 where it is never fitted on [prompt]."""

    @property
    def n(self) -> int:
        """How many folds. Of a single one the probe is fitted on all rows that may be, and no row is held out."""
        return int(self.fold.max()) + 1

    @property
    def others(self) -> "np.ndarray":
        """Rows that are never fitted on, which every fold's probe reads [prompt]."""
        import numpy as np

        return np.asarray(self.fold < 0)

    def fitted(self, k: int) -> "np.ndarray":
        """Rows that fold k's probe is fitted on [prompt]."""
        import numpy as np

        return np.asarray((self.fold >= 0) & ((self.fold != k) | (self.n == 1)))

    def held_out(self, k: int) -> "np.ndarray":
        """Rows that it has not seen, though others of the folds' probes have [prompt]."""
        import numpy as np

        return np.asarray((self.fold == k) & (self.n > 1))


def deal_folds(clusters: "np.ndarray", folds: int, seed: int) -> "np.ndarray":
    """The fold [row] of each row, clusters whole and spread evenly."""
    import numpy as np
    import pandas as pd

    codes = pd.factorize(clusters)[0]
    return np.asarray(np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % folds)


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


def check_folds(folds: int, n_clusters: int) -> None:
    """Refuse more folds than there are clusters to train on.

    Raises:
        PbbError: there are.
    """
    if n_clusters < folds:
        raise PbbError(
            f"{folds} folds need as many clusters to train on, and there are {n_clusters}: give fewer folds."
        )
