"""The scores of predictions: of classes, of numbers, and of several labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NLL_FLOOR = 1e-15  # the smallest probability whose logarithm is taken, so that the loss of one mistake is finite
BINS = 15  # the number of bins of confidence, as in Guo et al. 2017
TOP = 5  # the number of most probable classes for the top-5 accuracy
EPS = np.finfo(np.float64).eps
COLUMNS_AT_ONCE = 64  # the number of columns of probabilities that are copied at a time


def score(classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """The scores of predicted probabilities of classes.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        The sorted classes of the head.
    labels : ndarray of shape (n,)
        The true classes. A class that the head does not know counts as a mistake, with the smallest probability,
        `NLL_FLOOR`.
    probabilities : ndarray of shape (n, k)

    Returns
    -------
    dict
        ``accuracy`` and ``balanced_accuracy`` (the mean recall of the classes that occur), from 0 to 1; ``nll``, the
        mean negative natural logarithm of the probability of the true class; ``ece``, the expected calibration error
        (see `reliability`); ``roc_auc`` (see `roc_auc`), None where it is not defined; with more than 5 classes
        ``top_5``, the share of rows whose true class is among the 5 most probable ones, the first ones among equals;
        and ``n``, the number of rows.

    Examples
    --------
    >>> score(np.array(["a", "b"]), np.array(["a", "b"]), np.array([[0.9, 0.1], [0.6, 0.4]]))["accuracy"]
    0.5
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
    """The mean area under the ROC curve of each class against all others.

    The area is the chance that a row of the class gets a higher probability of it than a row of another class, where
    equal probabilities count half (Hanley and McNeil 1982); it is computed from ranks. A class counts if some rows are
    of it and some are not. Rows with a label that the head does not know are of none of its classes.

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
    for start in range(0, len(classes), COLUMNS_AT_ONCE):  # reading a single column would read all of them
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
    """How often a head is right, by the confidence of its predictions.

    Attributes
    ----------
    edges : ndarray of shape (bins + 1,)
        Bin ``b`` holds confidences above ``edges[b]``, up to and including ``edges[b + 1]``.
    count : ndarray of shape (bins,), int
        The number of rows in each bin.
    confidence, accuracy : ndarray of shape (bins,)
        The mean confidence of the rows in each bin, and the share of them that is right; NaN in an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean of |accuracy - confidence| of the bins, weighted by their rows."""
        return float(np.nansum(self.count * np.abs(self.accuracy - self.confidence)) / self.count.sum())

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the 95 % interval of the accuracy of each bin, NaN in an empty one."""
        return wilson_interval(self.accuracy, self.count)


def wilson_interval(share: np.ndarray | float, n: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95 % interval of a share that was found among `n` rows, NaN of none.

    It is Wilson's ("Probable inference, the law of succession, and statistical inference", 1927), which holds for few
    rows too.

    Examples
    --------
    >>> [round(float(end), 2) for end in wilson_interval(1.0, 10)]
    [0.72, 1.0]
    """
    z, share, n = 1.96, np.asarray(share, np.float64), np.asarray(n, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def reliability(classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Reliability:
    """The accuracy by confidence, which is the probability of the predicted class, in bins of equal width.

    See Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015), and, for the
    predicted class, Guo et al., "On calibration of modern neural networks" (ICML 2017).
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


@dataclass(frozen=True)
class OneVersusRest:
    """How well a score tells the rows of a class from all others, at every threshold.

    Attributes
    ----------
    hits, false_alarms : ndarray of shape (m,), int
        Of the rows with a score of at least each threshold, from the highest one on, those of the class and the others;
        both begin with 0.
    average_precision, roc_auc : float or None
        The mean of the precision, weighted by the rise of the recall, and the area under the ROC curve; None where the
        class has no rows, or there are no others.
    """

    hits: np.ndarray
    false_alarms: np.ndarray
    average_precision: float | None
    roc_auc: float | None


def one_versus_rest(member: np.ndarray, scores: np.ndarray) -> OneVersusRest:
    """The precision-recall and the ROC curve of a class against all others.

    Parameters
    ----------
    member : ndarray of shape (n,), bool
        Which rows are of the class.
    scores : ndarray of shape (n,)
        Such as the probabilities of the class.

    Examples
    --------
    >>> curve = one_versus_rest(np.array([True, False, True]), np.array([0.9, 0.8, 0.8]))
    >>> curve.hits.tolist(), curve.false_alarms.tolist(), curve.roc_auc
    ([0, 1, 2], [0, 0, 1], 0.75)
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # equal scores have one threshold
    hits = np.concatenate([[0], np.cumsum(member[order])[ends]])
    alarms = np.concatenate([[0], ends + 1]) - hits
    positives, others = int(hits[-1]), int(alarms[-1])
    precision = hits[1:] / (hits[1:] + alarms[1:])
    average = float((np.diff(hits) * precision).sum() / positives) if positives else None
    below = float((np.diff(alarms) * (hits[1:] + hits[:-1])).sum() / 2)
    area = below / (positives * others) if positives and others else None
    return OneVersusRest(hits, alarms, average, area)


def bagged(
    labels: np.ndarray,
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
    measure: Callable[[np.ndarray, np.ndarray], dict[str, Any]],
) -> list[dict[str, Any]]:
    """The scores of predictions that are averaged over splits, as RAMP combines the folds of a submission.

    Parameters
    ----------
    labels : ndarray of shape (n, ...)
        The targets of all rows.
    folds : iterable of (rows, predictions)
        For each split: the positions of its held-out rows, each of them once, and their predictions, such as
        probabilities of shape (m, k). The columns are in the same order in all splits (see `with_columns_of`).
    measure : callable
        Returns scores for targets and mean predictions: ``functools.partial(score, classes)``.

    Returns
    -------
    list of dict
        The scores after 1, 2, ... splits, each over the rows that some split so far has held out. The prediction of a
        row is the mean over those splits.
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
    """Probabilities of the classes `own`, (n, j), with a column for each of `classes`, (n, k), which may be 0.

    Both lists of classes are sorted, and `classes` holds all of `own`.
    """
    columns, _ = _columns(classes, own)
    whole = np.zeros((len(probabilities), len(classes)), probabilities.dtype)
    whole[:, columns] = probabilities
    return whole


def per_class(classes: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """The scores of each class.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        In sorted order.
    labels, predicted : ndarray of shape (n,)
        The true and the predicted classes. Rows with a label outside `classes` lower the precision of the class that is
        predicted for them.

    Returns
    -------
    list of dict
        For each class: ``class``; ``precision``, the share of the predictions of this class that are right;
        ``recall``, the share of the rows of this class that are predicted right; ``f1``, their harmonic mean; and
        ``support``, the number of its rows. A share of no rows is None.
    """
    (true, known), (said, possible) = _columns(classes, labels), _columns(classes, predicted)
    right = true[known & possible & (true == said)]
    counts = (np.bincount(columns, minlength=len(classes)) for columns in (right, said[possible], true[known]))
    return _shares(classes.tolist(), *counts)


def per_label(labels: Sequence[str], truth: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """The scores of each of several labels, as of `per_class`; truth and predictions have the shape (n, k), bool."""
    return _shares(labels, (truth & predicted).sum(0), predicted.sum(0), truth.sum(0))


def per_kind(labels: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """The recall of each class of images where anomalies are detected, as of `per_class`.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        The class of each row: the normal one, or a kind of anomaly.
    truth, predicted : ndarray of shape (n,), bool
        Whether a row is an anomaly. A kind is never predicted, so it has no precision and no F1.
    """
    rows = []
    for name in np.unique(labels):
        of_class = labels == name
        recall = float((truth == predicted)[of_class].mean())
        support = int(of_class.sum())
        rows.append({"class": str(name), "precision": None, "recall": recall, "f1": None, "support": support})
    return rows


def _shares(
    names: Sequence[Any], right: np.ndarray, positives: np.ndarray, support: np.ndarray
) -> list[dict[str, Any]]:
    """The shares that `per_class` describes, from the numbers of right predictions, of predictions and of rows."""
    with np.errstate(invalid="ignore"):
        shares = [right / positives, right / support, 2 * right / (positives + support)]
    rows = zip(names, *[[_or_none(value) for value in share] for share in shares], support.tolist(), strict=True)
    return [dict(zip(("class", "precision", "recall", "f1", "support"), row, strict=True)) for row in rows]


def confusion(classes: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The confusion matrix: counts of shape (k, k), int64, with true classes as rows, predicted ones as columns."""
    index = {label: number for number, label in enumerate(classes.tolist())}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, ([index[label] for label in labels.tolist()], [index[label] for label in predicted.tolist()]), 1)
    return counts


def most_wrong(classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, most: int = 24) -> np.ndarray:
    """Positions of the rows with a wrong class, the most confident mistakes first; at most `most`."""
    wrong = np.flatnonzero(classes[np.argmax(probabilities, axis=1)] != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:most]


def score_regression(truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """The scores of predicted numbers.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n,) or (n, k)

    Returns
    -------
    dict
        ``rmse``, the root mean squared error, and ``mae``, the mean absolute error, in the unit of the truth; and
        ``r2``, the share of the variance that is explained: None for fewer than 2 rows, and where the truth is
        constant, 1 if it is predicted exactly and 0 otherwise. Each is the mean over the k columns. ``n`` is the number
        of rows.
    """
    from sklearn import metrics  # slow to load, and not needed where nothing is scored

    return {
        "rmse": float(metrics.root_mean_squared_error(truth, predicted)),
        "mae": float(metrics.mean_absolute_error(truth, predicted)),
        "r2": float(metrics.r2_score(truth, predicted)) if len(truth) > 1 else None,
        "n": len(truth),
    }


def score_multilabel(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """The scores of predicted probabilities of labels, of which a row may have any number.

    Parameters
    ----------
    truth : ndarray of shape (n, k), bool
    probabilities : ndarray of shape (n, k)
        The probability of each label, independently of the others. A label is predicted where it is above 0.5.

    Returns
    -------
    dict
        ``subset_accuracy``, the share of rows whose labels are all right; ``f1_micro``, the F1 score of all decisions
        together, and ``f1_macro``, its mean over the labels that occur or are predicted; ``average_precision``, the
        mean over the labels that occur; ``nll``, the mean log-loss over rows and labels; and ``n``, the number of rows.
        A mean over no labels is None.
    """
    from sklearn.metrics import average_precision_score  # slow to load, see `score_regression`

    truth = np.asarray(truth, bool)
    predicted = probabilities > 0.5
    both, either = 2 * (truth & predicted).sum(0), truth.sum(0) + predicted.sum(0)
    occurs = either > 0
    precisions = [average_precision_score(truth[:, i], probabilities[:, i]) for i in np.flatnonzero(truth.any(0))]
    of_truth = np.where(truth, probabilities, 1 - np.asarray(probabilities, np.float64))
    return {
        "subset_accuracy": float((truth == predicted).all(1).mean()),
        "f1_micro": float(both.sum() / either.sum()) if occurs.any() else None,
        "f1_macro": float((both[occurs] / either[occurs]).mean()) if occurs.any() else None,
        "average_precision": float(np.mean(precisions)) if precisions else None,
        "nll": float(-np.log(np.clip(of_truth, NLL_FLOOR, 1)).mean()),
        "n": len(truth),
    }


def score_anomalies(truth: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """The scores of a detector of anomalies.

    Parameters
    ----------
    truth : ndarray of shape (n,), bool
        Whether a row is an anomaly.
    scores : ndarray of shape (n,)
        The higher, the more anomalous; a row is called an anomaly where its score is above 1.

    Returns
    -------
    dict
        ``auroc``, the area under the ROC curve, and ``average_precision``; ``f1_max``, the largest F1 score that any
        threshold would give on these very rows; ``f1`` and ``recall`` of the anomalies, and ``false_positive_rate``,
        the share of normal rows that are called anomalies, all three at the threshold of the head; and ``n``, the
        number of rows. A score that is not defined, as the first three without rows of both kinds, is None.

    Examples
    --------
    >>> score_anomalies(np.array([False, False, True, True]), np.array([0.5, 1.2, 0.9, 3.0]))["auroc"]
    0.75
    """
    from sklearn import metrics  # slow to load, see `score_regression`

    predicted = scores > 1
    [shares] = _shares(["anomaly"], *(np.array([part.sum()]) for part in (truth & predicted, predicted, truth)))
    both: dict[str, Any] = dict.fromkeys(("auroc", "average_precision", "f1_max"))
    if truth.any() and not truth.all():
        precision, recall, _ = metrics.precision_recall_curve(truth, scores)
        both = {
            "auroc": float(metrics.roc_auc_score(truth, scores)),
            "average_precision": float(metrics.average_precision_score(truth, scores)),
            "f1_max": float((2 * precision * recall / np.maximum(precision + recall, EPS)).max()),
        }
    return {
        **both,
        "f1": shares["f1"] if truth.any() else None,
        "recall": shares["recall"],
        "false_positive_rate": None if truth.all() else float(predicted[~truth].mean()),
        "n": len(truth),
    }


def mean_and_deviation(values: Sequence[float | None]) -> dict[str, float | None]:
    """The ``mean`` and the ``std`` of the values that are not None; both are None where there are no such values.

    Examples
    --------
    >>> mean_and_deviation([1.0, None, 3.0])
    {'mean': 2.0, 'std': 1.0}
    """
    defined = [value for value in values if value is not None]
    if not defined:
        return {"mean": None, "std": None}
    return {"mean": float(np.mean(defined)), "std": float(np.std(defined))}


def _columns(classes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The position of each label among the sorted `classes`, and whether it is one of them.

    The position of a label that is not among them means nothing.
    """
    column = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    return column, classes[column] == labels


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
