"""`Batch`, inputs of one shape with the keys of their rows, and how many images a batch has by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from transfer.engines.selection import accelerated, keras_backend

# Pixels of a batch, and the most images. OpenVINO gives each core a batch of its own, and small ones stay in the
# caches of the processor; a compiled function shares one batch among all cores, or fills an accelerator.
BATCH_PIXELS = {"openvino": 8 * 224 * 224, "keras": 32 * 224 * 224, "accelerator": 128 * 224 * 224}
BATCH_IMAGES = 256


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


def default_batch_size(engine: str, size: tuple[int, int]) -> int:
    """The power of two, 1 to 256, with at most as many pixels as suit `engine`."""
    if engine == "keras" and accelerated(keras_backend()):
        engine = "accelerator"
    room = BATCH_PIXELS[engine] // (size[0] * size[1])
    return min(BATCH_IMAGES, 2 ** max(0, room.bit_length() - 1))
