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
    """The fold that holds a row's cluster out, -1 where no row of it is fitted on [prompt]."""
    train: "np.ndarray"
    """Rows that may be fitted on [prompt]."""

    @property
    def n(self) -> int:
        """How many folds. Of a single one the probe is fitted on all rows that may be, and no row is held out."""
        return int(self.fold.max()) + 1

    @property
    def others(self) -> "np.ndarray":
        """Rows of clusters that are never fitted on, which every fold's probe reads [prompt]."""
        import numpy as np

        return np.asarray(self.fold < 0)

    def fitted(self, k: int) -> "np.ndarray":
        """Rows that fold k's probe is fitted on [prompt]."""
        import numpy as np

        return np.asarray(self.train & ((self.fold != k) | (self.n == 1)))

    def held_out(self, k: int) -> "np.ndarray":
        """Rows whose clusters it has not seen, though others of the folds' probes have [prompt]."""
        import numpy as np

        return np.asarray((self.fold == k) & (self.n > 1))


def deal_folds(clusters: "np.ndarray", folds: int, seed: int) -> "np.ndarray":
    """The fold [row] of each row, clusters whole and spread evenly."""
    import numpy as np
    import pandas as pd

    codes = pd.factorize(clusters)[0]
    return np.asarray(np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % folds)


def assigned_folds(clusters: "np.ndarray", folds: int | Sequence[int], train: "np.ndarray", seed: int) -> "np.ndarray":
    """The fold [prompt] that holds each prompt's cluster out; the arguments are those of `fit_probes`.

    It is -1 for prompts of clusters that no row of `train` has, and for all outside `train` where there is one fold.

    Raises:
        PbbError: fewer clusters than folds, or given folds that leave a gap or part a cluster.
    """
    import numpy as np

    n_clusters = len(set(clusters[train]))
    if isinstance(folds, int):
        check_folds(folds, n_clusters)
        dealt = np.full(len(clusters), -1)
        dealt[train] = deal_folds(clusters[train], folds, seed)
        return _of_clusters(clusters, dealt, train)
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
    return _of_clusters(clusters, np.where(train, given, -1), train)


def _of_clusters(clusters: "np.ndarray", fold: "np.ndarray", train: "np.ndarray") -> "np.ndarray":
    """The folds [prompt] of training rows, given to all rows of their clusters."""
    import numpy as np

    if not train.any() or fold.max() < 1:
        return fold
    of = dict(zip(clusters[train].tolist(), fold[train].tolist(), strict=True))
    return np.array([of.get(cluster, -1) for cluster in clusters.tolist()])


def check_folds(folds: int, n_clusters: int) -> None:
    """Refuse more folds than there are clusters to train on.

    Raises:
        PbbError: there are.
    """
    if n_clusters < folds:
        raise PbbError(
            f"{folds} folds need as many clusters to train on, and there are {n_clusters}: give fewer folds."
        )
