"""Building a net, flattening its graph, and cutting it at the layers that are asked for.

This module imports Keras; `transfer.nets.catalogue` knows the nets without it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from feature_cache.errors import BadData, InvalidChoice, first_line, unknown
from transfer.nets.catalogue import Net, sides_text
from transfer.nets.inner_layers import Tracer, closed_in, correct_shapes, has_row_for_each, looks_inside, shapes_inside
from transfer.nets.keras_graph import all_layers, inputs_of, operation_of, renamed
from transfer.nets.keras_settings import customary_settings
from transfer.nets.loading import build
from transfer.nets.pooling import count_prefix, expected_prefix, pooled
from transfer.nets.preprocessing import Normalise


class Backbone:
    """A net that has been built, as a flat graph of named tensors.

    Parameters
    ----------
    net : Net
    size : (height, width), optional
        By default the net's own.
    top : bool
        With the classifier (fully connected layers), of a named net that has one.
    precision : {'float32', 'bfloat16', 'float16'}
        That layers compute in; below float32 by Keras's mixed precision, with float32 weights.

    Attributes
    ----------
    model : keras.Model
        Preprocessed pixels in.
    taps : dict of str to KerasTensor
        The output of every layer, in the order of computation; ``outer/inner`` for a layer inside a
        nested model. Those inside layers that are no models are there after `look_inside`.
    layers : dict of str to Layer or Operation
        What each of them is the output of.
    is_open : bool
        Whether the layers inside layers are among them.
    output : KerasTensor or structure of them
        What the whole net gives.
    proportions : (height, width)
        The size in units of which patches are squares: pixels, but for a net whose patches are none.
    outer : list of str
        The layers that are in the graph of the net and of models in it. An index is a place in this list.

    Raises
    ------
    LayertapError
        When the weights cannot be had, the file is not safe, or the size does not suit the net.
    """

    @customary_settings()
    def __init__(
        self, net: Net, size: tuple[int, int] | None = None, *, top: bool = False, precision: str = "float32"
    ) -> None:
        self.net = net
        self.top = top
        self.size = size or net.default_size()
        net.check_size(self.size)
        self.model = build(net, self.size, top=top)
        if precision != "float32":
            for layer in all_layers(self.model):
                layer.dtype_policy = f"mixed_{precision}"
        if len(self.model.inputs) != 1 or len(self.model.inputs[0].shape) != 4:
            inputs = self.model.inputs
            shape = sides_text(inputs[0].shape[1:])
            reason = f"it has {len(inputs)} inputs" if len(inputs) > 1 else f"its input is {shape}"
            raise BadData(
                f"the net {net.name} does not take one batch of images: {reason}. Save the part that does as a net of "
                "its own."
            )
        self.channels = int(self.model.inputs[0].shape[-1] or 3)
        self.input = keras.Input((*self.size, self.channels), name="preprocessed")
        self._expected_prefix: int | None = None
        self.proportions = _proportions(self.model, self.size)
        self.is_open = False
        self._without_rows: set[str] = set()
        try:
            self._shapes: dict[str, tuple[int | None, ...]] = {}
            tracer = self._trace()
            if any(looks_inside(layer) for layer in tracer.layers.values()):
                self._shapes = shapes_inside(self.model, (*self.size, self.channels))
        except ValueError as error:  # dense layers after a Flatten, say, take one size only
            own = self.size == net.default_size()
            advice = "choose another `size`" if own else "leave out `size`, or choose another"
            raise InvalidChoice(
                f"{net.name} does not take images of {self.size[0]} x {self.size[1]} pixels; {advice} "
                f"({first_line(error)})."
            ) from error

        self.taps, self.layers = tracer.taps, tracer.layers
        self.outer = list(self.taps)
        correct_shapes(self.taps, self._shapes)

    def _trace(self, given: dict[str, Any] | None = None) -> Tracer:
        """The outputs of all layers, of which those of `given` are replaced."""
        tracer = Tracer(given, inside=self.is_open, shapes=self._shapes)
        output = tracer.run(self.model, self.input)
        if not given:
            self.output = output
        # Layers inside layers, and those of nested models that have the name of another: both need a name of their own.
        uses = Counter(layer.name for layer in {id(layer): layer for layer in tracer.layers.values()}.values())
        nested = {name: layer for name, layer in tracer.layers.items() if "/" in name and uses[layer.name] > 1}
        self._inner = {id(layer): (layer, name) for name, layer in reversed({**nested, **tracer.inner}.items())}
        return tracer

    @customary_settings()
    def look_inside(self) -> None:
        """Reach the layers inside layers, too, such as the blocks of a transformer and their parts."""
        if self.is_open:
            return
        self.is_open = True
        tracer, shapes = self._trace(), self._shapes
        inner = set(tracer.taps) - set(self.outer)
        self._without_rows = {name for name in inner if name in shapes and not has_row_for_each(shapes[name])}
        self.taps = {name: tensor for name, tensor in tracer.taps.items() if name not in self._without_rows}
        self.layers = tracer.layers

    @property
    def readout(self) -> str:
        """The customary layer to read: the last before the classifier.

        Of a file it is the last map, or row of tokens of a net with attention, that weights have a part in, or, where
        maps hold no more than the pixels, the last layer but one.
        """
        if self.net.info is not None:
            return self.net.info.readout
        names = self.outer
        if len(names) < 2:  # a model with code of its own, whose layers are inside it
            self.look_inside()
            names = [name for name in self.taps if name.count("/") == 1] or list(self.taps)
        maps, weighted = [], False
        attends = any("Attention" in type(layer).__name__ for layer in all_layers(self.model))
        for name in names:
            tensor = self.taps[name]
            weighted = weighted or bool(getattr(self.layers[name], "weights", ()))
            is_map = len(tensor.shape) == 4 or (attends and self.prefix_tokens(name) is not None)
            if is_map and (weighted or not self.model.weights):
                maps.append(name)
        return maps[-1] if maps else names[-2:][0]

    def prefix_tokens(self, layer: str) -> int | None:
        """How many tokens of a layer's output stand before those of the patches; None where it is no row of tokens."""
        shape = self.taps[layer].shape[1:]
        if len(shape) != 2 or shape[0] is None:
            return None
        if self._expected_prefix is None:
            weights = ((variable.name, tuple(variable.shape)) for variable in self.model.weights)
            self._expected_prefix = expected_prefix(weights)
        return count_prefix(shape[0], self.proportions, self._expected_prefix)

    def find(self, layer: str) -> str:
        """The name of `layer`, which may be an index into `taps`.

        Raises
        ------
        InvalidChoice
            When there is no such layer, with the nearest names.
        """
        if layer in self.taps:
            return layer
        try:
            return self.outer[int(layer)]
        except ValueError:
            pass
        except IndexError:
            raise InvalidChoice(f"{self.net.name} has {len(self.outer)} layers; received index {layer}.") from None
        self.look_inside()
        if layer in self.taps:
            return layer
        if layer in self._without_rows:
            raise InvalidChoice(
                f"the output of {layer} has no row for each image: its first axis is another one (windows of an image, "
                "say). Choose another layer."
            )
        names = list(self.taps)
        raise unknown(
            f"{self.net.name} has no layer", layer, names, f"List them with: layertap layers {self.net.name}."
        )

    @customary_settings()
    def cut(self, readouts: Sequence[tuple[str, str]], preprocessing: str, channels: int) -> keras.Model:
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
            raise InvalidChoice(f"`preprocessing='{preprocessing}'` is for colour; {self.net.name} takes one channel.")
        pixels = keras.Input((*self.size, channels), dtype="uint8", name="pixels")
        preprocessed = Normalise(preprocessing, self.channels, name="normalise")(pixels)
        return keras.Model(pixels, self._between([self.input], [preprocessed], readouts))

    @customary_settings()
    def cut_from(self, layers: Sequence[str], readouts: Sequence[tuple[str, str]]) -> keras.Model:
        """The net from the outputs of `layers` to the pooled outputs of layers after them.

        Returns
        -------
        keras.Model
            One float32 tensor in: of the shape of the layer's output, or, for several layers, their outputs flattened
            and joined, of shape (n, d). A list of float32 tensors out.

        Raises
        ------
        InvalidChoice
            When they depend on more than those outputs.
        """
        if self.frontier(layers, [name for name, _ in readouts]) != set(layers):
            raise InvalidChoice(f"{self.net.name} cannot be computed from {', '.join(layers)} alone.")
        outputs = [self.taps[layer] for layer in layers]
        shapes = [tuple(output.shape[1:]) for output in outputs]
        if len(layers) == 1:
            stored = keras.Input(shapes[0], dtype="float32", name="stored")
            return keras.Model(stored, self._between(outputs, [stored], readouts))
        ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
        stored = keras.Input((ends[-1],), dtype="float32", name="stored")
        pieces = [stored[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]
        inputs = [keras.ops.reshape(piece, (-1, *shape)) for piece, shape in zip(pieces, shapes, strict=True)]
        return keras.Model(stored, self._between(outputs, inputs, readouts))

    def frontier(self, layers: Sequence[str], readouts: Sequence[str]) -> set[str] | None:
        """Those of `layers` that each path from the readouts back to the pixels meets first.

        None where some path meets none of them: the readouts cannot be computed from these outputs.
        """
        if any(name not in self.taps for name in (*layers, *readouts)):
            return None
        names = {id(self.taps[layer]): layer for layer in layers}
        met: set[str] = set()
        reached: set[int] = set()
        open_ = [self.taps[name] for name in readouts]
        while open_:
            tensor = open_.pop()
            if id(tensor) in reached:
                continue
            reached.add(id(tensor))
            if tensor is self.input:
                return None
            if id(tensor) in names:
                met.add(names[id(tensor)])
                continue
            open_ += inputs_of(tensor)
        return met

    def _between(self, start: list[Any], inputs: list[Any], readouts: Sequence[tuple[str, str]]) -> list[Any]:
        """The pooled outputs of layers, computed from `inputs` in place of the tensors `start`."""
        given = {id(tensor): stored for tensor, stored in zip(start, inputs, strict=True)}
        after = [self.taps[layer] for layer, _ in readouts if id(self.taps[layer]) not in given]
        if any(self._is_used_again(tensor) for tensor in start):
            start, after = self._from_inputs(start, after)
        tensors = iter(keras.tree.flatten(self.graph(start, after)(inputs, training=False)) if after else ())
        outputs = [given.get(id(self.taps[layer])) for layer, _ in readouts]
        return [
            pooled(next(tensors) if output is None else output, rule, self.proportions, layer)
            for output, (layer, rule) in zip(outputs, readouts, strict=True)
        ]

    def _is_used_again(self, output: Any) -> bool:
        """Whether the layer that `output` comes from has other outputs, too."""
        layer = operation_of(output)
        return any(tap is not output and operation_of(tap) is layer for tap in self.taps.values())

    def _from_inputs(self, start: list[Any], after: list[Any]) -> tuple[list[Any], list[Any]]:
        """Inputs that stand for the tensors `start`, and what `after` are when they are computed from these.

        Keras does the same when a model begins at inner tensors, but not where their layers are used again later.
        """
        inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in start]
        stand_in = {id(tensor): given for tensor, given in zip(start, inputs, strict=True)}
        names = {id(tensor): name for name, tensor in self.taps.items()}
        given = {name: stand_in[id(tensor)] for name, tensor in self.taps.items() if id(tensor) in stand_in}
        taps = self._trace(given).taps
        return inputs, [taps[names[id(tensor)]] for tensor in after]

    def closed_in(self, layer: str) -> str | None:
        """The layer that a layer is inside, where its code cannot be taken apart; None elsewhere."""
        outer = closed_in(self.taps[layer])
        return None if outer is None else next(name for name, one in self.layers.items() if one is outer)

    def graph(self, start: Any, after: Any, **options: Any) -> keras.Model:
        """The model from some tensors of the net to others, in which no two layers have one name."""
        with renamed(self._unique_names()):
            return keras.Model(start, after, **options)

    def rename_inner(self) -> None:
        """Name layers inside others by their path from now on, so that models of them can be saved."""
        for layer, name in self._unique_names():
            layer.name = name

    def _unique_names(self) -> list[tuple[Any, str]]:
        return [(layer, name.replace("/", "_")) for layer, name in self._inner.values()]


def backbone_for(
    net: Net, layers: Sequence[str], size: tuple[int, int] | None = None, precision: str = "float32"
) -> Backbone:
    """The net with all `layers` in it: without its classifier unless one of them belongs to that.

    Raises
    ------
    InvalidChoice
        When a layer is in neither.
    """
    named = [layer for layer in layers if not _is_index(layer)]
    top = False
    if net.info is not None and net.info.has_classifier and any(layer != net.info.readout for layer in named):
        outline = net.without_weights()  # names are looked up before weights are fetched
        backbone = Backbone(outline, size, precision=precision)
        top = not all(layer in backbone.taps for layer in named)
        if top:
            backbone = Backbone(outline, size, top=True, precision=precision)
            for layer in named:
                backbone.find(layer)
        if net.has_random_weights:
            return backbone
    backbone = Backbone(net, size, top=top, precision=precision)
    for layer in layers:
        backbone.find(layer)
    return backbone


def _proportions(model: keras.Model, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches of a net that cuts images into patches that are no squares; else the size."""
    first = next((layer for layer in all_layers(model) if isinstance(layer, keras.layers.Conv2D)), None)
    if first is None or first.kernel_size != first.strides or first.kernel_size[0] == first.kernel_size[1]:
        return size
    return size[0] // first.kernel_size[0], size[1] // first.kernel_size[1]


def _is_index(layer: str) -> bool:
    return layer.removeprefix("-").isdigit()
