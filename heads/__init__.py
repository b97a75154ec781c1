"""Heads: small models trained on features, their evaluation and their runs.

A head sees arrays, never images. Importing this package loads neither scikit-learn nor Keras.
"""

from heads.registry import HEADS, make_head

__all__ = ["HEADS", "make_head"]
