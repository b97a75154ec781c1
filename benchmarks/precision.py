"""Images per second of float32 and int8, and what int8 changes: features, and the accuracy of a linear head.

Engines are measured, without reading images: float32, int8 and again, so that other work on the machine weighs the same
on both. Each round gives images per second of both, and their ratio; shown are the medians. With `--cpu`, seconds are
those of the processor, of all threads, which other work hardly changes. `--loss` extracts features of real images both
ways, by the public functions, and judges a ridge classifier on five folds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np

import layertap as lt
from benchmarks.real_images import real_images
from benchmarks.setting import setting
from feature_cache.cache import FeatureCache
from heads.ridge.classifier import RidgeHead
from heads.splitting.splits import stratified_folds
from transfer.engines.base import Engine, Pending
from transfer.engines.batch import default_batch_size
from transfer.engines.factory import EngineFactory
from transfer.engines.openvino_engine import OpenVinoEngine
from transfer.nets.catalogue import Net
from transfer.quantisation.engine import QuantisedEngine, QuantisedNet
from transfer.quantisation.losses import Loss
from transfer.quantisation.quantiser import quantise
from transfer.request import FeatureRequest

NETS = ("resnet50", "mobilenetv2", "efficientnetlite0")
RANDOM = ("resnet50", "mobilenetv2")  # whose weights are random here
SIDE = 224
CALIBRATION = 32  # smooth random images, for speed, which does not depend on them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=NETS, metavar="NET")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each engine (default: 7)")
    parser.add_argument("--images", type=int, default=64, help="images of a measurement (default: 64)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--cpu", action="store_true", help="count seconds of processor time")
    parser.add_argument("--loss", type=int, metavar="N", help="judge N images of Fashion-MNIST instead")
    parser.add_argument("--folder", type=Path, default=Path("bench"), help="for the data sets (default: bench)")
    args = parser.parse_args()
    print(f"On {setting('keras', 'openvino', 'nncf', 'numpy')}:\n")
    if args.loss:
        loss(args.folder, args.loss)
    else:
        speed(args)


def speed(args: argparse.Namespace) -> None:
    print("| net | threads | float32, images/s | int8, images/s | times as fast | slowest and fastest round |")
    print("|---|---|---|---|---|---|")
    cores = sorted(os.sched_getaffinity(0))
    for net in args.nets:
        with tempfile.TemporaryDirectory() as scratch:
            os.sched_setaffinity(0, cores)
            exact, rounded = files(net, Path(scratch))
            for threads in args.threads:
                os.sched_setaffinity(0, cores[:threads])
                rates = alternate(exact, rounded, args)
                before, after = np.median(rates, axis=0)
                ratios = rates[:, 1] / rates[:, 0]
                print(
                    f"| {net} | {threads} | {before:.1f} | {after:.1f} | {np.median(ratios):.2f} | "
                    f"{ratios.min():.2f}, {ratios.max():.2f} |",
                    flush=True,
                )


def files(net: str, scratch: Path) -> tuple[Path, Path]:
    """The files of a net in float32 and in int8."""
    request = FeatureRequest(Net(net, "none" if net in RANDOM else None), size=(SIDE, SIDE))
    exact = EngineFactory(request, "openvino", ()).converted((SIDE, SIDE, 3))
    quantise(exact, pixels(CALIBRATION), scratch / "net.xml")
    return exact, scratch / "net.xml"


def pixels(count: int) -> np.ndarray:
    """Smooth images."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, SIDE // 32, SIDE // 32, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, 32, axis=1), 32, axis=2)


def alternate(exact: Path, rounded: Path, args: argparse.Namespace) -> np.ndarray:
    """Images per second of both, of shape (rounds, 2)."""
    size = default_batch_size("openvino", (SIDE, SIDE))
    engines = [OpenVinoEngine(exact, size), QuantisedEngine(QuantisedNet(rounded, (0,)), size)]
    images = pixels(size)
    for engine in engines:
        rate(engine, images, args.images, args.cpu)
    return np.array([[rate(engine, images, args.images, args.cpu) for engine in engines] for _ in range(args.rounds)])


def rate(engine: Engine, images: np.ndarray, count: int, by_cpu: bool) -> float:
    clock = time.process_time if by_cpu else time.perf_counter
    pending: deque[Pending] = deque()
    start = clock()
    for _ in range(count // len(images)):
        pending.append(engine.start(images))
        if len(pending) > engine.ahead:
            pending.popleft()()
    for wait in pending:
        wait()
    return count // len(images) * len(images) / (clock() - start)


def loss(folder: Path, count: int) -> None:
    data = lt.load_dataset(real_images("fashion", folder))
    data = data.select(np.sort(np.random.default_rng(0).permutation(len(data))[:count]))
    folds = stratified_folds(data.labels, 5, 0)
    with tempfile.TemporaryDirectory() as scratch:
        cache, found = FeatureCache(Path(scratch)), {}
        for precision in ("float32", "int8"):
            features = lt.extract(data, "efficientnetlite0", precision=precision, cache=cache, progress=False)
            found[precision] = np.asarray(features["top_activation"])
            for remark in features.report.remarks:
                print(remark)
        difference = Loss("", np.arange(count), found["float32"], found["int8"])
        print("\n| precision | accuracy of ridge, 5 folds |\n|---|---|")
        for precision, rows in found.items():
            right = np.empty(len(rows), bool)
            for fold in range(5):
                held = folds == fold
                head = RidgeHead().fit(rows[~held], data.labels[~held])
                right[held] = head.predict(rows[held]) == data.labels[held]
            print(f"| {precision} | {right.mean():.2%} |")
        changed = f"{difference.relative:.1%} (what tells images apart: {difference.of_spread:.1%})"
        print(f"\nFeatures change by {changed}.")


if __name__ == "__main__":
    main()
