"""What a share of few images says of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heads.evaluation.metrics import wilson_interval

FEW = 100  # images; the interval of an accuracy of 0.9 on these is 0.12 wide


def few_images_note(accuracy: float | None, images: int) -> str:
    """A sentence on an accuracy that was measured on few images; empty where there are `FEW` or more, or none.

    Examples
    --------
    >>> few_images_note(1.0, 10)
    'The accuracy was measured on 10 images only: on others it may be from 0.7225 to 1.0000 (95 % interval).'
    >>> few_images_note(1.0, 1000)
    ''
    """
    if accuracy is None or not 0 < images < FEW:
        return ""
    low, high = (float(end[0]) for end in wilson_interval(np.array([accuracy]), np.array([images])))
    on = f"{images} image{'s' * (images != 1)}"
    return f"The accuracy was measured on {on} only: on others it may be from {low:.4f} to {high:.4f} (95 % interval)."


def note_on(metrics: Mapping[str, Any], images: int) -> str:
    """The sentence on the scores of a run, those of its test if it has one.

    Parameters
    ----------
    metrics : mapping
        As `metrics.json` holds them, of classes; others have no such sentence.
    images : int
        Of the run: where they are held out in turn more than once, none counts twice.
    """
    if test := metrics.get("test"):
        return few_images_note(test.get("accuracy"), int(test.get("n") or 0))
    folds = [fold["valid"] for fold in metrics.get("folds", ())]
    held_out = sum(int(scores.get("n") or 0) for scores in folds)
    accuracy = metrics.get("summary", {}).get("valid", {}).get("accuracy")
    return few_images_note(accuracy["mean"], min(held_out, images)) if isinstance(accuracy, Mapping) else ""
