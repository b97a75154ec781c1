"""The transforms of a submission: identified by all that they are made of, and tried out for random numbers."""

from __future__ import annotations

import io
import random
import re
import tokenize
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from layertap.ramp.transforms import code_loading
from layertap.ramp.transforms.code_loading import BadSubmission, called, load

SAID = "is_random"  # what a preprocessor may say of its transforms
TRIED = 16  # images on which a transform is tried twice
# Names of what may give something else the next time. Whoever uses them can still say that nothing is random.
_UNSURE = re.compile(
    r"rand|rng|seed|shuffle|uuid|time|augment|^load|^read|imread|fromfile|memmap|environ", re.IGNORECASE
)
_sources: weakref.WeakKeyDictionary[Any, tuple[Path, str, bytes]] = weakref.WeakKeyDictionary()


def load_transforms(file: Path) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`transform` and `transform_test` of a preprocessor; the first is both where the second is missing.

    Raises
    ------
    BadSubmission
        When the file cannot be loaded, or has no `transform`.
    """
    source = file.read_bytes() if file.is_file() else None
    module = load(file, source)
    if not callable(getattr(module, "transform", None)):
        raise BadSubmission(f"{file}: it has no function transform.")
    functions = module.transform, getattr(module, "transform_test", module.transform)
    for name, function in zip(("transform_test", "transform"), reversed(functions), strict=True):
        if source is not None and _is_own(function, module):
            _sources[function] = file, name, source
    return functions


def _is_own(function: Any, module: ModuleType) -> bool:
    """Whether a function is what the source of its module says, and nothing that was made of another."""
    return (
        isinstance(function, FunctionType)
        and function.__code__.co_filename == module.__file__
        and function.__closure__ is None
        and not hasattr(function, "__wrapped__")
    )


class Transform:
    """One function of an image preprocessor.

    Parameters
    ----------
    function : callable
        From an image, an array of shape (height, width) or (height, width, channels), to another.

    Attributes
    ----------
    file : Path or None
        Where it was loaded from by `load_transforms`; None for functions that are not known by their source: those that
        were unpickled, or made by another function.
    name : str
        In that file.
    """

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self.function = function
        known: tuple[Path | None, str, bytes] = _sources.get(function) or (None, "", b"")
        self.file, self.name, self.source = known

    @cached_property
    def digest(self) -> str:
        """Of all that it is made of, where it has a file."""
        return f"{self.name}-{code_loading.digest(self.source)}"

    def says(self) -> bool | None:
        """Whether its module says that it draws random numbers, as ``is_random = True``; None where it says nothing."""
        said = getattr(self.function, "__globals__", {}).get(SAID)
        return None if said is None else bool(said)

    def is_random(self, images: Sequence[np.ndarray]) -> bool:
        """Whether it draws random numbers: what it says itself, or else what its source and a try on `images` tell.

        The try is on the module loaded anew; the state of NumPy's and Python's own generators is left as it was.
        """
        if self.file is None:
            return True
        said = self.says()
        if said is not None:
            return said
        if _is_unsure(self.source):
            return True
        before = np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            tried = getattr(load(self.file, self.source), self.name)
            for image in images[:TRIED]:
                if not _same(called(tried, image.copy(), self.file), called(tried, image.copy(), self.file)):
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
        return called(self.function, image, self.file)

    def __reduce__(self) -> tuple[Any, ...]:
        return Transform, (self.function,)


def _is_unsure(source: bytes) -> bool:
    try:
        tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return True
    return any(token.type == tokenize.NAME and _UNSURE.search(token.string) for token in tokens)


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _same_state(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip([*one[0], one[1]], [*other[0], other[1]], strict=True)
    )
