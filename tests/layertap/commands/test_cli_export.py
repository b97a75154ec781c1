"""`layertap export`: from image files to probabilities, by a run and by the model that it is exported to."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from transfer.data.images import to_pixels
from transfer.export import formats

SIDE = 32
# Loads a model where nothing of Layertap can be imported.
ELSEWHERE = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("transfer", "heads", "feature_cache", "commands", "cli"):
            raise ImportError(name)
sys.meta_path.insert(0, Nowhere())
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], keras.ops.convert_to_numpy(model(np.load(sys.argv[2]))))
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of colour and gray images, most of them of other sizes than the net's."""
    rng = np.random.default_rng(3)
    for name, tint in (("sea", (0, 40, 120)), ("wood", (90, 60, 0))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 136, (20 + 4 * number, 32, 3), np.uint8) + np.array(tint, np.uint8)
            image = Image.fromarray(pixels)
            (image.convert("L") if number == 5 else image).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def trained(main: Callable, photos: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Train a head on the photos, and give what the run says of each image."""

    def train(*features: object, head: str = "logistic", more: tuple[str, ...] = ()) -> dict[str, Any]:
        for command in (
            ("extract", photos, *features),
            ("train-head", photos, *features, "--head", head, *more, "--valid", 0.5, "--out", "run"),
        ):
            done = main(*command)
            assert done.status == 0, done.stderr
        return predicted(main, photos)

    return train


def predicted(main: Callable, photos: Path) -> dict[str, Any]:
    done = main("predict", "run", photos, "--json")
    assert done.status == 0, done.stderr
    return {row["id"]: list(row["probabilities"].values()) for row in json.loads(done.stdout)["predictions"]}


def pixels_of(photos: Path, ids: Any, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Images as a user would decode them for the model."""
    decoded = [to_pixels(Image.open(photos / name), size) for name in ids]
    return np.stack([np.repeat(image, 3 // image.shape[-1], axis=-1) for image in decoded])


def loaded(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What runs an exported model by the library that it is for."""
    match file.suffix:
        case ".keras":
            model = keras.saving.load_model(file)
            return lambda pixels: keras.ops.convert_to_numpy(model(pixels))
        case ".xml":
            import openvino

            compiled = openvino.Core().compile_model(str(file))  # the file keeps float32 by itself
            return lambda pixels: compiled(pixels)["probabilities"]
        case ".onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(str(file))
            return lambda pixels: session.run(None, {"pixels": pixels})[0]
    import tensorflow as tf

    saved = tf.saved_model.load(str(file))
    return lambda pixels: saved.serve(pixels).numpy()


def assert_serves(file: Path, photos: Path, expected: dict[str, Any]) -> None:
    found = loaded(file)(pixels_of(photos, expected))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, list(expected.values()), atol=1e-4)


def small_net(file: Path) -> Path:
    keras.utils.set_random_seed(5)
    x = inputs = keras.Input((SIDE, SIDE, 3))
    for number, width in enumerate((8, 16)):
        x = keras.layers.Conv2D(width, 3, activation="relu", name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
    keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(x))).save(file)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("head", ["logistic", "ridge", "mlp"])
def test_a_keras_file_gives_the_predictions_of_the_run(
    main: Callable, trained: Callable, photos: Path, tmp_path: Path, head: str
) -> None:
    expected = trained(head=head, more=("--param", "epochs=3") if head == "mlp" else ())
    done = main("export", "run", photos, "--to", "keras", "--out", "model.keras")
    assert (done.status, done.stderr) == (0, "")
    assert "On 12 images of " in done.stdout
    assert_serves(tmp_path / "model.keras", photos, expected)


@pytest.mark.slow
@pytest.mark.parametrize("preprocessing", ["none", "torch", "caffe"])
def test_the_preprocessing_is_part_of_the_model(
    main: Callable, trained: Callable, photos: Path, tmp_path: Path, preprocessing: str
) -> None:
    net = small_net(tmp_path / "net.keras")
    expected = trained("--net", net, "--layer", "norm1", "--preprocessing", preprocessing, head="ridge")
    done = main("export", "run", "--to", "keras", "--out", "model.keras")
    assert done.status == 0, done.stderr
    assert "On 32 random images" in done.stdout
    assert_serves(tmp_path / "model.keras", photos, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "out", "needs"),
    [
        ("openvino", "model.xml", "openvino"),
        ("saved-model", "model", "tensorflow"),
        ("onnx", "model.onnx", "onnxruntime"),
    ],
)
def test_other_formats_give_the_predictions_of_the_run(
    main: Callable, trained: Callable, photos: Path, tmp_path: Path, name: str, out: str, needs: str
) -> None:
    pytest.importorskip(needs)
    if keras.backend.backend() != "tensorflow":
        pytest.skip("nets are converted by way of TensorFlow")
    expected = trained("--pool", "flatten")
    done = main("export", "run", photos, "--to", name, "--out", out)
    assert (done.status, done.stderr) == (0, "")
    assert_serves(tmp_path / out, photos, expected)
    about = json.loads((tmp_path / f"{out}.json").read_text())
    assert (about["format"], about["classes"]) == (name, ["sea", "wood"])


@pytest.mark.slow
def test_a_second_file_tells_of_a_keras_file(main: Callable, trained: Callable, photos: Path, tmp_path: Path) -> None:
    trained("--size", "48x64", "--fit", "pad")
    done = main("export", "run", "--to", "keras", "--out", "deep/model.keras", "--json")
    assert done.status == 0, done.stderr
    about = json.loads((tmp_path / "deep" / "model.keras.json").read_text())
    assert json.loads(done.stdout) == {"files": ["deep/model.keras", "deep/model.keras.json"], **about}
    assert (about["classes"], about["size"], about["channels"]) == (["sea", "wood"], [48, 64], 3)
    assert (about["fit"], about["fill"], about["interpolation"]) == ("pad", "gray", "bilinear")
    assert about["head"] == "logistic"
    assert about["spec"] == json.loads((tmp_path / "run" / "config.json").read_text())["spec"]
    file = tmp_path / "deep" / "model.keras"
    assert about["sha256"] == {"model.keras": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.keras", "model.keras.json"]


@pytest.mark.slow
def test_a_keras_file_needs_no_layertap(main: Callable, trained: Callable, photos: Path, tmp_path: Path) -> None:
    expected = trained("--size", "48x64", "--fit", "pad")
    file = tmp_path / "deep" / "model.keras"
    assert main("export", "run", "--to", "keras", "--out", "deep/model.keras").status == 0
    decoded = [to_pixels(Image.open(photos / name), (48, 64), "pad", fill="gray") for name in expected]
    np.save(tmp_path / "pixels.npy", np.stack([np.repeat(image, 3 // image.shape[-1], -1) for image in decoded]))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    arguments = [file, tmp_path / "pixels.npy", tmp_path / "found.npy"]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, arguments)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), list(expected.values()), atol=1e-4)


@pytest.mark.slow
def test_joined_features_of_one_net_become_one_model(
    main: Callable, mistake: Callable, trained: Callable, photos: Path, tmp_path: Path
) -> None:
    expected = trained("--layer", "block2_pool", "--layer", "block4_pool", "--pool", "max", more=("--join",))
    done = main("export", "run", photos, "--to", "keras", "--out", "model.keras")
    assert done.status == 0, done.stderr
    assert_serves(tmp_path / "model.keras", photos, expected)
    parts = json.loads((tmp_path / "model.keras.json").read_text())["joined"]
    assert [part["spec"]["layer"] for part in parts] == ["block2_pool", "block4_pool"]

    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    del config["files"], config["digest"]  # as runs of earlier versions
    config["joined"][1]["spec"]["size"] = [48, 48]
    file.write_text(json.dumps(config))
    said = mistake("export", "run", "--to", "keras", "--out", "other.keras")
    assert said.startswith("the run run joins features that differ in their size; ")


@pytest.mark.slow
def test_a_model_that_differs_from_the_run_is_not_kept(
    main: Callable, trained: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heads import export as head_export

    trained()
    right = head_export.as_layers
    monkeypatch.setattr(head_export, "as_layers", lambda head: right(head, 1.5))
    done = main("export", "run", "--to", "keras", "--out", "model.keras")
    assert (done.status, done.stdout) == (1, "")
    assert "the exported model gives other probabilities than the run run: they differ by up to 0." in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if "model" in path.name]


@pytest.mark.slow
def test_what_is_there_is_replaced_only_when_asked(
    main: Callable, mistake: Callable, trained: Callable, photos: Path, tmp_path: Path
) -> None:
    expected = trained()
    (tmp_path / "model.keras.json").write_text("mine")
    export = ("export", "run", photos, "--to", "keras", "--out", "model.keras")
    assert mistake(*export) == "model.keras.json exists; choose another --out, or replace it with --overwrite."
    for _ in range(2):
        assert main(*export, "--overwrite").status == 0
    assert_serves(tmp_path / "model.keras", photos, expected)
    assert mistake(*export) == "model.keras exists; choose another --out, or replace it with --overwrite."
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_text("precious")
    said = mistake("export", "run", "--to", "saved-model", "--out", "holiday", "--overwrite")
    assert said == "holiday is no such model, and is not replaced; choose another --out."


@pytest.mark.parametrize("head", ["knn", "svm-rbf"])
def test_heads_that_are_no_part_of_a_net_are_refused(mistake: Callable, trained: Callable, head: str) -> None:
    trained(head=head)
    said = mistake("export", "run", "--to", "keras", "--out", "model.keras")
    assert "heads that can are auto, logistic, linear, ridge, linear-svm, lda, prototypes, mlp." in said


def test_mistakes_are_told_in_one_line(mistake: Callable, trained: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from transfer.export import formats

    assert "is not a run" in mistake("export", "nowhere", "--to", "keras", "--out", "model.keras")
    trained("--views", 2, "--augment", "flip")
    said = mistake("export", "run", "--to", "keras", "--out", "model.h5")
    assert said == "--to keras writes a .keras file; received --out model.h5."
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "tf2onnx" else True)
    said = mistake("export", "run", "--to", "onnx", "--out", "model.onnx")
    assert said == "--to onnx needs the package tf2onnx: pip install 'layertap[onnx]'"
    monkeypatch.setattr(formats, "keras_backend", lambda: "jax")
    said = mistake("export", "run", "--to", "saved-model", "--out", "model")
    assert said.startswith("--to saved-model converts by way of TensorFlow, and the Keras backend is jax; set ")


NAMED = ("--net", "mobilenetv2", "--weights", "none", "--size", SIDE, "--layer", "block_6_expand_relu")
OWN = ("--net", "net.keras", "--layer", "norm1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "preprocessing"),
    [(OWN, "none"), (OWN, "torch"), (NAMED, "caffe")],  # glyphnet, above, has "tf"
    ids=["none", "torch", "caffe, of keras.applications"],
)
def test_every_preprocessing_is_exported_to_every_format(
    main: Callable, trained: Callable, photos: Path, tmp_path: Path, net: tuple[object, ...], preprocessing: str
) -> None:
    small_net(tmp_path / "net.keras")
    expected = trained(*net, "--preprocessing", preprocessing, head="ridge")
    names = {"keras": "model.keras"}
    if keras.backend.backend() == "tensorflow":
        names |= {"openvino": "model.xml", "saved-model": "model", "onnx": "model.onnx"}
    for name, out in names.items():
        if name == "onnx":
            pytest.importorskip("onnxruntime")
        done = main("export", "run", photos, "--to", name, "--out", out, "--overwrite")
        assert done.status == 0, done.stderr
        assert_serves(tmp_path / out, photos, expected)


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Can't decrement id ref count (unable to close file, errno = 28, error message = '...')"),
        ValueError("Unknown: m.bin; No space left on device"),
    ],
)
def test_a_full_disk_is_not_blamed_on_the_net(
    main: Callable, trained: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: Exception
) -> None:
    trained()

    def write(model: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise failure

    monkeypatch.setitem(formats.FORMATS, "keras", replace(formats.FORMATS["keras"], write=write))
    outcome = main("export", "run", "--to", "keras", "--out", "m.keras")
    assert outcome.status == 1
    assert outcome.stderr == f"layertap: cannot write {tmp_path / 'm.keras'}: No space left on device.\n"
    assert not list(tmp_path.glob("*m.keras*"))
