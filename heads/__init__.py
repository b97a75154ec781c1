"""Heads: small models that are trained on features, and their evaluation.

A head sees arrays, never images. Importing this package loads neither scikit-learn nor Keras.

Examples
--------
>>> make_head("logistic", {"C": 0.5})
LogisticHead(C=0.5)
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
