"""The base classes of the heads made of scikit-learn: checks, the pipeline of steps, and the file of the head.

`Steps` is the base of all of them, and `PipelineHead` that of classifiers; regressors are in
`heads.wrappers.regressors`.
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
from heads.splitting.fit_groups import fit_params
from heads.storage import skops
from heads.threads import limited
from heads.validation import as_rows, require
from heads.wrappers import row_space
from heads.wrappers.calibration import TemperatureScaled

FOLDS = 3  # the inner folds by which a temperature is learned
# With fewer numbers than this, threads wait for each other more than they work: where other processes used the cores as
# well, that made a fit sixty times slower.
WORTH_THREADS = 2**24


class Steps(BaseEstimator):
    """A pipeline that scales features to zero mean and unit variance, takes principal components, and ends in a model.

    A subclass stores its parameters, of which `scale` and `pca` are two, and implements `_last_step`.

    Attributes
    ----------
    n_features_in_ : int
    pipeline_ : Pipeline
    """

    scale: bool
    pca: float | None

    @property
    def n_iter_(self) -> Any:
        """The number of iterations of the last step, where it counts them."""
        last = self.pipeline_.steps[-1][1]
        return getattr(last, "estimator_", last).n_iter_

    def save(self, folder: Path) -> None:
        """Write ``head.skops`` into `folder`."""
        check_is_fitted(self)
        skops.write(self.pipeline_, folder, self._own_types())

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote into `folder`.

        Parameters
        ----------
        params : dict
            The parameters of the constructor.

        Raises
        ------
        UnsafeFile
            When the file holds types that may run code.
        DamagedFile
            When the file cannot be read, or holds something else.
        """
        head = cls(**params)
        expected = head._pipeline(np.ones((2, 1)))
        head.pipeline_ = skops.read(folder, expected, head._description(), head._own_types())
        head.n_features_in_ = head.pipeline_.n_features_in_
        return head

    def _last_step(self, X: np.ndarray) -> Any:
        """The last step of a pipeline that will be fitted to `X`."""
        raise NotImplementedError

    def _check(self) -> None:
        """Raise InvalidChoice for a parameter that is out of range."""
        right = self.pca is None or 0 < self.pca < 1 or (self.pca >= 1 and self.pca == int(self.pca))
        require(right, "pca", self.pca, "a number of components, or a share of the variance between 0 and 1")

    def _is_rotation_invariant(self) -> bool:
        """Whether the model is the same when the features are rotated (see `heads.wrappers.row_space`)."""
        return False

    def _description(self) -> str:
        """What the file of this head holds, for error messages."""
        return f"a fitted {type(self).__name__}"

    def _own_types(self) -> list[type]:
        """The classes of the user's own code that the head may hold."""
        return []

    def _fit_steps(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> None:
        """Fit the pipeline to rows and targets that have been checked; the last step is given the groups."""
        pipeline = self._pipeline(X)
        name, last = pipeline.steps[-1]
        options = fit_params(last, groups)
        with _threads_for(X), self._one_line_errors("cannot be fitted"):
            if self._is_rotation_invariant():
                self.pipeline_ = _fit_in_row_space(pipeline, X, y, options)
            else:
                self.pipeline_ = pipeline.fit(X, y, **{f"{name}__{key}": value for key, value in options.items()})

    def _call(self, method: str, X: Any) -> Any:
        """The result of the `predict`, or another method, of the fitted pipeline for features of shape (n, ...)."""
        check_is_fitted(self)
        X = validate_data(self, as_rows(X), reset=False, dtype=[np.float32, np.float64])
        with _threads_for(X), self._one_line_errors("cannot predict"):
            return getattr(self.pipeline_, method)(X)

    def _pipeline(self, X: np.ndarray) -> Pipeline:
        """A pipeline that is not fitted yet, for rows like `X`."""
        steps: list[Any] = [StandardScaler()] if self.scale else []
        if self.pca is not None:
            components = self.pca if self.pca < 1 else min(int(self.pca), *X.shape)
            steps.append(PCA(components, svd_solver="full" if self.pca < 1 else "auto", random_state=0))
        return make_pipeline(*steps, self._last_step(X))

    def _mean_square(self, X: np.ndarray) -> float:
        """The mean squared length of a scaled row, less the mean row."""
        if self.scale:
            return float(X.shape[1])
        return float(X.var(0, dtype=np.float64).sum()) or 1.0

    @contextlib.contextmanager
    def _one_line_errors(self, what: str) -> Iterator[None]:
        """Raise scikit-learn's errors about parameters and data as InvalidChoice, in one line."""
        try:
            yield
        except (ValueError, TypeError, NotImplementedError) as error:
            if isinstance(error, LayertapError):
                raise
            raise InvalidChoice(f"{self._name()} {what}: {first_line(error).rstrip('.')}.") from error

    def _name(self) -> str:
        """The name of the model, for error messages."""
        return type(self).__name__


class PipelineHead(ClassifierMixin, Steps):
    """A pipeline that scales features to zero mean and unit variance, takes principal components, and classifies.

    A subclass stores its parameters, of which `scale` and `pca` are two, and implements `_classifier` and `_check`.

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
            Equal for rows that stay together when a temperature is learned (see `heads.splitting.fit_groups`).

        Raises
        ------
        InvalidChoice
            When a parameter is out of range, or all labels are the same.
        """
        X, y = validate_data(self, as_rows(X), y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self._check()
        if len(np.unique(y)) < 2:
            raise InvalidChoice("a head needs rows of at least 2 classes; received 1 class.")
        self._fit_steps(X, y, groups)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        return self._call("predict_proba", X)

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        head = super().load(folder, params)
        head.classes_ = head.pipeline_.classes_
        return head

    def _last_step(self, X: np.ndarray) -> Any:
        return self._classifier(X)

    def _classifier(self, X: np.ndarray) -> Any:
        """The classifier of a pipeline that will be fitted to `X`."""
        raise NotImplementedError

    def _calibrated(self, classifier: Any, calibrate: bool) -> TemperatureScaled:
        """`classifier` with probabilities, which have a learned temperature where `calibrate` is set."""
        return TemperatureScaled(classifier, FOLDS if calibrate else 0)


class EstimatorMixin(MetaEstimatorMixin):
    """What the heads share whose parameter `estimator` is any estimator, even one of the user's own code."""

    estimator: Any

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Any:
        return super().load(folder, {key: value for key, value in params.items() if "__" not in key})

    def _description(self) -> str:
        return f"a fitted head with {self._name()}"

    def _name(self) -> str:
        return type(self.estimator).__name__

    def _own_types(self) -> list[type]:
        return user_code.types_of(self.estimator)

    @contextlib.contextmanager
    def _one_line_errors(self, what: str) -> Iterator[None]:
        try:
            with super()._one_line_errors(what):
                yield
        except LayertapError:
            raise
        except Exception as error:  # any error of the user's own code is for the user to correct
            if not self._own_types():
                raise
            raise InvalidChoice(
                f"{self._name()} {what}: {type(error).__name__}: {first_line(error).rstrip('.')}."
            ) from error


def _fit_in_row_space(pipeline: Pipeline, X: np.ndarray, y: np.ndarray, options: dict[str, Any]) -> Pipeline:
    """Fit a pipeline that ends in a linear model: in the row space, where there are fewer rows than features."""
    before, last = pipeline[:-1], pipeline[-1]
    Z = before.fit_transform(X, y) if len(before) else X
    axes = row_space.basis(Z) if Z.shape[1] > len(Z) else None
    if axes is not None and axes.shape[1]:  # rows that are all equal have no axes
        last.fit(Z @ axes, y, **options)
        row_space.expand(last, axes)
    else:
        last.fit(Z, y, **options)
    return pipeline


def _threads_for(X: np.ndarray) -> AbstractContextManager[Any]:
    """A context with one thread for small `X`, and with all threads for others."""
    return limited(1, openmp=True) if X.size < WORTH_THREADS else nullcontext()
