"""Training a net on each split, and judging it on the images that were held out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.evaluation.cross_validation import Evaluation, evaluate
from heads.evaluation.metrics import score
from heads.evaluation.views import Views
from layertap.progress import ProgressBar, no_progress
from layertap.workflows.fine_tuning.plan import Plan
from layertap.workflows.fine_tuning.rows import TrainingRows
from transfer.finetune.tuner import STOPPED, FineTuner, TrainingStopped


@dataclass(frozen=True)
class Trainings:
    """The trainings on all splits.

    Attributes
    ----------
    evaluation : Evaluation
        The scores on the images that were held out.
    trainings : list of dict
        For each training its ``epochs``, ``seconds``, ``temperature``, ``hopeless`` and ``stages`` (see `FineTuner`):
        one for each split, and one on all images unless the recipe says otherwise. The last one gave the net that is
        kept.
    test : dict or None
        The scores on the images of the test, if there are any.
    """

    evaluation: Evaluation
    trainings: list[dict[str, Any]]
    test: dict[str, Any] | None

    @property
    def stages(self) -> list[list[dict[str, Any]]]:
        """The epochs in which their number was chosen for the net that is kept, and those that it was trained for."""
        choices = [training["stages"][0] for training in self.trainings if training["stages"][0]]
        return [choices[-1] if choices else [], self.trainings[-1]["stages"][1]]


class _Recorder:
    """A head whose `fit` trains the network and records how that went.

    Parameters
    ----------
    tuner : FineTuner
    begin : callable
        It is called before each training.

    Attributes
    ----------
    given : dict
        The number of epochs of the next training, and its temperature; empty where they are to be chosen.
    trainings : list of dict
        See `Trainings`.
    """

    reads_batches = reads_keys = True

    def __init__(self, tuner: FineTuner, begin: Callable[[], None]) -> None:
        self.tuner = tuner
        self.begin = begin
        self.given: dict[str, Any] = {}
        self.trainings: list[dict[str, Any]] = []

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> FineTuner:
        """Train the network (see `FineTuner.fit`)."""
        self.begin()
        tuner = self.tuner.fit(X, y, groups, **self.given)
        how = {"temperature": tuner.temperature_, "hopeless": tuner.hopeless_, "stages": tuner.stages_}
        self.trainings.append({"epochs": tuner.epochs_, "seconds": tuner.seconds_, **how})
        return tuner


def train(
    plan: Plan,
    data: TrainingRows,
    progress: ProgressBar = no_progress,
    stopping: Callable[[], bool] = lambda: False,
) -> Trainings:
    """Train the network on each split, and leave it as it is kept.

    The network that is kept is trained on all images but the test's: for as many epochs as were chosen on the split,
    or, where there are several splits, as are chosen anew. With one split and a recipe without `refit` the network of
    that split is kept.

    Parameters
    ----------
    plan, data
        See `make_plan` and `collect_rows`.
    progress : callable, optional
        Given what is counted, a context manager that gives a callable of (done, total).
    stopping : callable, optional
        It is called after each step, and says whether training is to stop.

    Raises
    ------
    TrainingStopped
        When training was to stop; the same call goes on from there.
    BadData
        When the loss becomes NaN or infinite.
    StorageFailure
        When the disk does not take a checkpoint.
    """
    tuner, logs = plan.tuner, plan.logs
    recorder = _Recorder(tuner, logs.begin if logs else lambda: None)
    with progress("steps") as show:
        tuner.stopping, tuner.progress, tuner.on_epoch = stopping, show, logs or tuner.on_epoch
        trainings = _train_on_splits(recorder, data, Views(plan.start.request.views))
        if stopping():
            raise TrainingStopped(STOPPED)
    if logs:
        logs.close()
    return trainings


def _train_on_splits(recorder: _Recorder, data: TrainingRows, views: Views) -> Trainings:
    """Train and judge the network on each split, then train it on all images."""
    head: Any = lambda: recorder  # noqa: E731  # `evaluate` makes a head for each split
    tuner: Any = recorder.tuner
    evaluation = evaluate({"fine-tuned": data.rows}, data.labels, data.groups, data.splits, head, views=views)
    trainings = recorder.trainings
    for fold, training in zip(evaluation.folds, trainings, strict=True):  # it may have begun in another process
        fold["train"]["fit_seconds"] = fold["valid"]["fit_seconds"] = training["seconds"]
    if len(data.splits) == 1:
        recorder.given = {"epochs": tuner.epochs_, "temperature": tuner.temperature_}
    if data.kept is not data.splits[0][0]:
        views.fit(head(), data.rows, data.labels, data.kept, data.groups)
    if not len(data.test):
        return Trainings(evaluation, trainings, None)
    start = time.perf_counter()
    probabilities = views.outputs(tuner, data.rows, data.test)
    seconds = {"fit_seconds": trainings[-1]["seconds"], "predict_seconds": time.perf_counter() - start}
    test = score(tuner.classes_, data.labels[data.test], probabilities)
    return Trainings(evaluation, trainings, {**test, **seconds})
