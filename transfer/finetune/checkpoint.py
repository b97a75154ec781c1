"""Checkpoints: what training needs to go on where it was, in one file that is whole or not there."""

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
    """How far training is.

    Attributes
    ----------
    stage : int
        0 while the number of epochs is chosen, 1 for the training that counts, 2 when it is done.
    epoch, step : int
        Of the stage and of the epoch; both count what is done.
    epochs : int
        That the stage 1 trains for.
    stages : list of list of dict
        For each stage, what each epoch has come to.
    losses : list of float
        Of every step of the epoch that is under way.
    seconds : float
        That it has taken so far.
    least : float
        Lowest log-loss on the inner rows so far.
    weights, optimizer : list of ndarray
        Weights that are trained and variables of the optimizer, as they are.
    best, probe : list of ndarray
        Weights after as many epochs as `epochs` says, and after none; before stage 2 only where there is no stage 1.
    losses_of_best, losses_of_probe : list of float
        On each of the inner rows, in the epoch with the lowest mean and before the first.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    epochs: int = 0
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
    *("stage", "epoch", "step", "epochs", "stages", "losses", "seconds", "least"),
    *("losses_of_best", "losses_of_probe"),
)


def write(file: Path, key: str, state: State) -> None:
    """Write `state` in place of what is there, once it is whole on the disk.

    Raises
    ------
    StorageFailure
        When the disk does not take it.
    """
    buffer = io.BytesIO()
    arrays = {f"{name}-{n}": one for name in ARRAYS for n, one in enumerate(getattr(state, name))}
    about = {"key": key, **{name: getattr(state, name) for name in NUMBERS}}
    np.savez(buffer, about=json.dumps(about), **arrays)
    new_folder(file.parent)
    with new_file(file, "a checkpoint") as stream:
        stream.write(buffer.getvalue())


def _is_as_written(state: State) -> bool:
    """Whether all numbers are of the kinds that `write` was given."""
    counts = (state.stage, state.epoch, state.step, state.epochs)
    values = [state.seconds, state.least]
    for epoch in (epoch for stage in state.stages for epoch in stage):
        for value in epoch.values():
            values += value if isinstance(value, list) else [value]  # the losses of its steps are a list
    values += [*state.losses, *state.losses_of_best, *state.losses_of_probe]
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and state.stage <= STAGES
        and len(state.stages) == STAGES
        and all(type(value) in (int, float) for value in values)
    )


def read(file: Path, key: str) -> State | None:
    """The state that was written with this key; None where there is none, or none that can be read."""
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
