"""`OpenVinoNet`: the net of a file that OpenVINO reads, as named tensors that can be read. Keras is not imported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import BadData, InvalidChoice, unknown
from transfer.nets.openvino_files import operations
from transfer.nets.openvino_files.axes import lengths, require_whole_reshapes
from transfer.nets.openvino_files.checks import state_of
from transfer.nets.openvino_files.image_input import ImageInput, image_input
from transfer.nets.openvino_files.reading import ends_of, outputs_of, read, read_with_outputs, reason_of
from transfer.nets.openvino_files.tensors import (
    NOT_OF_IMAGES,
    GraphTensor,
    max_bytes,
    readable_tensors,
    weight_names,
    weighted_maps,
)
from transfer.nets.pooling import CLASS_POOLINGS, count_prefix, expected_prefix, pooled_shape, split_rule

if TYPE_CHECKING:
    from transfer.nets.catalogue import Net

# Images in the shapes that are inferred: a prime number, which is the length of no other axis.
TRIAL = 1009
PROBABILITIES = ("Softmax", "LogSoftmax", "Sigmoid")  # operations that end a net
FOR_COLOUR = ("torch", "caffe")


class OpenVinoNet:
    """A net of a file for OpenVINO, for images of one size; the counterpart of `Backbone` for nets that Keras builds.

    Parameters
    ----------
    net : Net
        One of a file (see `Net.is_openvino_file`).
    size : (height, width), optional
        By default the one that the file fixes.

    Attributes
    ----------
    channels : int
        Of the images that the net takes: 1 or 3.
    batch : int or None
        The number of images that the whole net computes together; None for any.
    taps : dict of str to GraphTensor
        The named tensors that can be read, in the order of computation.

    Raises
    ------
    LayertapError
        When the file cannot be read, takes no images, or does not take this size.
    """

    def __init__(self, net: Net, size: tuple[int, int] | None = None) -> None:
        self.net = net
        self.size = self.proportions = size or net.default_size()
        net.check_size(self.size)
        self._file = Path(net.name)
        self._input = image_input(read(self._file), self._file)
        self.batch: int | None
        self.taps: dict[str, GraphTensor]
        self._axis, self.channels, self.batch, (self.taps, self._reasons) = self._shaped()
        if not self.taps:
            why = next((f": {name} {reason}" for name, reason in self._reasons.items()), "")
            raise BadData(f"the net {self._file} has no tensor that is computed from images alone{why}.")

    @cached_property
    def readout(self) -> str:
        """The layer to read by default: the last that has several positions with channels, and weights before it.

        Where that holds probabilities, as of nets that read text or find objects, it is the last map before them. Where
        there is none, it is the last layer but one.
        """
        maps = list(weighted_maps(self.taps))
        if maps and self.taps[maps[-1]].kind in PROBABILITIES:
            before = [name for name in maps if len(self.taps[name].shape) == 4]
            maps = [name for name in before if self.taps[name].kind not in PROBABILITIES] or maps
        return maps[-1] if maps else list(self.taps)[-2:][0]

    def prefix_tokens(self, layer: str) -> int | None:
        """How many tokens of a layer's output stand before those of the patches; None where it is no row of tokens."""
        shape = self.taps[layer].shape[1:]
        if len(shape) != 2 or shape[0] is None:
            return None
        return count_prefix(shape[0], self.size, self._expected_prefix)

    @cached_property
    def _expected_prefix(self) -> int:
        return expected_prefix(weight_names(read(self._file)))

    def find(self, layer: str) -> str:
        """The name of `layer`, which may be an index into `taps`.

        Raises
        ------
        InvalidChoice
            When there is no such tensor, with the nearest names, or when it cannot be read, with the reason.
        """
        names = list(self.taps)
        if layer in self.taps:
            return layer
        if layer in self._reasons:
            raise InvalidChoice(f"the tensor {layer!r} of {self.net.name} cannot be read: it {self._reasons[layer]}.")
        if layer.removeprefix("-").isdigit():
            if -len(names) <= int(layer) < len(names):
                return names[int(layer)]
            raise InvalidChoice(f"{self.net.name} has {len(names)} layers; received index {layer}.")
        raise unknown(
            f"{self.net.name} has no layer", layer, names, f"List them with: layertap layers {self.net.name}."
        )

    def cut(self, readouts: Sequence[tuple[str, str]], preprocessing: str, channels: int) -> Any:
        """The net from uint8 pixels to the pooled outputs of some layers, and nothing beyond them.

        Parameters
        ----------
        readouts : sequence of (layer, pooling)
            The pooling as in `FeatureSpec.pooling_rule`.
        preprocessing : str
            See `FeatureSpec.preprocessing`.
        channels : {1, 3}
            Of the images that will come; gray is replicated, colour reduced, as the net needs.

        Returns
        -------
        openvino.Model
            uint8 of shape (n, height, width, channels) in, float32 tensors ``readout0``, ``readout1`` … out.
        """
        if self.channels != 3 and preprocessing in FOR_COLOUR:
            raise InvalidChoice(f"`preprocessing='{preprocessing}'` is for colour; {self.net.name} takes one channel.")
        layers = list(dict.fromkeys(self.find(layer) for layer, _ in readouts))
        batch = self.batch_for(layers) or -1
        graph = self._part(layers)
        self._reshape(graph, self._axis, self.channels, batch)
        outputs, old = outputs_of(graph, self._file), graph.inputs[0].get_node()
        pixels = operations.pixels((batch, *self.size, channels))
        prepared = operations.preprocessed(pixels, preprocessing, self.channels, old.get_element_type())
        old.output(0).replace(operations.moved(prepared, [0, 3, 1, 2] if self._axis == 1 else None))
        results = [
            self._readout(outputs[self.find(layer)], self.find(layer), rule, number)
            for number, (layer, rule) in enumerate(readouts)
        ]
        return operations.model(results, pixels)

    def batch_for(self, layers: Sequence[str]) -> int | None:
        """The number of images that are computed together where these layers are read; None for any number.

        A file that was exported for one image often fixes that near its end alone.
        """
        if self.batch is None:
            return None
        part = self._part([self.find(layer) for layer in layers])
        try:
            self._reshape(part, self._axis, self.channels, TRIAL)
        except Exception:  # OpenVINO raises many types
            return self.batch
        free = all(lengths(result.get_input_partial_shape(0))[:1] == [TRIAL] for result in part.get_results())
        return None if free else self.batch

    def _part(self, layers: Sequence[str]) -> Any:
        """The graph from the image to some layers, as one of its own."""
        graph = read_with_outputs(self._file, layers)
        outputs = outputs_of(graph, self._file)
        results = [operations.end(outputs[layer], layer) for layer in layers]
        return operations.model(results, _node(graph, self._input))

    def largest_bytes(self, layers: Sequence[str]) -> int:
        """Bytes at float32 of the largest tensor that some layers are computed from, or are, for one image."""
        return max_bytes(self.taps, [self.taps[self.find(layer)] for layer in layers])

    def _readout(self, output: Any, layer: str, rule: str, number: int) -> Any:
        tap = self.taps[layer]
        pooling, prefix = split_rule(rule)
        if prefix is None and pooling not in CLASS_POOLINGS:
            return operations.result(operations.pooled(output, tap.axis, pooling), number)
        shape = pooled_shape([side or 0 for side in tap.shape[1:]], rule, self.size, layer)
        return operations.result(operations.pooled_tokens(output, tap.axis, pooling, prefix or 0, shape), number)

    def _shaped(self) -> tuple[int, int, int | None, tuple[dict[str, GraphTensor], dict[str, str]]]:
        """The axis and number of channels, the fixed number of images, and the tensors for images of this size."""
        reason = ""
        for axis, channels in self._input.layouts:
            for batch in (None, self._input.batch):
                graph = read(self._file).clone()
                try:
                    self._reshape(graph, axis, channels, batch or TRIAL, self._input.number)
                except Exception as error:  # OpenVINO raises many types
                    reason = reason or reason_of(error)
                    continue
                outputs, image = outputs_of(graph, self._file), _node(graph, self._input)
                tensors, reasons = readable_tensors(graph, outputs, image, axis, batch or TRIAL)
                # What a net gives must have an axis for any number of images, or it gets as many as it says.
                if batch or not any(reasons.get(end, "").startswith(NOT_OF_IMAGES) for end in ends_of(self._file)):
                    return axis, channels, batch, (tensors, reasons)
        raise InvalidChoice(
            f"{self.net.name} does not take images of {self.size[0]} x {self.size[1]} pixels; leave out `size`, or "
            f"choose another ({reason})."
        )

    def _reshape(self, graph: Any, axis: int, channels: int, batch: int, number: int = 0) -> None:
        """Infer all shapes for so many images, -1 for any number, in the input of this number.

        Not by `openvino.Model.reshape`, which also joins operations: their tensors would be gone.
        """
        sides = [channels, *self.size] if axis == 1 else [*self.size, channels]
        operations.set_shape(graph.inputs[number].get_node(), [batch, *sides])
        graph.validate_nodes_and_infer_types()
        require_whole_reshapes(graph)


def open_net(net: Net, size: tuple[int, int] | None = None) -> OpenVinoNet:
    """The same `OpenVinoNet` for the same file and size: it is not changed by those who read it."""
    return _opened(net, size, state_of(Path(net.name)))


@lru_cache(maxsize=4)
def _opened(net: Net, size: tuple[int, int] | None, state: Any) -> OpenVinoNet:
    return OpenVinoNet(net, size)


def _node(graph: Any, image: ImageInput) -> Any:
    return graph.inputs[image.number].get_node()
