"""Tasks: what a head predicts, and how predictions are scored. The dtype of the targets determines the task.

classes      shape (n,), strings or integers: each image has one class
regression   shape (n,) or (n, k), float: each image has one number or several
multilabel   shape (n, k), bool: each image has any number of labels
anomalies    shape (n,), bool: each image is an anomaly or normal
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heads.evaluation import metrics
from heads.registry import Head


class Task:
    """The base of all tasks: how the outputs of heads, which are probabilities or numbers, are scored.

    Attributes
    ----------
    name : str
        ``classes``, ``regression``, ``multilabel`` or ``anomalies``.
    """

    name: str

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """The values by which splits are stratified: shape (n,)."""
        return np.zeros(len(targets), np.int64)

    def learnable(self, targets: np.ndarray) -> np.ndarray:
        """Which rows a head may be fitted to; all others are only scored: shape (n,), bool."""
        return np.ones(len(targets), bool)

    def score(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        """The scores of the outputs for some rows (see `heads.evaluation.metrics`).

        Parameters
        ----------
        classes : ndarray or None
            The classes of the columns of the outputs (see `classes_of`).
        truth : ndarray of shape (n,) or (n, k)
            The targets of the rows.
        outputs : ndarray of shape (n, ...)
            Probabilities or numbers.
        """
        raise NotImplementedError

    def quality(self, scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
        """A number, and one that decides between equals, that are higher for better scores of the folds."""
        raise NotImplementedError

    def predicted(self, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        """The targets that the outputs predict, in the shape of the truth."""
        return outputs

    def worst(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray, most: int) -> np.ndarray:
        """Positions of the rows with wrong predictions, the most confident mistakes first; at most `most`."""
        raise NotImplementedError

    def classes_of(self, head: Head) -> np.ndarray | None:
        """The classes of the columns of the head's outputs; None where there are no classes."""
        return None

    def all_classes(self, targets: np.ndarray) -> np.ndarray | None:
        """The classes of the columns of outputs that `whole` returns; None where there are no classes."""
        return None

    def whole(self, targets: np.ndarray, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        """Outputs with a column for every class of `targets`, filled with 0 for classes that the head does not know."""
        return outputs


class Classes(Task):
    """Classification: heads are compared by accuracy, and by log-loss where accuracies are equal."""

    name = "classes"

    def strata(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def score(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return metrics.score(_known(classes), truth, outputs)

    def quality(self, scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
        return _mean(scores, "accuracy"), -_mean(scores, "nll")

    def predicted(self, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        return _known(classes)[np.argmax(outputs, axis=1)]

    def worst(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray, most: int) -> np.ndarray:
        return metrics.most_wrong(_known(classes), truth, outputs, most)

    def classes_of(self, head: Head) -> np.ndarray | None:
        return head.classes_

    def all_classes(self, targets: np.ndarray) -> np.ndarray | None:
        return np.unique(targets)

    def whole(self, targets: np.ndarray, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        return metrics.with_columns_of(np.unique(targets), _known(classes), outputs)


class Regression(Task):
    """Numbers: heads are compared by the share of the variance that they explain, which does not depend on the unit."""

    name = "regression"

    def score(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return metrics.score_regression(truth, outputs)

    def quality(self, scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
        return _mean(scores, "r2"), -_mean(scores, "rmse")

    def worst(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray, most: int) -> np.ndarray:
        spread = truth.std(0)
        errors = np.abs(truth - outputs) / np.where(spread > 0, spread, 1)
        return np.argsort(-errors.reshape(len(errors), -1).max(1), kind="stable")[:most]


class MultiLabel(Task):
    """Several labels: heads are compared by average precision, which needs no threshold, and then by log-loss."""

    name = "multilabel"

    def score(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return metrics.score_multilabel(truth, outputs)

    def quality(self, scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
        return _mean(scores, "average_precision"), -_mean(scores, "nll")

    def predicted(self, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        return outputs > 0.5

    def worst(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray, most: int) -> np.ndarray:
        confidence = np.where(truth != (outputs > 0.5), np.abs(outputs - 0.5), -1).max(1)  # -1: all labels are right
        order = np.argsort(-confidence, kind="stable")[:most]
        return order[confidence[order] >= 0]


class Anomalies(Task):
    """Anomalies: heads are fitted to normal rows alone, and compared by how well their scores tell anomalies apart.

    The outputs are anomaly scores, above 1 for what the head calls an anomaly.
    """

    name = "anomalies"

    def strata(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def learnable(self, targets: np.ndarray) -> np.ndarray:
        return ~targets

    def score(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return metrics.score_anomalies(truth, outputs)

    def quality(self, scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
        return _mean(scores, "auroc"), _mean(scores, "average_precision")

    def predicted(self, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        return outputs > 1

    def worst(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray, most: int) -> np.ndarray:
        wrong = np.flatnonzero(truth != (outputs > 1))
        return wrong[np.argsort(-np.abs(outputs[wrong] - 1), kind="stable")][:most]


def task_of(targets: np.ndarray) -> Task:
    """The task of targets with this dtype.

    Examples
    --------
    >>> task_of(np.array([0.5, 1.5])).name
    'regression'
    """
    if targets.dtype.kind == "b":
        return MultiLabel() if targets.ndim == 2 else Anomalies()
    return Regression() if targets.dtype.kind == "f" else Classes()


def outputs(head: Any, X: Any) -> np.ndarray:
    """The probabilities or the anomaly scores that the head predicts for `X`, or its predictions, where it has none."""
    method = next(name for name in ("predict_proba", "anomaly_scores", "predict") if hasattr(head, name))
    predictions: np.ndarray = getattr(head, method)(X)
    return predictions


def _known(classes: np.ndarray | None) -> np.ndarray:
    """The classes, which are known in every classification."""
    assert classes is not None, "classification has classes"
    return classes


def _mean(scores: Sequence[dict[str, Any]], name: str) -> float:
    """The mean of a score over folds; 0 where no fold defines it."""
    return metrics.mean_and_deviation([one[name] for one in scores])["mean"] or 0.0
