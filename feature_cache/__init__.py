"""Computed features on disk: what identifies them, and how they are written, found and read.

The lowest room of Layertap: it imports NumPy and h5py and nothing above itself.
"""

from feature_cache.errors import LayertapError
from feature_cache.reader import Features
from feature_cache.space import Cache, Space
from feature_cache.spec import FeatureSpec

__all__ = ["Cache", "FeatureSpec", "Features", "LayertapError", "Space"]
