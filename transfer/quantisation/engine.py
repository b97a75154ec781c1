"""The engine of quantised nets: OpenVINO on CPUs. Such a net takes colour images, so gray ones are replicated here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.engines.base import Pending
from transfer.engines.openvino_engine import OpenVinoEngine


@dataclass(frozen=True)
class QuantisedNet:
    """A quantised net, and which of its outputs are read.

    Attributes
    ----------
    file : Path
        From `transfer.quantisation.quantiser.quantise`.
    readouts : tuple of int
        The numbers of the outputs, in the order of the specs of a request.
    """

    file: Path
    readouts: tuple[int, ...]


class QuantisedEngine(OpenVinoEngine):
    """Runs a quantised net (see `Engine`). What is not in int8 is computed in float32.

    Parameters
    ----------
    net : QuantisedNet
    batch_size : int
    room : int, optional
        See `OpenVinoEngine`.
    """

    def __init__(self, net: QuantisedNet, batch_size: int, room: int | None = None) -> None:
        super().__init__(net.file, batch_size, "float32", room, net.readouts)

    def start(self, inputs: np.ndarray) -> Pending:
        return super().start(as_colour(inputs))


def as_colour(images: np.ndarray) -> np.ndarray:
    """Images of shape (n, height, width, 3), of one or three channels before."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
