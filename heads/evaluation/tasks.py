"""Tasks: what a head predicts, and how that is scored. The type of the targets tells which.

classes      shape (n,), text or integers: each image is of one class
regression   shape (n,) or (n, k), float: numbers
multilabel   shape (n, k), bool: each image has any number of labels
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heads.evaluation import metrics
from heads.registry import Head


class Task:
    """What is asked of the outputs of heads: probabilities where they have them, numbers otherwise.

    Attributes
    ----------
    name : str
        ``classes``, ``regression`` or ``multilabel``.
    """

    name: str

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """By what splits are balanced: shape (n,)."""
        return np.zeros(len(targets), np.int64)

    def score(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        """The scores of what was said of some rows (see `heads.evaluation.metrics`).

        Parameters
        ----------
        classes : ndarray or None
            Those that columns of the outputs are of (see `classes_of`).
        """
        raise NotImplementedError

    def quality(self, scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
        """What is the higher the better the scores of some folds are."""
        raise NotImplementedError

    def predicted(self, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        """What the outputs amount to: targets of the same shape as the truth."""
        return outputs

    def worst(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray, most: int) -> np.ndarray:
        """Positions of the rows that were mistaken, the surest mistakes first; `most` of them."""
        raise NotImplementedError

    def classes_of(self, head: Head) -> np.ndarray | None:
        """The classes that the columns of the head's outputs are of; None where they are no classes."""
        return None

    def all_classes(self, targets: np.ndarray) -> np.ndarray | None:
        """The same of outputs as `whole` makes them."""
        return None

    def whole(self, targets: np.ndarray, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        """Outputs with a column for every class of `targets`, 0 for those that the head did not know."""
        return outputs


class Classes(Task):
    """Classification: by accuracy, ties by log-loss."""

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
    """Numbers: by the share of the variance that is explained, which is the same in any unit."""

    name = "regression"

    def score(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return metrics.score_regression(truth, outputs)

    def quality(self, scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
        return _mean(scores, "r2"), -_mean(scores, "rmse")

    def worst(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray, most: int) -> np.ndarray:
        spread = truth.std(0)
        far = np.abs(truth - outputs) / np.where(spread > 0, spread, 1)
        return np.argsort(-far.reshape(len(far), -1).max(1), kind="stable")[:most]


class MultiLabel(Task):
    """Several labels: by average precision, which needs no threshold; ties by log-loss."""

    name = "multilabel"

    def score(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return metrics.score_multilabel(truth, outputs)

    def quality(self, scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
        return _mean(scores, "average_precision"), -_mean(scores, "nll")

    def predicted(self, classes: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
        return outputs > 0.5

    def worst(self, classes: np.ndarray | None, truth: np.ndarray, outputs: np.ndarray, most: int) -> np.ndarray:
        sureness = np.where(truth != (outputs > 0.5), np.abs(outputs - 0.5), -1).max(1)
        order = np.argsort(-sureness, kind="stable")[:most]
        return order[sureness[order] >= 0]


def task_of(targets: np.ndarray) -> Task:
    """The task that targets of this type make."""
    return Regression() if targets.dtype.kind == "f" else MultiLabel() if targets.dtype.kind == "b" else Classes()


def outputs(head: Any, X: Any) -> np.ndarray:
    """Probabilities of a head that has them, its predictions otherwise."""
    said: np.ndarray = (head.predict_proba if hasattr(head, "predict_proba") else head.predict)(X)
    return said


def _known(classes: np.ndarray | None) -> np.ndarray:
    assert classes is not None, "classification has classes"
    return classes


def _mean(scores: Sequence[dict[str, Any]], name: str) -> float:
    return metrics.mean_and_deviation([one[name] for one in scores])["mean"] or 0.0
