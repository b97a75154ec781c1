"""The demo: a net that has only ever seen letters reads handwritten digits. Run: make demo.

Features of scikit-learn's 1,797 real digits are compared for three sources: glyphnet as it ships,
the same net with random weights, and the raw pixels. Features are judged by a ridge head, and pixels by
a logistic one, which suits them better: once by 3-fold cross-validation, and once with 10 labelled
images per class (10 random draws, all other images are for testing). Where there are several readouts,
training rows alone decide which one counts.

Then photographs, of which glyphnet has never seen any: from one labelled piece of each of 14 photographs,
heads tell which photograph the other pieces are from. EfficientNet-Lite0, which was trained on photographs,
is compared with its twin with random weights, with glyphnet and with pixels, all by a ridge head.

Features are kept in ``features``, pictures and scores go to ``demo``.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from examples.photographs import pieces
from feature_cache import FeatureCache
from heads import make_head
from heads.evaluation.cross_validation import Evaluation, evaluate
from heads.evaluation.metrics import confusion
from heads.evaluation.protocol import Protocol
from layertap.commands.terminal.output import print_table, time_text
from layertap.progress.shown import ShownProgress
from layertap.report import panels, plots
from layertap.report.background import Picture, draw
from transfer.data.datasets import Dataset, load
from transfer.data.images import to_pixels
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

READOUTS = {"flatten": ("block4_pool",), "avg": ("block3_pool", "block4_pool")}  # layers by pooling
PER_CLASS = (1, 2, 5, 10, 20, 50)
DRAWS, CURVE_DRAWS = 10, 5
OUT = Path("demo")


@dataclass(frozen=True)
class Source:
    """Somewhere that features come from: a name, an array for each readout, the head and its parameters."""

    name: str
    features: Mapping[str, Any]
    head: str = "ridge"
    params: Mapping[str, Any] = field(default_factory=dict)


def main() -> None:
    start = time.perf_counter()
    OUT.mkdir(exist_ok=True)
    digits = load("digits")
    sources, groups = extract_all(digits)
    assert digits.labels is not None
    pictures = {"digits.png": panel(digits)}  # another process draws them

    photographs = pieces(OUT / "pieces.npz")
    assert photographs.labels is not None
    of_photographs, groups_of_photographs = extract_photographs(photographs)
    rows = []
    scores: dict[str, Any] = {}
    chosen: dict[str, str] = {}
    of_digits = (sources, digits.labels, groups)
    for title, protocol, (judged, labels, together) in (
        ("digits: 3-fold cross-validation", Protocol(cv=3), of_digits),
        ("digits: 10 labelled images per class", Protocol(per_class=10, draws=DRAWS), of_digits),
        (
            "photographs: 1 labelled piece of each",
            Protocol(per_class=1, draws=DRAWS),
            (of_photographs, photographs.labels, groups_of_photographs),
        ),
    ):
        results = {source.name: judge(source, labels, together, protocol) for source in judged}
        scores[title] = {name: result.summary()["valid"] for name, result in results.items()}
        rows += [(title, *[""] * 5), *(("  " + name, *cells(summary)) for name, summary in scores[title].items())]
        if judged is sources:
            chosen = {
                name: Counter(fold["features"] for fold in result.folds).most_common(1)[0][0]
                for name, result in results.items()
            }
        if protocol.cv:
            classes = np.unique(labels)
            counts = confusion(classes, *results["glyphnet"].held_out())
            pictures["confusion.png"] = draw(
                plots.confusion, classes.tolist(), counts, "glyphnet, 3-fold: digits held out"
            )
    print()
    print_table(("", "accuracy", "balanced acc.", "log-loss", "fit (s)", "predict (s)"), rows)

    # The readout that most draws of ten labels per class chose, by their training rows.
    curves = {source.name: curve(source, chosen[source.name], digits.labels, groups) for source in sources}
    title = "Handwritten digits: how many labels does it take?"
    pictures["labels.png"] = draw(plots.learning_curves, PER_CLASS, curves, title)
    for name, picture in pictures.items():
        (OUT / name).write_bytes(picture.png())
    (OUT / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(
        f"\n{time_text(time.perf_counter() - start)} in all. Pictures: {', '.join(map(str, sorted(OUT.glob('*.png'))))}"
    )


def extract_all(digits: Dataset) -> tuple[list[Source], np.ndarray]:
    """Features of both nets, computed if the cache lacks them, and the raw pixels."""
    sources = []
    for name, net in (("glyphnet", Net("glyphnet")), ("random weights", Net("glyphnet", "none"))):
        requests = [FeatureRequest(net, layers, pooling) for pooling, layers in READOUTS.items()]
        features, groups = extract_one(digits, name, requests)
        sources.append(Source(name, features))
    return [*sources, Source("raw pixels", {"pixels": pixels_of(digits, 8)}, "logistic", {"C": 1.0})], groups


def extract_photographs(photographs: Dataset) -> tuple[list[Source], np.ndarray]:
    """Features of the nets that are compared on photographs, and the raw pixels."""
    nets = {"efficientnetlite0": Net("efficientnetlite0"), "the same, random weights": Net("efficientnetlite0", "none")}
    sources = []
    for name, net in (nets | {"glyphnet": Net("glyphnet")}).items():
        features, groups = extract_one(photographs, name, [FeatureRequest(net)])
        sources.append(Source(name, features))
    return [*sources, Source("raw pixels", {"pixels": pixels_of(photographs, 32)})], groups


def extract_one(dataset: Dataset, name: str, requests: Sequence[FeatureRequest]) -> tuple[dict[str, Any], np.ndarray]:
    """The features of a net by layer and pooling, and the groups of equal images."""
    cache = FeatureCache(Path("features"))
    with ShownProgress("images") as progress:
        reports = [extract(dataset, request, cache, progress=progress) for request in requests]
    computed, reused = (sum(getattr(report, key) for report in reports) for key in ("rows_computed", "rows_reused"))
    print(f"{name}: {computed} rows computed, {reused} reused in {time_text(sum(r.seconds for r in reports))}")
    features = {}
    for request in requests:
        cached = stored_features(dataset, request, cache)
        features |= {f"{layer} {request.pooling}": rows for layer, rows in cached.features.items()}
    return features, cached.groups


def pixels_of(dataset: Dataset, side: int) -> np.ndarray:
    """The pixels of all images, of shape (n, side * side * channels), float32."""
    pixels = np.stack([to_pixels(source.load()[1], (side, side)) for source in dataset.sources])
    return pixels.reshape(len(dataset), -1).astype(np.float32)


def judge(source: Source, labels: np.ndarray, groups: np.ndarray, protocol: Protocol) -> Evaluation:
    splits = protocol.splits(labels, groups)
    return evaluate(source.features, labels, groups, splits, lambda: make_head(source.head, dict(source.params)))


def curve(source: Source, readout: str, labels: np.ndarray, groups: np.ndarray) -> list[tuple[float, float]]:
    """Mean and deviation of the accuracy for each number of labels, from one readout."""
    only = replace(source, features={readout: source.features[readout]})
    points = []
    for number in PER_CLASS:
        result = judge(only, labels, groups, Protocol(per_class=number, draws=CURVE_DRAWS))
        accuracy = result.summary()["valid"]["accuracy"]
        points.append((accuracy["mean"], accuracy["std"]))
    return points


def panel(digits: Dataset) -> Picture:
    """A picture of three of each digit, as the net sees them."""
    assert digits.labels is not None
    chosen = [i for label in np.unique(digits.labels) for i in np.flatnonzero(digits.labels == label)[:3]]
    chosen = [chosen[3 * column + row] for row in range(3) for column in range(10)]
    images = [to_pixels(digits.sources[i].load()[1], (32, 32)) for i in chosen]
    return draw(panels.panel, images, [digits.labels[i] for i in chosen], "Digits as the net sees them: 32 x 32")


def cells(summary: dict[str, dict[str, float]]) -> list[str]:
    digits = {"accuracy": 4, "balanced_accuracy": 4, "nll": 4, "fit_seconds": 3, "predict_seconds": 3}
    return [f"{summary[key]['mean']:.{places}f}" for key, places in digits.items()]


if __name__ == "__main__":
    main()
