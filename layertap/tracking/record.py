"""`Record`: the configuration, the scores and the pictures of a run, as tools for tracking take them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_cache.files.checked import read_json
from layertap.report.run_report import REPORT_FILE
from layertap.run_config import CONFIG_FILE
from layertap.runs import METRICS_FILE, Run

Parameter = str | float | bool
LONGEST = 500  # characters of a value: what every tool takes
LEFT_OUT = ("format", "files", "digest", "skipped", "features")  # of the configuration: they identify files and rows
FILES = (REPORT_FILE, CONFIG_FILE, METRICS_FILE, "plan.yaml")


@dataclass(frozen=True)
class Record:
    """What is known of a run.

    Attributes
    ----------
    name : str
        The name of its folder.
    folder : Path
    parameters : dict of str to str, float or bool
        The configuration: ``head.name``, ``spec.layer`` and so on.
    scores : dict of str to float
        The mean of each score over the splits, ``valid/accuracy``, and its standard deviation,
        ``valid/accuracy_std``, where there are several.
    epochs : list of (str, int, float)
        Of a fine-tuned run: the name of a number, the epoch, and the value.
    pictures, files : list of Path
    """

    name: str
    folder: Path
    parameters: dict[str, Parameter]
    scores: dict[str, float]
    epochs: list[tuple[str, int, float]]
    pictures: list[Path]
    files: list[Path]


def record_of(run: Run, folder: Path) -> Record:
    """The record of a run that is in this folder.

    Raises
    ------
    DamagedFile
        When its metrics cannot be read.
    """
    config = read_json(folder / CONFIG_FILE)
    return Record(
        folder.resolve().name,
        folder,
        dict(_flat({name: value for name, value in config.items() if name not in LEFT_OUT})),
        dict(_scores(run.metrics)),
        list(_epochs(run.metrics)),
        sorted(folder.glob("*.png")),
        [folder / name for name in FILES if (folder / name).is_file()],
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Parameter]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield prefix + name, value
        elif value is not None:
            yield prefix + name, (value if isinstance(value, str) else json.dumps(value))[:LONGEST]


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for part, scores in metrics.get("summary", {}).items():
        for name, value in scores.items():
            yield from _numbers(f"{part}/{name}", value.get("mean"))
            if value.get("std"):
                yield from _numbers(f"{part}/{name}_std", value["std"])
    for name, value in metrics.get("test", {}).items():
        yield from _numbers(f"test/{name}", value)
    yield from _numbers("extraction_seconds", metrics.get("extraction_seconds"))


def _epochs(metrics: Mapping[str, Any]) -> Iterator[tuple[str, int, float]]:
    for number, training in enumerate(metrics.get("trainings", []), 1):
        epochs = itertools.chain.from_iterable(training.get("stages", []))
        for step, epoch in enumerate(epochs):
            for name, value in epoch.items():
                if name not in ("epoch", "steps"):
                    yield from ((key, step, found) for key, found in _numbers(f"training {number}/{name}", value))


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, int | float) and math.isfinite(value):
        yield name, float(value)
