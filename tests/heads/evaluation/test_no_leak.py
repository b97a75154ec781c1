"""Labels drawn at random: whatever is fitted, chosen or averaged, images held out are told by chance.

Each image is noise in more dimensions than there are images, so a head learns its training images by heart: one that
had seen those held out, or copies or views of them, would be right nearly always. Where the best of many is chosen,
images are few, so that the best looks much better than chance.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from feature_cache import FeatureCache, Features, FeatureSpec
from feature_cache.keys import digest_bytes
from heads.evaluation.cross_validation import Evaluation, evaluate
from heads.evaluation.pair_scores import Pair, sweep, unbiased
from heads.evaluation.protocol import Protocol
from heads.evaluation.training import learning_curve, train
from heads.evaluation.views import Views
from heads.registry import make_head
from heads.splitting.splits import hold_out

MLP = {"hidden": 32, "dropout": 0.0, "epochs": 15, "patience": 5, "learning_rate": 0.005}
FOREST = {"n_estimators": 20, "n_jobs": 1}
BOOSTING = {"max_iter": 10, "learning_rate": 0.3}
HEADS: list[tuple[str, dict[str, Any]]] = [
    ("logistic", {}),
    ("logistic", {"calibrate": True}),
    ("logistic", {"scale": False, "pca": 0.9}),
    ("logistic", {"pca": 60, "calibrate": True}),
    ("linear", {}),
    ("linear", {"learning_rates": [0.03, 0.1], "strengths": [0.01, 1.0]}),
    ("ridge", {}),
    ("ridge", {"scale": True}),
    ("auto", {}),
    ("linear-svm", {"calibrate": True}),
    ("svm-rbf", {}),
    ("svm-rbf", {"calibrate": False, "pca": 0.95}),
    ("lda", {}),
    ("prototypes", {}),
    ("knn", {}),
    ("knn", {"n_neighbors": 1, "scale": True, "pca": 60}),
    ("random-forest", FOREST),
    ("hist-gradient-boosting", BOOSTING),
]
each_head = pytest.mark.parametrize(
    ("name", "params"),
    [*HEADS, pytest.param("mlp", MLP, marks=pytest.mark.slow)],  # which stops early by an inner split
    ids=[*(" ".join((name, *params)) for name, params in HEADS), "mlp"],
)

GUESSES = "sklearn.tree:DecisionTreeClassifier"
# Trees that split noise at random differ in all that they say: so many of them guess in so many ways.
GRID = [{"random_state": number, "splitter": "random", "calibrate": False} for number in range(25)]


class Data(NamedTuple):
    features: dict[str, Features]
    labels: np.ndarray
    groups: np.ndarray


def noise(
    root: Path, images: int, *, copies: int = 1, views: int = 1, layers: int = 1, width: int = 300, classes: int = 4,
    seed: int = 0,
) -> Data:  # fmt: skip
    """Images in a cache, each under several names, in any order; views of an image are nearly the same."""
    rng = np.random.default_rng(seed)
    label_of = rng.permutation(np.arange(images) % classes)
    groups = rng.permutation(np.repeat(np.arange(images), copies))
    keys = [digest_bytes(f"{image}".encode()) for image in range(images)]
    digests = np.frombuffer(b"".join(keys), np.uint8).reshape(images, 16)
    view = np.tile(np.arange(views, dtype=np.uint32), images * copies)
    features = {}
    for layer in (f"layer {number}" for number in range(layers)):
        spec = FeatureSpec(net="test", weights="none", layer=layer, size=(8, 8), pooling="none")
        rows = np.repeat(rng.standard_normal((images, width)), views, axis=0)
        rows += 0.05 * rng.standard_normal(rows.shape)
        space = FeatureCache(root)[spec]
        with space.writer({}) as writer:
            writer.append(np.repeat(digests, views, axis=0), rows.astype(np.float32), view[: images * views])
        features[layer] = FeatureCache(root)[spec].rows(np.repeat(digests[groups], views, axis=0), view)
    return Data(features, np.array([f"class {number}" for number in label_of])[groups], groups)


def assert_chance(accuracy: float, images: int, classes: int = 4) -> None:
    """Of independent guesses, fewer than 1 in 10,000 are so far from chance: 4 deviations of a binomial share.

    Copies of an image are right or wrong together, so `images` counts groups.
    """
    chance = 1 / classes
    assert abs(accuracy - chance) < 4 * np.sqrt(chance * (1 - chance) / images)


def accuracy(evaluation: Evaluation, part: str = "valid") -> float:
    mean = evaluation.summary()[part]["accuracy"]["mean"]
    assert mean is not None
    return mean


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return noise(tmp_path_factory.mktemp("copied"), 100, copies=3)


@each_head
def test_copies_of_images_held_out_tell_nothing(copied: Data, name: str, params: dict[str, Any]) -> None:
    protocol = Protocol(cv=3, test=0.25)
    trained = train(*copied, protocol, name, params)
    assert accuracy(trained.evaluation, "train") > 0.8  # by heart, but for the images that mlp holds out inside
    assert_chance(accuracy(trained.evaluation), 75)
    assert trained.test is not None
    assert_chance(trained.test["accuracy"], 25)


@each_head
def test_copies_would_tell_if_they_were_taken_for_other_images(copied: Data, name: str, params: dict[str, Any]) -> None:
    images = np.arange(len(copied.labels))
    trained = train(copied.features, copied.labels, images, Protocol(valid=0.3), name, params)
    assert accuracy(trained.evaluation) > 0.7  # far above what passes for chance


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("protocol", [Protocol(cv=3), Protocol(valid=0.4), Protocol(per_class=15, draws=3)])
@pytest.mark.parametrize("name", ["logistic", "ridge", "knn"])
def test_views_of_images_held_out_tell_nothing(tmp_path: Path, name: str, protocol: Protocol, average: bool) -> None:
    data = noise(tmp_path, 80, copies=2, views=3)
    trained = train(*data, protocol, name, views=Views(3, average))
    held_out = {content for rows in trained.evaluation.rows for content in data.groups[rows].tolist()}
    assert_chance(accuracy(trained.evaluation), len(held_out))


@pytest.mark.slow
def test_the_best_of_many_parameters_is_no_better_on_images_held_out(tmp_path: Path) -> None:
    inner, tested = [], []
    for seed in range(12):
        data = noise(tmp_path / f"{seed}", 48, copies=2, width=5, classes=2, seed=seed)
        trained = train(*data, Protocol(valid=0.25, test=0.25), GUESSES, grid=GRID)
        inner.append(accuracy(trained.evaluation))
        assert trained.test is not None
        tested.append(trained.test["accuracy"])
    assert_chance(float(np.mean(inner)), 12 * 9, classes=2)
    assert_chance(float(np.mean(tested)), 12 * 12, classes=2)


@pytest.mark.slow
def test_the_best_of_many_layers_is_no_better_on_images_held_out(tmp_path: Path) -> None:
    inner, tested = [], []
    for seed in range(12):
        data = noise(tmp_path / f"{seed}", 48, copies=2, width=125, classes=2, seed=seed)
        parts = np.split(np.asarray(data.features["layer 0"]), 25, axis=1)
        candidates = {f"part {number}": part for number, part in enumerate(parts)}
        trained = train(candidates, *data[1:], Protocol(valid=0.25, test=0.25), "prototypes", {"calibrate": False})
        inner.append(accuracy(trained.evaluation))
        assert trained.test is not None
        tested.append(trained.test["accuracy"])
    assert_chance(float(np.mean(inner)), 12 * 9, classes=2)
    assert_chance(float(np.mean(tested)), 12 * 12, classes=2)


@pytest.mark.parametrize(
    ("name", "params", "grid"),
    [
        ("logistic", {}, [{"C": 1e-4}, {"C": 1.0}]),
        ("logistic", {"calibrate": True}, [{"pca": 10}, {"scale": False}]),
        ("linear", {}, [{"strengths": 0.01}, {"strengths": [0.1, 1.0]}]),
        ("ridge", {}, [{"scale": True}, {"alphas": [1.0, 100.0]}]),
        ("knn", {}, [{"n_neighbors": 1}, {"n_neighbors": 30}]),
        pytest.param("random-forest", FOREST, [{"max_depth": 2}, {}], marks=pytest.mark.slow),
    ],
)
def test_choosing_layers_and_parameters_where_there_are_copies_and_views_gains_nothing(
    tmp_path: Path, name: str, params: dict[str, Any], grid: list[dict[str, Any]]
) -> None:
    data = noise(tmp_path, 80, copies=2, views=2, layers=2)
    trained = train(*data, Protocol(cv=2, test=0.25), name, params, views=Views(2, True), grid=grid)
    assert_chance(accuracy(trained.evaluation), 60)
    assert trained.test is not None
    assert_chance(trained.test["accuracy"], 20)


@pytest.mark.parametrize("name", ["logistic", "ridge", "knn"])
def test_learning_curves_of_noise_stay_flat(tmp_path: Path, name: str) -> None:
    data = noise(tmp_path, 80, copies=3, views=2)
    features = data.features["layer 0"]
    protocol = Protocol(draws=8)
    points = learning_curve(features, data.labels, data.groups, [1, 15], protocol, name, {}, Views(2, True))
    for point in points:
        # The draws hold out nearly all of 80 images, some more often than others, which counts for less than as many.
        assert_chance(point["accuracy"]["mean"], 50)


@pytest.mark.slow
def test_a_sweep_over_noise_expects_chance_of_its_best(tmp_path: Path) -> None:
    best, expected = [], []
    for seed in range(12):
        data = noise(tmp_path / f"{seed}", 48, copies=4, width=5, classes=2, seed=seed)
        pairs = [Pair("layer 0", name) for name in ("prototypes", "ridge", "knn")]
        pairs += [Pair("layer 0", GUESSES, tuple(params.items())) for params in GRID]
        results = sweep(data.features, pairs, *data[1:], Protocol(valid=0.5), tmp_path / "kept")
        assert not any(result.error for result in results)
        best.append(results[0].accuracy)
        expected.append(unbiased(results, data.groups, seed)["accuracy"])
    assert np.mean(best) > 0.65  # the best is far above what passes for chance
    assert_chance(float(np.mean(expected)), 12 * 24, classes=2)


@pytest.fixture(scope="module")
def one_split(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, Any]]]:
    """A function that judges heads on a split twice: what they choose and learn, with images held out that differ."""
    data = noise(tmp_path_factory.mktemp("split"), 90, copies=2, views=2, width=12, classes=3)
    split = hold_out(data.labels, data.groups, 0.3, 0)
    plain, other = np.asarray(data.features["layer 0"]), data.labels.copy()
    spoilt = plain.reshape(len(data.labels), 2, -1).copy()
    spoilt[split[1]] = 1e4 * spoilt[split[1]][::-1] + 1e3
    other[split[1]] = other[split[1]][::-1]

    def judged(name: str, params: dict[str, Any], parts: int = 1, **options: Any) -> list[dict[str, Any]]:
        found = []
        for rows, labels in ((plain, data.labels), (spoilt.reshape(plain.shape), other)):
            candidates = {str(number): part for number, part in enumerate(np.split(rows, parts, axis=1))}
            new_head = partial(make_head, name, params)
            (fold,) = evaluate(candidates, labels, data.groups, [split], new_head, views=Views(2), **options).folds
            scores = {key: value for key, value in fold["train"].items() if not key.endswith("seconds")}
            found.append({"features": fold["features"], **scores})
        return found

    return judged


@each_head
def test_images_held_out_have_no_part_in_scaling_components_or_temperatures(
    one_split: Callable[..., list[dict[str, Any]]], name: str, params: dict[str, Any]
) -> None:
    one, other = one_split(name, params)
    assert one == other


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["prototypes", "ridge", "knn"])
def test_images_held_out_have_no_part_in_choices(
    one_split: Callable[..., list[dict[str, Any]]], name: str, seed: int
) -> None:
    one, other = one_split(name, {}, parts=6, seed=seed)
    assert one == other
