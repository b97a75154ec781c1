"""The whole command, from a cold start, against the whole process of a Keras tutorial.

Run: python -m benchmarks.start. Both compute the pooled features of the same JPEG files with the same net, with random
weights. Ours is `layertap extract`: cold, with a net that was never used before, and warm, with the converted net in
its store; no features are stored. The peer is the way of Keras's tutorials, ``image_dataset_from_directory`` and
``model.predict``. Each runs in a fresh process, one after the other; medians are reported.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.setting import setting

NETS = ("MobileNetV2", "EfficientNetB0", "ResNet50")
TUTORIAL = """
import sys, keras
images = keras.utils.image_dataset_from_directory("photos", image_size=(224, 224), shuffle=False, verbose=False)
net = getattr(keras.applications, sys.argv[1])(
    weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
net.predict(images, verbose=0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600, help="(default: 600)")
    parser.add_argument("--runs", type=int, default=3, help="of each side (default: 3)")
    parser.add_argument("--net", action="append", choices=NETS, help="(default: all)")
    args = parser.parse_args()
    print(setting("keras", "tensorflow", "openvino"), end="")
    command = " ".join(["python -m benchmarks.start", *sys.argv[1:]])
    print(f"; {args.images} JPEGs of 500 x 375; median of {args.runs} runs; `{command}`\n")
    columns = ("net", "cold, s", "warm, s", "Keras tutorial, s", "cold, times as fast", "warm, times as fast")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), args.images)
        for net in args.net or NETS:
            runs = [measure(net, Path(folder)) for _ in range(args.runs)]
            cold, warm, tutorial = (statistics.median(side) for side in zip(*runs, strict=True))
            ratios = [statistics.median(run[2] / run[side] for run in runs) for side in (0, 1)]
            numbers = [f"{number:.1f}" for number in (cold, warm, tutorial)] + [f"{ratio:.2f}" for ratio in ratios]
            print(f"| {' | '.join([net, *numbers])} |", flush=True)


def write_photos(folder: Path, count: int) -> None:
    """Parts of scikit-learn's two photographs, with noise, in a folder for each of four classes."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(count):
        photograph = photographs[number % 2]
        x, y = rng.integers(0, photograph.width - 300), rng.integers(0, photograph.height - 225)
        part = np.asarray(photograph.resize((500, 375), box=(x, y, x + 300, y + 225)), np.int16)
        noisy = (part + rng.integers(-9, 10, part.shape)).clip(0, 255).astype(np.uint8)
        file = folder / "photos" / f"class {number % 4}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(file, quality=88)


def measure(net: str, folder: Path) -> tuple[float, float, float]:
    """The seconds of the command with a cold and with a warm store, and of the tutorial."""
    ours = [sys.executable, "-m", "cli", "extract", "photos", "--net", net.lower(), "--weights", "none", "--quiet"]
    shutil.rmtree(folder / "xdg", ignore_errors=True)
    seconds = []
    for command in (ours, ours, [sys.executable, "-c", TUTORIAL, net]):
        shutil.rmtree(folder / "features", ignore_errors=True)
        variables = {"XDG_CACHE_HOME": str(folder / "xdg"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    cold, warm, tutorial = seconds
    return cold, warm, tutorial


if __name__ == "__main__":
    main()
