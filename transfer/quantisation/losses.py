"""What computing in int8 changes in features: compared with those in float32, on the calibration images.

It measures; `settling` decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Loss:
    """Features of some images at one layer, in float32 and in int8.

    Attributes
    ----------
    layer : str
    positions : ndarray of shape (n,), int64
        The images, by their positions in the data set.
    exact, rounded : ndarray of shape (n, ...), float32
        The features in float32 and in int8.
    """

    layer: str
    positions: np.ndarray
    exact: np.ndarray
    rounded: np.ndarray

    @property
    def relative(self) -> float:
        """The root mean square of the difference, divided by that of the features, as `cache shrink` states it."""
        return _root_mean_square(self.rounded - self.exact) / (_root_mean_square(self.exact) or 1.0)

    @property
    def of_spread(self) -> float:
        """How far what tells images apart is changed: features less their mean over the images, in the same measure.

        What is added to the features of all images alike does not count, since no head minds it. It is 1 for a net that
        gives the same features for every image, about 1.4 for one that gives unrelated ones, and infinite where a
        feature is no number.
        """
        exact, rounded = (rows - rows.mean(0) for rows in (self.exact, self.rounded))
        ratio = _root_mean_square(rounded - exact) / (_root_mean_square(exact) or 1.0)
        return ratio if np.isfinite(ratio) else float("inf")


def _root_mean_square(values: np.ndarray) -> float:
    """In float64, by the largest value: squares of features of 1e-20 would be zero."""
    largest = float(np.abs(values).max(initial=0))
    if not largest or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.square(values / largest, dtype=np.float64).mean()))
