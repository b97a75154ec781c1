"""How sure a run is, and how often it is right then: thresholds, calibration, and a curve for each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from feature_cache.errors import printable
from heads.evaluation.metrics import OneVersusRest, Reliability, one_versus_rest, reliability
from layertap.report.pages.charts import Axis, Line, axis_of, chart
from layertap.report.pages.values import share_cell

STEPS = 100  # of the threshold, from 0 to 1
AIMS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)  # shares of right answers for which the table has a threshold
DEFAULT_AIM = 0.99  # of the threshold that the page begins with
MOST_CURVES = 100  # classes with curves; of more, those that are told apart worst
MOST_POINTS = 40  # of a curve, along either axis
CONFIDENCE = "confidence: the probability of the predicted class"


def of_classes(classes: Sequence[str], truth: np.ndarray, outputs: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``confidence.html`` and its script show of predicted classes.

    Parameters
    ----------
    classes : sequence of str
        In sorted order: the columns of the outputs.
    truth : ndarray of shape (n,), str
    outputs : ndarray of shape (n, k)
        Probabilities.
    """
    names = np.array(classes)
    codes, predicted = np.searchsorted(names, truth), outputs.argmax(1)
    right = codes == predicted
    thresholds, numbers = _thresholds(outputs.max(1).astype(np.float64), right)
    support, hits = (np.bincount(part, minlength=len(names)) for part in (codes, codes[right]))
    curves, lines = _curves(classes, lambda at: codes == at, outputs, support, hits, "class")
    calibration = _calibration(reliability(names, truth, outputs))
    return {"thresholds": thresholds, "calibration": calibration, "curves": curves}, {**numbers, "curves": lines}


def of_labels(labels: Sequence[str], truth: np.ndarray, outputs: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same of labels of which an image has any number: curves alone.

    Parameters
    ----------
    truth : ndarray of shape (n, k), bool
    outputs : ndarray of shape (n, k)
    """
    hits = (truth & (outputs > 0.5)).sum(0)
    curves, lines = _curves(labels, lambda at: truth[:, at], outputs, truth.sum(0), hits, "label")
    return {"thresholds": None, "calibration": None, "curves": curves}, {"curves": lines}


def _thresholds(confidence: np.ndarray, right: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """How many images are answered at each threshold, and how many of these answers are right."""
    order = np.argsort(confidence, kind="stable")
    before = np.searchsorted(confidence[order], np.arange(STEPS + 1) / STEPS, side="left")
    answered = len(order) - before
    correct = np.append(np.cumsum(right[order][::-1])[::-1], 0)[before]
    accuracy = correct / np.maximum(answered, 1)
    known = np.flatnonzero(answered)  # above them all nothing is answered
    rows, first = [_threshold_row("none", 0, answered, correct)], None
    for aim in AIMS:
        reached = known[accuracy[known] >= aim]
        if aim > accuracy[0] and len(reached):
            rows.append(_threshold_row(f"{100 * aim:g} % right", int(reached[0]), answered, correct))
            first = int(reached[0]) if aim <= DEFAULT_AIM or first is None else first
    up = axis_of("share of answers that are right", accuracy[known].tolist(), 0.95)
    steps = known / STEPS
    charts = [
        chart(
            "Share of the answers that are right, by the threshold",
            Axis("threshold"),
            up,
            [Line(zip(steps.tolist(), accuracy[known].tolist(), strict=True))],
            name="chart-right",
        ),
        chart(
            "Share of the images that are answered, by the threshold",
            Axis("threshold"),
            Axis("share of images answered"),
            [Line(zip(steps.tolist(), (answered[known] / len(order)).tolist(), strict=True), "other")],
            name="chart-answered",
        ),
    ]
    half = int(np.flatnonzero(answered * 2 >= len(order))[-1])  # images are answered, where no threshold is good enough
    default = half if first is None else first
    view = {"columns": ("aim", "threshold", "answered", "right", "mistakes"), "rows": rows, "charts": charts}
    numbers = {"answered": answered.tolist(), "right": correct.tolist(), "start": default}
    return {**view, "start": default, "steps": STEPS}, numbers


def _threshold_row(aim: str, step: int, answered: np.ndarray, right: np.ndarray) -> list[Any]:
    share, accuracy = answered[step] / answered[0], right[step] / answered[step]
    return [
        aim,
        f"{step / STEPS:.2f}",
        (f"{answered[step]:,} ({100 * share:.1f} %)", f"{share:.3f}"),
        (f"{100 * accuracy:.2f} %", f"{accuracy:.3f}"),
        f"{answered[step] - right[step]:,}",
    ]


def _calibration(measured: Reliability) -> dict[str, Any]:
    """The accuracy by confidence."""
    low, high = measured.interval
    some = np.flatnonzero(measured.count)
    places, shares = measured.confidence[some].tolist(), measured.accuracy[some].tolist()
    ranges = zip(places, low[some].tolist(), high[some].tolist(), strict=True)
    lines = [Line([(0, 0), (1, 1)], "guide"), Line(zip(places, shares, strict=True), dots=True)]
    count = measured.count[some] / measured.count.sum()
    edges = measured.edges
    return {
        "ece": f"{measured.ece:.3f}",
        "sure": f"{float(count @ measured.confidence[some]):.3f}",
        "accuracy": f"{float(count @ measured.accuracy[some]):.3f}",
        "columns": ("confidence", "images", "mean confidence", "share right"),
        "rows": [
            [
                f"{edges[b]:.2f} to {edges[b + 1]:.2f}",
                (f"{measured.count[b]:,}", f"{share:.3f}"),
                f"{measured.confidence[b]:.3f}",
                f"{measured.accuracy[b]:.3f}",
            ]
            for b, share in zip(some.tolist(), count.tolist(), strict=True)
        ],
        "charts": [
            chart(
                "Share of right predictions, by confidence",
                Axis(CONFIDENCE),
                Axis("share that is right"),
                lines,
                ranges=ranges,
            ),
            chart(
                "How many predictions have which confidence",
                Axis(CONFIDENCE),
                Axis("share of images"),
                bars=zip(edges[some].tolist(), edges[some + 1].tolist(), count.tolist(), strict=True),
            ),
        ],
    }


def _curves(
    names: Sequence[str],
    member: Callable[[int], np.ndarray],
    scores: np.ndarray,
    support: np.ndarray,
    hits: np.ndarray,
    kind: str,
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """A precision-recall and a ROC curve for each class, those of the worst one drawn.

    Parameters
    ----------
    member : callable
        Which rows are of the class with a number.
    scores : ndarray of shape (n, k)
    support, hits : ndarray of shape (k,), int
        The rows of each class, and those that are predicted right.
    """
    possible = np.flatnonzero((support > 0) & (support < len(scores)))
    if len(possible) > MOST_CURVES:
        recall = hits[possible] / support[possible]
        possible = np.sort(possible[np.argsort(recall, kind="stable")[:MOST_CURVES]])
    if not len(possible):
        return None, []
    found = {at: one_versus_rest(member(at), scores[:, at]) for at in possible.tolist()}
    order = sorted(found, key=lambda at: found[at].average_precision or 0.0)
    lines = [{"name": printable(names[at]), **_thinned(found[at])} for at in found]
    worst = list(found).index(order[0])
    note = f"The {len(found)} of {len(names):,} with the lowest recall have curves." if len(found) < len(names) else ""
    return {
        "kind": kind,
        "note": note,
        "start": worst,
        "names": [names[at] for at in found],
        "columns": (kind, "average precision", "ROC AUC", "images"),
        "rows": [
            [
                names[at],
                share_cell(found[at].average_precision),
                share_cell(found[at].roc_auc),
                (f"{support[at]:,}", f"{support[at] / support.max():.3f}"),
            ]
            for at in order
        ],
        "charts": _curve_charts(lines[worst]),
    }, lines


def _curve_charts(line: dict[str, Any]) -> list[dict[str, Any]]:
    hits, alarms = np.array(line["hits"]), np.array(line["alarms"])
    recall, answered = hits / hits[-1], np.maximum(hits + alarms, 1)
    precision = np.where(hits + alarms > 0, hits / answered, np.nan)[1:]
    pairs = zip(recall[1:].tolist(), precision.tolist(), strict=True)
    rates = zip((alarms / max(1, alarms[-1])).tolist(), recall.tolist(), strict=True)
    return [
        chart("Precision by recall", Axis("recall"), Axis("precision"), [Line(pairs)], name="chart-precision"),
        chart(
            "Recall by the share of false alarms",
            Axis("share of false alarms"),
            Axis("recall"),
            [Line([(0, 0), (1, 1)], "guide"), Line(rates)],
            name="chart-roc",
        ),
    ]


def _thinned(curve: OneVersusRest) -> dict[str, list[int]]:
    """The curve by some of its points, which are spread along both axes."""
    kept = {0, 1, len(curve.hits) - 1}
    for counts in (curve.hits, curve.false_alarms):
        kept |= set(np.searchsorted(counts, np.linspace(0, counts[-1], MOST_POINTS)).tolist())
    at = np.array(sorted(kept))
    return {"hits": curve.hits[at].tolist(), "alarms": curve.false_alarms[at].tolist()}
