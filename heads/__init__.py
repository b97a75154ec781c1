"""Heads: small models trained on features, their evaluation and their runs.

A head sees arrays, never images. Importing this package loads neither scikit-learn nor Keras.
"""

from feature_cache.process.former_modules import register
from heads.registry import HEADS, make_head

# RAMP submissions that version 0.1 wrote import these.
register(
    {
        f"{__name__}.fusing": f"{__name__}.export",
        f"{__name__}.grouping": "layertap.ramp.former_names",
        f"{__name__}.views": "layertap.ramp.former_names",
    }
)

__all__ = ["HEADS", "make_head"]
