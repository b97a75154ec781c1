"""What nets and heads make of real images: digits, clothes, and drawings and photographs by subject, with few labels.

Run: python -m benchmarks.quality --folder FOLDER. Data sets (see `benchmarks.real_images`), features and results are
kept in that folder, and nothing in it is computed again. `sweep` judges the features of glyphnet, those of
EfficientNet-Lite0 with its own and with random weights, and the pixels themselves, at 28 x 28 (digits and clothes) or
32 x 32, with several heads, on a few labels of each class, drawn several times; all other images are held out. For each
net and head the table has the mean accuracy with the layer that is best on the held-out images, the beginning of that
layer's name, and the seconds of a fit. Fine-tuning is judged by `benchmarks.tuning`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.real_images import NAMES, real_images
from benchmarks.setting import setting

HEADS = ("auto", "ridge", "linear", "lda", "knn")
COUNTS = {"mnist": (5, 50), "fashion": (5, 50), "stamps": (5, 20)}  # labels of a class
LAYERS = ("block6a_expand_activation", "top_activation")
NETS: dict[str, tuple[str, str | None, tuple[str, ...]]] = {  # the net, its weights, and its layers
    "glyphnet": ("glyphnet", None, ("block3_pool", "block4_pool")),
    "EfficientNet-Lite0": ("efficientnetlite0", None, LAYERS),
    "the same, random weights": ("efficientnetlite0", "none", LAYERS),
    "pixels": ("pixels", None, ("pixels",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of data sets, features and results")
    parser.add_argument("--data", action="append", choices=NAMES, help="(default: all)")
    parser.add_argument("--draws", type=int, default=3, help="(default: 3)")
    parser.add_argument("--jobs", type=int, default=1, help="(default: 1)")
    args = parser.parse_args()
    print(setting("keras", "openvino", "scikit-learn"), end="")
    print(f"; `{' '.join(['python -m benchmarks.quality', *sys.argv[1:]])}`\n", flush=True)
    columns = ("data", "labels of a class", "features", "extraction, s", *HEADS)
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for data in args.data or NAMES:
        for count in COUNTS[data]:
            for name in NETS:
                print(f"| {data} | {count} | {name} | {' | '.join(cells(args, data, name, count))} |", flush=True)


def cells(args: argparse.Namespace, data: str, name: str, count: int) -> list[str]:
    """The seconds of the extraction, and for each head the accuracy of its best layer and the seconds of a fit."""
    import layertap as lt
    from feature_cache.lineage import extraction_seconds

    net, weights, layers = NETS[name]
    where, cache = real_images(data, args.folder), args.folder / "features"
    if net == "pixels":
        net = str(pixels(args.folder, 32 if data == "stamps" else 28))
    features = lt.extract(where, lt.Net(net, weights), layers=layers, cache=cache, progress=False)
    seconds = max(extraction_seconds(features[layer]) or 0.0 for layer in layers)  # all come from one pass
    out = args.folder / f"sweep-{data}-{name}-{count}"
    table = lt.sweep(
        where, [net], HEADS, weights=weights, layers=layers, per_class=count, draws=args.draws, cache=cache,
        jobs=args.jobs, out=out, progress=False,
    )  # fmt: skip
    best = [next(row for row in table.rows if row["head"] == head) for head in HEADS]  # rows begin with the best
    texts = [f"{100 * row['accuracy']:.1f} {row['features'][:6]} {row['fit_seconds']:.2f}" for row in best]
    return [f"{seconds:.0f}", *texts]


def pixels(folder: Path, side: int) -> Path:
    """A net that returns the pixels of its input."""
    import keras

    file = folder / f"pixels-{side}.keras"
    if not file.exists():
        keras.Sequential([keras.Input((side, side, 3)), keras.layers.Flatten(name="pixels")]).save(file)
    return file


if __name__ == "__main__":
    main()
