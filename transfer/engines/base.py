"""What an engine is: it computes features of batches, several of them at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

Pending = Callable[[], list[np.ndarray]]  # waits for a batch, and returns its features


class Engine(Protocol):
    """Runs a cut net on batches of one shape.

    Attributes
    ----------
    batch_size : int
        The most rows that a batch may have. A smaller batch is padded, so that a row's numbers do not depend on how
        many rows came with it.
    ahead : int
        Batches to start before the first is waited for, so that the engine is never without work.
    """

    batch_size: int
    ahead: int

    def describe(self) -> dict[str, str]:
        """Name and versions, for provenance."""

    def start(self, inputs: np.ndarray) -> Pending:
        """Begin with a batch.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Of the net's input dtype; it must not change before the features have been waited for.

        Returns
        -------
        callable
            Gives a list of float32 arrays of shape (n, ...), one for each readout.
        """


def padded(inputs: np.ndarray, rows: int) -> np.ndarray:
    """`inputs` with zeros after them, `rows` in all."""
    if len(inputs) == rows:
        return inputs
    return np.concatenate([inputs, np.zeros((rows - len(inputs), *inputs.shape[1:]), inputs.dtype)])


def within(batch_size: int, row_bytes: float, room: int | None) -> int:
    """`batch_size`, halved until so many rows take at most half of the memory that there is room for.

    Parameters
    ----------
    row_bytes : float
        That a row takes while it is computed.
    room : int or None
        Bytes; None where it is not known.
    """
    while room is not None and batch_size > 1 and batch_size * row_bytes > room / 2:
        batch_size //= 2
    return batch_size


def out_of_memory(error: BaseException) -> bool:
    """Whether an engine failed because a batch was too large for its memory."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}:
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("resource_exhausted", "out of memory", "bad_alloc", "cannot allocate memory"))
