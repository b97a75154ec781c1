"""`LinearHead`: softmax regression that chooses the strength of its regularisation by held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from feature_cache.errors import BadData
from heads.linear.dense import DenseClassifier
from heads.linear.grid import Fit, best_of, train_grid
from heads.splitting.fit_groups import encode_groups, inner_split
from heads.validation import require

# The default strengths. On 49 problems, steps of 2 and a wider range did not choose more accurate heads; steps of 16
# chose worse ones.
STRENGTHS = tuple(4.0**power for power in range(3, -6, -1))
# L-BFGS stops where the loss is expected to fall by no more than these shares of it: in the grid, whose accuracies have
# settled by then, and when the chosen setting is trained on all rows.
GRID_TOLERANCE, TOLERANCE = 1e-3, 1e-5
RANGE = 1e-12, 1e12  # the smallest and the largest strength or rate


class LinearHead(DenseClassifier):
    """L2-regularised softmax regression that chooses its own settings, on features of zero mean and unit variance.

    All settings are trained at the same time on a part of the training rows, so that one pass over the features serves
    all of them, and are scored on the rest. The most accurate one (see `heads.linear.grid.best_of`) is trained again on
    all rows. Strengths that only overfit more and more are abandoned earlier. Features from a cache are read batch by
    batch, and need not fit into memory.

    Parameters
    ----------
    strengths : float or sequence of float, optional
        The strengths to choose among: ``strength * n_features / 2`` times the sum of squared weights is added to the
        sum of the log-losses, so that a strength means the same for narrow and for wide features.
        ``1 / (strength * n_features)`` is scikit-learn's C for three classes and more (see `heads.linear.grid.Fit`), so
        that 0.25 is the default of `LogisticHead`. By default 64 to 1 / 1024, in steps of 4.
    learning_rates : float or sequence of float, optional
        With rates, every strength is trained with every rate by stochastic gradient descent, with momentum and rates
        that fall along a cosine. By default every strength is trained by L-BFGS, which needs no rate.
    epochs : int
        The number of passes over the features: the largest number for L-BFGS, the exact one for gradient descent.
    inner : float
        The share of the rows on which settings are scored, from 0 to below 1. On 52 problems the chosen heads fell
        behind the best of the grid by 0.08 points of accuracy with a quarter, by 0.12 with 0.15, and by 0.10 with a
        half. The only row, or group of rows, of a class is not held out. If all classes are so small, the middle
        strength is taken, and the rate with the lowest loss on all rows.
    batch_size : int
        The number of rows of a step of gradient descent.
    seed : int
        The seed of the held-out rows, and of the order of rows in gradient descent.
    class_weight : dict, "balanced" or None
        The weights of the classes in the loss, as in scikit-learn.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), float64
    intercept_ : ndarray of shape (n_classes,), float64
        The two are a dense layer for features that are not scaled.
    n_features_in_ : int
    scores_ : list of dict
        For each setting ``strength``, ``learning_rate`` and ``epochs``, and on the held-out rows ``accuracy`` and
        ``log_loss`` (0 and infinity where it diverged). It is empty where there was nothing to choose.
    chosen_ : dict
        The ``strength`` and the ``learning_rate`` that the head was trained with.

    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [8.0], [9.0]] * 4), np.array(["a", "a", "b", "b"] * 4)
    >>> LinearHead().fit(X, y).predict(np.array([[0.5]])).tolist()
    ['a']
    """

    def __init__(
        self,
        strengths: Sequence[float] | float | None = None,
        learning_rates: Sequence[float] | float | None = None,
        epochs: int = 30,
        inner: float = 0.25,
        batch_size: int = 256,
        seed: int = 0,
        class_weight: dict[Any, float] | str | None = None,
    ) -> None:
        self.strengths = strengths
        self.learning_rates = learning_rates
        self.epochs = epochs
        self.inner = inner
        self.batch_size = batch_size
        self.seed = seed
        self.class_weight = class_weight

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n,).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that stay together when rows are held out (see `heads.splitting.fit_groups`).

        Raises
        ------
        BadData
            When there is only one class.
        InvalidChoice
            When a parameter is out of range.
        """
        strengths, rates = self._settings()
        X, y = self._rows(X, y)
        groups = encode_groups(groups, y)
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise BadData("a linear head needs rows of at least 2 classes; received 1 class.")
        train = partial(
            train_grid,
            [X],
            target,
            sample_weight=self._sample_weight(y, target),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        rows, inner = np.arange(len(target)), inner_split(target, self.inner, self.seed, groups)
        self.scores_: list[dict[str, Any]] = []
        start = None
        if inner is None:
            strengths = [strengths[len(strengths) // 2]]
        elif len(strengths) * len(rates or [None]) > 1:
            [fits] = train(*inner, strengths=strengths, learning_rates=rates, tolerance=GRID_TOLERANCE)
            self.scores_ = [_summary(fit, "epochs", "accuracy", "log_loss") for fit in fits]
            best = best_of(fits)
            strengths = [best.strength]
            if best.learning_rate is None:
                start = best  # L-BFGS needs few passes from there; gradient descent starts from zeros again
            else:
                rates = [best.learning_rate]
        scored = rows if rates is not None and len(rates) > 1 else rows[:0]
        [fits] = train(rows, scored, strengths=strengths, learning_rates=rates, tolerance=TOLERANCE, start=start)
        best = min(fits, key=lambda fit: fit.log_loss)
        self.chosen_ = _summary(best)
        self.coef_, self.intercept_ = best.dense()
        return self

    def _sample_weight(self, y: np.ndarray, target: np.ndarray) -> np.ndarray | None:
        """The weight of each row in the loss, by its class; None where all weights are 1."""
        if self.class_weight is None:
            return None
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        return weights[target].astype(np.float32)

    def _settings(self) -> tuple[list[float], list[float] | None]:
        """The strengths and the rates as lists, once all parameters have been checked."""
        for name, least in (("epochs", 1 if self.learning_rates is not None else 2), ("batch_size", 1)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")
        require(0 <= self.inner < 1, "inner", self.inner, "at least 0 and below 1")
        strengths = _numbers("strengths", self.strengths)
        return strengths or list(STRENGTHS), _numbers("learning_rates", self.learning_rates)


def _numbers(name: str, value: Any) -> list[float] | None:
    """The values of a parameter that may be one number or several, once they have been checked."""
    if value is None:
        return None
    try:
        values = np.atleast_1d(value)
    except ValueError:  # lists of several lengths
        values = np.empty(0)
    least, most = RANGE
    right = values.ndim == 1 and values.size > 0 and values.dtype.kind in "iuf"
    require(right and bool(np.all((values >= least) & (values <= most))), name, value, f"from {least:g} to {most:g}")
    return values.astype(np.float64).tolist()


def _summary(fit: Fit, *more: str) -> dict[str, Any]:
    """The setting of `fit`, and more of its attributes, by name."""
    return {name: getattr(fit, name) for name in ("strength", "learning_rate", *more)}
