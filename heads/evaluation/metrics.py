"""What is measured of a head's predictions: of classes, of numbers, and of several labels at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NLL_FLOOR = 1e-15  # probabilities are clipped here before the logarithm, so that one certain mistake is finite
BINS = 15  # of confidence, as in Guo et al. 2017
TOP = 5
COLUMNS_AT_ONCE = 64


def score(classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """How good predicted probabilities of classes are.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted; those of the head.
    labels : ndarray of shape (n,)
        The truth. A label that the head does not know counts as a mistake, with the floor for its
        probability.
    probabilities : ndarray of shape (n, k)

    Returns
    -------
    dict
        ``accuracy`` and ``balanced_accuracy`` (the mean of the recalls of the classes present), both
        0 to 1; ``nll``, the mean negative natural logarithm of the probability of the true class;
        ``ece``, the expected calibration error (see `reliability`); ``roc_auc`` (see `roc_auc`), None
        where it is not defined; with more than 5 classes ``top_5``, the share of rows whose true class is
        among the 5 most probable, the first ones among equals; ``n``, the number of rows.
    """
    right = classes[np.argmax(probabilities, axis=1)] == labels
    present, member = np.unique(labels, return_inverse=True)
    recall = np.bincount(member, weights=right) / np.bincount(member)

    column, known = _columns(classes, labels)
    of_truth = np.where(known, probabilities[np.arange(len(labels)), column], 0)
    scores: dict[str, Any] = {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(recall.mean()),
        "nll": float(-np.log(np.clip(of_truth, NLL_FLOOR, 1)).mean()),
        "ece": reliability(classes, labels, probabilities).ece,
        "roc_auc": roc_auc(classes, labels, probabilities),
        "n": len(labels),
    }
    if len(classes) > TOP:
        before = (probabilities > of_truth[:, None]).sum(1)
        before += ((probabilities == of_truth[:, None]) & (np.arange(len(classes)) < column[:, None])).sum(1)
        scores["top_5"] = float((known & (before < TOP)).mean())
    return scores


def roc_auc(classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Mean over the classes of the area under the ROC curve of each class against all the rest.

    The area is the chance that a row of the class gets a higher probability of it than a row of another
    one, ties counting half (Hanley and McNeil 1982), and comes from ranks. Only classes with rows of both
    kinds count; rows with a label that the head does not know are of none of its classes.

    Returns
    -------
    float or None
        None where no class counts.
    """
    column, known = _columns(classes, labels)
    order = np.argsort(np.where(known, column, len(classes)), kind="stable")
    counts = np.bincount(column[known], minlength=len(classes))
    rows_of = np.split(order, np.cumsum(counts))
    areas = []
    for start in range(0, len(classes), COLUMNS_AT_ONCE):  # blocks of columns: one alone would be read across all rows
        block = np.array(probabilities[:, start : start + COLUMNS_AT_ONCE].T, order="C")  # a copy, to be sorted
        for number, values in enumerate(block, start):
            positives = values[rows_of[number]]
            rest = len(values) - len(positives)
            if not len(positives) or not rest:
                continue
            values.sort()
            below = values.searchsorted(positives, "left").sum() + values.searchsorted(positives, "right").sum()
            areas.append((below - len(positives) ** 2) / (2 * len(positives) * rest))
    return float(np.mean(areas)) if areas else None


@dataclass(frozen=True)
class Reliability:
    """How often a head is right when it is so and so sure.

    Attributes
    ----------
    edges : ndarray of shape (bins + 1,)
        Bin ``b`` holds the confidences above ``edges[b]``, up to and with ``edges[b + 1]``.
    count : ndarray of shape (bins,), int
        Rows in each bin.
    confidence, accuracy : ndarray of shape (bins,)
        Their mean confidence, and the share of them that is right; NaN in an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over all rows of their bin's |accuracy - confidence|."""
        return float(np.nansum(self.count * np.abs(self.accuracy - self.confidence)) / self.count.sum())


def reliability(classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Reliability:
    """Accuracy by confidence, which is the probability of the class predicted, in bins of equal width.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015), for the
    predicted class as in Guo et al., "On calibration of modern neural networks" (ICML 2017).
    """
    edges = np.linspace(0, 1, bins + 1)
    confidence = probabilities.max(1).astype(np.float64)
    right = classes[np.argmax(probabilities, axis=1)] == labels
    member = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(member, minlength=bins)
    with np.errstate(invalid="ignore"):  # empty bins
        mean = np.bincount(member, weights=confidence, minlength=bins) / count
        accuracy = np.bincount(member, weights=right, minlength=bins) / count
    return Reliability(edges, count, mean, accuracy)


def bagged(
    labels: np.ndarray,
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
    measure: Callable[[np.ndarray, np.ndarray], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Scores of predictions that are averaged over splits, as RAMP combines the folds of a submission.

    Parameters
    ----------
    labels : ndarray of shape (n, ...)
        The truth of all rows.
    folds : iterable of (rows, predictions)
        For each split: positions of distinct rows that were held out, and what was predicted of them, say
        probabilities of shape (m, k), columns in the same order in all splits (see `with_columns_of`).
    measure : callable
        Given truth and mean predictions, gives scores: ``functools.partial(score, classes)``.

    Returns
    -------
    list of dict
        The scores after 1, 2, ... splits, each over the rows that have been predicted so far: the mean of
        the predictions by those splits that held the row out.
    """
    scores = []
    times = np.zeros(len(labels), np.int64)
    total = np.zeros(0)
    for rows, predictions in folds:
        if not total.size:
            total = np.zeros((len(labels), *predictions.shape[1:]), predictions.dtype)
        total[rows] += predictions
        times[rows] += 1
        done = np.flatnonzero(times)
        counts = times[done].astype(total.dtype).reshape(-1, *[1] * (total.ndim - 1))
        scores.append(measure(labels[done], total[done] / counts))
    return scores


def with_columns_of(classes: np.ndarray, own: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Probabilities of the classes `own`, (n, j), as those of `classes`, (n, k), all sorted; 0 for the others."""
    columns, _ = _columns(classes, own)
    whole = np.zeros((len(probabilities), len(classes)), probabilities.dtype)
    whole[:, columns] = probabilities
    return whole


def per_class(classes: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """How each class fares.

    Parameters
    ----------
    labels, predicted : ndarray of shape (n,)
        Labels that are not among the `classes` count against the precision of what was predicted for them.

    Returns
    -------
    list of dict
        For each class: ``class``; ``precision``, the share of what was predicted to be of it that is;
        ``recall``, the share of its rows that were found; ``f1``, their harmonic mean; ``support``, the
        number of its rows. None where a share is of nothing.
    """
    from sklearn.metrics import precision_recall_fscore_support

    *shares, support = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=np.nan)
    rows = zip(
        classes.tolist(), *[[_or_none(value) for value in share] for share in shares], support.tolist(), strict=True
    )
    return [dict(zip(("class", "precision", "recall", "f1", "support"), row, strict=True)) for row in rows]


def per_label(labels: Sequence[str], truth: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """How each of several labels fares: as `per_class`, of truth and predictions of shape (n, k), bool."""
    both, said, support = (truth & predicted).sum(0), predicted.sum(0), truth.sum(0)
    with np.errstate(invalid="ignore"):
        shares = [both / said, both / support, 2 * both / (said + support)]
    rows = zip(labels, *[[_or_none(value) for value in share] for share in shares], support.tolist(), strict=True)
    return [dict(zip(("class", "precision", "recall", "f1", "support"), row, strict=True)) for row in rows]


def confusion(classes: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts of shape (k, k), int64: true class by row, predicted class by column."""
    index = {label: number for number, label in enumerate(classes.tolist())}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, ([index[label] for label in labels.tolist()], [index[label] for label in predicted.tolist()]), 1)
    return counts


def most_wrong(classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, most: int = 24) -> np.ndarray:
    """Positions of the rows whose class was mistaken, those with the surest mistakes first; `most` of them."""
    wrong = np.flatnonzero(classes[np.argmax(probabilities, axis=1)] != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:most]


def score_regression(truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """How near predicted numbers are.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n,) or (n, k)

    Returns
    -------
    dict
        ``rmse``, root mean squared error, and ``mae``, mean absolute error, in the unit of the truth;
        ``r2``, the share of the variance that is explained, None for fewer than 2 rows, and 1 or 0 where
        the truth is constant and was met or not; each the mean over the k columns; ``n``.
    """
    from sklearn import metrics

    return {
        "rmse": float(metrics.root_mean_squared_error(truth, predicted)),
        "mae": float(metrics.mean_absolute_error(truth, predicted)),
        "r2": float(metrics.r2_score(truth, predicted)) if len(truth) > 1 else None,
        "n": len(truth),
    }


def score_multilabel(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """How good predicted probabilities of labels are, of which a row has any number.

    Parameters
    ----------
    truth : ndarray of shape (n, k), bool
    probabilities : ndarray of shape (n, k)
        Of each label for itself. Above 0.5 it is predicted.

    Returns
    -------
    dict
        ``subset_accuracy``, the share of rows with all labels right; ``f1_micro``, of all decisions pooled,
        and ``f1_macro``, the mean over the labels that were given or predicted at all;
        ``average_precision``, the mean over the labels that some row has; ``nll``, the mean log-loss over
        rows and labels; ``n``. None where there is nothing to take a mean of.
    """
    from sklearn.metrics import average_precision_score

    truth = np.asarray(truth, bool)
    predicted = probabilities > 0.5
    both, either = 2 * (truth & predicted).sum(0), truth.sum(0) + predicted.sum(0)
    at_all = either > 0
    precisions = [average_precision_score(truth[:, i], probabilities[:, i]) for i in np.flatnonzero(truth.any(0))]
    of_truth = np.where(truth, probabilities, 1 - np.asarray(probabilities, np.float64))
    return {
        "subset_accuracy": float((truth == predicted).all(1).mean()),
        "f1_micro": float(both.sum() / either.sum()) if at_all.any() else None,
        "f1_macro": float((both[at_all] / either[at_all]).mean()) if at_all.any() else None,
        "average_precision": float(np.mean(precisions)) if precisions else None,
        "nll": float(-np.log(np.clip(of_truth, NLL_FLOOR, 1)).mean()),
        "n": len(truth),
    }


def mean_and_deviation(values: Sequence[float | None]) -> dict[str, float | None]:
    """``mean`` and ``std`` of those values that are defined; None for both where none is."""
    defined = [value for value in values if value is not None]
    if not defined:
        return {"mean": None, "std": None}
    return {"mean": float(np.mean(defined)), "std": float(np.std(defined))}


def _columns(classes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The position of each label among the sorted `classes`, and whether it is there; any position if not."""
    column = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    return column, classes[column] == labels


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
