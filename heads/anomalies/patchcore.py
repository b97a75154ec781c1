"""`PatchCore`: anomalies are images with a patch that is far from all patches of normal images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from feature_cache.errors import BadData
from feature_cache.lazy_rows import LazyRows
from heads.anomalies.core_set import core_set
from heads.anomalies.nearest import MemoryBank
from heads.anomalies.patches import Shape, grid_of, patch_features, resize
from heads.splitting.fit_groups import encode_groups
from heads.splitting.splits import k_fold
from heads.storage.npz import FILE, read_arrays
from heads.validation import as_rows, require

FOLDS = 3  # the inner folds by which the threshold is learned
SHARE, LEAST = 0.01, 1_000  # of the patches, and how many at least, are kept by default
BLOCK_BYTES = 2**26  # of the patches that are in memory at a time, besides the sample and the memory bank
DTYPES = [np.float32, np.float64]


class PatchCore(BaseEstimator):
    """A memory of patches of normal images; an image is as anomalous as its patch that is furthest from all of them.

    The method is that of Roth et al., "Towards total recall in industrial anomaly detection" (CVPR 2022). Its memory
    bank M is a core-set of the patch features of the training images (see `heads.anomalies.patches` and
    `heads.anomalies.core_set`). For an image with the patches P, the furthest patch and its nearest neighbour are

        m_test*, m* = argmax over m_test in P of min over m in M of ||m_test - m||    (equation 6)

    and the anomaly score is their distance, less where m* lies far from its own neighbours, so that rare but normal
    patches count less:

        s = (1 - exp ||m_test* - m*|| / sum over m in N of exp ||m_test* - m||) * ||m_test* - m*||    (equation 7)

    in which N are the `n_neighbors` patches of M that are nearest to m*, m* among them. With a single neighbour the
    weight is 1.

    An image is an anomaly if its score is above a threshold: the quantile of the scores of the training images that
    lets at most the share `false_positive_rate` of them pass. Each of these scores is by a memory bank without the
    image, in three folds, because the distance of an image to its own patches is near 0.

    By scikit-learn's conventions this is a detector of novelties: it has no `fit_predict`, since training images are
    normal by definition, and `predict` calls hardly any of them an anomaly.

    Features from a cache are read in blocks, and only `max_patches` patches are in memory as a whole.

    Parameters
    ----------
    core_set : float, optional
        The share of the patches that the memory bank keeps, above 0 and up to 1. By default it is 0.01, but at least
        1,000 patches are kept, or all where there are fewer. The paper takes 0.01, 0.1 and 0.25, and the time to select
        the core-set grows with it.
    n_neighbors : int
        The number of neighbours in equation 7.
    neighbourhood : int
        The odd side of the square of positions over which the features of a patch are averaged.
    n_components : int
        The dimensions of the random projection on which the core-set is selected.
    max_patches : int
        If there are more patches, a random sample of so many stands for them when the core-set is selected.
    false_positive_rate : float
        The share of normal images that may be called anomalies, from 0 to below 1.
    maps : sequence of (height, width, channels), optional
        The shapes of the maps that rows of shape (d,) hold flattened, one layer after another. By default rows of
        shape (height, width, channels) are one map, those of `feature_cache.joined.Joined` are the maps of its parts,
        and any other row is a single patch.
    seed : int
        The seed of the sample, of the projection, of the first patch of the core-set, and of the folds.

    Attributes
    ----------
    memory_bank_ : ndarray of shape (n_patches, n_channels)
    offset_ : float
        The threshold, as the smallest `score_samples` of an image that is normal.
    map_shapes_ : tuple of (height, width, channels)
    n_features_in_ : int
        The number of values of a row.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(20, 4, 4, 2)).astype(np.float32)
    >>> detector = PatchCore().fit(X)
    >>> X[0, 1, 2] += 9  # a defect
    >>> detector.predict(X[:2]).tolist()
    [-1, 1]
    >>> detector.anomaly_maps(X[:2], size=(32, 32)).shape
    (2, 32, 32)
    """

    reads_batches = True
    reads_keys = True  # also a few rows are wanted from the disk: only `Joined` knows the shapes of its maps

    def __init__(
        self,
        core_set: float | None = None,
        n_neighbors: int = 9,
        neighbourhood: int = 3,
        n_components: int = 128,
        max_patches: int = 100_000,
        false_positive_rate: float = 0.05,
        maps: Sequence[Sequence[int]] | None = None,
        seed: int = 0,
    ) -> None:
        self.core_set = core_set
        self.n_neighbors = n_neighbors
        self.neighbourhood = neighbourhood
        self.n_components = n_components
        self.max_patches = max_patches
        self.false_positive_rate = false_positive_rate
        self.maps = maps
        self.seed = seed

    def fit(self, X: Any, y: Any = None, groups: np.ndarray | None = None) -> Self:
        """Remember the patches of normal images.

        Parameters
        ----------
        X : array of shape (n, ...), float32 or float64
            Maps of normal images; from a cache, they are read in blocks.
        y : ignored
            There are no labels: all rows are normal.
        groups : ndarray of shape (n,), optional
            Equal for images that stay together in the folds by which the threshold is learned.

        Raises
        ------
        BadData
            When there are fewer than 2 images, or the maps have other shapes.
        InvalidChoice
            When a parameter is out of range.
        """
        self._check()
        rows = self._rows(X, reset=True)
        if len(rows) < 2:
            raise BadData(
                f"PatchCore needs at least 2 normal images, to learn a threshold; received {len(rows)} sample."
            )
        self.map_shapes_ = _map_shapes(X, self.maps, self.n_features_in_)
        patches, image = self._sample(rows)
        scores = np.empty(len(rows))
        for kept, held_out in _folds(encode_groups(groups, np.empty(len(rows))), len(rows), self.seed):
            bank = self._bank(patches[np.isin(image, kept)])
            scores[held_out] = self._scores(rows, bank, held_out)
        self.memory_bank_ = self._bank(patches).points
        threshold = float(np.quantile(scores, 1 - self.false_positive_rate, method="higher"))
        self.offset_ = -max(threshold, float(np.finfo(np.float32).tiny))  # scores are divided by it
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """The negative anomaly scores (equation 7) of shape (n,), float64: the lower, the more anomalous."""
        check_is_fitted(self)
        return -self._scores(self._rows(X), MemoryBank(self.memory_bank_))

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` less the threshold, of shape (n,): below 0 for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """-1 for anomalies and 1 for normal images, of shape (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def anomaly_scores(self, X: Any) -> np.ndarray:
        """The anomaly scores divided by the threshold, of shape (n,): above 1 for anomalies."""
        return self.score_samples(X) / self.offset_

    def anomaly_maps(self, X: Any, size: tuple[int, int] | None = None, sigma: float = 4.0) -> np.ndarray:
        """Where the anomalies are: the distance of each patch to the memory bank, divided by the threshold.

        Parameters
        ----------
        X : array of shape (n, ...)
        size : (height, width), optional
            The size of the result, to which the maps are interpolated bilinearly; a Gaussian of `sigma` pixels then
            makes them smooth, as in section 3.3 of the paper. By default the maps stay as they are.

        Returns
        -------
        ndarray of shape (n, height, width), float64
        """
        check_is_fitted(self)
        rows, bank = self._rows(X), MemoryBank(self.memory_bank_)
        maps = np.concatenate([distances for _, _, distances, _ in self._distances(rows, bank, np.arange(len(rows)))])
        maps = maps.reshape(len(rows), *grid_of(self.map_shapes_)) / -self.offset_
        if size is None:
            return maps
        return gaussian_filter(resize(maps, size), (0, sigma, sigma))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        return tags

    def save(self, folder: Path) -> None:
        """Write ``head.npz`` into `folder`."""
        check_is_fitted(self)
        np.savez(folder / FILE, memory_bank=self.memory_bank_, maps=np.array(self.map_shapes_), offset=self.offset_)

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote into `folder`.

        Raises
        ------
        DamagedFile
            When the file cannot be read, or holds something else.
        """
        arrays = read_arrays(folder, ("memory_bank", "maps", "offset"), _check_arrays)
        head = cls(**params)
        head.memory_bank_, head.offset_ = arrays["memory_bank"], float(arrays["offset"])
        head.map_shapes_ = _shapes(arrays["maps"])
        head.n_features_in_ = sum(math.prod(shape) for shape in head.map_shapes_)
        return head

    def _check(self) -> None:
        """Raise InvalidChoice for a parameter that is out of range."""
        if self.core_set is not None:
            require(0 < self.core_set <= 1, "core_set", self.core_set, "above 0 and up to 1")
        for name in ("n_neighbors", "neighbourhood", "n_components", "max_patches"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.neighbourhood % 2 == 1, "neighbourhood", self.neighbourhood, "odd")
        rate = self.false_positive_rate
        require(0 <= rate < 1, "false_positive_rate", rate, "at least 0 and below 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")

    def _rows(self, X: Any, reset: bool = False) -> Any:
        """Rows that have been checked: lazy ones as they are, others of shape (n, d)."""
        if not isinstance(X, LazyRows):
            return validate_data(self, as_rows(X), reset=reset, dtype=DTYPES)
        width = math.prod(X.shape[1:])
        if reset:
            self.n_features_in_ = width
        elif width != self.n_features_in_:
            raise BadData(f"PatchCore was fitted to maps of {self.n_features_in_} values; received {width}.")
        return X

    def _blocks(self, rows: Any, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The patches of some rows, in blocks of shape (m, n_patches, n_channels), and the positions of the rows."""
        height, width = grid_of(self.map_shapes_)
        channels = sum(shape[2] for shape in self.map_shapes_)
        step = max(1, BLOCK_BYTES // (height * width * channels * 4))
        for start in range(0, len(positions), step):
            part = positions[start : start + step]
            block = np.asarray(rows[part]).reshape(len(part), -1)
            block = block.astype(np.result_type(block.dtype, np.float32), copy=False)
            if not np.isfinite(block).all():
                raise ValueError("Input X contains NaN or infinity.")
            yield patch_features(block, self.map_shapes_, self.neighbourhood).reshape(len(part), -1, channels), part

    def _sample(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """At most `max_patches` patches of all rows, of shape (m, n_channels), and the position of the row of each."""
        in_row = math.prod(grid_of(self.map_shapes_))
        count = len(rows) * in_row
        numbers = np.arange(count)
        if count > self.max_patches:
            random = np.random.default_rng(self.seed)
            numbers = np.sort(random.choice(count, self.max_patches, replace=False))
        taken = []
        for block, part in self._blocks(rows, np.arange(len(rows))):
            first, last = np.searchsorted(numbers, (part[0] * in_row, (part[-1] + 1) * in_row))
            taken.append(block.reshape(-1, block.shape[-1])[numbers[first:last] - part[0] * in_row])
        return np.concatenate(taken), numbers // in_row

    def _bank(self, patches: np.ndarray) -> MemoryBank:
        """The memory bank of these patches."""
        if self.core_set is None:
            count = max(LEAST, math.ceil(SHARE * len(patches)))
        else:
            count = math.ceil(self.core_set * len(patches))
        return MemoryBank(patches[core_set(patches, count, self.n_components, self.seed)])

    def _distances(
        self, rows: Any, bank: MemoryBank, positions: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """For blocks of rows: their positions, their patches, and the nearest patches of the bank.

        Yields
        ------
        part : ndarray of shape (m,), int
        patches : ndarray of shape (m, n_patches, n_channels)
        distances : ndarray of shape (m, n_patches)
            To the nearest patch of the bank.
        nearest : ndarray of shape (m, n_patches), int
            Its position there.
        """
        for patches, part in self._blocks(rows, positions):
            nearest, distances = bank.nearest(patches.reshape(-1, patches.shape[-1]))
            yield part, patches, distances.reshape(patches.shape[:2]), nearest.reshape(patches.shape[:2])

    def _scores(self, rows: Any, bank: MemoryBank, positions: np.ndarray | None = None) -> np.ndarray:
        """The anomaly scores (equation 7) of some rows, by default all: shape (m,), float64."""
        scores = []
        positions = np.arange(len(rows)) if positions is None else positions
        for _, patches, distances, nearest in self._distances(rows, bank, positions):
            for furthest, image, to_nearest, position in zip(
                distances.argmax(1), patches, distances, nearest, strict=True
            ):
                around = bank.neighbours(int(position[furthest]), self.n_neighbors)
                away = np.linalg.norm((image[furthest] - bank.points[around]).astype(np.float64), axis=1)
                scores.append(_weight(away) * float(to_nearest[furthest]))
        return np.array(scores)


def _weight(distances: np.ndarray) -> float:
    """The weight of equation 7, from the distances to the neighbours of m*, of which it is the first."""
    if len(distances) == 1:
        return 1.0
    powers = np.exp(distances - distances.max())
    return float(1 - powers[0] / powers.sum())


def _folds(groups: np.ndarray | None, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The positions that are kept and held out in each fold; a single group is divided all the same."""
    groups = np.arange(count) if groups is None or not groups.any() else groups
    return k_fold(np.zeros(count, np.int64), groups, min(FOLDS, len(np.unique(groups))), seed)


def _map_shapes(X: Any, maps: Sequence[Sequence[int]] | None, width: int) -> tuple[Shape, ...]:
    """The shapes of the maps that the rows of `X` hold, one after another.

    Raises
    ------
    BadData
        When they are no maps, or do not make up the row.
    """
    if maps is not None:
        shapes = [tuple(shape) for shape in maps]
    else:
        shapes = [
            tuple(part.shape[1:]) for part in getattr(X, "parts", [X] if len(getattr(X, "shape", ())) > 2 else [])
        ]
    shapes = [shape if len(shape) != 1 else (1, 1, *shape) for shape in shapes or [(1, 1, width)]]
    if any(len(shape) != 3 for shape in shapes):
        raise BadData(
            f"PatchCore takes maps of shape (height, width, channels), as `pool='none'` gives them; received {shapes}."
        )
    if sum(math.prod(shape) for shape in shapes) != width:
        raise BadData(f"maps of the shapes {shapes} do not make up rows of {width} values.")
    return _shapes(shapes)


def _shapes(shapes: Any) -> tuple[Shape, ...]:
    return tuple((int(height), int(width), int(channels)) for height, width, channels in shapes)


def _check_arrays(arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError unless the arrays may belong to a fitted head."""
    bank, maps, offset = arrays["memory_bank"], arrays["maps"], arrays["offset"]
    if bank.ndim != 2 or bank.dtype not in DTYPES or not len(bank) or not np.isfinite(bank).all():
        raise ValueError("its memory bank is not made of finite numbers")
    if maps.ndim != 2 or maps.shape[1:] != (3,) or maps.dtype.kind != "i" or not (maps > 0).all():
        raise ValueError("its shapes of maps are none")
    if maps[:, 2].sum() != bank.shape[1]:
        raise ValueError("its memory bank is of other maps")
    if offset.shape != () or offset.dtype != np.float64 or not -np.inf < offset < 0:
        raise ValueError("its threshold is not a number above 0")
