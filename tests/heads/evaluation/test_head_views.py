"""Views in heads: they train together, and none of them tells on an image that is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_data import blobs, cached

from feature_cache import Features
from feature_cache.errors import BadData
from heads.evaluation.protocol import Protocol
from heads.evaluation.training import train
from heads.evaluation.views import Views
from heads.registry import Head, make_head


class Recorder:
    """A head that notes which rows it was fitted on and asked about."""

    def __init__(self) -> None:
        self.classes_ = np.array(["a", "b"])
        self.fitted: list[np.ndarray] = []
        self.asked: list[np.ndarray] = []

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Recorder:
        self.fitted.append(features)
        self.labels = labels
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        self.asked.append(features)
        share = features[:, 1] / 10
        return np.stack([share, 1 - share], 1)


FEATURES = np.array([[image, view] for image in range(6) for view in range(3)])
LABELS = np.array(list("aabbab"))


def test_all_views_of_the_training_images_are_fitted_with_their_label() -> None:
    head: Any = Recorder()
    Views(3).fit(head, FEATURES, LABELS, np.array([4, 1]))
    assert head.fitted[0].tolist() == [[4, 0], [4, 1], [4, 2], [1, 0], [1, 1], [1, 2]]
    assert head.labels.tolist() == list("aaaaaa")
    Views(3).fit(head, FEATURES, LABELS)
    assert len(head.fitted[1]) == 18
    assert head.labels.tolist() == [label for label in LABELS for _ in range(3)]


def test_plain_images_are_judged_or_the_mean_over_their_views() -> None:
    head: Any = Recorder()
    plain = Views(3).outputs(head, FEATURES, np.array([2, 5]))
    assert head.asked[0].tolist() == [[2, 0], [5, 0]]
    np.testing.assert_allclose(plain, [[0, 1], [0, 1]])
    mean = Views(3, average=True).outputs(head, FEATURES, np.array([2, 5]))
    assert len(head.asked[1]) == 6
    np.testing.assert_allclose(mean, [[0.1, 0.9], [0.1, 0.9]])


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("protocol", [Protocol(cv=3), Protocol(valid=0.3), Protocol(per_class=4, draws=3)])
def test_views_that_name_their_image_do_not_help_on_images_held_out(protocol: Protocol, average: bool) -> None:
    rng = np.random.default_rng(0)
    images, count = 60, 4
    labels = rng.permutation(np.repeat(["a", "b"], images // 2))  # nothing but the image itself tells its class
    names = rng.standard_normal((images, 80))
    features = np.repeat(names, count, axis=0) + 0.01 * rng.standard_normal((images * count, 80))
    trained = train({"x": features}, labels, np.arange(images), protocol, "logistic", views=Views(count, average))
    summary = trained.evaluation.summary()
    assert summary["train"]["accuracy"]["mean"] > 0.95
    assert summary["valid"]["accuracy"]["mean"] < 0.75
    sizes = {len(truth) for truth in trained.evaluation.truth}
    assert max(sizes) <= images


def test_one_view_is_training_as_ever() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((40, 5)), rng.permutation(np.repeat(["a", "b"], 20))
    head: Head = make_head("logistic").fit(features, labels)
    same = train({"x": features}, labels, np.arange(40), Protocol(cv=2), "logistic")
    np.testing.assert_array_equal(head.predict_proba(features), same.head.predict_proba(features))


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": "3"}, {"count": True}, {"average": 1}, {"count": 2.0}])
def test_views_from_a_file_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Views(**wrong)


@pytest.mark.parametrize("name", ["ridge", "linear", "logistic"])
@pytest.mark.parametrize("average", [False, True])
def test_features_larger_than_memory_give_the_same_head_and_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, average: bool
) -> None:
    rows, labels = blobs(60, (8,))
    features, images = cached(tmp_path, rows), np.random.default_rng(0).permutation(30)[:24]
    labels, views = labels[::2], Views(2, average)
    whole = views.fit(make_head(name), features, labels, images)
    expected = views.outputs(whole, features, np.arange(30))
    monkeypatch.setattr("heads.evaluation.views.LARGE", 4 * rows[0].nbytes)
    monkeypatch.setattr(Features, "__array__", lambda *_: pytest.fail("all rows were read at once"))
    parts = views.fit(make_head(name), features, labels, images)
    np.testing.assert_allclose(views.outputs(parts, features, np.arange(30)), expected, atol=1e-6)


def test_rows_that_are_infinite_are_counted_and_other_mistakes_stay_as_they_are() -> None:
    features, labels = np.random.default_rng(0).normal(size=(40, 3)), np.repeat(["a", "b"], 20)
    head = Views().fit(make_head("ridge"), features, labels)
    features[[3, 7], 1] = np.inf, np.nan
    for work in (lambda: Views().outputs(head, features, np.arange(10)), lambda: Views().fit(head, features, labels)):
        with pytest.raises(BadData, match="^the features are infinite or not numbers in 2 of 40 rows; "):
            work()
    with pytest.raises(ValueError, match="expecting 3 features"):
        Views().outputs(head, np.ones((40, 2)), np.arange(10))
