"""The pictures of a run, and the report that gathers them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heads.evaluation.cross_validation import Evaluation
from heads.evaluation.metrics import confusion, per_class, per_kind, per_label, reliability
from heads.evaluation.tasks import task_of
from heads.registry import TASKS
from layertap.analysis.projections import project
from layertap.report import maps, panels, plots, run_report
from layertap.report.background import Picture, draw
from layertap.report.heat_maps import overlay
from layertap.report.mistakes import Confusions, confusions
from layertap.run_config import RunConfig
from transfer.data.datasets import Dataset
from transfer.data.images import decoding_of, thumbnail
from transfer.data.images.pixels import pixels_for

CLASSES, REGRESSION, MULTILABEL, ANOMALIES = TASKS
MISTAKES = {
    CLASSES: "Surest mistakes (look at their labels)",
    REGRESSION: "Furthest from the truth (look at their numbers)",
    MULTILABEL: "Surest mistakes (look at their labels)",
    ANOMALIES: "Surest mistakes (look at their labels)",
}
WHERE = "Most anomalous images, and where"
MOST_WHERE, WHERE_IN_A_ROW = 12, 4  # anomalies, and those in a row, each beside its heat map
# Pictures that the page shows better: their cells open images, and their images have neighbors.
REPLACED = ("Confusion", MISTAKES[CLASSES])
WORDS = {
    "extraction_seconds": "extraction (s)",
    "fit_seconds": "fit (s)",
    "recipe": "version of the pixel recipe",
    "dtype": "stored as",
    "cv": "folds",
    "valid": "share held out",
    "test": "share of the test",
    "draws": "draws of few labels",
}


@dataclass(frozen=True, eq=False)
class RunResults:
    """What the pictures of a run are drawn from.

    Attributes
    ----------
    title : str
        What the pictures call the data set.
    head : str
        What the pictures call the head.
    dataset : Dataset
        The images, without those that were left out.
    targets : ndarray
        The truth of all images (see `heads.evaluation.tasks`).
    names : tuple of str
        The names of the classes, labels or numbers.
    features : array of shape (n * views, ...)
        The features that the head reads.
    evaluation : Evaluation
    metrics : dict
        As `metrics.json` holds them.
    config : RunConfig
    fitted : Head, optional
        The head of the run, which draws heat maps if it finds anomalies.
    """

    title: str
    head: str
    dataset: Dataset
    targets: np.ndarray
    names: tuple[str, ...]
    features: Any
    evaluation: Evaluation
    metrics: dict[str, Any]
    config: RunConfig
    fitted: Any = None

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.config.task.name if self.config.task else CLASSES


Drawn = dict[str, tuple[str, Picture]]  # by heading: the name of the file, and the picture


def pictures_of(results: RunResults, feature_map: Picture | None = None) -> Drawn:
    """The pictures of a run, which are being drawn.

    Parameters
    ----------
    results : RunResults
    feature_map : Picture, optional
        See `map_of_features`.
    """
    drawn = _scores(results)
    if (where := _where(results)) is not None:
        drawn[WHERE] = "where.png", where
    if (mistakes := _mistakes(results)) is not None:
        drawn[MISTAKES[results.task]] = "mistakes.png", mistakes
    if feature_map is not None:
        drawn["Map of the features"] = "map.png", feature_map
    return drawn


def illustrate(folder: Path, results: RunResults, drawn: Drawn, training: Path | None = None) -> None:
    """Write pictures into the folder of a run, and ``report.html``.

    Parameters
    ----------
    drawn
        See `pictures_of`.
    training : Path, optional
        Another picture of the report, of how the net was trained.
    """
    pictures = {}
    for heading, (name, picture) in drawn.items():
        pictures[heading] = folder / name
        pictures[heading].write_bytes(picture.png())
    if training is not None:
        pictures["Training"] = training
    _write_report(folder, results, pictures)


def map_of_features(features: Any, labels: np.ndarray, data: str, method: str, seed: int, views: int = 1) -> Picture:
    """A map of the features of labelled images, which is being drawn.

    Parameters
    ----------
    features : array of shape (n * views, ...)
    labels : ndarray of shape (n,)
    data : str
        What the picture calls the data set.
    method : {'pca', 'umap'}
    seed : int
    """
    projection = project(features, method, seed, views)
    return draw(maps.feature_map, projection, labels, f"{data}: features", seed)


def _scores(results: RunResults) -> Drawn:
    """What the scores of a task look like."""
    truth, predicted = results.evaluation.held_out()
    title, names = f"{results.title}: images held out", results.names
    drawn: Drawn = {}
    if results.task == CLASSES:
        classes = np.array(names)
        measured = reliability(classes, truth, np.concatenate(results.evaluation.outputs))
        counts = confusion(classes, truth, predicted)
        drawn["Confusion"] = "confusion.png", draw(plots.confusion, names, counts, title)
        drawn["Reliability"] = "reliability.png", draw(plots.reliability, measured, title)
    if results.task == REGRESSION:
        drawn["Predicted and true"] = "predicted.png", draw(plots.predictions, truth, predicted, names, title)
    if results.task == ANOMALIES:
        scores = np.concatenate(results.evaluation.outputs)
        drawn["Anomaly scores"] = "scores.png", draw(plots.anomaly_scores, scores, truth, names[0], title)
    if points := results.metrics.get("curve"):
        curve = {results.head: [(point["accuracy"]["mean"], point["accuracy"]["std"]) for point in points]}
        numbers = [point["per_class"] for point in points]
        drawn["Learning curve"] = "curve.png", draw(plots.learning_curves, numbers, curve, results.title)
    return drawn


def _write_report(folder: Path, results: RunResults, pictures: dict[str, Path]) -> None:
    """Write ``report.html``."""
    config, metrics, found = results.config, results.metrics, _confusions(results)
    spec = json.loads(config.parts[0].spec.to_json())
    spec["layer"] = list(dict.fromkeys(part.spec.layer for part in config.parts))
    what: dict[str, Any] = {results.task: len(results.names)}
    if results.task == ANOMALIES:
        what = {"normal": results.names[0], ANOMALIES: int(results.targets.sum())}
    run_report.write_report(
        folder,
        f"{results.title}: {results.head}",
        {**metrics["summary"], **({"test": metrics["test"]} if "test" in metrics else {})},
        {
            "Features": _in_words({**spec, "extraction_seconds": metrics["extraction_seconds"]}),
            "Head": _in_words(config.head.to_json()),
            "Protocol": _in_words(config.protocol or {}),
            "Data": {
                "name": results.title,
                "images": len(results.targets),
                **what,
                "skipped": len(config.skipped or ()),
            },
        },
        _scores_of_each(results),
        pictures if found is None else {name: file for name, file in pictures.items() if name not in REPLACED},
        mistakes=found,
    )


def _confusions(results: RunResults) -> Confusions | None:
    if results.task != CLASSES:
        return None
    views = len(results.features) // max(1, len(results.dataset))
    decoding = decoding_of(results.config.parts[0].spec)
    return confusions(results.dataset, results.names, results.evaluation, results.features, views, decoding)


def _in_words(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as people read them: parameters by their names, and without what was not set."""
    flat = {**settings, **settings.get("params", {})}
    return {WORDS.get(name, name): value for name, value in flat.items() if value is not None and name != "params"}


def _scores_of_each(results: RunResults) -> list[dict[str, Any]]:
    """The scores of each class or label; none for numbers."""
    truth, predicted = results.evaluation.held_out()
    if results.task == REGRESSION:
        return []
    if results.task == ANOMALIES:
        labels = results.dataset.labels
        assert labels is not None
        return per_kind(labels[np.concatenate(results.evaluation.rows)], truth, predicted)
    if results.task == MULTILABEL:
        return per_label(results.names, truth, predicted)
    names = np.array(results.names)
    _, once = np.unique(np.concatenate(results.evaluation.rows), return_index=True)  # repeats hold an image out again
    counts = [int((truth[once] == name).sum()) for name in names]
    return [
        {**scores, "support": count} for scores, count in zip(per_class(names, truth, predicted), counts, strict=True)
    ]


def _mistakes(results: RunResults) -> Picture | None:
    """The images that were mistaken most, if any was."""
    evaluation = results.evaluation
    rows, outputs = np.concatenate(evaluation.rows), np.concatenate(evaluation.outputs)
    truth, predicted = evaluation.held_out()
    task = task_of(results.targets)
    wrong = task.worst(task.all_classes(results.targets), truth, outputs, 4 * panels.MOST_MISTAKES)
    _, first = np.unique(rows[wrong], return_index=True)  # an image may have been mistaken in several splits
    wrong = wrong[np.sort(first)][: panels.MOST_MISTAKES]
    if not len(wrong):
        return None
    decoding = decoding_of(results.config.parts[0].spec)
    images = [thumbnail(results.dataset.sources[row], panels.LARGEST, decoding) for row in rows[wrong]]
    lines = [_true_and_predicted(results, truth[one], predicted[one], outputs[one]) for one in wrong]
    captions = [panels.caption(results.dataset.ids[row], *pair) for row, pair in zip(rows[wrong], lines, strict=True)]
    title = f"{results.title}: {MISTAKES[results.task].partition(' (')[0].lower()}"
    return draw(panels.mistakes, images, captions, title)


def _where(results: RunResults) -> Picture | None:
    """The anomalies with the highest scores, each beside its heat map; normal images were learned, and have no heat."""
    if results.task != ANOMALIES or results.fitted is None:
        return None
    rows, first = np.unique(np.concatenate(results.evaluation.rows), return_index=True)
    scores = np.concatenate(results.evaluation.outputs).reshape(-1)[first]
    worst = np.argsort(-scores, kind="stable")
    worst = worst[np.asarray(results.targets, bool)[rows[worst]]][:MOST_WHERE]
    if not len(worst):
        return None
    spec, dataset = results.config.parts[0].spec, results.dataset
    views = len(results.features) // len(dataset)  # of which the first is the plain image
    heat_maps = results.fitted.anomaly_maps(results.features[rows[worst] * views], spec.size)
    images, captions = [], []
    for row, score, heat in zip(rows[worst], scores[worst], heat_maps, strict=True):
        name = dataset.ids[row]
        pixels = pixels_for(dataset.sources[row].load()[1], spec, name)
        images += [pixels, overlay(pixels, heat)]
        captions += [panels.caption(name), f"score {score:.2f}"]
    return draw(panels.panel, images, captions, f"{results.title}: {WHERE.lower()}", 2 * WHERE_IN_A_ROW)


def _true_and_predicted(results: RunResults, truth: Any, predicted: Any, outputs: Any) -> list[str]:
    """Two lines about an image: the truth, and what was predicted."""
    if results.task == CLASSES:
        return [truth, f"→ {predicted} {outputs.max():.2f}"]
    if results.task == ANOMALIES:
        return ["anomaly" if truth else results.names[0], f"→ score {outputs:.2f}"]
    text = _numbers if results.task == REGRESSION else lambda member: _labels(member, results.names)
    return [text(truth), f"→ {text(predicted)}"]


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def _labels(member: np.ndarray, names: tuple[str, ...]) -> str:
    return ", ".join(name for name, has in zip(names, member, strict=True) if has) or "none"
