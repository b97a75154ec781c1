"""What the heads made of scikit-learn share, from the check of rows to the file of the head.

`Steps` is for heads of any kind, `PipelineHead` for classifiers; `heads.wrappers.regressors` has regressors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from feature_cache.errors import InvalidChoice, LayertapError, first_line
from heads import user_code
from heads.splitting.groups import fit_params
from heads.storage import skops
from heads.threads import limited
from heads.validation import as_rows, require
from heads.wrappers import row_space
from heads.wrappers.calibration import TemperatureScaled

FOLDS = 3  # for the temperature
# Below so many numbers threads wait for each other more than they work; where other processes want the cores as well,
# that made a fit sixty times slower.
WORTH_THREADS = 2**24


class Steps(BaseEstimator):
    """Features scaled to zero mean and unit variance, their principal components, and a last step.

    A subclass stores its parameters, `scale` and `pca` among them, and has `_last_step`.

    Attributes
    ----------
    n_features_in_ : int
    pipeline_ : Pipeline
    """

    scale: bool
    pca: float | None

    @property
    def n_iter_(self) -> Any:
        """Iterations of the last step, where it counts them."""
        last = self.pipeline_.steps[-1][1]
        return getattr(last, "estimator_", last).n_iter_

    def save(self, folder: Path) -> None:
        """Write ``head.skops`` into `folder`."""
        check_is_fitted(self)
        skops.write(self.pipeline_, folder, self._own_types())

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote.

        Raises
        ------
        UnsafeFile
            When the file holds types that may run code.
        DamagedFile
            When it cannot be read, or is no such head.
        """
        head = cls(**params)
        expected = head._pipeline(np.ones((2, 1)))
        head.pipeline_ = skops.read(folder, expected, head._what(), head._own_types())
        head.n_features_in_ = head.pipeline_.n_features_in_
        return head

    def _last_step(self, X: np.ndarray) -> Any:
        """The last step, for these rows."""
        raise NotImplementedError

    def _check(self) -> None:
        """Raise InvalidChoice for a parameter that is out of range."""
        right = self.pca is None or 0 < self.pca < 1 or (self.pca >= 1 and self.pca == int(self.pca))
        require(right, "pca", self.pca, "a number of components, or a share of the variance between 0 and 1")

    def _is_turnable(self) -> bool:
        """Whether turning the features changes nothing but the time (see `heads.wrappers.row_space`)."""
        return False

    def _what(self) -> str:
        return f"a fitted {type(self).__name__}"

    def _own_types(self) -> list[type]:
        """Classes of the user's code that the head may hold."""
        return []

    def _fit_steps(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> None:
        """Fit the pipeline to rows and targets that have been checked; groups are for the last step."""
        pipeline = self._pipeline(X)
        name, last = pipeline.steps[-1]
        given = fit_params(last, groups)
        with _threads_for(X), self._in_one_line("cannot be fitted"):
            if self._is_turnable():
                self.pipeline_ = _fit_in_span(pipeline, X, y, given)
            else:
                self.pipeline_ = pipeline.fit(X, y, **{f"{name}__{key}": value for key, value in given.items()})

    def _said(self, method: str, X: Any) -> Any:
        """What the fitted pipeline says of features of shape (n, ...): its `predict`, or another method."""
        check_is_fitted(self)
        X = validate_data(self, as_rows(X), reset=False, dtype=[np.float32, np.float64])
        with _threads_for(X), self._in_one_line("cannot predict"):
            return getattr(self.pipeline_, method)(X)

    def _pipeline(self, X: np.ndarray) -> Pipeline:
        steps: list[Any] = [StandardScaler()] if self.scale else []
        if self.pca is not None:
            components = self.pca if self.pca < 1 else min(int(self.pca), *X.shape)
            steps.append(PCA(components, svd_solver="full" if self.pca < 1 else "auto", random_state=0))
        return make_pipeline(*steps, self._last_step(X))

    def _mean_square(self, X: np.ndarray) -> float:
        """Mean squared length of a row about the mean, once it is scaled."""
        if self.scale:
            return float(X.shape[1])
        return float(X.var(0, dtype=np.float64).sum()) or 1.0

    @contextlib.contextmanager
    def _in_one_line(self, what: str) -> Iterator[None]:
        """Have scikit-learn's complaints about parameters and data as errors of ours."""
        try:
            yield
        except (ValueError, TypeError, NotImplementedError) as error:
            if isinstance(error, LayertapError):
                raise
            raise InvalidChoice(f"{self._name()} {what}: {first_line(error).rstrip('.')}.") from error

    def _name(self) -> str:
        return type(self).__name__


class PipelineHead(ClassifierMixin, Steps):
    """Features scaled to zero mean and unit variance, their principal components, a classifier.

    A subclass stores its parameters, `scale` and `pca` among them, and has `_classifier` and `_check`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    pipeline_ : Pipeline
    """

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n,).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that are held out together, or not at all, where a temperature is learned (see
            `heads.splitting.groups`).
        """
        X, y = validate_data(self, as_rows(X), y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self._check()
        if len(np.unique(y)) < 2:
            raise InvalidChoice("a head tells at least 2 classes apart; the labels hold one class.")
        self._fit_steps(X, y, groups)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        return self._said("predict_proba", X)

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        head = super().load(folder, params)
        head.classes_ = head.pipeline_.classes_
        return head

    def _last_step(self, X: np.ndarray) -> Any:
        return self._classifier(X)

    def _classifier(self, X: np.ndarray) -> Any:
        """The last step, for these rows."""
        raise NotImplementedError

    def _calibrated(self, classifier: Any, calibrate: bool) -> TemperatureScaled:
        return TemperatureScaled(classifier, FOLDS if calibrate else 0)


class OfEstimator(MetaEstimatorMixin):
    """What heads share whose last step holds their parameter `estimator`, which may be of the user's code."""

    estimator: Any

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Any:
        return super().load(folder, {key: value for key, value in params.items() if "__" not in key})

    def _what(self) -> str:
        return f"a fitted head with {self._name()}"

    def _name(self) -> str:
        return type(self.estimator).__name__

    def _own_types(self) -> list[type]:
        return user_code.types_of(self.estimator)

    @contextlib.contextmanager
    def _in_one_line(self, what: str) -> Iterator[None]:
        try:
            with super()._in_one_line(what):
                yield
        except LayertapError:
            raise
        except Exception as error:  # in the user's own code, whatever goes wrong is the user's to mend
            if not self._own_types():
                raise
            raise InvalidChoice(
                f"{self._name()} {what}: {type(error).__name__}: {first_line(error).rstrip('.')}."
            ) from error


def _fit_in_span(pipeline: Pipeline, X: np.ndarray, y: np.ndarray, given: dict[str, Any]) -> Pipeline:
    """Fit a pipeline that ends in a linear model, in the span of the rows where they are fewer than features."""
    before, last = pipeline[:-1], pipeline[-1]
    Z = before.fit_transform(X, y) if len(before) else X
    axes = row_space.basis(Z) if Z.shape[1] > len(Z) else None
    if axes is not None and axes.shape[1]:  # rows that are all alike span nothing
        last.fit(Z @ axes, y, **given)
        row_space.turn_back(last, axes)
    else:
        last.fit(Z, y, **given)
    return pipeline


def _threads_for(X: np.ndarray) -> AbstractContextManager[Any]:
    return limited(1, openmp=True) if X.size < WORTH_THREADS else nullcontext()
