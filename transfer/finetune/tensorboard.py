"""Logs of training for TensorBoard, whose package is an extra."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from feature_cache.errors import MissingDependency

STAGES = ("choosing epochs", "training")


class Logs:
    """Writes what each epoch comes to, as it ends.

    Raises
    ------
    MissingDependency
        When TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ModuleNotFoundError as error:
            raise MissingDependency("--tensorboard needs the package: pip install 'layertap[tensorboard]'") from error
        self._folder = folder
        self._make = EventFileWriter
        self._writers: dict[int, Any] = {}
        self._run = 0

    def begin(self) -> None:
        """The next training begins."""
        self.close()
        self._run += 1

    def __call__(self, stage: int, about: dict[str, Any]) -> None:
        """Note an element of `FineTuner.stages_`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if stage not in self._writers:
            self._writers[stage] = self._make(str(self._folder / f"{self._run} {STAGES[stage]}"))
        numbers = {name: value for name, value in about.items() if name not in ("epoch", "steps")}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        event = Event(wall_time=time.time(), step=about["epoch"], summary=Summary(value=values))
        self._writers[stage].add_event(event)
        self._writers[stage].flush()

    def close(self) -> None:
        """Let go of the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
