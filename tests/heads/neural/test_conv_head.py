"""The convolutional head: what it learns that pooled features do not tell, the shapes it takes, and its files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_data import CLASSES, blobs, cached

from feature_cache.errors import BadData, DamagedFile, InvalidChoice, UnsafeFile
from heads import make_head
from heads.neural.conv import ConvHead, _moments
from heads.neural.mlp import MLPHead

pytestmark = pytest.mark.slow  # each of its nets trains for seconds

SMALL = {"filters": 8, "epochs": 30, "patience": 10, "learning_rate": 0.03, "batch_size": 16}
MOTIFS = {"checked": [[0, 1], [1, 0]], "striped": [[0, 1], [0, 1]]}  # the channel that is high at each place


def motifs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, 6, 6, 4) of noise with one of two motifs somewhere, which raise the same channels as often."""
    rng = np.random.default_rng(seed)
    X = 0.3 * rng.standard_normal((n, 6, 6, 4))
    y = np.array(sorted(MOTIFS))[rng.permutation(np.arange(n) % 2)]
    for image, label in zip(X, y, strict=True):
        top, left = rng.integers(0, 5, 2)
        for (row, column), channel in np.ndenumerate(MOTIFS[label]):
            image[top + row, left + column, channel] += 2
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def finder() -> ConvHead:
    """A head that was fitted to motifs."""
    return ConvHead(filters=16, learning_rate=0.01, epochs=25, batch_size=32).fit(*motifs(400, seed=0))


@pytest.fixture(scope="module")
def fitted() -> ConvHead:
    return ConvHead(**SMALL, seed=1).fit(*blobs())


@pytest.fixture
def saved(fitted: ConvHead, tmp_path: Path) -> Path:
    """A folder with a fitted head."""
    folder = tmp_path / "head"
    folder.mkdir()
    fitted.save(folder)
    return folder


def test_conv_head_keeps_the_rules_of_heads(check_head: Callable):
    check_head(lambda: ConvHead(**SMALL))


# What it learns.


def test_a_pattern_of_neighbours_is_found_wherever_it_is(finder: ConvHead):
    (X, y), (X_new, y_new) = motifs(400, seed=0), motifs(300, seed=1)
    pooled = make_head("logistic").fit(X.mean((1, 2)), y)
    assert pooled.score(X_new.mean((1, 2)), y_new) < 0.65
    assert finder.score(X_new, y_new) > 0.9


def test_a_pattern_at_places_where_it_never_was_in_training_is_found():
    X, y = motifs(400, seed=0)
    X_new, y_new = motifs(200, seed=1)
    left = np.concatenate([X, np.zeros_like(X)], axis=2)
    right = np.concatenate([np.zeros_like(X_new), X_new], axis=2)
    head = ConvHead(filters=16, learning_rate=0.01, epochs=25, batch_size=32).fit(left, y)
    assert head.score(right, y_new) > 0.9


def test_random_labels_are_guessed_on_rows_held_out():
    X, y = motifs(160, seed=2)
    y = np.random.default_rng(3).permutation(y)
    head = ConvHead(**SMALL).fit(X[:80], y[:80])
    assert abs(head.score(X[80:], y[80:]) - 0.5) < 0.18  # over three standard deviations of guesses


def test_rows_sorted_by_class_are_learned_as_well_as_mixed_ones(finder: ConvHead):
    X, y = motifs(400, seed=0)
    X_new, y_new = motifs(300, seed=1)
    order = np.argsort(y)
    head = ConvHead(**finder.get_params()).fit(X[order], y[order])
    assert abs(head.score(X_new, y_new) - finder.score(X_new, y_new)) < 0.06


def test_seed_decides():
    X, y = blobs()
    few = {**SMALL, "epochs": 3}
    first, again, other = (ConvHead(**few, seed=seed).fit(X, y).predict_proba(X) for seed in (1, 1, 2))
    np.testing.assert_allclose(again, first, atol=1e-6)
    assert not np.allclose(other, again, atol=1e-3)


def test_channels_are_standardised_inside_the_model():
    X, y = motifs(60, seed=0)
    far = X * np.array([1, 1000, 1e-3, 0], np.float32) + np.array([0, 1e4, 5, 7], np.float32)
    head = ConvHead(**{**SMALL, "epochs": 1, "inner": 0.0}).fit(far, y)
    scaled = np.asarray(head.model_.layers[0](far))
    np.testing.assert_allclose(scaled.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std((0, 1, 2)), [1, 1, 1, 0], atol=1e-3)
    assert np.isfinite(head.predict_proba(far)).all()


def test_moments_are_those_of_all_rows_and_positions(monkeypatch: pytest.MonkeyPatch):
    X = np.random.default_rng(0).normal(3, 2, (11, 3, 2, 5)).astype(np.float32)
    monkeypatch.setattr("heads.neural.conv.AT_ONCE", 4 * X[0].size)
    mean, variance = _moments(X)
    exact = X.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=1e-12)


# The shapes it takes.


def test_large_maps_are_predicted_in_parts(fitted: ConvHead, monkeypatch: pytest.MonkeyPatch):
    X, _ = blobs()
    whole = fitted.predict_proba(X)
    monkeypatch.setattr("heads.neural.conv.AT_ONCE", 7 * 2 * 2 * 8)  # 7 rows, the last of 48 in a smaller part
    np.testing.assert_allclose(fitted.predict_proba(X), whole, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (1, 1), (3, 2)], ids=str)
def test_maps_may_be_of_any_size(shape: tuple[int, int], tmp_path: Path):
    X, y = blobs(24, (*shape, 4))
    head = ConvHead(**{**SMALL, "epochs": 1}).fit(X, y)
    assert head.n_features_in_ == X[0].size
    head.save(tmp_path)
    np.testing.assert_array_equal(ConvHead.load(tmp_path, {}).predict_proba(X), head.predict_proba(X))


def test_rows_of_numbers_are_maps_of_one_position():
    X, y = blobs(24, (4,))
    few = {**SMALL, "epochs": 2}
    flat, maps = ConvHead(**few).fit(X, y), ConvHead(**few).fit(X[:, None, None], y)
    np.testing.assert_allclose(flat.predict_proba(X), maps.predict_proba(X[:, None, None]), atol=1e-6)
    assert flat.model_.input_shape == (None, 1, 1, 4)


@pytest.mark.parametrize("shape", [(2, 3, 2), (4, 1, 3), (1, 1, 12), (3, 2, 2), (2, 2, 4), (6, 6, 3)], ids=str)
def test_maps_of_another_shape_are_refused(fitted: ConvHead, shape: tuple[int, ...], tmp_path: Path):
    X = np.zeros((5, *shape), np.float32)
    for rows in (X, cached(tmp_path, X)):
        with pytest.raises(BadData) as caught:
            fitted.predict(rows)
        assert str(caught.value) == (f"the head was fitted to rows of shape (2, 2, 3); received rows of shape {shape}.")


@pytest.mark.parametrize("shape", [(4, 3), (1, 2, 2, 3)], ids=str)
def test_rows_that_are_no_maps_are_refused(fitted: ConvHead, shape: tuple[int, ...]):
    X = np.zeros((6, *shape), np.float32)
    for use in (fitted.predict, lambda X: ConvHead(**SMALL).fit(X, np.arange(6) % 2)):
        with pytest.raises(BadData, match=r"^this head takes maps of shape \(height, width, channels\), .*$") as caught:
            use(X)
        assert str(caught.value).endswith(f"received rows of shape {shape}.")


@pytest.mark.parametrize("name", ["filters", "epochs", "batch_size"])
def test_parameter_out_of_range_is_refused(name: str):
    with pytest.raises(InvalidChoice) as caught:
        ConvHead(**{**SMALL, name: 0}).fit(*blobs())
    assert str(caught.value) == f"{name} should be at least 1; received 0."


# Its files.


def test_saved_head_gives_the_same_probabilities(saved: Path, fitted: ConvHead):
    X, _ = blobs(30, seed=5)
    back = ConvHead.load(saved, fitted.get_params())
    np.testing.assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(back.classes_, CLASSES)
    assert back.n_features_in_ == 12
    with pytest.raises(BadData, match="rows of shape \\(2, 2, 3\\)"):
        back.predict(X.reshape(-1, 3, 2, 2))


@pytest.mark.parametrize("name", ["head.keras", "classes.npy"])
@pytest.mark.parametrize("kept", [None, 0, 60, 0.6], ids=["missing", "empty", "the start", "the most"])
def test_damaged_file_is_refused_in_one_line(saved: Path, name: str, kept: float | None):
    content = (saved / name).read_bytes()
    (saved / name).unlink()
    if kept is not None:
        (saved / name).write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DamagedFile, match=f"^the head {saved / 'head.keras'} is not loaded: ") as caught:
        ConvHead.load(saved, {})
    assert "\n" not in str(caught.value)


def test_classes_that_do_not_fit_the_outputs_are_a_damaged_file(saved: Path):
    np.save(saved / "classes.npy", np.array(["ant", "bee"]))
    with pytest.raises(DamagedFile, match="is not loaded: its outputs are not its classes"):
        ConvHead.load(saved, {})


def test_file_of_the_other_keras_head_is_refused(saved: Path, tmp_path: Path):
    with pytest.raises(UnsafeFile, match="it holds '[A-Za-z0-9]+', which is no part of an MLP head"):
        MLPHead.load(saved, {})
    MLPHead(hidden=4, epochs=1).fit(*blobs()).save(tmp_path)
    with pytest.raises(UnsafeFile, match="it holds 'Dropout', which is no part of a convolutional head"):
        ConvHead.load(tmp_path, {})


def test_model_that_takes_no_maps_is_refused(saved: Path):
    import keras

    keras.Sequential([keras.Input((12,)), keras.layers.Dense(3)]).save(saved / "head.keras")
    with pytest.raises(DamagedFile, match=r"it takes rows of shape \(12,\), which is not a convolutional head$"):
        ConvHead.load(saved, {})


def test_lambda_layer_is_refused_and_not_run(saved: Path, tmp_path: Path):
    import keras

    marker = str(tmp_path / "code was run")
    inside = lambda x: (open(marker, "w").close(), x)[1]  # noqa: E731, PTH123, SIM115  # a lambda is what is tested
    pooling = keras.layers.GlobalAveragePooling2D()
    lambda_layer = keras.layers.Lambda(inside, output_shape=(2, 2, 3))
    keras.Sequential([keras.Input((2, 2, 3)), lambda_layer, pooling]).save(saved / "head.keras")
    Path(marker).unlink(missing_ok=True)

    loaded = keras.saving.load_model(saved / "head.keras", compile=False, safe_mode=False)
    loaded(np.zeros((1, 2, 2, 3), np.float32))
    assert Path(marker).exists(), "the file is harmless: this test shows nothing"
    Path(marker).unlink()

    with pytest.raises(UnsafeFile, match="head.keras is not loaded: .*Lambda"):
        ConvHead.load(saved, {})
    assert not Path(marker).exists()


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "os", "class_name": "system", "config": {"command": "exit 3"}, "registered_name": None},
        {"module": "os", "class_name": "Conv2D", "config": {}, "registered_name": None},
        {"module": "toy_data", "class_name": "blobs", "config": {}, "registered_name": "own>blobs"},
    ],
    ids=lambda layer: f"{layer['module']}.{layer['class_name']}",
)
def test_layer_from_outside_keras_is_refused(saved: Path, layer: dict):
    file = saved / "head.keras"
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"].insert(1, layer)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(UnsafeFile, match="head.keras is not loaded: "):
        ConvHead.load(saved, {})
