"""Heads: small models that are trained on features, and their evaluation.

A head sees arrays, never images. Importing this package loads neither scikit-learn nor Keras.

Examples
--------
>>> make_head("logistic", {"C": 0.5})
LogisticHead(C=0.5)
"""

from heads.registry import HEADS, make_head

__all__ = ["HEADS", "make_head"]
