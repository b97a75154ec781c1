"""The pictures of a run, and the report that gathers them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heads.evaluation.cross_validation import Evaluation
from heads.evaluation.metrics import confusion, per_class, per_label, reliability
from heads.evaluation.tasks import task_of
from heads.registry import TASKS
from layertap.report import maps, panels, plots, run_report
from layertap.run_config import RunConfig
from transfer.data.datasets import Dataset
from transfer.data.images import decoding_of, thumbnail

CLASSES, REGRESSION, MULTILABEL = TASKS
MISTAKES = {
    CLASSES: "Surest mistakes (look at their labels)",
    REGRESSION: "Furthest from the truth (look at their numbers)",
    MULTILABEL: "Surest mistakes (look at their labels)",
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

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.config.task.name if self.config.task else CLASSES


def illustrate(folder: Path, results: RunResults, *, map_method: str | None = "pca", seed: int = 0) -> None:
    """Draw the pictures of a run into `folder`, and write ``report.html`` there.

    Parameters
    ----------
    folder : Path
        The folder of the run. A picture ``training.png`` in it becomes a part of the report.
    results : RunResults
    map_method : {'pca', 'umap'}, optional
        How the features are drawn in two dimensions; None draws no map.
    seed : int
        The seed of the map.
    """
    pictures: dict[str, Path] = {}

    def draw(heading: str, name: str, drawing: Callable[..., None], *details: Any) -> None:
        pictures[heading] = folder / name
        drawing(folder / name, *details)

    truth, predicted = results.evaluation.held_out()
    _draw_scores(results, truth, predicted, draw)
    if (folder / "training.png").exists():
        pictures["Training"] = folder / "training.png"
    if _draw_mistakes(folder / "mistakes.png", results):
        pictures[MISTAKES[results.task]] = folder / "mistakes.png"
    if results.task == CLASSES and map_method:
        views = results.config.views.count if results.config.views else 1
        title = f"{results.title}: features"
        details = results.features, results.targets, title, map_method, seed, views
        draw("Map of the features", "map.png", maps.feature_map, *details)
    _write_report(folder, results, _scores_of_each(results, truth, predicted), pictures)


def _draw_scores(results: RunResults, truth: np.ndarray, predicted: np.ndarray, draw: Callable[..., None]) -> None:
    """Draw what the scores of a task look like."""
    title, names = f"{results.title}: images held out", results.names
    if results.task == CLASSES:
        classes = np.array(names)
        measured = reliability(classes, truth, np.concatenate(results.evaluation.outputs))
        draw("Confusion", "confusion.png", plots.confusion, names, confusion(classes, truth, predicted), title)
        draw("Reliability", "reliability.png", plots.reliability, measured, title)
    if results.task == REGRESSION:
        draw("Predicted and true", "predicted.png", plots.predictions, truth, predicted, names, title)
    if points := results.metrics.get("curve"):
        curve = [(point["accuracy"]["mean"], point["accuracy"]["std"]) for point in points]
        counts = [point["per_class"] for point in points]
        draw("Learning curve", "curve.png", plots.learning_curves, counts, {results.head: curve}, results.title)


def _write_report(
    folder: Path, results: RunResults, scores_of_each: list[dict[str, Any]], pictures: dict[str, Path]
) -> None:
    """Write ``report.html``."""
    config, metrics = results.config, results.metrics
    spec = json.loads(config.parts[0].spec.to_json())
    run_report.write_report(
        folder,
        f"{results.title}: {results.head}",
        {**metrics["summary"], **({"test": metrics["test"]} if "test" in metrics else {})},
        {
            "Features": {**spec, "extraction_seconds": metrics["extraction_seconds"]},
            "Head": config.head.to_json(),
            "Protocol": config.protocol or {},
            "Data": {
                "name": results.title,
                "images": len(results.targets),
                results.task: len(results.names),
                "skipped": len(config.skipped or ()),
            },
        },
        scores_of_each,
        pictures,
    )


def _scores_of_each(results: RunResults, truth: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """The scores of each class or label; none for numbers."""
    if results.task == REGRESSION:
        return []
    if results.task == MULTILABEL:
        return per_label(results.names, truth, predicted)
    return per_class(np.array(results.names), truth, predicted)


def _draw_mistakes(file: Path, results: RunResults) -> bool:
    """Draw the images that were mistaken most, if any was."""
    evaluation = results.evaluation
    rows, outputs = np.concatenate(evaluation.rows), np.concatenate(evaluation.outputs)
    truth, predicted = evaluation.held_out()
    task = task_of(results.targets)
    wrong = task.worst(task.all_classes(results.targets), truth, outputs, 4 * panels.MOST_MISTAKES)
    _, first = np.unique(rows[wrong], return_index=True)  # an image may have been mistaken in several splits
    wrong = wrong[np.sort(first)][: panels.MOST_MISTAKES]
    if not len(wrong):
        return False
    decoding = decoding_of(results.config.parts[0].spec)
    images = [thumbnail(results.dataset.sources[row], panels.LARGEST, decoding) for row in rows[wrong]]
    lines = [_true_and_predicted(results, truth[one], predicted[one], outputs[one]) for one in wrong]
    captions = [panels.caption(results.dataset.ids[row], *pair) for row, pair in zip(rows[wrong], lines, strict=True)]
    panels.mistakes(file, images, captions, f"{results.title}: {MISTAKES[results.task].partition(' (')[0].lower()}")
    return True


def _true_and_predicted(results: RunResults, truth: Any, predicted: Any, outputs: Any) -> list[str]:
    """Two lines about an image: the truth, and what was predicted."""
    if results.task == CLASSES:
        return [truth, f"→ {predicted} {outputs.max():.2f}"]
    text = _numbers if results.task == REGRESSION else lambda member: _labels(member, results.names)
    return [text(truth), f"→ {text(predicted)}"]


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def _labels(member: np.ndarray, names: tuple[str, ...]) -> str:
    return ", ".join(name for name, has in zip(names, member, strict=True) if has) or "none"
