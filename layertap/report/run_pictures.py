"""What a run shows: its pictures, and the report that gathers them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layertap.commands import problem

if TYPE_CHECKING:
    import numpy as np

    from heads.evaluation.protocol import Trained
    from heads.evaluation.views import Views
    from transfer.data.images import Decoding
    from transfer.extraction.lookup import FeatureSet

MISTAKES = {
    problem.CLASSES: "Surest mistakes (look at their labels)",
    problem.REGRESSION: "Furthest from the truth (look at their numbers)",
    problem.MULTILABEL: "Surest mistakes (look at their labels)",
}


def illustrate(
    folder: Path,
    args: argparse.Namespace,
    trained: Trained,
    cached: FeatureSet,
    targets: np.ndarray,
    names: tuple[str, ...],
    views: Views,
    metrics: dict[str, Any],
    config: dict[str, Any],
) -> None:
    """Draw the pictures of a run, and write its report.

    Parameters
    ----------
    targets, names
        See `layertap.commands.problem.targets`.
    """
    import numpy as np

    from feature_cache.spec import FeatureSpec
    from layertap.report import maps, plots, run_report
    from transfer.data.images import decoding_of

    task, evaluation = config["task"]["name"], trained.evaluation
    truth, predicted = evaluation.held_out()
    pictures: dict[str, Path] = {}
    decoding = decoding_of(FeatureSpec.from_json(json.dumps(config["spec"])))

    def draw(heading: str, name: str, drawing: Callable[..., None], *details: Any, **more: Any) -> None:
        pictures[heading] = folder / name
        drawing(folder / name, *details, **more)

    title, classes = f"{args.data}: images held out", np.array(names)
    if task == problem.CLASSES:
        from heads.evaluation.metrics import confusion, reliability

        measured = reliability(classes, truth, np.concatenate(evaluation.outputs))
        draw("Confusion", "confusion.png", plots.confusion, names, confusion(classes, truth, predicted), title)
        draw("Reliability", "reliability.png", plots.reliability, measured, title)
    if task == problem.REGRESSION:
        draw("Predicted and true", "predicted.png", plots.predictions, truth, predicted, names, title)
    if metrics.get("curve"):
        points = metrics["curve"]
        curve = [(point["accuracy"]["mean"], point["accuracy"]["std"]) for point in points]
        numbers = [point["per_class"] for point in points]
        draw("Learning curve", "curve.png", plots.learning_curves, numbers, {args.head: curve}, args.data)
    if (folder / "training.png").exists():
        pictures["Training"] = folder / "training.png"
    if _draw_mistakes(folder / "mistakes.png", args.data, task, trained, cached, targets, names, decoding):
        pictures[MISTAKES[task]] = folder / "mistakes.png"
    if task == problem.CLASSES and args.map:
        features, title = cached.features[trained.features], f"{args.data}: features"
        how = args.map, args.seed, views.count
        draw("Map of the features", "map.png", maps.feature_map, features, targets, title, *how)
    run_report.write_report(
        folder,
        f"{args.data}: {args.head}",
        {**metrics["summary"], **({"test": trained.test} if trained.test else {})},
        {
            "Features": {**config["spec"], "extraction_seconds": metrics["extraction_seconds"]},
            "Head": config["head"],
            "Protocol": config["protocol"],
            "Data": {"name": args.data, "images": len(targets), task: len(names), "skipped": len(cached.skipped)},
        },
        _of_each(task, names, truth, predicted),
        pictures,
    )


def _of_each(task: str, names: tuple[str, ...], truth: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """How each class or label fares."""
    import numpy as np

    from heads.evaluation.metrics import per_class, per_label

    if task == problem.REGRESSION:
        return []
    if task == problem.MULTILABEL:
        return per_label(names, truth, predicted)
    return per_class(np.array(names), truth, predicted)


def _draw_mistakes(
    file: Path,
    data: str,
    task: str,
    trained: Trained,
    cached: FeatureSet,
    targets: np.ndarray,
    names: tuple[str, ...],
    decoding: Decoding,
) -> bool:
    """Draw the images that were mistaken most, if any was."""
    import numpy as np

    from heads.evaluation.tasks import task_of
    from layertap.report import panels
    from transfer.data.images import thumbnail

    evaluation = trained.evaluation
    rows, said = np.concatenate(evaluation.rows), np.concatenate(evaluation.outputs)
    truth, predicted = evaluation.held_out()
    asked = task_of(targets)
    wrong = asked.worst(asked.all_classes(targets), truth, said, 4 * panels.MOST_MISTAKES)
    _, first = np.unique(rows[wrong], return_index=True)  # an image may have been mistaken in several splits
    wrong = wrong[np.sort(first)][: panels.MOST_MISTAKES]
    if not len(wrong):
        return False

    def told(one: int) -> list[str]:
        if task == problem.CLASSES:
            return [truth[one], f"→ {predicted[one]} {said[one].max():.2f}"]
        if task == problem.REGRESSION:
            return [_numbers(truth[one]), f"→ {_numbers(predicted[one])}"]
        return [_labels(truth[one], names), f"→ {_labels(predicted[one], names)}"]

    images = [thumbnail(cached.dataset.sources[row], panels.LARGEST, decoding) for row in rows[wrong]]
    captions = [panels.caption(cached.dataset.ids[rows[one]], *told(one)) for one in wrong]
    panels.mistakes(file, images, captions, f"{data}: {MISTAKES[task].partition(' (')[0].lower()}")
    return True


def _numbers(values: Any) -> str:
    import numpy as np

    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def _labels(member: np.ndarray, names: tuple[str, ...]) -> str:
    return ", ".join(name for name, has in zip(names, member, strict=True) if has) or "none"
