"""Transforms: what identifies the user's code, when it is run, and what it may return."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from feature_cache.errors import BadImage, InvalidChoice, UnsafeFile
from feature_cache.spec import FeatureSpec
from transfer.data import transforms
from transfer.data.images import ArraySource, pixels_for
from transfer.data.transforms import named, named_for

CODE = """
import numpy as np
open("was run", "a").close()

def transform(image):
    image[:] = 255 - image
    return image

def left(image):
    return image[:, : image.shape[1] // 2, 0]
"""
WRONG = """
import itertools
import numpy as np
numbers = itertools.count()

def floats(image): return image / 255
def nothing(image): pass
def ragged(image): return [[1], [1, 2]]
def fails(image):
    raise ValueError("too dark")
def ends(image):
    raise SystemExit
def counts(image): return np.full((2, 2), next(numbers), np.uint8)
"""
RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files of transforms, none of which has been run."""
    monkeypatch.chdir(tmp_path)
    Path("change.py").write_text(CODE)
    Path("wrong.py").write_text(WRONG)
    forget()
    return tmp_path


def forget() -> None:
    """Let nothing be named, as in a new process."""
    transforms._named.clear()
    transforms._digests.clear()
    for name in [name for name in sys.modules if name.startswith(transforms.CODE.prefix)]:
        del sys.modules[name]


def spec_with(transform: str | None) -> FeatureSpec:
    return FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(4, 6), transform=transform)


def test_a_transform_is_its_source_and_name(folder: Path) -> None:
    change = named("change.py")
    Path("renamed.py").write_text(CODE)
    Path("edited.py").write_text(CODE.replace("255 - ", "254 - "))
    assert named("change.py:transform") == named(folder / "renamed.py") == change
    others = [named("change.py:left"), named("edited.py")]
    assert len({change.digest, *(other.digest for other in others)}) == 3
    assert spec_with(change.digest).pixel_key != spec_with(None).pixel_key


def test_an_edited_module_beside_it_makes_another_transform(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    Path("uses.py").write_text("from beside_transform import shade\ndef transform(image): return image + shade\n")
    digests = []
    for shade in (1, 2):
        Path("beside_transform.py").write_text(f"shade = {shade}\n")
        forget()
        digests.append(named("uses.py").digest)
    assert digests[0] != digests[1]
    sys.modules.pop("beside_transform")


def test_pixels_are_those_of_the_changed_image() -> None:
    change, left = named("change.py"), named("change.py:left")
    picture = ArraySource(RGB.copy(), "image")
    plain = pixels_for(picture.load()[1], spec_with(None), "image")
    np.testing.assert_array_equal(pixels_for(picture.load()[1], spec_with(change.digest), "image"), 255 - plain)
    np.testing.assert_array_equal(picture.pixels, RGB)  # it changed a copy
    half = pixels_for(ArraySource(RGB[:, :, 0].copy(), "gray").load()[1], spec_with(left.digest), "gray")
    assert half.shape == (4, 6, 1)  # three columns, stretched


def test_a_spec_alone_runs_nothing() -> None:
    digest = named("change.py").digest
    forget()
    Path("was run").unlink()
    with pytest.raises(UnsafeFile, match="is run only where you name it"):
        pixels_for(ArraySource(RGB, "image").load()[1], spec_with(digest), "image")
    assert named_for([digest], ["wrong.py:floats"]) == [digest]
    assert not Path("was run").exists()
    assert named_for([digest], ["change.py"]) == []
    assert Path("was run").exists()


def test_another_process_runs_the_source_that_was_read() -> None:
    sent = pickle.dumps(named("change.py"))
    forget()
    Path("change.py").write_text("an edit in the meantime")
    np.testing.assert_array_equal(pickle.loads(sent)(RGB.copy(), "image"), 255 - RGB)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "floats",
            "it returned float64 of the shape (4, 6, 3), and should return uint8 of the shape",
        ),
        ("nothing", "it returned no array of numbers"),
        ("ragged", "it failed (ValueError: "),
        ("fails", "it failed in line 10 (ValueError: too dark); mend it."),
        ("ends", "it failed in line 12 (SystemExit)."),
    ],
)
def test_an_image_that_cannot_be_changed_is_unreadable(folder: Path, function: str, message: str) -> None:
    transform = named(f"wrong.py:{function}")
    with pytest.raises(BadImage) as caught:
        transform(RGB.copy(), "a.png")
    assert str(caught.value).startswith(f"a.png cannot be changed by {folder}/wrong.py:{function}: {message}")
    assert "\n" not in str(caught.value)


def test_a_random_transform_is_refused() -> None:
    with pytest.raises(InvalidChoice, match=r"makes something else of the image a\.png the second time"):
        named("wrong.py:counts")(RGB.copy(), "a.png")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.py", "the file 'gone.py' of the transform cannot be read: No such file or directory."),
        ("change.py:tranform", "has no function 'tranform'; did you mean 'transform'?"),
        ("broken.py", "broken.py cannot be run in line 1 (SyntaxError: "),
        ("change", "`transform` is a file of Python, FILE.py or FILE.py:FUNCTION; received 'change'."),
        (np.negative, "received a ufunc: write it into a file."),
    ],
)
def test_what_names_no_transform_is_told_in_one_line(name: object, message: str) -> None:
    Path("broken.py").write_text("def transform(image:\n")
    with pytest.raises(InvalidChoice) as caught:
        named(name)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
