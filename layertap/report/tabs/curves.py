"""Curves of trainings: accuracy by the number of labelled images, and losses by the epochs of a fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layertap.report.pages.charts import Axis, Line, axis_of, chart

MOST_EPOCHS = 10  # that are written along an axis
FEW_TIMES = 8  # of larger differences between losses, equal factors are equal distances


def learning_curve(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The chart and the table of a learning curve; None where there are not several numbers of images.

    Parameters
    ----------
    points : sequence of mapping
        See `heads.evaluation.training.learning_curve`.
    """
    points = sorted({point["per_class"]: point for point in points}.values(), key=lambda point: int(point["per_class"]))
    counts = [point["per_class"] for point in points]
    if len(counts) < 2:
        return None
    means = [point["accuracy"]["mean"] for point in points]
    spread = [point["accuracy"]["std"] or 0.0 for point in points]
    ends = [
        (count, max(0.0, mean - deviation), min(1.0, mean + deviation))
        for count, mean, deviation in zip(counts, means, spread, strict=True)
    ]
    across = Axis("labelled images of each class", counts[0], counts[-1], log=True, marks=tuple(counts))
    up = axis_of("accuracy on all others", [low for _, low, _ in ends], 0.95)
    lines = [Line(zip(counts, means, strict=True), dots=True)]
    rows = zip(counts, means, spread, strict=True)
    return {
        "charts": [chart("Accuracy by the number of labelled images", across, up, lines, ranges=ends)],
        "columns": ("labelled images of each class", "accuracy"),
        "rows": [[f"{count:,}", f"{mean:.4f} ± {deviation:.4f}"] for count, mean, deviation in rows],
    }


def training_curves(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The charts of a fine-tuning: the last choice of the number of epochs, and the training that counts.

    Parameters
    ----------
    trainings : sequence of mapping
        As ``metrics.json`` holds them: their ``stages`` are those of `transfer.finetune.tuner.FineTuner`.
    """
    choices = [training["stages"][0] for training in trainings if training["stages"][0]]
    chosen, last = choices[-1] if choices else [], trainings[-1]["stages"][1]
    lines = {
        "main": ("held out, while the number of epochs was chosen", _points(chosen, "valid_loss")),
        "other": ("training, meanwhile", _points(chosen, "loss")),
        "third": ("training of all images", _points(last, "loss")),
    }
    losses = [loss for _, points in lines.values() for _, loss in points]
    if not losses:
        return None
    last_epoch = max(1, *(int(epoch) for _, points in lines.values() for epoch, _ in points))
    step = -(-last_epoch // MOST_EPOCHS)
    epochs = Axis("epoch", 0, last_epoch, marks=tuple(range(0, last_epoch + 1, step)))
    low, high = min(losses), max(losses)
    log = low > 0 and high > FEW_TIMES * low
    loss = Axis("loss", low if log else 0.0, high if high > 0 else 1.0, log=log)
    charts = [
        chart("Loss by epoch", epochs, loss, [Line(points, kind, dots=True) for kind, (_, points) in lines.items()])
    ]
    if right := _points(chosen, "valid_accuracy"):
        up = axis_of("accuracy, held out", [accuracy for _, accuracy in right], 0.95)
        charts.append(chart("Accuracy of the images held out, by epoch", epochs, up, [Line(right, dots=True)]))
    return {"charts": charts, "legend": [(kind, name) for kind, (name, points) in lines.items() if points]}


def _points(epochs: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(epoch["epoch"], epoch[name]) for epoch in epochs if name in epoch]
