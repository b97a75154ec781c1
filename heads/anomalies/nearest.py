"""The nearest points of a memory bank, exactly, by blocked matrix products."""

from __future__ import annotations

from functools import cached_property

import numpy as np

BLOCK = 2**24  # the numbers of a block of products, in which the nearest points are searched for


class MemoryBank:
    """Points among which the nearest ones are searched for.

    Parameters
    ----------
    points : ndarray of shape (m, d)
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = points

    def nearest(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The positions of the nearest points, and the Euclidean distances to them: both of shape (q,).

        Parameters
        ----------
        queries : ndarray of shape (q, d)
        """
        positions = np.empty(len(queries), np.int64)
        step = max(1, BLOCK // len(self.points))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            positions[part] = self._orders(queries[part]).argmin(1)
        # The difference itself: that of squares is inexact for points that are close.
        return positions, _lengths(queries - self.points[positions])

    def neighbours(self, position: int, count: int) -> np.ndarray:
        """The positions of the `count` points that are nearest to a point of the bank; the point itself is the first.

        There are fewer where the bank has no more.
        """
        order = self._orders(self.points[position][None])[0]
        order[position] = -np.inf
        count = min(count, len(order))
        nearest = np.argpartition(order, count - 1)[:count]
        return nearest[np.argsort(order[nearest], kind="stable")]

    @cached_property
    def _centre(self) -> np.ndarray:
        """The mean point, from which squares are measured: far from it, more of them would be lost to rounding."""
        return self.points.mean(0)

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        """-2 times the centred points as columns, and their squared lengths."""
        centred = self.points - self._centre
        return np.ascontiguousarray(-2 * centred.T), np.einsum("ij,ij->i", centred, centred)

    def _orders(self, queries: np.ndarray) -> np.ndarray:
        """The squared distances between queries and points, less the squared length of the query: shape (q, m)."""
        columns, squares = self._factors
        products: np.ndarray = (queries - self._centre) @ columns
        products += squares
        return products


def _lengths(differences: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.sqrt(np.einsum("ij,ij->i", differences, differences))
    return lengths
