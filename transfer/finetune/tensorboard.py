"""Logs of training for TensorBoard, whose package is optional: it is imported where logs are written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from feature_cache.errors import MissingDependency

STAGES = ("choosing epochs", "training")


class TensorBoardLogs:
    """Writes the loss and the scores of each epoch when it ends.

    Parameters
    ----------
    folder : Path
        The folder of the logs; each training has folders of its own in it.

    Raises
    ------
    MissingDependency
        When TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter  # optional, and slow to load
        except ModuleNotFoundError as error:
            raise MissingDependency(
                "`tensorboard` needs the package of that name: pip install 'layertap[tensorboard]'"
            ) from error
        self._folder = folder
        self._new_writer = EventFileWriter
        self._writers: dict[int, Any] = {}
        self._training = 0

    def begin(self) -> None:
        """Begin the logs of the next training."""
        self.close()
        self._training += 1

    def __call__(self, stage: int, epoch: dict[str, Any]) -> None:
        """Write an epoch of a stage, as `FineTuner.stages_` holds it."""
        from tensorboard.compat.proto.event_pb2 import Event  # optional, and slow to load
        from tensorboard.compat.proto.summary_pb2 import Summary

        if stage not in self._writers:
            self._writers[stage] = self._new_writer(str(self._folder / f"{self._training} {STAGES[stage]}"))
        numbers = {name: value for name, value in epoch.items() if name not in ("epoch", "steps")}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        event = Event(wall_time=time.time(), step=epoch["epoch"], summary=Summary(value=values))
        self._writers[stage].add_event(event)
        self._writers[stage].flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
