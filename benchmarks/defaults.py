"""The cheap heads on features of real images, by labels per class: the evidence for the head that is the default.

Run: python -m benchmarks.defaults --folder FOLDER. Data sets and features are kept in that folder, and a result that is
there already is not computed again. Heads are fitted to a number of labelled images of each class, drawn several times,
or to a skewed draw of as many images, in which the classes have 4 to 1/4 times that number; a class never gives more
than half its images. They are scored on others in the same proportions, `HELD_OUT` at most. The default was chosen on
`CHOOSE`; with --judge the data are those that had no part in that choice. When it was changed, on account of these as
well, it was judged with --unseen, on those of `benchmarks.judging_images`, and after the last change, which
Fashion-MNIST and all layers of the stamps had a part in, with --later, on new ones there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import judging_images
from benchmarks.real_images import NAMES, real_images
from benchmarks.setting import setting

HEADS = ("auto", "logistic", "linear", "ridge", "lda", "linear-svm", "svm-rbf", "prototypes", "knn")
CHOOSE = (
    ("mnist", "glyphnet", "block4_pool"),
    ("mnist", "efficientnetlite0", "top_activation"),
    ("stamps", "efficientnetlite0", "block6a_expand_activation"),
    ("stamps", "glyphnet", "block3_pool"),
)
JUDGE = (
    ("fashion", "glyphnet", "block3_pool"),
    ("fashion", "efficientnetlite0", "top_activation"),
    ("fashion", "efficientnetlite0", "block6a_expand_activation"),
    ("stamps", "efficientnetlite0", "top_activation"),
    ("digits", "glyphnet", "block4_pool"),
    ("digits", "efficientnetlite0", "top_activation"),
)
UNSEEN = (
    ("faces", "efficientnetlite0", "top_activation"),
    ("faces", "glyphnet", "block4_pool"),
    ("places", "efficientnetlite0", "top_activation"),
    ("letters", "efficientnetlite0", "block6a_expand_activation"),
    ("letters", "glyphnet", "block4_pool"),
    ("shapes", "efficientnetlite0", "top_activation"),
    ("blobs", "efficientnetlite0", "block6a_expand_activation"),
    ("blobs", "glyphnet", "block3_pool"),
)
LATER = (
    ("turned", "efficientnetlite0", "top_activation"),
    ("damaged", "efficientnetlite0", "block6a_expand_activation"),
    ("textures", "efficientnetlite0", "top_activation"),
    ("textures", "glyphnet", "block3_pool"),
    ("markers", "efficientnetlite0", "block6a_expand_activation"),
    ("markers", "glyphnet", "block4_pool"),
    ("dots", "efficientnetlite0", "block6a_expand_activation"),
    ("dots", "glyphnet", "block3_pool"),
)
HELD_OUT = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of data sets, features and results")
    parser.add_argument("--judge", action="store_true", help="the data that had no part in the choice")
    parser.add_argument("--unseen", action="store_true", help="other data still, which were made after the choice")
    parser.add_argument("--later", action="store_true", help="data that were made after the last change")
    parser.add_argument("--head", action="append", help="(default: all cheap heads)")
    parser.add_argument("--per-class", type=int, nargs="*", default=[2, 5, 20, 50, 200, 400], help="labels of a class")
    parser.add_argument("--draws", type=int, default=3, help="(default: 3)")
    args = parser.parse_args()
    print(setting("numpy", "scikit-learn"), end="")
    print(f"; `{' '.join(['python -m benchmarks.defaults', *sys.argv[1:]])}`\n", flush=True)
    heads = args.head or list(HEADS)
    results: list[dict[str, Any]] = []
    for source in LATER if args.later else UNSEEN if args.unseen else JUDGE if args.judge else CHOOSE:
        results += measure(args.folder, source, heads, args.per_class, args.draws)
    print_table(results, heads)


def measure(
    folder: Path, source: tuple[str, str, str], heads: list[str], counts: list[int], draws: int
) -> list[dict[str, Any]]:
    """The scores of each head on each draw, by features and labels."""
    kept = folder / "defaults.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    known = {json.dumps(result["key"]): result for result in map(json.loads, lines)}
    results = []
    X, y = features_of(folder, source)
    for count, skewed, draw, train, held_out in draws_of(y, counts, draws):
        for head in heads:
            key = [*source, count, skewed, draw, head]
            if json.dumps(key) not in known:
                result = {"key": key, **fitted(head, X[train], y[train], X[held_out], y[held_out])}
                with kept.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                known[json.dumps(key)] = result
            results.append(known[json.dumps(key)])
    return results


def features_of(folder: Path, source: tuple[str, str, str]) -> tuple[np.ndarray, np.ndarray]:
    """The features of a layer, (n, d), and the classes, (n,)."""
    import layertap as lt

    data, net, layer = source
    where: Path | str = data
    if data in NAMES:
        where = real_images(data, folder)
    elif data in judging_images.NAMES:
        where = judging_images.judging_images(data, folder)
    dataset = lt.load_dataset(where)
    features = lt.extract(dataset, net, layers=[layer], cache=folder / "features", progress=False)
    return np.asarray(features[layer][:]), np.asarray(dataset.labels)


def draws_of(y: np.ndarray, counts: list[int], draws: int) -> Iterator[tuple[int, bool, int, np.ndarray, np.ndarray]]:
    """Labels of a class, whether the draw is skewed, its number, and positions of rows to train on and to score."""
    classes, member = np.unique(y, return_inverse=True)
    have = np.bincount(member)
    for count in counts:
        if (have < 2 * count).sum() > len(classes) // 2:
            continue
        for skewed in (False, True) if count >= 20 else (False,):
            for draw in range(draws):
                random = np.random.default_rng((count, skewed, draw))
                wanted = np.full(len(classes), float(count))
                if skewed:
                    wanted *= 4.0 ** random.permutation(np.linspace(-1, 1, len(classes)))
                    wanted *= count * len(classes) / wanted.sum()
                each = np.clip(wanted.round().astype(int), 2, have // 2)
                order = random.permutation(len(y))
                train = np.concatenate([order[member[order] == k][: each[k]] for k in range(len(classes))])
                rest = [order[member[order] == k][each[k] :] for k in range(len(classes))]
                scale = min(min(len(rows) / wish for rows, wish in zip(rest, each, strict=True)), HELD_OUT / each.sum())
                held_out = np.concatenate([rows[: round(scale * n)] for rows, n in zip(rest, each, strict=True)])
                yield count, skewed, draw, np.sort(train), np.sort(held_out)


def fitted(name: str, X: np.ndarray, y: np.ndarray, X_new: np.ndarray, y_new: np.ndarray) -> dict[str, float]:
    """The scores of a head, and the seconds that its fit took."""
    from heads.evaluation.metrics import score
    from heads.registry import make_head

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that have not converged
        head = make_head(name).fit(X, y)
    seconds = time.perf_counter() - start
    scores = score(head.classes_, y_new, head.predict_proba(X_new))
    return {"accuracy": scores["accuracy"], "nll": scores["nll"], "ece": scores["ece"], "seconds": seconds}


def print_table(results: list[dict[str, Any]], heads: list[str]) -> None:
    """Accuracy and calibration error of each head by features and labels, their means over features, and over all."""
    cells: dict[tuple[Any, ...], dict[str, dict[str, float]]] = {}
    for *source, count, skewed, _, head in (result["key"] for result in results):
        same = [one for one in results if one["key"][:5] == [*source, count, skewed] and one["key"][6] == head]
        labels = f"{count} skewed" if skewed else str(count)
        cells.setdefault((", ".join(source), labels), {})[head] = means(same)
    print(f"| features | labels of a class | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 2)}")
    for (source, labels), of_heads in cells.items():
        print(f"| {source} | {labels} | {' | '.join(map(text, of_heads.values()))} |")
    print(f"\n| labels of a class | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for labels in dict.fromkeys(key[1] for key in cells):
        of_labels = [of_heads for key, of_heads in cells.items() if key[1] == labels]
        print(f"| {labels} | {' | '.join(text(means([one[head] for one in of_labels])) for head in heads)} |")
    columns = "points below the best, mean", "worst", "log-loss", "calibration error", "seconds, median", "most"
    print(f"\n| head | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for head in heads:
        best = [max(one["accuracy"] for one in of_heads.values()) for of_heads in cells.values()]
        below = [100 * (most - of_heads[head]["accuracy"]) for most, of_heads in zip(best, cells.values(), strict=True)]
        mean, seconds = means([one[head] for one in cells.values()]), [one[head]["seconds"] for one in cells.values()]
        scores = f"{np.mean(below):.2f} | {max(below):.2f} | {mean['nll']:.3f} | {mean['ece']:.3f}"
        print(f"| {head} | {scores} | {np.median(seconds):.2f} | {max(seconds):.2f} |")


def means(scores: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of each score."""
    return {name: float(np.mean([one[name] for one in scores])) for name in ("accuracy", "nll", "ece", "seconds")}


def text(scores: dict[str, float]) -> str:
    """The accuracy in percent, and the calibration error."""
    return f"{100 * scores['accuracy']:.1f} / {scores['ece']:.3f}"


if __name__ == "__main__":
    main()
