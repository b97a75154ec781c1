"""Computed features on disk: what identifies them, and how they are written, found and read.

The lowest room of Layertap: it imports NumPy, h5py, and what compresses and checks their bytes, and nothing
above itself.
"""

from feature_cache.cache import FeatureCache
from feature_cache.errors import LayertapError
from feature_cache.features import Features
from feature_cache.space import Space
from feature_cache.spec import FeatureSpec

__all__ = ["FeatureCache", "FeatureSpec", "Features", "LayertapError", "Space"]
