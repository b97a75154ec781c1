"""Heads as layers of Keras: they give the probabilities of the head."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from feature_cache.errors import InvalidChoice
from heads.export import FUSIBLE, as_layers
from heads.registry import HEADS, make_head
from heads.wrappers.classifiers import EstimatorHead

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"epochs": 3, "hidden": 8} if name == "mlp" else {}) for name in FUSIBLE),
    ("logistic", {"pca": 5}),
    ("logistic", {"scale": False, "pca": 0.9}),
    ("logistic", {"scale": False, "calibrate": True}),
    ("ridge", {"scale": True}),
    ("lda", {"calibrate": False}),
    ("linear-svm", {"calibrate": False, "pca": 4}),
    ("prototypes", {"scale": True, "calibrate": False}),
    ("sklearn.linear_model:RidgeClassifier", {}),
    ("sklearn.linear_model:SGDClassifier", {}),
]


def rows(classes: int, n: int = 60, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Features far from zero, of very different spread, and labels that are text."""
    rng = np.random.default_rng(classes)
    member = np.arange(n) % classes
    means = rng.normal(size=(classes, width))
    X = (means[member] + rng.normal(size=(n, width))) * np.geomspace(0.1, 10, width) + 5
    X[:, 3] = 7  # a constant
    return X.astype(np.float32), np.array(["ant", "bee", "cat", "dog"])[member]


def run(layers: list[Any], X: np.ndarray) -> np.ndarray:
    x = inputs = keras.Input(X.shape[1:])
    for layer in layers:
        x = layer(x)
    return keras.ops.convert_to_numpy(keras.Model(inputs, x)(X, training=False))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("name", "params"), SETTINGS, ids=lambda part: str(part))
def test_the_layers_give_the_probabilities_of_the_head(name: str, params: dict[str, Any], classes: int) -> None:
    X, y = rows(classes)
    head = make_head(name, params).fit(X, y)
    found = run(as_layers(head), X)
    assert found.dtype == np.float32
    assert found.shape == (60, classes)
    np.testing.assert_allclose(found, head.predict_proba(X), atol=2e-5)


@pytest.mark.parametrize("name", ["logistic", "ridge", "mlp"])
def test_a_temperature_divides_the_logarithms_of_the_probabilities(name: str) -> None:
    X, y = rows(3)
    head = make_head(name, {"epochs": 3} if name == "mlp" else {}).fit(X, y)
    sharpened = head.predict_proba(X) ** (1 / 2.5)
    expected = sharpened / sharpened.sum(1, keepdims=True)
    np.testing.assert_allclose(run(as_layers(head, 2.5), X), expected, atol=2e-5)
    np.testing.assert_allclose(run(as_layers(head), X), head.predict_proba(X), atol=2e-5)  # the head stays as it was


def test_features_that_are_far_from_zero_keep_their_digits() -> None:
    X, y = rows(3)
    far = (X.astype(np.float64) / 1000 + 500).astype(np.float32)
    head = make_head("logistic").fit(far, y)
    np.testing.assert_allclose(run(as_layers(head), far), head.predict_proba(far), atol=2e-5)


def test_hand_set_weights_give_known_probabilities() -> None:
    X, y = np.array([[0.0], [2.0]], np.float32), np.array(["a", "b"])
    head = make_head("prototypes", {"calibrate": False}).fit(X, y)  # the mean squared distance is 4, a unit 0.4
    odds = np.exp((1.0**2 - 1.0**2) / 0.4), np.exp((1.5**2 - 0.5**2) / 0.4)  # of b, at 1.0 and at 1.5
    found = run(as_layers(head), np.array([[1.0], [1.5]], np.float32))
    np.testing.assert_allclose(found[:, 1] / found[:, 0], odds, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(HEADS) - set(FUSIBLE)))
def test_other_heads_are_refused_and_told_which_can(name: str) -> None:
    X, y = rows(3)
    with pytest.raises(InvalidChoice, match="heads that can are auto, logistic, linear, ridge") as error:
        as_layers(make_head(name, {"epochs": 1} if name == "conv" else {}).fit(X, y))
    assert "\n" not in str(error.value)


def test_what_the_user_derives_from_a_classifier_is_not_taken_for_it() -> None:
    class Doubtful(LogisticRegression):
        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    X, y = rows(3)
    with pytest.raises(InvalidChoice, match="Doubtful is no affine map"):
        as_layers(EstimatorHead(Doubtful(), calibrate=False).fit(X, y))
