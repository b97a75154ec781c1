"""Features of batches: what is a pixel, what is found, what is computed, and when it is written."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, InvalidChoice
from layertap.ramp import batch_rows as ramp_rows
from layertap.ramp.features import BatchFeatures
from layertap.ramp.images import as_pixels, digests_of, fitted
from transfer import FeatureExtractor

ROOT = Path(__file__).resolve().parents[3]
LAYER = {"net": "glyphnet", "layer": "block4_pool"}


def images(count: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, channels), np.uint8)


def endless(X: np.ndarray, y: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
        for start in range(0, len(X), size):
            yield X[start : start + size].astype(np.float32), y[start : start + size]


@pytest.fixture
def features(tmp_path: Path) -> BatchFeatures:
    return BatchFeatures(**LAYER, cache=tmp_path / "features")


@pytest.fixture
def no_net(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a net is made, and everything is cached")

    monkeypatch.setattr(ramp_rows, "BatchRunner", refuse)


def stored(features: BatchFeatures) -> int:
    [spec] = features.request.specs
    return len(FeatureCache(features.cache)[spec])  # type: ignore[arg-type]


def test_pixels_are_the_same_however_a_workflow_hands_them_over() -> None:
    gray, colour = images(3, channels=1), images(3)
    for X in (gray, gray[..., 0], np.moveaxis(gray, -1, 1), gray.astype(np.float32), gray.astype(np.int64)):
        np.testing.assert_array_equal(as_pixels(X, (32, 32)), gray)
    np.testing.assert_array_equal(as_pixels((colour + np.float32(0.2)).clip(max=255), (32, 32)), colour)
    assert as_pixels(colour.astype(np.float16), (32, 32)).dtype == np.uint8
    np.testing.assert_array_equal(digests_of(colour), digests_of(as_pixels(colour.astype(np.float32), (32, 32))))
    assert len(np.unique(digests_of(images(40)), axis=0)) == 40


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (images(2)[:, :30], "(2, 30, 32, 3)"),
        (np.zeros((2, 32, 32, 4)), "(2, 32, 32, 4)"),
        (np.full((2, 32, 32, 3), 256.0), "0 to 255; received 256 to 256"),
        (np.full((2, 32, 32, 3), -1.0), "received -1 to -1"),
        (np.full((2, 32, 32, 3), np.nan), "received nan"),
        (images(2) / 255, "multiply them by 255"),
        (np.full((2, 32, 32), "a"), "pixels are numbers"),
    ],
    ids=["size", "channels", "above", "below", "NaN", "fractions", "text"],
)
def test_what_is_no_batch_of_pixels_is_refused(X: np.ndarray, message: str) -> None:
    with pytest.raises(BadData) as raised:
        as_pixels(X, (32, 32))
    assert message in str(raised.value)


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.bool_])
def test_images_of_all_modes_become_rgb_of_one_size(shape: tuple[int, ...], dtype: type) -> None:
    most = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    white = np.full(shape, most, dtype)
    np.testing.assert_array_equal(fitted(white, (4, 5)), np.full((4, 5, 3), 255, np.uint8))
    black = np.zeros(shape, dtype)
    if shape[2:] in ((2,), (4,)):  # not transparent
        black[..., -1] = most
    np.testing.assert_array_equal(fitted(black, (4, 5)), np.zeros((4, 5, 3), np.uint8))


@pytest.mark.parametrize(
    ("dtype", "most", "shade"), [(np.int8, 127, 127), (np.int16, 32767, 255), (np.int32, 65535, 255)]
)
def test_signed_integers_have_the_range_of_their_kind(dtype: type, most: int, shade: int) -> None:
    for value, expected in ((most, shade), (0, 0)):
        np.testing.assert_array_equal(fitted(np.full((9, 7), value, dtype), (4, 5)), np.full((4, 5, 3), expected))


@pytest.mark.parametrize(
    "x",
    [
        *(np.zeros((2, 9, 9, 3)), np.zeros(9), np.full((9, 9), 3.5), np.full((9, 9), -1)),
        *(np.full((9, 9), -1, np.int8), np.full((9, 9), "a")),
    ],
)
def test_what_is_no_image_is_refused(x: np.ndarray) -> None:
    with pytest.raises(BadData, match="it is \\(height, width\\)|write the images as uint8"):
        fitted(x, (4, 5))


def test_an_epoch_is_computed_once_and_in_order(features: BatchFeatures) -> None:
    X, y = images(40), np.eye(3)[np.arange(40) % 3]
    X[7] = X[30]
    asked = []
    batches = ((asked.append(len(part[0])), part)[1] for part in endless(X, y, 16))
    rows, targets, contents = features.of_epoch(batches, 40)
    assert asked == [16, 16, 8]
    assert stored(features) == 39
    np.testing.assert_array_equal(targets, y)
    assert len(np.unique(contents)) == 39
    assert contents[7] == contents[30]
    expected = FeatureExtractor(**LAYER, cache=Path(str(features.cache)) / "other").transform(X)
    np.testing.assert_allclose(rows[:], expected, atol=1e-4 * np.abs(expected).max())


def test_what_was_trained_on_is_predicted_without_a_net(
    features: BatchFeatures, request: pytest.FixtureRequest
) -> None:
    X, y = images(20), np.eye(2)[np.arange(20) % 2]
    rows, *_ = features.of_epoch(endless(X, y, 16), 20)
    request.getfixturevalue("no_net")
    np.testing.assert_array_equal(features(X[:16]), rows[:16])
    np.testing.assert_array_equal(features.of_epoch(endless(X[::-1], y, 16), 20)[0][:], rows[:][::-1])


def test_rows_of_predictions_are_found_before_and_after_they_are_written(
    features: BatchFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ramp_rows, "HELD_ROWS", 20)
    X = images(40)
    first = np.concatenate([features(X[start : start + 8]) for start in range(0, 16, 8)])
    assert stored(features) == 0
    again = features(X[4:24])  # held ones among new ones
    np.testing.assert_array_equal(again[:12], first[4:])
    features.rows.write()
    assert stored(features) == 24
    mixed = features(X[20:40][::-1])
    np.testing.assert_array_equal(mixed[-4:], again[-4:][::-1])
    features.of_epoch(endless(X[:1], np.eye(1), 1), 1)  # the next fit
    assert stored(features) == 40
    np.testing.assert_array_equal(features(X[:16]), first)


def test_folds_share_what_is_held(features: BatchFeatures, request: pytest.FixtureRequest) -> None:
    X = images(5)
    first = features(X)
    request.getfixturevalue("no_net")
    other = BatchFeatures(**LAYER, cache=features.cache)
    np.testing.assert_array_equal(other(X), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(features))(X), first)


def test_predictions_do_not_depend_on_the_batch(features: BatchFeatures, tmp_path: Path) -> None:
    X = images(21)
    at_once = BatchFeatures(**LAYER, cache=tmp_path / "other")(X)
    in_parts = np.concatenate([features(X[part]) for part in (slice(3), slice(3, 19), slice(19, 21))])
    np.testing.assert_allclose(in_parts, at_once, atol=1e-4 * np.abs(at_once).max())
    assert features(X[:0]).shape[0] == 0


def test_gray_images_have_the_features_of_their_colour(features: BatchFeatures) -> None:
    gray = images(4, channels=1)
    rows, expected = features(np.moveaxis(gray, -1, 1)), features(np.repeat(gray, 3, axis=-1))
    np.testing.assert_allclose(rows, expected, atol=1e-4 * np.abs(expected).max())


def test_layers_are_side_by_side(tmp_path: Path) -> None:
    X, y = images(6), np.eye(2)[np.arange(6) % 2]
    both = BatchFeatures("glyphnet", ["block3_pool", "block4_pool"], pool="avg", cache=tmp_path)
    alone = [BatchFeatures("glyphnet", name, pool="avg", cache=tmp_path)(X) for name in both.request.layers]
    np.testing.assert_allclose(both(X), np.concatenate(alone, axis=1), atol=1e-4)
    np.testing.assert_allclose(both.of_epoch(endless(X, y, 4), 6)[0][:], both(X), atol=1e-6)


def test_parameters_are_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidChoice, match="did you mean"):
        BatchFeatures("glyfnet")
    with pytest.raises(InvalidChoice, match="at least 16 x 16"):
        BatchFeatures(size=(8, 8))
    with pytest.raises(BadData, match="no image to train on"):
        BatchFeatures(cache=tmp_path).of_epoch(iter(()), 0)


def test_rows_are_written_when_the_process_ends_and_then_need_no_keras(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "from layertap.ramp.features import BatchFeatures\n"
        "X = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)\n"
        f"print(BatchFeatures(**{LAYER!r})(X).sum(), 'keras' in sys.modules or 'openvino' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LAYERTAP_CACHE": str(tmp_path / "cache")}
    said = [
        subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert [loaded for _, loaded in said] == ["True", "False"]
    assert said[0][0] == said[1][0]
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
