"""Labels that are likely wrong, by confident learning on probabilities of images that were held out.

C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70, 2021. An image is counted as one of class j when the probability of j reaches the
mean probability of j among the images that are labelled j. The images that are counted as another class than their
label says are the off-diagonal of the confident joint.

The ranking is by self-confidence, the probability of the given label, averaged with the share of the nearest images in
feature space that have this label. The neighbours are evidence of another kind than the head's: `benchmarks/review.py`
measures what they add to the probabilities alone.

A label is suspected, so that its suggestion may be accepted unseen, where next to nothing speaks for it. How little
that is depends on the classes: a shirt that looks like a T-shirt may well be one. So the bound is lower for a label
that the images of the suggested class often resemble, in proportion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEIGHBORS = 20
SURE = 0.04  # of the quality of a label: most labels below it are wrong where classes are easily told apart
RARELY = 0.015  # mean probability of a class among the images of another, up to which the two are easily told apart
NEIGHBOR_WEIGHT = 0.2  # of the labels of the neighbours; the rest is that of the probabilities


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """What speaks against the label of each image.

    Attributes
    ----------
    quality : ndarray of shape (n,), float64
        From 0, where everything speaks against the label, to 1.
    suggested : ndarray of shape (n,), int
        The position of the most likely class other than the label.
    suspected : ndarray of shape (n,), bool
        Whether another class is likelier and next to nothing speaks for the label: see `sure_bounds`.
    contradicted : ndarray of shape (n,), bool
        Whether another class is likelier than the label, be it by little.
    counted : ndarray of shape (n,), bool
        Whether confident learning counts the image as another class than its label.
    """

    quality: np.ndarray
    suggested: np.ndarray
    suspected: np.ndarray
    contradicted: np.ndarray
    counted: np.ndarray

    @property
    def ranking(self) -> np.ndarray:
        """The positions of all images, those whose label is most likely wrong first."""
        return np.argsort(self.quality, kind="stable")


def find_label_issues(
    labels: np.ndarray, probabilities: np.ndarray, neighbors: np.ndarray | None = None
) -> LabelIssues:
    """What speaks against each label.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
        The position of the given class of each image.
    probabilities : ndarray of shape (n, k), float
        Of each class, by heads that were not trained on the image.
    neighbors : ndarray of shape (n, m), int, optional
        The positions of the nearest other images of each image; -1 where there is none.

    Examples
    --------
    >>> labels = np.array([0, 0, 1, 1])
    >>> issues = find_label_issues(labels, np.array([[0.9, 0.1], [0.01, 0.99], [0.01, 0.99], [0.02, 0.98]]))
    >>> int(issues.ranking[0]), int(issues.suggested[1]), issues.suspected.tolist()
    (1, 1, [False, True, False, False])
    """
    rows = np.arange(len(labels))
    counted = counted_classes(labels, probabilities)
    evidence = probabilities.astype(np.float64)
    if neighbors is not None and neighbors.shape[1]:
        shares = neighbor_shares(labels, neighbors, probabilities.shape[1])
        evidence = (1 - NEIGHBOR_WEIGHT) * evidence + NEIGHBOR_WEIGHT * shares
    quality = evidence[rows, labels]
    others = evidence.copy()
    others[rows, labels] = -1
    suggested = others.argmax(axis=1)
    contradicted = others[rows, suggested] > quality
    suspected = contradicted & (quality < sure_bounds(labels, probabilities, suggested))
    return LabelIssues(quality, suggested, suspected, contradicted, (counted != labels) & (counted >= 0))


def sure_bounds(labels: np.ndarray, probabilities: np.ndarray, suggested: np.ndarray) -> np.ndarray:
    """The quality below which the label of each image is suspected, of shape (n,): `SURE` at most.

    It is lower, in proportion, where the images of the suggested class resemble the label more than `RARELY`: where its
    mean probability among them is higher.

    Examples
    --------
    >>> probabilities = np.array([[0.0, 0.4, 0.6], [0.03, 0.97, 0.0], [0.0, 0.1, 0.9]])
    >>> sure_bounds(np.array([0, 1, 2]), probabilities, np.array([1, 2, 1])).round(3).tolist()
    [0.02, 0.006, 0.04]
    """
    classes = probabilities.shape[1]
    total = np.zeros((classes, classes))
    np.add.at(total, labels, probabilities)
    means = total / np.maximum(1, np.bincount(labels, minlength=classes))[:, None]
    return SURE * np.minimum(1, RARELY / np.maximum(means[suggested, labels], RARELY))


def class_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The mean probability of each class among the images labelled so: shape (k,). Infinite where no image is."""
    total = np.zeros(probabilities.shape[1])
    np.add.at(total, labels, probabilities[np.arange(len(labels)), labels])
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    return np.divide(total, counts, out=np.full(len(total), np.inf), where=counts > 0)


def counted_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The class that each image is counted as, of shape (n,): the likeliest one at or above its threshold, or -1."""
    confident = probabilities >= class_thresholds(labels, probabilities) - 1e-12
    counted = np.where(confident, probabilities, -1).argmax(axis=1)
    return np.where(confident.any(axis=1), counted, -1)


def confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How many images of each label (rows) are counted as each class (columns): shape (k, k), int64.

    Examples
    --------
    >>> confident_joint(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]])).tolist()
    [[1, 1], [0, 1]]
    """
    classes = probabilities.shape[1]
    counted = counted_classes(labels, probabilities)
    known = counted >= 0
    pairs = labels[known] * classes + counted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def neighbor_shares(labels: np.ndarray, neighbors: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class among the neighbours of an image, of shape (n, k), as if there were one more of all.

    Examples
    --------
    >>> neighbor_shares(np.array([0, 0, 1]), np.array([[1, 2], [0, 2], [0, 1]]), 2)[2].tolist()
    [0.8333333333333334, 0.16666666666666666]
    """
    shares = np.full((len(labels), classes), 1 / classes)
    for column in neighbors.T:
        known = np.flatnonzero(column >= 0)
        shares[known, labels[column[known]]] += 1
    return shares / shares.sum(axis=1, keepdims=True)


def ambiguity(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How near the two likeliest classes of each image are to each other, and which they are.

    Returns
    -------
    margin : ndarray of shape (n,)
        The difference of their probabilities: 0 where the two are equally likely.
    classes : ndarray of shape (n, 2), int
        The likeliest class, and the next.

    Examples
    --------
    >>> margin, classes = ambiguity(np.array([[0.5, 0.5, 0.0], [0.0, 0.1, 0.9]]))
    >>> margin.tolist(), classes[1].tolist()
    ([0.0, 0.8], [2, 1])
    """
    classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    best = np.take_along_axis(probabilities, classes, axis=1)
    return best[:, 0] - best[:, -1], classes
