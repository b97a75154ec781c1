"""Making an engine for the net of a file that OpenVINO reads: nothing is converted, and Keras is not imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_cache.errors import BadData, LayertapError
from transfer.engines.base import Engine, out_of_memory
from transfer.engines.comparison import require_like_float32
from transfer.engines.net_part import require_room
from transfer.engines.openvino_engine import OpenVinoEngine
from transfer.engines.selection import require_openvino
from transfer.nets.openvino_files.net import OpenVinoNet
from transfer.nets.openvino_files.quantised import computes_int8
from transfer.nets.openvino_files.reading import reason_of
from transfer.request import FeatureRequest, SharedNet


class OpenVinoFileFactory:
    """Makes engines for a request of such a net, for each kind of image (see `EngineFactory`).

    Parameters
    ----------
    engine : {'auto', 'openvino'}
    net : SharedNet, optional
        The net of the request, if it is used elsewhere too.

    Attributes
    ----------
    name : str
        ``openvino``.
    note : str
        Empty: no other engine computes such a net.
    batch : int or None
        The number of images that the net computes together; None for any.

    Raises
    ------
    LayertapError
        When the net cannot be read, or lacks a layer; or OpenVINO is not to be had, or does not compute so.
    """

    name, note = "openvino", ""

    def __init__(self, request: FeatureRequest, engine: str, net: SharedNet | None = None) -> None:
        require_openvino(engine, request.precision, request.net.name)
        self._request = request
        built = (net or SharedNet(request)).at("float32")
        assert isinstance(built, OpenVinoNet)
        self._net = built
        self._readouts = [(spec.layer, spec.pooling_rule) for spec in request.specs]
        self.batch = built.batch_for([layer for layer, _ in self._readouts])

    def make(self, inputs: np.ndarray, batch_size: int, room: int | None = None) -> Engine:
        """An engine for inputs like these (see `EngineFactory.make`).

        Raises
        ------
        InvalidChoice
            When a lower precision than float32 makes other features of the net.
        BadData
            When OpenVINO cannot compute the net.
        """
        precision = self._request.precision
        engine = self._make(inputs, batch_size, precision, room)
        if precision != "float32":
            few = inputs[: min(2, engine.batch_size)]
            require_like_float32(engine, self._make(few, len(few), "float32", None), few, self._request)
        return engine

    def _make(self, inputs: np.ndarray, batch_size: int, precision: str, room: int | None) -> Engine:
        require_room(self._request.net.name, self._net.largest_bytes([layer for layer, _ in self._readouts]))
        try:
            graph: Any = self._net.cut(self._readouts, self._request.specs[0].preprocessing, inputs.shape[-1])
            return OpenVinoEngine(graph, batch_size, precision, room, in_int8=computes_int8())
        except LayertapError:
            raise
        except Exception as error:  # OpenVINO raises many types
            if out_of_memory(error):
                raise
            name = self._request.net.name
            raise BadData(f"OpenVINO cannot compute the net {name}: {reason_of(error)}.") from error
