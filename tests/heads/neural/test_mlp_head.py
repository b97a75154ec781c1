"""The MLP head, and that no file makes it run code. Few fits, of few epochs: this is about rules, not quality."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from toy_data import blobs

from feature_cache.errors import DamagedFile, UnsafeFile
from heads.neural.mlp import MLPHead
from heads.splitting.fit_groups import inner_split

SMALL = {"hidden": 8, "epochs": 12, "patience": 5, "learning_rate": 0.05, "batch_size": 16}


@pytest.fixture(scope="module")
def fitted() -> MLPHead:
    return MLPHead(**SMALL, seed=1).fit(*blobs())


@pytest.fixture
def saved(fitted: MLPHead, tmp_path: Path) -> Path:
    """A folder with a fitted head."""
    folder = tmp_path / "head"
    folder.mkdir()
    fitted.save(folder)
    return folder


@pytest.mark.slow
def test_mlp_head_keeps_the_rules_of_heads(check_head: Callable):
    check_head(lambda: MLPHead(**SMALL))


@pytest.mark.slow
def test_seed_decides(fitted: MLPHead):
    X, y = blobs()
    other = MLPHead(**SMALL, seed=2).fit(X, y)
    assert not np.array_equal(other.predict_proba(X), fitted.predict_proba(X))


def test_features_are_standardised_inside_the_model(fitted: MLPHead):
    X, _ = blobs()
    hidden = fitted.model_.layers[0](X.reshape(len(X), -1))
    np.testing.assert_allclose(np.mean(hidden, 0), 0, atol=0.5)
    np.testing.assert_allclose(np.std(hidden, 0), 1, atol=0.5)


def test_constant_feature_and_too_few_rows_to_hold_some_out_are_no_hindrance():
    X = np.array([[0, 5], [1, 5], [2, 5]], np.float32)
    head = MLPHead(**{**SMALL, "epochs": 1}).fit(X, np.array(["a", "b", "a"]))
    assert np.isfinite(head.predict_proba(X)).all()


@pytest.mark.parametrize("inner", [0.0, 0.15, 0.4])
@pytest.mark.parametrize("counts", [(30, 30, 30), (40, 40, 2), (3, 3, 3), (5, 1, 5), (2, 2, 2)], ids=str)
def test_inner_split_trains_on_every_class_and_lets_no_row_on_both_sides(counts: tuple[int, ...], inner: float):
    target = np.repeat(np.arange(3), counts)
    split = inner_split(target, inner, 0)
    if split is None:  # none can be spared
        assert inner == 0 or min(counts) < 2
        return
    train, held_out = split
    assert set(target[train]) == {0, 1, 2}
    assert sorted([*train, *held_out]) == list(range(len(target)))
    assert len(held_out) >= sum(count > 1 for count in counts)  # the only row of a class is for training


def test_labels_may_be_python_objects(tmp_path: Path):
    X, y = blobs(12)
    head = MLPHead(**{**SMALL, "epochs": 1}).fit(X, y.astype(object))
    head.save(tmp_path)
    assert MLPHead.load(tmp_path, {}).predict(X).tolist() == head.predict(X).tolist()


def test_numbers_as_labels_that_are_no_classes_are_refused():
    X, _ = blobs()
    with pytest.raises(ValueError, match="continuous"):
        MLPHead(**SMALL).fit(X, np.linspace(0, 1, len(X)))


# Files that are damaged.


@pytest.mark.parametrize("missing", ["head.keras", "classes.npy"])
def test_missing_file_is_a_damaged_file(saved: Path, missing: str):
    (saved / missing).unlink()
    with pytest.raises(DamagedFile, match=f"^the head {saved / 'head.keras'} is not loaded: "):
        MLPHead.load(saved, {})


@pytest.mark.parametrize("name", ["head.keras", "classes.npy"])
@pytest.mark.parametrize("kept", [0, 60, 0.6], ids=["empty", "the start", "the most"])
def test_truncated_file_is_a_damaged_file(saved: Path, name: str, kept: float):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(DamagedFile, match="is not loaded: "):
        MLPHead.load(saved, {})


def test_damaged_file_in_a_folder_with_safe_in_its_name_is_not_called_unsafe(saved: Path):
    folder = saved.rename(saved.with_name("safe models"))
    (folder / "head.keras").write_bytes(b"not an archive")
    with pytest.raises(DamagedFile, match="is not loaded: "):
        MLPHead.load(folder, {})


@pytest.mark.parametrize("shape", [(2,), (4,), (), (2, 3), (3, 1)], ids=str)
def test_classes_that_do_not_fit_the_outputs_are_a_damaged_file(saved: Path, shape: tuple[int, ...]):
    np.save(saved / "classes.npy", np.full(shape, "ant"))
    with pytest.raises(DamagedFile, match="is not loaded: its outputs are not its classes"):
        MLPHead.load(saved, {})


# Files that would run code.


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def test_pickled_classes_are_refused_and_not_run(saved: Path, tmp_path: Path):
    marker = tmp_path / "code was run"
    np.save(saved / "classes.npy", np.array([Bomb(marker)] * 3, dtype=object), allow_pickle=True)
    np.load(saved / "classes.npy", allow_pickle=True)
    assert marker.exists(), "the file is harmless: this test shows nothing"
    marker.unlink()
    with pytest.raises(DamagedFile, match="allow_pickle"):
        MLPHead.load(saved, {})
    assert not marker.exists()


def test_lambda_layer_is_refused_and_not_run(saved: Path, tmp_path: Path):
    import keras

    marker = str(tmp_path / "code was run")
    inside = lambda x: (open(marker, "w").close(), x)[1]  # noqa: E731, PTH123, SIM115  # a lambda is what is tested
    model = keras.Sequential(
        [keras.Input((12,)), keras.layers.Lambda(inside, output_shape=(12,)), keras.layers.Dense(3)]
    )
    model.save(saved / "head.keras")
    Path(marker).unlink(missing_ok=True)

    loaded = keras.saving.load_model(saved / "head.keras", compile=False, safe_mode=False)
    loaded(np.zeros((1, 12), np.float32))
    assert Path(marker).exists(), "the file is harmless: this test shows nothing"
    Path(marker).unlink()

    with pytest.raises(UnsafeFile, match="head.keras is not loaded: .*Lambda"):
        MLPHead.load(saved, {})
    assert not Path(marker).exists()


def test_lambda_layer_is_refused_even_where_keras_was_told_to_load_all(saved: Path):
    import keras
    from keras.src.saving.serialization_lib import SafeModeScope

    model = keras.Sequential([keras.Input((12,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(3)])
    model.save(saved / "head.keras")
    with SafeModeScope(None):  # undoes the next line at its end
        keras.config.enable_unsafe_deserialization()
        with pytest.raises(UnsafeFile):
            MLPHead.load(saved, {})


def _change(file: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change one part of a `.keras` archive."""
    with zipfile.ZipFile(file) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    parts[name] = change(parts[name])
    with zipfile.ZipFile(file, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "os", "class_name": "system", "config": {"command": "exit 3"}, "registered_name": None},
        {"module": "subprocess", "class_name": "Popen", "config": {"args": "true"}, "registered_name": "Popen"},
        {"module": "builtins", "class_name": "eval", "config": "1", "registered_name": "eval"},
        {"module": "toy_data", "class_name": "blobs", "config": {}, "registered_name": "own>blobs"},
    ],
    ids=lambda layer: f"{layer['module']}.{layer['class_name']}",
)
def test_layer_from_outside_keras_is_refused(saved: Path, layer: dict):
    def plant(content: bytes) -> bytes:
        config = json.loads(content)
        config["config"]["layers"].insert(1, layer)
        return json.dumps(config).encode()

    _change(saved / "head.keras", "config.json", plant)
    with pytest.raises((UnsafeFile, DamagedFile), match="head.keras is not loaded: "):
        MLPHead.load(saved, {})


def test_weights_that_lie_outside_the_file_are_not_read(saved: Path, tmp_path: Path):
    secret, weights = tmp_path / "secret.bin", tmp_path / "weights.h5"
    secret.write_bytes(np.full(8, 42, np.float32).tobytes())

    def plant(content: bytes) -> bytes:
        weights.write_bytes(content)
        with h5py.File(weights, "r+") as file:
            names: list[str] = []
            file["layers"].visititems(
                lambda name, item: names.append(f"layers/{name}") if getattr(item, "shape", None) == (8,) else None
            )
            (name,) = names  # the bias of the hidden layer
            del file[name]
            file.create_dataset(name, (8,), np.float32, external=[(str(secret), 0, 32)])
        return weights.read_bytes()

    _change(saved / "head.keras", "model.weights.h5", plant)
    try:
        head = MLPHead.load(saved, {})
    except (UnsafeFile, DamagedFile):
        return
    assert not any((np.asarray(weight) == 42).any() for weight in head.model_.get_weights())
