"""The customary layer of a net against the last map of the stage before, and poolings: the evidence for what is read.

Run: python -m benchmarks.layers --folder FOLDER. The default head is fitted to labelled images of each class, which are
drawn twice, and judged on 1,000 others at most; all features have the same draws (see `benchmarks.defaults`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.defaults import draws_of, fitted
from benchmarks.real_images import real_images
from benchmarks.setting import setting

LAYERS = {
    "efficientnetlite0": ("top_activation", "block6a_expand_activation"),
    "glyphnet": ("block4_pool", "block3_pool"),
}
DATA, POOLS, JOINED = ("stamps", "fashion", "mnist"), ("avg", "max"), "avg+max"
COUNTS, DRAWS, SCORED = [5, 20, 50], 2, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of data sets and features")
    args = parser.parse_args()
    print(setting("numpy", "scikit-learn"), end="")
    print(f"; `{' '.join(['python -m benchmarks.layers', *sys.argv[1:]])}`\n", flush=True)
    ways = [f"{which} {pool}" for pool in (*POOLS, JOINED) for which in ("last", "before")]
    print(f"| data | net | labels of a class | {' | '.join(ways)} |\n|{'---|' * (len(ways) + 3)}")
    for data in DATA:
        for net in LAYERS:
            features, y = features_of(args.folder, data, net)
            for count in COUNTS:
                accuracies = [
                    [fitted("auto", X[train], y[train], X[scored], y[scored])["accuracy"] for X in features]
                    for _, skewed, _, train, held_out in draws_of(y, [count], DRAWS)
                    for scored in [held_out[:SCORED]]
                    if not skewed
                ]
                if accuracies:  # the stamps are too few for 50 labels
                    means = (f"{100 * mean:.1f}" for mean in np.mean(accuracies, axis=0))
                    print(f"| {data} | {net} | {count} | {' | '.join(means)} |", flush=True)


def features_of(folder: Path, data: str, net: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The features of both layers by each pooling, of shape (n, d), and the classes."""
    import layertap as lt

    dataset, pooled = lt.load_dataset(real_images(data, folder)), []
    for pool in POOLS:
        options: dict[str, Any] = {"layers": LAYERS[net], "pool": pool, "cache": folder / "features", "progress": False}
        found = lt.extract(dataset, net, **options)
        pooled.append([np.asarray(found[layer][:]) for layer in LAYERS[net]])
    joined = [np.hstack(both) for both in zip(*pooled, strict=True)]
    return [*pooled[0], *pooled[1], *joined], np.asarray(dataset.labels)


if __name__ == "__main__":
    main()
