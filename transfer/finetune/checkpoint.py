"""Checkpoints: the state that training needs to go on where it was, in one file that is complete or does not exist."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.files.atomic import new_file, new_folder
from feature_cache.files.checked import read_arrays


@dataclass
class State:
    """The state of a training.

    Attributes
    ----------
    stage : int
        0 while the number of epochs is chosen, 1 for the training that counts, 2 when training is complete.
    epoch, step : int
        The number of epochs of the stage, and of steps of the epoch, that are complete.
    epochs : int
        The number of epochs of stage 1.
    temperature : float
        What the logits are divided by after as many epochs as `epochs` says.
    hopeless : bool
        Whether stage 0 was ended early, because nothing was to be hoped for.
    stages : list of list of dict
        For each stage, the scores of each epoch (see `FineTuner.stages_`).
    losses : list of float
        The loss of each step of the epoch that has begun.
    seconds : float
        The time that training has taken so far.
    least : float
        The lowest log-loss on the inner rows so far.
    weights, optimizer : list of ndarray
        The present values of the weights that are trained, and of the variables of the optimizer.
    best, probe : list of ndarray
        The weights after as many epochs as `epochs` says, and before the first; before stage 2 they are kept only
        where there is no stage 1.
    losses_of_best, losses_of_probe : list of float
        The log-loss on each of the inner rows, in the epoch with the lowest mean and before the first epoch.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    epochs: int = 0
    temperature: float = 1.0
    hopeless: bool = False
    stages: list[list[dict[str, Any]]] = field(default_factory=lambda: [[], []])
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    least: float = float("inf")
    weights: Sequence[np.ndarray] = ()
    optimizer: Sequence[np.ndarray] = ()
    best: Sequence[np.ndarray] = ()
    probe: Sequence[np.ndarray] = ()
    losses_of_best: list[float] = field(default_factory=list)
    losses_of_probe: list[float] = field(default_factory=list)


STAGES = 2
ARRAYS = ("weights", "optimizer", "best", "probe")
NUMBERS = (
    *("stage", "epoch", "step", "epochs", "temperature", "hopeless", "stages", "losses", "seconds", "least"),
    *("losses_of_best", "losses_of_probe"),
)


def write(file: Path, key: str, state: State) -> None:
    """Write `state` to `file`, which is replaced once the new one is complete on the disk.

    Parameters
    ----------
    key : str
        It says what the state belongs to; `read` compares it.

    Raises
    ------
    StorageFailure
        When the state cannot be written.
    """
    buffer = io.BytesIO()
    arrays = {f"{name}-{n}": one for name in ARRAYS for n, one in enumerate(getattr(state, name))}
    about = {"key": key, **{name: getattr(state, name) for name in NUMBERS}}
    np.savez(buffer, about=json.dumps(about), **arrays)
    new_folder(file.parent)
    with new_file(file, "a checkpoint") as stream:
        stream.write(buffer.getvalue())


def _is_as_written(state: State) -> bool:
    """Whether all numbers are of the types that `write` writes."""
    counts = (state.stage, state.epoch, state.step, state.epochs)
    values = [state.seconds, state.least, state.temperature]
    for epoch in (epoch for stage in state.stages for epoch in stage):
        for value in epoch.values():
            values += value if isinstance(value, list) else [value]  # the losses of its steps are a list
    values += [*state.losses, *state.losses_of_best, *state.losses_of_probe]
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and state.stage <= STAGES
        and type(state.hopeless) is bool
        and state.temperature > 0
        and len(state.stages) == STAGES
        and all(type(value) in (int, float) for value in values)
    )


def read(file: Path, key: str) -> State | None:
    """The state that was written with this key; None where there is no such file, or where it cannot be read."""
    try:
        found = read_arrays(file)
        about = json.loads(str(found["about"]))
        if about.pop("key") != key:
            return None
        state = State(**{name: about[name] for name in NUMBERS})
        if not _is_as_written(state):
            return None
        for name in ARRAYS:
            count = sum(one.startswith(f"{name}-") for one in found)
            setattr(state, name, [found[f"{name}-{n}"] for n in range(count)])
        return state
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
