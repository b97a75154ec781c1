"""An epoch of fine-tuning from what the cache holds, against plain Keras with the same prefix frozen.

Run: python -m benchmarks.finetune. Nets of 96 x 96 pixels with random weights are trained from a layer on, with the
same optimizer on the same images. The peer is a whole model whose earlier layers are frozen, in Keras's `fit` on arrays
in memory, without XLA, which loses on these nets on CPUs. Ours is `transfer.finetune` on the features at the cut, read
from a cache on disk. Of each the first epoch, in which functions are traced, is left out. Each side runs in a process
of its own; they alternate; medians are reported, and the ratio is the median of those of the pairs.

What the operations allow is (P + 3 T) / 3 T, for a forward pass of P operations before the cut and T after it: training
a layer takes its forward pass, and as much again for the gradients of its inputs, and of its weights.
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
from typing import Any

import numpy as np

from benchmarks.setting import setting

NETS = (("vgg16", "block5_conv1"), ("resnet50", "conv5_block1_1_conv"), ("mobilenetv2", "block_13_expand"))
SIDE, BATCH, CLASSES = 96, 32, 10
SIDES = ("layertap", "keras")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="(default: 512)")
    parser.add_argument("--epochs", type=int, default=4, help="of which the first is left out (default: 4)")
    parser.add_argument("--runs", type=int, default=3, help="of each side (default: 3)")
    parser.add_argument("--net", action="append", choices=[name for name, _ in NETS], help="(default: all)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(*args.one, args.images, args.epochs)))
        return

    print(setting("keras", "tensorflow"), end="")
    command = " ".join(["python -m benchmarks.finetune", *sys.argv[1:]])
    print(f"; {args.images} images, batches of {BATCH}; median of {args.runs} runs; `{command}`\n")
    columns = ("net, from", "cut", "layertap, s", "plain Keras, s", "ratio", "operations allow", "share of it", "loss")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for net, layer in NETS:
        if args.net and net not in args.net:
            continue
        runs = [{side: measure(side, net, layer, args) for side in SIDES} for _ in range(args.runs)]
        seconds = {side: statistics.median(run[side]["seconds"] for run in runs) for side in SIDES}
        ratio = statistics.median(run["keras"]["seconds"] / run["layertap"]["seconds"] for run in runs)
        allowed = runs[0]["layertap"]["allowed"]
        losses = " / ".join(f"{runs[0][side]['loss']:.3f}" for side in SIDES)
        cells = [
            f"{net}, {layer}",
            runs[0]["layertap"]["cut"],
            *(f"{seconds[side]:.2f}" for side in SIDES),
            *(f"{number:.2f}" for number in (ratio, allowed, ratio / allowed)),
            losses,
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def measure(side: str, net: str, layer: str, args: argparse.Namespace) -> dict[str, Any]:
    """One run, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.finetune", "--one", side, net, layer]
    command += ["--images", str(args.images), "--epochs", str(args.epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_one(side: str, net: str, layer: str, images: int, epochs: int) -> dict[str, Any]:
    """Median seconds of an epoch, and the mean loss of the last."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, SIDE, SIDE, 3), np.uint8)
    labels = rng.integers(CLASSES, size=images)
    return (ours if side == "layertap" else theirs)(net, layer, pixels, labels, epochs)


def ours(net: str, layer: str, pixels: np.ndarray, labels: np.ndarray, epochs: int) -> dict[str, Any]:
    from feature_cache.cache import FeatureCache
    from transfer.data.datasets import Dataset
    from transfer.data.images import ArraySource
    from transfer.extraction.extract import extract
    from transfer.extraction.lookup import stored_features
    from transfer.finetune.cut_choice import find_cut
    from transfer.finetune.network import Network
    from transfer.finetune.recipe import Recipe
    from transfer.finetune.tuner import FineTuner
    from transfer.nets.catalogue import Net
    from transfer.request import FeatureRequest

    sources = tuple(ArraySource(image, str(number)) for number, image in enumerate(pixels))
    dataset = Dataset("noise", tuple(map(str, sources)), sources, labels.astype(str))
    request = FeatureRequest(Net(net, "none"), size=(SIDE, SIDE))
    spec = request.specs[0]
    backbone = request.build()
    cut = find_cut(backbone, spec.layer, layer)
    recipe = Recipe(epochs=epochs, batch_size=BATCH, inner=0)
    network = Network(backbone, cut, spec.layer, spec.pooling, spec.preprocessing, CLASSES, recipe)
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder))
        kept = FeatureRequest(Net(net, "none"), cut.layers, "none", (SIDE, SIDE))
        extract(dataset, kept, cache)
        [rows] = stored_features(dataset, kept, cache).features.values()
        kernel = np.zeros((network.dense.kernel.shape[0], CLASSES))
        times: list[float] = []

        def note(stage: int, about: dict[str, Any]) -> None:
            times.append(time.perf_counter())

        tuner = FineTuner(network, lambda *rows: (kernel, kernel[0]), recipe, lambda *rows: None, on_epoch=note)
        tuner.fit(rows, dataset.labels)
    seconds = statistics.median(np.diff(times).tolist())
    return {
        "seconds": seconds,
        "loss": tuner.stages_[1][-1]["loss"],
        "allowed": cut.speedup,
        "cut": "+".join(cut.layers),
    }


def theirs(net: str, layer: str, pixels: np.ndarray, labels: np.ndarray, epochs: int) -> dict[str, Any]:
    import keras

    from transfer.nets.catalogue import Net
    from transfer.nets.loading import build
    from transfer.nets.preprocessing import normalising_layers

    backbone = build(Net(net, "none"), (SIDE, SIDE))
    names = [one.name for one in backbone.layers]
    for one in backbone.layers[: names.index(layer)]:
        one.trainable = False
    x = inputs = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    for normalise in normalising_layers(Net(net, "none").info.preprocessing, 3):  # type: ignore[union-attr]
        x = normalise(x)
    x = keras.layers.GlobalAveragePooling2D()(backbone(x, training=False))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, kernel_initializer="zeros")(x))
    optimizer = keras.optimizers.AdamW(3e-4, weight_decay=1e-4, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    times: list[float] = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()))
    history = model.fit(pixels, labels, batch_size=BATCH, epochs=epochs, callbacks=[note], verbose=0)
    return {"seconds": statistics.median(np.diff(times).tolist()), "loss": history.history["loss"][-1]}


if __name__ == "__main__":
    main()
