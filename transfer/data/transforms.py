"""Transforms: functions of the user's, ``FILE.py:FUNCTION``, that change images before they are fitted to a net.

A feature spec has the digest of such a function. What makes the pixels of a spec finds the function by it among those
that the user has named in this process: a spec, a space or a run never makes code run by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import BadImage, InvalidChoice, UnsafeFile
from feature_cache.process.source_digest import source_digest
from feature_cache.process.user_code import USER_ERRORS, UserCode, explanation, function_in
from feature_cache.spec import LARGEST_SIZE, FeatureSpec

CODE = UserCode("transform", "transform", "layertap_transform_")
TRIED = 4  # images that a function is applied to twice
_named: dict[str, Transform] = {}  # by digest
_digests: dict[bytes, str] = {}  # of sources: what local modules were when a source was first read is what is run


@dataclass(frozen=True)
class Transform:
    """A function of the user's that changes images. Several threads call it at the same time.

    Attributes
    ----------
    digest : str
        The name of the function, and the digest of its source and of the local modules that it imports.
    file : str
        Its file, which has been read.
    source : bytes
        What is run.
    """

    digest: str
    file: str = field(compare=False)
    source: bytes = field(compare=False, repr=False)

    def __str__(self) -> str:
        """``FILE.py:FUNCTION``, as it is found from any working folder."""
        return f"{self.file}:{self.name}"

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.digest.rpartition("-")[0]

    @cached_property
    def function(self) -> Callable[[np.ndarray], Any]:
        """The function; its file is run first, unless it has been run.

        Raises
        ------
        InvalidChoice
            When there is no such function, or the code of the file raises an exception.
        """
        return function_in(CODE.module(self.file, self.source), self.name, self.file)

    @cached_property
    def _tried(self) -> list[str]:
        """The names of the images that it was applied to twice."""
        return []

    def __call__(self, image: np.ndarray, name: str) -> np.ndarray:
        """The changed image.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8
            RGB, upright, at the size that it has. The function may change it in place.
        name : str
            The name of the image in messages.

        Returns
        -------
        ndarray of shape (height, width, 3) or (height, width), uint8
            Of any height and width.

        Raises
        ------
        BadImage
            When the function raises an exception, or returns something else.
        InvalidChoice
            When it returns something else the second time.
        """
        again = image.copy() if len(self._tried) < TRIED else None
        changed = self._applied(image, name)
        if again is not None:
            self._tried.append(name)
            if not same_array(changed, self._applied(again, name)):
                raise InvalidChoice(
                    f"{self} makes something else of the image {name} the second time, and features are computed "
                    "once: seed what it draws, or let `augment` make random views."
                )
        return changed

    def _applied(self, image: np.ndarray, name: str) -> np.ndarray:
        try:
            changed = np.asarray(self.function(image))
        except USER_ERRORS as error:
            if isinstance(error, InvalidChoice):
                raise
            run = getattr(getattr(self.function, "__code__", None), "co_filename", self.file)  # perhaps of another name
            reason = f"cannot be changed by {self}: it failed{explanation(error, run)}"
            raise BadImage(f"{name} {reason}", reason.rstrip(".")) from error
        if changed.ndim == 3 and changed.shape[2] == 1:
            changed = changed[..., 0]
        is_image = changed.ndim == 2 or (changed.ndim == 3 and changed.shape[2] == 3)
        if changed.dtype != np.uint8 or not is_image or not 0 < changed.shape[0] * changed.shape[1] <= LARGEST_SIZE:
            reason = (
                f"cannot be changed by {self}: it returned {_described(changed)}, and should return uint8 of the shape "
                "(height, width, 3), or (height, width) for gray"
            )
            raise BadImage(f"{name} {reason}.", reason)
        return changed

    def __reduce__(self) -> tuple[Any, ...]:
        return _registered, (self.digest, self.file, self.source)


def named(transform: str | os.PathLike[str]) -> Transform:
    """The transform that the user names; its file is run, unless it has been run.

    Parameters
    ----------
    transform : str or path
        ``FILE.py``, for its function ``transform``, or ``FILE.py:FUNCTION``.

    Raises
    ------
    InvalidChoice
        When there is no such file or function, or its code raises an exception.

    Examples
    --------
    >>> _ = Path("inverted.py").write_text("def transform(image): return 255 - image")
    >>> named("inverted.py")(np.zeros((1, 1, 3), np.uint8), "black").tolist()
    [[[255, 255, 255]]]
    """
    return _registered(*_read(transform))


def named_for(digests: Iterable[str], transforms: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Take those of some transforms that have one of the digests; the files of others are read, and are not run.

    Returns
    -------
    list of str
        The digests that none of them has.

    Raises
    ------
    InvalidChoice
        As of `named`.
    """
    given = {digest: (file, source) for digest, file, source in map(_read, transforms)}
    digests = list(digests)
    for digest in digests:
        if digest in given:
            _registered(digest, *given[digest])
    return [digest for digest in digests if digest not in given]


def transform_of(spec: FeatureSpec) -> Transform | None:
    """The transform of a spec; None where it has none.

    Raises
    ------
    UnsafeFile
        When the user has not named it in this process.
    """
    if spec.transform is None:
        return None
    if spec.transform not in _named:
        raise UnsafeFile(
            f"these features are of images that code of its own changes, {spec.transform[:20]!r}, which is run only "
            "where you name it: `transform='FILE.py:FUNCTION'`."
        )
    return _named[spec.transform]


def names_of(specs: Iterable[FeatureSpec]) -> dict[str, str]:
    """The ``FILE.py:FUNCTION`` of the transforms of some specs, by digest."""
    return {found.digest: str(found) for spec in specs if (found := transform_of(spec)) is not None}


def same_array(one: Any, other: Any) -> bool:
    """Whether two arrays are of one dtype and shape, and hold the same bytes."""
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _read(transform: str | os.PathLike[str]) -> tuple[str, str, bytes]:
    """The digest, the file and the source of what the user names."""
    if not isinstance(transform, str | os.PathLike):
        raise InvalidChoice(
            "`transform` is FILE.py or FILE.py:FUNCTION, a file that tells all of the code, by which features are "
            f"found again; received a {type(transform).__name__}: write it into a file."
        )
    name = os.fspath(transform)
    if not CODE.is_file(name):
        raise InvalidChoice(f"`transform` is a file of Python, FILE.py or FILE.py:FUNCTION; received {name!r}.")
    file, function = CODE.split(name)
    source = CODE.content(file)
    try:
        digest = _digests.setdefault(source, source_digest(source))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise InvalidChoice(f"{file} cannot be run{explanation(error, file)}") from error
    return f"{function}-{digest}", str(Path(file).absolute()), source


def _registered(digest: str, file: str, source: bytes) -> Transform:
    found = _named.setdefault(digest, Transform(digest, file, source))
    _ = found.function  # a mistake shows before any work, and threads find the file run
    return found


def _described(value: np.ndarray) -> str:
    if value.dtype.hasobject:
        return "no array of numbers"
    return f"{value.dtype} of the shape {value.shape}"
