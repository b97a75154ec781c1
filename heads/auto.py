"""`AutoHead`: the mean of ridge regression and of softmax regression."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from feature_cache.errors import BadData
from feature_cache.lazy_rows import LazyRows
from heads.linear.dense import DenseClassifier
from heads.linear.grid import Fit, train_grid
from heads.linear.head import GRID_TOLERANCE, STRENGTHS, TOLERANCE
from heads.ridge.chunks import RowChunks
from heads.ridge.classifier import GAP, mean_gap, signs_of, with_both_columns
from heads.ridge.discriminant import better_discriminant, discriminant, with_one_intercept
from heads.ridge.path import RidgePath, solve
from heads.splitting.fit_groups import encode_groups
from heads.splitting.splits import MANY, Split, inner_folds
from heads.temperature import inverse_temperature, log_losses
from heads.validation import as_rows, require

# The share of the mean variance that is added to each feature's before features are scaled for softmax regression. With
# 0, features that hardly vary are noise as large as the rest: with EfficientNet-Lite0's features of digits and 5 images
# of each class it had 61 % of them right, with 0.02 to 1 76 %. On drawings, which suit the net, the share hardly
# matters.
FLOOR = 0.05
# With more rows than this, so many of them are enough for choices, and for the temperatures.
MOST = 15_000
SHARES = (0.5, 0.25, 0.0, 0.75, 1.0)  # of ridge regression; the first of equals is taken


class AutoHead(DenseClassifier):
    """The mean of the logits of ridge and of softmax regression, which are calibrated before, and together after.

    Ridge regression is that of `RidgeHead`: it chooses its strength by leave-one-out errors. Where that has a
    clearly lower log-loss on rows that are held out, discriminant analysis makes logits of what it predicts (see
    `heads.ridge.discriminant`). Softmax regression chooses among the strengths of `LinearHead`, by the log-loss of rows
    that are held out, at the best temperature. The temperatures of both, and of their mean, minimise the log-loss of
    the same rows; these are held out in three folds, or in one from 1,000 rows on (see
    `heads.splitting.splits.inner_folds`). From 1,000 rows on, the mean is weighted: the share of ridge regression is 0,
    1/4, 1/2, 3/4 or 1, whichever has the lowest log-loss of these rows. Of more than 15,000 rows, 15,000 that are drawn
    decide on strengths, share and temperatures, and all rows are fitted then.

    Ridge regression is better with few rows, or features that do not suit the data, softmax regression with many rows.
    Their mean is close to the better one, or above it, and its probabilities are better than those of either. Features
    from a cache are read batch by batch, and need not fit into memory.

    Where each class has a single row, nothing can be held out: softmax regression has its middle strength, and the
    logits of the rows are higher for their own class than for others by `heads.ridge.classifier.GAP`.

    Parameters
    ----------
    seed : int
        The seed of the folds.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), float64
    intercept_ : ndarray of shape (n_classes,), float64
        The two are a dense layer for features that are not scaled.
    n_features_in_ : int
    chosen_ : dict
        The ``alpha`` of ridge regression, whether it is followed by a ``discriminant``, its ``share`` of the mean, and
        the ``strength`` of softmax regression.

    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [8.0], [9.0]]), np.array(["a", "a", "b", "b"])
    >>> AutoHead().fit(X, y).predict(np.array([[0.5]])).tolist()
    ['a']
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n,).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that are held out together (see `heads.splitting.fit_groups`).

        Raises
        ------
        BadData
            When there is only one class, or a feature is not finite.
        InvalidChoice
            When the seed is out of range.
        """
        require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")
        X, y = self._rows(X, y)
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise BadData("a head needs rows of at least 2 classes; received 1 class.")
        groups = encode_groups(groups, y)
        signs, some = signs_of(target), _some(len(target), self.seed)
        their_groups = groups if groups is None else encode_groups(groups[some], some)
        path = solve(RowChunks(_rows(X, some), their_groups), signs[some], None, scale=False)
        folds = [(some[train], some[held_out]) for train, held_out in self._folds(target[some], their_groups)]
        fit, held_out, logits = _softmax_regression(X, target, folds)
        layers = [_layer(path), fit.dense()]
        found = None
        if len(held_out):
            of_some = [(np.searchsorted(some, train), np.searchsorted(some, np.sort(rest))) for train, rest in folds]
            scores = with_one_intercept(path.loo_predictions, signs[some], their_groups)
            found, scores = better_discriminant(with_both_columns(scores), target[some], of_some)
            of_layers = [scores, logits]
            calibrated = partial(inverse_temperature, target=target[held_out])
        else:
            rows = as_rows(X[:])
            of_layers = [rows @ coef.T + intercept for coef, intercept in layers]
            calibrated = partial(_factor_of_gap, target=target)
        factors = [calibrated(one) for one in of_layers]
        ridge, softmax = (factor * one for factor, one in zip(factors, of_layers, strict=True))
        share = 0.5
        if len(held_out) and len(target) >= MANY:
            share = min(SHARES, key=lambda each: _log_loss(each * ridge + (1 - each) * softmax, target[held_out]))
        if share and len(some) < len(target):
            path = solve(RowChunks(X, groups), signs, path.alphas[[path.best]], scale=False)
            layers[0] = _layer(path)
            if found is not None:
                found = discriminant(with_one_intercept(path.loo_predictions, signs, groups), target)
        if found is not None:
            (weights, biases), (coef, intercept) = found, layers[0]
            layers[0] = weights @ coef, weights @ intercept + biases
        self.chosen_ = {
            "alpha": float(path.alphas[path.best]),
            "discriminant": found is not None,
            "share": share,
            "strength": fit.strength,
        }
        whole = calibrated(share * ridge + (1 - share) * softmax)
        first, second = whole * share * factors[0], whole * (1 - share) * factors[1]
        self.coef_, self.intercept_ = (first * one + second * other for one, other in zip(*layers, strict=True))
        return self

    def _folds(self, target: np.ndarray, groups: np.ndarray | None) -> list[Split]:
        """The folds whose held-out rows are of two classes at least; none where there are no such folds."""
        together = np.arange(len(target)) if groups is None or not groups.any() else groups
        try:
            folds = inner_folds(target, together, self.seed)
        except BadData:
            return []
        return folds if all(len(np.unique(target[held_out])) > 1 for _, held_out in folds) else []


def _some(count: int, seed: int) -> np.ndarray:
    """The positions of the rows by which settings are chosen: all, or `MOST` that are drawn."""
    rows = np.arange(count)
    return rows if count <= MOST else np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))


def _rows(X: Any, rows: np.ndarray) -> Any:
    """Some rows, which are not read yet where those of X are not."""
    if len(rows) == len(X):
        return X
    return X.take(rows) if isinstance(X, LazyRows) else X[rows]


def _layer(path: RidgePath) -> tuple[np.ndarray, np.ndarray]:
    """The weights and the intercepts of ridge regression, with a row for each class."""
    return with_both_columns(path.coef.T).T, with_both_columns(path.intercept[None])[0]


def _softmax_regression(X: Any, target: np.ndarray, folds: list[Split]) -> tuple[Fit, np.ndarray, np.ndarray]:
    """Softmax regression with the best strength on all rows; the rows that are held out, and their logits.

    The logits are those of layers with this strength that were fitted to the other rows of a fold.
    """
    rows = np.arange(len(target))
    train = partial(train_grid, [X], target, floor=FLOOR)
    if not folds:
        [[fit]] = train(rows, rows[:0], strengths=[STRENGTHS[len(STRENGTHS) // 2]], tolerance=TOLERANCE)
        return fit, rows[:0], np.empty((0, target.max() + 1))
    held_out = np.concatenate([np.sort(held_out) for _, held_out in folds])
    fits, logits = [], []
    for inside, outside in folds:
        [fits] = train(inside, outside, strengths=STRENGTHS, tolerance=GRID_TOLERANCE)
        logits.append([fit.logits(X, np.sort(outside)) for fit in fits])
    of_strengths = [np.concatenate(some).astype(np.float64) for some in zip(*logits, strict=True)]
    best = int(np.argmin([_log_loss(some, target[held_out]) for some in of_strengths]))
    [[fit]] = train(rows, rows[:0], strengths=[STRENGTHS[best]], tolerance=TOLERANCE, start=fits[best])
    return fit, held_out, of_strengths[best]


def _log_loss(logits: np.ndarray, target: np.ndarray) -> float:
    """The log-loss of logits at their best temperature; infinite where they are not finite."""
    return float(np.mean(log_losses(logits, target))) if np.isfinite(logits).all() else np.inf


def _factor_of_gap(logits: np.ndarray, target: np.ndarray) -> float:
    """The factor that makes the logits of the true classes higher than others by `GAP`."""
    return GAP / mean_gap(logits, target)
