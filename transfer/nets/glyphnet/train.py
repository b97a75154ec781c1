"""Train glyphnet on distorted letters. Run: python -m transfer.nets.glyphnet.train --help.

The net learns to name the letters of 15 scripts. Settings are compared on Cyrillic, which is held
out of training: `probe` draws few labelled letters per class and fits a logistic regression.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from feature_cache.process.read_ahead import read_ahead
from transfer.nets.glyphnet import letters, net

FONTS = Path(__file__).with_name("fonts")
BATCH = 256
AHEAD = 4  # batches that are distorted while the net trains on one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", type=Path, default=FONTS, help="folder where npm installed the fonts")
    parser.add_argument("--steps", type=int, default=6000, help=f"training steps of {BATCH} letters (default: 6000)")
    parser.add_argument("--head", choices=("flatten", "avg"), default="avg", help="what the classifier reads")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate (default: 0.002)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=net.WEIGHTS_FILE, help="weights file to write")
    args = parser.parse_args()

    keras.utils.set_random_seed(args.seed)
    train = letters.render(args.fonts, [script for script in letters.ALPHABETS if script != letters.HELD_OUT])
    held_out = letters.render(args.fonts, [letters.HELD_OUT])
    print(f"{len(train.masters)} letters, {len(train.classes)} classes, {len(set(train.fonts))} font files", flush=True)

    start = time.perf_counter()
    backbone = net.build(batch_norm=True)
    classifier = _classifier(backbone, args.head, len(train.classes))
    schedule = keras.optimizers.schedules.CosineDecay(
        args.rate / 20, args.steps - args.steps // 20, warmup_target=args.rate, warmup_steps=args.steps // 20
    )
    classifier.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.02, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    for step, (x, y) in enumerate(read_ahead(_batches(train, args.steps, args.seed), AHEAD), 1):
        loss = classifier.train_on_batch(x, y)  # a running mean, reset below
        if step % 500 == 0 or step == args.steps:
            print(f"step {step}  loss {float(loss):.3f}  {time.perf_counter() - start:.0f} s", flush=True)
            classifier.reset_metrics()

    net.save_weights(net.fold(backbone), args.out)
    shipped = net.build()
    net.load_weights(shipped, args.out)
    print(json.dumps({"seconds": round(time.perf_counter() - start), **probe(shipped, held_out)}, indent=1))


def probe(backbone: keras.Model, held_out: letters.Letters, shots: int = 10, draws: int = 10) -> dict[str, float]:
    """Accuracy on the held-out script of logistic regression on `shots` labelled letters per class.

    Returns
    -------
    dict of layer name to mean accuracy over `draws` random choices of the labelled letters.
    """
    rng = np.random.default_rng(0)
    images = letters.distort(held_out.masters, rng)
    readouts = ["block3_conv2", "block3_pool", "block4_conv1", "block4_conv2", "block4_pool"]
    tapped = keras.Model(backbone.inputs, [backbone.get_layer(name).output for name in readouts])
    features = dict(zip(readouts, tapped.predict(scale(images), batch_size=BATCH, verbose=0), strict=True))
    features |= {f"{name}:avg": value.mean((1, 2)) for name, value in features.items()}
    accuracy = {}
    for name, value in features.items():
        x = value.reshape(len(value), -1)
        scores = []
        for draw in range(draws):
            order = np.random.default_rng(draw).permutation(len(x))
            chosen = np.concatenate([order[held_out.labels[order] == c][:shots] for c in range(len(held_out.classes))])
            rest = np.setdiff1d(order, chosen)
            head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
            scores.append(head.fit(x[chosen], held_out.labels[chosen]).score(x[rest], held_out.labels[rest]))
        accuracy[name] = round(float(np.mean(scores)), 4)
    return accuracy


def scale(images: np.ndarray) -> np.ndarray:
    """uint8 pixels to the float32 in [-1, 1] that the net is trained on."""
    return images.astype(np.float32) / 127.5 - 1


def _classifier(backbone: keras.Model, head: str, classes: int) -> keras.Model:
    pool = keras.layers.Flatten() if head == "flatten" else keras.layers.GlobalAveragePooling2D()
    return keras.Model(backbone.input, keras.layers.Dense(classes)(pool(backbone.output)))


def _batches(data: letters.Letters, steps: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Distorted batches and their labels.

    Half of each batch is drawn uniformly over the letters and half over the classes, so that
    scripts with few fonts count too.
    """
    rng = np.random.default_rng(seed)
    by_class = [np.flatnonzero(data.labels == c) for c in range(len(data.classes))]
    by_class = [members for members in by_class if len(members)]
    for _ in range(steps):
        any_letter = rng.integers(len(data.masters), size=BATCH // 2)
        any_class = [rng.choice(by_class[c]) for c in rng.integers(len(by_class), size=BATCH // 2)]
        chosen = np.concatenate([any_letter, any_class])
        yield scale(letters.distort(data.masters[chosen], rng)), data.labels[chosen]


if __name__ == "__main__":
    main()
