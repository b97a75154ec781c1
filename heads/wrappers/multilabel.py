"""`MultiLabelHead`: several labels for an image, each told by a head of its own."""

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
from heads.splitting.groups import encode_groups, fit_params
from heads.validation import as_rows
from heads.wrappers.base import FOLDS

FILE = "labels.json"
KINDS = "biuf"  # of labels
LONG = 10  # rows with the same labels one after another: more than an image usually has views


class MultiLabelHead(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """A copy of a head for each label, which tells images that have it from those that do not.

    That is binary relevance (Tsoumakas and Katakis, "Multi-label classification: an overview", International Journal
    of Data Warehousing and Mining 3(3), 2007): labels are learned one by one, and what goes together is left to the
    features. A label that all training rows have, or none, needs no copy: its probability is 1, or 0.

    Parameters
    ----------
    head : head
        For classes (see `heads.registry`). It is cloned.

    Attributes
    ----------
    classes_ : ndarray of shape (k,), int
        Positions of the labels, 0 to k - 1.
    heads_ : list of (head or None)
        Fitted, for each label; None where all rows are alike.
    shares_ : ndarray of shape (k,), float64
        Of the training rows, those that have each label.
    n_features_in_ : int
    """

    def __init__(self, head: Any) -> None:
        self.head = head

    @property
    def reads_batches(self) -> bool:
        """Whether `fit` takes `Features` without having them in memory."""
        return getattr(self.head, "reads_batches", False)

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n, k), bool or 0 and 1.

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that belong together, for heads that take groups (see `heads.splitting.groups`).

        Raises
        ------
        BadData
            When the labels are anything else.
        """
        X, y = self._rows(X, reset=True), _indicators(y)
        check_consistent_length(X, y)
        groups = encode_groups(groups, y)
        self._dtype = y.dtype
        has = y.astype(bool)
        self.shares_ = has.mean(0)
        self.classes_ = np.arange(has.shape[1])
        mixed = (self.shares_ > 0) & (self.shares_ < 1)
        if not self.reads_batches:  # those that do learn no temperature on blocks of rows
            order = _in_thirds(has) if groups is None else _groups_in_thirds(has, groups)
            X, has, groups = X[order], has[order], None if groups is None else groups[order]
        given = fit_params(self.head, groups)
        self.heads_ = [clone(self.head).fit(X, has[:, j], **given) if mixed[j] else None for j in self.classes_]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each label for itself: shape (n, k)."""
        check_is_fitted(self)
        X = self._rows(X, reset=False)
        said = np.tile(self.shares_, (len(X), 1))
        for j, head in enumerate(self.heads_):
            if head is not None:
                said[:, j] = head.predict_proba(X)[:, 1]
        return said

    def predict(self, X: Any) -> np.ndarray:
        """Whether each label is more likely than not: shape (n, k), of the type of the labels of `fit`."""
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
        kept = {
            "labels": len(self.heads_),
            "constant": constant,
            "shares": self.shares_.tolist(),
            "features": int(self.n_features_in_),
            "type": self._dtype.str,
        }
        (folder / FILE).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote.

        Raises
        ------
        UnsafeFile
            When the file of a label holds types that may run code.
        DamagedFile
            When it cannot be read, or is no such head.
        """
        made = cls(params["head"])
        file = folder / FILE
        try:
            kept = read_json(file)
            constant = {int(number): float(share) for number, share in kept["constant"].items()}
            made.shares_ = np.array(kept["shares"], np.float64)
            made.n_features_in_ = int(kept["features"])
            made._dtype = np.dtype(kept["type"])
            _check(made, int(kept["labels"]), constant)
            made.classes_ = np.arange(len(made.shares_))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            reason = one_line(error, with_type=True)
            raise DamagedFile(f"the head {file} cannot be read ({reason}); train it again.") from error
        own = made.head.get_params(deep=False)
        made.heads_ = [
            None if j in constant else type(made.head).load(_folder(folder, j), own) for j in range(len(made.classes_))
        ]
        for j, head in enumerate(made.heads_):
            if head is not None and (
                head.n_features_in_ != made.n_features_in_ or list(head.classes_) != [False, True]
            ):
                raise DamagedFile(f"the head {_folder(folder, j)} is not of a label of {file}; train it again.")
        return made

    def _rows(self, X: Any, *, reset: bool) -> Any:
        """`X`, checked; in memory unless its rows are read batch by batch, and of its own shape where it has one."""
        if hasattr(X, "batches"):
            if self.reads_batches:
                validate_data(self, as_rows(np.asarray(X[:1])), reset=reset, dtype=[np.float32, np.float64])
                return X
            X = np.asarray(X)
        rows = validate_data(self, as_rows(X), reset=reset, dtype=[np.float32, np.float64])
        return X if len(getattr(X, "shape", ())) > 2 else rows  # some heads look at maps

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        tags.target_tags.two_d_labels = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags


def _indicators(y: Any) -> np.ndarray:
    """Labels of shape (n, k), all 0 or 1."""
    if y is None:
        raise ValueError("MultiLabelHead requires y to be passed, but the target y is None.")
    given = np.asarray(y)
    check_classification_targets(given)
    if given.ndim != 2 or given.shape[1] == 0:
        raise BadData(
            "Only binary classification is supported, of each label: y should be of shape (n, k), true where a row "
            f"has the label; received {given.shape}. For classes, of which each row has one, use the head as it is."
        )
    if given.dtype.kind not in KINDS or not np.isin(given, (0, 1)).all():
        raise BadData("each label is true or false, 1 or 0; received other values.")
    return given


def _in_thirds(labels: np.ndarray) -> np.ndarray:
    """An order of rows in which every third of them has about as many of each combination of labels.

    Temperatures are learned on blocks of the rows of one class (see `heads.wrappers.calibration`). For a copy, rows of
    a class have several combinations of the other labels; where rows come sorted by these, what a block holds out is
    unlike all that is left, and a head that is right would be taken to know nothing. Rows that follow one another with
    the same labels, as views of an image do, stay together, but where they are many.

    Parameters
    ----------
    labels : ndarray of shape (n, k), bool
    """
    combination = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    runs = np.split(np.arange(len(labels)), np.flatnonzero(np.diff(combination)) + 1)
    pieces = [piece for run in runs for piece in (np.array_split(run, FOLDS) if len(run) > LONG else [run])]
    pieces.sort(key=lambda piece: combination[piece[0]])
    return np.concatenate([piece for fold in range(FOLDS) for piece in pieces[fold::FOLDS]])


def _groups_in_thirds(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The same of groups of rows, each by the labels of its first row; its rows follow one another."""
    first = np.unique(groups, return_index=True)[1]
    rank = np.argsort(_in_thirds(labels[first]))
    return np.argsort(rank[groups], kind="stable")


def _folder(folder: Path, number: int) -> Path:
    return folder / f"label-{number:03d}"


def _check(head: MultiLabelHead, labels: int, constant: dict[int, float]) -> None:
    """Raise ValueError unless these are the parts of a fitted head."""
    shares = head.shares_
    if shares.shape != (labels,) or not labels or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("its shares are not those of its labels")
    if constant != {j: share for j, share in enumerate(shares.tolist()) if share in (0, 1)}:
        raise ValueError("its constant labels are not those that all rows have, or none")
    if head.n_features_in_ < 1 or head._dtype.kind not in KINDS:
        raise ValueError("it has no features, or other labels than 0 and 1")
