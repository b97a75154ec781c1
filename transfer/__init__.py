"""Data sets and images, nets, and the extraction of their features.

Importing this package loads neither scikit-learn nor Keras: its transformer is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer.extraction.extractor import FeatureExtractor

__all__ = ["FeatureExtractor"]


def __getattr__(name: str) -> Any:
    if name != "FeatureExtractor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from transfer.extraction.extractor import FeatureExtractor

    return FeatureExtractor
