"""The row space: where there are more features than rows, a linear model is fitted in fewer dimensions.

Where the penalty is the squared length of the weights, the best weights are a combination of the rows (the representer
theorem). Rotating the features to an orthonormal basis of the row space gives the same model in less time: Hastie and
Tibshirani, "Efficient quadratic regularization for expression arrays" (2004).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh


def basis(X: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the row space of `X`, from the eigenvectors of the inner products of its rows.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64

    Returns
    -------
    ndarray of shape (d, r), of the dtype of `X`
        r is at most n: directions in which the rows extend to less than 1e-6 of the largest extent are left out.

    Examples
    --------
    >>> basis(np.array([[3.0, 0.0, 4.0]])).ravel().round(6).tolist()
    [0.6, 0.0, 0.8]
    """
    values, vectors = eigh(np.asarray(X @ X.T if X.dtype == np.float64 else _products(X)))
    extended = values > 1e-12 * max(values.max(initial=0), np.finfo(float).tiny)
    return (X.T @ (vectors[:, extended] / np.sqrt(values[extended]))).astype(X.dtype)


def _products(X: np.ndarray) -> np.ndarray:
    """``X @ X.T`` in float64, by blocks of columns, so that `X` is never copied to float64 as a whole."""
    total = np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], 1024):
        block = X[:, start : start + 1024].astype(np.float64)
        total += block @ block.T
    return total


def expand(fitted: Any, axes: np.ndarray) -> None:
    """Change a linear model that was fitted to ``X @ axes``, in place, so that it predicts from `X`.

    Parameters
    ----------
    fitted : estimator
        A model with `coef_`, or one that wraps such models.
    axes : ndarray of shape (d, r)
        See `basis`.
    """
    fitted.n_features_in_ = len(axes)
    # The model inside one that adds probabilities or scales targets; the models for each of several targets.
    inner = [fitted.estimator_] if hasattr(fitted, "estimator_") else getattr(fitted, "estimators_", [])
    if inner:
        for model in inner:
            expand(model, axes)
        return
    fitted.coef_ = fitted.coef_ @ axes.T
    if hasattr(fitted, "means_"):  # linear discriminant analysis
        fitted.means_ = fitted.means_ @ axes.T
        del fitted.covariance_
