"""`LogisticHead`: multinomial logistic regression on standardised features, by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from heads.validation import require
from heads.wrappers.base import PipelineHead

STRENGTH = 4.0


class LogisticHead(PipelineHead):
    """L2-regularised multinomial logistic regression on features scaled to zero mean, unit variance.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the regularisation. By default 4 / n_features: a standardised row has a
        squared norm of about n_features, so the strength is then the same for narrow and wide
        features. The 4 was chosen on letters, glyphnet's held-out script.
    max_iter : int
        Of the solver, L-BFGS.
    class_weight : dict or "balanced", optional
        How much rows of each class count; "balanced" makes up for classes of different sizes.
    scale : bool
        Whether features are scaled. Where they are not, the default of C is 4 / their total variance.
    pca : int or float, optional
        Principal components to keep, as a number or as a share of the variance.
    calibrate : bool
        Whether probabilities get a temperature, learned on inner folds (see `heads.wrappers.calibration`).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    def __init__(
        self,
        C: float | None = None,
        max_iter: int = 1000,
        class_weight: dict | str | None = None,
        scale: bool = True,
        pca: int | float | None = None,
        calibrate: bool = False,
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.scale = scale
        self.pca = pca
        self.calibrate = calibrate

    def _check(self) -> None:
        super()._check()
        require(self.C is None or self.C > 0, "C", self.C, "above 0")
        require(self.max_iter >= 1, "max_iter", self.max_iter, "at least 1")

    def _classifier(self, X: np.ndarray) -> Any:
        C = STRENGTH / self._mean_square(X) if self.C is None else self.C
        classifier = LogisticRegression(C=C, max_iter=self.max_iter, class_weight=self.class_weight)
        return self._calibrated(classifier, True) if self.calibrate else classifier

    def _is_turnable(self) -> bool:
        return True

    def _what(self) -> str:
        return "a fitted logistic head"
