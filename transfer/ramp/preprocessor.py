"""The transforms of a submission: loaded, identified by their source, and tried out for random numbers."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import io
import json
import random
import re
import tokenize
import traceback
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from feature_cache.errors import BadData, BadImage

SAID = "is_random"  # what a preprocessor may say of its transforms
TRIED = 16  # images on which a transform is tried twice
# Names of what gives another number each time; a transform that uses one is tried all the same if it says it is none.
_RANDOM = re.compile(r"rand|rng|seed|shuffle|uuid|time|augment", re.IGNORECASE)
_PLAIN_FORMATS, _PLAIN_MODES = ("PNG", "JPEG", "BMP"), ("L", "RGB", "RGBA")
_VERSIONS = ("numpy", "scipy", "scikit-image", "Pillow", "imageio", "tifffile")  # what most transforms are made of


class BadSubmission(BadData):
    """A submission that cannot be loaded or run, or gives what it should not."""


class Transform:
    """One function of an image preprocessor.

    Parameters
    ----------
    function : callable
        From an image, an array of shape (height, width) or (height, width, channels), to another.

    Attributes
    ----------
    file : Path or None
        Where its source is; None for a function that has none, such as one that was unpickled.
    """

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "")
        self.file = _file_of(function)

    @cached_property
    def source(self) -> bytes:
        return b"" if self.file is None else self.file.read_bytes()

    @cached_property
    def digest(self) -> str:
        """Of the function's name, the whole source of its module, and the versions of what transforms are made of."""
        content = json.dumps([self.name, hashlib.sha256(self.source).hexdigest(), [_version(one) for one in _VERSIONS]])
        return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"

    def says(self) -> bool | None:
        """Whether its module says that it draws random numbers, as ``is_random = True``; None where it says nothing."""
        said = getattr(self.function, "__globals__", {}).get(SAID)
        return None if said is None else bool(said)

    def is_random(self, images: Sequence[np.ndarray]) -> bool:
        """Whether it draws random numbers: what it says itself, or else what its source and a try on `images` tell.

        The state of NumPy's and Python's own generators is left as it was.
        """
        said = self.says()
        if said is not None or self.file is None:
            return said is not False
        if _names_randomness(self.source):
            return True
        before = np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            for image in images[:TRIED]:
                if not _same(self(image.copy()), self(image.copy())):
                    return True
            return not _same_state(before, (np.random.get_state(), random.getstate()))  # noqa: NPY002
        finally:
            np.random.set_state(before[0])  # noqa: NPY002
            random.setstate(before[1])

    def __call__(self, image: np.ndarray) -> Any:
        """The image that is left.

        Raises
        ------
        BadSubmission
            When the function raises, with the line.
        """
        try:
            return self.function(image)
        except Exception as error:
            raise BadSubmission(told(error, self.file)) from error


def load(file: Path, name: str = "") -> ModuleType:
    """The module in `file`, as ramp-workflow loads it, but without its list of forbidden words.

    Raises
    ------
    BadSubmission
        When it cannot be read, is no Python, or raises.
    """
    try:
        spec = importlib.util.spec_from_file_location(name or file.stem, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadSubmission(told(error, file)) from error
    return module


def told(error: BaseException, file: Path | None) -> str:
    """An error in one line, with the file and the line where it arose, preferably in the folder of `file`."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    what = " ".join(what.split())
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, FileNotFoundError) and file is not None and str(error.filename) == str(file):
        return f"{file}: there is no such file."
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is not None and Path(frame.filename).parent == file.parent]
    if own:
        return f"{own[-1].filename}:{own[-1].lineno}: {what}"
    return f"{file}: {what}" if file is not None else what


def read_image(path: str) -> np.ndarray:
    """The image at `path` as ramp-workflow reads it, by scikit-image.

    Raises
    ------
    BadImage
        When it is missing, or cannot be read.
    """
    try:
        with Image.open(path) as image:
            # What scikit-image would do by way of imageio, five times as fast.
            if (
                image.format in _PLAIN_FORMATS
                and image.mode in _PLAIN_MODES
                and not getattr(image, "is_animated", False)
            ):
                return np.array(image)
        from skimage.io import imread

        return np.array(imread(path))
    except FileNotFoundError:
        raise BadImage(f"there is no image {path}.") from None
    except Exception as error:  # readers raise whatever a damaged file leads them to
        reason = str(error).strip().splitlines()
        raise BadImage(f"{path} is not an image that can be read ({reason[0] if reason else error!r}).") from error


def _file_of(function: Callable[..., Any]) -> Path | None:
    try:
        found = inspect.getsourcefile(function)
    except TypeError:
        return None
    file = Path(found) if found else None
    # A function that another module lends to the preprocessor has its source elsewhere.
    own = getattr(function, "__globals__", {}).get("__file__")
    return file if file and file.is_file() and own and Path(own) == file else None


def _names_randomness(source: bytes) -> bool:
    try:
        tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return True
    return any(token.type == tokenize.NAME and _RANDOM.search(token.string) for token in tokens)


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _same_state(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip([*one[0], one[1]], [*other[0], other[1]], strict=True)
    )


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
