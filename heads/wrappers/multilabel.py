"""`MultiLabelHead`: a head that predicts any number of labels for an image, with a copy of a classifier for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from feature_cache.errors import BadData, DamagedFile, one_line
from feature_cache.files.checked import read_json
from feature_cache.lazy_rows import LazyRows
from heads.splitting.fit_groups import encode_groups, fit_params
from heads.validation import as_rows
from heads.wrappers.base import FOLDS

FILE = "labels.json"
DTYPE_KINDS = "biuf"  # of labels: booleans, integers and floats
LONG_RUN = 10  # this many consecutive rows with the same labels are more than the views of one image usually are


class MultiLabelHead(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """A head with a copy of a classifier for each label, which separates images that have it from the others.

    This is binary relevance (Tsoumakas and Katakis, "Multi-label classification: an overview", International Journal
    of Data Warehousing and Mining 3(3), 2007): labels are learned one by one, and how they depend on each other is not
    modelled. A label that all training rows have, or none, needs no copy: its probability is 1, or 0.

    Parameters
    ----------
    head : head
        A classifier (see `heads.registry`); it is cloned.

    Attributes
    ----------
    classes_ : ndarray of shape (k,), int
        The positions of the labels, 0 to k - 1.
    heads_ : list of (head or None)
        The fitted copy for each label; None where all training rows have the label, or none has it.
    shares_ : ndarray of shape (k,), float64
        The share of the training rows that have each label.
    n_features_in_ : int

    Examples
    --------
    >>> from heads import make_head
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] * 3)
    >>> MultiLabelHead(make_head("logistic")).fit(X, X > 0.5).predict(X[:2]).tolist()
    [[False, False], [False, True]]
    """

    def __init__(self, head: Any) -> None:
        self.head = head

    @property
    def reads_batches(self) -> bool:
        """Whether `fit` reads lazy rows batch by batch, so that they need not fit into memory."""
        return getattr(self.head, "reads_batches", False)

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n, k), bool or 0 and 1.

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that belong together; passed to heads that take groups (see `heads.splitting.fit_groups`).

        Raises
        ------
        BadData
            When the labels are of another shape, or have other values.
        """
        X, y = self._rows(X, reset=True), _indicators(y)
        check_consistent_length(X, y)
        groups = encode_groups(groups, y)
        self._dtype = y.dtype
        has = y.astype(bool)
        self.shares_ = has.mean(0)
        self.classes_ = np.arange(has.shape[1])
        mixed = (self.shares_ > 0) & (self.shares_ < 1)
        if not self.reads_batches:  # heads that read batches learn no temperature, which would need this order
            order = _in_thirds(has) if groups is None else _groups_in_thirds(has, groups)
            X, has, groups = X[order], has[order], None if groups is None else groups[order]
        options = fit_params(self.head, groups)
        self.heads_ = [clone(self.head).fit(X, has[:, j], **options) if mixed[j] else None for j in self.classes_]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each label, independently of the others: shape (n, k)."""
        check_is_fitted(self)
        X = self._rows(X, reset=False)
        probabilities = np.tile(self.shares_, (len(X), 1))
        for j, head in enumerate(self.heads_):
            if head is not None:
                probabilities[:, j] = head.predict_proba(X)[:, 1]
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Whether each label is more likely than not: shape (n, k), with the dtype of the labels of `fit`."""
        return (self.predict_proba(X) > 0.5).astype(self._dtype)

    def save(self, folder: Path) -> None:
        """Write ``labels.json``, and a folder ``label-000`` and so on for each label that is not constant."""
        check_is_fitted(self)
        for number, head in enumerate(self.heads_):
            if head is not None:
                inside = _folder(folder, number)
                inside.mkdir()
                head.save(inside)
        constant = {str(j): bool(self.shares_[j]) for j, head in enumerate(self.heads_) if head is None}
        content = {
            "labels": len(self.heads_),
            "constant": constant,
            "shares": self.shares_.tolist(),
            "features": int(self.n_features_in_),
            "type": self._dtype.str,
        }
        (folder / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote into `folder`.

        Raises
        ------
        UnsafeFile
            When the file of a label holds types that may run code.
        DamagedFile
            When a file cannot be read, or holds something else.
        """
        loaded = cls(params["head"])
        file = folder / FILE
        try:
            content = read_json(file)
            constant = {int(number): float(share) for number, share in content["constant"].items()}
            loaded.shares_ = np.array(content["shares"], np.float64)
            loaded.n_features_in_ = int(content["features"])
            loaded._dtype = np.dtype(content["type"])
            _check(loaded, int(content["labels"]), constant)
            loaded.classes_ = np.arange(len(loaded.shares_))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            reason = one_line(error, with_type=True)
            raise DamagedFile(f"the head {file} cannot be read ({reason}); train it again.") from error
        loaded.heads_ = [loaded._load_label(folder, j, constant) for j in range(len(loaded.classes_))]
        return loaded

    def _load_label(self, folder: Path, number: int, constant: dict[int, float]) -> Any:
        """The fitted copy for a label; None for one of the `constant` labels."""
        if number in constant:
            return None
        file = _folder(folder, number)
        head = type(self.head).load(file, self.head.get_params(deep=False))
        if head.n_features_in_ != self.n_features_in_ or list(head.classes_) != [False, True]:
            raise DamagedFile(f"the head {file} is not of a label of {folder / FILE}; train it again.")
        return head

    def _rows(self, X: Any, *, reset: bool) -> Any:
        """`X` once it has been checked: in memory, unless the head reads batches; maps keep their shape."""
        if isinstance(X, LazyRows):
            if self.reads_batches:
                validate_data(self, as_rows(np.asarray(X[:1])), reset=reset, dtype=[np.float32, np.float64])
                return X
            X = np.asarray(X)
        rows = validate_data(self, as_rows(X), reset=reset, dtype=[np.float32, np.float64])
        return X if len(getattr(X, "shape", ())) > 2 else rows  # some heads use the shape of maps

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        tags.target_tags.two_d_labels = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags


def _indicators(y: Any) -> np.ndarray:
    """Labels of shape (n, k), all of them 0 or 1.

    Raises
    ------
    BadData
        When they are of another shape, or have other values.
    """
    if y is None:
        raise ValueError("MultiLabelHead requires y to be passed, but the target y is None.")
    labels = np.asarray(y)
    check_classification_targets(labels)
    if labels.ndim != 2 or labels.shape[1] == 0:
        raise BadData(
            "Only binary classification is supported, of each label: y should be of shape (n, k), true where a row "
            f"has the label; received {labels.shape}. For classes, of which each row has one, use the head as it is."
        )
    if labels.dtype.kind not in DTYPE_KINDS or not np.isin(labels, (0, 1)).all():
        raise BadData("each label is true or false, 1 or 0; received other values.")
    return labels


def _in_thirds(labels: np.ndarray) -> np.ndarray:
    """An order of the rows in which each third of them has about the same number of every combination of labels.

    Temperatures are learned on blocks of the rows of one class (see `heads.wrappers.calibration`). In the copy for a
    label, the rows of a class have several combinations of the other labels. Where rows are sorted by these, the rows
    of a held-out block differ from all others, and a good head would seem to know nothing. Consecutive rows with the
    same labels, as the views of an image are, stay together unless they are many.

    Parameters
    ----------
    labels : ndarray of shape (n, k), bool
    """
    combination = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    runs = np.split(np.arange(len(labels)), np.flatnonzero(np.diff(combination)) + 1)
    pieces = [piece for run in runs for piece in (np.array_split(run, FOLDS) if len(run) > LONG_RUN else [run])]
    pieces.sort(key=lambda piece: combination[piece[0]])
    return np.concatenate([piece for fold in range(FOLDS) for piece in pieces[fold::FOLDS]])


def _groups_in_thirds(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The order of `_in_thirds` for groups, by the labels of their first rows; the rows of a group are consecutive."""
    first = np.unique(groups, return_index=True)[1]
    rank = np.argsort(_in_thirds(labels[first]))
    return np.argsort(rank[groups], kind="stable")


def _folder(folder: Path, number: int) -> Path:
    """The folder of the copy for a label."""
    return folder / f"label-{number:03d}"


def _check(head: MultiLabelHead, labels: int, constant: dict[int, float]) -> None:
    """Raise ValueError unless these are the parts of a fitted head."""
    shares = head.shares_
    if shares.shape != (labels,) or not labels or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("its shares are not those of its labels")
    if constant != {j: share for j, share in enumerate(shares.tolist()) if share in (0, 1)}:
        raise ValueError("its constant labels are not those that all rows have, or none")
    if head.n_features_in_ < 1 or head._dtype.kind not in DTYPE_KINDS:
        raise ValueError("it has no features, or other labels than 0 and 1")
