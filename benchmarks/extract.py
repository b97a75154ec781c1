"""Extraction against the Keras tutorial way and against the machine's own limit, in the same run. Run: make bench.

Images on disk become features on disk, the net built and converted beforehand, with random weights. The tutorial way
reads a folder with `image_dataset_from_directory`, applies the net's `preprocess_input` and calls `model.predict`;
ours is `transfer.extraction.extract`, all of it counted. The limit is what decoding alone and the engine alone allow
together, ``1 / (1 / decode + 1 / engine)`` images a second. Runs alternate, each in a fresh process; medians are
reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.setting import setting

ENGINE_SECONDS = 3.0
NETS = {"vgg16": "vgg16", "resnet50": "resnet", "mobilenetv2": "mobilenet_v2", "efficientnetb0": "efficientnet"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96, help="JPEGs of 500 x 375 pixels (default: 96)")
    parser.add_argument("--small", action="store_true", help="gray PNGs of 28 x 28 pixels instead")
    parser.add_argument("--size", type=int, default=224, help="input size of the nets (default: 224)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (default: 3)")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "NET", "FOLDER", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one[0], args.one[1], Path(args.one[2]), int(args.one[3]))))
        return

    print(setting("keras", "tensorflow", "openvino", "numpy", "pillow"))
    kind = "gray PNGs of 28 x 28" if args.small else "JPEGs of 500 x 375"
    print(f"{args.images} {kind}, nets at {args.size} x {args.size}, random weights; median of {args.runs} runs\n")
    columns = ("net", "layertap, images/s", "tutorial", "ratio", "decode alone", "engine alone", "share of the limit")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        make_images(Path(scratch) / "images", args.images, small=args.small)
        for net in args.nets:
            runs: list[dict[str, float]] = []
            for number in range(args.runs + 1):
                found: dict[str, float] = {}
                for side in ("layertap", "tutorial"):
                    command = [sys.executable, "-m", "benchmarks.extract", "--one", side, net, scratch, str(args.size)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    found |= json.loads(done.stdout.splitlines()[-1])
                if number:  # the first converts the net and warms the page cache
                    runs.append(found)
            print(f"| {net} | {' | '.join(cells(runs))} |", flush=True)


def cells(runs: list[dict[str, float]]) -> list[str]:
    """What a line of the table says of these runs."""
    ratio = statistics.median(run["layertap"] / run["tutorial"] for run in runs)
    share = statistics.median(run["layertap"] * (1 / run["decode"] + 1 / run["engine"]) for run in runs)
    layertap, tutorial, decode, engine = (
        f"{statistics.median(run[name] for run in runs):.1f}" for name in ("layertap", "tutorial", "decode", "engine")
    )
    return [layertap, tutorial, f"{ratio:.2f}", decode, engine, f"{share:.2f}"]


def make_images(folder: Path, count: int, *, small: bool) -> None:
    """Smooth random images, which compress like photographs, in a folder with two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        file = folder / f"class{number % 2}" / f"{number:05d}.{'png' if small else 'jpg'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if small:
            coarse.convert("L").resize((28, 28), Image.Resampling.BICUBIC).save(file)
        else:
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)


def run_one(side: str, net: str, scratch: Path, size: int) -> dict[str, float]:
    """Images a second from files to features on disk, and of the parts alone."""
    return tutorial(net, scratch, size) if side == "tutorial" else layertap(net, scratch, size)


def layertap(net: str, scratch: Path, size: int) -> dict[str, float]:
    from feature_cache import FeatureCache
    from transfer.data.datasets import load
    from transfer.engines.batch import Batch
    from transfer.engines.runner import BatchRunner
    from transfer.extraction.extract import extract
    from transfer.extraction.reading import read_batches
    from transfer.nets.catalogue import Net
    from transfer.request import FeatureRequest

    request, dataset = FeatureRequest(Net(net, "none"), size=(size, size)), load(str(scratch / "images"))
    engines = BatchRunner(request)
    images = np.random.default_rng(0).integers(0, 256, (engines.batch_size, size, size, 3), np.uint8)
    nothing = np.zeros(len(images), np.uint32)
    list(engines.run([Batch(nothing, nothing, images)] * 2))  # converts the net, the first time
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        extract(dataset, request, FeatureCache(Path(cache)))
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    for batch in read_batches(dataset, range(len(dataset)), request, engines.batch_size, {}):
        batch.release()
    decode = time.perf_counter() - start
    return {"layertap": len(dataset) / seconds, "decode": len(dataset) / decode, "engine": engines.peak(ENGINE_SECONDS)}


def tutorial(net: str, scratch: Path, size: int) -> dict[str, float]:
    import keras

    from transfer.nets.catalogue import NETS as KNOWN

    application = getattr(keras.applications, KNOWN[net].builder)
    preprocess = getattr(keras.applications, NETS[net]).preprocess_input
    model = application(weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3))
    images = scratch / "images"
    start = time.perf_counter()
    batches = keras.utils.image_dataset_from_directory(images, image_size=(size, size), shuffle=False, verbose=False)
    features = model.predict(batches.map(lambda x, y: preprocess(x)), verbose=0)
    np.save(scratch / "features.npy", features)
    return {"tutorial": len(features) / (time.perf_counter() - start)}


if __name__ == "__main__":
    main()
