"""Fine-tuning by default on real images, against the best head on the same net, and against a plain Keras loop.

Run: python -m benchmarks.tuning --folder FOLDER. The data sets are those of `benchmarks.quality`, the net is
EfficientNet-Lite0 with its own weights. Some images have labels, and others are only scored. Each side runs in a
process of its own: `fine-tune` with its defaults, from nothing to the net that is kept; the heads, on the features of
two layers, of which the one that is best on the images that are scored counts; and a loop as Keras's tutorial on
transfer learning writes it, which trains for as many seconds of processor time as `fine-tune` took in all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from benchmarks.real_images import NAMES, real_images
from benchmarks.setting import setting

HEADS = ("auto", "ridge", "linear", "lda")
NET = "efficientnetlite0"
LAYERS = ("block6a_expand_activation", "top_activation")
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the data sets")
    parser.add_argument("--data", action="append", choices=NAMES, help="(default: all)")
    parser.add_argument("--labels", type=int, default=1000, help="images to train on (default: 1000)")
    parser.add_argument("--scored", type=int, default=1000, help="other images, at most (default: 1000)")
    parser.add_argument("--side", type=int, default=96, help="of the images in pixels (default: 96)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of the images (default: 0)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        side, data, seconds = args.one
        print(json.dumps(run_one(args, side, data, float(seconds))))
        return
    print(setting("keras", "tensorflow", "openvino", "scikit-learn"), end="")
    print(f"; `{' '.join(['python -m benchmarks.tuning', *sys.argv[1:]])}`\n", flush=True)
    columns = (
        "data",
        "labels",
        "scored",
        "best head",
        "fine-tune",
        "plain Keras",
        "CPU s: heads",
        "fine-tune",
        "Keras",
    )
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for data in args.data or NAMES:
        heads = measure(args, "heads", data, 0)
        tuned = measure(args, "tuned", data, 0)
        keras = measure(args, "keras", data, tuned["seconds"])
        runs = (heads, tuned, keras)
        texts = [f"{100 * run['accuracy']:.1f} / {run['nll']:.3f} {run['about']}" for run in runs]
        seconds = [f"{run['seconds']:.0f}" for run in runs]
        print(f"| {data} | {tuned['labels']} | {tuned['scored']} | {' | '.join([*texts, *seconds])} |", flush=True)


def measure(args: argparse.Namespace, side: str, data: str, seconds: float) -> dict[str, Any]:
    """One side, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.tuning", "--one", side, data, str(seconds)]
    for name in ("folder", "labels", "scored", "side", "seed"):
        command += [f"--{name}", str(getattr(args, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_one(args: argparse.Namespace, side: str, name: str, seconds: float) -> dict[str, Any]:
    """The scores of one side, and the processor time that it took with the processes that it started."""
    import layertap as lt

    data = lt.load_dataset(real_images(name, args.folder))
    order = np.random.default_rng(args.seed).permutation(len(data))
    count = min(args.labels, 7 * len(data) // 10)
    train, scored = data.select(order[:count]), data.select(order[count : count + args.scored])
    with tempfile.TemporaryDirectory() as folder:
        result = {"heads": heads, "tuned": tuned, "keras": plain_keras}[side](
            train, scored, (args.side, args.side), Path(folder), seconds
        )
    return {"labels": len(train), "scored": len(scored), "seconds": sum(os.times()[:4]), **result}


def heads(train: Any, scored: Any, size: tuple[int, int], folder: Path, seconds: float) -> dict[str, Any]:
    """The head and the layer that are best on the images that are scored."""
    import layertap as lt
    from heads.evaluation.metrics import score
    from heads.registry import make_head

    results = []
    options: dict[str, Any] = {"layers": list(LAYERS), "size": size, "cache": folder, "progress": False}
    features, others = (lt.extract(data, lt.Net(NET), **options) for data in (train, scored))
    for layer in LAYERS:
        for name in HEADS:
            head: Any = make_head(name, {})
            head.fit(features[layer][:], train.labels)
            scores = score(head.classes_, scored.labels, head.predict_proba(others[layer][:]))
            results.append({**scores, "about": f"({name}, {layer[:6]})"})
    best = max(results, key=lambda result: float(result["accuracy"]))
    return {name: best[name] for name in ("accuracy", "nll", "about")}


def tuned(train: Any, scored: Any, size: tuple[int, int], folder: Path, seconds: float) -> dict[str, Any]:
    """Fine-tuning by default."""
    import layertap as lt
    from transfer.request import FeatureRequest

    request = FeatureRequest(lt.Net(NET), size=size)
    run = lt.fine_tune(train, request, out=folder / "run", cache=folder / "features", progress=False)
    used = sum(os.times()[:4])
    scores = run.evaluate(scored, cache=folder / "features", progress=False).scores
    epochs = run.config.fine_tuned["epochs"] if run.config.fine_tuned else 0
    about = f"({run.spec.layer[:6]}, {epochs} epochs)"
    return {"accuracy": scores["accuracy"], "nll": scores["nll"], "about": about, "seconds": used}


def plain_keras(train: Any, scored: Any, size: tuple[int, int], folder: Path, seconds: float) -> dict[str, Any]:
    """The loop of Keras's tutorial: a new head on the frozen net, then all layers at a low rate."""
    import keras

    from transfer.nets.catalogue import Net
    from transfer.nets.loading import build
    from transfer.nets.preprocessing import normalising_layers

    x, y, x_scored, y_scored = *arrays(train, size), *arrays(scored, size)
    classes = sorted(set(y))
    y, y_scored = np.searchsorted(classes, y), np.searchsorted(classes, y_scored)
    held_out = len(x) // 7
    base = build(Net(NET), size)
    base.trainable = False
    inputs = keras.Input((*size, 3), dtype="uint8")
    features = inputs
    for normalise in normalising_layers(Net(NET).info.preprocessing, 3):  # type: ignore[union-attr]
        features = normalise(features)
    features = keras.layers.GlobalAveragePooling2D()(base(features, training=False))
    features = keras.layers.Dropout(0.2)(features)
    model = keras.Model(inputs, keras.layers.Dense(len(classes))(features))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    epochs = []
    for rate, share in ((1e-3, 0.4), (1e-5, 1.0)):
        base.trainable = share == 1.0

        def stop(step: int, logs: Any, share: float = share) -> None:
            model.stop_training = sum(os.times()[:4]) > share * seconds

        watch = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
        best = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)
        history = model.fit(
            x[held_out:], y[held_out:], validation_data=(x[:held_out], y[:held_out]), batch_size=BATCH, epochs=1000,
            callbacks=[watch, best], verbose=0,
        )  # fmt: skip
        epochs.append(str(len(history.epoch)))
    used = sum(os.times()[:4])
    logits = model.predict(x_scored, verbose=0).astype(np.float64)
    nll = -log_softmax(logits, axis=1)[np.arange(len(y_scored)), y_scored].mean()
    accuracy = (logits.argmax(1) == y_scored).mean()
    return {"accuracy": accuracy, "nll": nll, "about": f"({' + '.join(epochs)} epochs)", "seconds": used}


def arrays(data: Any, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of all images, of shape (n, height, width, 3), and their labels."""
    from transfer.data.images import to_pixels

    pictures = (to_pixels(source.load()[1], size, "stretch", "bilinear", str(source)) for source in data.sources)
    return np.stack([np.broadcast_to(pixels, (*size, 3)) for pixels in pictures]), np.asarray(data.labels)


if __name__ == "__main__":
    main()
