"""The workflow of RAMP kits against that of ramp-workflow: everything but the model.

Run: python -m benchmarks.ramp. Gray PNGs of 28 x 28, as MNIST's, in 3 folds of 20 % validation, with a fifth as many
test images. The classifier of the submission takes the batches of 3 epochs, trains nothing, and predicts by chance; so
what is measured is reading, transforming and handing over, with all predictions of `ramp-test`: of the training images
and of the test images, in each fold. Each side runs in a process of its own, ours with an empty cache; they alternate;
medians are reported, and the ratio is the median of those of the pairs.
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

TRANSFORMS = {
    "as it is, divided by 255": "def transform(x):\n    return x / 255\n",
    "skimage's resize to 64 x 64": (
        "from skimage.transform import resize\n\n\ndef transform(x):\n    return resize(x, (64, 64))\n"
    ),
}
CLASSIFIER = """
import numpy as np


class BatchClassifier:
    def fit(self, gen_builder):
        size = {batch}
        train, valid, nb_train, nb_valid = gen_builder.get_train_valid_generators(batch_size=size, valid_ratio=0.1)
        for epoch in range(3):
            for generator, count in ((train, nb_train), (valid, nb_valid)):
                while count > 0:
                    X, y = next(generator)
                    count -= len(X)

    def predict_proba(self, X):
        return np.full((len(X), 10), 0.1)
"""
FOLDS, BATCH = 3, 32
SIDES = ("layertap", "rampwf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000, help="to train on (default: 4000)")
    parser.add_argument("--runs", type=int, default=3, help="of each side (default: 3)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(*args.one, args.images)))
        return

    print(setting("ramp-workflow", "scikit-image"), end="")
    command = " ".join(["python -m benchmarks.ramp", *sys.argv[1:]])
    print(f"; {args.images} images to train on; median of {args.runs} runs; `{command}`\n")
    columns = ("transform", "layertap, s", "rampwf, s", "ratio", "of it the first fold, s")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make_kit(Path(folder), args.images)
        for name in TRANSFORMS:
            runs = [{side: measure(side, name, folder, args.images) for side in SIDES} for _ in range(args.runs)]
            seconds = {side: statistics.median(sum(run[side]) for run in runs) for side in SIDES}
            ratio = statistics.median(sum(run["rampwf"]) / sum(run["layertap"]) for run in runs)
            first = [f"{statistics.median(run[side][0] for run in runs):.2f}" for side in SIDES]
            cells = [name, *(f"{seconds[side]:.2f}" for side in SIDES), f"{ratio:.1f}", " / ".join(first)]
            print(f"| {' | '.join(cells)} |", flush=True)


def make_kit(folder: Path, images: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "imgs").mkdir()
    for number in range(images + images // 5):
        strokes = np.zeros((28, 28), np.uint8)  # a tenth of the pixels is ink
        strokes[rng.integers(0, 28, 80), rng.integers(0, 28, 80)] = rng.integers(1, 256, 80)
        Image.fromarray(strokes).save(folder / "imgs" / f"{number}.png")
    for number, source in enumerate(TRANSFORMS.values()):
        submission = folder / str(number)
        submission.mkdir()
        (submission / "image_preprocessor.py").write_text(source)
        (submission / "batch_classifier.py").write_text(CLASSIFIER.format(batch=BATCH))


def measure(side: str, transform: str, folder: str, images: int) -> list[float]:
    """Seconds of each fold, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.ramp", "--one", side, transform, folder, "--images", str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_one(side: str, transform: str, folder: str, images: int) -> list[float]:
    import rampwf

    from layertap.ramp import ImageClassifier

    options: dict[str, Any] = {"test_batch_size": 16, "chunk_size": 256, "n_jobs": 8, "n_classes": 10}
    ids = np.array([f"{number}.png" for number in range(images + images // 5)], dtype=object)
    train, test = (f"{folder}/imgs", ids[:images]), (f"{folder}/imgs", ids[images:])
    classes, rng = np.arange(images) % 10, np.random.default_rng(1)
    module = f"{folder}/{list(TRANSFORMS).index(transform)}"
    times = []
    with tempfile.TemporaryDirectory() as cache:
        ours = side == "layertap"
        flow = ImageClassifier(**options, cache=cache) if ours else rampwf.workflows.ImageClassifier(**options)
        for _ in range(FOLDS):
            chosen = rng.permutation(images)[: images * 4 // 5]
            begun = time.perf_counter()
            trained = flow.train_submission(module, train, classes, chosen)
            flow.test_submission(trained, train)
            flow.test_submission(trained, test)
            times.append(time.perf_counter() - begun)
    return times


if __name__ == "__main__":
    main()
