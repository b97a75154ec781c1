"""scikit-learn's own checks of estimators, of every estimator class of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from heads import make_head
from heads.calibration import TemperatureScaled
from heads.estimators import EstimatorHead
from heads.linear_svm import LinearSVMHead
from heads.logistic import LogisticHead
from heads.mlp import MLPHead
from heads.prototypes import Prototypes

CLASSES = [
    LogisticHead(),
    LinearSVMHead(),
    EstimatorHead(LogisticRegression(), scale=False, pca=0.9),
    TemperatureScaled(LinearSVC()),
    Prototypes(),
]
SETTINGS = [
    LogisticHead(pca=2, calibrate=True),
    TemperatureScaled(LogisticRegression(), folds=0),
    make_head("lda"),
    make_head("knn"),
    make_head("prototypes"),
    make_head("svm-rbf"),
    make_head("random-forest", {"n_estimators": 20, "n_jobs": None}),
]


@parametrize_with_checks(CLASSES)
def test_scikit_learn_finds_nothing_to_complain_of(estimator: Any, check: Callable) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(SETTINGS)
def test_scikit_learn_finds_nothing_to_complain_of_in_other_settings(estimator: Any, check: Callable) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([MLPHead(hidden=16, epochs=10, learning_rate=0.1, batch_size=16)])
def test_scikit_learn_finds_nothing_to_complain_of_in_keras(estimator: Any, check: Callable) -> None:
    check(estimator)
