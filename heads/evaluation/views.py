"""Views: several rows of features for each image, which are never divided by a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_cache.lazy_rows import LazyRows
from heads.evaluation.tasks import outputs
from heads.registry import Head
from heads.splitting.fit_groups import encode_groups, fit_params
from heads.validation import finite

LARGE = 2**28  # features with more bytes than this are read in parts, where a head allows it


@dataclass(frozen=True)
class Views:
    """How the views of images are used: each image has `count` consecutive rows, of which the first is the plain image.

    A head is fitted to all views of its training images. It predicts from the plain image, or predicts the mean over
    all views of an image (test-time augmentation, Krizhevsky et al. 2012).

    Parameters
    ----------
    count : int
        The number of views of an image.
    average : bool
        Whether predictions are averaged over views.

    Raises
    ------
    TypeError, ValueError
        When a parameter has another type, or `count` is below 1.
    """

    count: int = 1
    average: bool = False

    def __post_init__(self) -> None:
        if type(self.count) is not int or type(self.average) is not bool:
            received = f"{self.count!r}, {self.average!r}"
            raise TypeError(f"`count` is an integer and `average` true or false; received {received}")
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
        """Fit `head` to all views of some images.

        A head whose `fit` takes groups is given those of the rows, where any group has several rows.

        Parameters
        ----------
        features : array of shape (n_images * count, ...)
        targets : ndarray of shape (n_images,) or (n_images, k)
        images : ndarray of shape (m,), optional
            The positions of the images; by default all of them.
        groups : ndarray of shape (n_images,), optional
            Equal for images that stay together (see `heads.splitting.splits`); by default every image is a group.
        """
        images = np.arange(len(targets)) if images is None else images
        groups = np.arange(len(targets)) if groups is None else groups
        rows, repeated = self._rows(images), np.repeat(targets[images], self.count, axis=0)
        options = fit_params(head, encode_groups(np.repeat(groups[images], self.count), repeated))
        # Some heads read the features batch by batch; the others need all of them in memory.
        lazy = isinstance(features, LazyRows) and getattr(head, "reads_batches", False)
        lazy = lazy and (features.nbytes > LARGE or getattr(head, "reads_keys", False))
        with finite(features):
            return head.fit(features.take(rows) if lazy else features[rows], repeated, **options)

    def outputs(self, head: Head, features: Any, images: np.ndarray) -> np.ndarray:
        """The probabilities of these images, (m, n_classes), or the numbers that are predicted, (m,) or (m, k)."""
        rows = self._rows(images) if self.average else images * self.count
        step = max(1, LARGE // max(1, getattr(features, "nbytes", 0) // max(1, len(features))))
        starts = range(0, max(1, len(rows)), step)
        with finite(features):
            predictions = np.concatenate([outputs(head, features[rows[start : start + step]]) for start in starts])
        return self.mean(predictions) if self.average else predictions

    def mean(self, predictions: np.ndarray) -> np.ndarray:
        """The mean over the views of each image: shape (m * count, ...) to (m, ...)."""
        return predictions.reshape(-1, self.count, *predictions.shape[1:]).mean(1)

    def _rows(self, images: np.ndarray) -> np.ndarray:
        """The positions of the rows of all views of these images."""
        return (images[:, None] * self.count + np.arange(self.count)).reshape(-1)
