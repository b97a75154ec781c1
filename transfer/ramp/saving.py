"""Models of trained submissions, saved without pickling."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def save_model(trained: Any, folder: Path) -> list[str]:
    """Save what a trained submission is made of: nets as ``.keras``, estimators of scikit-learn by skops.

    A classifier with a method ``save(folder)`` saves itself.

    Parameters
    ----------
    trained
        What a workflow's `train_submission` gives.
    folder : Path
        It is made if there is anything to save.

    Returns
    -------
    list of str
        Names of the files.
    """
    parts = trained if isinstance(trained, (tuple, list)) else (trained,)
    for part in parts:
        if hasattr(part, "save") and callable(part.save) and not _is_net(part):
            folder.mkdir()
            part.save(folder)
            return sorted(file.name for file in folder.iterdir())
    named = {name: value for part in parts for name, value in [("model", part), *getattr(part, "__dict__", {}).items()]}
    saved = []
    for name, value in named.items():
        if _is_net(value):
            folder.mkdir(exist_ok=True)
            value.save(folder / f"{name}.keras")
            saved.append(f"{name}.keras")
        elif _is_estimator(value):
            from skops import io

            folder.mkdir(exist_ok=True)
            io.dump(value, folder / f"{name}.skops")
            saved.append(f"{name}.skops")
    return saved


def _is_net(value: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, keras.Model)


def _is_estimator(value: Any) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(value, base.BaseEstimator) and not isinstance(value, type)
