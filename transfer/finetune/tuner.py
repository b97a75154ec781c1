"""`FineTuner`: a classifier that trains the last layers of a net, for as many epochs as images held out say.

Training goes on where it was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import softmax

from feature_cache.errors import BadData, LayertapError
from feature_cache.process.read_ahead import read_ahead
from feature_cache.version import own_version
from transfer.engines.selection import keras_backend
from transfer.finetune import checkpoint
from transfer.finetune.checkpoint import State
from transfer.finetune.held_out import (
    EARLY,
    epochs_without_progress,
    exceeds_its_error,
    find_temperature,
    is_hopeless,
    log_losses,
)
from transfer.finetune.recipe import Recipe

if TYPE_CHECKING:
    from transfer.finetune.network import Network

STOPPED = "stopped as asked; the same command goes on from here."
SAVE_SECONDS = 30.0  # between checkpoints: a kill loses at most so much work
AHEAD = 2  # batches that are read while the net trains

# From the digests, views, labels and groups of rows to the kernel (d, classes) and bias (classes,) of a classifier.
Probe = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# From the class numbers of rows, a share, a seed and groups to the rows that train and those held out; or to None.
InnerSplit = Callable[[np.ndarray, float, int, np.ndarray], tuple[np.ndarray, np.ndarray] | None]


class TrainingStopped(LayertapError):
    """Training was stopped from outside, and a checkpoint holds its state."""

    exit_code = 143  # as of a process that SIGTERM ends


class FineTuner:
    """Linear probing, then fine-tuning (Kumar et al. 2022, "Fine-tuning can distort pretrained features").

    It has the methods of a head: `fit` on activations at the cut, or on pixels, and `predict_proba`. The images to
    train on are split once more: those held out choose the number of epochs. It is the last epoch whose log-loss is not
    above the lowest by more than the standard error of the difference. It is 0, which means the probe itself, unless
    the lowest log-loss is below the probe's by more than its standard error (after Breiman et al. 1984,
    "Classification and regression trees"): smaller gains are within sampling noise. Then, unless the recipe says
    otherwise, the net is trained again on all images for that number of epochs, at rates that fall to 0 at their end.

    The log-losses are those at the temperature that suits the images held out (see `find_temperature`), because a net
    that has learned its training images by heart is too sure of others. In the end the classifier is divided by it. The
    probe, where no epoch is better, stays as it was.

    Parameters
    ----------
    network : Network
        It is trained in place; each fit starts from the weights before any training.
    probe : callable
        It fits the linear classifier to start from (see `Probe`).
    recipe : Recipe
    split : callable
        It holds out images for early stopping (see `InnerSplit`), and returns None where there are too few.
    views : int
        The number of rows of each image, one after another. An epoch draws one row of each image; scores are of the
        first.
    folder : Path, optional
        The folder of the checkpoints.
    key : str
        All else that the result depends on: the net, and the features of the probe.
    progress : callable, optional
        It is called with the number of steps that are complete and of all, as if training did not stop early.
    on_epoch : callable, optional
        It is called after each epoch with the number of the stage and the epoch, an element of `stages_`.
    stopping : callable, optional
        It is called after each step, and says whether to stop.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    stages_ : list of list of dict
        For the choice of the number of epochs, and for the training that counts: a dict for each epoch, with ``epoch``;
        ``loss``, the mean over its steps; ``steps``, the loss of each step; ``rate``; and, where images are held out,
        ``valid_loss``, at the temperature that suits them best, and ``valid_accuracy``.
    epochs_ : int
        The number of epochs that the network was trained for.
    temperature_ : float
        What its logits were divided by in the end.
    hopeless_ : bool
        Whether the choice of the number of epochs was ended after a tenth of its steps (see `is_hopeless`).
    seconds_ : float
        The time that training took, in all processes that had a part in it.
    checkpoints : list of Path
        The files of the checkpoints of all trainings so far.
    """

    reads_batches = True
    reads_keys = True

    def __init__(
        self,
        network: Network,
        probe: Probe,
        recipe: Recipe,
        split: InnerSplit,
        *,
        views: int = 1,
        folder: Path | None = None,
        key: str = "",
        progress: Callable[[int, int], None] | None = None,
        on_epoch: Callable[[int, dict[str, Any]], None] = lambda stage, epoch: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.network = network
        self.probe = probe
        self.recipe = recipe
        self.split = split
        self.views = views
        self.folder = folder
        self.key = key
        self.checkpoints: list[Path] = []
        self.progress = progress
        self.on_epoch = on_epoch
        self.stopping = stopping

    def fit(
        self,
        X: Any,
        y: np.ndarray,
        groups: np.ndarray | None = None,
        *,
        epochs: int | None = None,
        temperature: float = 1.0,
    ) -> Self:
        """Train the network, or go on where a checkpoint was written.

        Parameters
        ----------
        X : lazy array of shape (n * views, ...)
            Activations at the cut, or `PixelRows`.
        y : ndarray of shape (n * views,)
            The labels.
        groups : ndarray of shape (n * views,), optional
            Equal for rows that stay on one side of every split.
        epochs : int, optional
            The number of epochs, where it is known: no image is held out to choose it. With 0 the probe is fitted on
            all images.
        temperature : float
            What the logits are divided by, where `epochs` is given.

        Raises
        ------
        BadData
            When there is a single class, or the loss becomes NaN or infinite.
        TrainingStopped
            When `stopping` said so.
        StorageFailure
            When the disk does not take a checkpoint.
        """
        labels = y[:: self.views]
        self.classes_, target = np.unique(labels, return_inverse=True)
        self._require_classes()
        groups = np.arange(len(labels)) if groups is None else groups[:: self.views]
        key = self._key(X, labels, groups, (epochs, temperature))
        file = self.folder / f"{key}.npz" if self.folder else None
        state = (checkpoint.read(file, key) if file else None) or State()

        self.checkpoints += [file] if file else []

        def write() -> None:
            if file:
                checkpoint.write(file, key, state)

        inner = self.split(target, self.recipe.inner, self.recipe.seed, groups) if epochs is None else None
        self._complete(_Training(self, X, target, groups, state, write), inner, epochs, temperature)
        self.network.weights = state.best
        self.network.divide_logits(state.temperature)
        self.stages_, self.epochs_, self.seconds_ = state.stages, state.epochs, state.seconds
        self.temperature_, self.hopeless_ = state.temperature, state.hopeless
        return self

    def _require_classes(self) -> None:
        """Raise BadData unless the labels hold all classes of the network."""
        if len(self.classes_) < 2:
            raise BadData("fine-tuning needs at least 2 classes; the labels hold one class.")
        if len(self.classes_) != self.network.classes:
            raise BadData(
                f"the images to train on are of {len(self.classes_)} of the {self.network.classes} classes; each needs "
                "some that can be read, in the training part of every split."
            )

    def _complete(
        self,
        training: _Training,
        inner: tuple[np.ndarray, np.ndarray] | None,
        epochs: int | None,
        temperature: float,
    ) -> None:
        """Choose the number of epochs, then train for so many, as far as the state does not hold that already."""
        state, images = training.state, np.arange(len(training.target))
        if state.stage == 0:
            if inner is None:
                state.epochs = self.recipe.epochs if epochs is None else epochs
                state.temperature = temperature
            else:
                training.train(*inner, self.recipe.epochs)
                training.choose(training.groups[inner[1]])
            state.stage, state.epoch, state.step, state.losses, state.weights, state.optimizer = 1, 0, 0, [], (), ()
        if state.stage == 1:
            if inner is None or self.recipe.refit:
                training.train(images, images[:0], state.epochs)
                state.best = self.network.weights
            state.stage, state.weights, state.optimizer = 2, (), ()
            training.save()

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        return softmax(self._logits(X, np.arange(len(X))).astype(np.float64), axis=1)

    def features(self, X: Any, rows: np.ndarray) -> np.ndarray:
        """What the classifier reads of some rows of `X`, at least one, by the trained net: shape (m, d)."""
        return np.concatenate([*self._in_batches(self.network.features, X, rows)])

    def _logits(self, X: Any, rows: np.ndarray) -> np.ndarray:
        """Logits of shape (m, n_classes) of some rows of `X`."""
        parts = [*self._in_batches(self.network.logits, X, rows)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes_)), np.float32)

    def _in_batches(self, compute: Callable[[Any], np.ndarray], X: Any, rows: np.ndarray) -> Iterator[np.ndarray]:
        size = self.recipe.batch_size
        return (compute(X[rows[start : start + size]]) for start in range(0, len(rows), size))

    def _key(self, X: Any, labels: np.ndarray, groups: np.ndarray, given: tuple[Any, ...]) -> str:
        """A digest of all that the result of a training depends on."""
        state = hashlib.sha256()
        digests, views = X.keys()
        cut = self.network.cut
        parts: list[Any] = [own_version(), keras_backend(), version("keras"), self.key, self.recipe.as_dict()]
        parts += [*given, cut.layers, cut.trained, self.views, labels.astype(str).tolist()]
        state.update(json.dumps(parts, sort_keys=True).encode())
        for array in (digests, views, groups):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()[:32]


class _Training:
    """One training of a tuner's network, which goes on from its state."""

    def __init__(
        self,
        tuner: FineTuner,
        X: Any,
        target: np.ndarray,
        groups: np.ndarray,
        state: State,
        write: Callable[[], None],
    ) -> None:
        self._write = write
        self._tuner = tuner
        self._network = tuner.network
        self._recipe = tuner.recipe
        self._X = X
        self.target = target
        self.groups = groups
        self.state = state
        self._saved = self._counted = time.monotonic()

    def train(self, images: np.ndarray, held_out: np.ndarray, epochs: int) -> None:
        """Train on `images` for `epochs` epochs or, where other images are held out, until their loss rises."""
        state, recipe = self.state, self._recipe
        steps = -(-len(images) // recipe.batch_size)
        if len(state.weights):
            self._network.weights, self._network.optimizer = state.weights, state.optimizer
        else:
            self._begin(images, held_out)
        history = state.stages[state.stage]
        early = max(1, round(EARLY * epochs * steps)) if len(held_out) and recipe.patience < epochs else 0
        while state.epoch < epochs and not (len(held_out) and self._is_over()):
            for inputs, targets in self._batches(images, steps):
                rate = recipe.rate(state.epoch * steps + state.step, epochs * steps)
                loss = self._network.step(inputs, targets, rate)
                self._require_finite(loss)
                state.losses.append(round(loss, 7))
                state.step += 1
                done = state.epoch * steps + state.step
                if done == early:
                    self._look(held_out)
                self._after_step(done, epochs * steps)
                if state.hopeless:
                    return
            rate = recipe.rate((state.epoch + 1) * steps - 1, epochs * steps)
            state.epoch += 1
            scores = {"epoch": state.epoch, "loss": float(np.mean(state.losses)), "steps": state.losses, "rate": rate}
            history.append({**scores, **self._judge(held_out)})
            self._tuner.on_epoch(state.stage, history[-1])
            state.losses, state.step = [], 0
            self._save_if_due()

    def _require_finite(self, loss: float) -> None:
        """Raise BadData when the loss of a step is not a finite number."""
        if not math.isfinite(loss):
            raise BadData(
                f"the loss became NaN or infinite in epoch {self.state.epoch + 1}, step {self.state.step + 1}; lower "
                f"`learning_rate`, which is {self._recipe.learning_rate:g}, or `clip`."
            )

    def _begin(self, images: np.ndarray, held_out: np.ndarray) -> None:
        """Start from the probe, and judge it where images are held out."""
        tuner, state = self._tuner, self.state
        rows = (images[:, None] * tuner.views + np.arange(tuner.views)).reshape(-1)
        labels, groups = tuner.classes_[self.target[images]], self.groups[images]
        repeated = (np.repeat(values, tuner.views) for values in (labels, groups))
        self._network.reset(*tuner.probe(*self._X.keys(rows), *repeated))
        state.stages[state.stage] = []
        if len(held_out):
            state.stages[state.stage].append({"epoch": 0, **self._judge(held_out)})

    def _is_over(self) -> bool:
        """Whether training ends before the last epoch, by the images held out."""
        state, recipe = self.state, self._recipe
        losses = [epoch["valid_loss"] for epoch in state.stages[state.stage]]
        rising = math.ceil(recipe.warmup * recipe.epochs)
        return state.hopeless or epochs_without_progress(losses, rising) >= recipe.patience

    def _look(self, held_out: np.ndarray) -> None:
        """Ask images held out, early on, whether the training is hopeless."""
        state = self.state
        start, losses = float(np.mean(state.losses_of_probe)), self._held_out_losses(held_out)[1]
        state.hopeless = is_hopeless(start, losses, self.target[held_out], self.groups[held_out])

    def _held_out_losses(self, held_out: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The temperature of images held out, their log-losses at it, and whether each is predicted right."""
        truth = self.target[held_out]
        logits = self._tuner._logits(self._X, held_out * self._tuner.views)
        temperature = find_temperature(logits, truth)
        return temperature, log_losses(logits / temperature, truth), logits.argmax(1) == truth

    def _judge(self, held_out: np.ndarray) -> dict[str, float]:
        """Log-loss, at the best temperature, and accuracy on images held out.

        The state records the last epoch that is not clearly worse than the best one, and its weights where no training
        on all images follows.
        """
        if not len(held_out):
            return {}
        state = self.state
        temperature, losses, right = self._held_out_losses(held_out)
        loss = float(losses.mean())
        if loss < state.least:
            state.least, state.losses_of_best = loss, losses.tolist()
        if not exceeds_its_error(losses - state.losses_of_best, self.groups[held_out]):
            state.epochs, state.best = state.epoch, () if self._recipe.refit else self._network.weights
            state.temperature = temperature
        if state.epoch == 0:
            state.probe, state.losses_of_probe = state.best, state.losses_of_best
        return {"valid_loss": loss, "valid_accuracy": float(right.mean())}

    def choose(self, groups: np.ndarray) -> None:
        """Return to the probe unless the best epoch is better than it by more than the standard error."""
        state = self.state
        if not exceeds_its_error(np.subtract(state.losses_of_probe, state.losses_of_best), groups):
            state.epochs, state.best, state.temperature = 0, state.probe, 1.0
        state.probe, state.losses_of_best, state.losses_of_probe = (), [], []

    def _batches(self, images: np.ndarray, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The rest of the epoch, read ahead in a thread; the order depends on the seed and the epoch alone."""
        state, views, size = self.state, self._tuner.views, self._recipe.batch_size
        rng = np.random.default_rng([self._recipe.seed, state.stage, state.epoch])
        order = rng.permutation(images)
        rows = order * views + rng.integers(views, size=len(order))
        targets = np.eye(len(self._tuner.classes_), dtype=np.float32)[self.target[order]]

        def read(step: int) -> tuple[np.ndarray, np.ndarray]:
            part = slice(step * size, (step + 1) * size)
            return self._X[rows[part]], targets[part]

        yield from read_ahead(map(read, range(state.step, steps)), AHEAD)

    def _after_step(self, done: int, steps: int) -> None:
        """Show progress, and write a checkpoint where training is to stop or the last one is old."""
        tuner = self._tuner
        if tuner.progress:
            tuner.progress(done, steps)
        if tuner.stopping():
            self._update_weights()
            self.save()
            raise TrainingStopped(STOPPED)
        self._save_if_due()

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._update_weights()
            self.save()

    def _update_weights(self) -> None:
        """Copy the present weights, and the variables of the optimizer, to the state."""
        self.state.weights, self.state.optimizer = self._network.weights, self._network.optimizer

    def save(self) -> None:
        """Write a checkpoint."""
        now = time.monotonic()
        self.state.seconds += now - self._counted
        self._saved = self._counted = now
        self._write()
