"""Giving a net the weights that a file of it holds, each to the layer that it belongs to. This imports Keras."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from feature_cache.errors import BadData
from feature_cache.files.weights_file import check
from transfer.nets.files.keras2 import layer_orders, plain_name
from transfer.nets.keras_graph import all_layers


def load_hdf5_weights(model: keras.Model, file: Path) -> None:
    """Give `model` the weights in an HDF5 file that `model.save` wrote, of Keras 2 or 3.

    Keras itself goes by the order of layers and of their weights, which may be another in the two versions, and then
    mistakes weights of one shape for each other. Here they go by their names wherever these are told apart.

    Raises
    ------
    BadData
        When they do not fit.
    """
    with h5py.File(file, "r") as store:
        check(store, file)
        groups = store["model_weights"]
        names = [name for name in _names(groups, "layer_names") if _names(groups[name], "weight_names")]
        layers = [layer for layer in model.layers if layer.weights]
        if len(names) != len(layers):
            raise BadData(f"{file} holds weights of {len(names)} layers, and its net has {len(layers)} with weights.")
        by_name = {layer.name: layer for layer in layers}
        if {plain_name(name) for name in names} == set(by_name):
            layers = [by_name[plain_name(name)] for name in names]
        for name, layer in zip(names, layers, strict=True):
            paths = _names(groups[name], "weight_names")
            values = [_numbers(np.asarray(groups[name][path])) for path in paths]
            for variable, value in zip(_in_order(layer, paths), values, strict=True):
                if tuple(variable.shape) != value.shape:
                    raise BadData(
                        f"{file} holds weights of another shape than its layer {layer.name} has: {value.shape} and "
                        f"{tuple(variable.shape)}."
                    )
                variable.assign(value)
            _finalize(layer)


def check_order(model: keras.Model, config: dict[str, Any]) -> None:
    """Raise BadData when Keras 3 orders layers otherwise than the `config` of Keras 2 that its weights were written by.

    A file of type ``.keras`` knows layers by their class and their number among the layers of that class.
    """
    for path, names in layer_orders(config):
        net = model
        for step in path:
            net = net.get_layer(step)
        layers = [layer for layer in net.layers if layer.weights]
        known = {layer.name: layer for layer in layers}
        before, now = defaultdict(list), defaultdict(list)
        for name in names:
            if name in known:
                before[type(known[name])].append(name)
        for layer in layers:
            now[type(layer)].append(layer.name)
        if before != now:
            raise BadData(
                f"the layers of {net.name} are in another order than in Keras 2, so that its weights cannot be told "
                "apart; save the net as an .h5 file in Keras 2, and give that."
            )


def _numbers(values: np.ndarray) -> np.ndarray:
    """HDF5 has no bfloat16, the upper half of a float32: Keras writes it as two bytes without a type."""
    if values.dtype.kind == "V" and values.dtype.itemsize == 2:
        return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return values


def _names(group: Any, kind: str) -> list[str]:
    """Names that Keras keeps as attributes, in several where they are many."""
    if kind in group.attrs:
        parts = [group.attrs[kind]]
    else:
        parts = []
        while f"{kind}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{kind}{len(parts)}"])
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for part in parts for name in part]


def _in_order(layer: Any, paths: Sequence[str]) -> list[Any]:
    """The variables of `layer` that weights of these paths in the file are for."""
    variables = list(layer.trainable_weights) + list(layer.non_trainable_weights)
    if len(variables) != len(paths):
        raise BadData(f"the layer {layer.name} has {len(variables)} weights, and the file {len(paths)}.")
    for parts in (2, 1):
        names = [_end(path, parts) for path in paths]
        own = {_end(variable.path, parts): variable for variable in variables}
        if len(own) == len(variables) and set(own) == set(names):
            return [own[name] for name in names]
    kinds = [_end(path, 1) for path in paths]
    for order in (variables, list(layer.weights)):
        if [_end(variable.path, 1) for variable in order] == kinds:
            return order
    if sorted(_end(variable.path, 1) for variable in variables) == sorted(kinds):
        raise BadData(f"the weights of the layer {layer.name} are in an order that cannot be told.")
    return variables


def _end(path: str, parts: int) -> str:
    return "/".join(path.partition(":")[0].split("/")[-parts:])


def _finalize(layer: Any) -> None:
    """Let layers such as Normalization make what they compute with from what they were given."""
    for part in all_layers(layer):
        if hasattr(part, "finalize_state"):
            part.finalize_state()
