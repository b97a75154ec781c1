"""Running a net: an engine for each kind of input, several batches at a time, smaller ones where memory is short."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import PIL

from feature_cache.errors import BadData, InvalidChoice, one_line
from feature_cache.version import own_version
from transfer.engines.base import Engine, Pending, out_of_memory
from transfer.engines.batch import BATCH_IMAGES, Batch, default_batch_size
from transfer.engines.factory import EngineFactory
from transfer.engines.openvino_files import OpenVinoFileFactory
from transfer.hardware import available_memory
from transfer.quantisation.engine import QuantisedNet
from transfer.request import FeatureRequest, SharedNet


class BatchRunner:
    """The engine for gray and the one for colour images, each made when its first batch comes.

    Parameters
    ----------
    batch_size : int, optional
        By default chosen for the engine and the input size, and less where the net's activations would not fit into
        the memory at hand; halved where memory does not suffice after all.
    most : int, optional
        Inputs that there are in all.
    engine : {'auto', 'keras', 'openvino'}
        See `transfer.engines.selection.choose`.
    start : tuple of str
        The layers whose outputs the inputs are (see `Backbone.cut_from`); by default they are pixels.
    net : SharedNet, optional
        The net of the request, if it is used elsewhere too; by default one is built where it is needed.
    quantised : QuantisedNet, optional
        The net that computes a request in int8.

    Attributes
    ----------
    name : str
        The engine in use: ``keras`` or ``openvino``.
    batch_size : int
    provenance : dict
        To be kept with the features; up to date once a batch has been run.
    note : str
        Why another engine is in use than the one that was chosen.
    making : float
        Seconds that it took to make the engines.
    """

    def __init__(
        self,
        request: FeatureRequest,
        batch_size: int | None = None,
        *,
        most: int = BATCH_IMAGES,
        engine: str = "auto",
        start: tuple[str, ...] = (),
        net: SharedNet | None = None,
        quantised: QuantisedNet | None = None,
    ) -> None:
        self._maker: EngineFactory | OpenVinoFileFactory
        if request.net.is_openvino_file and quantised is None:
            files = self._maker = OpenVinoFileFactory(request, engine, net)
            most = min(most, files.batch or most)  # several such batches are computed at a time
        else:
            self._maker = EngineFactory(request, engine, start, net, quantised)
        self._request = request
        self._room = available_memory() if batch_size is None else None
        self.batch_size = max(1, min(batch_size or default_batch_size(self.name, request.specs[0].size), most))
        self.making = 0.0
        self._engines: dict[tuple[int, ...], Engine] = {}
        self._sample: np.ndarray | None = None
        self.provenance: dict[str, Any] = {
            "layertap": own_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "net": request.net.as_config(),
        }

    @property
    def name(self) -> str:
        return self._maker.name

    @property
    def note(self) -> str:
        return self._maker.note

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[np.ndarray]]]:
        """Each batch with its features, one array for each spec of the request, in order.

        A batch is released, and its inputs may be overwritten, when the next is asked for.
        """
        pending: deque[tuple[Batch, Pending]] = deque()
        try:
            for batch in batches:
                pending.append((batch, self._started(batch.inputs)))
                while len(pending) > self._ahead(batch.inputs):
                    yield from self._finish(*pending.popleft())
            while pending:
                yield from self._finish(*pending.popleft())
        finally:
            for _, wait in pending:  # where the caller has had enough, or something failed
                with contextlib.suppress(Exception):
                    wait()

    def peak(self, seconds: float) -> float:
        """Inputs a second that the engine alone reaches, measured for about so long with the first batch that came.

        0 where none came: no image could be decoded, or other processes had computed all.
        """
        if self._sample is None:
            return 0.0
        engine, done, pending = self._engine(self._sample), 0, deque[Pending]()
        sample = self._sample[: engine.batch_size]  # the first batch came before the engine
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            pending.append(engine.start(sample))
            if len(pending) > engine.ahead:
                done += len(pending.popleft()()[0])
        return (done + sum(len(wait()[0]) for wait in pending)) / (time.perf_counter() - start)

    def _started(self, inputs: np.ndarray) -> Pending:
        """Begin with a batch; an error of that is raised when it is waited for."""
        size = self.batch_size
        try:
            wait = self._start(inputs)
        except Exception as error:
            if not out_of_memory(error):
                raise
            failed = error
            return lambda: self._with_less(inputs, size, failed)

        def features() -> list[np.ndarray]:
            try:
                return wait()
            except Exception as error:
                if not out_of_memory(error):
                    raise
                return self._with_less(inputs, size, error)

        return features

    def _start(self, inputs: np.ndarray) -> Pending:
        """Begin with a batch, which may be larger than the engine takes."""
        engine = self._engine(inputs)
        if len(inputs) <= engine.batch_size:
            return engine.start(inputs)
        starts = range(0, len(inputs), engine.batch_size)

        def wait() -> list[np.ndarray]:  # one after another: an engine is not given more than it has asked for
            pieces = [engine.start(inputs[start : start + engine.batch_size])() for start in starts]
            return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

        return wait

    def _with_less(self, inputs: np.ndarray, size: int, error: Exception) -> list[np.ndarray]:
        """Features of a batch that was too large for the memory with batches of `size`, by smaller ones."""
        while True:
            if size == self.batch_size:  # otherwise another batch has made it smaller since
                if size == 1 and not self._request.net.is_file:
                    raise error
                if size == 1:  # a user's net may describe numbers of any size
                    raise InvalidChoice(
                        f"not even one image of {self._request.net.name} can be computed in the memory that is free; "
                        "choose a smaller `size`, or another net."
                    ) from error
                self.batch_size //= 2
                self._engines.clear()
            size = self.batch_size
            try:
                return self._start(inputs)()
            except Exception as again:
                if not out_of_memory(again):
                    raise
                error = again

    def _finish(self, batch: Batch, wait: Pending) -> Iterator[tuple[Batch, list[np.ndarray]]]:
        try:
            features = wait()
        except Exception as error:
            if self._request.net.has_own_weights and not out_of_memory(error):  # a user's net may not compile
                who = "OpenVINO" if self.name == "openvino" else "Keras"
                raise BadData(f"{who} cannot run the net {self._request.net.name}: {_reason(error)}") from error
            raise
        if self._request.precision == "float16" and not all(np.isfinite(rows).all() for rows in features):
            raise InvalidChoice(
                f"features of {self._request.net.name} are beyond the range of float16; use `precision='bfloat16'`."
            )
        if self._sample is None:
            self._sample = batch.inputs.copy()
        yield batch, features
        batch.release()

    def _ahead(self, inputs: np.ndarray) -> int:
        """Batches to start before the first is waited for: none where memory did not suffice for an engine."""
        engine = self._engines.get(inputs.shape[1:])
        return engine.ahead if engine else 0

    def _engine(self, inputs: np.ndarray) -> Engine:
        kind = inputs.shape[1:]
        if kind not in self._engines:
            start = time.perf_counter()
            engine = self._engines[kind] = self._maker.make(inputs, self.batch_size, self._room)
            self.batch_size = min(self.batch_size, engine.batch_size)
            self.provenance |= {**engine.describe(), "batch_size": engine.batch_size}
            self.making += time.perf_counter() - start
        return self._engines[kind]


def _reason(error: BaseException) -> str:
    """What the first cause of `error` says, in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return one_line(error)
