"""``--transform``: the user's code changes the images of every command that extracts, and runs where it is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import layertap as lt
from feature_cache.errors import UnsafeFile
from transfer.data import transforms
from transfer.export.model_input import read_for_model

Main = Callable[..., Any]
CODE = """
def transform(image):
    assert image.mean() < 240, "this one is white"
    return 255 - image
"""
HEAD = ("--head", "ridge", "--cv", "2", "--quiet")
NET = ("--net", "glyphnet")


@pytest.fixture
def folder(tmp_path: Path, data: Path) -> Path:
    (tmp_path / "invert.py").write_text(CODE)
    transforms._named.clear()
    return tmp_path


def spaces(folder: Path) -> set[str]:
    return {path.name for path in (folder / "features").glob("glyphnet*")}


def test_an_edited_file_gives_another_space_and_a_renamed_one_the_same(main: Main, folder: Path) -> None:
    """Several devices give the same rows as one."""
    assert main("extract", "data", *NET, "--transform", "invert.py", "--devices", "2").status == 0
    (folder / "invert.py").rename("renamed.py")
    outcome = main("extract", "data", *NET, "--transform", "renamed.py:transform")
    assert outcome.stdout.startswith("0 rows computed, 12 reused")
    shared = lt.extract("data", "glyphnet", transform="renamed.py", progress=False)
    alone = lt.extract("data", "glyphnet", transform="renamed.py", cache="other", progress=False)
    np.testing.assert_allclose(shared["block4_pool"][:], alone["block4_pool"][:], atol=1e-4)
    Path("renamed.py").write_text(CODE.replace("255 -", "254 -"))
    assert main("extract", "data", *NET, "--transform", "renamed.py").stdout.startswith("12 rows computed")
    assert len(spaces(folder)) == 2


@pytest.mark.slow
def test_a_run_names_its_code_and_runs_it_where_it_is_named(main: Main, mistake: Main, folder: Path) -> None:
    assert main("train-head", "data", *NET, "--transform", "invert.py", *HEAD, "--out", "run").status == 0
    config = json.loads((folder / "run" / "config.json").read_text())
    assert list(config["transforms"].values()) == [f"{folder}/invert.py:transform"]
    transforms._named.clear()  # as in a new process
    message = mistake("predict", "run", "data")
    assert message.endswith(f"only where you name it: --transform-code {folder}/invert.py:transform.")
    named = ("--transform-code", "invert.py")
    predicted = main("predict", "run", "data", *named, "--json")
    assert json.loads(predicted.stdout)["predictions"]
    assert main("evaluate", "run", "data", *named).status == 0
    transforms._named.clear()
    assert "--transform-code" in mistake("review", "run") and "--transform-code" in mistake("map", "run", "--out", "m")
    assert main("review", "run", *named, "--out", "review").status == 0
    assert main("map", "run", *named, "--out", "map.html").status == 0
    exported = main("export", "run", "data", *named, "--to", "keras", "--out", "model.keras")
    assert exported.stdout.splitlines()[-1] == (
        f"The model takes images as {folder}/invert.py:transform returns them: that code is not part of it."
    )
    about = json.loads((folder / "model.keras.json").read_text())
    file = next((folder / "data").rglob("*.png"))
    with pytest.raises(UnsafeFile, match="is run only where you name it, unchanged"):
        read_for_model(file, about)
    plain = {**about, "spec": {**about["spec"], "transform": None}}
    given = read_for_model(file, about, transform_code="invert.py")
    np.testing.assert_allclose(given, 255 - read_for_model(file, plain), atol=1)  # resized before, or after
    assert main("fine-tune", "data", "--from-head", "run", *named, "--epochs", "1", "--out", "tuned").status == 0
    transforms._named.clear()
    assert "--transform-code" in mistake("evaluate", "tuned", "data")
    (folder / "invert.py").write_text(CODE.replace("255 -", "254 -"))
    assert "as it was then, which is other code than invert.py" in mistake("predict", "run", "data", *named)


def test_a_space_of_changed_images_needs_the_code_too(main: Main, mistake: Main, folder: Path) -> None:
    assert main("sweep", "data", *NET, "--transform", "invert.py", *HEAD, "--out", "sweep").status == 0
    [space] = spaces(folder)
    transforms._named.clear()
    assert "is run only where you name it: --transform" in mistake("extract", "data", "--space", space)
    assert main("extract", "data", "--space", space, "--transform", "invert.py").status == 0
    assert main("extract", "data", *NET).status == 0
    [plain] = spaces(folder) - {space}
    message = mistake("extract", "data", "--space", plain, "--transform", "invert.py")
    assert message.startswith(f"the images of --space {plain} are not changed by {folder}/invert.py:transform;")


def test_an_image_on_which_the_code_fails_is_unreadable(main: Main, folder: Path) -> None:
    Image.new("L", (12, 12), 255).save(folder / "data" / "bright" / "white.png")
    words = ("extract", "data", *NET, "--transform", "invert.py")
    outcome = main(*words)
    assert outcome.status == 2
    assert "white.png cannot be changed by" in outcome.stderr
    assert "failed in line 3 (AssertionError: this one is white); mend it." in outcome.stderr
    assert main(*words, "--on-error", "skip").status == 0


def test_a_pipeline_of_scikit_learn_changes_images(main: Main, folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 100, (3, 12, 12), np.uint8)
    main("nets")  # the working folder
    changed = lt.FeatureExtractor(transform_code="invert.py", cache="cache").transform(images)
    np.testing.assert_allclose(changed, lt.FeatureExtractor(cache="cache").transform(255 - images), atol=1e-4)
