"""Writing the net that has been fine-tuned into the folder of its run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transfer.nets.catalogue import NET_FILE, WEIGHTS_FILE, Net
from transfer.nets.keras_graph import all_layers, own_variables

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone


def save_net(backbone: Backbone, folder: Path) -> Net:
    """Write a net that was trained into `folder`: the weights of a named net, or a ``.keras`` file of another.

    A net that is built anew receives the weights and is written: adapters are merged into kernels, and no layer is
    frozen any more.

    Returns
    -------
    Net
        The net with the weights, or the file, that was written.
    """
    from transfer.nets.loading import build  # heavy: it imports Keras

    net = backbone.net
    plain = build(net, backbone.size, top=backbone.top)
    for layer, tuned in zip(all_layers(plain), all_layers(backbone.model), strict=True):
        if not list(all_layers(layer, itself=False)):
            if layer.weights:
                layer.set_weights(_merged(tuned))
        else:  # a class token, say, of a layer that holds layers
            for variable, value in zip(own_variables(layer), own_variables(tuned), strict=True):
                variable.assign(value)
    if net.has_own_weights:
        plain.save(folder / NET_FILE)
        tuned = str(folder / NET_FILE)
        if net.is_file:
            return replace(net, name=tuned)
        return Net(tuned, preprocessing=net.applied_preprocessing)  # the file does not say which pixels it expects
    file = folder / WEIGHTS_FILE
    if net.name.lower() == "glyphnet":
        from transfer.nets.glyphnet.net import save_weights  # heavy: it imports Keras

        save_weights({layer.name: layer.get_weights() for layer in plain.layers if layer.weights}, file, "float32")
    else:
        plain.save_weights(file)
    return replace(net, weights=str(file))


def _merged(layer: Any) -> list[np.ndarray]:
    """The weights of a layer, with its adapters merged into the kernel."""
    if not getattr(layer, "lora_enabled", False):
        return layer.get_weights()
    from keras import ops  # heavy

    parts = [layer.kernel] if layer.bias is None else [layer.kernel, layer.bias]  # the kernel with its adapters
    return [ops.convert_to_numpy(part) for part in parts]
