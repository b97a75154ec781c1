"""The ridge head: scikit-learn's coefficients and leave-one-out errors, rows from a cache, and its probabilities."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge, RidgeClassifierCV
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from toy_data import blobs, cached

from feature_cache import Features
from feature_cache.errors import BadData, DamagedFile, InvalidChoice
from heads import make_head
from heads.ridge import chunks
from heads.ridge import path as ridge_path
from heads.ridge.classifier import RidgeHead

ALPHAS = (1e-3, 0.1, 10.0, 1000.0)
SHAPES = {"tall": (400, 30), "square": (40, 40), "wide": (50, 200)}


def relu_features(shape: tuple[int, int], classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rectified mixtures of a few hidden numbers, as correlated as what a net gives; and their classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(shape[0]) % classes
    hidden = 0.7 * rng.standard_normal((classes, 8))[y] + rng.standard_normal((shape[0], 8))
    X = hidden @ rng.standard_normal((8, shape[1])) + 0.1 * rng.standard_normal(shape)
    return np.maximum(X, 0), y


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows at a time, and few strengths at once, so that everything is put together of pieces."""
    plain = chunks.RowChunks.__init__

    def init(self: chunks.RowChunks, *args: Any) -> None:
        plain(self, *args)
        self.chunk = 7

    monkeypatch.setattr(chunks.RowChunks, "__init__", init)
    monkeypatch.setattr(ridge_path, "COLUMNS", 7)


def check_against_scikit_learn(X: np.ndarray, y: np.ndarray, alphas: Any = ALPHAS, *, scale: bool = False) -> None:
    head = RidgeHead(alphas, scale=scale).fit(X, y)
    scaler = StandardScaler(with_mean=scale, with_std=scale).fit(X.astype(np.float64))
    expected = RidgeClassifierCV(alphas=alphas, store_cv_results=True).fit(scaler.transform(X.astype(np.float64)), y)
    spread = scaler.scale_ if scale else np.ones(X.shape[1])
    mean = scaler.mean_ if scale else np.zeros(X.shape[1])

    coef = head.coef_ * spread
    np.testing.assert_allclose(coef, np.atleast_2d(expected.coef_), atol=1e-6 * np.abs(expected.coef_).max())
    intercept = head.intercept_ + head.coef_ @ mean
    np.testing.assert_allclose(intercept, expected.intercept_, atol=1e-6 * (1 + np.abs(head.coef_ @ X.mean(0)).max()))
    errors = expected.cv_results_.reshape(-1, len(alphas)).mean(0)
    np.testing.assert_allclose(head.loo_errors_, errors, rtol=1e-5)
    np.testing.assert_array_equal(head.alphas_, alphas)
    assert head.alpha_ == expected.alpha_ == alphas[np.argmin(errors)]
    values = expected.decision_function(scaler.transform(X.astype(np.float64)))
    np.testing.assert_allclose(head.decision_function(X), values, atol=1e-6)


@parametrize_with_checks([RidgeHead(), RidgeHead(scale=True)])
def test_it_keeps_all_rules_of_scikit_learn(estimator: RidgeHead, check: Callable):
    check(estimator)


@pytest.mark.parametrize("params", [{}, {"alphas": (0.1, 1.0), "scale": True}], ids=str)
def test_ridge_head_keeps_the_rules_of_heads(check_head: Callable, params: dict):
    check_head(lambda: RidgeHead(**params))


# The same numbers as scikit-learn's.


@pytest.mark.parametrize("scale", [False, True], ids=["as they are", "scaled"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_is_scikit_learns_ridge(shape: tuple[int, int], classes: int, dtype: Any, scale: bool):
    X, y = relu_features(shape, classes)
    check_against_scikit_learn(X.astype(dtype), y, scale=scale)


@pytest.mark.parametrize("scale", [False, True], ids=["as they are", "scaled"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.usefixtures("small_chunks")
def test_pieces_make_the_whole(shape: tuple[int, int], scale: bool):
    X, y = relu_features(shape)
    check_against_scikit_learn(X, y, scale=scale)
    order = np.argsort(y, kind="stable")  # no chunk has the mean of all
    check_against_scikit_learn(X[order], y[order], scale=scale)


@pytest.mark.parametrize("scale", [False, True], ids=["as they are", "scaled"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "pieces"])
def test_awkward_features(request: pytest.FixtureRequest, shape: tuple[int, int], scale: bool, pieces: bool):
    if pieces:
        request.getfixturevalue("small_chunks")
    X, y = relu_features(shape)
    check_against_scikit_learn(X * np.logspace(-2, 2, shape[1]), y, scale=scale)
    check_against_scikit_learn((X + 1000).astype(np.float32), y, scale=scale)
    X[:, ::3], X[:, 1] = 0.1, 0
    X[:, 2] = X[:, 4]
    check_against_scikit_learn(X.astype(np.float32), y, scale=scale)
    half = len(X) // 2
    check_against_scikit_learn(np.tile(X[:half], (2, 1)), np.tile(y[:half], 2), scale=scale)


def test_features_that_are_all_constant_leave_the_shares_of_the_classes():
    y = np.array([0, 1, 1, 2, 2, 2, 2, 2])
    for width in (3, 30):
        head = RidgeHead().fit(np.full((8, width), 0.1, np.float32), y)
        np.testing.assert_allclose(head.coef_, 0, atol=1e-9)
        np.testing.assert_allclose(head.intercept_, [-0.75, -0.5, 0.25], atol=1e-6)
        assert (head.predict(np.zeros((2, width))) == 2).all()


@pytest.mark.parametrize("width", [1, 4, 30])
@pytest.mark.parametrize("alpha", [1e-6, 0.5])
def test_a_row_left_out_is_predicted_by_a_fit_without_it(width: int, alpha: float):
    X, y = relu_features((20, width), classes=2)
    X[:, 0] = 0
    X[3, 0] = 10  # a row that predicts itself: its leverage is all but 1
    targets = np.stack([np.where(y == 1, 1.0, -1.0), np.arange(20.0) % 5], axis=1)
    path = ridge_path.solve(chunks.RowChunks(X), targets, np.array([alpha]), scale=False)
    for row in range(20):
        others = np.arange(20) != row
        without = Ridge(alpha, solver="svd").fit(X[others], targets[others])
        np.testing.assert_allclose(path.loo_predictions[row], without.predict(X[[row]])[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(path.errors, np.mean((path.loo_predictions - targets) ** 2), rtol=1e-6)


@pytest.mark.usefixtures("small_chunks")
def test_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    X, y = relu_features((400, 30))
    heads = []
    for threads in (1, 2, 8):
        monkeypatch.setattr(ridge_path, "blas_threads", lambda threads=threads: threads)
        heads.append(RidgeHead().fit(X, y))
    for head in heads[1:]:
        np.testing.assert_array_equal(head.loo_errors_, heads[0].loo_errors_)
        np.testing.assert_array_equal(head.predict_proba(X), heads[0].predict_proba(X))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_order_of_rows_does_not_matter(shape: tuple[int, int]):
    X, y = relu_features(shape)
    order = np.random.default_rng(1).permutation(len(X))
    one, other = RidgeHead().fit(X, y), RidgeHead().fit(X[order], y[order])
    np.testing.assert_allclose(one.alphas_, other.alphas_)
    np.testing.assert_allclose(one.loo_errors_, other.loo_errors_, rtol=1e-6)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_default_strengths_follow_the_scale_of_the_features(shape: tuple[int, int]):
    X, y = relu_features(shape)
    head = RidgeHead().fit(X, y)
    assert len(head.alphas_) == 20
    scatter = np.sum((X - X.mean(0)) ** 2)
    np.testing.assert_allclose(head.alphas_[[0, -1]], np.array([1e-5, 1e3]) * scatter / min(shape))
    for factor in (1e-40, 1000, 1e40):
        other = RidgeHead().fit(factor * X, y)
        np.testing.assert_allclose(other.alphas_, factor**2 * head.alphas_)
        np.testing.assert_allclose(other.loo_errors_, head.loo_errors_, rtol=1e-5)
        np.testing.assert_allclose(other.predict_proba(factor * X), head.predict_proba(X), atol=1e-6)


# Rows in a cache.


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.usefixtures("small_chunks")
def test_rows_of_a_cache_make_the_same_head(tmp_path: Path, shape: tuple[int, int]):
    X, y = relu_features(shape)
    X = X.astype(np.float32)
    features = cached(tmp_path, X.reshape(len(X), 2, -1))
    lazy, head = RidgeHead(scale=True).fit(features, y), RidgeHead(scale=True).fit(X, y)
    for name in ("coef_", "intercept_", "loo_errors_", "temperature_"):
        np.testing.assert_array_equal(getattr(lazy, name), getattr(head, name))
    np.testing.assert_array_equal(lazy.predict_proba(features), head.predict_proba(X))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "chunk"), [((12_000, 128), 2**18), ((300, 40_000), 2**21)], ids=["tall", "wide"])
def test_rows_of_a_cache_are_never_in_memory_as_a_whole(
    tmp_path: Path, shape: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
):
    X, y = relu_features((shape[0], 16), classes=2)
    features = cached(tmp_path, np.tile(X.astype(np.float32), shape[1] // 16))
    monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(chunks, "MOST_THREADS", 2)
    monkeypatch.setattr(Features, "__array__", None)
    tracemalloc.start()
    try:
        head = RidgeHead(ALPHAS).fit(features, y)
        head.predict_proba(features)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < features.nbytes / 2, f"{most / 2**20:.1f} of {features.nbytes / 2**20:.1f} MiB"


def test_rows_of_a_cache_are_checked_as_arrays_are(tmp_path: Path):
    X, y = blobs()
    features = cached(tmp_path / "right", X)
    head = RidgeHead().fit(features, y)
    with pytest.raises(ValueError, match="11 features.*expecting 12 features"):
        head.predict(cached(tmp_path / "narrow", X.reshape(48, 12)[:, 1:]))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        RidgeHead().fit(features, y[1:])
    X[5, 0, 0, 0] = np.nan
    damaged = cached(tmp_path / "nan", X)
    with pytest.raises(BadData, match="contains NaN"):
        RidgeHead().fit(damaged, y)
    with pytest.raises(ValueError, match="contains NaN"):
        head.predict(damaged)


# Probabilities.


def loss(head: RidgeHead, X: np.ndarray, y: np.ndarray, temperature: float) -> float:
    values = head.decision_function(X).reshape(len(X), -1) / temperature
    values = np.hstack([np.zeros((len(X), 1)), values]) if values.shape[1] == 1 else values
    return log_loss(y, np.exp(values) / np.exp(values).sum(1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("shape", [(600, 20), (100, 300)], ids=["tall", "wide"])
def test_temperature_is_nearly_the_best_for_rows_held_out(shape: tuple[int, int], classes: int):
    X, y = relu_features((shape[0] + 2000, shape[1]), classes)
    head = RidgeHead().fit(X[: shape[0]], y[: shape[0]])
    X, y = X[shape[0] :], y[shape[0] :]
    fitted = loss(head, X, y, head.temperature_)
    assert log_loss(y, head.predict_proba(X)) == pytest.approx(fitted)
    assert fitted < loss(head, X, y, 1.0) - 0.02
    best = min(loss(head, X, y, temperature) for temperature in np.geomspace(0.02, 20, 100))
    assert fitted < best + 0.02


@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_are_sure_of_what_is_predicted(classes: int):
    X, y = relu_features((200, 20), classes)
    head = RidgeHead().fit(X, y)
    for rows in (X, 1e4 * X, 1e-9 * X):
        probabilities = head.predict_proba(rows)
        np.testing.assert_allclose(probabilities.sum(1), 1)
        np.testing.assert_array_equal(head.predict(rows), probabilities.argmax(1))
        values = head.decision_function(rows)
        np.testing.assert_array_equal(head.predict(rows), values > 0 if classes == 2 else values.argmax(1))


def test_rows_that_are_all_told_apart_are_not_believed_beyond_their_number():
    X, y = blobs(48)
    head = RidgeHead().fit(X, y)
    certain = head.predict_proba(X).max(1)
    assert head.score(X, y) == 1
    assert 0.9 < certain.mean() < 0.999


def test_one_row_a_class_is_enough():
    X, y = blobs(3)
    head = RidgeHead().fit(X, y)
    np.testing.assert_array_equal(head.predict(X), y)
    assert head.predict_proba(X).max(1).min() > 0.8


# Parameters and labels.


@pytest.mark.parametrize("alphas", [1, 1.0, [1.0], (1,), np.array([1.0])], ids=repr)
def test_strengths_come_as_a_number_or_several(alphas: Any):
    X, y = blobs()
    assert RidgeHead(alphas).fit(X, y).alpha_ == 1
    assert make_head("ridge", {"alphas": "1"}).fit(X, y).alphas_.tolist() == [1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alphas": 0}, "alphas should be numbers from 1e-30 to 1e+30; received 0."),
        ({"alphas": (1.0, -2.0)}, "alphas should be numbers from 1e-30 to 1e+30; received (1.0, -2.0)."),
        ({"alphas": [1.0, float("nan")]}, "alphas should be numbers from 1e-30 to 1e+30; received [1.0, nan]."),
        ({"alphas": float("inf")}, "alphas should be numbers from 1e-30 to 1e+30; received inf."),
        ({"alphas": ()}, "alphas should be numbers from 1e-30 to 1e+30; received ()."),
        ({"alphas": "strong"}, "alphas should be numbers from 1e-30 to 1e+30; received strong."),
        ({"alphas": True}, "alphas should be numbers from 1e-30 to 1e+30; received True."),
        ({"alphas": [[1.0]]}, "alphas should be numbers from 1e-30 to 1e+30; received [[1.0]]."),
        ({"alphas": [[1.0], 2.0]}, "alphas should be numbers from 1e-30 to 1e+30; received [[1.0], 2.0]."),
        ({"scale": 1}, "scale should be true or false; received 1."),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(params: dict, message: str):
    with pytest.raises(InvalidChoice) as caught:
        RidgeHead(**params).fit(*blobs())
    assert str(caught.value) == message


def test_labels_and_features_that_cannot_be_learned_are_refused():
    X, y = blobs()
    with pytest.raises(BadData, match="at least 2 classes; received 1 class"):
        RidgeHead().fit(X, np.full_like(y, "ant"))
    with pytest.raises(ValueError, match="continuous"):
        RidgeHead().fit(X, np.linspace(0, 1, len(X)))
    with pytest.raises(BadData, match="too large"):
        RidgeHead().fit(X.astype(np.float64) * 1e200, y)


# Files.


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a fitted head."""
    folder = tmp_path / "head"
    folder.mkdir()
    RidgeHead().fit(*blobs()).save(folder)
    return folder


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b"]),
        np.array(["a", "b", "c"], object),
        np.array([0, 1]),
        np.array([False, True]),
        np.array([0.0, 2.0, 5.0]),
    ],
    ids=repr,
)
def test_labels_of_all_kinds_come_back(tmp_path: Path, labels: np.ndarray):
    X, _ = blobs()
    y = labels[np.arange(len(X)) % len(labels)]
    head = RidgeHead((0.1, 1.0)).fit(X, y)
    head.save(tmp_path)
    back = RidgeHead.load(tmp_path, head.get_params())
    assert back.predict(X).tolist() == head.predict(X).tolist()
    np.testing.assert_array_equal(back.decision_function(X), head.decision_function(X))
    for name in ("alphas_", "loo_errors_", "alpha_", "temperature_", "coef_", "intercept_"):
        np.testing.assert_array_equal(getattr(back, name), getattr(head, name))
        assert type(getattr(back, name)) is type(getattr(head, name))


def test_load_of_nothing_is_a_damaged_file(tmp_path: Path):
    with pytest.raises(DamagedFile) as caught:
        RidgeHead.load(tmp_path, {})
    assert str(caught.value).startswith(f"the head {tmp_path / 'head.npz'} cannot be read (FileNotFoundError: ")
    assert str(caught.value).endswith("); train it again.")


@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.5, 0.98])
def test_truncated_file_is_a_damaged_file(saved: Path, kept: float):
    file = saved / "head.npz"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(DamagedFile, match="head.npz cannot be read"):
        RidgeHead.load(saved, {})


def test_a_compressed_file_is_a_damaged_file(saved: Path):
    with np.load(saved / "head.npz") as archive:
        np.savez_compressed(saved / "head.npz", **dict(archive))  # of any size once it is unpacked
    with pytest.raises(DamagedFile, match="it is compressed"):
        RidgeHead.load(saved, {})


def test_a_flipped_bit_is_a_damaged_file(saved: Path):
    content = bytearray((saved / "head.npz").read_bytes())
    content[content.index(b"coef.npy") + 250] ^= 1  # among its numbers
    (saved / "head.npz").write_bytes(content)
    with pytest.raises(DamagedFile, match="CRC"):
        RidgeHead.load(saved, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coef": np.zeros(12)}, "coef has 1 axes and not 2"),
        ({"coef": np.zeros((2, 12))}, "its outputs are not its classes"),
        ({"coef": np.zeros((3, 0))}, "its outputs are not its classes"),
        ({"coef": np.zeros((3, 12), np.float32)}, "coef is not made of finite float64 numbers"),
        ({"coef": np.full((3, 12), np.nan)}, "coef is not made of finite float64 numbers"),
        ({"intercept": np.zeros(2)}, "its outputs are not its classes"),
        ({"classes": np.array(["ant", "bee"])}, "its outputs are not its classes"),
        ({"classes": np.array(["bee", "ant", "cicada"])}, "its classes are not sorted labels"),
        ({"classes": np.array([1, 2, 3], complex)}, "its classes are not sorted labels"),
        ({"classes": np.array(["ant", "bee", None])}, "allow_pickle=False"),
        ({"alphas": np.ones(3)}, "its strengths do not fit each other"),
        ({"alpha": np.array(0.123)}, "its strengths do not fit each other"),
        ({"temperature": np.array(0.0)}, "its temperature is not above 0"),
        ({"temperature": None}, "temperature"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_file_that_holds_another_thing_is_a_damaged_file(saved: Path, change: dict, message: str):
    with np.load(saved / "head.npz") as archive:
        arrays = dict(archive) | change
    np.savez(saved / "head.npz", **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(DamagedFile, match=message) as caught:
        RidgeHead.load(saved, {})
    assert "\n" not in str(caught.value)


def test_leaving_threads_early_waits_for_none_of_them() -> None:
    """Who waits in the garbage collector, which may run while any lock is held, may wait for ever."""
    go, waited = threading.Event(), []

    def work(number: int) -> int:
        if number:
            waited.append(go.wait(5))
        return number

    results = chunks.in_threads(work, [(number,) for number in range(9)], 2)
    assert next(results) == 0
    results.close()
    assert waited == []
    go.set()


@pytest.mark.parametrize("classes", [2, 10])
def test_probabilities_of_one_image_a_class_are_not_flat(classes: int) -> None:
    X, y = load_digits(n_class=classes, return_X_y=True)
    train = np.unique(y, return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(y)), train)
    head = RidgeHead().fit(X[train], y[train])
    confidence = head.predict_proba(X[rest]).max(1).mean()
    assert abs(confidence - head.score(X[rest], y[rest])) < 0.15
    assert confidence > 1.5 / classes


def test_the_only_row_of_a_class_has_no_part_in_the_temperature() -> None:
    X, y = load_digits(n_class=3, return_X_y=True)
    rows = np.append(np.flatnonzero(y < 2), np.flatnonzero(y == 2)[:1])
    several, alone = RidgeHead().fit(X[y < 2], y[y < 2]), RidgeHead().fit(X[rows], y[rows])
    assert alone.predict_proba(X[y < 2]).max(1).mean() == pytest.approx(
        several.predict_proba(X[y < 2]).max(1).mean(), abs=0.02
    )
