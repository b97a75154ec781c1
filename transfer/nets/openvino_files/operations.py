"""Operations of OpenVINO that are put before and after a net: from uint8 pixels, and to pooled features.

They compute what `transfer.nets.preprocessing` and `transfer.nets.backbone` compute with Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from transfer.nets.openvino_files.tensors import channels_last

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in Pillow's mode "L"


def pixels(shape: Sequence[int]) -> Any:
    """An input of uint8 pixels, channels last."""
    from openvino import opset13  # slow to load

    return opset13.parameter(list(shape), np.uint8, name="pixels")


def preprocessed(image: Any, preprocessing: str, channels: int, dtype: Any) -> Any:
    """Pixels as a net takes them, of its type and number of channels; channels last.

    Parameters
    ----------
    image : openvino.Node
        From `pixels`.
    preprocessing : str
        See `FeatureSpec.preprocessing`.
    dtype : openvino.Type
        Of the input of the net.
    """
    from openvino import opset13  # slow to load

    given = list(image.output(0).get_partial_shape())[-1].get_length()
    x = opset13.convert(image, "f32")
    if given == 1 and channels == 3:
        x = opset13.concat([x, x, x], 3)
    elif given == 3 and channels == 1:
        x = opset13.reduce_sum(opset13.multiply(x, _of(_LUMINANCE)), np.array([3]), keep_dims=True)
    match preprocessing:
        case "unit":
            x = opset13.divide(x, _of(255.0))
        case "tf":
            x = opset13.subtract(opset13.divide(x, _of(127.5)), _of(1.0))
        case "torch":
            x = opset13.divide(opset13.subtract(opset13.divide(x, _of(255.0)), _of(_IMAGENET_MEAN)), _of(_IMAGENET_STD))
        case "caffe":
            blue_first = opset13.gather(x, np.array([2, 1, 0]), np.int64(3))
            x = opset13.subtract(blue_first, _of(_CAFFE_MEAN))
    return x if dtype.get_type_name() == "f32" else opset13.convert(x, dtype.get_type_name())


def moved(tensor: Any, order: Sequence[int] | None) -> Any:
    """A tensor with its axes in another order; as it is where `order` is None, or changes nothing."""
    from openvino import opset13  # slow to load

    if order is None or list(order) == sorted(order):
        return tensor if not hasattr(tensor, "output") else tensor.output(0)
    return opset13.transpose(tensor, np.array(order)).output(0)


def pooled(tensor: Any, axis: int | None, pooling: str) -> Any:
    """All of a tensor of a net, pooled, in float32.

    Parameters
    ----------
    tensor : openvino.Output
        Images in its first axis.
    axis : int or None
        That of the channels; the last where it is None.
    pooling : {'avg', 'max', 'flatten', 'none'}
    """
    from openvino import opset13  # slow to load

    x = _as_float32(tensor)
    rank = x.get_partial_shape().rank.get_length()
    last = channels_last(rank, axis)
    if rank == 1:
        return opset13.unsqueeze(x, np.array([1])).output(0)
    if pooling == "flatten":
        return opset13.reshape(moved(x, last), np.array([0, -1]), True).output(0)
    if pooling == "none" or rank == 2:
        return moved(x, last)
    reduce = opset13.reduce_mean if pooling == "avg" else opset13.reduce_max
    return reduce(x, np.array(last[1:-1]), False).output(0)


def pooled_tokens(tensor: Any, axis: int | None, pooling: str, prefix: int, shape: Sequence[int]) -> Any:
    """A row of tokens, pooled, in float32.

    Parameters
    ----------
    tensor : openvino.Output
        Of three axes, with images in the first.
    pooling : {'avg', 'max', 'none', 'cls', 'cls+avg'}
    prefix : int
        The number of tokens before those of the patches.
    shape : sequence of int
        The shape of the features of an image (see `transfer.nets.pooling.pooled_shape`).
    """
    from openvino import opset13  # slow to load

    x = moved(_as_float32(tensor), channels_last(3, axis))
    first = opset13.gather(x, np.int64(0), np.int64(1))
    if pooling == "cls":
        return first.output(0)
    whole, one = np.array([np.iinfo(np.int64).max]), np.array([1])
    patches = opset13.slice(x, np.array([prefix]), whole, one, one)
    if pooling == "none":
        return opset13.reshape(patches, np.array([0, *shape]), True).output(0)
    reduce = opset13.reduce_max if pooling == "max" else opset13.reduce_mean
    reduced = reduce(patches, one, False)
    return (opset13.concat([first, reduced], 1) if pooling == "cls+avg" else reduced).output(0)


def result(tensor: Any, number: int) -> Any:
    """A result called ``readout`` and `number`."""
    from openvino import opset13  # slow to load

    # A step of its own for each: two of them may be the same, and the names are of what is computed.
    own = opset13.reshape(tensor, opset13.shape_of(tensor), False)
    own.output(0).get_tensor().set_names({f"readout{number}"})
    return opset13.result(own)


def end(tensor: Any, name: str) -> Any:
    """A result that gives a tensor as it is."""
    from openvino import opset13  # slow to load

    return opset13.result(tensor, name=name)


def set_shape(parameter: Any, shape: Sequence[int]) -> None:
    """Change the shape of an input; -1 stands for any length."""
    from openvino import PartialShape  # slow to load

    parameter.set_partial_shape(PartialShape(list(shape)))


def model(results: Sequence[Any], image: Any) -> Any:
    """A model from pixels to results."""
    import openvino  # slow to load

    return openvino.Model(list(results), [image])


def _as_float32(tensor: Any) -> Any:
    from openvino import opset13  # slow to load

    return tensor if tensor.get_element_type().get_type_name() == "f32" else opset13.convert(tensor, "f32").output(0)


def _of(values: Any) -> Any:
    from openvino import opset13  # slow to load

    return opset13.constant(np.asarray(values, np.float32))
