"""Extraction against the Keras tutorial way, in the same run. Run: make bench.

Images on disk become features on disk. The tutorial way reads a folder with
`image_dataset_from_directory`, applies the net's `preprocess_input` and calls `model.predict`; ours
is `transfer.extract`. Runs alternate, each in a fresh process, and the median ratio is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

NETS = {"vgg16": "vgg16", "resnet50": "resnet", "mobilenetv2": "mobilenet_v2", "efficientnetb0": "efficientnet"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96, help="JPEGs of 500 x 375 pixels (default: 96)")
    parser.add_argument("--size", type=int, default=224, help="input size of the nets (default: 224)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (default: 3)")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "NET", "FOLDER", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one[0], args.one[1], Path(args.one[2]), int(args.one[3]))))
        return

    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{name} {version(name)}" for name in ("keras", "tensorflow", "numpy", "pillow")))
    print(f"{args.images} JPEGs of 500 x 375, {args.size} x {args.size}, random weights; median of {args.runs} runs\n")
    print("| net | layertap, images/s | tutorial, images/s | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        make_images(Path(scratch) / "images", args.images)
        for net in args.nets:
            rates: dict[str, list[float]] = {"layertap": [], "tutorial": []}
            for _ in range(args.runs):
                for side, found in rates.items():
                    command = [sys.executable, "-m", "benchmarks.extract", "--one", side, net, scratch, str(args.size)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    found.append(args.images / json.loads(done.stdout.splitlines()[-1])["seconds"])
            ratio = statistics.median(a / b for a, b in zip(rates["layertap"], rates["tutorial"], strict=True))
            ours, theirs = (statistics.median(found) for found in rates.values())
            print(f"| {net} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} |", flush=True)


def make_images(folder: Path, count: int) -> None:
    """Smooth random JPEGs, which compress like photographs, in a folder with two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        file = folder / f"class{number % 2}" / f"{number:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)


def run_one(side: str, net: str, scratch: Path, size: int) -> dict[str, float]:
    """Seconds from files to features on disk, the net built and warm."""
    import keras

    from feature_cache import FeatureCache
    from transfer.datasets import load
    from transfer.extract import extract
    from transfer.nets import Net
    from transfer.request import Request

    images = scratch / "images"
    if side == "layertap":
        request = Request(Net(net, "none"), size=(size, size))
        _ = request.backbone
        with tempfile.TemporaryDirectory() as cache:
            start = time.perf_counter()
            extract(load(str(images)), request, FeatureCache(Path(cache)))
            return {"seconds": time.perf_counter() - start}
    application = getattr(keras.applications, request_builder(net))
    preprocess = getattr(keras.applications, NETS[net]).preprocess_input
    model = application(weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3))
    start = time.perf_counter()
    batches = keras.utils.image_dataset_from_directory(images, image_size=(size, size), shuffle=False, verbose=False)
    features = model.predict(batches.map(lambda x, y: preprocess(x)), verbose=0)
    np.save(scratch / "features.npy", features)
    return {"seconds": time.perf_counter() - start}


def request_builder(net: str) -> str:
    """The function of ``keras.applications`` that builds `net`."""
    from transfer.nets import NETS as known

    return known[net].builder


if __name__ == "__main__":
    main()
