"""Whether two samples of features come from one distribution: the kernel two-sample test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from feature_cache.errors import BadData

ROUNDING = 1e-10  # of a discrepancy: divisions of few rows are often the same


@dataclass(frozen=True)
class TwoSampleTest:
    """The result of a kernel two-sample test.

    Attributes
    ----------
    mmd2 : float
        The unbiased estimate of the squared maximum mean discrepancy; about 0 where the distributions are equal.
    p_value : float
        The share of permutations with at least this discrepancy, the observed one among them.
    bandwidth : float
        Of the Gaussian kernel: the median distance of two rows.
    permutations : int
    """

    mmd2: float
    p_value: float
    bandwidth: float
    permutations: int


def mmd_test(old: np.ndarray, new: np.ndarray, *, permutations: int = 1000, seed: int = 0) -> TwoSampleTest:
    """The kernel two-sample test with a Gaussian kernel of the median bandwidth (Gretton et al. 2012, JMLR 13:723).

    Its p-value is that of a permutation test. Memory grows with the square of the number of rows: give it a sample of
    many.

    Parameters
    ----------
    old, new : ndarray of shapes (n, d) and (m, d)
        At least 2 rows each.
    permutations : int
    seed : int
        Of the permutations.

    Raises
    ------
    BadData
        When one has fewer than 2 rows, or features are infinite or not numbers.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> old, new = rng.standard_normal((2, 60, 5))
    >>> mmd_test(old, new).p_value > 0.05, mmd_test(old, new + 1).p_value < 0.01
    (True, True)
    """
    if min(len(old), len(new)) < 2:
        raise BadData(f"two samples are compared by at least 2 images each; received {len(old)} and {len(new)}.")
    rows = np.concatenate([old, new]).astype(np.float64)
    if not np.isfinite(rows).all():
        raise BadData("features are infinite or not numbers; read an earlier layer with `layers`.")
    distances = cdist(rows, rows)
    median = float(np.median(distances[np.triu_indices(len(rows), 1)]))
    bandwidth = median or float(distances.max()) or 1.0  # most rows may be the same
    kernel = np.exp(-np.square(distances / bandwidth) / 2)
    np.fill_diagonal(kernel, 0)
    rng = np.random.default_rng(seed)
    is_old = np.arange(len(rows)) < len(old)
    drawn = np.stack([is_old, *(rng.permutation(is_old) for _ in range(permutations))])
    observed, *others = _mmd2(kernel, drawn).tolist()
    larger = int(np.count_nonzero(np.array(others) >= observed - ROUNDING))
    return TwoSampleTest(observed, (larger + 1) / (permutations + 1), bandwidth, permutations)


def _mmd2(kernel: np.ndarray, is_old: np.ndarray) -> np.ndarray:
    """The unbiased estimates of the squared discrepancy, of a kernel whose diagonal is 0 (lemma 6).

    `is_old`, of shape (divisions, rows), says which rows are old; there is an estimate of each division.
    """
    members = is_old.astype(np.float64)
    of_old, total = members @ kernel, float(kernel.sum())
    both_old = np.einsum("ij,ij->i", members, of_old)
    across = of_old.sum(axis=1) - both_old
    both_new = total - both_old - 2 * across
    n = is_old.sum(axis=1)
    m = is_old.shape[1] - n
    return both_old / (n * (n - 1)) + both_new / (m * (m - 1)) - 2 * across / (n * m)
