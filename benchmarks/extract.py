"""Extraction against the Keras tutorial way and against the machine's own limit, in the same run. Run: make bench.

Images on disk become features on disk, the net built and converted beforehand, with random weights. The tutorial way
reads a folder with `image_dataset_from_directory`, applies the net's `preprocess_input` and calls `model.predict`;
ours is `transfer.extraction.extract`, all of it counted. The limit is what decoding alone and the engine alone allow
together, ``1 / (1 / decode + 1 / engine)`` images a second. Runs alternate, each in a fresh process; medians are
reported. With ``--ray``, the command alone is compared with the same by a worker of Ray on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.setting import setting

ENGINE_SECONDS = 3.0
FEW_AND_MANY = 500, 20_000  # images with and without Ray
NETS = {"vgg16": "vgg16", "resnet50": "resnet", "mobilenetv2": "mobilenet_v2", "efficientnetb0": "efficientnet"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96, help="JPEGs of 500 x 375 pixels (default: 96)")
    parser.add_argument("--small", action="store_true", help="gray PNGs of 28 x 28 pixels instead")
    parser.add_argument("--size", type=int, default=224, help="input size of the nets (default: 224)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (default: 3)")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--ray", action="store_true", help="what --ray costs beside the command alone, by glyphnet")
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "NET", "FOLDER", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one[0], args.one[1], Path(args.one[2]), int(args.one[3]))))
        return

    if args.ray:
        against_ray(args.runs)
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


def against_ray(runs: int) -> None:
    """What Ray costs to start, and for more images: processor seconds of all processes, of few images and of many."""
    print(setting("ray", "openvino", "numpy"))
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in FEW_AND_MANY:
            np.save(
                Path(scratch) / f"{count}.npy", np.random.default_rng(0).integers(0, 256, (count, 32, 32), np.uint8)
            )
        for number in range(runs + 1):
            for option in ("", "--ray"):
                few, many = (cpu_seconds(Path(scratch), f"{count}.npy", option) for count in FEW_AND_MANY)
                if number:  # the first converts the net and warms the page cache
                    seconds.setdefault(f"start{option}", []).append(few)
                    seconds.setdefault(f"images{option}", []).append(many - few)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{FEW_AND_MANY[1]:,} images of 32 x 32 by glyphnet, processor seconds; median of {runs} runs\n")
    print("| | alone | --ray | ratio |\n|---|---|---|---|")
    for name, what in (("start", f"start, and {FEW_AND_MANY[0]} images"), ("images", "the other images")):
        alone, ray = found[name], found[f"{name}--ray"]
        print(f"| {what} | {alone:.1f} | {ray:.1f} | {ray / alone:.2f} |")


def cpu_seconds(scratch: Path, data: str, option: str) -> float:
    """The processor seconds of ``layertap extract`` and of all processes that come of it."""
    command = [sys.executable, "-m", "cli", "extract", data, "--quiet", *([option] if option else [])]
    with tempfile.TemporaryDirectory() as cache:
        own = {"RAY_ADDRESS": "local", "LAYERTAP_CACHE": cache, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        process = subprocess.Popen(command, cwd=scratch, env={**os.environ, **own}, stdout=subprocess.DEVNULL)
        family, ticks = {process.pid}, dict[int, int]()
        while process.poll() is None:
            running = dict(running_processes())
            for _ in range(5):  # generations
                family |= {pid for pid, (parent, _) in running.items() if parent in family}
            ticks |= {pid: running[pid][1] for pid in family & running.keys()}
            time.sleep(0.1)
    assert process.returncode == 0, command
    return sum(ticks.values()) / os.sysconf("SC_CLK_TCK")


def running_processes() -> Iterator[tuple[int, tuple[int, int]]]:
    """Each process, with its parent and the ticks of the clock that it has computed."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            numbers = file.read_text().rpartition(")")[2].split()
            yield int(file.parent.name), (int(numbers[1]), int(numbers[11]) + int(numbers[12]))


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
