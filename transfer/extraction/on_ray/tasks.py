"""The division of what is missing into tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FEWEST_IMAGES, MOST_IMAGES = 256, 4096  # of a task


@dataclass(frozen=True)
class Task:
    """Some images that one worker computes.

    Attributes
    ----------
    positions : ndarray of int64
        Their positions in the data set.
    jobs : int
        The number of their views to compute.
    """

    positions: np.ndarray
    jobs: int


def divide(positions: np.ndarray, jobs: np.ndarray, workers: int) -> list[Task]:
    """Tasks of ever fewer images, so that all workers end at about the same time, whatever their speeds.

    Parameters
    ----------
    positions : ndarray of shape (n,), int64
        The images of which something is missing.
    jobs : ndarray of shape (n,), int64
        How many views of each.
    workers : int

    Examples
    --------
    >>> tasks = divide(np.arange(20_000), np.ones(20_000, int), workers=2)
    >>> [task.jobs for task in tasks]
    [4096, 3976, 2982, 2237, 1678, 1258, 943, 708, 531, 398, 299, 256, 256, 256, 126]
    """
    tasks, start = [], 0
    for size in _sizes(len(positions), workers):
        end = start + size
        tasks.append(Task(positions[start:end], int(jobs[start:end].sum())))
        start = end
    return tasks


def _sizes(left: int, workers: int) -> Iterator[int]:
    """A share of what is left, within the limits, until nothing is."""
    while left:
        size = min(left, MOST_IMAGES, max(FEWEST_IMAGES, -(-left // (2 * workers))))
        yield size
        left -= size
