"""Runs in TensorBoard: logs in the folder ``tensorboard`` of the run, beside those of the epochs of a fine-tuning."""

from __future__ import annotations

import shutil
import time
from itertools import starmap
from pathlib import Path
from typing import Any

from PIL import Image

from layertap.tracking.record import Parameter, Record

STRING = 7  # `DataType.DT_STRING`


def load() -> Any:
    """The class that writes logs."""
    from tensorboard.summary.writer.event_file_writer import EventFileWriter  # an optional package

    return EventFileWriter


def log(record: Record) -> str:
    """Log a run, and say where."""
    new_writer = load()
    from tensorboard.compat.proto.event_pb2 import Event  # an optional package
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # an optional package
    from tensorboard.compat.proto.tensor_pb2 import TensorProto  # an optional package

    def number(name: str, value: float) -> Any:
        return Summary.Value(tag=name, simple_value=value)

    def picture(file: Path) -> Any:
        with Image.open(file) as image:
            width, height = image.size
        shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes())
        return Summary.Value(tag=f"pictures/{file.stem}", image=shown)

    table = Summary.Value(
        tag="configuration",
        tensor=TensorProto(dtype=STRING, string_val=[_table(record.parameters).encode("utf-8", "replace")]),
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
    )
    first = [*starmap(number, record.scores.items()), table, *map(picture, record.pictures)]
    epochs = [(step, [number(name, value)]) for name, step, value in record.epochs]
    folder = record.folder / "tensorboard"
    shutil.rmtree(folder / "scores", ignore_errors=True)  # else a run that is logged again has its scores twice
    writer = new_writer(str(folder / "scores"))
    for step, values in ((0, first), *epochs):
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
    writer.close()
    return f"{folder} (tensorboard --logdir {record.folder})"


def _table(parameters: dict[str, Parameter]) -> str:
    """The parameters as a table of Markdown, which TensorBoard shows."""
    rows = [f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in parameters.items()]
    return "\n".join(["| parameter | value |", "|---|---|", *rows])
