"""The checks that every head has to pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from toy_data import CLASSES, blobs, cached


def _params(head: Any) -> dict[str, str]:
    """Parameters, which may be estimators, as texts that can be compared."""
    return {key: repr(value) for key, value in head.get_params().items()}


def _check_before_fit(new_head: Callable[[], Any], X: np.ndarray, folder: Path) -> None:
    head = new_head()
    params = _params(head)
    assert _params(clone(head)) == params
    assert _params(type(head)(**head.get_params(deep=False))) == params
    assert head.set_params(**head.get_params()) is head
    for method in (head.predict, head.predict_proba):
        with pytest.raises(NotFittedError):
            method(X)
    with pytest.raises(NotFittedError):
        head.save(folder)
    assert list(folder.iterdir()) == []


def _check_predictions(head: Any, X: Any, y: np.ndarray) -> None:
    probabilities = head.predict_proba(X)
    assert probabilities.shape == (len(y), len(CLASSES))
    assert np.issubdtype(probabilities.dtype, np.floating)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(head.predict(X), head.classes_[probabilities.argmax(1)])
    np.testing.assert_array_equal(head.classes_, CLASSES)
    assert (head.predict(X) == y).mean() > 0.9
    assert head.score(X, y) > 0.9
    np.testing.assert_allclose(head.predict_proba(X[:1]), probabilities[:1], atol=1e-6)


def _check_refusals(head: Any, X: np.ndarray) -> None:
    with pytest.raises(ValueError, match="11 features.*expecting 12 features"):
        head.predict_proba(X.reshape(len(X), -1)[:, :11])
    with pytest.raises(ValueError, match="NaN"):
        head.predict(np.full_like(X, np.nan))
    with pytest.raises(ValueError, match="2D array"):
        head.predict(X[0, 0, 0])


def _check_saving(head: Any, X: np.ndarray, folder: Path) -> None:
    head.save(folder)
    back = type(head).load(folder, head.get_params())
    np.testing.assert_array_equal(back.predict_proba(X), head.predict_proba(X))
    np.testing.assert_array_equal(back.predict(X), head.predict(X))
    np.testing.assert_array_equal(back.classes_, head.classes_)
    assert back.n_features_in_ == head.n_features_in_ == X[0].size
    assert _params(back) == _params(head)
    _check_refusals(back, X)


@pytest.fixture
def check_head(tmp_path: Path) -> Callable[[Callable[[], Any]], None]:
    """A function that checks what every head owes, given one that makes new heads of one setting."""

    def check(new_head: Callable[[], Any]) -> None:
        X, y = blobs()
        folder = tmp_path / "head"
        folder.mkdir()
        _check_before_fit(new_head, X, folder)

        head = new_head()
        params = _params(head)
        assert head.fit(X, y) is head
        assert _params(head) == params
        _check_predictions(head, X, y)
        _check_refusals(head, X)
        _check_saving(head, X, folder)
        with pytest.raises(NotFittedError):
            clone(head).predict(X)

        # Features from a cache, axes in space or not: the same head, bit by bit, as of the rows in memory.
        again = new_head().fit(cached(tmp_path / "cache", X), y)
        np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
        flat = cached(tmp_path / "flat", X.reshape(len(X), -1))
        np.testing.assert_array_equal(again.predict_proba(flat), head.predict_proba(X))

    return check
