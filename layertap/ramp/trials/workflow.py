"""`ImageClassifier`: the workflow of ramp-workflow for images, which transforms each image only once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import as_cache
from feature_cache.process.read_ahead import read_ahead
from layertap.ramp.transforms.code_loading import BadSubmission, place, ramp_workflow
from layertap.ramp.transforms.identity import Transform, load_transforms
from layertap.ramp.transforms.transform_pool import TransformedImages
from layertap.ramp.trials.generators import AHEAD, BatchGeneratorBuilder, as_tested, paths_of


class ImageClassifier:
    """A replacement for ``rampwf.workflows.ImageClassifier``: submissions get the same batches, in the same order.

    Files are read and transformed ahead of the training, by several processes if the transform is slow. Transformed
    images are stored in the cache, by the content of the original and the source of the transform, so that epochs,
    folds, predictions and other submissions with the same ``image_preprocessor.py`` find them there. Transforms that
    draw random numbers are applied in order, when a batch is requested, and nothing is stored. Whether a transform does
    is tested; ``is_random = True`` or ``False`` in ``image_preprocessor.py`` declares it.

    Parameters
    ----------
    test_batch_size : int
        The number of images in each call of `predict_proba`.
    chunk_size : int
        The number of images that are transformed at a time.
    n_jobs : int
        The number of threads that read files.
    n_classes : int
    workflow_element_names : sequence of two str
        The names of the two modules of a submission.
    cache : path, optional
        The cache folder; by default ``$LAYERTAP_CACHE``, or ``./features``.
    workers : int, optional
        The number of processes that transform images if that is slow; by default one for each core.

    Examples
    --------
    In the file `problem.py` of a kit:

    >>> workflow = ImageClassifier(test_batch_size=16, chunk_size=256, n_jobs=8, n_classes=10)
    >>> workflow.element_names
    ['image_preprocessor', 'batch_classifier']
    """

    def __init__(
        self,
        test_batch_size: int,
        chunk_size: int,
        n_jobs: int,
        n_classes: int,
        workflow_element_names: Sequence[str] = ("image_preprocessor", "batch_classifier"),
        *,
        cache: str | os.PathLike[str] | None = None,
        workers: int | None = None,
    ) -> None:
        self.element_names = list(workflow_element_names)
        self.test_batch_size = test_batch_size
        self.chunk_size = chunk_size
        self.n_jobs = n_jobs
        self.n_classes = n_classes
        self.cache = cache
        self.workers = workers

    def train_submission(
        self,
        module_path: str | os.PathLike[str],
        folder_X_array: tuple[str, np.ndarray],
        y_array: np.ndarray,
        train_is: Any = None,
    ) -> tuple[Any, Any, Any]:
        """Train a submission.

        Parameters
        ----------
        module_path : path
            The folder of the submission.
        folder_X_array : (path, array of shape (n,))
            The folder of the images, and their ids.
        y_array : array of shape (n,), int
        train_is : array of int, optional
            Positions of those to train on; all by default.

        Returns
        -------
        transform, transform_test, classifier

        Raises
        ------
        LayertapError
            When an image, or the transformed image, cannot be used.
        """
        folder, X_array = folder_X_array
        train_is = slice(None) if train_is is None else train_is
        transform, transform_test = load_transforms(self._checked(module_path, 0))
        classifier = self._imported(module_path, 1).BatchClassifier()
        transformed = self._transformed(transform)
        try:
            classifier.fit(
                BatchGeneratorBuilder(
                    *(X_array[train_is], y_array[train_is], transform, transform_test, folder),
                    *(self.chunk_size, self.n_classes, self.n_jobs, transformed),
                )
            )
        finally:
            transformed.close()
        return transform, transform_test, classifier

    def test_submission(
        self, trained_model: tuple[Any, Any, Any], folder_X_array: tuple[str, np.ndarray]
    ) -> np.ndarray:
        """The predictions of a trained submission: probabilities of shape (n, n_classes)."""
        folder, X_array = folder_X_array
        _, transform_test, classifier = trained_model
        paths = paths_of(folder, X_array)
        transformed = self._transformed(transform_test)
        parts = (slice(start, start + self.chunk_size) for start in range(0, len(paths), self.chunk_size))
        random = transformed.is_random(paths)

        def make(part: slice) -> Any:
            if random:
                return transformed.decode(paths[part])
            return transformed.images(paths[part], ahead=len(paths) - part.stop)

        probabilities = []
        try:
            for images in read_ahead(map(make, parts), AHEAD):
                for start in range(0, len(images), self.test_batch_size):
                    batch = images[start : start + self.test_batch_size]
                    if random:
                        batch = [transformed.transform(image.copy()) for image in batch]
                    probabilities.append(_probabilities(classifier.predict_proba, as_tested(batch, transform_test)))
        finally:
            transformed.close()
        return np.concatenate(probabilities, axis=0)

    def _transformed(self, function: Any) -> TransformedImages:
        return TransformedImages(Transform(function), as_cache(self.cache), self.n_jobs, self.workers)

    def _checked(self, folder: str | os.PathLike[str], number: int) -> Path:
        """The file of a module of a submission, after a check for the words that ramp-workflow forbids."""
        file = Path(folder, f"{self.element_names[number]}.py")
        ramp_workflow().utils.sanitize._sanitize_input(file.read_text(encoding="utf-8"))
        return file

    def _imported(self, folder: str | os.PathLike[str], number: int) -> Any:
        file, name = Path(folder, f"{self.element_names[number]}.py"), self.element_names[number]
        return ramp_workflow().utils.importing.import_module_from_source(str(file), name, sanitize=True)


def _probabilities(predict: Callable[[np.ndarray], Any], X: np.ndarray) -> np.ndarray:
    """The predictions of a classifier for a batch.

    Raises
    ------
    BadSubmission
        When they are not an array of numbers.
    """
    probabilities = predict(X)
    try:
        array = np.asarray(probabilities)
    except ValueError:  # rows of several lengths
        array = np.empty(0, object)
    if not array.ndim or array.dtype.kind in "OSU":
        what = f"values of {array.dtype.type.__name__.rstrip('_')}" if array.ndim else f"{probabilities!r:.40}"
        raise BadSubmission(f"{place(predict)} gives {what}, not an array of numbers with a row for each image.")
    return array
