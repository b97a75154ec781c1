"""Views: several rows of features for each image, which train together and never fall on both sides of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.registry import Head


@dataclass(frozen=True)
class Views:
    """How the rows of images are used, of which each has `count`, one after another; the first is the plain image.

    A head is fitted on all views of its training images. It is judged on plain images, or on the mean of the
    probabilities over all views of an image (test-time augmentation, Krizhevsky et al. 2012).

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

    def fit(self, head: Head, features: Any, labels: np.ndarray, images: np.ndarray | None = None) -> Head:
        """Fit `head` on all views of these images.

        Parameters
        ----------
        features : array of shape (n_images * count, ...)
        labels : ndarray of shape (n_images,)
        images : ndarray of shape (m,), optional
            Positions; all images by default.
        """
        if images is None:
            return head.fit(features[:], np.repeat(labels, self.count))
        return head.fit(features[self._all(images)], np.repeat(labels[images], self.count))

    def predict_proba(self, head: Head, features: Any, images: np.ndarray) -> np.ndarray:
        """Probabilities of these images: shape (m, n_classes)."""
        if not self.average:
            return head.predict_proba(features[images * self.count])
        return self.mean(head.predict_proba(features[self._all(images)]))

    def mean(self, probabilities: np.ndarray) -> np.ndarray:
        """Mean over the views of each image: shape (m * count, n_classes) to (m, n_classes)."""
        return probabilities.reshape(-1, self.count, probabilities.shape[1]).mean(1)

    def _all(self, images: np.ndarray) -> np.ndarray:
        return (images[:, None] * self.count + np.arange(self.count)).reshape(-1)
