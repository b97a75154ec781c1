"""`AutoHead`: the mean of ridge regression, its discriminant analysis, and softmax regression."""

from __future__ import annotations

import itertools
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
from heads.ridge.discriminant import (
    Discriminant,
    discriminant,
    held_out_logits,
    is_clearly_lower,
    with_one_intercept,
)
from heads.ridge.path import RidgePath, solve
from heads.splitting.fit_groups import encode_groups
from heads.splitting.splits import Split, inner_folds
from heads.temperature import inverse_temperature, log_losses
from heads.validation import as_rows, require

# The share of the mean variance that is added to each feature's before features are scaled for softmax regression. With
# 0, features that hardly vary are noise as large as the rest: with EfficientNet-Lite0's features of digits and 5 images
# of each class it had 61 % of them right, with 0.02 to 1 76 %. On drawings, which suit the net, the share hardly
# matters.
FLOOR = 0.05
# With more rows than this, so many of them are enough for choices, and for the temperatures.
MOST = 15_000
# Parts are left out of the mean where its log-loss falls by more than so many standard errors of the difference. On
# MNIST, Fashion-MNIST and drawings the mean of all was nearly always the best: leaving out what seemed to be worse by
# any amount cost 0.2 points of accuracy, by one error 0.05, by two nothing. On the pixels of scikit-learn's digits,
# which suit softmax regression alone, the log-loss was 0.118, 0.123 and 0.135.
CLEARLY = 1.0
PARTS = ("ridge", "discriminant", "softmax")

Logits = dict[str, np.ndarray]  # by `PARTS`, those that there are; each of shape (m, n_classes)
Layer = tuple[np.ndarray, np.ndarray]  # weights of shape (n_classes, n_features), and intercepts


class AutoHead(DenseClassifier):
    """The mean of the logits of three linear heads, each calibrated before, and all together after.

    Ridge regression is that of `RidgeHead`: it chooses its strength by leave-one-out errors. Discriminant analysis
    makes other logits of what it predicts without a row (see `heads.ridge.discriminant`), for three classes or more
    that have enough rows. Softmax regression chooses among the strengths of `LinearHead`, by the log-loss of rows that
    are held out, at the best temperature. The temperatures of all parts, and of their mean, minimise the log-loss of
    the same rows; these are held out in three folds, or in one from 1,000 rows on (see
    `heads.splitting.splits.inner_folds`). Parts without which the mean has a clearly lower log-loss on these rows are
    left out. Of more than 15,000 rows, 15,000 that are drawn decide on all that, and all rows are fitted then.

    Ridge regression is better with few rows, or features that do not suit the data, discriminant analysis where
    classes are not equally frequent or lie between others, softmax regression with many rows. Their mean is close to
    the best, or above it, and its probabilities are better than those of any. Features from a cache are read batch by
    batch, and need not fit into memory.

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
        The ``alpha`` of ridge regression, the ``strength`` of softmax regression, and the share that ``ridge``,
        ``discriminant`` and ``softmax`` have in the mean.

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
        if len(held_out):
            of_some = [(np.searchsorted(some, train), np.searchsorted(some, np.sort(rest))) for train, rest in folds]
            scores = _without_own_row(path, signs[some], their_groups)
            parts = {**_parts_of_ridge(scores, target[some], of_some), "softmax": logits}
            calibrated = partial(inverse_temperature, target=target[held_out])
        else:
            rows = as_rows(X[:])
            layers = {"ridge": _layer(path), "softmax": fit.dense()}
            parts = {name: rows @ coef.T + intercept for name, (coef, intercept) in layers.items()}
            calibrated = partial(_factor_of_gap, target=target)
        factors = {name: calibrated(part) for name, part in parts.items()}
        parts = {name: factors[name] * part for name, part in parts.items()}
        chosen = _chosen(parts, target[held_out])
        if len(some) < len(target) and chosen != ("softmax",):
            path = solve(RowChunks(X, groups), signs, path.alphas[[path.best]], scale=False)
        layers = {"ridge": _layer(path), "softmax": fit.dense()}
        if "discriminant" in chosen:
            found = discriminant(_without_own_row(path, signs, groups), target)
            layers["discriminant"] = _composed(found, layers["ridge"])
        self.chosen_ = {
            "alpha": float(path.alphas[path.best]),
            "strength": fit.strength,
            **{name: 1 / len(chosen) if name in chosen else 0.0 for name in PARTS},
        }
        whole = calibrated(_mean(parts, chosen))
        terms = [[whole * factors[name] * array for array in layers[name]] for name in chosen]
        self.coef_, self.intercept_ = (np.mean(arrays, axis=0) for arrays in zip(*terms, strict=True))
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


def _layer(path: RidgePath) -> Layer:
    """The weights and the intercepts of ridge regression, with a row for each class."""
    return with_both_columns(path.coef.T).T, with_both_columns(path.intercept[None])[0]


def _without_own_row(path: RidgePath, signs: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """What ridge regression predicts of each row without it, with a column for each class."""
    return with_both_columns(with_one_intercept(path.loo_predictions, signs, groups))


def _parts_of_ridge(scores: np.ndarray, target: np.ndarray, folds: list[Split]) -> Logits:
    """The logits of the rows held out, by ridge regression and, where they can be had, by its discriminants."""
    of_scores = held_out_logits(scores, target, folds)
    ridge = {"ridge": scores[np.concatenate([held_out for _, held_out in folds])]}
    return ridge if of_scores is None else {**ridge, "discriminant": of_scores}


def _composed(after: Discriminant, layer: Layer) -> Layer:
    """The layer that gives the logits of a discriminant of what another layer predicts."""
    (weights, biases), (coef, intercept) = after, layer
    return weights @ coef, weights @ intercept + biases


def _chosen(parts: Logits, target: np.ndarray) -> tuple[str, ...]:
    """The parts that the mean is of: all, unless that of some is clearly better.

    Parameters
    ----------
    parts : dict of str to ndarray of shape (m, n_classes)
        The logits of rows that were held out.
    target : ndarray of shape (m,), int
        Their classes; none where no rows were held out, and nothing can be chosen.
    """
    names = tuple(parts)
    if not len(target):
        return names
    choices = [some for size in range(1, len(names)) for some in itertools.combinations(names, size)]
    losses = {some: log_losses(_mean(parts, some), target) for some in (names, *choices)}
    best = min((some for some in losses if np.isfinite(losses[some]).all()), key=lambda some: losses[some].mean())
    if np.isfinite(losses[names]).all() and not is_clearly_lower(losses[best], losses[names], CLEARLY):
        return names
    return best


def _mean(parts: Logits, chosen: tuple[str, ...]) -> np.ndarray:
    return np.asarray(np.mean([parts[name] for name in chosen], axis=0))


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
