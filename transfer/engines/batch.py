"""`Batch`: inputs of one shape, with the keys of their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Batch:
    """Inputs of one shape, ready for the net.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
        The digests of the images.
    views : ndarray of shape (n,), uint32
    inputs : ndarray of shape (n, height, width, channels), uint8; or of rows of a layer, float32
        They may be overwritten once the batch has been released.
    release : callable
        Gives the memory of `inputs` back.
    """

    digests: np.ndarray
    views: np.ndarray
    inputs: np.ndarray
    release: Callable[[], None] = field(default=lambda: None)
