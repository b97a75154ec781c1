"""Data sets and images, nets, and the extraction of their features.

Importing this package loads neither scikit-learn nor Keras: its transformer is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feature_cache.process.former_modules import register
from feature_cache.process.telemetry import keep_off

if TYPE_CHECKING:
    from transfer.extraction.extractor import FeatureExtractor

keep_off()  # before any module of this package imports OpenVINO

# RAMP kits and submissions that version 0.1 wrote import these.
register(
    {
        f"{__name__}.ramp": "layertap.ramp",
        f"{__name__}.ramp.features": "layertap.ramp.features",
        f"{__name__}.ramp.pixels": "layertap.ramp.images",
        f"{__name__}.ramp.tuning": "layertap.ramp.batch_tuner",
    }
)

__all__ = ["FeatureExtractor"]


def __getattr__(name: str) -> Any:
    if name != "FeatureExtractor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from transfer.extraction.extractor import FeatureExtractor  # it loads Keras

    return FeatureExtractor
