"""Layertap: features of pretrained vision nets, computed once and kept, and heads trained on them in seconds.

Importing this package loads neither Keras, a backend nor scikit-learn: each public name is imported when it is first
used, and a backend when a net is built.

Examples
--------
>>> import layertap as lt
>>> data = lt.load_dataset("digits")
>>> len(data)
1797
"""

from __future__ import annotations

from feature_cache.lazy_names import lazy_names

# The module that each public name comes from.
_HOMES = {
    "__version__": "feature_cache.version",
    "Dataset": "transfer.data.datasets",
    "FeatureCache": "feature_cache.cache",
    "FeatureExtractor": "transfer.extraction.extractor",
    "FeatureSet": "transfer.extraction.feature_set",
    "LayertapError": "feature_cache.errors",
    "Net": "transfer.nets.catalogue",
    "Run": "layertap.runs",
    "compare": "layertap.workflows.compare",
    "drift": "layertap.workflows.drift",
    "evaluate": "layertap.workflows.evaluate",
    "explore": "layertap.workflows.explore",
    "export": "layertap.workflows.export",
    "extract": "layertap.workflows.extract",
    "feature_map": "layertap.workflows.feature_map",
    "fine_tune": "layertap.workflows.fine_tune",
    "load_dataset": "layertap.workflows.load_dataset",
    "load_run": "layertap.runs",
    "predict": "layertap.workflows.predict",
    "review": "layertap.workflows.review",
    "search": "layertap.workflows.search",
    "sweep": "layertap.workflows.sweep",
    "track": "layertap.tracking.track",
    "train_head": "layertap.workflows.train_head",
}

__all__ = sorted(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
