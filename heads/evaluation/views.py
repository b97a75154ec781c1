"""Views: several rows of features for each image, which train together and never fall on both sides of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_cache.lazy_rows import LazyRows
from heads.evaluation.tasks import outputs
from heads.registry import Head
from heads.splitting.groups import encode_groups, fit_params
from heads.validation import finite

LARGE = 2**28  # bytes of features that are read at a time, where they need not all be in memory


@dataclass(frozen=True)
class Views:
    """How the rows of images are used, of which each has `count`, one after another; the first is the plain image.

    A head is fitted on all views of its training images. It is judged on plain images, or on the mean of what it says
    of all views of an image (test-time augmentation, Krizhevsky et al. 2012).

    Parameters
    ----------
    count : int
    average : bool

    Raises
    ------
    TypeError, ValueError
        When they are something else.
    """

    count: int = 1
    average: bool = False

    def __post_init__(self) -> None:
        if type(self.count) is not int or type(self.average) is not bool:
            raise TypeError(f"views are counted, and averaged or not; received {self.count!r}, {self.average!r}")
        if self.count < 1:
            raise ValueError(f"an image has at least 1 view; received {self.count}")

    def fit(
        self,
        head: Head,
        features: Any,
        targets: np.ndarray,
        images: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> Head:
        """Fit `head` on all views of these images.

        A head that takes groups is told which rows are of one content, where any has several.

        Parameters
        ----------
        features : array of shape (n_images * count, ...)
        targets : ndarray of shape (n_images,) or (n_images, k)
        images : ndarray of shape (m,), optional
            Positions; all images by default.
        groups : ndarray of shape (n_images,), optional
            See `heads.splitting.splits`; by default each image is one of its own.
        """
        images = np.arange(len(targets)) if images is None else images
        groups = np.arange(len(targets)) if groups is None else groups
        rows, repeated = self._all(images), np.repeat(targets[images], self.count, axis=0)
        options = fit_params(head, encode_groups(np.repeat(groups[images], self.count), repeated))
        # Some heads read what they need batch by batch; the others need their rows in memory.
        lazy = isinstance(features, LazyRows) and getattr(head, "reads_batches", False)
        lazy = lazy and (features.nbytes > LARGE or getattr(head, "reads_keys", False))
        with finite(features):
            return head.fit(features.take(rows) if lazy else features[rows], repeated, **options)

    def outputs(self, head: Head, features: Any, images: np.ndarray) -> np.ndarray:
        """Probabilities of these images, (m, n_classes), or the numbers that are predicted, (m,) or (m, k)."""
        rows = self._all(images) if self.average else images * self.count
        step = max(1, LARGE // max(1, getattr(features, "nbytes", 0) // max(1, len(features))))
        starts = range(0, max(1, len(rows)), step)
        with finite(features):
            said = np.concatenate([outputs(head, features[rows[start : start + step]]) for start in starts])
        return self.mean(said) if self.average else said

    def mean(self, said: np.ndarray) -> np.ndarray:
        """Mean over the views of each image: shape (m * count, ...) to (m, ...)."""
        return said.reshape(-1, self.count, *said.shape[1:]).mean(1)

    def _all(self, images: np.ndarray) -> np.ndarray:
        return (images[:, None] * self.count + np.arange(self.count)).reshape(-1)
