"""How alike two spaces of features are: centred kernel alignment (CKA) and representational similarity (RSA).

Both compare what two spaces say of the same images, whatever their dimensions, and neither changes when the axes of a
space are turned or its features are scaled.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from feature_cache.errors import BadData
from feature_cache.lazy_rows import LazyRows

Rows = np.ndarray | LazyRows
BLOCK = 4096  # rows that are read at a time
LEAST_UNBIASED = 4  # rows that the unbiased estimator needs


def linear_cka(x: Rows, y: Rows) -> float:
    """The linear CKA of two spaces: 1 where they are equal up to rotation and scale, 0 where they share nothing.

    It is computed from the covariances of the features, one pass over the rows, so no array grows with their number
    (Kornblith et al. 2019, arXiv:1905.00414, equation 4). With fewer rows than features it is too high: see
    `unbiased_cka`.

    Parameters
    ----------
    x, y : ndarray or LazyRows of shapes (n, ...) and (n, ...)
        Features of the same images.

    Raises
    ------
    BadData
        When the numbers of rows differ, or features are infinite or not numbers.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 4))
    >>> round(linear_cka(x, 3 * x[:, ::-1]), 6)
    1.0
    """
    _require_pairs(x, y, 2)
    mean_x, mean_y = _mean(x), _mean(y)
    xx, yy, xy = (np.zeros((len(one), len(other))) for one, other in _sides(mean_x, mean_y))
    for start in range(0, len(x), BLOCK):
        left, right = _flat(x, start) - mean_x, _flat(y, start) - mean_y
        xx += left.T @ left
        yy += right.T @ right
        xy += left.T @ right
    return _ratio(float(np.square(xy).sum()), float(np.square(xx).sum()), float(np.square(yy).sum()))


def unbiased_cka(x: Rows, y: Rows) -> float:
    """The linear CKA by the unbiased estimator of HSIC, for few images: about 0 where spaces share nothing.

    The estimator is that of Song et al. (2012, equation 5), as Nguyen et al. (2021, arXiv:2010.15327) use it. It takes
    two arrays of shape (n, n). It may be a little below 0 or above 1.

    Parameters
    ----------
    x, y : ndarray or LazyRows of shapes (n, ...) and (n, ...)
        Features of the same images, at least 4.

    Raises
    ------
    BadData
        As for `linear_cka`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((2, 50, 200))
    >>> linear_cka(x, y) > 0.5, abs(unbiased_cka(x, y)) < 0.1
    (True, True)
    """
    _require_pairs(x, y, LEAST_UNBIASED)
    kernel_x, kernel_y = _gram(x), _gram(y)
    products = (_hsic(one, other) for one, other in ((kernel_x, kernel_y), (kernel_x, kernel_x), (kernel_y, kernel_y)))
    return _ratio(*products)


def rsa(x: Rows, y: Rows, *, ranks: bool = True) -> float:
    """The correlation of the dissimilarities of all pairs of images in two spaces (Kriegeskorte et al. 2008).

    The dissimilarity of two images is 1 - the correlation of their features (doi:10.3389/neuro.06.004.2008).

    Parameters
    ----------
    x, y : ndarray or LazyRows of shapes (n, ...) and (n, ...)
        Features of the same images; all pairs are held in memory.
    ranks : bool
        Whether dissimilarities are correlated by ranks (Spearman), or as they are (Pearson).

    Raises
    ------
    BadData
        As for `linear_cka`.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((20, 4))
    >>> round(rsa(x, 2 * x), 6)
    1.0
    """
    _require_pairs(x, y, 3)
    pairs = [np.nan_to_num(pdist(_whole(rows), "correlation"), nan=1.0) for rows in (x, y)]
    first, second = (rankdata(one) if ranks else one for one in pairs)
    first, second = first - first.mean(), second - second.mean()
    return _ratio(float(first @ second), float(first @ first), float(second @ second))


def _require_pairs(x: Rows, y: Rows, least: int) -> None:
    if len(x) != len(y) or len(x) < least:
        raise BadData(f"spaces are compared by the same images, at least {least}; received {len(x)} and {len(y)} rows.")


def _sides(x: np.ndarray, y: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (x, x), (y, y), (x, y)


def _flat(rows: Rows, start: int) -> np.ndarray:
    """A block of rows as vectors of float64."""
    block = np.asarray(rows[start : start + BLOCK], np.float64)
    block = block.reshape(len(block), -1)
    if not np.isfinite(block).all():
        row = start + int(np.argmin(np.isfinite(block).all(1)))
        raise BadData(f"the features of row {row} are infinite or not numbers; read an earlier layer with `layers`.")
    return block


def _whole(rows: Rows) -> np.ndarray:
    return np.concatenate([_flat(rows, start) for start in range(0, len(rows), BLOCK)])


def _mean(rows: Rows) -> np.ndarray:
    return np.asarray(sum(_flat(rows, start).sum(0) for start in range(0, len(rows), BLOCK)) / len(rows))


def _gram(rows: Rows) -> np.ndarray:
    """The linear kernel of all rows with a diagonal of zeros, shape (n, n)."""
    whole = _whole(rows)
    whole -= whole.mean(0)
    gram = whole @ whole.T
    np.fill_diagonal(gram, 0)
    return np.asarray(gram)


def _hsic(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of HSIC of two kernels whose diagonals are 0, but for a constant factor."""
    n = len(x)
    sums = x.sum(0) @ y.sum(0)
    return float((x * y).sum() + x.sum() * y.sum() / ((n - 1) * (n - 2)) - 2 * sums / (n - 2))


def _ratio(both: float, first: float, second: float) -> float:
    """A covariance over the root of two variances; NaN where a space is constant."""
    return both / float(np.sqrt(first * second)) if first > 0 and second > 0 else float("nan")
