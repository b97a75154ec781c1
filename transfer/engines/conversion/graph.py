"""From a net that Keras has built on its OpenVINO backend to a model of OpenVINO that runs fast.

Keras keeps the channels last and puts a transposition before and after each convolution and normalisation. OpenVINO
computes with the channels second: with those transpositions left in it takes two to four times as long. Keras is
imported by those who call this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def save_openvino(model: Any, file: Path) -> None:
    """Write a model of Keras with one input as a model of OpenVINO, for batches of any size.

    Parameters
    ----------
    model : keras.Model
        Built on Keras's OpenVINO backend.
    file : Path
        Of type ``.xml``; the weights go beside it. Outputs are called ``readout0``, ``readout1`` …

    Raises
    ------
    ValueError
        When the model computes batches of one size only.
    RuntimeError, Exception
        When Keras's OpenVINO backend does not know some operation: it raises many types.
    """
    import openvino  # slow to load
    from openvino.frontend import FrontEndManager
    from openvino.passes import ConstantFolding, Manager

    converted = _traced(model)
    _drop_needless_casts(converted)
    _normalise_in_place(converted)
    converted.validate_nodes_and_infer_types()
    folding = Manager()
    folding.register_pass(ConstantFolding())  # kernels in the order of OpenVINO, once and not at each start
    folding.run_passes(converted)
    FrontEndManager().load_by_framework("tf").normalize(converted)  # it moves transpositions until they cancel out
    _require_any_batch(converted)
    openvino.save_model(converted, str(file), compress_to_fp16=False)


def _traced(model: Any) -> Any:
    """The graph of `model`, for batches of any size."""
    import keras  # slow to load
    import openvino
    from keras.src.backend.openvino.core import OPENVINO_DTYPES, OpenVINOKerasTensor
    from openvino import opset13

    pixels = opset13.parameter([-1, *model.input.shape[1:]], OPENVINO_DTYPES[model.input.dtype])
    outputs = keras.tree.flatten(model(OpenVINOKerasTensor(pixels.output(0)), training=False))
    results = []
    for number, output in enumerate(outputs):
        # A step of its own for each output: two of them may be the same, and the names are of what is computed.
        own = opset13.reshape(output.output, opset13.shape_of(output.output), False)
        own.output(0).get_tensor().set_names({f"readout{number}"})
        results.append(opset13.result(own))
    return openvino.Model(results, [pixels])


def _drop_needless_casts(converted: Any) -> None:
    """Take out casts from a type to itself, one after nearly every layer."""
    for operation in converted.get_ordered_ops():
        if operation.get_type_name() == "Convert":
            source = operation.input_value(0)
            if source.get_element_type() == operation.get_output_element_type(0):
                operation.output(0).replace(source)


def _normalise_in_place(converted: Any) -> None:
    """Write batch normalisations over the last axis as a product and a sum.

    Keras swaps the last axis with the second for each, which moves height and width, and so cancels out with nothing.
    """
    from openvino import opset13  # slow to load

    for operation in converted.get_ordered_ops():
        if operation.get_type_name() != "BatchNormInference":
            continue
        before, users = operation.input_value(0).get_node(), operation.output(0).get_target_inputs()
        order, afters = _order(before), [user.get_node() for user in users]
        if order is None or order[1] != len(order) - 1 or any(_order(after) != order for after in afters):
            continue  # a swap of two axes undoes itself
        scale, offset, mean, variance = (operation.input_value(number) for number in range(1, 5))
        epsilon = opset13.constant(np.float32(operation.get_attributes()["epsilon"]))
        factor = opset13.divide(scale, opset13.sqrt(opset13.add(variance, epsilon)))
        shift = opset13.subtract(offset, opset13.multiply(mean, factor))
        normalised = opset13.add(opset13.multiply(before.input_value(0), factor), shift)
        for after in afters:
            after.output(0).replace(normalised.output(0))


def _order(operation: Any) -> list[int] | None:
    """The order of axes that an operation gives, if it is a transposition by a constant one; else None."""
    if operation.get_type_name() != "Transpose":
        return None
    order = operation.input_value(1).get_node()
    return [int(axis) for axis in order.data] if order.get_type_name() == "Constant" else None


def _require_any_batch(converted: Any) -> None:
    """Raise ValueError where the size of a batch is fixed inside the graph."""
    trial = converted.clone()
    trial.reshape({0: [2, *list(trial.input(0).partial_shape)[1:]]})
    for output in trial.outputs:
        if output.get_partial_shape()[0].get_length() != 2:
            raise ValueError("it computes batches of one size only")
