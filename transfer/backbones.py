"""Building a net, flattening its graph, and cutting it at the layers that are asked for.

This module imports Keras; `transfer.nets` knows the nets without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from feature_cache.errors import BadData, InvalidChoice, unknown
from transfer.loading import build, customary_settings, first_line
from transfer.nets import Net
from transfer.normalise import Normalise


class Backbone:
    """A net that has been built, as a flat graph of named tensors.

    Parameters
    ----------
    net : Net
    size : (height, width), optional
        By default the net's own.
    top : bool
        With the classifier (fully connected layers) of a ``keras.applications`` net.

    Attributes
    ----------
    model : keras.Model
        Preprocessed pixels in.
    taps : dict of str to KerasTensor
        The output of every layer, in the order of computation; ``outer/inner`` for a layer inside a
        nested model.

    Raises
    ------
    LayertapError
        When the weights cannot be had, the file is not safe, or the size does not suit the net.
    """

    @customary_settings()
    def __init__(self, net: Net, size: tuple[int, int] | None = None, *, top: bool = False) -> None:
        self.net = net
        self.size = size or net.default_size()
        net.check_size(self.size)
        self.model = build(net, self.size, top=top)
        if len(self.model.inputs) != 1 or len(self.model.inputs[0].shape) != 4:
            raise BadData(f"the net {net.name} does not take one batch of images; Layertap needs one that does.")
        self.channels = int(self.model.inputs[0].shape[-1] or 3)
        self.input = keras.Input((*self.size, self.channels), name="preprocessed")
        self.taps: dict[str, Any] = {}
        try:
            _trace(self.model, self.input, "", self.taps)
        except ValueError as error:  # dense layers after a Flatten, say, take one size only
            raise InvalidChoice(
                f"{net.name} does not take images of {self.size[0]} x {self.size[1]} pixels; leave out --size, "
                f"or choose another ({first_line(error)})."
            ) from error

    @property
    def readout(self) -> str:
        """The customary layer to read: the last before the classifier, or the file's last but one."""
        if self.net.info is not None:
            return self.net.info.readout
        spatial = [name for name, tensor in self.taps.items() if len(tensor.shape) == 4]
        return spatial[-1] if spatial else list(self.taps)[-1]

    def find(self, layer: str) -> str:
        """The name of `layer`, which may be an index into `taps`.

        Raises
        ------
        InvalidChoice
            When there is no such layer, with the nearest names.
        """
        names = list(self.taps)
        if layer in self.taps:
            return layer
        try:
            return names[int(layer)]
        except ValueError:
            pass
        except IndexError:
            raise InvalidChoice(f"{self.net.name} has {len(names)} layers; received index {layer}.") from None
        raise unknown(
            f"{self.net.name} has no layer", layer, names, f"List them with: layertap layers {self.net.name}."
        )

    @customary_settings()
    def cut(self, readouts: Sequence[tuple[str, str]], preprocessing: str, channels: int) -> keras.Model:
        """The net from uint8 pixels to the pooled outputs of some layers, and nothing beyond them.

        Parameters
        ----------
        readouts : sequence of (layer, pooling)
        preprocessing : str
            See `FeatureSpec.preprocessing`.
        channels : {1, 3}
            Of the images that will come; gray is replicated, colour reduced, as the net needs.

        Returns
        -------
        keras.Model
            uint8 of shape (n, height, width, channels) in, a list of float32 tensors out, in
            inference mode.
        """
        if self.channels not in (1, 3):
            raise BadData(
                f"the net {self.net.name} takes {self.channels} channels in its last axis; Layertap gives it 1 or 3, "
                "with the channels last."
            )
        if self.channels != 3 and preprocessing in ("torch", "caffe"):
            raise InvalidChoice(f"--preprocessing {preprocessing} is for colour; {self.net.name} takes one channel.")
        pixels = keras.Input((*self.size, channels), dtype="uint8", name="pixels")
        preprocessed = Normalise(preprocessing, self.channels, name="normalise")(pixels)
        return keras.Model(pixels, self._between(self.input, preprocessed, readouts))

    @customary_settings()
    def cut_from(self, layer: str, readouts: Sequence[tuple[str, str]]) -> keras.Model:
        """The net from the output of `layer`, float32, to the pooled outputs of layers after it.

        Raises
        ------
        InvalidChoice
            When they depend on more than that output.
        """
        if not self.leads(layer, [name for name, _ in readouts]):
            raise InvalidChoice(f"{self.net.name} cannot be computed from {layer!r} alone.")
        output = self.taps[layer]
        stored = keras.Input(output.shape[1:], dtype="float32", name="stored")
        return keras.Model(stored, self._between(output, stored, readouts))

    def leads(self, layer: str, readouts: Sequence[str]) -> bool:
        """Whether all paths from the pixels to these layers go through the output of `layer`."""
        if layer not in self.taps or any(name not in self.taps for name in readouts):
            return False
        through, before = self.taps[layer], self.input
        reached: set[int] = {id(through)}
        open_ = [self.taps[name] for name in readouts]
        while open_:
            tensor = open_.pop()
            if id(tensor) in reached:
                continue
            if tensor is before:
                return False
            reached.add(id(tensor))
            history = tensor._keras_history
            open_ += history.operation._inbound_nodes[history.node_index].input_tensors
        return True

    def _between(self, start: Any, inputs: Any, readouts: Sequence[tuple[str, str]]) -> list[Any]:
        """The pooled outputs of layers, computed from `inputs` in place of the tensor `start`."""
        after = [self.taps[layer] for layer, _ in readouts if self.taps[layer] is not start]
        tensors = iter(keras.tree.flatten(keras.Model(start, after)(inputs, training=False)) if after else ())
        return [_pool(inputs if self.taps[layer] is start else next(tensors), pooling) for layer, pooling in readouts]


def backbone_for(net: Net, layers: Sequence[str], size: tuple[int, int] | None = None) -> Backbone:
    """The net with all `layers` in it: without its classifier unless one of them belongs to that.

    Raises
    ------
    InvalidChoice
        When a layer is in neither.
    """
    named = [layer for layer in layers if not _is_index(layer)]
    top = False
    if net.info is not None and net.info.builder and any(layer != net.info.readout for layer in named):
        outline = replace(net, weights="none")  # names are looked up before weights are fetched
        backbone = Backbone(outline, size)
        top = not all(layer in backbone.taps for layer in named)
        if top:
            backbone = Backbone(outline, size, top=True)
            for layer in named:
                backbone.find(layer)
        if net.has_random_weights:
            return backbone
    backbone = Backbone(net, size, top=top)
    for layer in layers:
        backbone.find(layer)
    return backbone


def _trace(model: Any, inputs: Any, prefix: str, taps: dict[str, Any]) -> Any:
    """Run the graph of `model` symbolically on `inputs`, nested models inlined, and note every output.

    A layer that is used several times is ``name``, ``name:2`` and so on.
    """

    def step(operation: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if _has_graph(operation) and len(args) == 1 and not isinstance(args[0], (list, tuple, dict)):
                output = _trace(operation, args[0], f"{prefix}{operation.name}/", taps)
            else:
                output = operation(*args, **kwargs)
            if not isinstance(output, (list, tuple, dict)):
                name, uses = f"{prefix}{operation.name}", 1
                while name in taps:
                    uses += 1
                    name = f"{prefix}{operation.name}:{uses}"
                taps[name] = output
            return output

        return call

    graph = model._functional if isinstance(model, keras.Sequential) else model
    return graph._run_through_graph(
        inputs, operation_fn=step, call_fn=lambda call, *args, **kwargs: call(*args, **kwargs)
    )


def _has_graph(operation: Any) -> bool:
    if isinstance(operation, keras.Sequential):
        return getattr(operation, "_functional", None) is not None
    return isinstance(operation, keras.Model) and hasattr(operation, "_run_through_graph")


def _pool(tensor: Any, pooling: str) -> Any:
    if pooling == "flatten":
        return keras.layers.Flatten()(tensor)
    if pooling == "none" or len(tensor.shape) == 2:
        return keras.layers.Identity()(tensor)
    axes = list(range(1, len(tensor.shape) - 1))
    return (keras.ops.mean if pooling == "avg" else keras.ops.max)(tensor, axis=axes)


def _is_index(layer: str) -> bool:
    return layer.removeprefix("-").isdigit()
