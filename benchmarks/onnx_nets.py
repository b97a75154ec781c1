"""Nets of keras.applications in ONNX: features of five layers of each exported file, compared with those of Keras.

Weights are random, and images small: neither changes the operations that are exported. A layer is the last tensor of
its shape among those that the exporter named by the layer (``net_1/layer_1/Relu:0``), and the last layer is what the
file gives. What the exporter joined with the layer after it, such as a convolution with its normalisation, has no
tensor. The five are spread over the depth of those that have one; `--every` compares all of them. The difference is the
largest one, as a share of the layer's largest feature.
Each net has a process of its own, one after another, because Keras keeps the memory of large nets.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.setting import setting
from feature_cache.errors import one_line
from transfer.engines.openvino_files import OpenVinoFileFactory
from transfer.export.formats import FORMATS
from transfer.nets.catalogue import NETS, Net
from transfer.nets.openvino_files.net import open_net
from transfer.nets.openvino_files.reading import ends_of
from transfer.request import FeatureRequest

LAYERS = 5
IMAGES = 2
BOUND = 1e-4
# A part of such a layer has its name, and its result that of the normalisation after it.
PARTS = ("SeparableConv2D",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name, info in NETS.items() if info.builder]
    parser.add_argument("--nets", nargs="+", default=known, choices=known, metavar="NET")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels (default: 96)")
    parser.add_argument(
        "--by",
        choices=("keras", "layertap"),
        default="keras",
        help="export as Model.export does, or as layertap export does (default: keras)",
    )
    parser.add_argument("--every", action="store_true", help="compare every layer that has a tensor of its name")
    parser.add_argument("--here", action="store_true", help="compare in this process, and print rows of the table only")
    args = parser.parse_args()
    if args.here:
        for name in args.nets:
            print(row(name, args.size, args.by, args.every), flush=True)
        return
    print(f"On {setting('keras', 'tensorflow', 'tf2onnx', 'onnx', 'openvino')}:\n")
    print(
        "| net | layers | named | largest difference | within 1e-4 | export, s |\n|---|---|---|---|---|---|", flush=True
    )
    for name in args.nets:
        command = [sys.executable, "-m", "benchmarks.onnx_nets", "--here", "--nets", name]
        command += ["--size", str(args.size), "--by", args.by, *["--every"] * args.every]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
        print(lines[-1] if lines else f"| {name} | ended with status {done.returncode} | | | | |", flush=True)


def row(name: str, side: int, by: str, every: bool) -> str:
    """The row of a net in the table: what differs, or why its file cannot be compared."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = compare(name, side, by, Path(folder) / "net.onnx", every)
        except Exception as error:  # exporters raise many types
            return f"| {name} | {one_line(error, with_type=True)} | | | no | |"
    layer, difference = max(found.differences.items(), key=lambda item: item[1])
    within = "yes" if len(found.differences) >= LAYERS and difference <= BOUND else "no"
    counts = f"{len(found.differences)} | {found.named} of {found.maps}"
    return f"| {name} | {counts} | {difference:.1g} ({layer}) | {within} | {found.seconds:.0f} |"


@dataclass(frozen=True)
class Comparison:
    """What an exported net differs in.

    Attributes
    ----------
    differences : dict of str to float
        Of each layer that was compared, as a share of its largest feature.
    named, maps : int
        The layers that have a tensor of their name, and all that give maps.
    seconds : float
        That the export took.
    """

    differences: dict[str, float]
    named: int
    maps: int
    seconds: float


def compare(name: str, side: int, by: str, file: Path, every: bool = False) -> Comparison:
    """Export a net to `file`, and compare layers of it."""
    from transfer.nets.backbone import Backbone  # it loads Keras
    from transfer.nets.keras_graph import operation_of

    preprocessing = NETS[name].preprocessing
    backbone = Backbone(Net(name, "none"), (side, side))
    start = time.perf_counter()
    backbone.model(np.zeros((1, side, side, 3), np.float32))  # Keras exports what has been called
    if by == "keras":
        backbone.model.export(file, format="onnx", verbose=False)
    else:
        FORMATS["onnx"].write(backbone.model, file)
    seconds = time.perf_counter() - start

    net = Net(str(file), preprocessing=preprocessing)
    shapes = {tensor: tap.shape[1:] for tensor, tap in open_net(net, (side, side)).taps.items()}
    taps = {layer: tap for layer, tap in backbone.taps.items() if len(tap.shape) == 4}
    maps = {layer: tuple(tap.shape[1:]) for layer, tap in taps.items() if type(operation_of(tap)).__name__ not in PARTS}
    tensors = {layer: tensor for layer, shape in maps.items() if (tensor := tensor_of(layer, shape, shapes))}
    last = list(backbone.taps)[-1]
    tensors |= dict(zip([last], ends_of(file), strict=True)) if last in maps else {}
    layers = list(tensors)
    if not every and layers:
        layers = [layers[round(place)] for place in np.linspace(len(layers) / 10, len(layers) - 1, LAYERS)]

    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, side, side, 3)).astype(np.uint8)
    cut = backbone.cut([(layer, "none") for layer in layers], preprocessing, 3)
    expected = [np.asarray(exact) for exact in cut(pixels, training=False)]
    request = FeatureRequest(net, tuple(tensors[layer] for layer in layers), "none", (side, side), prefix_tokens=None)
    found = OpenVinoFileFactory(request, "auto").make(pixels, len(pixels)).start(pixels)()
    differences = {
        layer: float(np.abs(rows - exact).max() / np.abs(exact).max())
        for layer, exact, rows in zip(layers, expected, found, strict=True)
    }
    return Comparison(differences, len(tensors), len(maps), seconds)


def tensor_of(layer: str, shape: tuple[int, ...], shapes: dict[str, tuple[int | None, ...]]) -> str | None:
    """The last of the tensors that are named by a layer and have its shape; None where there is none.

    TensorFlow adds ``_1`` to the names of all layers when a net that was built is called once more.
    """
    own = [tensor for tensor, sides in shapes.items() if f"{layer}_1" in tensor.split("/")[:-1] and sides == shape]
    return own[-1] if own else None


if __name__ == "__main__":
    main()
