"""Nets of keras.applications in ONNX: features of five layers of each exported file, compared with those of Keras.

Weights are random, and images small: neither changes the operations that are exported. The layers are spread over the
depth. Exporters give the tensors names of their own, so a layer is compared with the nearest tensor of its shape; the
difference is the largest one, as a share of the layer's largest feature. Each net has a process of its own, one after
another, because Keras keeps the memory of large nets.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.setting import setting
from feature_cache.errors import one_line
from transfer.engines.openvino_files import OpenVinoFileFactory
from transfer.export.formats import FORMATS
from transfer.nets.catalogue import NETS, Net
from transfer.nets.openvino_files.net import open_net
from transfer.request import FeatureRequest

LAYERS = 5
IMAGES = 2
BOUND = 1e-4
# Layers that the exporter joins with those before or after them, and gives no tensor of their own.
JOINED = ("BatchNormalization", "Conv2D", "DepthwiseConv2D", "Dropout", "InputLayer", "Normalization", "Rescaling")
JOINED += ("SeparableConv2D", "ZeroPadding2D")


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
    parser.add_argument("--here", action="store_true", help="compare in this process, and print rows of the table only")
    args = parser.parse_args()
    if args.here:
        for name in args.nets:
            print(row(name, args.size, args.by), flush=True)
        return
    print(f"On {setting('keras', 'tensorflow', 'tf2onnx', 'onnx', 'openvino')}:\n")
    print("| net | layers | largest difference | within 1e-4 | export, s |\n|---|---|---|---|---|", flush=True)
    for name in args.nets:
        command = [sys.executable, "-m", "benchmarks.onnx_nets", "--here", "--nets", name]
        command += ["--size", str(args.size), "--by", args.by]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
        print(lines[-1] if lines else f"| {name} | ended with status {done.returncode} | | | |", flush=True)


def row(name: str, side: int, by: str) -> str:
    """The row of a net in the table: what differs, or why its file cannot be compared."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            count, difference, seconds = compare(name, side, by, Path(folder) / "net.onnx")
        except Exception as error:  # exporters raise many types
            return f"| {name} | {one_line(error, with_type=True)} | | no | |"
    within = "yes" if count == LAYERS and difference <= BOUND else "no"
    return f"| {name} | {count} | {difference:.1g} | {within} | {seconds:.0f} |"


def compare(name: str, side: int, by: str, file: Path) -> tuple[int, float, float]:
    """How many layers were found in the file, the largest difference, and the seconds that the export took."""
    from transfer.nets.backbone import Backbone  # it loads Keras
    from transfer.nets.keras_graph import operation_of

    preprocessing = NETS[name].preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, side, side, 3)).astype(np.uint8)
    backbone = Backbone(Net(name, "none"), (side, side))
    own = [layer for layer, tap in backbone.taps.items() if type(operation_of(tap)).__name__ not in JOINED]
    maps = [layer for layer in own if len(backbone.taps[layer].shape) == 4]
    layers = [maps[round(place)] for place in np.linspace(len(maps) / 10, len(maps) - 1, LAYERS)]
    cut = backbone.cut([(layer, "none") for layer in layers], preprocessing, 3)
    expected = [np.asarray(exact) for exact in cut(pixels, training=False)]

    start = time.perf_counter()
    backbone.model(np.zeros((1, side, side, 3), np.float32))  # Keras exports what has been called
    if by == "keras":
        backbone.model.export(file, format="onnx", verbose=False)
    else:
        FORMATS["onnx"].write(backbone.model, file)
    seconds = time.perf_counter() - start

    net = Net(str(file), preprocessing=preprocessing)
    differences = []
    for exact in expected:
        shape = exact.shape[1:]
        alike = tuple(tap for tap, tensor in open_net(net, (side, side)).taps.items() if tensor.shape[1:] == shape)
        if alike:
            request = FeatureRequest(net, alike, "none", (side, side), prefix_tokens=None)
            found = OpenVinoFileFactory(request, "auto").make(pixels, len(pixels)).start(pixels)()
            differences.append(min(float(np.abs(rows - exact).max()) for rows in found) / float(np.abs(exact).max()))
    return len(differences), max(differences), seconds


if __name__ == "__main__":
    main()
