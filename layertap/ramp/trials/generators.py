"""Batches of images for a submission: those of ramp-workflow, but prepared ahead of the training."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import BadData
from feature_cache.process.read_ahead import read_ahead
from layertap.ramp.transforms.code_loading import BadSubmission, place
from layertap.ramp.transforms.transform_pool import TransformedImages

AHEAD = 2  # chunks that are made while the submission trains on one

Generator = Iterator[tuple[np.ndarray, np.ndarray]]


class BatchGeneratorBuilder:
    """The argument of a submission's `fit`: it makes generators of batches of images.

    Parameters
    ----------
    X_array : array of shape (n,)
        Ids of images, names of files in `folder`.
    y_array : array of shape (n,), int
        Their classes, from 0.
    transform_img, transform_test_img : callable
        The transforms for training and for prediction.
    folder : path
    chunk_size : int
        The number of images that are transformed at a time; a batch never spans two chunks.
    n_classes : int
    n_jobs : int
        The number of threads that read files.
    transformed : TransformedImages
        What makes images of files, by `transform_img`.
    """

    def __init__(
        self,
        X_array: Any,
        y_array: Any,
        transform_img: Callable[[np.ndarray], Any],
        transform_test_img: Callable[[np.ndarray], Any],
        folder: str | os.PathLike[str],
        chunk_size: int,
        n_classes: int,
        n_jobs: int,
        transformed: TransformedImages,
    ) -> None:
        self.X_array = X_array
        self.y_array = y_array
        self.transform_img = transform_img
        self.transform_test_img = transform_test_img
        self.n_jobs = n_jobs
        self.folder = folder
        self.chunk_size = chunk_size
        self.n_classes = n_classes
        self.nb_examples = len(X_array)
        self._transformed = transformed

    def get_train_valid_generators(
        self, batch_size: int = 256, valid_ratio: float = 0.1
    ) -> tuple[Generator, Generator, int, int]:
        """Two endless generators, and the number of images of each.

        The images held out are the last, unshuffled, and go through the transform of training too, as in
        ramp-workflow.

        Parameters
        ----------
        batch_size : int
            The last batch of each chunk may be smaller.
        valid_ratio : float
            From 0 to 1.

        Returns
        -------
        gen_train, gen_valid : generators of (X, y)
            X of shape (m, 1, height, width) where images have two axes, else (m, height, width, channels), float32;
            y one-hot, of shape (m, n_classes), float64.
        nb_train, nb_valid : int
        """
        nb_valid = int(valid_ratio * self.nb_examples)
        nb_train = self.nb_examples - nb_valid
        indices = np.arange(self.nb_examples)
        train = self._get_generator(indices[:nb_train], batch_size)
        return train, self._get_generator(indices[nb_train:], batch_size), nb_train, nb_valid

    def _get_generator(self, indices: np.ndarray | None = None, batch_size: int = 256) -> Generator:
        indices = np.arange(self.nb_examples) if indices is None else indices
        if not len(indices):
            raise BadData("this generator has no images; choose another valid_ratio, or do not draw from it.")
        for X, y in self._chunks(indices):
            for start in range(0, len(X), batch_size):
                yield X[start : start + batch_size], y[start : start + batch_size]

    def _chunks(self, indices: np.ndarray) -> Generator:
        """All chunks, again and again; a thread transforms the next ones ahead, or at least reads them."""
        paths = paths_of(self.folder, self.X_array[indices])
        classes = np.array(self.y_array[indices], dtype="int").ravel()
        size = self.chunk_size
        parts = [slice(start, start + size) for start in range(0, len(paths), size)]
        if self._transformed.is_random(paths):
            decoded = ((part, self._transformed.decode(paths[part])) for part in itertools.cycle(parts))
            for part, images in read_ahead(decoded, AHEAD):
                transformed = [self._transformed.transform(image.copy()) for image in images]
                yield as_input(transformed, self.transform_img), one_hot(classes[part], self.n_classes)
            return

        def make(part: slice) -> np.ndarray:
            images = self._transformed.images(paths[part], ahead=len(paths) - (part.stop or 0))
            return as_input(images, self.transform_img)

        for part, X in read_ahead(((part, make(part)) for part in itertools.cycle(parts)), AHEAD):
            yield X, one_hot(classes[part], self.n_classes)


def paths_of(folder: str | os.PathLike[str], ids: Sequence[Any] | np.ndarray) -> list[str]:
    """The files of these ids in `folder`.

    Raises
    ------
    BadData
        When an id leads to a place outside the folder.
    """
    root = Path(folder).absolute()
    inside = os.path.normpath(root) + os.sep
    paths = [str(root / str(name)) for name in ids]
    for path, name in zip(paths, ids, strict=True):
        if not os.path.normpath(path).startswith(inside):
            raise BadData(f"the image {str(name)!r} leads out of {folder}; ids are names of files in it.")
    return paths


def as_input(images: Sequence[Any] | np.ndarray, transform: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Training images as one float32 array; images of two axes get an axis of channels in front.

    Parameters
    ----------
    images : sequence of arrays
    transform : callable
        The transform that made them, for messages.

    Raises
    ------
    BadSubmission
        When the images have several shapes, or too few axes.
    """
    try:
        X = np.array(images)  # of several dtypes the common one, before it is rounded
    except ValueError:
        X = np.empty(0)
    if X.ndim < 3 or X.dtype.hasobject:
        raise _wrong(images, transform)
    return np.array(_with_channels(X), dtype="float32")


def as_tested(images: Sequence[Any] | np.ndarray, transform: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Images for prediction as one array, of the dtype that the transform returned.

    Parameters
    ----------
    images, transform
        As for `as_input`.

    Raises
    ------
    BadSubmission
        As for `as_input`.
    """
    arrays = [np.asarray(image) for image in images]
    if len({image.shape for image in arrays}) > 1 or arrays[0].ndim < 2:
        raise _wrong(arrays, transform)
    return _with_channels(np.stack(arrays))


def one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    """Classes as one-hot rows: shape (n, count), float64."""
    count = count or int(classes.max()) + 1
    out = np.zeros((len(classes), count))
    out[np.arange(len(classes)), classes] = 1
    return out


def _with_channels(X: np.ndarray) -> np.ndarray:
    return X[:, np.newaxis] if X.ndim == 3 else X


def _wrong(images: Sequence[Any] | np.ndarray, transform: Callable[[np.ndarray], Any]) -> BadSubmission:
    shapes = list(dict.fromkeys(np.shape(image) for image in images))[:3]
    return BadSubmission(
        f"{place(transform)} leaves images of shapes {', '.join(map(str, shapes))}; all are to be of one, of 2 axes at "
        "least."
    )
