"""The logistic head, and that no file makes it run code."""

from __future__ import annotations

import json
import operator
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from toy_data import blobs

from feature_cache.errors import DamagedFile, UnsafeFile
from heads.wrappers.classifiers import LogisticHead


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a fitted head."""
    folder = tmp_path / "head"
    folder.mkdir()
    LogisticHead().fit(*blobs()).save(folder)
    return folder


def test_logistic_head_keeps_the_rules_of_heads(check_head: Callable):
    check_head(lambda: LogisticHead(C=0.5, max_iter=300))


def test_it_is_scikit_learns_regression_of_standardised_features():
    X, y = blobs()
    flat = X.reshape(len(X), -1)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.3)).fit(flat, y)
    np.testing.assert_allclose(LogisticHead(C=0.3).fit(X, y).predict_proba(X), expected.predict_proba(flat), atol=1e-7)


def test_strength_is_by_default_the_same_for_narrow_and_wide_features():
    X, y = blobs()
    narrow = X.reshape(len(X), -1)
    wide = np.tile(narrow, 5)
    expected = LogisticHead(C=4 / narrow.shape[1]).fit(narrow, y).predict_proba(narrow)
    np.testing.assert_allclose(LogisticHead().fit(narrow, y).predict_proba(narrow), expected, atol=1e-6)
    np.testing.assert_allclose(LogisticHead().fit(wide, y).predict_proba(wide), expected, atol=1e-3)


def test_scale_of_a_feature_does_not_matter():
    X, y = blobs()
    scaled = X * np.array([1, 100, 0.01], np.float32)
    expected = LogisticHead().fit(X, y).predict_proba(X)
    np.testing.assert_allclose(LogisticHead().fit(scaled, y).predict_proba(scaled), expected, atol=1e-4)


def test_constant_feature_is_no_hindrance():
    X, y = blobs()
    X[..., 0] = 7
    assert LogisticHead().fit(X, y).score(X, y) > 0.9


def test_labels_may_be_python_objects(tmp_path: Path):
    X, y = blobs()
    head = LogisticHead().fit(X, y.astype(object))
    head.save(tmp_path)
    assert LogisticHead.load(tmp_path, {}).predict(X).tolist() == head.predict(X).tolist()


def test_numbers_as_labels_that_are_no_classes_are_refused():
    X, _ = blobs()
    with pytest.raises(ValueError, match="continuous"):
        LogisticHead().fit(X, np.linspace(0, 1, len(X)))


def test_single_class_is_refused():
    X, y = blobs()
    with pytest.raises(ValueError, match="at least 2 classes"):
        LogisticHead().fit(X, np.full_like(y, "ant"))


def test_load_of_nothing_is_a_damaged_file(tmp_path: Path):
    with pytest.raises(DamagedFile) as caught:
        LogisticHead.load(tmp_path, {})
    assert str(caught.value).startswith(f"the head {tmp_path / 'head.skops'} cannot be read (FileNotFoundError: ")
    assert str(caught.value).endswith("); train it again.")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.98])
def test_truncated_file_is_a_damaged_file(saved: Path, kept: float):
    file = saved / "head.skops"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(DamagedFile, match="head.skops cannot be read"):
        LogisticHead.load(saved, {})


def test_altered_array_is_a_damaged_file(saved: Path):
    _rewrite(saved / "head.skops", lambda name, content: content[:-8] if name.endswith(".npy") else content)
    with pytest.raises(DamagedFile, match="head.skops cannot be read"):
        LogisticHead.load(saved, {})


@pytest.mark.parametrize(
    "other",
    [
        {"weights": [1, 2]},
        StandardScaler(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), LogisticRegression().fit([[0.0], [1.0]], [0, 1])),
    ],
    ids=["dict", "scaler", "never fitted", "scaler never fitted"],
)
def test_file_that_holds_another_thing_is_a_damaged_file(tmp_path: Path, other: object):
    skops.io.dump(other, tmp_path / "head.skops")
    with pytest.raises(DamagedFile, match="is not a fitted logistic head; train it again"):
        LogisticHead.load(tmp_path, {})


# Files that would run code.


def _rewrite(file: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Change the parts of a skops archive."""
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, change(name, content))


class Gadget:
    """Makes a file when it is unpacked."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __setstate__(self, state: dict) -> None:
        Path(state["marker"]).touch()


def test_own_class_in_the_file_is_refused_and_its_code_is_not_run(tmp_path: Path):
    marker = tmp_path / "code was run"
    file = tmp_path / "head.skops"
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit([[0.0], [1.0]], [0, 1])
    pipeline.gadget = Gadget(str(marker))
    skops.io.dump(pipeline, file)

    skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    assert marker.exists(), "the file is harmless: this test shows nothing"
    marker.unlink()

    with pytest.raises(UnsafeFile) as caught:
        LogisticHead.load(tmp_path, {})
    assert not marker.exists()
    assert str(caught.value) == (
        f"{file} holds types that may run code ({Gadget.__module__}.Gadget); it is not loaded."
    )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (os.system, f"{os.name}.system"),
        (eval, "builtins.eval"),
        (np.load, "numpy.load"),
        (np.fromfile, "numpy.fromfile"),
    ],
    ids=["os.system", "eval", "numpy.load", "numpy.fromfile"],
)
def test_pipeline_that_would_call_a_function_is_refused(tmp_path: Path, call: Callable, name: str):
    pipeline = make_pipeline(FunctionTransformer(call), LogisticRegression())
    skops.io.dump(pipeline, tmp_path / "head.skops")
    with pytest.raises(UnsafeFile, match=f"holds types that may run code .*{name}.*; it is not loaded"):
        LogisticHead.load(tmp_path, {})


@pytest.mark.parametrize("gadget", [operator.methodcaller("touch"), operator.attrgetter("__class__.__base__")])
def test_operator_in_the_file_is_refused(tmp_path: Path, gadget: object):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit([[0.0], [1.0]], [0, 1])
    pipeline.gadget = gadget
    skops.io.dump(pipeline, tmp_path / "head.skops")
    with pytest.raises(UnsafeFile, match=f"operator.{type(gadget).__name__}"):
        LogisticHead.load(tmp_path, {})


def _disguises() -> list[dict]:
    """Parts of a schema that say they are one thing and would make the loader do another."""
    text = {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "content": '"exit 3"',
        "__id__": 901,
    }
    arguments = {
        "__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [text], "__id__": 902
    }  # fmt: skip
    return [
        {"__class__": "call", "__module__": "operator", "__loader__": "OperatorFuncNode", "attrs": arguments},
        {"__class__": "methodcaller", "__module__": "builtins", "__loader__": "OperatorFuncNode", "attrs": arguments},
        {"__class__": "system", "__module__": "os", "__loader__": "OperatorFuncNode", "attrs": arguments},
        {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
        {"__class__": "system", "__module__": "os", "__loader__": "TypeNode"},
        {"__class__": "Popen", "__module__": "subprocess", "__loader__": "ObjectNode", "content": arguments},
        {"__class__": "str", "__module__": "builtins", "__loader__": "MethodNode",
         "content": {"func": "format", "obj": text}},
    ]  # fmt: skip


@pytest.mark.parametrize("part", _disguises(), ids=lambda part: f"{part['__module__']}.{part['__class__']}")
def test_altered_schema_is_refused(saved: Path, part: dict, monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr(os, "system", lambda *arguments: called.append(arguments))

    def plant(name: str, content: bytes) -> bytes:
        if name != "schema.json":
            return content
        schema = json.loads(content)
        schema["content"]["content"]["gadget"] = {**part, "__id__": 900}
        return json.dumps(schema).encode()

    _rewrite(saved / "head.skops", plant)
    with pytest.raises((UnsafeFile, DamagedFile)):
        LogisticHead.load(saved, {})
    assert called == []


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def test_pickle_by_the_name_of_a_head_is_refused_and_not_run(tmp_path: Path):
    marker, file = tmp_path / "code was run", tmp_path / "head.skops"
    file.write_bytes(pickle.dumps(Bomb(marker)))
    pickle.loads(file.read_bytes())
    assert marker.exists(), "the file is harmless: this test shows nothing"
    marker.unlink()
    with pytest.raises(DamagedFile, match="head.skops cannot be read"):
        LogisticHead.load(tmp_path, {})
    assert not marker.exists()


def test_pickled_array_inside_the_file_is_refused_and_not_run(saved: Path, tmp_path: Path):
    marker, pickled = tmp_path / "code was run", tmp_path / "pickled.npy"
    np.save(pickled, np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    planted = pickled.read_bytes()
    _rewrite(saved / "head.skops", lambda name, content: planted if name.endswith(".npy") else content)
    with pytest.raises(DamagedFile, match="head.skops cannot be read"):
        LogisticHead.load(saved, {})
    assert not marker.exists()


def test_a_copied_folder_loads_as_well(saved: Path, tmp_path: Path):
    shutil.copytree(saved, tmp_path / "copy")
    X, _ = blobs()
    assert LogisticHead.load(tmp_path / "copy", {}).predict(X).shape == (len(X),)
