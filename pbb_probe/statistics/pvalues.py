"""p values of differences from their draws: of a difference by relabelling, of equivalence by resampling; adjusted."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def permutation_p(observed: "np.ndarray", null: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Two-sided p values [place] of differences [place] under relabelings [draw, place], single and by max-T.

    Where there is no difference to test (NaN) there is no p, and relabelings that leave none there do not count.
    """
    import numpy as np

    spread, there = np.ones(null.shape[1]), np.isfinite(null).any(axis=0)
    spread[there] = np.nanstd(null[:, there], axis=0)
    spread[spread == 0] = 1.0
    statistic, extreme = np.abs(observed) / spread, np.abs(null) / spread
    known = np.isfinite(statistic)
    at_least = statistic - 1e-12  # equal up to rounding counts as extreme
    single = (1 + (extreme >= at_least).sum(axis=0)) / (1 + np.isfinite(extreme).sum(axis=0))
    largest = np.fmax.reduce(extreme[:, known], axis=1, initial=-np.inf)
    largest = largest[np.isfinite(largest)]
    adjusted = (1 + (largest[:, None] >= at_least).sum(axis=0)) / (1 + len(largest))
    return np.where(known, single, np.nan), np.where(known, adjusted, np.nan)


def centred(observed: "np.ndarray", null: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Differences [place] and those under relabelings [draw, place], from their common mean.

    The observed one is among those averaged, so that it stays exchangeable with the others.
    """
    import numpy as np

    together = np.vstack([observed, null])
    there = np.isfinite(together)
    middle = np.nan_to_num(together).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return observed - middle, null - middle


def holm(p: "np.ndarray") -> "np.ndarray":
    """p values [place] adjusted for all that are not missing (Holm 1979)."""
    import numpy as np

    order = np.argsort(p)  # NaN comes last
    steps = np.isfinite(p).sum() - np.arange(len(p))
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1.0)
    return adjusted


def equivalence_p(observed: "np.ndarray", resampled: "np.ndarray", margin: float) -> "np.ndarray":
    """p values [place] of differences [place] reaching the margin, the larger of both sides (TOST, Schuirmann 1987).

    Each side's p is the share of the resamples [draw, place] at or beyond its margin. A resample without a difference
    counts as beyond both; where none was observed there is no p.
    """
    import numpy as np

    beyond = np.maximum((~(resampled < margin)).sum(axis=0), (~(resampled > -margin)).sum(axis=0))
    return np.where(np.isfinite(observed), (1 + beyond) / (1 + len(resampled)), np.nan)
