"""Making an engine: a net is built by Keras, here or in a process that converts it; OpenVINO or Keras then runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import InvalidChoice
from transfer.engines import openvino_store
from transfer.engines.base import Engine
from transfer.engines.comparison import require_like_float32
from transfer.engines.conversion.known import is_known
from transfer.engines.conversion.process import ConversionFailed, ConversionProcess
from transfer.engines.net_part import NetPart
from transfer.engines.openvino_engine import CONVERSION, OpenVinoEngine, convert
from transfer.engines.openvino_store import CannotConvert
from transfer.engines.selection import choose, keras_backend
from transfer.quantisation.engine import QuantisedEngine, QuantisedNet
from transfer.request import FeatureRequest, SharedNet


class EngineFactory:
    """Makes engines for a request, for each kind of input.

    Parameters
    ----------
    engine : {'auto', 'keras', 'openvino'}
        See `transfer.engines.selection.choose`.
    start : tuple of str
        The layers whose outputs the inputs are; none where they are pixels.
    net : SharedNet, optional
        The net of the request, if it is used elsewhere too.
    quantised : QuantisedNet, optional
        The net that computes a request in int8.

    Attributes
    ----------
    name : str
        The engine in use.
    note : str
        Why another engine is in use than the one that was chosen.

    Raises
    ------
    LayertapError
        When the engine is not to be had; or the net or the layer, where that is known before images are read.
    """

    def __init__(
        self,
        request: FeatureRequest,
        engine: str,
        start: tuple[str, ...],
        net: SharedNet | None = None,
        quantised: QuantisedNet | None = None,
    ) -> None:
        self.name = choose("openvino" if quantised else engine, request.precision)
        self.note = ""
        self._must = engine == "openvino"
        self._request = request
        self._net = net or SharedNet(request)
        # A net is converted as it is; OpenVINO then computes it in the precision that is wanted.
        self._exact = request if request.precision == "float32" else replace(request, precision="float32")
        self._start = start
        self._process: ConversionProcess | None = None
        self._quantised = quantised
        if quantised is not None:  # then no other net is needed
            return
        self._is_known = self.name == "openvino" and is_known(request.net)
        if self.name == "openvino" and not self._is_known and keras_backend() != "tensorflow":
            self._leave_to_keras(f"it is converted by way of TensorFlow, and the Keras backend is {keras_backend()}")
        size = request.specs[0].size
        kinds = [(*size, channels) for channels in (1, 3)] if not start else []
        if self.name == "openvino" and any(openvino_store.is_kept(self._what(kind)) for kind in kinds):
            return
        if self._is_known:
            self._process = ConversionProcess(NetPart.of(request, start))  # it builds the net while images are decoded
        else:
            self._net.keras_at("float32")  # now, so that what the net does not have is known before images are read

    def make(self, inputs: np.ndarray, batch_size: int, room: int | None = None) -> Engine:
        """An engine for inputs like these, and batches of `batch_size`, or of fewer if they would take too much memory.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            The first that it will be given.
        room : int, optional
            Bytes of memory at hand; by default as many as it takes.

        Raises
        ------
        InvalidChoice
            When the net cannot be run by OpenVINO, which was asked for; or when a lower precision than float32 makes
            other features of it.
        """
        if self._quantised is not None:  # it was compared with float32 when it was made
            return QuantisedEngine(self._quantised, batch_size, room)
        engine = self._make(self._request, inputs.shape[1:], batch_size, room)
        if self._request.precision != "float32":
            few = inputs[: min(2, engine.batch_size)]
            exact = self._make(self._exact, few.shape[1:], len(few), None)
            require_like_float32(engine, exact, few, self._request)
        return engine

    def _make(self, request: FeatureRequest, kind: tuple[int, ...], batch_size: int, room: int | None) -> Engine:
        if self.name == "openvino" and (file := self.converted(kind)):
            return OpenVinoEngine(file, batch_size, request.precision, room)
        model = self._model(request, kind)
        from transfer.engines.keras_engine import KerasEngine  # after the model, which loads Keras quietly

        return KerasEngine(model, batch_size, room)

    def converted(self, kind: tuple[int, ...]) -> Any:
        """The file of the net converted for OpenVINO, in float32, or None where that cannot run it and Keras may.

        Parameters
        ----------
        kind : (height, width, channels)
            The shape of its inputs, or that of the layer that it starts at.
        """
        try:
            return openvino_store.converted(self._what(kind), lambda file: self._convert(kind, file))
        except CannotConvert as error:
            self._leave_to_keras(str(error), error)
            return None

    def _leave_to_keras(self, reason: str, error: Exception | None = None) -> None:
        """Have Keras run the net, if it may."""
        name = self._request.net.name
        if self._must:
            other = "another `precision`" if self._request.precision == "int8" else "`engine='keras'`"
            raise InvalidChoice(f"OpenVINO cannot run {name}: {reason}; use {other}.") from error
        self.name, self.note = "keras", f"OpenVINO cannot run {name} ({reason}); Keras runs it"

    def _convert(self, kind: tuple[int, ...], file: Path) -> None:
        """Write the net converted for OpenVINO."""
        if self._is_known:
            process, self._process = self._process or ConversionProcess(NetPart.of(self._request, self._start)), None
            try:
                process.convert(kind[-1], file)
                return
            except ConversionFailed:
                if keras_backend() != "tensorflow":
                    raise
        convert(self._model(self._exact, kind), file)

    def _what(self, kind: tuple[int, ...]) -> dict[str, Any]:
        """Everything that shapes what the converted net computes of such inputs."""
        specs = self._request.specs
        return {name: getattr(specs[0], name) for name in ("net", "weights", "size", "preprocessing")} | {
            "readouts": [[spec.layer, spec.pooling_rule] for spec in specs],
            "input": kind,
            "start": self._start,
            "conversion": CONVERSION,
        }

    def _model(self, request: FeatureRequest, kind: tuple[int, ...]) -> Any:
        """The cut net, built by Keras."""
        return NetPart.of(request, self._start).from_backbone(self._net.keras_at(request.precision), kind[-1])
