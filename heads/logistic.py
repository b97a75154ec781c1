"""`LogisticHead`: multinomial logistic regression on standardised features, by scikit-learn."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from feature_cache.errors import DamagedFile, UnsafeFile
from heads.checks import as_rows, require

FILE = "head.skops"
STRENGTH = 4.0
# Below so many numbers the threads of BLAS wait for each other more than they work; where other
# processes want the cores as well, that made a fit sixty times slower.
WORTH_THREADS = 2**24


class LogisticHead(ClassifierMixin, BaseEstimator):
    """L2-regularised multinomial logistic regression on features scaled to zero mean, unit variance.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the regularisation. By default 4 / n_features: a standardised row has a
        squared norm of about n_features, so the strength is then the same for narrow and wide
        features. The 4 was chosen on letters, glyphnet's held-out script.
    max_iter : int
        Of the solver, L-BFGS.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    def __init__(self, C: float | None = None, max_iter: int = 1000) -> None:
        self.C = C
        self.max_iter = max_iter

    def fit(self, X: Any, y: np.ndarray) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n,)."""
        X, y = validate_data(self, as_rows(X), y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        require(self.C is None or self.C > 0, "C", self.C, "above 0")
        require(self.max_iter >= 1, "max_iter", self.max_iter, "at least 1")
        C = STRENGTH / X.shape[1] if self.C is None else self.C
        self.pipeline_ = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=self.max_iter))
        with _threads_for(X):
            self.pipeline_.fit(X, y)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, as_rows(X), reset=False, dtype=[np.float32, np.float64])
        return self.pipeline_.predict_proba(X)

    def save(self, folder: Path) -> None:
        """Write ``head.skops`` into `folder`."""
        import skops.io

        check_is_fitted(self)
        skops.io.dump(self.pipeline_, folder / FILE)

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote.

        Raises
        ------
        UnsafeFile
            When the file holds anything but scikit-learn's and NumPy's own types.
        DamagedFile
            When it cannot be read, or is no such head.
        """
        import skops.io

        file = folder / FILE
        try:
            foreign = skops.io.get_untrusted_types(file=file)
            if foreign:
                raise UnsafeFile(f"{file} holds types that may run code ({', '.join(foreign[:3])}); it is not loaded.")
            pipeline = skops.io.load(file, trusted=[])
        except UnsafeFile:
            raise
        except Exception as error:  # whatever a damaged archive makes skops raise
            raise DamagedFile(
                f"the head {file} cannot be read ({type(error).__name__}: {error}); train it again."
            ) from error
        parts = [type(part) for _, part in pipeline.steps] if isinstance(pipeline, Pipeline) else []
        if parts != [StandardScaler, LogisticRegression] or not hasattr(pipeline, "n_features_in_"):
            raise DamagedFile(f"the head {file} is not a fitted logistic head; train it again.")
        head = cls(**params)
        head.pipeline_ = pipeline
        head.classes_ = pipeline.classes_
        head.n_features_in_ = pipeline.n_features_in_
        return head


def _threads_for(X: np.ndarray) -> AbstractContextManager[Any]:
    return threadpool_limits(1, "blas") if X.size < WORTH_THREADS else nullcontext()
