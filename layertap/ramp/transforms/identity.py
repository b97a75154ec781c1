"""The transforms of a submission: identified by all code that they depend on, and tested for random numbers."""

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
from transfer.data.transforms import same_array

DECLARATION = "is_random"  # the name by which a preprocessor may declare whether its transforms are random
TRIED = 16  # images on which a transform is applied twice
# Names of things that may give another value the next time. A module that uses them can declare that it is not random.
_UNSURE = re.compile(
    r"rand|rng|seed|shuffle|uuid|time|augment|^load|^read|imread|fromfile|memmap|environ", re.IGNORECASE
)
_sources: weakref.WeakKeyDictionary[Any, tuple[Path, str, bytes]] = weakref.WeakKeyDictionary()


def load_transforms(file: Path) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The functions `transform` and `transform_test` of a preprocessor; the first stands in for a missing second.

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
    """Whether a function is defined in the source of its module, and not derived from another function."""
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
        It takes an image, an array of shape (height, width) or (height, width, channels), and returns another.

    Attributes
    ----------
    file : Path or None
        The file that `load_transforms` loaded it from; None for functions without a known source: unpickled ones, and
        those that another function returned.
    name : str
        The name of the function in that file.
    """

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self.function = function
        known: tuple[Path | None, str, bytes] = _sources.get(function) or (None, "", b"")
        self.file, self.name, self.source = known

    @cached_property
    def digest(self) -> str:
        """The digest of all code that the function depends on; only a function with a file has one."""
        return f"{self.name}-{code_loading.digest(self.source)}"

    def declares_random(self) -> bool | None:
        """What the module declares, as ``is_random = True``; None where it declares nothing."""
        declared = getattr(self.function, "__globals__", {}).get(DECLARATION)
        return None if declared is None else bool(declared)

    def is_random(self, images: Sequence[np.ndarray]) -> bool:
        """Whether the function draws random numbers: by its module's declaration, or else its source and a test.

        The test applies a newly loaded copy of the module twice to some of `images`. The states of NumPy's and Python's
        global generators are restored.
        """
        if self.file is None:
            return True
        declared = self.declares_random()
        if declared is not None:
            return declared
        if _is_unsure(self.source):
            return True
        before = np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            function = getattr(load(self.file, self.source), self.name)
            for image in images[:TRIED]:
                if not same_array(called(function, image.copy(), self.file), called(function, image.copy(), self.file)):
                    return True
            return not _same_state(before, (np.random.get_state(), random.getstate()))  # noqa: NPY002
        finally:
            np.random.set_state(before[0])  # noqa: NPY002
            random.setstate(before[1])

    def __call__(self, image: np.ndarray) -> Any:
        """The transformed image.

        Raises
        ------
        BadSubmission
            When the function raises an error; the message names its line.
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


def _same_state(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip([*one[0], one[1]], [*other[0], other[1]], strict=True)
    )
