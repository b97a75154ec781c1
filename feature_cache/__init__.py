"""Computed features on disk: what identifies them, and how they are written, found and read.

The lowest room of Layertap: it imports NumPy, h5py, and what compresses and checks their bytes, and nothing
above itself. Its public names are imported when they are first used, so that what needs the errors alone, such as
``layertap --help``, waits for none of these libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_cache.lazy_names import lazy_names

if TYPE_CHECKING:
    from feature_cache.cache import FeatureCache
    from feature_cache.errors import LayertapError
    from feature_cache.features import Features
    from feature_cache.space import Space
    from feature_cache.spec import FeatureSpec

__all__ = ["FeatureCache", "FeatureSpec", "Features", "LayertapError", "Space"]

# The module that each public name comes from.
_HOMES = {
    "FeatureCache": "feature_cache.cache",
    "FeatureSpec": "feature_cache.spec",
    "Features": "feature_cache.features",
    "LayertapError": "feature_cache.errors",
    "Space": "feature_cache.space",
}

__getattr__ = lazy_names(__name__, _HOMES)
