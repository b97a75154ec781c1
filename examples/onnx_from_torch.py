"""A net of timm as an ONNX file, which `--net` takes: ``python -m examples.onnx_from_torch resnet18.a1_in1k net.onnx``.

Export needs PyTorch, timm, onnx and onnxscript; computing features of the file needs none of them.
"""

from __future__ import annotations

import sys
from typing import Any


def export(module: Any, side: int, file: str) -> None:
    """Write a module of PyTorch that takes images of ``side x side`` pixels, for any number of images."""
    import torch  # which the tests of Layertap do without

    image = torch.zeros(1, 3, side, side)
    torch.onnx.export(module.eval(), image, file, input_names=["image"], dynamic_axes={"image": {0: "n"}})


def main(name: str, file: str) -> None:
    """Export a net of timm, and print the command that computes its features."""
    import timm

    module = timm.create_model(name, pretrained=True)
    config = timm.data.resolve_model_data_config(module)
    export(module, config["input_size"][1], file)
    print(f"Trained on pixels with the mean {config['mean']} and the deviation {config['std']}.")
    print(f"layertap extract DATA --net {file} --preprocessing torch --interpolation {config['interpolation']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
