"""`FineTuner`: a classifier that trains the end of a net, step by step, and goes on where it was interrupted."""

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
from scipy.special import log_softmax, softmax

from feature_cache.errors import BadData, LayertapError
from feature_cache.process.read_ahead import read_ahead
from feature_cache.version import own_version
from transfer.engines.selection import keras_backend
from transfer.finetune import checkpoint
from transfer.finetune.checkpoint import State
from transfer.finetune.recipe import Recipe

if TYPE_CHECKING:
    from transfer.finetune.network import Network

STOPPED = "stopped as asked; the same command goes on from here."
SAVE_SECONDS = 30.0  # a kill loses at most so much
AHEAD = 2  # batches that are read while the net trains

# From rows (digests, views), their labels and groups to the kernel (d, classes) and bias (classes,) of a classifier.
Probe = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# From the numbers of the classes, a share and a seed, and groups, to the rows that train and those held out.
InnerSplit = Callable[[np.ndarray, float, int, np.ndarray], tuple[np.ndarray, np.ndarray] | None]


class Stopped(LayertapError):
    """Training was asked to stop, and has kept how far it was."""

    exit_code = 143  # as of a process that SIGTERM ends


class FineTuner:
    """Linear probing, then fine-tuning (Kumar et al. 2022, "Fine-tuning can distort pretrained features").

    By the rules for heads: `fit` on rows of what is kept at the cut, or on pixels, and `predict_proba`. Training rows
    are split once more, by image: those held out choose the number of epochs. It is the last one whose log-loss is not
    above the lowest by more than the standard error of the difference, and 0, which is the probe itself, unless the
    lowest is below the probe's by more than that (after Breiman et al. 1984, "Classification and regression trees"):
    on few images, or after a head that hardly errs, less is chance. Then, by the recipe, the net is trained again on
    all rows for so many, at rates that fall to 0 by then.

    Parameters
    ----------
    network : Network
        It is trained in place; each fit starts from the net as it came.
    probe : callable
        See `Probe`.
    recipe : Recipe
    split : callable
        See `InnerSplit`; None from it where there are too few images.
    views : int
        Rows of each image, one after another; each epoch draws one for each image, and the first is judged.
    folder : Path, optional
        Where checkpoints are kept.
    key : str
        What else the result depends on: the net, and the features of the probe.
    progress : callable, optional
        Called with the number of steps done and of all, early stopping left aside.
    told : callable, optional
        Called after each epoch with the number of the stage and an element of `stages_`.
    stopping : callable, optional
        Tells after each step whether to stop.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    stages_ : list of list of dict
        For the choice of the number of epochs and for the training that counts: for each epoch ``epoch``, ``loss``,
        the mean over its steps, ``steps``, the loss of each, ``rate`` and, where rows are held out, ``valid_loss`` and
        ``valid_accuracy``.
    epochs_ : int
        That the network was trained for.
    seconds_ : float
        That this took, in all processes that had a part in it.
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
        told: Callable[[int, dict[str, Any]], None] = lambda stage, about: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.network = network
        self.probe = probe
        self.recipe = recipe
        self.split = split
        self.views = views
        self.folder = folder
        self.key = key
        self.progress = progress
        self.told = told
        self.stopping = stopping

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Train on rows of shape (n * views, ...) and labels of shape (n * views,).

        Parameters
        ----------
        groups : ndarray of shape (n * views,), optional
            Equal for rows that stay together.

        Raises
        ------
        BadData
            When there is a single class, or the loss is no number any more.
        Stopped
            When it was asked to stop.
        StorageFailure
            When the disk does not take a checkpoint.
        """
        labels = y[:: self.views]
        self.classes_, target = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise BadData("fine-tuning tells at least 2 classes apart; the labels hold one class.")
        if len(self.classes_) != self.network.classes:
            raise BadData(
                f"the images to train on are of {len(self.classes_)} of the {self.network.classes} classes; each needs "
                "some that can be read, in the training part of every split."
            )
        together = np.arange(len(labels)) if groups is None else groups[:: self.views]
        key = self._key(X, labels, together)
        file = self.folder / f"{key}.npz" if self.folder else None
        state = (checkpoint.read(file, key) if file else None) or State()
        run = _Run(self, X, target, together, state, lambda: checkpoint.write(file, key, state) if file else None)

        images = np.arange(len(labels))
        inner = self.split(target, self.recipe.inner, self.recipe.seed, together)
        if state.stage == 0:
            if inner is None:
                state.epochs = self.recipe.epochs
            else:
                run.train(*inner, self.recipe.epochs)
                run.choose(together[inner[1]])
            state.stage, state.epoch, state.step, state.weights, state.optimizer = 1, 0, 0, (), ()
        if state.stage == 1:
            if inner is None or self.recipe.refit:
                run.train(images, images[:0], state.epochs)
                state.best = self.network.weights
            state.stage, state.weights, state.optimizer = 2, (), ()
            run.keep()
        self.network.weights = state.best
        self.stages_, self.epochs_, self.seconds_ = state.stages, state.epochs, state.seconds
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        return softmax(self._logits(X, np.arange(len(X))).astype(np.float64), axis=1)

    def _logits(self, X: Any, rows: np.ndarray) -> np.ndarray:
        size = self.recipe.batch_size
        said = [self.network.logits(X[rows[start : start + size]]) for start in range(0, len(rows), size)]
        return np.concatenate(said) if said else np.zeros((0, len(self.classes_)), np.float32)

    def _key(self, X: Any, labels: np.ndarray, together: np.ndarray) -> str:
        state = hashlib.sha256()
        digests, views = X.keys()
        cut = self.network.cut
        what: list[Any] = [own_version(), keras_backend(), version("keras"), self.key, self.recipe.as_dict()]
        what += [cut.layers, cut.trained, self.views, labels.astype(str).tolist()]
        state.update(json.dumps(what, sort_keys=True).encode())
        for array in (digests, views, together):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()[:32]


def exceeds_its_error(values: np.ndarray, groups: np.ndarray) -> bool:
    """Whether a mean is above its standard error, for values of which those of a group come together."""
    _, number = np.unique(groups, axis=0, return_inverse=True)
    apart = np.bincount(number.reshape(-1), values - values.mean())
    if len(apart) < 2:
        return False
    error = np.sqrt(np.square(apart).sum() * len(apart) / (len(apart) - 1)) / len(values)
    return bool(values.mean() > error)


class _Run:
    """One training, from wherever its state is."""

    def __init__(
        self,
        tuner: FineTuner,
        X: Any,
        target: np.ndarray,
        together: np.ndarray,
        state: State,
        save: Callable[[], None],
    ) -> None:
        self._save = save
        self._tuner = tuner
        self._network = tuner.network
        self._recipe = tuner.recipe
        self._X = X
        self._target = target
        self._together = together
        self._state = state
        self._saved = self._counted = time.monotonic()

    def train(self, images: np.ndarray, held_out: np.ndarray, epochs: int) -> None:
        """Train on some images for so many epochs or, where others are held out, until their loss goes up."""
        state, recipe = self._state, self._recipe
        steps = -(-len(images) // recipe.batch_size)
        if len(state.weights):
            self._network.weights, self._network.optimizer = state.weights, state.optimizer
        else:
            self._begin(images, held_out)
        history = state.stages[state.stage]
        while state.epoch < epochs and not (len(held_out) and state.epoch - state.epochs >= recipe.patience):
            for inputs, targets in self._batches(images, steps):
                rate = recipe.rate(state.epoch * steps + state.step, epochs * steps)
                loss = self._network.step(inputs, targets, rate)
                if not math.isfinite(loss):
                    raise BadData(
                        f"the loss is no number any more, in epoch {state.epoch + 1}, step {state.step + 1}; lower the "
                        f"learning rate, which is {recipe.learning_rate:g}, or --clip."
                    )
                state.losses.append(round(loss, 7))
                state.step += 1
                self._after_step(state.epoch * steps + state.step, epochs * steps)
            rate = recipe.rate((state.epoch + 1) * steps - 1, epochs * steps)
            state.epoch += 1
            about = {"epoch": state.epoch, "loss": float(np.mean(state.losses)), "steps": state.losses, "rate": rate}
            history.append({**about, **self._judge(held_out)})
            self._tuner.told(state.stage, history[-1])
            state.losses, state.step = [], 0
            self._keep_if_due()

    def _begin(self, images: np.ndarray, held_out: np.ndarray) -> None:
        """Start from the probe."""
        tuner, state = self._tuner, self._state
        rows = (images[:, None] * tuner.views + np.arange(tuner.views)).reshape(-1)
        labels, together = tuner.classes_[self._target[images]], self._together[images]
        repeated = (np.repeat(values, tuner.views) for values in (labels, together))
        self._network.reset(*tuner.probe(*self._X.keys(rows), *repeated))
        state.stages[state.stage] = []
        if len(held_out):
            state.stages[state.stage].append({"epoch": 0, **self._judge(held_out)})

    def _judge(self, held_out: np.ndarray) -> dict[str, float]:
        """Log-loss and accuracy on images held out; the last epoch that is hardly worse than the best is noted.

        Its weights are kept where no training on all images follows.
        """
        if not len(held_out):
            return {}
        state, truth = self._state, self._target[held_out]
        said = log_softmax(self._tuner._logits(self._X, held_out * self._tuner.views).astype(np.float64), axis=1)
        losses = -said[np.arange(len(truth)), truth]
        loss = float(losses.mean())
        if loss < state.least:
            state.least, state.losses_of_best = loss, losses.tolist()
        if not exceeds_its_error(losses - state.losses_of_best, self._together[held_out]):
            state.epochs, state.best = state.epoch, () if self._recipe.refit else self._network.weights
        if state.epoch == 0:
            state.probe, state.losses_of_probe = state.best, state.losses_of_best
        return {"valid_loss": loss, "valid_accuracy": float((said.argmax(1) == truth).mean())}

    def choose(self, groups: np.ndarray) -> None:
        """Stay with the probe unless the best epoch is better than it by more than chance."""
        state = self._state
        if not exceeds_its_error(np.subtract(state.losses_of_probe, state.losses_of_best), groups):
            state.epochs, state.best = 0, state.probe
        state.probe, state.losses_of_best, state.losses_of_probe = (), [], []

    def _batches(self, images: np.ndarray, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What is left of the epoch, read ahead in a thread; the order depends on the seed and the epoch alone."""
        state, views, size = self._state, self._tuner.views, self._recipe.batch_size
        rng = np.random.default_rng([self._recipe.seed, state.stage, state.epoch])
        order = rng.permutation(images)
        rows = order * views + rng.integers(views, size=len(order))
        targets = np.eye(len(self._tuner.classes_), dtype=np.float32)[self._target[order]]

        def read(step: int) -> tuple[np.ndarray, np.ndarray]:
            part = slice(step * size, (step + 1) * size)
            return self._X[rows[part]], targets[part]

        yield from read_ahead(map(read, range(state.step, steps)), AHEAD)

    def _after_step(self, done: int, steps: int) -> None:
        tuner = self._tuner
        if tuner.progress:
            tuner.progress(done, steps)
        if tuner.stopping():
            self._note_weights()
            self.keep()
            raise Stopped(STOPPED)
        self._keep_if_due()

    def _keep_if_due(self) -> None:
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._note_weights()
            self.keep()

    def _note_weights(self) -> None:
        self._state.weights, self._state.optimizer = self._network.weights, self._network.optimizer

    def keep(self) -> None:
        """Write how far it is."""
        now = time.monotonic()
        self._state.seconds += now - self._counted
        self._saved = self._counted = now
        self._save()
