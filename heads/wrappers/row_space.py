"""More features than rows: a linear model is fitted in the span of the rows, and is then one of all features.

Where the penalty is the squared length of the weights, the best weights lie in the span of the rows (the representer
theorem), and turning the features to an orthonormal basis of it changes nothing but the time: Hastie and Tibshirani,
"Efficient quadratic regularization for expression arrays" (2004).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh


def basis(X: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the span of the rows of `X`: shape (d, r), r at most n.

    From the eigenvectors of the products of all rows, in float64: directions of less than 1e-6 of the largest extent
    are left out.
    """
    values, vectors = eigh(np.asarray(X @ X.T if X.dtype == np.float64 else _products(X)))
    kept = values > 1e-12 * max(values.max(initial=0), np.finfo(float).tiny)
    return (X.T @ (vectors[:, kept] / np.sqrt(values[kept]))).astype(X.dtype)


def _products(X: np.ndarray) -> np.ndarray:
    """``X @ X.T`` in float64, by blocks of columns, so that there is no copy of `X` in float64."""
    total = np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], 1024):
        block = X[:, start : start + 1024].astype(np.float64)
        total += block @ block.T
    return total


def turn_back(fitted: Any, axes: np.ndarray) -> None:
    """Have a linear model that was fitted on ``X @ axes`` take `X`: the weights are turned back, in place."""
    fitted.n_features_in_ = len(axes)
    # Of one that adds probabilities, or scales targets; of a model for each of several targets.
    inner = [fitted.estimator_] if hasattr(fitted, "estimator_") else getattr(fitted, "estimators_", [])
    if inner:
        for model in inner:
            turn_back(model, axes)
        return
    fitted.coef_ = fitted.coef_ @ axes.T
    if hasattr(fitted, "means_"):  # discriminant analysis
        fitted.means_ = fitted.means_ @ axes.T
        del fitted.covariance_
