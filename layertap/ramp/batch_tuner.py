"""`BatchTuner`: fine-tuning on the batches of images that a RAMP workflow passes to a classifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from feature_cache.errors import DamagedFile, InvalidChoice
from feature_cache.files.checked import read_arrays
from layertap.ramp.features import BatchFeatures
from layertap.ramp.fitting import hold_out
from transfer.finetune.cut_choice import Cut, find_cut
from transfer.finetune.recipe import Recipe
from transfer.finetune.tuner import FineTuner
from transfer.request import FeatureRequest

if TYPE_CHECKING:
    from transfer.finetune.tuner import FineTuner, InnerSplit
    from transfer.nets.backbone import Backbone

FILE = "tuned.npz"
# A function of features of shape (n, d), labels and groups, which are equal for images of the same pixels, that returns
# the kernel (d, classes) and the bias (classes,) of a linear classifier.
Probe = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class BatchTuner:
    """Trains the last layers of a net on cached activations of the layers before them (see `FineTuner`).

    A tuner can be pickled if `probe` and `split` can.

    Parameters
    ----------
    features : BatchFeatures
        The features of the layer that the classifier reads; it is a single one.
    probe : callable
        The classifier that training starts from, such as a `layertap.ramp.StartingClassifier` (see `Probe`).
    split : callable, optional
        It holds out the images that choose the number of epochs; by default `layertap.ramp.hold_out`.
    unfreeze_from : str
        The first layer that is trained, by name or index; or ``auto`` (see `find_cut`).
    recipe : Recipe

    Attributes
    ----------
    classes_ : ndarray of shape (k,), int
        The classes that occur among the training images.
    n_classes_ : int
        The number of columns of the targets.

    Examples
    --------
    >>> from layertap.ramp import BatchFeatures, Recipe, StartingClassifier
    >>> features = BatchFeatures("glyphnet", "block4_pool", pool="avg", size=(32, 32), cache="features")
    >>> tuner = BatchTuner(features, StartingClassifier("ridge"), recipe=Recipe(epochs=10))
    >>> tuner.fit(batches, count).predict_proba(batch).shape  # doctest: +SKIP
    (2, 10)
    """

    def __init__(
        self,
        features: BatchFeatures,
        probe: Probe,
        split: InnerSplit = hold_out,
        *,
        unfreeze_from: str = "auto",
        recipe: Recipe = Recipe(),  # noqa: B008  # it is frozen
    ) -> None:
        self.features = features
        self.probe = probe
        self.split = split
        self.unfreeze_from = unfreeze_from
        self.recipe = recipe
        self._tuner: FineTuner | None = None
        self._weights: list[np.ndarray] = []  # the trained weights, after the tuner has been unpickled

    def fit(self, batches: Iterable[tuple[Any, Any]], count: int) -> Self:
        """Train on the `count` images of an epoch, with one-hot targets (see `BatchRows.of_epoch`).

        Raises
        ------
        InvalidChoice
            When there is no such layer, or no layer before the trained ones whose activations can be cached.
        BadData
            When the images are not as the net takes them, or of one class.
        LayertapError
            When the net is not to be had, or the cache cannot be written.
        """
        request = self.features.request
        backbone = request.build_keras("can be fine-tuned")  # of its own: it is trained in place
        cut = cut_of(request, backbone, self.unfreeze_from)
        self._kept, read = self.features.at(cut.layers, "none"), self.features.rows
        rows, targets, groups = self._kept.of_epoch(batches, count)
        read.complete(rows, cut.layers)

        def probe(
            digests: np.ndarray, views: np.ndarray, labels: np.ndarray, groups: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            features = read.features(digests)
            # Submissions that were written by earlier versions have a probe without groups.
            more = [groups] * (len(inspect.signature(self.probe).parameters) > 2)
            return self.probe(features[:].reshape(len(features), -1), labels, *more)

        labels = targets.argmax(axis=1)
        self.n_classes_, self.classes_ = targets.shape[1], np.unique(labels)
        self._tuner = self._tuner_of(request, backbone, cut, probe).fit(rows, labels, groups)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes) for a batch; 0 for a class that no training image has."""
        if self._tuner is None:  # the tuner has been loaded or unpickled
            request = self.features.request
            backbone = request.build_keras("can be fine-tuned")
            cut = cut_of(request, backbone, self.unfreeze_from)
            self._tuner = self._tuner_of(request, backbone, cut, self.probe)
            self._tuner.classes_, self._tuner.network.weights = self.classes_, self._weights
        probabilities = np.zeros((len(X), self.n_classes_))
        probabilities[:, self.classes_] = self._tuner.predict_proba(self._kept(X))
        return probabilities

    def save(self, folder: Path) -> None:
        """Write the trained weights to ``tuned.npz`` in `folder`, which `load` reads."""
        state = self.__getstate__()
        weights = {f"weights-{number}": array for number, array in enumerate(state["_weights"])}
        np.savez(folder / FILE, classes=self.classes_, n_classes=self.n_classes_, **weights)

    def load(self, folder: Path) -> Self:
        """Load the weights that a tuner with the same parameters has saved.

        Raises
        ------
        DamagedFile
            When the file cannot be read.
        """
        try:
            arrays = read_arrays(folder / FILE)
            self.classes_, self.n_classes_ = arrays["classes"], int(arrays["n_classes"])
            self._weights = [arrays[f"weights-{number}"] for number in range(len(arrays) - 2)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"the tuned weights in {folder} cannot be read ({error}); train them again.") from error
        request = self.features.request
        cut = cut_of(request, request.build_keras("can be fine-tuned"), self.unfreeze_from)
        self._kept, self._tuner = self.features.at(cut.layers, "none"), None
        return self

    def __getstate__(self) -> dict[str, Any]:
        weights = self._tuner.network.weights if self._tuner else self._weights
        return {**self.__dict__, "_tuner": None, "_weights": weights}

    def _tuner_of(self, request: FeatureRequest, backbone: Backbone, cut: Cut, probe: Any) -> FineTuner:
        from transfer.finetune.network import Network  # after the net, which loads Keras quietly

        [spec] = request.specs
        classes = len(self.classes_)
        network = Network(backbone, cut, spec.layer, spec.pooling_rule, spec.preprocessing, classes, self.recipe)
        return FineTuner(network, probe, self.recipe, self.split)


def cut_of(request: FeatureRequest, backbone: Backbone, unfreeze_from: str) -> Cut:
    """Where the net of `request`, which reads one layer, is cut.

    Raises
    ------
    InvalidChoice
        When it reads several, when there is no such layer, or when nothing before it would be kept.
    """
    if len(request.specs) > 1:
        raise InvalidChoice("fine-tuning reads one layer; name a single one with `layer`.")
    cut = find_cut(backbone, request.specs[0].layer, unfreeze_from)
    if not cut.layers:
        raise InvalidChoice(
            f"training {request.net.name} from {cut.trained[0]} on leaves nothing to keep; choose a later layer."
        )
    return cut
