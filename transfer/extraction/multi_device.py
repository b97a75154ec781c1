"""Several devices of one machine: a worker process for each, a GPU or a group of cores, which shares the work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from feature_cache.process.worker_processes import results
from transfer.data.datasets import Dataset
from transfer.extraction.extract import Progress, extract
from transfer.extraction.report import Report, side_by_side
from transfer.hardware import cores, gpus
from transfer.request import FeatureRequest


@dataclass(frozen=True)
class Device:
    """What one worker computes on: a GPU, by its name in ``CUDA_VISIBLE_DEVICES``, or some cores."""

    name: str
    gpu: str | None = None
    cores: tuple[int, ...] = ()

    def take(self) -> None:
        """Let this process compute on nothing else. It is called before a framework is imported."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        elif hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)


def devices(count: int) -> list[Device]:
    """The devices that share the work: GPUs if the machine has some, else groups of cores.

    Parameters
    ----------
    count : int
        The number of devices.

    Raises
    ------
    InvalidChoice
        If the machine has fewer devices.
    """
    names, kind = gpus(), "GPUs"
    if not names:
        names, kind = [str(core) for core in cores()], "cores"
    if count > len(names):
        raise InvalidChoice(f"`devices={count}` is more than there are: {len(names)} {kind}.")
    if kind == "GPUs":
        return [Device(f"GPU {name}", gpu=name) for name in names[:count]]
    groups = [tuple(int(core) for core in group) for group in np.array_split(cores(), count)]
    return [Device(f"cores {', '.join(map(str, group))}", cores=group) for group in groups]


def extract_on(
    chosen: list[Device],
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """As `transfer.extraction.extract.extract`, with a worker process for each device.

    A script has to call this under ``if __name__ == "__main__":``, since Python starts new processes by importing the
    script.

    Parameters
    ----------
    options
        The options of `extract`.

    Raises
    ------
    LayertapError
        The error of a worker. The others are stopped; what they have computed is kept.
    StorageFailure
        If a worker was killed.
    """
    work = (dataset.identify(cache), request, cache.root, options)
    arguments = {
        f"the worker on {device.name}": (device, (number, len(chosen)), *work) for number, device in enumerate(chosen)
    }
    return side_by_side(results(_work, arguments, progress), request.views)


def _work(
    progress: Progress,
    device: Device,
    share: tuple[int, int],
    dataset: Dataset,
    request: FeatureRequest,
    root: Path,
    options: dict[str, Any],
) -> Report:
    """The report of a process on its share."""
    device.take()
    return extract(dataset, request, FeatureCache(root), share=share, progress=progress, **options)
