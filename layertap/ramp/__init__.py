"""RAMP challenges (see docs/topics/ramp.md): kits are run, submissions written and judged.

A kit or a submission imports what it uses of Layertap from this package alone. Each name is imported when it is first
used, so that a `problem.py` loads neither a net nor a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_cache.lazy_names import lazy_names

if TYPE_CHECKING:
    from heads.registry import make_head
    from layertap.ramp.batch_tuner import BatchTuner
    from layertap.ramp.features import BatchFeatures
    from layertap.ramp.fitting import StartingClassifier, fit_head, hold_out
    from layertap.ramp.images import fitted
    from layertap.ramp.trials.workflow import ImageClassifier
    from transfer.finetune.recipe import Recipe

__all__ = [
    "BatchFeatures",
    "BatchTuner",
    "ImageClassifier",
    "Recipe",
    "StartingClassifier",
    "fit_head",
    "fitted",
    "hold_out",
    "make_head",
]

# The module that each public name comes from.
_HOMES = {
    "BatchFeatures": "layertap.ramp.features",
    "BatchTuner": "layertap.ramp.batch_tuner",
    "ImageClassifier": "layertap.ramp.trials.workflow",
    "Recipe": "transfer.finetune.recipe",
    "StartingClassifier": "layertap.ramp.fitting",
    "fit_head": "layertap.ramp.fitting",
    "fitted": "layertap.ramp.images",
    "hold_out": "layertap.ramp.fitting",
    "make_head": "heads.registry",
}

__getattr__ = lazy_names(__name__, _HOMES)
